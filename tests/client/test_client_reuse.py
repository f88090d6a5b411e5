"""Which connection carries the next request, and the one case in which a request is sent again."""

from __future__ import annotations

import asyncio
import select
import socket
import struct
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from client.peers import OK, Peer, Peers, completion, door, fault_of, whole
from streams.wall import LIMIT, until
from vetted_mw.configuration import Limits, Upstream
from vetted_mw.proxy.own import wire as wire_module
from vetted_mw.proxy.own.transport import OwnTransport
from vetted_mw.proxy.own.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from client.peers import Script

pytestmark = pytest.mark.anyio

asks_the_kernel = pytest.mark.skipif(sys.platform != "linux", reason="what is unacknowledged is asked of Linux")
AT_ONCE = struct.pack("ii", 1, 0)
WRONG = b'HTTP/1.1 200 OK\r\ncontent-length: 17\r\n\r\n{"stolen": true}\n'


async def well(peer: Peer) -> None:
    """Answer every request."""
    while True:
        await peer.request()
        await peer.say(OK)


def once_and_then(after: Script) -> Script:
    """Answer one request, and go on with `after`."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(OK)
        await after(peer)

    return script


def idle_of(client: OwnTransport) -> Wire:
    """The connection that the next request would take."""
    return client._idle[-1]


def has_come(idle: Wire) -> None:
    """Wait, with the event loop standing still, until the kernel has something for an idle connection."""
    seen, _, _ = select.select([idle._transport.get_extra_info("socket").fileno()], [], [], LIMIT)
    assert seen


# ---- what was there before the request


async def ended(peer: Peer) -> None:
    """Close the idle connection."""
    peer.end()


async def spoke(peer: Peer) -> None:
    """Say what nobody asked for."""
    await peer.say(WRONG)
    await peer.until_left()


async def gave_notice(peer: Peer) -> None:
    """Say that nobody has asked in time, and close, as some servers do."""
    await peer.say(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    peer.end()


async def reset(peer: Peer) -> None:
    """Reset the idle connection."""
    peer.reset()


AFTER = {"ended": ended, "spoke": spoke, "gave notice": gave_notice, "reset": reset}


@pytest.mark.parametrize("after", AFTER.values(), ids=AFTER)
async def test_a_connection_that_ended_or_spoke_while_it_was_idle_is_not_used(after: Script) -> None:
    """The next request goes over a new one at once, and what was said is nobody's answer."""
    async with Peers(once_and_then(after), well) as peers, door(peers.base_url) as client:
        assert await whole(client) == (200, b"{}")
        await until(lambda: not client._idle)
        assert await whole(client) == (200, b"{}")
        assert (peers.connections, len(peers.seen)) == (2, 2)


class ClosingServer:
    """A server in blocking calls: it closes when told to, while the event loop stands still."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(LIMIT)
        self.base_url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/v1"
        self.seen: list[bytes] = []

    async def served(self) -> socket.socket:
        """Accept a connection and answer one request on it."""
        connection = await asyncio.to_thread(self._serve)
        self.seen.append(connection[1])
        return connection[0]

    def _serve(self) -> tuple[socket.socket, bytes]:
        connection, _ = self.listener.accept()
        connection.settimeout(LIMIT)
        request = connection.recv(65536)
        connection.sendall(OK)
        return connection, request


async def _first(client: OwnTransport, server: ClosingServer) -> socket.socket:
    answered, connection = await asyncio.gather(whole(client), server.served())
    assert answered == (200, b"{}")
    return connection


def reset_now(connection: socket.socket) -> None:
    """Reset a connection."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
    connection.close()


WHILE_BUSY: dict[str, Callable[[socket.socket], object]] = {
    "ended": lambda connection: connection.close(),
    "spoke": lambda connection: connection.sendall(WRONG),
    "reset": reset_now,
}


