"""Graceful shutdown: nobody new comes in, those inside finish in time or are told honestly that they did not."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from streams.wall import FIRST, SECOND, Caller, content, finish, gateway_over, payload, resting, role, told, until
from vetted_mw import VettedMiddleware
from vetted_mw.proxy.streamed import StreamedAnswer
from vetted_mw.testing import FakeAnswer, FakeUpstream, asgi_exchange

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

pytestmark = pytest.mark.anyio

PATH = "/v1/chat/completions"
DONE = b"data: [DONE]\n\n"
LIVELY = {"sse_keepalive_seconds": 0.1}


@pytest.mark.parametrize("stream", [False, True])
async def test_new_requests_are_refused_while_it_drains(stream: bool) -> None:
    """503 `shutting_down` with `Retry-After`, in OpenAI's envelope, on a connection that closes; nothing is sent."""
    go_on = asyncio.Event()
    async with FakeUpstream() as one:
        one.then(FakeAnswer.stream([role(), content("Hel"), go_on, content("lo"), finish(), DONE]))
        async with gateway_over({FIRST: one}) as (app, gateway):
            caller = Caller(app, payload(stream=True))
            answering = caller.start()
            await caller.content.wait()
            draining = asyncio.ensure_future(gateway.drain(30))
            await until(lambda: gateway.is_shutting_down)
            refused = await asgi_exchange(app, json=payload(stream=stream))
            ready = await asgi_exchange(app, method="GET", path="/readyz")
            alive = await asgi_exchange(app, method="GET", path="/healthz")
            assert not draining.done()
            go_on.set()
            answer = told(await answering)
            assert await draining == 0
    error = refused.json()["error"]
    assert (refused.status, error["type"], error["code"]) == (503, "region_unavailable", "shutting_down")
    assert (refused.headers["retry-after"], refused.headers["connection"]) == ("1", "close")
    assert (ready.status, ready.json(), alive.status) == (503, {"status": "shutting_down"}, 200)
    assert (answer.text, answer.complete, answer.errors) == ("Hello", True, [])
    assert len(one.requests) == 1


async def test_a_stream_that_does_not_end_in_time_is_ended_honestly() -> None:
    """After `drain_seconds`: an error event without choices, no `[DONE]`, the trace says who stopped it."""
    async with FakeUpstream() as one:
        one.then(FakeAnswer.stream([role(), content("Hel")], ending="stall"))
        async with gateway_over({FIRST: one}, server={"drain_seconds": 0.2}) as (app, gateway):
            caller = Caller(app, payload(stream=True))
            answering = caller.start()
            await caller.content.wait()
            assert await gateway.drain() == 1
            answer = told(await answering)
            await one.requests[0].left.wait()
            assert await resting(gateway)
            assert gateway.in_flight == 0
    assert (answer.text, answer.complete) == ("Hel", False)
    assert [(error["type"], error["code"]) for error in answer.errors] == [("region_unavailable", "shutting_down")]
    assert answer.attempts == [(FIRST, "shutting_down", 200)]
    assert answer.receipt is not None
    assert answer.receipt["completion_status"] == "shutting_down"


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_has_not_begun_is_a_503(stream: bool) -> None:
    """Nothing went out yet: a status says it, with the trace of what was under way, and no other region is tried."""
    async with FakeUpstream() as one, FakeUpstream() as two:
        one.then(FakeAnswer.stream([role()], ending="stall"))
        models = {"m": {"active_params_b": 8}}
        async with gateway_over({FIRST: one, SECOND: two}, models=models) as (app, gateway):
            answering = asyncio.ensure_future(asgi_exchange(app, json=payload(stream=stream)))
            await until(lambda: one.requests)
            assert await gateway.drain(0.05) == 1
            answer = told(await answering)
            await one.requests[0].left.wait()
            assert await resting(gateway)
    assert (answer.status, answer.errors[0]["code"]) == (503, "shutting_down")
    assert [(region, word) for region, word, _ in answer.attempts] == [(FIRST, "shutting_down")]
    assert answer.trace["attempts"][0]["estimated_energy_wh"] > 0
    assert two.requests == []


