"""The stage of a soak: faulty upstreams, the gateway, and an operator who changes its settings under load."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import signal
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from soak.plan import MODEL, REGIONS, ZONES
from soak.processes import running, unused_port
from vetted_mw.receipts.signing import new_private_pem

if TYPE_CHECKING:
    import subprocess
    from collections.abc import AsyncIterator
    from pathlib import Path

__all__ = ["LEDGERS", "Stage", "staged"]

_SETTINGS = """
transport = "{transport}"
default_order = {order}
[limits]
first_byte_seconds = 1
answer_seconds = 2
idle_seconds = 1
total_seconds = 10
{limits}
[models.{model}]
active_params_b = 8
total_params_b = 8
bytes_per_param = 2
[signals.sources.file]
path = "signals.toml"
max_age_minutes = {age}
[signing]
key = {{ file = "key.pem" }}
[ledger]
path = "{ledger}"
"""
LEDGERS = ("one.sqlite3", "two.sqlite3")
_VARIANTS = (
    ("", 10_000, LEDGERS[0]),
    ("idle_connection_seconds = 20", 10_000, LEDGERS[0]),  # every door is another one
    ("commit_after_seconds = 0.02\nsse_keepalive_seconds = 0.1", 10_000, LEDGERS[1]),
    ("", 9_000, LEDGERS[1]),  # another board
)
"""Further limits, the age limit of signals, and the ledger: what the operator changes from one reload to the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What runs.

    Attributes:
        gateway: its port.
        upstream: the port of one of the upstreams.
        log: the gateway's.
        settings: its file.
        ports: of the upstreams, in the order of the regions.
        process: the gateway's.
        transport: what carries requests to the upstreams.
    """

    gateway: int
    upstream: int
    log: Path
    settings: Path
    ports: tuple[int, ...]
    process: subprocess.Popen[bytes]
    transport: str

    @contextlib.asynccontextmanager
    async def reloading(self, seconds: float) -> AsyncIterator[None]:
        """Change the settings and reload them every so many seconds while the block runs; never for 0."""
        task = asyncio.ensure_future(self._reload_again_and_again(seconds) if seconds else asyncio.sleep(0))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def _reload_again_and_again(self, seconds: float) -> None:
        for variant in itertools.cycle((*_VARIANTS[1:], _VARIANTS[0])):
            await asyncio.sleep(seconds)
            draft = self.settings.with_suffix(".draft")
            draft.write_text(_settings(self.ports, variant, self.transport), encoding="utf-8")
            draft.replace(self.settings)
            self.process.send_signal(signal.SIGHUP)


@contextlib.asynccontextmanager
async def staged(folder: Path, seed: int, transport: str) -> AsyncIterator[Stage]:
    """Start upstreams and gateway."""
    ports = tuple(unused_port() for _ in REGIONS)
    settings = folder / "vetted.toml"
    settings.write_text(_settings(ports, _VARIANTS[0], transport), encoding="utf-8")
    (folder / "key.pem").write_text(new_private_pem(), encoding="ascii")
    (folder / "key.pem").chmod(0o600)
    observed = datetime.now(UTC).isoformat()
    (folder / "signals.toml").write_text(
        "".join(
            f'[[reading]]\nzone = "{zone}"\ngco2_per_kwh = {value}\nkind = "measured"\nobserved_at = "{observed}"\n'
            for zone, value in ZONES.items()
        ),
        encoding="utf-8",
    )
    port, log = unused_port(), folder / "gateway.log"
    serve = ("-m", "soak.served", "serve", "--config", str(settings), "--port", str(port))
    upstreams = ("-m", "soak.upstreams", str(seed), *map(str, ports))
    async with running(ports[-1], folder / "upstreams.log", *upstreams), running(port, log, *serve) as process:
        yield Stage(
            gateway=port,
            upstream=ports[0],
            log=log,
            settings=settings,
            ports=ports,
            process=process,
            transport=transport,
        )


def _settings(ports: tuple[int, ...], variant: tuple[str, int, str], transport: str) -> str:
    limits, age, ledger = variant
    regions = "".join(
        f'[regions.{region}]\nbase_url = "http://127.0.0.1:{port}/v1"\n'
        for region, port in zip(REGIONS, ports, strict=True)
    )
    order = json.dumps(list(REGIONS))
    told = _SETTINGS.format(transport=transport, order=order, model=MODEL, limits=limits, age=age, ledger=ledger)
    return told + regions
