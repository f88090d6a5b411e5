"""The demo's tour: what to try, and the same run against itself with readable answers."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec

from vetted_mw.demo.model_server import DEMO_MODEL
from vetted_mw.demo.stage import DOWN_REGION

__all__ = ["run_tour", "what_to_try"]

_PROMPT = [{"role": "user", "content": "Where does this run?"}]
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stop:
    """One stop of the tour."""

    title: str
    vetted: dict[str, Any] | None
    stream: bool = False
    expect: int = 200


_STOPS = (
    _Stop(title="The default order", vetted=None),
    _Stop(title="A pin: this region or a 503", vetted={"region": "atnorth-isl-1"}),
    _Stop(title="A pin to a region that is down", vetted={"region": DOWN_REGION}, expect=503),
    _Stop(title="Carbon-aware: the lowest live grid intensity", vetted={"routing": "carbon_aware"}),
    _Stop(title="Streaming", vetted={"routing": "carbon_aware"}, stream=True),
)


def what_to_try(base_url: str) -> str:
    """Return what to paste, for a gateway at `base_url` (ending in `/v1`)."""
    return textwrap.dedent(f"""\
        The gateway listens on {base_url}. Try, in another terminal:

        # curl
        curl -s {base_url}/chat/completions -H 'content-type: application/json' \\
          -d '{{"model": "{DEMO_MODEL}", "messages": [{{"role": "user", "content": "Where does this run?"}}]}}'

        # a pin: this region or a 503, never another
        curl -s {base_url}/chat/completions -H 'content-type: application/json' \\
          -d '{{"model": "{DEMO_MODEL}", "messages": [], "vetted": {{"region": "atnorth-isl-1"}}}}'

        # a pin to a region that is down
        curl -si {base_url}/chat/completions -H 'content-type: application/json' \\
          -d '{{"model": "{DEMO_MODEL}", "messages": [], "vetted": {{"region": "{DOWN_REGION}"}}}}'

        # the lowest live grid intensity; the demo's grid moves, so ask again in a minute or two
        curl -s {base_url}/chat/completions -H 'content-type: application/json' \\
          -d '{{"model": "{DEMO_MODEL}", "messages": [], "vetted": {{"routing": "carbon_aware"}}}}'

        # streaming: receipt and routing_trace are on the chunk with finish_reason
        curl -sN {base_url}/chat/completions -H 'content-type: application/json' \\
          -d '{{"model": "{DEMO_MODEL}", "messages": [], "stream": true}}'

        # what the gateway knows of every region
        curl -s {base_url}/regions

        # OpenAI's SDK
        from openai import OpenAI
        client = OpenAI(base_url="{base_url}", api_key="-")
        answer = client.chat.completions.create(
            model="{DEMO_MODEL}",
            messages=[{{"role": "user", "content": "Where does this run?"}}],
            extra_body={{"vetted": {{"routing": "carbon_aware"}}}},
        )
        print(answer.choices[0].message.content)
        print(answer.receipt["gco2e"], "g CO2e in", answer.routing_trace["region"])
        """)


def run_tour(base_url: str) -> bool:
    """Try every stop against `base_url`, print the answers; returns whether each one was what it should be."""
    good = True
    with httpx.Client(trust_env=False, timeout=30.0) as client:
        for number, stop in enumerate(_STOPS, start=1):
            print(f"\n{number}. {stop.title}")
            good = _visit(client, base_url, stop) and good
    print(f"\n{len(_STOPS) + 1}. The same with OpenAI's SDK")
    return _visit_with_sdk(base_url) and good


def _visit(client: httpx.Client, base_url: str, stop: _Stop) -> bool:
    body: dict[str, Any] = {"model": DEMO_MODEL, "messages": _PROMPT}
    if stop.vetted is not None:
        body["vetted"] = stop.vetted
    if stop.stream:
        body["stream"] = True
    print(f"   POST {base_url}/chat/completions  {msgspec.json.encode(stop.vetted or {}).decode()}")
    if stop.stream:
        return _show_stream(client, base_url, body)
    answer = client.post(f"{base_url}/chat/completions", json=body)
    told = answer.json()
    print(f"   HTTP {answer.status_code}")
    if "error" in told:
        print(f"   error    {told['error']['code']}: {told['error']['message']}")
    else:
        print(f"   text     {told['choices'][0]['message']['content']}")
    _show_members(told)
    return answer.status_code == stop.expect and "routing_trace" in told


def _show_stream(client: httpx.Client, base_url: str, body: dict[str, Any]) -> bool:
    last: dict[str, Any] = {}
    print("   text     ", end="")
    with client.stream("POST", f"{base_url}/chat/completions", json=body) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                chunk = msgspec.json.decode(line[6:])
                last = chunk if "receipt" in chunk else last
                print("".join(choice["delta"].get("content") or "" for choice in chunk["choices"]), end="", flush=True)
    print()
    _show_members(last)
    return "receipt" in last and "routing_trace" in last


def _show_members(told: dict[str, Any]) -> None:
    trace = told.get("routing_trace")
    if trace is not None:
        print(f"   region   {trace['region']}")
        print(f"   decision {trace['route_policy']} / {trace['decision_mode']} / {trace['decision_reason']}")
        signal = trace["operational_signal"]
        if signal is not None:
            print(f"   signal   {signal['gco2_per_kwh']} g/kWh, {signal['source']}, {signal['age_minutes']} min old")
        for row in trace.get("candidates", []):
            print(f"            {row['region']:<16} {row['gco2_per_kwh']} g/kWh  {row['rejected'] or 'eligible'}")
    receipt = told.get("receipt")
    if receipt is not None:
        print("   receipt  " + "\n            ".join(f"{name:<28} {receipt[name]}" for name in _RECEIPT_SHOWN))


def _visit_with_sdk(base_url: str) -> bool:
    try:
        from openai import OpenAI  # noqa: PLC0415 (scripts/demo brings it; `vetted-mw demo` works without)
    except ImportError:
        print("   the openai package is not installed; skipped")
        return True
    with (
        httpx.Client(trust_env=False, timeout=30.0) as transport,
        # openai names httpx2 in its types and takes httpx as well
        OpenAI(base_url=base_url, api_key="-", http_client=transport) as client,  # type: ignore[arg-type]
    ):
        answer = client.chat.completions.create(
            model=DEMO_MODEL,
            messages=[{"role": "user", "content": "Where does this run?"}],
            extra_body={"vetted": {"routing": "carbon_aware"}},
        )
    extra = answer.model_extra or {}
    print(f"   text     {answer.choices[0].message.content}")
    print(f"   answer.receipt['gco2e'] = {extra['receipt']['gco2e']}")
    print(f"   answer.routing_trace['region'] = {extra['routing_trace']['region']!r}")
    return bool(extra["receipt"]["issuer"] == "demo")
