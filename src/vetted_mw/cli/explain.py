"""`vetted-mw explain`: the decision a request would get, without calling an upstream."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import msgspec

from vetted_mw.chat.request import parse_request
from vetted_mw.chat.response import error_envelope
from vetted_mw.cli.table import table
from vetted_mw.endpoints import explained
from vetted_mw.errors import AnswerError, PolicyError
from vetted_mw.gateway import Gateway
from vetted_mw.routing.decision import RoutePolicy, policy_of
from vetted_mw.routing.options import parse_options
from vetted_mw.settings import load_configuration

if TYPE_CHECKING:
    import argparse

__all__ = ["explain"]

_OPTIONS = ("region", "secondary_region", "routing", "latency_budget_ms")
_HEAD = ("try", "region", "verdict", "gCO2e/kWh", "signal age", "network p95")
_NUMBERS = ("try", "gCO2e/kWh", "signal age", "network p95")
_CAVEAT = """\
No upstream was called: each counts as healthy and idle, and a list of models to discover as not fetched.
A running gateway knows better: POST /v1/vetted/explain."""


def explain(arguments: argparse.Namespace) -> int:
    """Print the decision; exit code 1 when no region would serve or policy forbids it, 2 when no request can be so."""
    gateway = Gateway(load_configuration(arguments.config), background=False)
    try:
        told = asyncio.run(_told(gateway, arguments))
    except AnswerError as error:
        if arguments.json:
            print(msgspec.json.format(error_envelope(error), indent=2).decode())
        else:
            print(f"vetted-mw: {error.code}: {error.message}", file=sys.stderr)
        return 1 if isinstance(error, PolicyError) else 2
    if arguments.json:
        print(msgspec.json.format(msgspec.json.encode(told), indent=2).decode())
    else:
        print(_readable(arguments.model, told))
    return 0 if told["order"] else 1


async def _told(gateway: Gateway, arguments: argparse.Namespace) -> dict[str, Any]:
    given = {name: value for name in _OPTIONS if (value := getattr(arguments, name)) is not None}
    # The same way in as a request, so that the same mistakes get the same answers.
    body = msgspec.json.encode({"model": arguments.model, "messages": [], "vetted": given})
    async with gateway:
        core = await gateway.core()
        rules = core.configuration.rules
        chat = parse_request(body)
        options = parse_options(chat.vetted_members, (), regions=core.configuration.regions)
        if policy_of(options, rules) is RoutePolicy.LOWEST_CARBON:
            await gateway.board.refresh_all()  # no other decision looks at signals
        return explained(core, chat, options, rules)


def _readable(model: str, told: dict[str, Any]) -> str:
    trace = told["routing_trace"]
    lines = [
        f"model     {model}",
        f"policy    {trace['route_policy']}",
        f"decision  {trace['decision_mode']}: {trace['decision_reason']}",
        f"order     {', '.join(told['order']) or 'none: no region would serve'}",
    ]
    if "error" in told:
        lines.append(f"answer    {told['error']['code']}: {told['error']['message']}")
    signal = trace["operational_signal"]
    if signal is not None:
        age = f"{signal['age_minutes']:g} min old"
        lines.append(f"signal    {signal['gco2_per_kwh']:g} gCO2e/kWh, {signal['source']}, {age}")
    rows = [_candidate(row, told["order"]) for row in trace["candidates"]]
    return "\n".join([*lines, "", table(_HEAD, rows, numbers=_NUMBERS), "", _CAVEAT])


def _candidate(row: dict[str, Any], order: list[str]) -> tuple[str, ...]:
    region = row["region"]
    return (
        str(order.index(region) + 1) if region in order else "-",
        region,
        row["rejected"] or "eligible",
        _number(row["gco2_per_kwh"], ""),
        _number(row["signal_age_minutes"], " min"),
        _number(row["network_p95_ms"], " ms"),
    )


def _number(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:g}{unit}"
