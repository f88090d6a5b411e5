"""The exact span tree of in-app mode: one operation per call of the handler, below the request's server span.

An operation ends with its call's answer; the receipt is made of all calls when the handler has answered, so that no
operation carries one.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from starlette.responses import JSONResponse, StreamingResponse

from streams.wall import content, role, until
from telemetry.sites import in_app, site
from telemetry.spans import GRAVELINES, PARIS, asked, upstream
from telemetry.trees import drawn
from vetted_mw.testing import FakeAnswer, FakeUpstream, chat_completion

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from opentelemetry.trace import Tracer
    from starlette.types import ASGIApp, Receive, Scope, Send

    from vetted_mw import Gateway

pytestmark = pytest.mark.anyio

both = pytest.mark.parametrize("stream", [False, True], ids=["json", "sse"])
BROKEN = FakeAnswer.json({"error": {"message": "broken"}}, status=500)


def calling(*, stream: bool = False, calls: int = 1, raises: bool = False) -> Callable[[Gateway], ASGIApp]:
    """Return a handler that makes its calls one after the other and hands on the last answer, or raises then."""

    def made(gateway: Gateway) -> ASGIApp:
        async def handler(scope: Scope, receive: Receive, send: Send) -> None:
            for _ in range(calls - 1):
                await gateway.http_client.post("http://vetted/v1/chat/completions", json=asked())
            call = gateway.http_client.build_request(
                "POST", "http://vetted/v1/chat/completions", json=asked(stream=stream)
            )
            answer = await gateway.http_client.send(call, stream=True)
            if raises:
                await answer.aread()
                raise LookupError("canary of a handler")
            if stream:
                relayed = StreamingResponse(_relayed(answer), media_type="text/event-stream")
                await relayed(scope, receive, send)
            else:
                await JSONResponse(json.loads(await answer.aread()), answer.status_code)(scope, receive, send)

        return handler

    return made


async def _relayed(answer: Any) -> AsyncIterator[bytes]:
    async for part in answer.aiter_bytes():
        yield part
    await answer.aclose()


JSON_TREE = drawn("""
    POST /v1/chat/completions SERVER UNSET status=200
      chat mistral-medium-3 CLIENT UNSET region=scaleway-par-1 attempts=1 receipt=none
        vetted.route INTERNAL UNSET region=scaleway-par-1
        vetted.attempt CLIENT UNSET status=200 region=scaleway-par-1
""")
SSE_TREE = drawn("""
    POST /v1/chat/completions SERVER UNSET status=200
      chat mistral-medium-3 CLIENT UNSET region=scaleway-par-1 attempts=1 outcome=completed receipt=none
        ! vetted.first_chunk
        vetted.route INTERNAL UNSET region=scaleway-par-1
        vetted.attempt CLIENT UNSET status=200 region=scaleway-par-1
""")


@pytest.mark.parametrize(("stream", "tree"), [(False, JSON_TREE), (True, SSE_TREE)], ids=["json", "sse"])
async def test_a_handlers_call_is_one_operation_below_the_request(stream: bool, tree: str) -> None:
    """The tree is that of forward mode: the operation begins at the call and ends with its answer."""
    async with FakeUpstream() as paris:
        handler = in_app(calling(stream=stream))
        async with site({PARIS: upstream(paris.base_url)}, app=handler) as place:
            assert (await place.ask(asked(stream=stream))).status == 200
            assert await place.tree() == tree


@pytest.mark.parametrize(("stream", "tree"), [(False, JSON_TREE), (True, SSE_TREE)], ids=["json", "sse"])
async def test_a_callers_trace_is_continued_through_its_handler(stream: bool, tree: str) -> None:
    """With a `traceparent` request and call are in the caller's trace, and the upstream gets the attempt as its parent."""
    trace, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    async with FakeUpstream() as paris:
        handler = in_app(calling(stream=stream))
        async with site({PARIS: upstream(paris.base_url)}, app=handler) as place:
            place.remote.append(span)
            await place.ask(asked(stream=stream), headers=[("traceparent", f"00-{trace}-{span}-01")])
            assert await place.tree() == tree
            spans = place.sdk.receiver.spans
    assert {one.trace_id for one in spans} == {trace}
    assert [one.parent_id for one in spans if one.kind == "SERVER"] == [span]
    (attempt,) = [one for one in spans if one.name == "vetted.attempt"]
    assert str(paris.requests[0].header("traceparent")).split("-")[1:3] == [trace, attempt.span_id]


