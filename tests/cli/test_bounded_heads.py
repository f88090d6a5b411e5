"""What `vetted-mw serve` reads HTTP with: no head, trailer or chunk extension may take memory as its sender likes."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.util
import socket
import struct
import weakref
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self, cast

import pytest
import uvicorn

from vetted_mw.cli import heads
from vetted_mw.cli.heads import BoundedHeads
from vetted_mw.cli.serve import _http_protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.types import Receive, Scope, Send

pytestmark = pytest.mark.anyio

LIMIT = 30.0
KIB = 1024
HEAD = b"POST / HTTP/1.1\r\nhost: a\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"
EARLY = "/early"
TOO_LONG = b"The head of the request is too long."


class _Place:
    """A server of one app on a socket of its own.

    Args:
        keep_alive: seconds for which an idle connection is kept.

    Attributes:
        bodies: the bodies it was sent.
        heads: the number of headers of each request.
        made: connections that something still holds.
    """

    def __init__(self, *, keep_alive: int = 3600) -> None:
        self._keep_alive = keep_alive
        self.bodies: list[bytes] = []
        self.heads: list[int] = []
        self.made: weakref.WeakSet[BoundedHeads] = weakref.WeakSet()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        config = uvicorn.Config(
            self._app,
            http=BoundedHeads,
            interface="asgi3",
            lifespan="off",
            log_level="warning",
            timeout_keep_alive=self._keep_alive,
        )
        config.load()
        state = uvicorn.server.ServerState()

        def protocol() -> BoundedHeads:
            made = BoundedHeads(config=config, server_state=state, app_state={})
            self.made.add(made)
            return made

        self._server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_ending: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """Open a connection."""
        assert self._server is not None
        reader, writer = await asyncio.open_connection(*self._server.sockets[0].getsockname()[:2])
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.heads.append(len(scope["headers"]))
        body, more = b"", scope["path"] != EARLY
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.bodies.append(body)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


async def _said(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(LIMIT):
        try:
            return await reader.read()
        except ConnectionError:
            return b""  # it closed on what we still sent


ENDLESS: dict[str, tuple[bytes, bytes]] = {
    "a target": (b"GET /", b"a" * KIB),
    "a header": (HEAD + b"x: ", b"a" * KIB),
    "a header's name": (HEAD + b"x", b"a" * KIB),
    "many headers": (HEAD, b"x: a\r\n" * 200),
    "a trailer": (CHUNKED + b"0\r\nx: ", b"a" * KIB),
    "many trailers": (CHUNKED + b"0\r\n", b"x: a\r\n" * 200),
    "a chunk's extension": (CHUNKED + b"5;", b"a" * KIB),
}


@pytest.mark.parametrize(("begin", "part"), ENDLESS.values(), ids=ENDLESS.keys())
async def test_what_has_no_end_is_cut_off(begin: bytes, part: bytes) -> None:
    """After 64 KiB of a head, and of all that is like one, the connection is closed; the app sees no whole request."""
    async with _Place() as place, place.connected() as (reader, writer):
        writer.write(begin)
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 64 * KIB * KIB:
                writer.write(part)
                await writer.drain()
                sent += len(part)
                await asyncio.sleep(0)
        assert sent < 16 * KIB * KIB  # what the system's buffers took is not what the server took
        said = await _said(reader)
        assert b"200 OK" not in said
    assert place.bodies == []


async def test_a_head_that_is_too_long_is_told_so() -> None:
    """A sender that reads gets a 400 and a closed connection."""
    async with _Place() as place, place.connected() as (reader, writer):
        writer.write(HEAD + b"x: " + b"a" * 65 * KIB)
        said = await _said(reader)
        assert said.startswith(b"HTTP/1.1 400 ")
        assert said.endswith(TOO_LONG)
    assert place.heads == []


async def test_heads_within_the_limit_and_bodies_over_it_pass() -> None:
    """60 KiB of headers are served, a MiB of body is, in one part, in small chunks and in requests that follow it."""
    body = b"b" * KIB * KIB
    chunks = b"".join(b"400\r\n" + body[start : start + KIB] + b"\r\n" for start in range(0, len(body), KIB))
    async with _Place() as place, place.connected() as (reader, writer):
        for request in (
            HEAD + b"x: " + b"a" * 60 * KIB + b"\r\ncontent-length: 3\r\n\r\nabc",
            HEAD + b"content-length: %d\r\n\r\n" % len(body) + body,
            CHUNKED + chunks + b"0\r\n\r\n",
            (HEAD + b"content-length: 0\r\n\r\n") * 3,
        ):
            writer.write(request)
        async with asyncio.timeout(LIMIT):
            for _ in range(6):
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
                assert await reader.readexactly(2) == b"ok"
    assert place.bodies == [b"abc", body, body, b"", b"", b""]


def _nothing(_reader: Any, _writer: asyncio.StreamWriter) -> None:
    return


def _half_a_head(_reader: Any, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD)


def _half_a_second_head(_reader: Any, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + b"content-length: 0\r\n\r\n" + HEAD)


@pytest.mark.parametrize("sent", [_nothing, _half_a_head, _half_a_second_head])
async def test_a_head_that_does_not_come_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, sent: Callable[[Any, asyncio.StreamWriter], None]
) -> None:
    """A connection on which no whole head comes is closed after half a minute, here after less."""
    monkeypatch.setattr(heads, "_HEAD_SECONDS", 0.2)
    async with _Place() as place, place.connected() as (reader, writer):
        sent(reader, writer)
        said = await _said(reader)
    assert b"The head of the request did not come." in said
    assert place.heads == ([2] if sent is _half_a_second_head else [])


async def test_a_body_may_take_longer_than_a_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait is for heads: a body has a limit of its own, which is the gateway's."""
    monkeypatch.setattr(heads, "_HEAD_SECONDS", 0.2)
    async with _Place() as place, place.connected() as (reader, writer):
        writer.write(HEAD + b"content-length: 2\r\n\r\na")
        await asyncio.sleep(0.5)
        writer.write(b"b")
        async with asyncio.timeout(LIMIT):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    assert place.bodies == [b"ab"]


