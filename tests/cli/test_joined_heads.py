"""The head of a response leaves with what follows it at once, and nothing else about a connection changes by that."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, cast

import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from vetted_mw.cli.heads import BoundedHeads
from vetted_mw.cli.joined import JoinedHeads

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

pytestmark = pytest.mark.anyio

LIMIT = 30.0
LARGE = b"l" * 100_000
LOOPS = [("asyncio", {"use_uvloop": is_used}) for is_used in (False, True)]


class Inner:
    """A transport that keeps what it is given, and a loop whose turns the test makes."""

    def __init__(self) -> None:
        self.given: list[Any] = []
        self.turns: list[Callable[[], None]] = []
        self.is_lost = False

    def write(self, data: bytes) -> None:
        assert not self.is_lost
        self.given.append(data)

    def writelines(self, parts: tuple[bytes, ...]) -> None:
        assert not self.is_lost
        self.given.append(parts)

    def is_closing(self) -> bool:
        return self.is_lost

    def close(self) -> None:
        self.given.append("close")

    def abort(self) -> None:
        self.given.append("abort")

    def pause_reading(self) -> None:
        self.given.append("pause")

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.turns.append(callback)

    def turn(self) -> None:
        turns, self.turns = self.turns, []
        for callback in turns:
            callback()


def joined() -> tuple[JoinedHeads, Inner]:
    inner = Inner()
    return JoinedHeads(cast("asyncio.Transport", inner), cast("asyncio.AbstractEventLoop", inner)), inner


# ---- the transport


def test_a_head_leaves_with_the_first_part_and_the_others_leave_as_they_come() -> None:
    transport, inner = joined()
    for _ in range(2):
        transport.expect_head()
        for part in (b"head", b"one", b"two", b""):
            transport.write(part)
        inner.turn()
        transport.write(b"three")
    assert inner.given == [b"headone", b"two", b"", b"three"] * 2


def test_a_head_with_nothing_after_it_leaves_when_the_loop_turns() -> None:
    transport, inner = joined()
    transport.expect_head()
    transport.write(b"head")
    assert inner.given == []
    inner.turn()
    transport.write(b"late")
    inner.turn()
    assert inner.given == [b"head", b"late"]


def test_a_large_part_is_not_copied() -> None:
    transport, inner = joined()
    transport.expect_head()
    transport.write(b"head")
    transport.write(LARGE)
    ((head, part),) = inner.given
    assert head == b"head"
    assert part is LARGE


@pytest.mark.parametrize("asked", ["close", "abort", "pause_reading"])
def test_whatever_else_is_asked_comes_after_the_head(asked: str) -> None:
    transport, inner = joined()
    transport.expect_head()
    transport.write(b"head")
    getattr(transport, asked)()
    inner.turn()
    assert inner.given == [b"head", asked.removesuffix("_reading")]


def test_it_can_be_asked_what_any_transport_can() -> None:
    """A server that asks for something else tomorrow finds it."""
    transport, _inner = joined()
    missing = [name for name in dir(asyncio.Transport) if not name.startswith("_") and not hasattr(transport, name)]
    assert missing == []


def test_a_connection_that_is_lost_is_given_nothing() -> None:
    transport, inner = joined()
    transport.expect_head()
    transport.write(b"head")
    inner.is_lost = True
    inner.turn()
    transport.close()
    assert inner.given == ["close"]


STEPS = st.one_of(st.sampled_from(["expect", "turn", "close", "pause"]), st.binary(max_size=4), st.just(LARGE))


@given(st.lists(STEPS))
def test_nothing_changes_its_place(steps: list[Any]) -> None:
    """Whatever is written and asked, and whenever, the inner transport is given the same in the same order."""
    transport, inner = joined()
    meant: list[Any] = []
    for step in steps:
        match step:
            case "expect":
                transport.expect_head()
            case "turn":
                inner.turn()
            case "close":
                transport.close()
                meant.append(step)
            case "pause":
                transport.pause_reading()
                meant.append(step)
            case bytes():
                transport.write(step)
                meant += step
    inner.turn()
    assert [one for step in inner.given for one in _pieces(step)] == meant


def _pieces(step: Any) -> Any:
    return [step] if isinstance(step, str) else b"".join(step) if isinstance(step, tuple) else step


# ---- a served connection


async def _json(_scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"whole"[:4]})


async def _large(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(LARGE))]})
    await send({"type": "http.response.body", "body": LARGE})


async def _stream(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"one", "more_body": True})
    await asyncio.sleep(0.01)
    await send({"type": "http.response.body", "body": b"two", "more_body": True})
    await send({"type": "http.response.body"})


async def _late(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200})
    await asyncio.sleep(0.01)
    await send({"type": "http.response.body", "body": b"late"})


async def _empty(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 204})
    await send({"type": "http.response.body"})


async def _cut(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200})
    raise RuntimeError


async def _broken(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise RuntimeError


async def _socket(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["type"] == "websocket"
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": "hello"})
    await send({"type": "websocket.close"})


GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
LAST = GET.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
HEAD = LAST.replace(b"GET", b"HEAD")
EXPECTING = LAST.replace(b"GET", b"POST").replace(
    b"\r\n\r\n", b"\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\nx"
)
UPGRADE = GET.replace(
    b"\r\n\r\n",
    b"\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: aaaaaaaaaaaaaaaaaaaaaA==\r\n\r\n",
)
FAREWELL = b"\x88\x80\0\0\0\0"  # a websocket's closing frame
SERVED: dict[str, tuple[ASGIApp, bytes, int | None]] = {
    "a whole answer": (_json, LAST, 1),
    "a large one": (_large, LAST, 1),
    "a stream": (_stream, LAST, 3),
    "a stream that begins late": (_late, LAST, 2),
    "an answer to HEAD": (_json, HEAD, 1),
    "nothing": (_empty, LAST, 1),
    "several": (_json, GET + GET + LAST, 3),
    "streams in a row": (_stream, GET + LAST, None),
    "one that is waited for with a body": (_json, EXPECTING, 2),
    "one that breaks off after its head": (_cut, LAST, 1),
    "one that breaks off before": (_broken, LAST, 1),
    "a request that is none": (_json, b"what\r\n\r\n", 1),
    "a request and what is none": (_json, GET + b"what\r\n\r\n", None),
    "a websocket": (_socket, UPGRADE, None),
}


class _Writing:
    """A connection's transport that notes its writes."""

    def __init__(self, transport: asyncio.Transport, writes: list[Any]) -> None:
        self._transport = transport
        self._writes = writes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if data:
            self._writes.append(data)
        self._transport.write(data)

    def writelines(self, parts: tuple[bytes, ...]) -> None:
        self._writes.append(parts)
        self._transport.writelines(parts)


