"""Where an answer ends, which answers are refused, and that nothing of one becomes part of the next."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from client.peers import Peer, Peers, completion, door, fault_of, whole
from vetted_mw.proxy.outcome import AttemptFailedError
from vetted_mw.proxy.own.framing import MAX_BARREN_BYTES, MAX_HEAD_BYTES, MAX_HEADERS
from vetted_mw.proxy.transport import UpstreamRequest

if TYPE_CHECKING:
    from client.peers import Script

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = OK + b"content-length: 2\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"


def saying(answer: bytes, *, ends: bool = False) -> Script:
    """Answer every request with the same bytes; `ends`: and close after the first."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.say(answer)
            if ends:
                return

    return script


# ---- whole answers: (what comes, status, body, whether the connection serves again)

WHOLE: dict[str, tuple[bytes, int, bytes, bool]] = {
    "a length": (LENGTH + b"\r\n{}", 200, b"{}", True),
    "a length of nothing": (OK + b"content-length: 0\r\n\r\n", 200, b"", True),
    "a length in tabs and spaces": (OK + b"content-length:\t2 \t\r\n\r\n{}", 200, b"{}", True),
    "no reason": (b"HTTP/1.1 200\r\ncontent-length: 2\r\n\r\n{}", 200, b"{}", True),
    "a reason that is no ASCII": (b"HTTP/1.1 200 \xc3\xb6\r\ncontent-length: 2\r\n\r\n{}", 200, b"{}", True),
    "chunks": (CHUNKED + b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n", 200, b"{}", True),
    "chunks, in upper case": (OK + b"Transfer-Encoding: CHUNKED\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 200, b"{}", True),
    "chunks with extensions": (CHUNKED + b'2;a=b;c="d"\r\n{}\r\n0;e\r\n\r\n', 200, b"{}", True),
    "chunks with a trailer": (CHUNKED + b"2\r\n{}\r\n0\r\nx-one: y\r\n\r\n", 200, b"{}", True),
    "chunks of hexadecimal size": (CHUNKED + b"0000A\r\n0123456789\r\n0\r\n\r\n", 200, b"0123456789", True),
    "controls in a value": (LENGTH + b"x-one: a\x01\x1b[31m\x7fb : c\r\n\r\n{}", 200, b"{}", True),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
    "no content, with a length": (b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n", 204, b"", True),
    "not modified, with a length": (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", 304, b"", True),
    "continue first": (b"HTTP/1.1 100 Continue\r\n\r\n" + LENGTH + b"\r\n{}", 200, b"{}", True),
    "hints first": (b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * 3 + LENGTH + b"\r\n{}", 200, b"{}", True),
    "a last one": (LENGTH + b"connection: close\r\n\r\n{}", 200, b"{}", False),
    "of HTTP/1.0": (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}", 200, b"{}", False),
    "of HTTP/1.0, that would go on": (
        b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\n{}",
        200,
        b"{}",
        False,
    ),
    "of HTTP/1.0, in chunks": (
        b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        200,
        b"{}",
        False,
    ),
    "a trailer that ends the connection": (CHUNKED + b"2\r\n{}\r\n0\r\nconnection: close\r\n\r\n", 200, b"{}", False),
    "a trailer that would switch": (
        CHUNKED + b"2\r\n{}\r\n0\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
        200,
        b"{}",
        True,
    ),
    "interim with a length": (
        b"HTTP/1.1 100 Continue\r\ncontent-length: 5\r\n\r\n" + LENGTH + b"\r\n{}",
        200,
        b"{}",
        True,
    ),
    "no content, in chunks": (
        b"HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n",
        204,
        b"",
        True,
    ),
    "more than its length": (LENGTH + b"\r\n{}{}", 200, b"{}", False),
    "two answers": (LENGTH + b"\r\n{}" + LENGTH + b"\r\n[]", 200, b"{}", False),
    "something after its chunks": (CHUNKED + b"2\r\n{}\r\n0\r\n\r\nHTTP", 200, b"{}", False),
    "something after the last one": (LENGTH + b"connection: close\r\n\r\n{}{}", 200, b"{}", False),
    "a body after no content": (b"HTTP/1.1 204 No Content\r\ncontent-length: 2\r\n\r\n{}", 204, b"", False),
}


@pytest.mark.parametrize(("answer", "status", "body", "lasts"), WHOLE.values(), ids=WHOLE)
async def test_an_answer_ends_where_it_says(answer: bytes, status: int, body: bytes, lasts: bool) -> None:
    """It is read to its end and no further, and the connection serves again only after a clean one."""
    async with Peers(saying(answer), saying(LENGTH + b"\r\n{}")) as peers, door(peers.base_url) as client:
        assert await whole(client) == (status, body)
        await whole(client)
        assert peers.connections == (1 if lasts else 2)


@pytest.mark.parametrize("head", [OK, OK + b"connection: close\r\n", b"HTTP/1.0 200 OK\r\n"])
async def test_a_body_without_length_ends_with_the_connection(head: bytes) -> None:
    """Its end is the upstream's; the next request goes over another connection."""
    async with Peers(saying(head + b"\r\n{}", ends=True)) as peers, door(peers.base_url) as client:
        assert [await whole(client) for _ in range(2)] == [(200, b"{}")] * 2
        assert peers.connections == 2


async def test_trailers_do_not_become_headers() -> None:
    """What comes behind the body is dropped: nobody looks at it, and it changes nothing that was said before."""
    answer = CHUNKED + b"2\r\n{}\r\n0\r\ncontent-type: text/html\r\nx-late: 1\r\n\r\n"
    async with Peers(saying(answer)) as peers, door(peers.base_url) as client:
        response = await client.send(UpstreamRequest(method="GET", path="/models", headers=[]))
        while await response.read():
            pass
        await response.aclose()
        assert response.headers == [(b"transfer-encoding", b"chunked")]


async def test_what_a_trailer_is_refused_for_costs_no_later_head_a_control() -> None:
    """The parser is strict with trailers alone: the next head over the same connection is read as the first one was."""
    odd = OK + b"x-one: a\x01b\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nx-two: y\r\n\r\n"
    async with Peers(saying(odd)) as peers, door(peers.base_url) as client:
        assert [await whole(client) for _ in range(3)] == [(200, b"{}")] * 3
        assert peers.connections == 1


async def test_the_answer_to_head_has_no_body_whatever_its_length() -> None:
    """The next answer is not taken for its body."""
    async with Peers(saying(OK + b"content-length: 5\r\n\r\n")) as peers, door(peers.base_url) as client:
        assert await whole(client, UpstreamRequest(method="HEAD", path="/models", headers=[])) == (200, b"")


# ---- answers that are refused: what comes, and the status if the head itself was none to refuse

REFUSED: dict[str, tuple[bytes, int | None]] = {
    "two lengths": (LENGTH + b"content-length: 3\r\n\r\n{}", None),
    "a length twice": (LENGTH + b"content-length: 2\r\n\r\n{}", None),
    "a list of lengths": (OK + b"content-length: 2, 2\r\n\r\n{}", None),
    "a length and chunks": (LENGTH + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", None),
    "chunks and a length": (OK + b"transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n", None),
    "a negative length": (OK + b"content-length: -2\r\n\r\n{}", None),
    "a length with a plus": (OK + b"content-length: +2\r\n\r\n{}", None),
    "a length in hexadecimal": (OK + b"content-length: 0x2\r\n\r\n{}", None),
    "a length with an underscore": (OK + b"content-length: 0_2\r\n\r\n{}", None),
    "a length with a fraction": (OK + b"content-length: 2.0\r\n\r\n{}", None),
    "a length of no digits": (OK + b"content-length: \r\n\r\n{}", None),
    "a length of 300 digits": (OK + b"content-length: " + b"0" * 299 + b"2\r\n\r\n{}", None),
    "a length beyond 64 bits": (OK + b"content-length: 99999999999999999999999\r\n\r\n{}", None),
    "a length in two parts": (OK + b"content-length: 2 0\r\n\r\n{}", None),
    "a compressed transfer": (OK + b"transfer-encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", None),
    "chunks inside": (OK + b"transfer-encoding: chunked, gzip\r\n\r\n2\r\n{}\r\n0\r\n\r\n", None),
    "an identity transfer": (OK + b"transfer-encoding: identity\r\n\r\n{}", None),
    "an unknown transfer": (OK + b"transfer-encoding: xchunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", None),
    "chunks twice": (OK + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", None),
    "chunks in quotes": (OK + b'transfer-encoding: "chunked"\r\n\r\n2\r\n{}\r\n0\r\n\r\n', None),
    "a hidden transfer": (OK + b"transfer-encoding: \x0bchunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", None),
    "a folded header": (LENGTH + b"x-one: a\r\n b\r\n\r\n{}", None),
    "a folded length": (OK + b"content-length: 2\r\n 0\r\n\r\n{}", None),
    "a folded transfer": (OK + b"transfer-encoding:\r\n chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", None),
    "a space before a colon": (OK + b"content-length : 2\r\n\r\n{}", None),
    "a tab before a colon": (OK + b"content-length\t: 2\r\n\r\n{}", None),
    "a space before a name": (OK + b" content-length: 2\r\n\r\n{}", None),
    "a name with a space": (LENGTH + b"x one: a\r\n\r\n{}", None),
    "a name of nothing": (LENGTH + b": a\r\n\r\n{}", None),
    "a line without a colon": (LENGTH + b"x-one\r\n\r\n{}", None),
    "NUL in a name": (LENGTH + b"x\0one: a\r\n\r\n{}", None),
    "NUL in a value": (LENGTH + b"x-one: a\0b\r\n\r\n{}", None),
    "an empty line first": (b"\r\n" + LENGTH + b"\r\n{}", None),
    "bare LF": (b"HTTP/1.1 200 OK\ncontent-length: 2\n\n{}", None),
    "bare LF behind a control": (LENGTH + b"x-one: a\x01\nx-two: b\r\n\r\n{}", None),
    "a length behind bare LF behind a control": (OK + b"x-one: \x01\ncontent-length: 2\r\n\r\n{}", None),
    "a head that ends in bare LF behind a control": (OK + b"x-one: \x01\n\r\n\r\n\r\n", None),
    "form feed in a value": (LENGTH + b"x-one: a\x0cb\r\n\r\n{}", None),
    "vertical tab in a value": (LENGTH + b"x-one: a\x0b\r\n\r\n{}", None),
    "one bare LF": (LENGTH + b"x-one: a\nx-two: b\r\n\r\n{}", None),
    "bare CR": (LENGTH + b"x-one: a\rx-two: b\r\n\r\n{}", None),
    "a head that ends in bare LF": (LENGTH + b"\n{}", None),
    "another protocol": (b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n..", None),
    "another protocol, without a word": (b"HTTP/1.1 101 Switching\r\n\r\n" + LENGTH + b"\r\n{}", None),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.2\r\n", None),
    "a request": (b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", None),
    "streaming": (b"RTSP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}", None),
    "ice": (b"ICE/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}", None),
    "ice behind a hint": (b"HTTP/1.1 103 A\r\n\r\nICE/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}", None),
    "radio": (b"ICY 200 OK\r\ncontent-length: 2\r\n\r\n{}", None),
    "HTTP/0.9": (b"HTTP/0.9 200 OK\r\ncontent-length: 2\r\n\r\n{}", None),
    "HTTP/2": (b"HTTP/2.0 200 OK\r\ncontent-length: 2\r\n\r\n{}", None),
    "HTTP/1.2": (b"HTTP/1.2 200 OK\r\ncontent-length: 2\r\n\r\n{}", None),
    "a status of two digits": (b"HTTP/1.1 99 OK\r\ncontent-length: 2\r\n\r\n{}", None),
    "a status below all": (b"HTTP/1.1 099 OK\r\ncontent-length: 2\r\n\r\n{}", None),
    "a status of four digits": (b"HTTP/1.1 2000 OK\r\ncontent-length: 2\r\n\r\n{}", None),
    "a status of letters": (b"HTTP/1.1 OK\r\ncontent-length: 2\r\n\r\n{}", None),
    "a chunk of negative size": (CHUNKED + b"-2\r\n{}\r\n0\r\n\r\n", 200),
    "a chunk with a plus": (CHUNKED + b"+2\r\n{}\r\n0\r\n\r\n", 200),
    "a chunk in C's way": (CHUNKED + b"0x2\r\n{}\r\n0\r\n\r\n", 200),
    "a chunk with an underscore": (CHUNKED + b"0_2\r\n{}\r\n0\r\n\r\n", 200),
    "a chunk size and a space": (CHUNKED + b"2 \r\n{}\r\n0\r\n\r\n", 200),
    "a chunk of no size": (CHUNKED + b"\r\n{}\r\n0\r\n\r\n", 200),
    "a chunk beyond 64 bits": (CHUNKED + b"fffffffffffffffff\r\n{}\r\n0\r\n\r\n", 200),
    "a chunk after bare LF": (CHUNKED + b"2\n{}\r\n0\r\n\r\n", 200),
    "a chunk ended by bare LF": (CHUNKED + b"2\r\n{}\n0\r\n\r\n", 200),
    "a chunk that is too long": (CHUNKED + b"1\r\n{}\r\n0\r\n\r\n", 200),
    "an extension with bare LF": (CHUNKED + b"2;a\n{}\r\n0\r\n\r\n", 200),
    "a coding in the trailer": (CHUNKED + b"2\r\n{}\r\n0\r\nTransfer-Encoding: gzip\r\n\r\n", 200),
    "a coding in the trailer, behind a space": (CHUNKED + b"2\r\n{}\r\n0\r\ntransfer-encoding : a\r\n\r\n", 200),
    "a folded trailer": (CHUNKED + b"2\r\n{}\r\n0\r\nx-one: a\r\n b\r\n\r\n", 200),
    "a trailer with NUL": (CHUNKED + b"2\r\n{}\r\n0\r\nx-one: a\0\r\n\r\n", 200),
    "a trailer that ends in bare LF": (CHUNKED + b"2\r\n{}\r\n0\r\nx-one: a\x01\n\r\n", 200),
    "a length in the trailer": (CHUNKED + b"2\r\n{}\r\n0\r\ncontent-length: 2\r\n\r\n", 200),
}


@pytest.mark.parametrize(("answer", "status"), REFUSED.values(), ids=REFUSED)
async def test_an_answer_that_could_be_read_in_two_ways_is_none(answer: bytes, status: int | None) -> None:
    """It is a cut, its connection is closed at once, and the next request is answered over another."""
    async with Peers(saying(answer), saying(LENGTH + b"\r\n{}")) as peers, door(peers.base_url) as client:
        assert await fault_of(client) == ("upstream_cut", True, status)
        assert await whole(client) == (200, b"{}")
        assert peers.connections == 2


# ---- without end


def endless(start: bytes, *, again: bytes) -> Script:
    """Answer with `start` and then with `again` for as long as the client stays."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(start)
        while True:
            await peer.say(again)

    return script


ENDLESS: dict[str, tuple[bytes, bytes, int | None]] = {
    "a status line": (b"HTTP/1.1 200 ", b"a" * 4096, None),
    "a header's name": (OK, b"a" * 4096, None),
    "a header's value": (OK + b"x-one: ", b"a" * 4096, None),
    "headers": (OK, b"x-one: a\r\n" * 100, None),
    "empty lines": (b"", b"\r\n" * 2048, None),
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100, None),
    "an extension of a chunk": (CHUNKED + b"2;", b"a" * 4096, 200),
    "the size of a chunk": (CHUNKED, b"0" * 4096, 200),
    "a trailer": (CHUNKED + b"2\r\n{}\r\n0\r\n", b"x-one: a\r\n" * 100, 200),
    "a trailer's value": (CHUNKED + b"2\r\n{}\r\n0\r\nx-one: ", b"a" * 4096, 200),
}


@pytest.mark.parametrize(("start", "again", "status"), ENDLESS.values(), ids=ENDLESS)
async def test_what_has_no_end_and_no_body_is_given_up(start: bytes, again: bytes, status: int | None) -> None:
    """However it is gone about, no more than a bounded number of bytes is listened to without a body in them."""
    async with Peers(endless(start, again=again)) as peers, door(peers.base_url) as client:
        assert await fault_of(client) == ("upstream_cut", True, status)


async def test_a_head_within_its_limits_is_taken_and_one_beyond_is_not() -> None:
    """Both the number of headers and their size are bounded, also where all of them come in one segment."""
    many = OK + b"x-one: a\r\n" * (MAX_HEADERS - 1)
    large = OK + b"x-one: " + b"a" * (MAX_HEAD_BYTES - 100) + b"\r\n"
    taken = [many + b"content-length: 2\r\n\r\n{}", large + b"content-length: 2\r\n\r\n{}"]
    for answer in taken:
        async with Peers(saying(answer)) as peers, door(peers.base_url) as client:
            assert await whole(client) == (200, b"{}")
    beyond = [many + b"x-two: b\r\ncontent-length: 2\r\n\r\n{}", large + b"x-two: " + b"b" * 200 + b"\r\n\r\n{}"]
    for answer in beyond:
        async with Peers(saying(answer)) as peers, door(peers.base_url) as client:
            assert await fault_of(client) == ("upstream_cut", True, None)


async def test_a_long_stream_of_small_chunks_is_no_endless_one() -> None:
    """The bound is on bytes in a row without a body, not on an answer's length."""
    chunk = b"1;ext=" + b"a" * 200 + b"\r\n.\r\n"
    count = 3 * MAX_BARREN_BYTES // len(chunk)

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(CHUNKED, *[chunk] * count, b"0\r\n\r\n")

    async with Peers(script) as peers, door(peers.base_url) as client:
        assert await whole(client) == (200, b"." * count)


# ---- cut


CUT: dict[str, tuple[bytes, int | None]] = {
    "before anything": (b"", None),
    "in the status line": (b"HTTP/1.1 2", None),
    "in a header": (OK + b"content-le", None),
    "before the end of the head": (LENGTH, None),
    "after an interim answer": (b"HTTP/1.1 100 Continue\r\n\r\n", None),
    "before the body": (LENGTH + b"\r\n", 200),
    "in the body": (LENGTH + b"\r\n{", 200),
    "before a chunk": (CHUNKED, 200),
    "in a chunk's size": (CHUNKED + b"2", 200),
    "in a chunk": (CHUNKED + b"2\r\n{", 200),
    "after a chunk": (CHUNKED + b"2\r\n{}\r\n", 200),
    "before the end of chunks": (CHUNKED + b"2\r\n{}\r\n0\r\n", 200),
    "in the trailer": (CHUNKED + b"2\r\n{}\r\n0\r\nx-one: a\r\n", 200),
}


@pytest.mark.parametrize("ending", ["end", "reset"])
@pytest.mark.parametrize(("answer", "status"), CUT.values(), ids=CUT)
async def test_an_answer_that_ends_early_is_cut(answer: bytes, status: int | None, ending: str) -> None:
    """Wherever it ends, and in whichever way, it is never taken for a whole one."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(answer)
        getattr(peer, ending)()

    async with Peers(script) as peers, door(peers.base_url) as client:
        outcome, sent, told = await fault_of(client)
        # A reset may overtake what was written before it.
        assert (outcome, sent) == ("upstream_cut", True)
        assert told in ({status} if ending == "end" else {status, None})


async def test_a_body_without_length_that_is_reset_is_cut() -> None:
    """Only an orderly end is its end."""
    was_read = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(OK + b"\r\n{}")
        await was_read.wait()
        peer.reset()

    async with Peers(script) as peers, door(peers.base_url) as client:
        response = await client.send(completion())
        assert await response.read() == b"{}"
        was_read.set()
        for _ in range(2):
            with pytest.raises(AttemptFailedError) as caught:
                await response.read()
            assert caught.value.fault.outcome == "upstream_cut"
        await response.aclose()