@pytest.mark.parametrize("does", WHILE_BUSY.values(), ids=WHILE_BUSY)
async def test_so_it_is_where_the_event_loop_has_been_too_busy_to_see_it(
    does: Callable[[socket.socket], object],
) -> None:
    """What has reached the kernel counts, looked at just before the request is written."""
    server = ClosingServer()
    sent: list[str] = []
    with server.listener:
        async with door(server.base_url) as client:
            connection = await _first(client, server)
            idle = idle_of(client)
            does(connection)
            has_come(idle)
            serving = asyncio.ensure_future(server.served())
            assert await whole(client, completion(on_sent=lambda: sent.append("sent"))) == (200, b"{}")
            (await serving).close()
            connection.close()
    assert (len(server.seen), sent) == (2, ["sent"])


# ---- the race: it closes while the request is on its way


@pytest.fixture
def unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every idle connection for fit: as if its end were still on its way to us when the request leaves."""
    monkeypatch.setattr(Wire, "is_fit", lambda wire: wire.is_open)


@asks_the_kernel
@pytest.mark.usefixtures("unseen")
@pytest.mark.parametrize("size", [20, 40_000])
async def test_a_request_that_met_a_closed_connection_is_sent_once_more(size: int) -> None:
    """The upstream's end had closed before the request came: nobody can have read it, and no attempt is lost."""
    server = ClosingServer()
    sent: list[str] = []
    body = b"x" * size
    with server.listener:
        async with door(server.base_url) as client:
            connection = await _first(client, server)
            idle = idle_of(client)
            connection.close()
            has_come(idle)
            serving = asyncio.ensure_future(server.served())
            answered = await whole(client, completion(body, on_sent=lambda: sent.append("sent")))
            (await serving).close()
    assert answered == (200, b"{}")
    assert sent == ["sent"]
    assert len(server.seen) == 2


@asks_the_kernel
@pytest.mark.usefixtures("unseen")
async def test_it_is_sent_once_more_and_not_for_ever() -> None:
    """A new connection that is closed in its turn, however little of the request it had read, ends the attempt."""
    server = ClosingServer()
    with server.listener:
        async with door(server.base_url) as client:
            connection = await _first(client, server)
            idle = idle_of(client)
            connection.close()
            has_come(idle)

            def closed_unread() -> None:
                server.listener.accept()[0].close()

            closing = asyncio.ensure_future(asyncio.to_thread(closed_unread))
            assert await fault_of(client) == ("upstream_cut", True, None)
            await closing


async def _read_and_end(peer: Peer) -> None:
    await peer.request()
    peer.end()


async def _read_in_part_and_end(peer: Peer) -> None:
    await peer.head()
    peer.end()


async def _read_and_reset(peer: Peer) -> None:
    await peer.request()
    peer.reset()


async def _answered_in_part(peer: Peer) -> None:
    await peer.request()
    await peer.say(b"H")
    peer.end()


async def _answered_in_between(peer: Peer) -> None:
    await peer.request()
    await peer.say(b"HTTP/1.1 100 Continue\r\n\r\n")
    peer.end()


SEEN = {
    "read and ended": _read_and_end,
    "read in part and ended": _read_in_part_and_end,
    "read and reset": _read_and_reset,
    "answered by one byte": _answered_in_part,
    "answered in between": _answered_in_between,
}


@pytest.mark.parametrize("after", SEEN.values(), ids=SEEN)
async def test_a_request_that_may_have_been_seen_is_not_sent_again(after: Script) -> None:
    """A model may be computing it: the attempt ends, and whether another one follows is for the policy to say."""
    async with Peers(once_and_then(after), well) as peers, door(peers.base_url) as client:
        await whole(client)
        assert await fault_of(client, completion(b"x" * 1000)) == ("upstream_cut", True, None)
        assert (peers.connections, len(peers.seen)) == (1, 2)


async def test_a_request_on_a_new_connection_is_never_sent_again() -> None:
    """Whatever becomes of it."""
    async with Peers(_read_and_end, well) as peers, door(peers.base_url) as client:
        assert await fault_of(client) == ("upstream_cut", True, None)
        assert (peers.connections, len(peers.seen)) == (1, 1)


