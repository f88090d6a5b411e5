"""`vetted-mw regions`: the catalogue as it stands now."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from vetted_mw.cli.table import table
from vetted_mw.endpoints import region_facts
from vetted_mw.fleet.fleet import Health
from vetted_mw.gateway import Gateway
from vetted_mw.grid.signal import SignalKind
from vetted_mw.settings import load_configuration

if TYPE_CHECKING:
    import argparse

__all__ = ["regions"]

_HEAD = ("region", "place", "zone", "upstream", "health", "gCO2e/kWh", "source", "age")
_NUMBERS = ("gCO2e/kWh", "age")
_NO_UPSTREAM = "No region has an upstream yet: set regions.CODE.base_url in the settings, or try `vetted-mw demo`."
_ANNUAL = "(declared): a yearly average, for receipts where no live signal is known. It never decides."


def regions(arguments: argparse.Namespace) -> int:
    """Print every region: facts, health by a probe of our own, and the signal of its zone."""
    gateway = Gateway(load_configuration(arguments.config), background=False)
    facts = asyncio.run(_facts(gateway, probe=not arguments.no_probe))
    if arguments.json:
        print(msgspec.json.format(msgspec.json.encode(facts), indent=2).decode())
        return 0
    print(table(_HEAD, [_row(one) for one in facts], numbers=_NUMBERS))
    if any(one["signal"] is None for one in facts):
        print(f"\n{_ANNUAL}")
    if not gateway.configuration.upstreams:
        print(f"\n{_NO_UPSTREAM}")
    return 0


async def _facts(gateway: Gateway, *, probe: bool) -> list[dict[str, Any]]:
    async with gateway:
        core = await gateway.core()
        await asyncio.gather(gateway.board.refresh_all(), *([_probe(gateway)] if probe else []))
        return [region_facts(core, candidate) for candidate in core.candidates(core.now())]


async def _probe(gateway: Gateway) -> None:
    """Probe each upstream, and again where it did not answer well: one failure alone is not held against a region."""
    for _ in range(2):
        undecided = [
            code
            for code in gateway.configuration.upstreams
            if (state := gateway.fleet.state(code)) is not None and state.health is Health.UNKNOWN
        ]
        await asyncio.gather(*(gateway.probe(code) for code in undecided))


def _row(facts: dict[str, Any]) -> tuple[str, ...]:
    return (
        facts["code"],
        f"{facts['location']}, {facts['country']}",
        facts["zone"] or "-",
        _upstream(facts),
        _health(facts),
        *_intensity(facts),
    )


def _upstream(facts: dict[str, Any]) -> str:
    if not facts["inference"]:
        return "gateway only"
    return "yes" if facts["configured"] else "none"


def _health(facts: dict[str, Any]) -> str:
    health = facts["health"]
    if health is None:
        return "-"
    if health["probe"] == Health.UNKNOWN:
        return "not probed"
    status = health["probe_status"]
    is_plain = status is None or 200 <= status < 300  # noqa: PLR2004
    return str(health["probe"]) if is_plain else f"{health['probe']} (HTTP {status})"


def _why_not(facts: dict[str, Any]) -> str:
    """Return why the zone's most telling value may not decide: a forecast is told as one."""
    shown = facts["signal"]
    of_source = (row for row in facts["signals"] if row["source"] == shown["source"])
    reasons = (row["ineligible_reason"] for row in of_source if row["observed_at"] == shown["observed_at"])
    reason = next(reasons, None) if shown["signal_kind"] == SignalKind.MEASURED else None
    return str(reason or shown["temporal_match"])


def _intensity(facts: dict[str, Any]) -> tuple[str, str, str]:
    signal = facts["signal"]
    if signal is not None:
        mark = "" if signal["live_eligible"] else f" ({_why_not(facts)})"
        return f"{signal['gco2_per_kwh']:.4g}", signal["source"] + mark, f"{signal['age_minutes']:.0f} min"
    annual = facts["annual"]
    if annual["gco2_per_kwh"] is None:
        return "-", "-", "-"
    year = "" if annual["year"] is None else f" {annual['year']}"
    return f"{annual['gco2_per_kwh']:g}", f"annual{year} ({'declared' if annual['declared'] else 'configured'})", "-"
