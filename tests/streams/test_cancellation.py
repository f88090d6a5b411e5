"""The caller goes away: the upstream's connection is closed, the lease is back, and nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pytest

from streams.wall import (
    FIRST,
    LIMIT,
    SECOND,
    Caller,
    RawUpstream,
    busy_connections,
    content,
    gateway_over,
    payload,
    resting,
    role,
    told,
    until,
)
from support import configured, served
from vetted_mw import Gateway, VettedProxy
from vetted_mw.fleet.breaker import BreakerState
from vetted_mw.testing import FakeAnswer, FakeUpstream, asgi_exchange

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

pytestmark = pytest.mark.anyio

CAP = 2
JSON_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n"
REFUSAL_HEAD = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 100\r\n\r\n"
SSE_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """Where a request stands when its caller leaves.

    Attributes:
        name: of the phase.
        stream: whether the request asks for a stream.
        upstream: one that goes as far as the phase and then waits for ever.
        committed: whether the caller has got something by then.
    """

    name: str
    stream: bool
    upstream: Callable[[], RawUpstream]
    committed: bool = False


def _waiting(*parts: bytes) -> Callable[[], RawUpstream]:
    return lambda: RawUpstream(*parts, ending="stall")


PHASES = [
    Phase(
        name="connecting",
        stream=False,
        upstream=lambda: RawUpstream(ending="stall", reads=False, scheme="https"),
    ),
    Phase(name="no head of a JSON answer", stream=False, upstream=_waiting()),
    Phase(name="half a JSON answer", stream=False, upstream=_waiting(JSON_HEAD, b'{"choi')),
    Phase(name="half a refusal", stream=False, upstream=_waiting(REFUSAL_HEAD, b'{"err')),
    Phase(name="no head of a stream", stream=True, upstream=_waiting()),
    Phase(name="no content of a stream", stream=True, upstream=_waiting(SSE_HEAD, _chunk(role()))),
    Phase(
        name="mid-stream",
        stream=True,
        upstream=_waiting(SSE_HEAD, _chunk(role()), _chunk(content())),
        committed=True,
    ),
]
in_every_phase = pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.name.replace(" ", "_"))


@contextlib.asynccontextmanager
async def _serving(upstream: RawUpstream, other: FakeUpstream) -> AsyncIterator[tuple[str, Gateway]]:
    tables: dict[str, Any] = {
        FIRST: {"base_url": upstream.base_url, "limits": {"max_in_flight": CAP, "connect_seconds": 600}},
        SECOND: other.base_url,
    }
    gateway = Gateway(configured(tables))
    with served(VettedProxy(gateway)) as origin:
        yield origin, gateway


class _Socket:
    """A client on a real socket that can hang up."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self._writer = writer

    @classmethod
    async def asking(cls, origin: str, body: dict[str, Any]) -> _Socket:
        """Connect and send a whole request."""
        port = int(origin.rsplit(":", 1)[1])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        data = json.dumps(body).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\n"
        writer.write(head + b"content-length: %d\r\n\r\n" % len(data) + data)
        await writer.drain()
        return cls(reader, writer)

    def hang_up(self, how: Literal["close", "reset"]) -> None:
        if how == "close":
            self._writer.close()
        else:
            self._writer.transport.abort()


async def _reached(upstream: RawUpstream) -> None:
    """Wait until the request, or the TLS handshake where there will be none, is at the upstream."""
    await until(lambda: upstream.requests or upstream.heard.is_set())


async def _there(upstream: RawUpstream, phase: Phase, client: _Socket) -> None:
    """Wait until the request stands where the phase says."""
    await _reached(upstream)
    if phase.committed:
        await client.reader.readuntil(b"Hel")


@in_every_phase
@pytest.mark.parametrize("how", ["close", "reset"])
async def test_on_a_real_socket_a_caller_that_leaves_frees_the_upstream_and_its_lease_every_time(
    phase: Phase, how: Literal["close", "reset"]
) -> None:
    """In every phase, once more than the region has slots: its connection closes, no other region hears, leases are 0."""
    async with asyncio.timeout(LIMIT * 2), FakeUpstream() as other:
        async with phase.upstream() as upstream, _serving(upstream, other) as (origin, gateway):
            for _ in range(CAP + 1):
                upstream.heard.clear()
                upstream.left.clear()
                upstream.requests.clear()
                client = await _Socket.asking(origin, payload(stream=phase.stream, vetted={"region": FIRST}))
                await _there(upstream, phase, client)
                client.hang_up(how)
                await upstream.left.wait()
                await until(lambda: gateway.fleet.in_flight == 0)
            await until(lambda: not busy_connections(gateway))
        assert other.requests == []