async def test_a_whole_answer_that_only_waits_for_its_end_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """The finish chunk is held for the upstream's end when the time is up: the caller gets it, complete."""
    held = asyncio.Event()
    until_when = StreamedAnswer._until

    def noted(streamed: StreamedAnswer, idle_until: float) -> float:
        if streamed.stream.finished:  # its finish chunk was read, and the upstream's end is waited for
            held.set()
        return until_when(streamed, idle_until)

    monkeypatch.setattr(StreamedAnswer, "_until", noted)
    async with FakeUpstream() as one:
        one.then(FakeAnswer.stream([role(), content("Hello"), finish()], ending="stall"))
        async with gateway_over({FIRST: one}, limits={"finish_hold_seconds": 60}) as (app, gateway):
            caller = Caller(app, payload(stream=True))
            answering = caller.start()
            await caller.content.wait()
            await held.wait()
            await gateway.drain(0.05)
            answer = told(await answering)
    assert (answer.text, answer.complete, answer.errors) == ("Hello", True, [])
    assert answer.attempts == [(FIRST, "success", 200)]


async def test_a_request_whose_body_is_still_coming_is_ended_with_the_others() -> None:
    """Draining waits for a slow body too, no longer than for anything else: nothing is left open."""
    async with FakeUpstream() as one, gateway_over({FIRST: one}, limits={"body_read_seconds": 0.3}) as (app, gateway):
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "path": PATH,
            "headers": [(b"content-length", b"10")],
        }
        sent: list[dict[str, object]] = []

        async def receive() -> dict[str, object]:
            await asyncio.sleep(60)
            raise AssertionError

        async def send(message: dict[str, object]) -> None:
            sent.append(message)

        answering = asyncio.ensure_future(app(scope, receive, send))
        await until(lambda: gateway.in_flight == 1)
        assert await gateway.drain(0.01) == 0
        await answering
        assert gateway.in_flight == 0
    assert sent[0]["status"] == 408