@pytest.mark.usefixtures("unseen")
async def test_a_request_whose_fate_cannot_be_known_is_not_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel does not say what has arrived, the attempt ends."""
    monkeypatch.setattr(wire_module, "is_all_unread", lambda _transport, _written: False)
    server = ClosingServer()
    with server.listener:
        async with door(server.base_url) as client:
            connection = await _first(client, server)
            idle = idle_of(client)
            connection.close()
            has_come(idle)
            assert await fault_of(client) == ("upstream_cut", True, None)


@asks_the_kernel
@pytest.mark.usefixtures("unseen")
async def test_where_the_new_connection_fails_the_request_counts_as_sent() -> None:
    """It had left, if only for a closed door: the attempt is told as one that was cut."""
    server = ClosingServer()
    async with door(server.base_url) as client:
        with server.listener:
            connection = await _first(client, server)
        idle = idle_of(client)
        connection.close()
        has_come(idle)
        assert await fault_of(client) == ("upstream_cut", True, None)


# ---- which one is taken


async def test_the_connection_that_was_used_last_is_used_next() -> None:
    """So the others grow old and are closed."""
    gate = asyncio.Event()

    async def waits(peer: Peer) -> None:
        while True:
            await peer.request()
            await gate.wait()
            await peer.say(OK)

    async with Peers(waits) as peers, door(peers.base_url) as client:
        three = [asyncio.ensure_future(whole(client)) for _ in range(3)]
        await until(lambda: len(peers.seen) == 3)
        gate.set()
        await asyncio.gather(*three)
        last = idle_of(client)
        for _ in range(5):
            await whole(client)
            assert idle_of(client) is last
        assert peers.connections == 3


async def test_a_connection_that_is_too_old_is_not_used() -> None:
    """Also where no sweep has come to close it."""
    async with Peers(well) as peers, door(peers.base_url, limits=Limits(idle_connection_seconds=30.0)) as client:
        await whole(client)
        idle = idle_of(client)
        idle.idle_since -= 30.5
        await whole(client)
        assert not idle.is_open
        assert peers.connections == 2


async def test_an_answer_that_was_not_read_to_its_end_costs_its_connection() -> None:
    """Its rest would be the next answer; one that has wholly come keeps it, read or not."""
    part = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n{}"

    async def in_part(peer: Peer) -> None:
        await peer.request()
        await peer.say(part)
        await peer.until_left()

    async with Peers(in_part, well) as peers, door(peers.base_url) as client:
        response = await client.send(completion())
        await response.aclose()
        await until(lambda: peers.open == 0)
        response = await client.send(completion())
        await until(lambda: response.is_whole)
        await response.aclose()
        await response.aclose()
        await whole(client)
        assert peers.connections == 2


def test_a_connection_of_an_event_loop_that_is_gone_serves_no_more() -> None:
    """A client that was not closed with its loop connects anew in the next one."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(LIMIT)
    seen = threading.Thread(target=_serve_two, args=(listener,))
    seen.start()
    base_url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    client = OwnTransport(Upstream(region="r", base_url=base_url))
    assert asyncio.run(whole(client)) == (200, b"{}")
    left = client._idle[-1]
    assert asyncio.run(_whole_and_closed(client)) == (200, b"{}")
    seen.join()
    listener.close()
    left._transport._sock.close()  # type: ignore[attr-defined]
    left._transport._sock = None  # type: ignore[attr-defined]


def _serve_two(listener: socket.socket) -> None:
    connections = []
    for _ in range(2):
        connection, _ = listener.accept()
        connection.settimeout(LIMIT)
        connection.recv(65536)
        connection.sendall(OK)
        connections.append(connection)
    for connection in connections:
        connection.close()


async def _whole_and_closed(client: OwnTransport) -> tuple[int, bytes]:
    try:
        return await whole(client)
    finally:
        await client.aclose()
