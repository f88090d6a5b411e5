"""Next to the contrib instrumentations: one trace per request, ours inside the host's, whichever the framework."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import FastAPI, Request, Response
from opentelemetry import propagate
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.trace import format_span_id
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.responses import JSONResponse

from frameworks.hosts import HOSTS, PATH, Reply, Spec
from frameworks.place import until
from support import configured
from telemetry.recorded import Recorded
from telemetry.spans import GRAVELINES, KNOWN, PARIS, asked, upstream
from vetted_mw import Gateway, VettedMiddleware, VettedProxy
from vetted_mw.testing import FakeAnswer, FakeUpstream, asgi_exchange, chat_frames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.types import ASGIApp, Receive, Scope, Send

    from frameworks.hosts import Answer

pytestmark = pytest.mark.anyio

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
FROM_CALLER = [("traceparent", f"00-{TRACE}-{CALLER}-01"), ("baggage", "user.email=canary")]
QUIET: Any = ["send", "receive"]
INSIDE = [f"  CLIENT chat {KNOWN}", "    INTERNAL vetted.route", "    CLIENT vetted.attempt"]


def gateway_over(recorded: Recorded, *upstreams: FakeUpstream, **facts: Any) -> Gateway:
    """Return a gateway over one upstream or two that tells the test's SDK."""
    regions = {
        code: upstream(server.base_url, **facts) for code, server in zip((PARIS, GRAVELINES), upstreams, strict=False)
    }
    return Gateway(configured(regions, transport="httpx"), **recorded.providers)


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    """Return an SDK in memory."""
    made = Recorded()
    yield made
    made.shutdown()


