"""What a decision costs in process: `python -m bench.deciding REGIONS UPSTREAM_PORT` prints microseconds as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from vetted_mw import Gateway
from vetted_mw.routing.options import Options, Routing
from vetted_mw.settings import load_configuration

if TYPE_CHECKING:
    from vetted_mw.core import Core

_TURNS, _EACH = 7, 2_000
_COUNTRIES = ("FR", "SE", "DE", "FI", "NL", "ES", "PL", "NO")


def main() -> None:
    """Decide over so many regions, each with an upstream that is well."""
    regions, port = map(int, sys.argv[1:])
    print(json.dumps(asyncio.run(_measured(regions, port))))


async def _measured(regions: int, port: int) -> dict[str, float]:
    codes = [f"region-{number}" for number in range(regions)]
    tables = "".join(
        f'[regions.{code}]\nbase_url = "http://127.0.0.1:{port}/v1"\nprovider = "Bench"\nsite = "{code}"\n'
        f'location = "{code}"\ncountry = "{_COUNTRIES[number % 8]}"\nzone = "{_COUNTRIES[number % 8]}"\n'
        "annual_gco2_per_kwh = 100\nannual_year = 2024\n"
        'annual_source = "made up"\nannual_basis = "lifecycle"\n'
        "network_p50_ms = 5\nnetwork_p95_ms = 10\n"
        for number, code in enumerate(codes)
    )
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "vetted.toml"
        settings.write_text(f"default_order = {json.dumps(codes)}\n{tables}", encoding="utf-8")
        async with Gateway(load_configuration(settings)) as gateway:
            core = await gateway.core()
            asked = {
                "default": Options(),
                "carbon-aware": Options(routing=Routing.CARBON_AWARE),
                "pin": Options(region=codes[-1]),
            }
            return {name: _microseconds(core, options) for name, options in asked.items()}


def _microseconds(core: Core, options: Options) -> float:
    """Return the least of some turns: what disturbs only ever adds."""
    rules = core.configuration.rules
    if not core.decide(options, "bench", rules).order:
        raise RuntimeError("nothing was decided")
    turns = []
    for _turn in range(_TURNS):
        before = time.process_time()
        for _one in range(_EACH):
            core.decide(options, "bench", rules)
        turns.append((time.process_time() - before) / _EACH * 1e6)
    return min(turns)


if __name__ == "__main__":
    main()
