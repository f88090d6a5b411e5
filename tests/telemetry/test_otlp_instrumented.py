"""The exact span tree next to a user's own instrumentation: its server span is the parent, and we start none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import pytest

from frameworks.hosts import HOSTS, Spec
from frameworks.place import by_sdk
from streams.wall import content, role, until
from telemetry.instrumentations import traced_asgi, traced_fastapi, traced_httpx
from telemetry.sites import site
from telemetry.spans import GRAVELINES, PARIS, asked, upstream
from telemetry.trees import drawn
from vetted_mw.testing import FakeAnswer, FakeUpstream

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from vetted_mw import Gateway

pytestmark = pytest.mark.anyio

both = pytest.mark.parametrize("stream", [False, True], ids=["json", "sse"])


SERVER = "POST /v1/chat/completions SERVER UNSET status=200 [opentelemetry.instrumentation.asgi]"
FORWARDED = {
    False: drawn(f"""
        {SERVER}
          chat mistral-medium-3 CLIENT UNSET region=scaleway-par-1 attempts=1 receipt=json_body
            ! vetted.receipt.emitted
            vetted.route INTERNAL UNSET region=scaleway-par-1
            vetted.attempt CLIENT UNSET status=200 region=scaleway-par-1
    """),
    True: drawn(f"""
        {SERVER}
          chat mistral-medium-3 CLIENT UNSET region=scaleway-par-1 attempts=1 outcome=completed receipt=sse_chunk
            ! vetted.first_chunk
            ! vetted.receipt.emitted
            vetted.route INTERNAL UNSET region=scaleway-par-1
            vetted.attempt CLIENT UNSET status=200 region=scaleway-par-1
    """),
}


def in_fastapi(mode: Literal["forward", "in_app"]) -> Any:
    """Return an app of FastAPI with the middleware in it, before it is instrumented."""

    def made(gateway: Gateway) -> ASGIApp:
        build, _mount = HOSTS["fastapi"]
        return build(Spec(gateway=gateway, answer=by_sdk(gateway), mode=mode))

    return made


@both
async def test_inside_asgi_instrumentation_we_start_no_server_span(stream: bool) -> None:
    """The user's server span is the parent of our operation; there is none of ours."""
    async with FakeUpstream() as paris, site({PARIS: upstream(paris.base_url)}, outside=traced_asgi) as place:
        await place.ask(asked(stream=stream))
        assert await place.tree() == FORWARDED[stream]


@both
async def test_the_callers_trace_reaches_the_upstream_through_the_users_server_span(stream: bool) -> None:
    """With a `traceparent` everything is in the caller's trace, and the upstream gets our attempt as its parent."""
    trace, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    async with FakeUpstream() as paris, site({PARIS: upstream(paris.base_url)}, outside=traced_asgi) as place:
        place.remote.append(span)
        await place.ask(asked(stream=stream), headers=[("traceparent", f"00-{trace}-{span}-01")])
        assert await place.tree() == FORWARDED[stream]
        spans = place.sdk.receiver.spans
        (attempt,) = [one for one in spans if one.name == "vetted.attempt"]
    assert {one.trace_id for one in spans} == {trace}
    told = str(paris.requests[0].header("traceparent")).split("-")
    assert told[1:3] == [trace, attempt.span_id]


@both
async def test_forward_mode_in_fastapi_is_the_same_tree(stream: bool) -> None:
    """FastAPI's instrumentation stands outside the middleware, so its server span is current for us."""
    async with FakeUpstream() as paris:
        app, outside = in_fastapi("forward"), traced_fastapi
        async with site({PARIS: upstream(paris.base_url)}, app=app, outside=outside) as place:
            await place.ask(asked(stream=stream))
            tree = await place.tree()
    assert tree == FORWARDED[stream].replace("instrumentation.asgi", "instrumentation.fastapi")