@pytest.fixture
def traced_httpx(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Instrument httpx as an application does, for the test's duration."""
    monkeypatch.setenv("OTEL_PYTHON_HTTPX_EXCLUDED_URLS", "/health$,/metrics$")
    HTTPXClientInstrumentor().instrument(**recorded.providers)
    yield
    HTTPXClientInstrumentor().uninstrument()


# ---- the recipes of docs/observability.md, given the test's SDK in place of the global one


def by_fastapi(app: Any, recorded: Recorded, exclude_spans: Any = QUIET) -> ASGIApp:
    """Instrument a FastAPI app by its own instrumentation."""
    FastAPIInstrumentor.instrument_app(app, exclude_spans=exclude_spans, **recorded.providers)
    instrumented: ASGIApp = app
    return instrumented


def by_starlette(app: Any, recorded: Recorded, exclude_spans: Any = QUIET) -> ASGIApp:
    """Instrument a Starlette app by a middleware outside all others."""
    app.add_middleware(OpenTelemetryMiddleware, exclude_spans=exclude_spans, **recorded.providers)
    instrumented: ASGIApp = app
    return instrumented


def by_asgi(app: Any, recorded: Recorded, exclude_spans: Any = QUIET) -> ASGIApp:
    """Instrument any app from outside, as Litestar's plugin does too."""
    instrumented: Any = OpenTelemetryMiddleware(app, exclude_spans=exclude_spans, **recorded.providers)
    wrapped: ASGIApp = instrumented
    return wrapped


INSTRUMENTED: dict[str, tuple[str, Callable[..., ASGIApp]]] = {
    "fastapi": ("fastapi", by_fastapi),
    "starlette": ("asgi", by_starlette),
    "litestar": ("asgi", by_asgi),
}
"""Framework -> the scope of its SERVER span, and how the framework's apps are instrumented."""


def calling(gateway: Gateway, *, stream: bool) -> Answer:
    """Return a handler that makes one call through the gateway and answers what it got."""

    async def answer(body: bytes) -> Reply:
        response = await gateway.http_client.post("http://vetted/v1/chat/completions", content=body)
        return Reply(content=response.content, media_type="text/event-stream" if stream else "application/json")

    return answer


async def exchanged(app: ASGIApp, *, stream: bool) -> None:
    """Ask for one completion, as a caller with a trace of its own."""
    exchange = await asgi_exchange(app, json=asked(stream=stream), headers=FROM_CALLER)
    assert exchange.status == 200
    assert b"routing_trace" in exchange.body


@pytest.mark.parametrize("stream", [False, True], ids=["json", "sse"])
@pytest.mark.parametrize("mode", ["forward", "in_app"])
@pytest.mark.parametrize("host", INSTRUMENTED)
async def test_our_spans_hang_under_the_hosts_server_span(
    recorded: Recorded, host: str, mode: Any, stream: bool
) -> None:
    """In every framework a request is one trace: the caller's, the host's SERVER span, ours, and no second SERVER span."""
    scope, instrument = INSTRUMENTED[host]
    async with FakeUpstream() as paris, gateway_over(recorded, paris) as gateway:
        spec = Spec(gateway=gateway, answer=calling(gateway, stream=stream), mode=mode, lifespan=False)
        await exchanged(instrument(HOSTS[host][0](spec), recorded), stream=stream)
    assert recorded.tree == [f"SERVER {scope}", *INSIDE]
    (server,) = [span for span in recorded.spans.all if span.kind.name == "SERVER"]
    assert server.parent is not None
    assert format_span_id(server.parent.span_id) == CALLER
    assert (server.end_time or 0) >= (recorded.spans.chat().end_time or 0), "ours ends within the host's"


@pytest.mark.parametrize("host", INSTRUMENTED)
async def test_a_long_stream_makes_as_many_spans_as_a_short_one(recorded: Recorded, host: str) -> None:
    """With `exclude_spans` a stream's length does not show in the number of spans; without, each message has its own."""
    scope, instrument = INSTRUMENTED[host]
    built, words = HOSTS[host][0], [f"w{number}" for number in range(40)]

    async def made(exclude_spans: Any) -> list[str]:
        before = len(recorded.spans.all)
        async with FakeUpstream() as paris, gateway_over(recorded, paris) as gateway:
            paris.then(FakeAnswer.stream(chat_frames(words=words)))
            spec = Spec(gateway=gateway, answer=calling(gateway, stream=True), mode="forward", lifespan=False)
            await exchanged(instrument(built(spec), recorded, exclude_spans), stream=True)
        return recorded.spans.names[before:]

    assert len(await made(QUIET)) == 1 + len(INSIDE)
    assert recorded.tree == [f"SERVER {scope}", *INSIDE]
    assert len([name for name in await made(None) if name.endswith("http send")]) > len(words)


@pytest.mark.usefixtures("traced_httpx")
@pytest.mark.parametrize("stream", [False, True], ids=["json", "sse"])
async def test_the_httpx_span_of_each_try_hangs_under_that_try(recorded: Recorded, stream: bool) -> None:
    """With httpx instrumented each attempt has the client's own span inside, which is what its upstream continues."""
    async with (
        FakeUpstream() as paris,
        FakeUpstream() as gravelines,
        gateway_over(recorded, paris, gravelines) as gateway,
    ):
        paris.then(FakeAnswer.json({"error": {"message": "broken"}}, status=500))
        await exchanged(by_asgi(VettedProxy(gateway), recorded), stream=stream)
    tried = ["    CLIENT vetted.attempt", "      CLIENT httpx"]
    assert recorded.tree == ["SERVER asgi", *INSIDE[:2], *tried, *tried]
    got = [request.header("traceparent") for request in (*paris.requests, *gravelines.requests)]
    sent = [span for span in recorded.spans.named("POST") if span.kind.name == "CLIENT"]
    assert [str(value).split("-")[2] for value in got] == [format_span_id(span.context.span_id) for span in sent]


@pytest.mark.usefixtures("traced_httpx")
@pytest.mark.parametrize("only_trace_context", [False, True], ids=["default", "tracecontext"])
async def test_instrumented_httpx_sends_baggage_unless_told_otherwise(
    recorded: Recorded, only_trace_context: bool
) -> None:
    """The one leak we cannot close: httpx's instrumentation sends the caller's baggage, and a propagator stops it."""
    before = propagate.get_global_textmap()
    if only_trace_context:
        propagate.set_global_textmap(TraceContextTextMapPropagator())
    try:
        async with FakeUpstream() as paris, gateway_over(recorded, paris) as gateway:
            await exchanged(by_asgi(VettedProxy(gateway), recorded), stream=False)
    finally:
        propagate.set_global_textmap(before)
    (request,) = paris.requests
    assert request.header("baggage") == (None if only_trace_context else "user.email=canary")
    assert str(request.header("traceparent")).split("-")[1] == TRACE


@pytest.mark.usefixtures("traced_httpx")
async def test_probes_make_no_traces_when_their_paths_are_excluded(recorded: Recorded) -> None:
    """`OTEL_PYTHON_HTTPX_EXCLUDED_URLS` keeps the health probes, which have no parent, out of the traces."""
    async with FakeUpstream() as paris, gateway_over(recorded, paris, health_path="/health") as gateway:
        await until(lambda: [request.path for request in paris.others].count("/health") > 0)
        await exchanged(by_asgi(VettedProxy(gateway), recorded), stream=False)
    assert recorded.tree == ["SERVER asgi", *INSIDE, "      CLIENT httpx"]


@pytest.mark.parametrize("stream", [False, True], ids=["json", "sse"])
@pytest.mark.parametrize("mode", ["forward", "in_app"])
async def test_our_spans_hang_under_fastapis_own(recorded: Recorded, mode: Any, stream: bool) -> None:
    """FastAPI's own telemetry holds ours: in its SERVER span, and an in-app handler's call in the span of that handler."""
    async with FakeUpstream() as paris, gateway_over(recorded, paris) as gateway:
        answer = calling(gateway, stream=stream)
        app = FastAPI(telemetry={"tracer_provider": recorded.tracers, "meter_provider": recorded.meters})
        app.add_middleware(VettedMiddleware, gateway=gateway, mode=mode)

        @app.post(PATH)
        async def chat(request: Request) -> Response:
            reply = await answer(await request.body())
            return Response(reply.content, media_type=reply.media_type)

        await exchanged(app, stream=stream)
    ours = [line.strip() for line in INSIDE]
    assert [line.strip() for line in recorded.tree if line.strip() in ours] == ours
    (server,) = [span for span in recorded.spans.all if span.kind.name == "SERVER"]
    holder = server if mode == "forward" else recorded.spans.named("fastapi.endpoint")[0]
    parent = recorded.spans.chat().parent
    assert parent is not None
    assert parent.span_id == holder.context.span_id


@pytest.mark.parametrize("mode", ["forward", "in_app"])
async def test_an_instrumentation_inside_ours_is_still_one_trace(recorded: Recorded, mode: Any) -> None:
    """In the wrong order there is a SERVER span of ours; a handler's call is then in the host's, beside it in one trace."""

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        await gateway.http_client.post("http://vetted/v1/chat/completions", json=asked())
        await JSONResponse({"choices": []})(scope, receive, send)

    async with FakeUpstream() as paris, gateway_over(recorded, paris) as gateway:
        app = VettedMiddleware(by_asgi(handler, recorded), gateway=gateway, mode=mode)
        await exchanged(app, stream=False)
    assert recorded.tree == [f"SERVER POST {PATH}", *(["SERVER asgi"] if mode == "in_app" else []), *INSIDE]
    assert {span.context.trace_id for span in recorded.spans.all} == {int(TRACE, 16)}


async def test_two_gateways_on_one_provider_are_counted_together(recorded: Recorded) -> None:
    """Attempts under way at a region of two gateways add up in its one series, and are gone when they are over."""

    def under_way() -> list[tuple[Any, Any]]:
        points = recorded.metrics["vetted.inflight"].data.data_points
        return [(dict(point.attributes or {}), getattr(point, "value", None)) for point in points]

    go_on = asyncio.Event()
    held = FakeAnswer(headers=(("content-length", "2"),), body=(go_on, b"{}"))
    async with (
        FakeUpstream() as one,
        FakeUpstream() as other,
        gateway_over(recorded, one) as first,
        gateway_over(recorded, other) as second,
    ):
        one.then(held)
        other.then(held)
        asking = [asyncio.ensure_future(asgi_exchange(VettedProxy(each), json=asked())) for each in (first, second)]
        await until(lambda: one.requests and other.requests)
        assert under_way() == [({"vetted.region": PARIS}, 2)]
        go_on.set()
        await asyncio.gather(*asking)
        assert under_way() == [({"vetted.region": PARIS}, 0)]
