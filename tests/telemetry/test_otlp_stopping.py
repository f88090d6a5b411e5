"""The exact span tree where the gateway itself ends a request, and what makes no span at all."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from streams.wall import content, role, until
from telemetry.sites import site
from telemetry.spans import PARIS, asked, upstream
from telemetry.trees import drawn
from vetted_mw.proxy.own.transport import OwnTransport
from vetted_mw.testing import FakeAnswer, FakeUpstream

if TYPE_CHECKING:
    from telemetry.sites import Site
    from vetted_mw.proxy.own.answer import Answer
    from vetted_mw.proxy.transport import UpstreamRequest

pytestmark = pytest.mark.anyio

both = pytest.mark.parametrize("stream", [False, True], ids=["json", "sse"])


async def _drained(place: Site) -> int:
    """Let the gateway end what it is answering, in the loop it lives in."""
    loop = place.gateway._loop
    assert loop is not None
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(place.gateway.drain(0), loop))


@both
async def test_a_request_that_is_ended_for_a_stop_before_it_began_is_a_503(stream: bool) -> None:
    """Attempt, operation and request all say that the gateway was stopped."""
    async with FakeUpstream() as paris, site({PARIS: upstream(paris.base_url)}) as place:
        paris.then(FakeAnswer(delay=600))
        caller = await place.caller(asked(stream=stream))
        await until(lambda: paris.requests)
        assert await _drained(place) == 1
        await caller.read_to_end()
        tree = await place.tree()
    assert tree == drawn("""
        POST /v1/chat/completions SERVER ERROR error=shutting_down status=503
          chat mistral-medium-3 CLIENT ERROR error=shutting_down attempts=1 receipt=none
            vetted.route INTERNAL UNSET region=scaleway-par-1
            vetted.attempt CLIENT ERROR error=shutting_down region=scaleway-par-1
    """)


async def test_a_stream_that_is_ended_for_a_stop_is_an_error_below_a_200() -> None:
    """What was sent is told with its receipt, and the stream's outcome says who ended it."""
    async with FakeUpstream() as paris, site({PARIS: upstream(paris.base_url)}) as place:
        paris.then(FakeAnswer.stream([role(), content()], ending="stall"))
        caller = await place.caller(asked(stream=True))
        await caller.read_until(b"Hel")
        assert await _drained(place) == 1
        await caller.read_to_end()
        tree = await place.tree()
    assert tree == drawn("""
        POST /v1/chat/completions SERVER UNSET status=200
          chat mistral-medium-3 CLIENT ERROR error=shutting_down region=scaleway-par-1 attempts=1 outcome=shutting_down receipt=sse_chunk
            ! vetted.first_chunk
            ! vetted.receipt.emitted
            vetted.route INTERNAL UNSET region=scaleway-par-1
            vetted.attempt CLIENT ERROR error=shutting_down status=200 region=scaleway-par-1
    """)


async def test_a_request_to_a_gateway_that_stops_is_a_server_span_alone() -> None:
    """It is turned away at the door, by a fault of ours."""
    async with FakeUpstream() as paris, site({PARIS: upstream(paris.base_url)}) as place:
        await place.ask(b"")  # the gateway is open
        await _drained(place)
        assert (await place.ask(asked())).status == 503
        tree = await place.tree()
    assert tree == drawn("""
        POST /v1/chat/completions SERVER UNSET status=400
        POST /v1/chat/completions SERVER ERROR error=shutting_down status=503
    """)


@pytest.mark.parametrize("path", ["/v1/vetted/explain", "/v1/embeddings", "/elsewhere"])
async def test_only_chat_completions_make_spans(path: str) -> None:
    """The gateway's own endpoints and other paths leave tracing to the host."""
    async with FakeUpstream() as paris, site({PARIS: upstream(paris.base_url)}) as place:
        await place.ask(asked(), path=path)
        assert await place.tree() == ""


async def test_a_slash_at_the_end_of_the_path_makes_no_other_name() -> None:
    """Names of spans are a small closed set: the path is told as the settings have it."""
    async with FakeUpstream() as paris, site({PARIS: upstream(paris.base_url)}) as place:
        await place.ask(b"", path="/v1/chat/completions/")
        assert await place.tree() == "POST /v1/chat/completions SERVER UNSET status=400\n"


class _FaultyDoor(OwnTransport):
    """Breaks its contract: it raises what no transport may raise."""

    async def send(self, request: UpstreamRequest) -> Answer:
        """Fail."""
        raise RuntimeError("canary of a transport")


@both
async def test_a_fault_of_ours_is_an_error_of_everything_it_touched(stream: bool) -> None:
    """The caller gets 500, so the operation failed too; what the exception says is in no span."""
    options = {"transport": _FaultyDoor}
    async with FakeUpstream() as paris, site({PARIS: upstream(paris.base_url)}, options=options) as place:
        assert (await place.ask(asked(stream=stream))).status == 500
        tree = await place.tree()
        assert b"canary" not in place.sdk.receiver.raw
    assert tree == drawn("""
        POST /v1/chat/completions SERVER ERROR error=internal_error status=500
          chat mistral-medium-3 CLIENT ERROR error=internal_error attempts=0 receipt=none
            vetted.route INTERNAL UNSET region=scaleway-par-1
            vetted.attempt CLIENT UNSET region=scaleway-par-1
    """)