async def test_two_calls_are_two_operations_below_one_request() -> None:
    """Each call has its own attempt, the first the one decision; tokens are told once per call."""
    async with FakeUpstream() as paris:
        handler = in_app(calling(calls=2))
        async with site({PARIS: upstream(paris.base_url)}, app=handler) as place:
            assert (await place.ask(asked())).json()["receipt"]["calls"] == 2
            tree = await place.tree()
            speaking = [
                span.name
                for span in place.sdk.receiver.spans
                if any(name.startswith("gen_ai.") for name in span.attributes)
            ]
    head, *operation = JSON_TREE.splitlines(keepends=True)
    again = [line for line in operation if "vetted.route" not in line]
    assert tree == "".join([head, *operation, *again])
    assert speaking == ["chat mistral-medium-3"] * 2


async def test_a_handler_that_calls_nobody_is_a_server_span_alone() -> None:
    """No call, no operation."""

    def silent(_gateway: Gateway) -> ASGIApp:
        async def handler(scope: Scope, receive: Receive, send: Send) -> None:
            await JSONResponse(json.loads(chat_completion()))(scope, receive, send)

        return handler

    async with FakeUpstream() as paris, site({PARIS: upstream(paris.base_url)}, app=in_app(silent)) as place:
        await place.ask(asked())
        assert await place.tree() == "POST /v1/chat/completions SERVER UNSET status=200\n"


async def test_a_call_fails_over_below_its_operation() -> None:
    """Attempts of a call are as those of a request."""
    async with FakeUpstream() as paris, FakeUpstream() as gravelines:
        paris.then(BROKEN)
        urls = {PARIS: upstream(paris.base_url), GRAVELINES: upstream(gravelines.base_url)}
        async with site(urls, app=in_app(calling())) as place:
            await place.ask(asked())
            tree = await place.tree()
    assert tree == drawn("""
        POST /v1/chat/completions SERVER UNSET status=200
          chat mistral-medium-3 CLIENT UNSET region=ovh-gra-1 attempts=2 receipt=none
            vetted.route INTERNAL UNSET region=scaleway-par-1
            vetted.attempt CLIENT ERROR error=upstream_error status=500 region=scaleway-par-1
            vetted.attempt CLIENT UNSET status=200 resend=1 region=ovh-gra-1
    """)


async def test_a_handler_that_raises_is_an_error_of_the_request_and_not_of_its_call() -> None:
    """What the exception says stays with the application: no description, no exception event."""
    async with FakeUpstream() as paris:
        handler = in_app(calling(raises=True))
        async with site({PARIS: upstream(paris.base_url)}, app=handler) as place:
            assert (await place.ask(asked())).status == 500
            tree = await place.tree()
            assert b"canary" not in place.sdk.receiver.raw
    assert tree == drawn("""
        POST /v1/chat/completions SERVER ERROR error=internal_error
          chat mistral-medium-3 CLIENT UNSET region=scaleway-par-1 attempts=1 receipt=none
            vetted.route INTERNAL UNSET region=scaleway-par-1
            vetted.attempt CLIENT UNSET status=200 region=scaleway-par-1
    """)