async def test_what_is_not_ours_passes_while_it_drains() -> None:
    """The gateway shuts its own door; the app's other routes are the app's."""
    seen: list[str] = []

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        seen.append(scope["path"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async with FakeUpstream() as one, gateway_over({FIRST: one}) as (_proxy, gateway):
        await gateway.drain(0)
        middleware = VettedMiddleware(app, gateway=gateway)
        other = await asgi_exchange(middleware, method="GET", path="/other")
        in_app = VettedMiddleware(app, gateway=gateway, mode="in_app")
        refused = await asgi_exchange(in_app, json=payload())
    assert (other.status, refused.status, seen) == (204, 503, ["/other"])


async def test_a_gateway_opened_again_takes_requests_again() -> None:
    """Drained and closed is not for ever: whoever opens it anew serves."""
    async with FakeUpstream() as one, gateway_over({FIRST: one}) as (app, gateway):
        await gateway.drain(0)
        await gateway.aclose()
        async with gateway:
            answer = await asgi_exchange(app, json=payload())
    assert answer.status == 200


class Clogged(Caller):
    """A caller that stops reading before `mark`: its server writes nothing more until it reads on."""

    def __init__(self, app: ASGIApp, body: dict[str, Any], mark: bytes) -> None:
        super().__init__(app, body)
        self.waits = asyncio.Event()
        self.reads_on = asyncio.Event()
        self._mark = mark

    async def _send(self, message: Message) -> None:
        if self._mark in message.get("body", b"") and not self.reads_on.is_set():
            self.waits.set()
            await self.reads_on.wait()
        await super()._send(message)


@pytest.mark.parametrize("limits", [{}, {"sse_keepalive_seconds": 60.0}], ids=["silent", "lively"])
async def test_a_part_that_was_not_written_makes_no_whole_answer(limits: dict[str, float]) -> None:
    """Everything was read, its content not yet sent: the caller never gets an answer that looks whole without it."""
    async with FakeUpstream() as one:
        one.then(FakeAnswer.stream([role() + content("Hello") + finish() + DONE]))
        async with gateway_over({FIRST: one}, limits=limits) as (app, gateway):
            caller = Clogged(app, payload(stream=True), b"Hello")
            answering = caller.start()
            await caller.waits.wait()
            assert await gateway.drain(0) == 1
            answer = told(await answering)
            assert await resting(gateway)
    assert (answer.text, answer.complete, [error["code"] for error in answer.errors]) == ("", False, ["shutting_down"])
    assert answer.attempts == [(FIRST, "shutting_down", 200)]


async def test_an_end_that_was_not_written_is_no_clean_end() -> None:
    """The last chunk, receipt and `[DONE]` were on their way: the connection tells that they did not come."""
    async with FakeUpstream() as one:
        one.then(FakeAnswer.stream([role(), content("Hello"), finish(), DONE]))
        async with gateway_over({FIRST: one}) as (app, gateway):
            caller = Clogged(app, payload(stream=True), b"[DONE]")
            answering = caller.start()
            await caller.waits.wait()
            assert await gateway.drain(0) == 1
            exchange = await answering
            assert await resting(gateway)
    assert (exchange.complete, b"[DONE]" in exchange.body, b"error" in exchange.body) == (False, False, False)


async def test_a_caller_that_does_not_read_holds_up_no_shutdown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even the honest end can be sent: it is given up after a while."""
    monkeypatch.setattr("vetted_mw.middleware.forward.SEND_GRACE_SECONDS", 0.1)
    async with FakeUpstream() as one:
        one.then(FakeAnswer.stream([role(), content("Hello")], ending="stall"))
        async with gateway_over({FIRST: one}) as (app, gateway):
            caller = Clogged(app, payload(stream=True), b"shutting_down")
            answering = caller.start()
            await caller.content.wait()
            assert await gateway.drain(0) == 1
            exchange = await answering
            assert gateway.in_flight == 0
    assert exchange.complete is False


@pytest.mark.parametrize("stream", [False, True])
async def test_a_body_that_comes_after_the_time_is_up_is_refused(stream: bool) -> None:
    """It was still being read when everything was ended: it begins no answer that nobody waits for."""
    late = asyncio.Event()
    sent: list[Message] = []
    async with FakeUpstream() as one, gateway_over({FIRST: one}) as (app, gateway):

        async def receive() -> Message:
            if late.is_set():
                await asyncio.Event().wait()
            await late.wait()
            return {"type": "http.request", "body": json.dumps(payload(stream=stream)).encode(), "more_body": False}

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {"type": "http", "http_version": "1.1", "method": "POST", "path": PATH, "headers": []}
        answering = asyncio.ensure_future(app(scope, receive, send))
        await until(lambda: gateway.in_flight == 1)
        draining = asyncio.ensure_future(gateway.drain(0))
        await until(lambda: gateway.is_shutting_down)
        await asyncio.sleep(0.1)  # past the end of the waiting, which nothing tells
        late.set()
        await answering
        await draining
    assert (sent[0]["status"], json.loads(sent[1]["body"])["error"]["code"]) == (503, "shutting_down")
    assert one.requests == []


@pytest.mark.parametrize("limits", [{"commit_after_seconds": 0.05}, {"commit_after_seconds": 0.05} | LIVELY])
async def test_a_stream_committed_early_is_ended_honestly(limits: dict[str, float]) -> None:
    """200 went out and nothing came yet: the error event says what happened, and no receipt is claimed."""
    async with FakeUpstream() as one, FakeUpstream() as two:
        one.then(FakeAnswer.stream([role()], ending="stall"))
        models = {"m": {"active_params_b": 8}}
        async with gateway_over({FIRST: one, SECOND: two}, limits=limits, models=models) as (app, gateway):
            caller = Caller(app, payload(stream=True))
            answering = caller.start()
            await until(lambda: caller.sent)
            assert await gateway.drain(0.2) == 1
            answer = told(await answering)
            await one.requests[0].left.wait()
            assert await resting(gateway)
    assert (answer.status, answer.complete, answer.errors[0]["code"]) == (200, False, "shutting_down")
    assert (answer.receipt, answer.trace["receipt_error"]) == (None, "no_observed_call")
    assert [(region, word) for region, word, _ in answer.attempts] == [(FIRST, "shutting_down")]
    assert answer.trace["attempts"][0]["estimated_energy_wh"] > 0
    assert two.requests == []
