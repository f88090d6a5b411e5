"""Back-pressure both ways, and answers that come before their request has left."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from client.peers import OK, Peer, Peers, body_of, completion, door, fault_of, whole
from client.test_client_tls import context_of
from proxy.tunnels import made_certificate
from streams.wall import LIMIT, until
from vetted_mw.configuration import Limits
from vetted_mw.proxy.outcome import AttemptFailedError

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

LARGE = b"x" * 32_000_000  # more than any socket holds
REFUSED = b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 2\r\n\r\n{}"
SLACK = 1_000_000  # one read of the event loop, and some


async def _turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


# ---- the upstream's way


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
async def test_what_nobody_reads_stays_with_the_upstream(chunked: bool) -> None:
    """The client holds a bounded part of a body, whatever its length; read on, all of it comes, in its order."""
    pieces = [bytes([number % 251]) * 65_536 for number in range(400)]
    total = sum(len(piece) for piece in pieces)
    framing = b"transfer-encoding: chunked" if chunked else b"content-length: %d" % total

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.offer(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n" % framing)
        for piece in pieces:
            peer.offer(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        if chunked:
            peer.offer(b"0\r\n\r\n")
        await peer.until_left()

    async with Peers(script) as peers, door(peers.base_url) as client, asyncio.timeout(LIMIT):
        response = await client.send(completion())
        await until(lambda: response.unread > 0)
        await _turns(2000)
        assert response.unread < SLACK
        for _ in range(3):
            await response.read()
            await _turns(500)
            assert response.unread < SLACK
        seen = await body_of(response)
        assert b"".join(pieces).endswith(seen)
        assert response.is_whole
        await response.aclose()
        assert len(client._idle) == 1


async def test_a_connection_that_was_stopped_serves_again() -> None:
    """Reading goes on for the next request, also where this one's rest was never read."""
    body = b"HTTP/1.1 200 OK\r\ncontent-length: 200000\r\n\r\n" + b"x" * 200_000

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.say(body)

    async with Peers(script) as peers, door(peers.base_url) as client, asyncio.timeout(LIMIT):
        for _ in range(3):
            response = await client.send(completion())
            while not response.unread:
                await _turns(1)
            await _turns(100)
            await response.aclose()
            assert len((await whole(client))[1]) == 200_000


async def test_a_stream_that_is_cut_while_it_is_stopped_is_read_up_to_there() -> None:
    """What came before the cut is handed over, and then the cut is told."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: 300000\r\n\r\n", b"x" * 200_000)
        peer.end()

    async with Peers(script) as peers, door(peers.base_url) as client, asyncio.timeout(LIMIT):
        response = await client.send(completion())
        await until(lambda: peers.open == 0)
        read = 0
        while read < 200_000:
            read += len(await response.read())
        with pytest.raises(AttemptFailedError) as caught:
            await response.read()
        assert (read, caught.value.fault.outcome, caught.value.fault.status) == (200_000, "upstream_cut", 200)
        await response.aclose()


async def test_many_small_frames_that_came_together_are_read_together() -> None:
    """A reader that was busy pays once for what has come meanwhile; the bytes are the same."""
    frames = [b"data: %d\n\n" % number for number in range(500)]

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for frame in frames:
            peer.offer(b"%x\r\n%b\r\n" % (len(frame), frame))
        await peer.say(b"0\r\n\r\n")

    async with Peers(script) as peers, door(peers.base_url) as client:
        response = await client.send(completion())
        await until(lambda: response.is_whole)
        assert await response.read() == b"".join(frames)
        assert await response.read() == b""
        await response.aclose()


# ---- ours


async def test_a_large_request_is_written_as_fast_as_it_is_read() -> None:
    """The body is not copied into a buffer of ours at once, and all of it arrives."""
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await go_on.wait()
        await peer.request()
        await peer.say(OK)

    async with Peers(script) as peers, door(peers.base_url) as client, asyncio.timeout(LIMIT):
        asking = asyncio.ensure_future(whole(client, completion(LARGE)))
        await until(lambda: peers.open == 1)
        await _turns(500)
        (wire,) = client._busy
        assert wire._transport.get_write_buffer_size() < SLACK
        go_on.set()
        assert await asking == (200, b"{}")
        assert peers.seen[0].endswith(LARGE)
        assert len(client._idle) == 1


async def _refuses_at_once(peer: Peer) -> None:
    await peer.head()
    await peer.say(REFUSED)
    await peer.until_left()


async def _refuses_and_ends(peer: Peer) -> None:
    await peer.head()
    await peer.say(REFUSED)
    peer.end()


@pytest.mark.parametrize("script", [_refuses_at_once, _refuses_and_ends], ids=["stays", "ends"])
async def test_an_answer_that_comes_before_its_request_has_left_is_the_answer(script: object) -> None:
    """The rest of the body is not written, and no other request follows on that connection."""
    async with Peers(script) as peers, door(peers.base_url) as client, asyncio.timeout(LIMIT):  # type: ignore[arg-type]
        for count in (1, 2):
            assert await whole(client, completion(LARGE)) == (413, b"{}")
            assert peers.connections == count
        await until(lambda: peers.open == 0)


async def test_so_it_is_for_a_small_request_of_which_nothing_is_left_to_write() -> None:
    """Nothing is special about it: the connection serves again."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.say(REFUSED)

    async with Peers(script) as peers, door(peers.base_url) as client:
        assert [await whole(client) for _ in range(2)] == [(413, b"{}")] * 2
        assert peers.connections == 1


