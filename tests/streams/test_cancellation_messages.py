"""The caller leaves at the awkward moments, played by ASGI messages: before, between and together with the others."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from streams.wall import (
    FIRST,
    LIMIT,
    SECOND,
    Caller,
    busy_connections,
    content,
    gateway_over,
    payload,
    resting,
    role,
    told,
    until,
)
from vetted_mw.testing import FakeAnswer, FakeUpstream, asgi_exchange, chat_completion, chat_frames

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.types import ASGIApp, Message

    from vetted_mw import Gateway
    from vetted_mw.testing import Exchange

pytestmark = pytest.mark.anyio

in_both_kinds = pytest.mark.parametrize("stream", [False, True], ids=["json", "sse"])
TOO_OFTEN = 1_000_000
START, BODY = "http.response.start", "http.response.body"


def _request(*, stream: bool) -> Message:
    """The whole request as one message."""
    return {"type": "http.request", "body": json.dumps(payload(stream=stream)).encode(), "more_body": False}


def _slow(*, stream: bool, go_on: asyncio.Event) -> FakeAnswer:
    """A good answer, once it may go on."""
    if stream:
        return FakeAnswer.stream([go_on, *chat_frames()])
    whole = chat_completion()
    headers = (("content-type", "application/json"), ("content-length", str(len(whole))))
    return FakeAnswer(headers=headers, body=(go_on, whole))


class Moment(Caller):
    """A caller to whom something happens when the app sends a certain message.

    Args:
        when: whether this is the message.
        happens: what happens, in the server's `send`, before the message is noted.
    """

    def __init__(
        self,
        app: ASGIApp,
        body: dict[str, Any],
        *,
        when: Callable[[Message], bool],
        happens: Callable[[Moment], object],
    ) -> None:
        super().__init__(app, body)
        self.task: asyncio.Task[Exchange] | None = None
        self.happened = asyncio.Event()
        self._when = when
        self._happens = happens

    def start(self) -> asyncio.Task[Exchange]:
        self.task = super().start()
        return self.task

    async def _send(self, message: Message) -> None:
        if self._when(message) and not self.happened.is_set():
            self.happened.set()
            self._happens(self)
            await asyncio.sleep(0)  # a server's send waits for its socket
        await super()._send(message)


def _cancels(moment: Moment) -> None:
    assert moment.task is not None
    moment.task.cancel()


def _cancels_twice(moment: Moment) -> None:
    _cancels(moment)
    asyncio.get_running_loop().call_soon(_cancels, moment)


def _leaves_and_breaks(moment: Moment) -> None:
    moment.leave()
    moment.break_pipe()


HAPPENINGS: dict[str, Callable[[Moment], object]] = {
    "http.disconnect": Caller.leave,
    "OSError": Caller.break_pipe,
    "both": _leaves_and_breaks,
    "cancelled": _cancels,
    "cancelled twice": _cancels_twice,
}
in_every_way = pytest.mark.parametrize("happens", HAPPENINGS.values(), ids=HAPPENINGS)


@contextlib.asynccontextmanager
async def _over(first: FakeUpstream) -> AsyncIterator[tuple[ASGIApp, Gateway, FakeUpstream]]:
    """Open a gateway over `first` and another; in the end nothing is held, and the other has heard nothing."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
    async with (
        asyncio.timeout(LIMIT),
        first,
        FakeUpstream() as other,
        gateway_over({FIRST: first, SECOND: other}) as on,
    ):
        app, gateway = on
        yield app, gateway, other
        assert (gateway.fleet.in_flight, busy_connections(gateway)) == (0, [])
        assert other.requests == []
        assert told(await asgi_exchange(app, json=payload())).complete
        assert await resting(gateway)
    gc.collect()  # an exception nobody asked for is complained of when its task is thrown away
    assert complaints == []


async def _ended(answering: asyncio.Task[Exchange]) -> None:
    """Wait for the request's end; nothing but a cancel may escape from it."""
    with contextlib.suppress(asyncio.CancelledError):
        await answering