async def test_a_handler_that_raises_in_its_stream_is_an_error_below_a_200() -> None:
    """The call went well and its operation says so; the request failed, though its answer had begun with 200."""

    def breaking(gateway: Gateway) -> ASGIApp:
        async def handler(scope: Scope, receive: Receive, send: Send) -> None:
            answer = await gateway.http_client.post("http://vetted/v1/chat/completions", json=asked(stream=True))
            headers = [(b"content-type", b"text/event-stream")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": answer.content[:300], "more_body": True})
            raise LookupError("canary of a handler")

        return handler

    async with FakeUpstream() as paris, site({PARIS: upstream(paris.base_url)}, app=in_app(breaking)) as place:
        told = await place.ask(asked(stream=True))
        tree = await place.tree()
        assert b"canary" not in place.sdk.receiver.raw
        assert [value for of, value in place.sdk.metric("vetted.requests") if of["vetted.outcome"] == "failed"] == [1]
    assert b"internal_error" in told.body
    assert tree == SSE_TREE.replace("SERVER UNSET", "SERVER ERROR error=internal_error")


async def test_a_request_without_a_region_runs_no_handler() -> None:
    """The decision comes first: its failure is an operation in error without an attempt, as in forward mode."""
    async with FakeUpstream() as paris, site({PARIS: upstream(paris.base_url)}, app=in_app(calling())) as place:
        assert (await place.ask(asked(vetted={"region": GRAVELINES}))).status == 503
        tree = await place.tree()
    assert tree == drawn("""
        POST /v1/chat/completions SERVER ERROR error=service_unavailable status=503
          chat mistral-medium-3 CLIENT ERROR error=service_unavailable attempts=0 receipt=none
            vetted.route INTERNAL ERROR error=no_region_available
              ! vetted.candidate.rejected region=scaleway-par-1 reason=outside_policy
    """)


async def test_a_handlers_own_span_begins_a_trace_of_its_own_with_our_call_below() -> None:
    """Our server span is never current for a handler, which sends and yields: its own span is a root with our call below.

    A host's instrumentation stands outside of us and is current for both.
    """
    tracers: list[Tracer] = []

    def tracing(gateway: Gateway) -> ASGIApp:
        inner = calling()(gateway)

        async def handler(scope: Scope, receive: Receive, send: Send) -> None:
            with tracers[0].start_as_current_span("prompt building"):
                await inner(scope, receive, send)

        return handler

    async with FakeUpstream() as paris, site({PARIS: upstream(paris.base_url)}, app=in_app(tracing)) as place:
        tracers.append(place.sdk.tracers.get_tracer("handler"))
        await place.ask(asked())
        tree = await place.tree()
    assert tree == drawn("""
        POST /v1/chat/completions SERVER UNSET status=200
        prompt building INTERNAL UNSET [handler]
          chat mistral-medium-3 CLIENT UNSET region=scaleway-par-1 attempts=1 receipt=none
            vetted.route INTERNAL UNSET region=scaleway-par-1
            vetted.attempt CLIENT UNSET status=200 region=scaleway-par-1
    """)


@both
async def test_a_caller_that_leaves_while_its_handler_calls_is_no_error(stream: bool) -> None:
    """The call is given up and every span ends unset; the handler learns it by a status that nobody reads any more."""
    async with FakeUpstream() as paris:
        handler = in_app(calling(stream=stream))
        async with site({PARIS: upstream(paris.base_url)}, app=handler) as place:
            paris.then(FakeAnswer(delay=600))
            caller = await place.caller(asked(stream=stream))
            await until(lambda: paris.requests)
            caller.leave()
            tree = await place.tree()
            assert [of["vetted.outcome"] for of, _value in place.sdk.metric("vetted.requests")] == ["client_disconnect"]
    assert tree == drawn(f"""
        POST /v1/chat/completions SERVER UNSET status={200 if stream else 499}
          chat mistral-medium-3 CLIENT UNSET attempts=1 receipt=none
            vetted.route INTERNAL UNSET region=scaleway-par-1
            vetted.attempt CLIENT UNSET region=scaleway-par-1
    """)


async def test_a_caller_that_leaves_its_handlers_stream_is_no_error() -> None:
    """The stream says who left."""
    async with FakeUpstream() as paris:
        handler = in_app(calling(stream=True))
        async with site({PARIS: upstream(paris.base_url)}, app=handler) as place:
            paris.then(FakeAnswer.stream([role(), content()], ending="stall"))
            caller = await place.caller(asked(stream=True))
            await caller.read_until(b"Hel")
            caller.leave()
            tree = await place.tree()
            assert [of["vetted.outcome"] for of, _value in place.sdk.metric("vetted.requests")] == ["client_disconnect"]
    assert tree == drawn("""
        POST /v1/chat/completions SERVER UNSET status=200
          chat mistral-medium-3 CLIENT UNSET region=scaleway-par-1 attempts=1 outcome=client_disconnect receipt=none
            ! vetted.first_chunk
            vetted.route INTERNAL UNSET region=scaleway-par-1
            vetted.attempt CLIENT UNSET status=200 region=scaleway-par-1
    """)
