"""`x-vetted-attempts` and the energy of abandoned attempts: what was sent, neither more nor less."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from streams.wall import (
    FIRST,
    SECOND,
    Caller,
    RawUpstream,
    content,
    gateway_over,
    nowhere,
    payload,
    resting,
    role,
    told,
)
from support import configured
from vetted_mw import Gateway, VettedProxy
from vetted_mw.proxy.outcome import AttemptFailedError
from vetted_mw.proxy.own.transport import OwnTransport
from vetted_mw.proxy.transport import UpstreamRequest
from vetted_mw.testing import FakeAnswer, FakeUpstream, asgi_exchange

if TYPE_CHECKING:
    from vetted_mw.configuration import Upstream

pytestmark = pytest.mark.anyio

MODELS = {"m": {"active_params_b": 8}}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_limit_that_ends_a_connect_has_sent_nothing(stream: bool) -> None:
    """The whole limit of an attempt is over while TLS is still being agreed on: no request, no energy."""
    limits = {"connect_seconds": 20, "first_byte_seconds": 0.3, "answer_seconds": 0.3}
    async with (
        RawUpstream(ending="stall", reads=False, scheme="https") as one,
        FakeUpstream() as two,
        gateway_over({FIRST: one, SECOND: two}, limits=limits, models=MODELS) as (app, gateway),
    ):
        answer = told(await asgi_exchange(app, json=payload(stream=stream)))
        assert await resting(gateway)
    assert answer.headers["x-vetted-attempts"] == "1"
    assert [region for region, _outcome, _status in answer.attempts] == [FIRST, SECOND]
    assert "estimated_energy_wh" not in answer.trace["attempts"][0]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_limit_that_ends_a_silent_upstream_has_sent_one(stream: bool) -> None:
    """The same limits on an upstream that got the request: it counts, and so does what it may have computed."""
    limits = {"first_byte_seconds": 0.3, "answer_seconds": 0.3}
    async with FakeUpstream() as one, FakeUpstream() as two:
        one.then(FakeAnswer(delay=60))
        async with gateway_over({FIRST: one, SECOND: two}, limits=limits, models=MODELS) as (app, _gateway):
            answer = told(await asgi_exchange(app, json=payload(stream=stream)))
    assert answer.headers["x-vetted-attempts"] == "2"
    assert answer.trace["attempts"][0]["estimated_energy_wh"] > 0


async def test_refused_and_broken_handshakes_are_no_requests() -> None:
    """Nobody listens, and nobody speaks TLS: two attempts in the trace, none of them sent."""
    async with (
        nowhere() as one,
        RawUpstream(b"no TLS\r\n", reads=False, scheme="https") as two,
        gateway_over({FIRST: one, SECOND: two}, models=MODELS) as (app, _gateway),
    ):
        answer = told(await asgi_exchange(app, json=payload()))
    assert answer.headers["x-vetted-attempts"] == "0"
    assert [outcome for _region, outcome, _status in answer.attempts] == ["connect_error", "tls_error"]


async def test_nothing_is_sent_over_a_door_that_was_closed() -> None:
    """Closing the gateway under a request that would fail over: no new connection that nobody would close."""
    async with FakeUpstream() as one:
        async with Gateway(configured({FIRST: one.base_url})) as gateway:
            door = gateway._core.transports[FIRST]  # type: ignore[union-attr]
        with pytest.raises(AttemptFailedError) as caught:
            await door.send(UpstreamRequest(method="POST", path="/chat/completions", headers=[], body=b"{}"))
    assert (caught.value.fault.outcome.value, caught.value.fault.sent) == ("connect_error", False)
    assert one.requests == []


async def test_a_transport_that_tells_nothing_of_sending_serves_all_the_same() -> None:
    """One that never calls `on_sent`: an answer that came was asked for, and a request cut off before counts as none."""

    class Silent(OwnTransport):
        async def send(self, request: UpstreamRequest) -> Any:
            return await super().send(
                UpstreamRequest(method=request.method, path=request.path, headers=request.headers, body=request.body)
            )

    def silent(upstream: Upstream) -> Silent:
        return Silent(upstream)

    async with FakeUpstream() as one, Gateway(configured({FIRST: one.base_url}), transport=silent) as gateway:
        app = VettedProxy(gateway)
        answer = told(await asgi_exchange(app, json=payload(stream=True)))
        one.then(FakeAnswer.stream([role(), content()], ending="stall"))
        caller = Caller(app, payload(stream=True))
        answering = caller.start()
        await caller.content.wait()
        caller.leave()
        await answering
        assert gateway.fleet.in_flight == gateway.in_flight == 0
        await asyncio.wait_for(one.requests[-1].left.wait(), 30)
    assert answer.headers["x-vetted-attempts"] == "1"