# ---- while the answer goes out


@in_both_kinds
@in_every_way
async def test_a_caller_that_leaves_exactly_at_commit(stream: bool, happens: Callable[[Moment], object]) -> None:
    """While status and headers are being sent: the request ends, an unfinished upstream is closed, no slot is lost."""
    first = FakeUpstream()
    if stream:
        first.then(FakeAnswer.stream([role(), content()], ending="stall"))
    async with _over(first) as (app, _gateway, _other):
        caller = Moment(app, payload(stream=stream), when=lambda message: message["type"] == START, happens=happens)
        await _ended(caller.start())
        assert len(caller.sent) <= (1 if stream else 2)  # a whole answer in hand is not cut in two
        if stream:
            await first.requests[0].left.wait()


@in_every_way
async def test_a_caller_that_leaves_while_a_part_is_being_sent(happens: Callable[[Moment], object]) -> None:
    """Mid-stream, inside the server's `send`: the upstream is closed and nothing more is sent."""
    first = FakeUpstream().then(FakeAnswer.stream([role(), content(), content()], ending="stall"))
    async with _over(first) as (app, _gateway, _other):
        caller = Moment(app, payload(stream=True), when=lambda message: bool(message.get("body")), happens=happens)
        await _ended(caller.start())
        assert len(caller.sent) <= 2
        await first.requests[0].left.wait()


@pytest.mark.parametrize("how", ["http.disconnect", "cancelled"])
async def test_a_send_that_never_returns_does_not_hold_the_request(how: str) -> None:
    """A server whose `send` waits for a caller that reads no more: leaving, or a cancel, ends the request there."""
    first = FakeUpstream().then(FakeAnswer.stream([role(), content()], ending="stall"))
    async with _over(first) as (app, _gateway, _other):
        caller = _Stuck(app, payload(stream=True))
        answering = caller.start()
        await caller.stuck.wait()
        if how == "cancelled":
            answering.cancel()
        else:
            caller.leave()
        await _ended(answering)
        await first.requests[0].left.wait()


class _Stuck(Caller):
    def __init__(self, app: ASGIApp, body: dict[str, Any]) -> None:
        super().__init__(app, body)
        self.stuck = asyncio.Event()

    async def _send(self, message: Message) -> None:
        if message["type"] == BODY:
            self.stuck.set()
            await asyncio.Event().wait()
        await super()._send(message)


@in_both_kinds
@in_every_way
async def test_a_caller_that_leaves_together_with_the_last_part(
    stream: bool, happens: Callable[[Moment], object]
) -> None:
    """The upstream's answer was whole: its connection is kept and serves the next request."""
    first = FakeUpstream()
    async with _over(first) as (app, _gateway, _other):

        def is_last(message: Message) -> bool:
            return message["type"] == BODY and not message.get("more_body", False)

        caller = Moment(app, payload(stream=stream), when=is_last, happens=happens)
        await _ended(caller.start())
        assert caller.happened.is_set()
        assert first.open_connections == 1
        assert not first.requests[0].left.is_set()


# ---- before and during the body


class _Spoken(Caller):
    """A caller whose server says just these things, one after the other, and then waits for ever; errors are raised."""

    def __init__(self, app: ASGIApp, *says: Message | Exception) -> None:
        super().__init__(app, {})
        self._says = list(says)

    async def _receive(self) -> Message:
        if not self._says:
            await asyncio.Event().wait()
        said = self._says.pop(0)
        if isinstance(said, Exception):
            raise said
        return said


GONE: Message = {"type": "http.disconnect"}
HALF: Message = {"type": "http.request", "body": b'{"model": "m", "mess', "more_body": True}


