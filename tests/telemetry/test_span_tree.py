"""Which spans a request makes, how they hang together, when they end and how."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode
from starlette.responses import JSONResponse, StreamingResponse

from support import configured, proxied, unused_port
from telemetry.spans import GRAVELINES, KNOWN, PARIS, SERVER, asked, told, upstream
from vetted_mw import Gateway, VettedMiddleware
from vetted_mw.testing import FakeAnswer, FakeUpstream, asgi_exchange, chat_frames

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from starlette.types import Message, Receive, Scope, Send

    from telemetry.spans import Spans

pytestmark = pytest.mark.anyio


def _parent(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


def _attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_is_one_chat_span_over_its_decision_and_its_attempt(spans: Spans, stream: bool) -> None:
    """The logical span is the parent of one route and one attempt span, and under the request's own; each ends once."""
    async with FakeUpstream() as paris, proxied({PARIS: upstream(paris.base_url)}) as app:
        await asgi_exchange(app, json=asked(stream=stream))
    assert spans.names == ["vetted.route", "vetted.attempt", f"chat {KNOWN}", SERVER]
    chat = spans.chat()
    assert spans.server().parent is None
    assert chat.parent == spans.server().context
    assert [_parent(span) for span in spans.all[:2]] == [chat.context.span_id] * 2
    assert {span.context.trace_id for span in spans.all} == {chat.context.trace_id}
    assert [span.kind for span in spans.all] == [SpanKind.INTERNAL, SpanKind.CLIENT, SpanKind.CLIENT, SpanKind.SERVER]
    assert {span.status.status_code for span in spans.all} == {StatusCode.UNSET}
    assert all(not span.status.description for span in spans.all)


async def test_the_spans_are_ours_by_name_and_schema(spans: Spans) -> None:
    """Dashboards can tell our spans by their scope, and readers by the schema that names their attributes."""
    async with FakeUpstream() as paris, proxied({PARIS: upstream(paris.base_url)}) as app:
        await asgi_exchange(app, json=asked())
    scopes = {
        (span.instrumentation_scope.name, span.instrumentation_scope.schema_url)
        for span in spans.all
        if span.instrumentation_scope
    }
    assert scopes == {("vetted_mw", "https://opentelemetry.io/schemas/1.41.0")}


async def test_a_failover_has_one_attempt_span_per_try(spans: Spans) -> None:
    """The failed try is an error with its outcome and status, the serving one is none, and both are numbered."""
    async with FakeUpstream() as paris, FakeUpstream() as gravelines:
        paris.then(FakeAnswer.json({"error": {"message": "broken"}}, status=500))
        urls = {PARIS: upstream(paris.base_url), GRAVELINES: upstream(gravelines.base_url)}
        async with proxied(urls) as app:
            await asgi_exchange(app, json=asked())
    first, second = (_attributes(span) for span in spans.attempts())
    assert [span.status.status_code for span in spans.attempts()] == [StatusCode.ERROR, StatusCode.UNSET]
    assert (first["vetted.region"], second["vetted.region"]) == (PARIS, GRAVELINES)
    assert (first["vetted.attempt.index"], second["vetted.attempt.index"]) == (0, 1)
    assert (first["error.type"], first["http.response.status_code"]) == ("upstream_error", 500)
    assert (second.get("error.type"), second["http.response.status_code"]) == (None, 200)
    chat = _attributes(spans.chat())
    assert (chat["vetted.attempt_count"], chat["vetted.failover"]) == (2, True)
    assert (chat["vetted.region"], chat["cloud.region"]) == (GRAVELINES, "gra-1")
    assert chat["server.port"] == second["server.port"] != first["server.port"]
    assert spans.chat().status.status_code is StatusCode.UNSET


async def test_a_try_that_never_connected_says_so(spans: Spans) -> None:
    """A refused connection is an error of its own kind, without a status."""
    async with FakeUpstream() as gravelines:
        urls = {PARIS: upstream(f"http://127.0.0.1:{unused_port()}/v1"), GRAVELINES: upstream(gravelines.base_url)}
        async with proxied(urls) as app:
            await asgi_exchange(app, json=asked())
    refused = _attributes(spans.attempts()[0])
    assert refused["error.type"] == "connect_error"
    assert "http.response.status_code" not in refused