@both
async def test_in_app_mode_in_fastapi_has_its_operation_below_the_frameworks_span(stream: bool) -> None:
    """The handler's call through OpenAI's SDK is one operation below the server span, in JSON and in a stream."""
    async with FakeUpstream() as paris:
        app, outside = in_fastapi("in_app"), traced_fastapi
        async with site({PARIS: upstream(paris.base_url)}, app=app, outside=outside) as place:
            await place.ask(asked(stream=stream))
            tree = await place.tree()
    begun = " outcome=completed receipt=none\n            ! vetted.first_chunk" if stream else " receipt=none"
    assert tree == drawn(f"""
        {SERVER.replace("instrumentation.asgi", "instrumentation.fastapi")}
          chat mistral-medium-3 CLIENT UNSET region=scaleway-par-1 attempts=1{begun}
            vetted.route INTERNAL UNSET region=scaleway-par-1
            vetted.attempt CLIENT UNSET status=200 region=scaleway-par-1
    """)


async def test_a_caller_that_leaves_a_traced_app_leaves_no_error() -> None:
    """Neither the user's span nor ours is an error when the caller goes away."""
    async with FakeUpstream() as paris, site({PARIS: upstream(paris.base_url)}, outside=traced_asgi) as place:
        paris.then(FakeAnswer.stream([role(), content()], ending="stall"))
        caller = await place.caller(asked(stream=True))
        await caller.read_until(b"Hel")
        caller.leave()
        tree = await place.tree()
    assert tree == drawn(f"""
        {SERVER}
          chat mistral-medium-3 CLIENT UNSET region=scaleway-par-1 attempts=1 outcome=client_disconnect receipt=none
            ! vetted.first_chunk
            vetted.route INTERNAL UNSET region=scaleway-par-1
            vetted.attempt CLIENT UNSET status=200 region=scaleway-par-1
    """)


# ---- httpx


@both
async def test_httpx_instrumentation_nests_below_each_attempt(stream: bool) -> None:
    """Each try has the client's own span below it, which ends at the head of the answer and not with its body."""
    async with FakeUpstream() as paris, FakeUpstream() as gravelines:
        paris.then(FakeAnswer.json({"error": {"message": "broken"}}, status=500))
        urls = {PARIS: upstream(paris.base_url), GRAVELINES: upstream(gravelines.base_url)}
        async with site(urls, outside=traced_asgi, transport="httpx") as place:
            with traced_httpx(place.sdk):
                await place.ask(asked(stream=stream))
            tree = await place.tree()
            told = [str(one.requests[0].header("traceparent")).split("-")[2] for one in (paris, gravelines)]
            posts = [span.span_id for span in place.sdk.receiver.spans if span.name == "POST"]
    outcome, placed = (" outcome=completed", "sse_chunk") if stream else ("", "json_body")
    first_chunk = "\n            ! vetted.first_chunk" if stream else ""
    assert tree == drawn(f"""
        {SERVER}
          chat mistral-medium-3 CLIENT UNSET region=ovh-gra-1 attempts=2{outcome} receipt={placed}{first_chunk}
            ! vetted.receipt.emitted
            vetted.route INTERNAL UNSET region=scaleway-par-1
            vetted.attempt CLIENT ERROR error=upstream_error status=500 region=scaleway-par-1
              POST CLIENT ERROR status=500 [opentelemetry.instrumentation.httpx]
            vetted.attempt CLIENT UNSET status=200 resend=1 region=ovh-gra-1
              POST CLIENT UNSET status=200 [opentelemetry.instrumentation.httpx]
    """)
    assert told == posts


@both
async def test_a_caller_that_leaves_leaves_httpx_instrumentation_whole(stream: bool) -> None:
    """A cancelled send ends the client's span too, below its attempt."""
    async with FakeUpstream() as paris, site({PARIS: upstream(paris.base_url)}, transport="httpx") as place:
        paris.then(FakeAnswer(delay=600))
        with traced_httpx(place.sdk):
            caller = await place.caller(asked(stream=stream))
            await until(lambda: paris.requests)
            caller.leave()
            tree = await place.tree()
    assert tree == drawn("""
        POST /v1/chat/completions SERVER UNSET
          chat mistral-medium-3 CLIENT UNSET attempts=1 receipt=none
            vetted.route INTERNAL UNSET region=scaleway-par-1
            vetted.attempt CLIENT UNSET region=scaleway-par-1
              POST CLIENT UNSET [opentelemetry.instrumentation.httpx]
    """)
