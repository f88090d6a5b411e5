"""`vetted-mw signals`: what each source last said of each zone, and whether that may decide."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import msgspec

from vetted_mw.cli.recorded import recorded
from vetted_mw.cli.table import table
from vetted_mw.errors import ConfigurationError
from vetted_mw.gateway import Gateway
from vetted_mw.grid.report import source_facts, zone_facts
from vetted_mw.settings import load_configuration

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from datetime import datetime

__all__ = ["signals"]

_HEAD = ("zone", "source", "area", "gCO2e/kWh", "interval end (UTC)", "age", "method", "proxy", "may decide")
_NUMBERS = ("gCO2e/kWh", "age", "proxy")
_SOURCES = ("source", "state", "last answer (UTC)", "failures", "last error")
_CLEAR = "\x1b[2J\x1b[H"
_WATCH_SECONDS = 2.0
_NO_SOURCE = """\
No source is configured, so carbon-aware requests run in the default order and say so. Add, for France, Sweden, Finland
and Germany without a key, and for Iceland:

[signals.sources.energy_charts]
[signals.sources.landsnet]"""


def signals(arguments: argparse.Namespace) -> int:
    """Print every source's last answer; with `--from-file` run a source's parser over a recorded one instead.

    Raises:
        ConfigurationError: the settings cannot be used, or no region is in the zone.
    """
    if arguments.from_file is not None:
        return recorded(arguments)
    if arguments.source is not None or arguments.at is not None:
        raise ConfigurationError("--source and --at go with --from-file.", remedy="Name the recorded answer with it.")
    gateway = Gateway(load_configuration(arguments.config))
    zones = _zones(gateway, arguments.zone)
    asyncio.run(_watched(gateway, zones, arguments) if arguments.watch else _once(gateway, zones, arguments))
    return 0


def _zones(gateway: Gateway, wanted: str | None) -> list[str]:
    zones = list(dict.fromkeys(region.zone for region in gateway.configuration.regions.values() if region.zone))
    if wanted is not None and wanted not in zones:
        raise ConfigurationError(
            "no region is in that zone.", field="--zone", remedy=f"Zones of your regions: {', '.join(zones)}."
        )
    return zones if wanted is None else [wanted]


async def _once(gateway: Gateway, zones: Sequence[str], arguments: argparse.Namespace) -> None:
    await gateway.board.open()
    try:
        await gateway.board.refresh_all()
        _show(_facts(gateway, zones), as_json=arguments.json)
    finally:
        await gateway.board.close()


async def _watched(gateway: Gateway, zones: Sequence[str], arguments: argparse.Namespace) -> None:
    """Print whenever something has changed; on a terminal keep the ages moving as well."""
    is_screen = sys.stdout.isatty() and not arguments.json
    shown: object = None
    await gateway.board.open()
    try:
        await gateway.board.refresh_all()
        while True:
            facts = _facts(gateway, zones)
            if is_screen:
                print(_CLEAR, end="")
            if is_screen or (changed := _without_ages(facts)) != shown:
                shown = None if is_screen else changed
                _show(facts, as_json=arguments.json, is_line=True)
                sys.stdout.flush()
            await asyncio.sleep(_WATCH_SECONDS)
    finally:
        await gateway.board.close()


def _facts(gateway: Gateway, zones: Sequence[str]) -> dict[str, Any]:
    now: datetime = gateway.now()
    return {
        "zones": {zone: zone_facts(gateway.board, zone, now) for zone in zones},
        "sources": source_facts(gateway.board),
    }


def _without_ages(facts: dict[str, Any]) -> object:
    moving = {"age_minutes", "requested_at", "fetched_at", "succeeded_at", "failed_at", "failures"}
    rows = [row for zone in facts["zones"].values() for row in zone] + facts["sources"]
    return [{name: value for name, value in row.items() if name not in moving} for row in rows]


def _show(facts: dict[str, Any], *, as_json: bool, is_line: bool = False) -> None:
    if as_json:
        encoded = msgspec.json.encode(facts)
        print((encoded if is_line else msgspec.json.format(encoded, indent=2)).decode())
        return
    if not facts["sources"]:
        print(_NO_SOURCE)
        return
    rows = [_row(row) for zone in facts["zones"].values() for row in zone]
    silent = [
        (zone, *("-",) * (len(_HEAD) - 2), "no: no source has answered for it")
        for zone, of in facts["zones"].items()
        if not of
    ]
    print(table(_HEAD, [*rows, *silent], numbers=_NUMBERS))
    print()
    print(table(_SOURCES, [_source(one) for one in facts["sources"]], numbers=("failures",)))


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    if "gco2_per_kwh" not in row:
        return (row["zone"], row["source"], *("-",) * (len(_HEAD) - 3), f"no: {_why_nothing(row['no_signal'])}")
    verdict = f"no: {row['ineligible_reason']}"
    if row["live_eligible"]:
        verdict = "yes" if row["decides"] else "yes, as backup"
    if row["no_signal"] is not None:
        verdict += f"; nothing new: {_why_nothing(row['no_signal'])}"
    return (
        row["zone"],
        row["source"],
        row["area"],
        f"{row['gco2_per_kwh']:.4g}",
        _short(row["observed_at"]),
        f"{row['age_minutes']:g} min",
        row["method"],
        "-" if row["proxy_share"] is None else f"{row['proxy_share']:.0%}",
        verdict,
    )


def _why_nothing(told: dict[str, Any]) -> str:
    status = "" if told["status"] in {None, 200} else f" (HTTP {told['status']})"
    return f"{told['reason']}{status} since {_short(told['since'])}"


def _source(state: dict[str, Any]) -> tuple[str, ...]:
    error = state["error"] if state["failures"] else None
    return (
        state["source"],
        state["state"].replace("_", " "),
        _short(state["succeeded_at"]),
        str(state["failures"]),
        error or "-",
    )


def _short(instant: str | None) -> str:
    """Write an instant to the second, without the letters in between."""
    return "-" if instant is None else instant[:19].replace("T", " ")