@pytest.mark.parametrize("rest", [b"b", b"b" * 9], ids=["a part", "all of it"])
async def test_a_body_that_was_answered_before_it_came_keeps_no_connection(rest: bytes) -> None:
    """What comes of it ends no wait for the next request: the connection is closed once it has been idle for so long."""
    async with _Place(keep_alive=1) as place, place.connected() as (reader, writer):
        writer.write(HEAD.replace(b"/", EARLY.encode(), 1) + b"content-length: 10\r\n\r\na")
        async with asyncio.timeout(LIMIT):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        writer.write(rest)
        assert await _said(reader) == b"ok"


async def test_a_websocket_is_not_idle_after_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection of a request that was answered is the websocket's from its upgrade on."""
    handed: list[BoundedHeads] = []

    def hand_over(connection: BoundedHeads) -> None:
        handed.append(connection)

    monkeypatch.setattr(BoundedHeads, "handle_websocket_upgrade", hand_over)
    monkeypatch.setattr(BoundedHeads, "_should_upgrade", lambda _self: True)
    async with _Place() as place, place.connected() as (reader, writer):
        writer.write(HEAD + b"content-length: 0\r\n\r\n")
        async with asyncio.timeout(LIMIT):
            await reader.readuntil(b"ok")
            writer.write(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
            while not handed:  # noqa: ASYNC110 (a turn of the loop, at most a few)
                await asyncio.sleep(0.001)
        assert handed[0]._idle_until is None


class _Idle:
    """A connection's transport and loop: time passes when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[tuple[float, Callable[..., object], tuple[object, ...]]] = []
        self.made = 0
        self.closings = 0

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, callback: Callable[..., object], *given: object) -> Any:
        timer = (self.now + seconds, callback, given)
        self.timers.append(timer)
        self.made += 1
        return SimpleNamespace(cancel=lambda: self.timers.remove(timer))

    def pass_by(self, seconds: float) -> None:
        self.now += seconds
        for timer in [timer for timer in self.timers if timer[0] <= self.now]:
            self.timers.remove(timer)
            timer[1](*timer[2])

    def get_extra_info(self, _name: str) -> None:
        return None

    def write(self, _data: bytes) -> None:
        raise AssertionError

    def is_closing(self) -> bool:
        return self.closings > 0

    def close(self) -> None:
        self.closings += 1


def _idle_connection() -> tuple[BoundedHeads, _Idle]:
    config = uvicorn.Config(_Place()._app, interface="asgi3", timeout_keep_alive=75, log_config=None)
    idle = _Idle()
    made = BoundedHeads(config=config, server_state=uvicorn.server.ServerState(), app_state={}, _loop=cast("Any", idle))
    made.connection_made(cast("asyncio.Transport", idle))
    made._wait_no_longer()
    idle.made = 0
    return made, idle


def test_an_idle_connection_is_closed_when_its_time_is_over() -> None:
    """The time counts from the last response, and not while a request is being answered."""
    made, idle = _idle_connection()
    for busy in (10.0, 200.0, 0.0):
        made.on_response_complete()
        idle.pass_by(74.0)
        assert idle.closings == 0
        made._unset_keepalive_if_required()  # what uvicorn does when something comes
        idle.pass_by(busy)
        assert idle.closings == 0
    made.on_response_complete()
    idle.pass_by(74.0)
    assert idle.closings == 0
    idle.pass_by(1.0)
    assert idle.closings == 1
    assert idle.timers == []
    assert made.server_state.total_requests == 4


def test_requests_that_follow_each_other_make_one_timer() -> None:
    made, idle = _idle_connection()
    for _ in range(1000):
        made.on_response_complete()
        made._unset_keepalive_if_required()
        idle.pass_by(0.01)
    assert idle.made == 1


def test_a_connection_that_is_lost_leaves_no_timer() -> None:
    made, idle = _idle_connection()
    made.on_response_complete()
    made.connection_lost(ConnectionResetError())
    assert idle.timers == []


def test_connections_share_the_names_of_what_they_hold() -> None:
    """CPython lets up to 30 be shared; beyond, each of thousands of connections has a KiB of its own for them."""
    made, _idle = _idle_connection()
    assert len(vars(made)) <= 30


@pytest.mark.parametrize("has_httptools", [True, False])
def test_serve_runs_it_where_httptools_is_installed(monkeypatch: pytest.MonkeyPatch, has_httptools: bool) -> None:
    """`serve` names it to uvicorn, which can hand the name to its workers; else h11, which has limits of its own."""
    if not has_httptools:
        monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    name = _http_protocol()
    assert name == ("vetted_mw.cli.heads:BoundedHeads" if has_httptools else "h11")
    config = uvicorn.Config(_Place()._app, http=name, interface="asgi3")
    if has_httptools:
        config.load()
        assert config.http_protocol_class is BoundedHeads


async def test_a_connection_that_was_reset_while_it_was_idle_is_held_by_nothing() -> None:
    async with _Place() as place:
        async with place.connected() as (reader, writer):
            writer.write(HEAD + b"content-length: 0\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            assert len(place.made) == 1
            reset = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        async with asyncio.timeout(LIMIT):
            while gc.collect() >= 0 and place.made:  # noqa: ASYNC110 (what is collected tells nobody)
                await asyncio.sleep(0.01)