@pytest.mark.parametrize("says", [[GONE], [HALF, GONE], [HALF, HALF, GONE]], ids=["before", "within", "later within"])
async def test_a_caller_that_leaves_before_its_body_is_whole_reaches_nobody(says: list[Message]) -> None:
    """`http.disconnect` in the place of the body, or of the rest of it: no raise, no answer, no upstream."""
    first = FakeUpstream()
    async with _over(first) as (app, gateway, _other):
        caller = _Spoken(app, *says)
        await caller.start()
        assert caller.sent == []
        assert first.requests == []
        assert gateway.fleet.in_flight == 0


@pytest.mark.parametrize("error", [OSError(), RuntimeError("words of the server")], ids=["OSError", "RuntimeError"])
@pytest.mark.parametrize("before", [[], [HALF]], ids=["at once", "within the body"])
async def test_a_receive_that_raises_before_the_body_is_whole_escapes_not(
    before: list[Message], error: Exception
) -> None:
    """Nothing goes to an upstream, and nothing of the server's error into the host's own log."""
    first = FakeUpstream()
    async with _over(first) as (app, _gateway, _other):
        caller = _Spoken(app, *before, error)
        exchange = await caller.start()
        assert first.requests == []
        assert not caller.sent or exchange.status == 500
        assert b"words of the server" not in b"".join(message.get("body", b"") for message in caller.sent)


@in_both_kinds
@pytest.mark.parametrize("error", [OSError, RuntimeError])
async def test_a_receive_that_raises_while_the_answer_is_made_says_nothing_of_the_caller(
    stream: bool, error: type[Exception]
) -> None:
    """The answer is served to its end; the watch's error is neither raised nor complained of by the event loop."""
    go_on = asyncio.Event()
    first = FakeUpstream().then(_slow(stream=stream, go_on=go_on))
    async with _over(first) as (app, _gateway, _other):
        caller = _Spoken(app, _request(stream=stream), error())
        answering = caller.start()
        await until(lambda: first.requests)
        go_on.set()
        assert told(await answering).complete


@in_both_kinds
async def test_a_receive_that_never_waits_does_not_stop_the_loop(stream: bool) -> None:
    """A hand-written `receive` that says the same again at once, as many tests have it: the answer is served."""
    first = FakeUpstream()
    async with _over(first) as (app, _gateway, _other):
        caller = _Tireless(app, _request(stream=stream))
        assert told(await caller.start()).complete
        assert caller.asked_for < TOO_OFTEN


class _Tireless(Caller):
    """Says the whole request again and again; gives up after so many times that the loop must have been stopped."""

    def __init__(self, app: ASGIApp, request: Message) -> None:
        super().__init__(app, {})
        self._request = request
        self.asked_for = 0

    async def _receive(self) -> Message:
        self.asked_for += 1
        if self.asked_for == TOO_OFTEN:
            raise LookupError
        return self._request


# ---- before there is a connection


@in_both_kinds
@pytest.mark.parametrize("how", ["http.disconnect", "cancelled"])
async def test_a_caller_that_leaves_while_the_upstreams_name_is_looked_up(
    stream: bool, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The resolver's thread cannot be stopped; the request does not wait for it, and its lease is back."""
    asked, answer = threading.Event(), threading.Event()
    resolve = socket.getaddrinfo

    def slow(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host in {"upstream.invalid", b"upstream.invalid"}:
            asked.set()
            answer.wait(LIMIT)
            raise socket.gaierror
        return resolve(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    async with asyncio.timeout(LIMIT), FakeUpstream() as other:
        tables: dict[str, Any] = {FIRST: {"base_url": "http://upstream.invalid/v1"}, SECOND: other}
        async with gateway_over(tables) as (app, gateway):
            caller = Caller(app, payload(stream=stream))
            answering = caller.start()
            await until(asked.is_set)
            if how == "cancelled":
                answering.cancel()
            else:
                caller.leave()
            await _ended(answering)
            assert (caller.sent, gateway.fleet.in_flight, busy_connections(gateway)) == ([], 0, [])
            assert not answer.is_set()
            answer.set()
            assert told(await asgi_exchange(app, json=payload(vetted={"region": SECOND}))).complete
