"""`vetted-mw explain`: the decision a request would get, without calling anyone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from vetted_mw.chat.request import parse_request
from vetted_mw.cli.table import table
from vetted_mw.endpoints import explained
from vetted_mw.gateway import Gateway
from vetted_mw.routing.options import parse_options
from vetted_mw.settings import load_configuration

if TYPE_CHECKING:
    import argparse

__all__ = ["explain"]

_OPTIONS = ("region", "secondary_region", "routing", "latency_budget_ms")


def explain(arguments: argparse.Namespace) -> int:
    """Print the decision; exit code 1 when no region would serve."""
    gateway = Gateway(load_configuration(arguments.config))
    told = asyncio.run(_told(gateway, arguments))
    if arguments.json:
        print(msgspec.json.format(msgspec.json.encode(told), indent=2).decode())
    else:
        print(_readable(told))
    return 0 if told["order"] else 1


async def _told(gateway: Gateway, arguments: argparse.Namespace) -> dict[str, Any]:
    given = {name: value for name in _OPTIONS if (value := getattr(arguments, name)) is not None}
    # The same way in as a request, so that the same mistakes get the same answers.
    body = msgspec.json.encode({"model": arguments.model, "messages": [], "vetted": given})
    async with gateway:
        core = await gateway.core()
        chat = parse_request(body)
        options = parse_options(chat.vetted_members, (), regions=core.configuration.regions)
        return explained(core, chat, options, core.configuration.rules)


def _readable(told: dict[str, Any]) -> str:
    trace = told["routing_trace"]
    lines = [
        f"policy   {trace['route_policy']}",
        f"decision {trace['decision_mode']}: {trace['decision_reason']}",
        f"order    {', '.join(told['order']) or 'none'}",
        "",
        table(
            ("region", "eligible", "rejected", "gCO2e/kWh", "signal age", "network p95"),
            [_candidate(row) for row in trace.get("candidates", [])],
        ),
    ]
    if "error" in told:
        lines += ["", f"answer   {told['error']['code']}: {told['error']['message']}"]
    lines += [
        "",
        "Health is not probed here: a region counts as healthy. Ask a running gateway: POST /v1/vetted/explain.",
    ]
    return "\n".join(lines)


def _candidate(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        row["region"],
        "yes" if row["eligible"] else "no",
        row["rejected"] or "-",
        _number(row["gco2_per_kwh"], ""),
        _number(row["signal_age_minutes"], " min"),
        _number(row["network_p95_ms"], " ms"),
    )


def _number(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:g}{unit}"