async def test_the_upstream_hears_soon_of_a_caller_that_left_mid_stream() -> None:
    """The milliseconds from hanging up to the upstream's end of file; printed, since a machine's time proves nothing."""
    phase = PHASES[-1]
    taken: list[float] = []
    async with (
        asyncio.timeout(LIMIT * 2),
        FakeUpstream() as other,
        phase.upstream() as upstream,
        _serving(upstream, other) as (origin, gateway),
    ):
        for _ in range(20):
            upstream.left.clear()
            client = await _Socket.asking(origin, payload(stream=True, vetted={"region": FIRST}))
            await client.reader.readuntil(b"Hel")
            started = time.perf_counter()
            client.hang_up("close")
            await upstream.left.wait()
            taken.append((time.perf_counter() - started) * 1000)
            await until(lambda: gateway.fleet.in_flight == 0)
    median, longest = statistics.median(taken), max(taken)
    print(f"\nleft mid-stream, seen upstream: median {median:.1f} ms, longest {longest:.1f} ms")  # noqa: T201 (-s shows it)
    assert len(taken) == 20


@in_every_phase
async def test_by_messages_a_caller_that_leaves_is_answered_no_more(phase: Phase) -> None:
    """`http.disconnect` (ASGI 2.3) ends the request without a raise and without a further message."""
    async with asyncio.timeout(LIMIT), phase.upstream() as upstream, FakeUpstream() as other:
        table = {"base_url": upstream.base_url, "limits": {"connect_seconds": 600}}
        async with gateway_over({FIRST: table, SECOND: other}) as (app, gateway):
            caller = Caller(app, payload(stream=phase.stream))
            answering = caller.start()
            await _reached(upstream)
            if phase.committed:
                await caller.content.wait()
            before = list(caller.sent)
            caller.leave()
            await answering
            assert caller.sent == before
            assert (gateway.fleet.in_flight, busy_connections(gateway)) == (0, [])
            await upstream.left.wait()
            assert other.requests == []


@pytest.mark.parametrize("both", [False, True], ids=["OSError alone", "OSError and http.disconnect"])
async def test_a_broken_pipe_of_a_2_4_server_ends_the_request_as_well(both: bool) -> None:
    """`OSError` from `send` mid-stream: no raise, the upstream's connection closes, the lease is back."""
    go_on = asyncio.Event()
    async with asyncio.timeout(LIMIT), FakeUpstream() as first, FakeUpstream() as other:
        first.then(_endless(go_on))
        async with gateway_over({FIRST: first, SECOND: other}) as (app, gateway):
            caller = Caller(app, payload(stream=True), spec="2.4")
            answering = caller.start()
            await caller.content.wait()
            before = list(caller.sent)
            caller.break_pipe()
            go_on.set()
            if both:
                caller.leave()
            await answering
            assert caller.sent == before
            assert (gateway.fleet.in_flight, busy_connections(gateway)) == (0, [])
            await first.requests[0].left.wait()
        assert other.requests == []


def _endless(go_on: asyncio.Event) -> FakeAnswer:
    return FakeAnswer.stream([role(), content(), go_on, content()], ending="stall")


@in_every_phase
async def test_a_server_that_cancels_twice_gets_its_slots_back(phase: Phase) -> None:
    """A task cancelled from outside, and again at any moment while it cleans up, leaks neither lease nor connection."""
    async with asyncio.timeout(LIMIT * 2), phase.upstream() as upstream, FakeUpstream() as other:
        table = {"base_url": upstream.base_url, "limits": {"connect_seconds": 600, "max_in_flight": CAP}}
        async with gateway_over({FIRST: table, SECOND: other}) as (app, gateway):
            for steps in range(12):
                upstream.heard.clear()
                upstream.requests.clear()
                caller = Caller(app, payload(stream=phase.stream, vetted={"region": FIRST}))
                answering = caller.start()
                await _reached(upstream)
                if phase.committed:
                    await caller.content.wait()
                answering.cancel()
                for _ in range(steps):
                    await asyncio.sleep(0)
                answering.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await answering
                assert (gateway.fleet.in_flight, busy_connections(gateway)) == (0, [])


async def test_callers_that_leave_say_nothing_about_the_region() -> None:
    """However many callers leave, the region is as good as before: no breaker opens, and the next request is served."""
    async with asyncio.timeout(LIMIT), FakeUpstream() as first, gateway_over({FIRST: first}) as (app, gateway):
        for number in range(1, 21):
            first.then(_endless(asyncio.Event()))
            caller = Caller(app, payload(stream=True))
            answering = caller.start()
            await caller.content.wait()
            caller.leave()
            await answering
            assert len(first.requests) == number
        state = gateway.fleet.state(FIRST)
        assert state is not None
        assert (state.breaker, state.degraded, state.saturated) == (BreakerState.CLOSED, False, False)
        assert told(await asgi_exchange(app, json=payload())).complete
        assert await resting(gateway)


async def test_a_caller_that_leaves_after_its_answer_was_whole_changes_nothing() -> None:
    """A disconnect that comes with the last byte finds nothing to close, and the connection serves again."""
    async with asyncio.timeout(LIMIT), FakeUpstream() as first, gateway_over({FIRST: first}) as (app, gateway):
        for stream in (False, True):
            caller = Caller(app, payload(stream=stream))
            exchange = await caller.exchange()
            caller.leave()
            assert told(exchange).complete
            assert (gateway.fleet.in_flight, busy_connections(gateway), first.open_connections) == (0, [], 1)