async def _received(kind: type[HttpToolsProtocol], app: ASGIApp, request: bytes) -> tuple[bytes, int]:
    """Serve one connection; return all that came on it, and how many writes it took."""
    config = uvicorn.Config(cast("Any", app), interface="asgi3", lifespan="off", log_level="critical")
    config.load()
    state = uvicorn.server.ServerState()
    writes: list[Any] = []

    class Kind(kind):  # type: ignore[valid-type,misc]
        def connection_made(self, transport: Any) -> None:
            super().connection_made(_Writing(transport, writes))

    def protocol() -> asyncio.Protocol:
        made: asyncio.Protocol = Kind(config=config, server_state=state, app_state={})
        return made

    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
    try:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        with contextlib.closing(writer):
            writer.write(request)
            async with asyncio.timeout(LIMIT):
                said = await reader.readuntil(b"hello") if request is UPGRADE else b""
                writer.write(FAREWELL if said else b"")
                return said + await reader.read(), len(writes)
    finally:
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize("anyio_backend", LOOPS, ids=("asyncio", "uvloop"))
@pytest.mark.parametrize(("app", "request_", "writes"), SERVED.values(), ids=SERVED.keys())
async def test_a_caller_is_sent_what_uvicorn_sends(app: ASGIApp, request_: bytes, writes: int | None) -> None:
    """Byte for byte, with one write less for each head that something follows at once."""
    theirs, _ = await _received(HttpToolsProtocol, app, request_)
    ours, taken = await _received(BoundedHeads, app, request_)
    assert ours == theirs
    assert ours
    if writes is not None:
        assert taken == writes