async def test_an_upstream_that_leaves_during_the_request_has_cut_it() -> None:
    """The writing ends with the connection, and not with the limit on it."""

    async def script(peer: Peer) -> None:
        await peer.head()
        peer.reset()

    async with Peers(script) as peers, door(peers.base_url) as client, asyncio.timeout(LIMIT):
        assert await fault_of(client, completion(LARGE)) == ("upstream_cut", True, None)


async def test_a_request_that_nobody_reads_is_given_up_at_its_limit() -> None:
    """The limit is on the writing alone, which a small request never waits for."""

    async def script(peer: Peer) -> None:
        await asyncio.sleep(LIMIT * 2)

    limits = Limits(first_byte_seconds=0.2)
    async with Peers(script) as peers, door(peers.base_url, limits=limits) as client, asyncio.timeout(LIMIT):
        assert await fault_of(client, completion(LARGE)) == ("first_byte_timeout", True, None)
        assert not client._idle


async def test_a_cancel_during_the_request_closes_the_connection() -> None:
    """No rest of the body is written behind the caller's back."""
    leaving: list[Peer] = []

    async def script(peer: Peer) -> None:
        leaving.append(peer)
        await peer.head()
        await asyncio.Event().wait()

    async with Peers(script) as peers, door(peers.base_url) as client, asyncio.timeout(LIMIT):
        asking = asyncio.ensure_future(whole(client, completion(LARGE)))
        await until(lambda: peers.seen)
        (wire,) = client._busy
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await until(lambda: wire.is_lost)
        assert not client._busy


@pytest.mark.parametrize("size", [0, 16_384, 16_385, 65_537, 262_144, 262_145, 700_000])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_body_of_any_size_arrives_as_it_was(tmp_path: Path, scheme: str, size: int) -> None:
    """In one write with its head, in two, or in steps: the same bytes, and the connection serves again."""
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    made = made_certificate(tmp_path) if scheme == "https" else None

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

    async with (
        asyncio.timeout(LIMIT),
        Peers(script, tls=context_of(made) if made else None) as peers,
        door(peers.base_url, ca_file=str(made.certificate) if made else "") as client,
    ):
        for _ in range(3):
            assert await whole(client, completion(body)) == (200, b"{}")
        assert [seen.partition(b"\r\n\r\n")[2] for seen in peers.seen] == [body] * 3
        assert peers.connections == 1


async def test_a_stream_that_is_stopped_when_the_client_closes_is_cut_and_nothing_else() -> None:
    """What had come is read, the rest is a cut: reading does not go on over a connection that is closed."""

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.offer(b"HTTP/1.1 200 OK\r\ncontent-length: 4000000\r\n\r\n" + b"x" * 3_000_000)
        await peer.until_left()

    async with Peers(script) as peers, door(peers.base_url) as client, asyncio.timeout(LIMIT):
        response = await client.send(completion())
        while response.unread <= 65_536:
            await _turns(1)
        closing = asyncio.ensure_future(client.aclose())
        await _turns(1)
        assert await response.read()
        with pytest.raises(AttemptFailedError) as caught:
            await body_of(response)
        assert (caught.value.fault.outcome.value, caught.value.fault.status) == ("upstream_cut", 200)
        await closing
        await response.aclose()


async def test_an_answer_that_was_closed_unread_is_none() -> None:
    """Though all of it had come: what is read after that would lack what was thrown away."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        await peer.until_left()

    async with Peers(script) as peers, door(peers.base_url) as client, asyncio.timeout(LIMIT):
        response = await client.send(completion())
        while not response.is_whole:
            await _turns(1)
        await response.aclose()
        with pytest.raises(AttemptFailedError):
            await response.read()
