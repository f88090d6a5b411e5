"""`vetted-mw signals`: what each source last said of each zone, and whether that may decide."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from vetted_mw.cli.recorded import recorded
from vetted_mw.cli.signal_table import changes, signal_table
from vetted_mw.cli.signal_warnings import uncovered_zones
from vetted_mw.errors import ConfigurationError
from vetted_mw.gateway import Gateway
from vetted_mw.grid.report import source_facts, zone_facts
from vetted_mw.routing.decision import Candidate, Rejection, decide
from vetted_mw.routing.options import Options, Routing
from vetted_mw.settings import load_configuration
from vetted_mw.settings.refusal import nearest

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

__all__ = ["signals"]

_CLEAR = "\x1b[2J\x1b[H"
_WATCH_SECONDS = 2.0
_MOVING = frozenset({"age_minutes", "requested_at", "fetched_at", "succeeded_at", "failed_at", "failures"})


def signals(arguments: argparse.Namespace) -> int:
    """Print every source's last answer; with `--from-file` run a source's parser over a recorded one instead.

    Exit code 1 when there are sources and no zone has a value that may decide.

    Raises:
        ConfigurationError: the settings cannot be used, or no region is in the zone.
    """
    if arguments.from_file is not None:
        return recorded(arguments)
    if arguments.source is not None or arguments.at is not None:
        raise ConfigurationError("--source and --at go with --from-file.", remedy="Name the recorded answer with it.")
    gateway = Gateway(load_configuration(arguments.config))
    zones = _zones(gateway, arguments.zone)
    if sys.stderr.isatty() and (names := ", ".join(gateway.board.states())):
        print(f"asking {names} ...", file=sys.stderr)
    return asyncio.run(_watched(gateway, zones, arguments) if arguments.watch else _once(gateway, zones, arguments))


def _zones(gateway: Gateway, wanted: str | None) -> list[str]:
    zones = list(dict.fromkeys(region.zone for region in gateway.configuration.regions.values() if region.zone))
    if wanted is not None and wanted not in zones:
        like = nearest(wanted, zones)
        hint = "" if like is None else f"Did you mean {like}? "
        raise ConfigurationError(
            "no region is in that zone.", field="--zone", remedy=f"{hint}Zones of your regions: {', '.join(zones)}."
        )
    return zones if wanted is None else [wanted]


async def _once(gateway: Gateway, zones: Sequence[str], arguments: argparse.Namespace) -> int:
    await gateway.board.open(background=False)
    try:
        await gateway.board.refresh_all()
        facts = _facts(gateway, zones)
        if arguments.json:
            print(msgspec.json.format(msgspec.json.encode(facts), indent=2).decode())
        else:
            print(signal_table(facts))
        may_decide = any(row["live_eligible"] for zone in facts["zones"].values() for row in zone)
        return 0 if may_decide or not facts["sources"] else 1
    finally:
        await gateway.board.close()
        await gateway.aclose()


async def _watched(gateway: Gateway, zones: Sequence[str], arguments: argparse.Namespace) -> int:
    """Print everything, then a line for what changes; a terminal shows the whole, its ages moving."""
    is_screen = sys.stdout.isatty() and not arguments.json
    shown: dict[str, Any] | None = None
    await gateway.board.open()
    try:
        await gateway.board.refresh_all()
        while True:
            facts = _facts(gateway, zones)
            if is_screen:
                print(_CLEAR + signal_table(facts), flush=True)
            elif arguments.json:
                if shown is None or _still(facts) != _still(shown):
                    print(msgspec.json.encode(facts).decode(), flush=True)
            elif shown is None:
                print(signal_table(facts), end="\n\n", flush=True)
            else:
                for line in changes(shown, facts):
                    print(f"{gateway.now():%H:%M:%S} {line}", flush=True)
            shown = facts
            await asyncio.sleep(_WATCH_SECONDS)
    finally:
        await gateway.board.close()
        await gateway.aclose()


def _facts(gateway: Gateway, zones: Sequence[str]) -> dict[str, Any]:
    now = gateway.now()
    return {
        "zones": {zone: zone_facts(gateway.board, zone, now) for zone in zones},
        "sources": source_facts(gateway.board),
        "competing": _competing(gateway),
        "silent": uncovered_zones(gateway.configuration),
    }


def _competing(gateway: Gateway) -> dict[str, Any]:
    """Return which zones' values a carbon-aware request would compare now, were every region healthy and idle."""
    now, configuration = gateway.now(), gateway.configuration
    # Before any upstream is configured, whoever chooses one wants to see the whole catalogue.
    reached = configuration.upstreams or configuration.regions
    candidates = tuple(
        Candidate(region=region, configured=code in reached, reading=gateway.board.best(region.zone, now))
        for code, region in configuration.regions.items()
    )
    rules = replace(configuration.rules, carbon_aware=True)
    decision = decide(Options(routing=Routing.CARBON_AWARE), "", candidates, now, rules=rules)
    mismatched = [one for one in decision.verdicts if one.rejected is Rejection.METHOD_MISMATCH]
    return {
        "method": decision.method,
        "zones": sorted({configuration.regions[code].zone for code in decision.live}),
        "method_mismatch": sorted({one.candidate.region.zone for one in mismatched}),
    }


def _still(facts: dict[str, Any]) -> object:
    """Return the facts without what moves by itself."""
    rows = [row for zone in facts["zones"].values() for row in zone] + facts["sources"]
    return [{name: value for name, value in row.items() if name not in _MOVING} for row in rows]
