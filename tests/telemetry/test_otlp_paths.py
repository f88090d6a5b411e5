"""A span's attributes and the answer's members are the same words at the same paths, walked from both sides."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from starlette.responses import Response

from telemetry.sites import Site, in_app, site
from telemetry.spans import GRAVELINES, KNOWN, PARIS, asked, at, upstream
from telemetry.test_span_attributes import RECEIPT, SIGNAL
from vetted_mw.testing import FakeAnswer, FakeUpstream, ManualClock, StaticSignals

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from starlette.types import ASGIApp, Receive, Scope, Send

    from telemetry.otlp import ReceivedSpan
    from telemetry.sites import Answer
    from vetted_mw import Gateway

pytestmark = pytest.mark.anyio

BROKEN = FakeAnswer.json({"error": {"message": "broken"}}, status=500)
both = pytest.mark.parametrize("stream", [False, True], ids=["json", "sse"])
keyed = pytest.mark.parametrize("key", ["receipt", "climate"])

ON_SPANS = {
    *(f"receipt.{name}" for name in RECEIPT),
    *(f"routing_trace.{name}" for name in ("route_policy", "decision_mode", "decision_reason")),
    *(f"routing_trace.{signal}.{name}" for signal in ("operational_signal", "receipt_signal") for name in SIGNAL),
}
"""The members that the contract wants on the `chat` span, by their path in the answer."""


def leaves(member: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield path and value of every leaf; lists and nulls are none: spans have neither."""
    if isinstance(member, dict):
        for name, inner in member.items():
            yield from leaves(inner, f"{path}.{name}")
    elif member is not None and not isinstance(member, list):
        yield path, member


def members(told: Answer, key: str) -> dict[str, Any]:
    """Return receipt and trace of an answer of either kind, the receipt under the name that the contract gives it."""
    if told.headers["content-type"].startswith("application/json"):
        body = told.json()
    else:
        frames = [frame.removeprefix(b"data: ") for frame in told.body.split(b"\n\n")]
        decoded = [json.loads(frame) for frame in frames if frame.startswith(b"{")]
        (body,) = [frame for frame in decoded if "routing_trace" in frame]
    assert set(body) & {"receipt", "climate"} <= {key}
    return {"receipt": body.get(key), "routing_trace": body["routing_trace"]}


def assert_the_same(span: ReceivedSpan, told: Mapping[str, Any]) -> None:
    """Walk from the span to the answer and back.

    Raises:
        AssertionError: an attribute is no member or has another value, or a member of the contract is no attribute.
    """
    attributes = {
        name.removeprefix("vetted."): value
        for name, value in span.attributes.items()
        if name.startswith(("vetted.receipt.", "vetted.routing_trace.")) and name != "vetted.receipt.placement"
    }
    assert attributes == {path: at(told, path) for path in attributes}
    found = {path: value for name in told for path, value in leaves(told[name], name) if path in ON_SPANS}
    assert found == attributes


async def chat_of(place: Site) -> ReceivedSpan:
    """Return the one `chat` span that was exported."""
    await place.tree()
    (span,) = [span for span in place.sdk.receiver.spans if span.name.startswith("chat ")]
    return span


@keyed
@both
async def test_a_live_decision_reads_the_same_on_both_sides(stream: bool, key: str) -> None:
    """Every member of the contract has a value here, so every attribute is compared."""
    clock = ManualClock()
    signals = StaticSignals({"FR": 21.5, "IS": 28.0}, now=clock.now, age_minutes=30, name="live")
    options = {"now": clock.now, "monotonic": clock.monotonic, "signals": [signals]}
    async with FakeUpstream(model=KNOWN) as paris, FakeUpstream(model=KNOWN) as iceland:
        urls = {PARIS: upstream(paris.base_url), "atnorth-isl-1": upstream(iceland.base_url)}
        async with site(urls, options=options, receipt_key=key) as place:
            told = await place.ask(asked(stream=stream, vetted={"routing": "carbon_aware"}))
            span = await chat_of(place)
    assert_the_same(span, members(told, key))
    assert {f"vetted.{path}" for path in ON_SPANS} <= set(span.attributes)


@keyed
@both
async def test_an_annual_figure_reads_the_same_on_both_sides(stream: bool, key: str) -> None:
    """Without a live signal both sides say what was used in its place, and neither says what there is not."""
    async with FakeUpstream(model=KNOWN) as paris, site({PARIS: upstream(paris.base_url)}, receipt_key=key) as place:
        told = await place.ask(asked(stream=stream))
        assert_the_same(await chat_of(place), members(told, key))


@keyed
@both
async def test_a_failover_reads_the_same_on_both_sides(stream: bool, key: str) -> None:
    """Both sides tell what finally happened, and of the region that served."""
    async with FakeUpstream() as paris, FakeUpstream(model=KNOWN) as gravelines:
        paris.then(BROKEN)
        urls = {PARIS: upstream(paris.base_url), GRAVELINES: upstream(gravelines.base_url)}
        async with site(urls, receipt_key=key) as place:
            told = await place.ask(asked(stream=stream))
            span = await chat_of(place)
    found = members(told, key)
    assert_the_same(span, found)
    assert span.attributes["vetted.region"] == found["routing_trace"]["region"] == GRAVELINES


@both
async def test_a_withheld_receipt_is_on_neither_side(stream: bool) -> None:
    """No figure is left on the span of an answer that has none."""
    async with FakeUpstream(model=KNOWN) as paris, site({PARIS: upstream(paris.base_url)}) as place:
        told = members(await place.ask(asked(stream=stream, vetted={"tier": "telemetry"})), "receipt")
        assert_the_same(await chat_of(place), told)
    assert told["receipt"] is None


@both
async def test_a_refusal_tells_its_trace_on_both_sides(stream: bool) -> None:
    """An error answer that carries a trace has the same words on its span."""
    async with FakeUpstream() as paris, site({PARIS: upstream(paris.base_url)}) as place:
        told = await place.ask(asked(stream=stream, vetted={"region": GRAVELINES}))
        assert_the_same(await chat_of(place), members(told, "receipt"))
    assert told.status == 503


@keyed
@both
async def test_a_handlers_call_reads_as_the_answer_it_is_told_in(stream: bool, key: str) -> None:
    """In in-app mode with one call the operation's span and the answer's members agree as well."""

    def relaying(gateway: Gateway) -> ASGIApp:
        async def handler(scope: Scope, receive: Receive, send: Send) -> None:
            url = "http://vetted/v1/chat/completions"
            called = await gateway.http_client.post(url, json=asked(stream=stream))
            kind = called.headers["content-type"]
            await Response(called.content, called.status_code, media_type=kind)(scope, receive, send)

        return handler

    async with FakeUpstream(model=KNOWN) as paris:
        urls = {PARIS: upstream(paris.base_url)}
        async with site(urls, app=in_app(relaying), receipt_key=key) as place:
            told = await place.ask(asked(stream=stream))
            assert_the_same(await chat_of(place), members(told, key))