async def test_a_stream_is_spanned_to_its_end_and_not_only_to_its_headers(spans: Spans) -> None:
    """When the answer starts neither attempt nor chat has ended; both have when the request is over."""
    ended_at_start: list[str] = []

    async def app_sent(scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                ended_at_start.extend(spans.names)
            await send(message)

        await app(scope, receive, sent)

    async with FakeUpstream() as paris, proxied({PARIS: upstream(paris.base_url)}) as app:
        await asgi_exchange(app_sent, json=asked(stream=True))
    assert ended_at_start == ["vetted.route"]
    assert len(spans.all) == 4


async def test_our_spans_are_never_current_for_anyone_else(spans: Spans) -> None:
    """Whoever takes the answer, and whoever comes after it, finds the span that was current before."""
    current: list[Any] = []

    async def app_sent(scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            current.append(trace.get_current_span())
            await send(message)

        await app(scope, receive, sent)

    before = trace.get_current_span()
    async with FakeUpstream() as paris, proxied({PARIS: upstream(paris.base_url)}) as app:
        await asgi_exchange(app_sent, json=asked(stream=True))
    assert len(current) > 2
    assert {id(span) for span in [*current, trace.get_current_span()]} == {id(before)}


async def test_the_hosts_own_span_is_the_parent(spans: Spans, provider: TracerProvider) -> None:
    """Inside a host's instrumentation our spans hang under its current span, whatever the caller's header says."""
    with provider.get_tracer("host").start_as_current_span("POST /v1/chat/completions") as server:
        async with FakeUpstream() as paris, proxied({PARIS: upstream(paris.base_url)}) as app:
            await asgi_exchange(app, json=asked(), headers=[("traceparent", f"00-{'a' * 32}-{'b' * 16}-01")])
    assert [span.context.span_id for span in spans.named(SERVER)] == [server.get_span_context().span_id]
    assert _parent(spans.chat()) == server.get_span_context().span_id
    assert spans.chat().context.trace_id == server.get_span_context().trace_id


async def test_a_request_without_a_region_is_an_error_span(spans: Spans) -> None:
    """A decision that finds nothing marks route and chat as errors by closed words, and there is no attempt."""
    async with FakeUpstream() as paris, proxied({PARIS: upstream(paris.base_url)}) as app:
        exchange = await asgi_exchange(app, json=asked(vetted={"region": GRAVELINES}))
    assert exchange.status == 503
    assert spans.names == ["vetted.route", f"chat {KNOWN}", SERVER]
    assert [span.status.status_code for span in spans.all] == [StatusCode.ERROR] * 3
    assert _attributes(spans.server())["error.type"] == "service_unavailable"
    assert _attributes(spans.route())["error.type"] == "no_region_available"
    assert "vetted.region" not in _attributes(spans.route())
    chat = _attributes(spans.chat())
    assert (chat["error.type"], chat["vetted.attempt_count"]) == ("service_unavailable", 0)
    assert (chat["vetted.failover"], chat["vetted.receipt.placement"]) == (False, "none")


async def test_a_callers_own_fault_is_told_by_its_status(spans: Spans) -> None:
    """An upstream's 4xx about the request is the caller's error: the chat span has the status, the attempt the outcome."""
    async with FakeUpstream() as paris, proxied({PARIS: upstream(paris.base_url)}) as app:
        paris.then(FakeAnswer.json({"error": {"message": "too long"}}, status=422))
        await asgi_exchange(app, json=asked())
    (attempt,) = spans.attempts()
    assert (_attributes(attempt)["error.type"], _attributes(attempt)["http.response.status_code"]) == (
        "caller_error",
        422,
    )
    assert attempt.status.status_code is spans.chat().status.status_code is StatusCode.ERROR
    assert _attributes(spans.chat())["error.type"] == "422"


@pytest.mark.parametrize(
    ("ending", "outcome", "attempt_error", "chat_error"),
    [
        ("cut", "upstream_cut", "upstream_cut", "upstream_stream_cut"),
        ("stall", "idle_timeout", "idle_timeout", "upstream_timeout"),
    ],
)
async def test_a_stream_that_broke_is_an_error_with_its_own_word(
    spans: Spans, ending: str, outcome: str, attempt_error: str, chat_error: str
) -> None:
    """A cut or stalled stream is an error of attempt and request, and the stream's outcome says which."""
    frames = chat_frames(words=("Hel", "lo"))[:3]
    async with FakeUpstream() as paris:
        paris.then(FakeAnswer.stream(frames, ending=ending))
        async with proxied({PARIS: upstream(paris.base_url)}, limits={"idle_seconds": 0.2}) as app:
            await asgi_exchange(app, json=asked(stream=True))
    (attempt,) = spans.attempts()
    assert attempt.status.status_code is spans.chat().status.status_code is StatusCode.ERROR
    assert _attributes(attempt)["error.type"] == attempt_error
    chat = _attributes(spans.chat())
    assert (chat["error.type"], chat["vetted.stream.outcome"]) == (chat_error, outcome)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_caller_who_leaves_is_no_error(spans: Spans, stream: bool) -> None:
    """When the caller goes away the spans end, unset, and a stream's outcome says who left."""
    under_way = asyncio.Event()
    first = True

    async def receive() -> Message:
        nonlocal first
        if first:
            first = False
            return {"type": "http.request", "body": body, "more_body": False}
        await under_way.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            under_way.set()

    body = msgspec.json.encode(asked(stream=stream))
    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": "/v1/chat/completions",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
        "client": ("127.0.0.1", 1),
    }
    async with FakeUpstream() as paris, asyncio.timeout(20):
        answer = FakeAnswer.stream(chat_frames()[:2], ending="stall")
        paris.then(answer if stream else FakeAnswer(delay=60))
        async with proxied({PARIS: upstream(paris.base_url)}) as app:
            serving = asyncio.ensure_future(app(scope, receive, send))
            while not paris.requests:
                await asyncio.wait({serving}, timeout=0.01)  # until the request has arrived there
            if not stream:
                under_way.set()
            await serving
    assert spans.names == ["vetted.route", "vetted.attempt", f"chat {KNOWN}", SERVER]
    assert {span.status.status_code for span in spans.all} == {StatusCode.UNSET}
    assert all("error.type" not in _attributes(span) for span in spans.all)
    assert _attributes(spans.chat()).get("vetted.stream.outcome") == ("client_disconnect" if stream else None)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_handlers_calls_have_a_chat_span_each(
    spans: Spans, provider: TracerProvider, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """In in-app mode each call of the handler is one logical span under the handler's current span, ended once."""
    async with FakeUpstream() as paris, Gateway(configured({PARIS: upstream(paris.base_url)})) as gateway:

        async def handler(scope: Scope, receive: Receive, send: Send) -> None:
            with provider.get_tracer("host").start_as_current_span("handler"):
                for _ in range(2):
                    call = gateway.http_client.build_request(
                        "POST", "http://vetted/v1/chat/completions", json=asked(stream=stream)
                    )
                    answer = await gateway.http_client.send(call, stream=True)
                    parts = [await answer.aread()]
                    await answer.aclose()
            response = StreamingResponse(_again(parts), media_type="text/event-stream") if stream else None
            await (response or JSONResponse({"choices": []}))(scope, receive, send)

        app = VettedMiddleware(handler, gateway=gateway, mode="in_app")
        exchange = await asgi_exchange(app, json=asked(stream=stream))
    assert told(exchange)["receipt"]["calls"] == 2
    (handler_span,) = spans.named("handler")
    chats = spans.named(f"chat {KNOWN}")
    assert [_parent(chat) for chat in chats] == [handler_span.context.span_id] * 2
    assert [_parent(attempt) for attempt in spans.attempts()] == [chat.context.span_id for chat in chats]
    assert len(spans.all) == 7  # request, handler, per call chat and attempt, and the one decision
    assert "ended span" not in caplog.text  # what an SDK says of a second end


async def _again(parts: list[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
