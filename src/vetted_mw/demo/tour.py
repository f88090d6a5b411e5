"""The demo's tour: what to paste, and the same run against itself with readable answers."""

from __future__ import annotations

import json
import textwrap
import time
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import httpx
import msgspec

from vetted_mw.demo.model_server import DEMO_MODEL
from vetted_mw.demo.stage import DOWN_REGION

__all__ = ["await_signals", "run_tour", "what_to_try"]

_QUESTION = "Where does this run?"
_RECEIPT_SHOWN = (
    "issuer",
    "tier",
    "region",
    "route_taken",
    "gco2e",
    "gco2e_ci90_lo",
    "gco2e_ci90_hi",
    "energy_wh",
    "ml_water",
    "grid_intensity_gco2_per_kwh",
    "grid_intensity_source",
    "grid_temporal_match",
    "prompt_tokens",
    "completion_tokens",
    "usage_source",
)
_SIGNALS_SECONDS = 30.0
_NOT_LOOKED_AT = ("outside_policy", "not_configured", "not_for_inference")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stop:
    """One stop of the tour.

    Attributes:
        title: what it shows.
        why: what to expect, a sentence.
        vetted: the request's options.
        stream: whether the answer streams.
        status: the HTTP status that is right here.
        mode: the `decision_mode` that is right here.
    """

    title: str
    why: str
    vetted: dict[str, Any] | None = None
    stream: bool = False
    status: int = 200
    mode: str

    def body(self) -> dict[str, Any]:
        """Return the request's body."""
        body: dict[str, Any] = {"model": DEMO_MODEL, "messages": [{"role": "user", "content": _QUESTION}]}
        if self.stream:
            body["stream"] = True
        return body if self.vetted is None else body | {"vetted": self.vetted}

    def curl(self, base_url: str) -> str:
        """Return the command that sends it."""
        flags = "-sN" if self.stream else "-s"
        return (
            f"curl {flags} {base_url}/chat/completions -H 'content-type: application/json' \\\n"
            f"  -d '{json.dumps(self.body())}'"
        )


_STOPS = (
    _Stop(
        title="The default order",
        why="Nothing is asked for: the first region of the operator's order that can serve does.",
        mode="preferred",
    ),
    _Stop(
        title="A pin",
        why="This region or a 503, never another.",
        vetted={"region": "atnorth-isl-1"},
        mode="pinned",
    ),
    _Stop(
        title="A pin to a region that is down",
        why="The demo runs no server there: 503, and nothing goes anywhere else.",
        vetted={"region": DOWN_REGION},
        status=503,
        mode="unavailable",
    ),
    _Stop(
        title="Carbon-aware",
        why="The lowest live grid intensity serves. The demo's grid moves: ask again in a minute or two.",
        vetted={"routing": "carbon_aware"},
        mode="live",
    ),
    _Stop(
        title="Streaming",
        why="Word by word; receipt and routing_trace are on the chunk with finish_reason.",
        vetted={"routing": "carbon_aware"},
        stream=True,
        mode="live",
    ),
)


def what_to_try(base_url: str, *, grid_origin: str) -> str:
    """Return what to paste, for a gateway at `base_url` (ending in `/v1`) on the grid service at `grid_origin`."""
    stops = "\n\n".join(f"# {stop.title}. {stop.why}\n{stop.curl(base_url)}" for stop in _STOPS)
    return (
        f"The gateway listens on {base_url}. Try, in another terminal:\n\n"
        f"{stops}\n\n"
        f"# What the gateway knows of every region, and what each grid source says\ncurl -s {base_url}/regions\n\n"
        "# Break the grid: signals age, zone by zone no value may decide after three minutes, and once none may,\n"
        "# carbon-aware says 'degraded'. 'none' mends it.\n"
        f"curl -s -X POST {grid_origin}/faults/all/503\n"
        f"curl -s -X POST {grid_origin}/faults/all/none\n\n"
        f"# OpenAI's SDK, in Python (scripts/demo has it: .demo/bin/python)\n{_sdk_code(base_url)}\n"
    )


def _sdk_code(base_url: str) -> str:
    return textwrap.dedent(f"""\
        from openai import OpenAI

        client = OpenAI(base_url="{base_url}", api_key="-")
        answer = client.chat.completions.create(
            model="{DEMO_MODEL}",
            messages=[{{"role": "user", "content": "{_QUESTION}"}}],
            extra_body={{"vetted": {{"routing": "carbon_aware"}}}},
        )
        print(answer.choices[0].message.content)
        print(answer.receipt["gco2e"], "g CO2e in", answer.routing_trace["region"])""")


def run_tour(base_url: str) -> bool:
    """Try every stop against `base_url`, print the answers; returns whether each one was what it should be."""
    print("The gateway over embedded model servers and a local grid service. Nothing leaves this machine.")
    failed: list[str] = []
    with httpx.Client(trust_env=False, timeout=30.0) as client:
        if not await_signals(client, base_url):
            print("   The grid service has not answered yet: carbon-aware will say degraded.")
        for number, stop in enumerate(_STOPS, start=1):
            print(f"\n{number}. {stop.title}\n   {stop.why}\n")
            print(textwrap.indent(stop.curl(base_url), "   "))
            if not _visit(client, base_url, stop):
                failed.append(stop.title)
    title = "OpenAI's SDK"
    print(f"\n{len(_STOPS) + 1}. {title}\n   The extra members are attributes of the answer.\n")
    print(textwrap.indent(_sdk_code(base_url), "   "))
    if not _visit_with_sdk(base_url):
        failed.append(title)
    told = f"Not as it should be: {', '.join(failed)}." if failed else "All of it as it should be."
    print(f"\n{told} `vetted-mw demo` keeps the gateway running and prints these commands to paste.")
    return not failed


