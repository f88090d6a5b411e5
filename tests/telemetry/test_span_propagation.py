"""What upstreams learn of the trace: `traceparent`, and never anybody's baggage."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import format_span_id, format_trace_id

from support import configured, proxied
from telemetry.spans import GRAVELINES, PARIS, asked, upstream
from vetted_mw import Gateway, VettedProxy
from vetted_mw.proxy.own.transport import OwnTransport
from vetted_mw.testing import FakeAnswer, FakeUpstream, asgi_exchange

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider

    from telemetry.spans import Spans
    from vetted_mw.configuration import Upstream
    from vetted_mw.proxy.own.answer import Answer
    from vetted_mw.proxy.transport import UpstreamRequest
    from vetted_mw.testing import RecordedRequest

pytestmark = pytest.mark.anyio

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
INBOUND = [
    ("traceparent", f"00-{TRACE}-{SPAN}-01"),
    ("tracestate", "vendor=kept"),
    ("baggage", "user.email=canary%40example.eu"),
    ("b3", f"{TRACE}-{SPAN}-1"),
    ("x-b3-traceid", TRACE),
]


def _traceparent(request: RecordedRequest) -> tuple[str, str, str]:
    """Return trace id, parent id and flags of the one `traceparent` that arrived."""
    (value,) = [value for name, value in request.headers if name == "traceparent"]
    found = re.fullmatch(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})", value)
    assert found is not None
    return found[1], found[2], found[3]


def _ids(span: ReadableSpan) -> tuple[str, str]:
    return format_trace_id(span.context.trace_id), format_span_id(span.context.span_id)


async def test_each_upstream_gets_the_span_of_its_own_attempt(spans: Spans) -> None:
    """The server of every try can hang its spans under that try's span, sampled as it is."""
    async with FakeUpstream() as paris, FakeUpstream() as gravelines:
        paris.then(FakeAnswer.json({"error": {"message": "broken"}}, status=500))
        urls = {PARIS: upstream(paris.base_url), GRAVELINES: upstream(gravelines.base_url)}
        async with proxied(urls) as app:
            await asgi_exchange(app, json=asked())
    got = [_traceparent(request) for request in (*paris.requests, *gravelines.requests)]
    assert [parent[:2] for parent in got] == [_ids(attempt) for attempt in spans.attempts()]
    assert all(int(flags, 16) & 1 for _trace, _span, flags in got)


@pytest.mark.parametrize("stream", [False, True])
async def test_the_callers_trace_goes_on_and_its_baggage_stays_here(spans: Spans, stream: bool) -> None:
    """Without a host's span the caller's trace is continued; its state is kept, its baggage and B3 are not passed on."""
    async with FakeUpstream() as paris, proxied({PARIS: upstream(paris.base_url)}) as app:
        await asgi_exchange(app, json=asked(stream=stream), headers=INBOUND)
    (request,) = paris.requests
    assert _traceparent(request)[0] == TRACE
    server = spans.server()
    assert server.parent is not None
    assert format_span_id(server.parent.span_id) == SPAN
    assert spans.chat().parent == server.context
    assert request.header("tracestate") == "vendor=kept"
    assert [name for name, _value in request.headers if name in {"baggage", "b3", "x-b3-traceid"}] == []
    assert "canary" not in str(request.headers)


async def test_the_hosts_baggage_stays_here_too(spans: Spans) -> None:
    """Baggage of the host's own context never reaches a provider, though its trace does."""
    token = context.attach(baggage.set_baggage("user.email", "canary"))
    try:
        async with FakeUpstream() as paris, proxied({PARIS: upstream(paris.base_url)}) as app:
            await asgi_exchange(app, json=asked())
    finally:
        context.detach(token)
    assert "canary" not in str(paris.requests[0].headers)
    assert _traceparent(paris.requests[0])[1] == _ids(spans.attempts()[0])[1]


async def test_propagation_can_be_turned_off(spans: Spans) -> None:
    """With `propagate = "off"` no upstream learns anything of the trace, the caller's own included."""
    async with (
        FakeUpstream() as paris,
        proxied({PARIS: upstream(paris.base_url)}, telemetry={"propagate": "off"}) as app,
    ):
        await asgi_exchange(app, json=asked(), headers=INBOUND)
    assert [name for name, _value in paris.requests[0].headers if name.startswith(("trace", "b3", "baggage"))] == []
    assert len(spans.attempts()) == 1


@pytest.mark.parametrize("header", ["", "nonsense", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{SPAN}", "00-é-1-1"])
async def test_a_malformed_parent_costs_the_parent_only(spans: Spans, header: str) -> None:
    """A caller's broken `traceparent` is dropped, and a trace of our own begins."""
    async with FakeUpstream() as paris, proxied({PARIS: upstream(paris.base_url)}) as app:
        exchange = await asgi_exchange(app, json=asked(), headers=[("traceparent", header), ("tracestate", "=,é=")])
    assert exchange.status == 200
    assert spans.server().parent is None
    assert _traceparent(paris.requests[0])[:2] == _ids(spans.attempts()[0])


async def test_without_an_sdk_the_callers_trace_passes_through() -> None:
    """Where nobody records, the caller's own span stays the parent of whatever the upstream records."""
    async with FakeUpstream() as paris, proxied({PARIS: upstream(paris.base_url)}) as app:
        await asgi_exchange(app, json=asked(), headers=INBOUND)
        await asgi_exchange(app, json=asked())
    traced, bare = paris.requests
    assert _traceparent(traced) == (TRACE, SPAN, "01")
    assert [name for name, _value in bare.headers if name.startswith(("trace", "baggage"))] == []


async def test_what_is_not_sampled_is_passed_on_as_not_sampled(spans: Spans, provider: TracerProvider) -> None:
    """A trace that is sampled out records nothing here and says so to the upstream."""
    provider.sampler = ALWAYS_OFF
    async with FakeUpstream() as paris, proxied({PARIS: upstream(paris.base_url)}) as app:
        exchange = await asgi_exchange(app, json=asked())
    assert exchange.json()["receipt"] is not None
    assert spans.names == []
    assert int(_traceparent(paris.requests[0])[2], 16) & 1 == 0


async def test_a_clients_own_instrumentation_nests_under_the_attempt(spans: Spans) -> None:
    """While the request is sent its attempt's span is current, and no longer when the answer is read."""
    current: list[tuple[str, Any]] = []

    class Door(OwnTransport):
        async def send(self, request: UpstreamRequest) -> Answer:
            current.append(("send", trace.get_current_span().get_span_context()))
            return await super().send(request)

    def door(upstream: Upstream) -> Door:
        return Door(upstream)

    async with FakeUpstream() as paris:
        configuration = configured({PARIS: {"base_url": paris.base_url, "health_path": ""}})
        async with Gateway(configuration, transport=door) as gateway:
            await asgi_exchange(VettedProxy(gateway), json=asked(stream=True))
    assert [(kind, span.span_id) for kind, span in current] == [("send", spans.attempts()[0].context.span_id)]
    assert not trace.get_current_span().get_span_context().is_valid
