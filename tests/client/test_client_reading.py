"""What a reader who waits is told, by parts, ends and cuts, and what is left of it afterwards."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from client.peers import OK, Peer, Peers, body_of, completion, door
from streams.wall import LIMIT, until
from vetted_mw.proxy.outcome import AttemptFailedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vetted_mw.proxy.own.answer import Answer
    from vetted_mw.proxy.own.wire import Wire

pytestmark = pytest.mark.anyio

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
FIRST = b"5\r\nfirst\r\n"


def saying(*last: bytes) -> tuple[asyncio.Event, Any]:
    """Return a script that says a first part, and the rest once the event is set."""
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(CHUNKED + FIRST)
        await go_on.wait()
        await peer.say(b"".join(last))
        peer.end()

    return go_on, script


@pytest.fixture
def without_collector() -> Iterator[None]:
    """Nothing is freed but by its last reference."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def _waiting(answer: Answer) -> asyncio.Task[bytes]:
    """Read what has come, and begin to wait for more."""

    async def read() -> bytes:
        return await answer.read()

    assert await answer.read() == b"first"
    reading = asyncio.create_task(read())
    await asyncio.sleep(0)
    return reading


async def test_what_comes_at_once_is_handed_over_at_once() -> None:
    """A reader who waits gets all that came in one piece, then the end, and the end again."""
    go_on, script = saying(b"3\r\nand\r\n", b"6\r\nsecond\r\n", b"0\r\n\r\n")
    async with Peers(script) as peers, door(peers.base_url) as client, asyncio.timeout(LIMIT):
        answer = await client.send(completion())
        reading = await _waiting(answer)
        go_on.set()
        assert (await reading, answer.unread) == (b"andsecond", 0)
        assert [await answer.read(), await answer.read()] == [b"", b""]
        await answer.aclose()


@pytest.mark.parametrize("last", [b"", b"x\r\n", b"7\r\nno"], ids=["an end", "no chunk", "an end within a chunk"])
async def test_a_cut_is_never_told_as_an_end_to_a_reader_who_waits(last: bytes) -> None:
    """What came of a part before the cut is handed over; after it every read tells of the cut."""
    go_on, script = saying(last)
    async with Peers(script) as peers, door(peers.base_url) as client, asyncio.timeout(LIMIT):
        answer = await client.send(completion())
        reading = await _waiting(answer)
        go_on.set()
        if last.endswith(b"no"):
            assert await reading == b"no"
        else:
            with pytest.raises(AttemptFailedError):
                await reading
        for _ in range(2):
            with pytest.raises(AttemptFailedError) as caught:
                await answer.read()
            assert (caught.value.fault.outcome, caught.value.fault.status) == ("upstream_cut", 200)
        await answer.aclose()


async def test_a_part_that_comes_together_with_a_cut_is_handed_over_before_it() -> None:
    """The bytes before the place where the framing breaks are the answer's."""
    go_on, script = saying(b"6\r\nsecond\r\nx\r\n")
    async with Peers(script) as peers, door(peers.base_url) as client, asyncio.timeout(LIMIT):
        answer = await client.send(completion())
        reading = await _waiting(answer)
        go_on.set()
        assert await reading == b"second"
        with pytest.raises(AttemptFailedError):
            await answer.read()
        await answer.aclose()


async def test_a_cut_that_no_reader_waits_for_any_more_is_logged_by_nobody() -> None:
    """A reader who was closed while it waited never hears of the cut, and neither does the event loop."""
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context))
    go_on, script = saying()

    async def read(answer: Answer) -> bytes:
        return await answer.read()

    async with Peers(script) as peers, door(peers.base_url) as client, asyncio.timeout(LIMIT):
        answer = await client.send(completion())
        assert await answer.read() == b"first"
        waiting = read(answer)
        waiting.send(None)
        waiting.close()
        go_on.set()
        await until(lambda: answer.is_over)
        await answer.aclose()
    gc.collect()
    assert told == []


@pytest.mark.usefixtures("without_collector")
async def test_a_cut_leaves_nothing_for_the_collector() -> None:
    """The failure that was raised holds its reader, and is held by nobody."""
    go_on, script = saying()

    async def read_on(answer: Answer) -> None:
        while await answer.read():
            go_on.set()

    async with Peers(script) as peers, door(peers.base_url) as client, asyncio.timeout(LIMIT):
        answer = await client.send(completion())
        left = weakref.ref(read_on)
        with pytest.raises(AttemptFailedError) as caught:
            await read_on(answer)
        await answer.aclose()
        frames = weakref.ref(caught.value)
        del caught, answer, read_on
        await until(lambda: frames() is None)
        assert left() is None


async def test_an_answer_that_is_whole_with_its_head_waits_for_nothing() -> None:
    """Both reads are done when they are asked for, and so is any later one; the next answer is another's."""

    async def script(peer: Peer) -> None:
        for _ in range(2):
            await peer.request()
            await peer.say(OK)
        await peer.until_left()

    async with Peers(script) as peers, door(peers.base_url) as client, asyncio.timeout(LIMIT):
        for _ in range(2):
            answer = await client.send(completion())
            await until(lambda answer=answer: answer.is_whole)  # type: ignore[misc]
            reads = [answer.read() for _ in range(3)]
            assert [read.done() and read.result() for read in reads] == [b"{}", b"", b""]
            await answer.aclose()
        assert peers.connections == 1


@pytest.mark.parametrize("waits", [False, True], ids=["it was there", "it was waited for"])
async def test_an_idle_connection_keeps_nothing_of_a_body(waits: bool) -> None:
    """A pool of a hundred connections does not hold a hundred answers."""
    go_on = asyncio.Event()
    body = b"x" * 30_000

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body))
        await go_on.wait()
        await peer.say(body)
        await peer.until_left()

    async with Peers(script) as peers, door(peers.base_url) as client, asyncio.timeout(LIMIT):
        answer = await client.send(completion())
        if waits:
            asyncio.get_running_loop().call_soon(go_on.set)
        else:
            go_on.set()
            await until(lambda: answer.is_whole)
        assert await body_of(answer) == body
        await answer.aclose()
        (idle,) = client._idle
        assert not [one for one in _held_by(idle) if isinstance(one, bytes) and len(one) > 1_000]


def _held_by(wire: Wire) -> list[object]:
    """Return what a connection holds, by way of its answer and of what these two hold."""
    held: list[object] = []
    for holder in (wire, wire._answer, wire._answer._parts, wire._reader, wire._reader._parts, wire._reader._seen):
        held += gc.get_referents(holder)
    futures = [one for one in held if isinstance(one, asyncio.Future)]
    return held + [future.result() for future in futures if future.done()]
