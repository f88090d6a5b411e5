"""`vetted-mw regions`: the catalogue as it stands now."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from vetted_mw.cli.table import table
from vetted_mw.endpoints import region_facts
from vetted_mw.gateway import Gateway
from vetted_mw.settings import load_configuration

if TYPE_CHECKING:
    import argparse

__all__ = ["regions"]

_HEAD = ("region", "place", "zone", "configured", "healthy", "gCO2e/kWh", "source", "age")


def regions(arguments: argparse.Namespace) -> int:
    """Print every region: facts, health by a probe of our own, and the signal of its zone."""
    gateway = Gateway(load_configuration(arguments.config))
    rows = asyncio.run(_facts(gateway, probe=not arguments.no_probe))
    if arguments.json:
        print(msgspec.json.format(msgspec.json.encode(rows), indent=2).decode())
    else:
        print(table(_HEAD, [_row(facts) for facts in rows]))
    return 0


async def _facts(gateway: Gateway, *, probe: bool) -> list[dict[str, Any]]:
    async with gateway:
        core = await gateway.core()
        if probe:
            await asyncio.gather(*(gateway.probe(code) for code in gateway.configuration.upstreams))
        return [region_facts(core, candidate) for candidate in core.candidates(core.now())]


def _row(facts: dict[str, Any]) -> tuple[str, ...]:
    place = f"{facts['location']}, {facts['country']}"
    return (
        facts["code"],
        place,
        facts["zone"] or "-",
        "yes" if facts["configured"] else "no" if facts["inference"] else "gateway only",
        _health(facts),
        *_intensity(facts),
    )


def _health(facts: dict[str, Any]) -> str:
    health = facts["health"]
    if health is None:
        return "-"
    return "yes" if health["probe"] == "healthy" else str(health["probe"])


def _intensity(facts: dict[str, Any]) -> tuple[str, str, str]:
    signal = facts["signal"]
    if signal is not None:
        mark = "" if signal["live_eligible"] else f" ({signal['temporal_match']})"
        return f"{signal['gco2_per_kwh']:g}", signal["source"] + mark, f"{signal['age_minutes']:.0f} min"
    annual = facts["annual"]
    if annual["gco2_per_kwh"] is None:
        return "-", "-", "-"
    return f"{annual['gco2_per_kwh']:g}", f"annual {annual['year'] or ''} (declared)", "-"
