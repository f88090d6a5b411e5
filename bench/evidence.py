"""What signing and the ledger cost: gateways with neither, with each, and with both, in turn in one run."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from bench.measuring import Load, process
from bench.processes import unused_port
from bench.table import compared

__all__ = ["evidence_measured"]

_REGION = "scaleway-par-1"
_LOADS = (
    Load("JSON, 2 callers", 1_000, concurrency=2),
    Load("JSON, 16", 1_000, concurrency=16),
    Load("SSE, 2 callers", 1_000, stream=True, concurrency=2),
)
_SIGNING = '[signing]\nkey = { file = "key.pem" }\n'
_GATEWAYS = {
    "neither": "",
    "neither, too": "",
    "signed": _SIGNING,
    "ledger": '[ledger]\npath = "ledger.sqlite3"\n',
    "both": _SIGNING + '[ledger]\npath = "both.sqlite3"\n',
    "both, full": _SIGNING + '[ledger]\npath = "full.sqlite3"\ndurability = "full"\n',
}
"""Between the first two nothing differs: how far apart they are is the noise."""


async def evidence_measured(seconds: float) -> None:
    """Compare gateways with and without signing and ledger; CPU counts the writer's thread too."""
    async with AsyncExitStack() as stack:
        upstream = unused_port()
        serve = ("-m", "bench.run", "--serve-upstream", str(upstream))
        await stack.enter_async_context(process(upstream, *serve))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vetted-bench-")))
        keys_new = [sys.executable, "-m", "vetted_mw", "keys", "new", "--out", str(folder / "key.pem")]
        subprocess.run(keys_new, check=True, capture_output=True)  # noqa: ASYNC221, S603 (once, before all that counts)
        gateways = {}
        for name, table in _GATEWAYS.items():
            settings, port = folder / f"{name}.toml", unused_port()
            text = f'{table}[regions.{_REGION}]\nbase_url = "http://127.0.0.1:{upstream}/v1"\n'
            settings.write_text(text, encoding="utf-8")
            command = ("-m", "vetted_mw", "serve", "--config", str(settings), "--port", str(port))
            gateways[name] = (port, await stack.enter_async_context(process(port, *command)))
        await compared(_LOADS, seconds, gateways, ("load", "evidence"))