def await_signals(client: httpx.Client, base_url: str) -> bool:
    """Wait for a live signal of every region, and say whether it came: the gateway serves before that, and says so."""
    give_up = time.monotonic() + _SIGNALS_SECONDS
    while time.monotonic() < give_up:
        regions = client.get(f"{base_url}/regions").json()["data"]
        if all((region["signal"] or {}).get("live_eligible") for region in regions):
            return True
        time.sleep(0.1)
    return False


def _visit(client: httpx.Client, base_url: str, stop: _Stop) -> bool:
    url = f"{base_url}/chat/completions"
    if stop.stream:
        told = _streamed(client, url, stop.body())
        status = 200 if told else 0
    else:
        answer = client.post(url, json=stop.body())
        status, told = answer.status_code, answer.json()
        print(f"\n   HTTP {status}")
        if "error" in told:
            _say("error", f"{told['error']['code']}: {told['error']['message']}")
        else:
            _say("text", told["choices"][0]["message"]["content"])
    _show_trace(told.get("routing_trace"))
    _show_receipt(told.get("receipt"))
    has_receipt = (told.get("receipt") or {}).get("issuer") == "demo"
    mode = (told.get("routing_trace") or {}).get("decision_mode")
    return status == stop.status and mode == stop.mode and has_receipt == (status == 200)  # noqa: PLR2004


def _streamed(client: httpx.Client, url: str, body: dict[str, Any]) -> dict[str, Any]:
    """Print a stream's words as they come; return the chunk that carries the members, empty without one."""
    last: dict[str, Any] = {}
    with client.stream("POST", url, json=body) as answer:
        print(f"\n   HTTP {answer.status_code}\n   {'text':<9} ", end="", flush=True)
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                chunk = msgspec.json.decode(line[6:])
                last = chunk if "routing_trace" in chunk else last
                words = (choice["delta"].get("content") or "" for choice in chunk.get("choices", []))
                print("".join(words), end="", flush=True)
    print()
    return last


def _say(label: str, *lines: str) -> None:
    for number, line in enumerate(lines):
        print(f"   {label if number == 0 else '':<9} {line}")


def _show_trace(trace: dict[str, Any] | None) -> None:
    if trace is None:
        return
    _say("region", trace["region"] or "none")
    _say("decision", f"{trace['route_policy']}, {trace['decision_mode']}: {trace['decision_reason']}")
    signal = trace["operational_signal"]
    if signal is not None:
        _say("signal", f"{signal['gco2_per_kwh']:g} gCO2e/kWh, {signal['source']}, {signal['age_minutes']:g} min old")
    rows = trace.get("candidates", [])
    _say("looked at", *(_candidate(row) for row in rows if row["rejected"] not in _NOT_LOOKED_AT))
    passed_over = ((why, [row["region"] for row in rows if row["rejected"] == why]) for why in _NOT_LOOKED_AT)
    _say("others", *(f"{why}: {', '.join(regions)}" for why, regions in passed_over if regions))
    failed = [attempt for attempt in trace.get("attempts", []) if attempt["outcome"] != "success"]
    _say("failed", *(f"{attempt['region']}: {attempt['outcome']}" for attempt in failed))


def _candidate(row: dict[str, Any]) -> str:
    grid = "no signal" if row["gco2_per_kwh"] is None else f"{row['gco2_per_kwh']:g} gCO2e/kWh"
    return f"{row['region']:<16} {row['rejected'] or 'eligible':<12} {grid}"


def _show_receipt(receipt: dict[str, Any] | None) -> None:
    if receipt is not None:
        _say("receipt", *(f"{name:<28} {_plain(receipt[name])}" for name in _RECEIPT_SHOWN))


def _plain(value: object) -> str:
    """Write a number the way people read it, 0.0000772 rather than 7.72e-05."""
    return f"{Decimal(repr(value)):f}" if isinstance(value, float) else str(value)


def _visit_with_sdk(base_url: str) -> bool:
    print()
    try:
        from openai import OpenAI, OpenAIError  # noqa: PLC0415 (scripts/demo brings it; the demo works without)
    except ImportError:
        print("   The openai package is not installed: left out.")
        return True
    with (
        httpx.Client(trust_env=False, timeout=30.0) as transport,
        # openai names httpx2 in its types and takes httpx as well
        OpenAI(base_url=base_url, api_key="-", http_client=transport) as client,  # type: ignore[arg-type]
    ):
        try:
            answer = client.chat.completions.create(
                model=DEMO_MODEL,
                messages=[{"role": "user", "content": _QUESTION}],
                extra_body={"vetted": {"routing": "carbon_aware"}},
            )
        except OpenAIError as error:
            print(f"   {error}")
            return False
    extra = answer.model_extra or {}
    print(f"   {answer.choices[0].message.content}")
    print(f"   {_plain(extra['receipt']['gco2e'])} g CO2e in {extra['routing_trace']['region']}")
    return bool(extra["receipt"]["issuer"] == "demo")
