"""One GET of a grid service on real sockets: what comes back, how much of it, how long it may take, who is asked."""

from __future__ import annotations

import asyncio
import gzip
import socket
import zlib
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grid.samples import NOW
from streams.wall import LIMIT, RawUpstream, nowhere
from support import unused_port
from vetted_mw.grid.absence import Cause, NoSignalReason
from vetted_mw.grid.sources.fetching import Answer, Failure, HttpGet
from vetted_mw.grid.sources.request import MAX_BODY_BYTES, Request
from vetted_mw.retry_after import parse_retry_after

pytestmark = pytest.mark.anyio

if TYPE_CHECKING:
    from collections.abc import Sequence

NO_TIME = 0.05
"""Seconds for an answer that never ends: however slow the machine, the outcome is the same."""


def getting(*, timeout_seconds: float = LIMIT, proxy: str = "") -> HttpGet:
    return HttpGet(timeout_seconds=timeout_seconds, proxy=proxy, user_agent="vetted-mw/test", now=lambda: NOW)


async def got(
    *parts: bytes | float, ending: str = "close", timeout_seconds: float = LIMIT, server: RawUpstream | None = None
) -> Answer | Failure:
    """Ask a server that answers with these bytes."""
    answering = server or RawUpstream(*parts, ending=ending)  # type: ignore[arg-type]
    async with asyncio.timeout(2 * LIMIT), answering, getting(timeout_seconds=timeout_seconds)() as get:
        return await get(Request(url=answering.base_url))


def head(status: int, *headers: str, length: int | None = 0) -> bytes:
    lines = [f"HTTP/1.1 {status} Scripted", *headers]
    if length is not None:
        lines.append(f"content-length: {length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


# ---- what is sent


async def test_the_request_says_who_we_are_and_asks_for_no_encoding() -> None:
    """The headers of the question, ours, and nothing of the library's."""
    async with RawUpstream(head(200)) as server, getting()() as get:
        url = f"{server.base_url}/values?zone=FR&x=%2F"
        await get(Request(url=url, accept="application/xml", headers=(("x-api-key", "k"),)))
    (request,) = server.requests
    first, *lines = request.decode().strip().split("\r\n")
    assert first == "get /v1/values?zone=fr&x=%2f http/1.1"
    told = dict(line.split(": ", 1) for line in lines)
    assert told.pop("host").startswith("127.0.0.1:")
    assert told == {
        "accept": "application/xml",
        "accept-encoding": "identity",
        "user-agent": "vetted-mw/test",
        "x-api-key": "k",
    }


async def test_the_environments_proxies_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever variables the process has, the service is asked directly."""
    async with RawUpstream(head(500)) as elsewhere, RawUpstream(head(200, length=2) + b"{}") as server:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, elsewhere.base_url.removesuffix("/v1"))
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        async with getting()() as get:
            assert await get(Request(url=server.base_url)) == Answer(status=200, body=b"{}")
        assert (len(server.requests), elsewhere.requests) == (1, [])


async def test_the_configured_proxy_is_used() -> None:
    """It is asked for the whole URL, and its answer is the answer."""
    port = unused_port()
    async with RawUpstream(head(200, length=2) + b"{}") as proxy:
        async with getting(proxy=proxy.base_url.removesuffix("/v1"))() as get:
            assert await get(Request(url=f"http://127.0.0.1:{port}/values")) == Answer(status=200, body=b"{}")
        (request,) = proxy.requests
    assert request.startswith(b"get http://127.0.0.1:%d/values http/1.1" % port)


async def test_a_proxy_that_is_not_there_is_no_way_out() -> None:
    """Without its proxy nothing is asked directly."""
    async with RawUpstream(head(200)) as server:
        async with getting(proxy=f"http://127.0.0.1:{unused_port()}")() as get:
            assert await get(Request(url=server.base_url)) == unreachable(Cause.PROXY)
        assert server.requests == []


# ---- statuses


@pytest.mark.parametrize("status", [200, 400])
async def test_the_body_of_a_status_that_may_hold_a_document_is_read(status: int) -> None:
    """200, and 400, which one service answers documents with."""
    assert await got(head(status, length=5) + b"words") == Answer(status=status, body=b"words")


@pytest.mark.parametrize("status", [201, 204, 304, 401, 403, 404, 407, 408, 410, 418, 429, 500, 502, 503, 504, 599])
async def test_every_other_status_is_told_and_its_body_left_unread(status: int) -> None:
    """What it says cannot be of use, and may repeat the query with the key in it."""
    body = b"" if status in {204, 304} else b"words"
    assert await got(head(status, length=len(body) or None) + body) == Answer(status=status, body=b"")


@pytest.mark.parametrize("status", [429, 503])
async def test_a_refusal_is_told_though_its_body_never_ends(status: int) -> None:
    """The status and how long to wait are known before the body, so that a broken body hides neither."""
    for body in (head(status, "retry-after: 7", length=10**9), head(status, "retry-after: 7", "content-encoding: br")):
        assert await got(body, ending="stall") == Answer(status=status, body=b"", retry_after_seconds=7.0)


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
async def test_a_redirect_is_never_followed(status: int) -> None:
    """Its target would get the key; the status is all that is told."""
    async with RawUpstream(head(200, length=2) + b"{}") as target:
        found = await got(head(status, f"location: {target.base_url}"))
        assert (found, target.requests) == (Answer(status=status, body=b""), [])


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120.0),
        ("0", 0.0),
        ("-5", 0.0),
        ("1.5", 1.5),
        ("7200", 7200.0),
        ("86400", 86400.0),
        ("99999999", 86400.0),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0),
        (format_datetime(NOW - timedelta(seconds=90), usegmt=True), 0.0),
        ("soon", None),
        ("", None),
        ("nan", None),
        ("inf", None),
        ("Mon, 99 Nov 2026 10:00:00 GMT", None),
    ],
)
@pytest.mark.parametrize("status", [200, 429, 503])
async def test_how_long_to_wait_is_read_from_any_answer(status: int, text: str, seconds: float | None) -> None:
    """Seconds or a date, never less than none, never more than a day; what cannot be read is not there."""
    assert await got(head(status, f"retry-after: {text}")) == Answer(
        status=status, body=b"", retry_after_seconds=seconds
    )


@settings(max_examples=300, deadline=None)
@given(
    st.text(max_size=40)
    | st.integers().map(str)
    | st.floats().map(str)
    | st.lists(st.sampled_from(["Sun,", "22", "Nov", "2026", "10:31:07", "GMT", "-0000", ":", "99:99", "+"])).map(
        " ".join
    )
)
def test_whatever_is_written_for_a_wait_is_a_wait_or_none(text: str) -> None:
    """No text raises, and no wait is negative, endless or longer than was allowed."""
    for most in (3600.0, 86_400.0):
        seconds = parse_retry_after(text, now=NOW, most_seconds=most)
        assert seconds is None or 0.0 <= seconds <= most


@settings(max_examples=100, deadline=None)
@given(st.integers(min_value=-10_000, max_value=10_000))
def test_a_date_and_its_seconds_are_one_wait(seconds: int) -> None:
    """A service may write either."""
    date = format_datetime((NOW + timedelta(seconds=seconds)).astimezone(UTC), usegmt=True)
    assert parse_retry_after(date, now=NOW) == parse_retry_after(str(seconds), now=NOW)


def test_a_wait_is_at_most_an_hour_unless_more_is_allowed() -> None:
    """An upstream that says a year is tried again."""
    far = datetime(2030, 1, 1, tzinfo=UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    assert (parse_retry_after("31536000", now=NOW), parse_retry_after(far, now=NOW)) == (3600.0, 3600.0)


# ---- how much is read

BIG = b"x" * 65536
TOO_MANY = MAX_BODY_BYTES // len(BIG) + 1
CHUNKED = head(200, "transfer-encoding: chunked", length=None)


async def test_a_body_of_just_the_limit_is_whole() -> None:
    """The limit itself is allowed."""
    found = await got(head(200, length=MAX_BODY_BYTES), *[BIG] * (MAX_BODY_BYTES // len(BIG)))
    assert isinstance(found, Answer)
    assert len(found.body) == MAX_BODY_BYTES


@pytest.mark.parametrize("first", [head(200, length=TOO_MANY * len(BIG)), head(200, length=None)])
async def test_a_body_over_the_limit_is_refused(first: bytes) -> None:
    """With its length told before, or only by its end."""
    assert await got(first, *[BIG] * TOO_MANY) == Failure(reason=NoSignalReason.TOO_LARGE, status=200)


async def test_an_endless_stream_is_left_once_it_is_over_the_limit() -> None:
    """The rest is not read: the connection is closed on it."""
    server = RawUpstream(CHUNKED, *[chunk(BIG)] * 100 * TOO_MANY)
    found = await got(server=server)
    assert found == Failure(reason=NoSignalReason.TOO_LARGE, status=200)
    assert server.written < 50 * TOO_MANY * len(BIG)


def encoded(data: bytes, encoding: str) -> Sequence[bytes]:
    return (head(200, f"content-encoding: {encoding}", length=len(data)), data)


@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        ("gzip", gzip.compress(b"words", mtime=0)),
        ("GZIP ", gzip.compress(b"words", mtime=0)),
        ("x-gzip", gzip.compress(b"words", mtime=0)),
        ("deflate", zlib.compress(b"words")),
        ("identity", b"words"),
        ("", b"words"),
    ],
)
async def test_an_encoding_nobody_asked_for_is_undone(encoding: str, data: bytes) -> None:
    """Some servers compress whatever one asks for."""
    assert await got(*encoded(data, encoding)) == Answer(status=200, body=b"words")


@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        ("br", b"words"),
        ("gzip, gzip", gzip.compress(gzip.compress(b"words", mtime=0), mtime=0)),
        ("gzip", b"words"),
        ("gzip", b""),
        ("gzip", gzip.compress(b"words", mtime=0)[:-9]),
        ("deflate", b"\x78"),
        ("\xff", b"words"),
    ],
)
async def test_an_encoding_that_cannot_be_undone_is_not_understood(encoding: str, data: bytes) -> None:
    """Unknown, twice, not what it says, or cut short."""
    assert await got(*encoded(data, encoding)) == Failure(reason=NoSignalReason.NOT_UNDERSTOOD, status=200)


@pytest.mark.parametrize("inflated", [MAX_BODY_BYTES + 1, 100 * MAX_BODY_BYTES])
async def test_a_bomb_is_refused_without_being_inflated_whole(inflated: int) -> None:
    """A few kilobytes that would be half a gigabyte."""
    packed = zlib.compressobj(wbits=31)
    bomb = b"".join(packed.compress(bytes(65536)) for _ in range(inflated // 65536 + 1)) + packed.flush()
    assert len(bomb) < MAX_BODY_BYTES
    assert await got(*encoded(bomb, "gzip")) == Failure(reason=NoSignalReason.TOO_LARGE, status=200)


async def test_a_packed_body_of_just_the_limit_is_whole() -> None:
    """The limit is of what was packed."""
    found = await got(*encoded(gzip.compress(bytes(MAX_BODY_BYTES)), "gzip"))
    assert isinstance(found, Answer)
    assert len(found.body) == MAX_BODY_BYTES


# ---- what breaks


def unreachable(cause: Cause | None) -> Failure:
    return Failure(reason=NoSignalReason.UNREACHABLE, cause=cause)


@pytest.mark.parametrize(
    ("parts", "ending"),
    [
        ([head(200, length=100), b"half"], "close"),
        ([head(200, length=100), b"half"], "reset"),
        ([CHUNKED, chunk(b"half")], "close"),
        ([CHUNKED, b"zz\r\n"], "close"),
        ([b""], "close"),
        ([b""], "reset"),
        ([b"HTTP/1.1 200 OK\r\ncontent-"], "close"),
        ([b"not HTTP at all\r\n\r\n"], "close"),
        ([b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n"], "close"),
        ([b"HTTP/1.1 200 OK\r\ncontent-length: " + b"9" * 5000 + b"\r\n\r\n"], "close"),
        ([b"HTTP/1.1 200 OK\r\nx: " + b"y" * 300_000 + b"\r\n\r\n"], "close"),
        ([b"HTTP/1.1 100 Continue\r\n\r\n"], "close"),
        ([b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"], "close"),
    ],
)
async def test_an_answer_that_breaks_or_is_none_is_unreachable(parts: list[bytes], ending: str) -> None:
    """Half an answer is never taken for one."""
    assert await got(*parts, ending=ending) == unreachable(Cause.CUT)


async def test_a_refused_connection_is_unreachable() -> None:
    """Nobody listens there, and the cause says so."""
    async with nowhere() as server, getting()() as get:
        assert await get(Request(url=server.base_url)) == unreachable(Cause.CONNECTION_REFUSED)


async def test_a_name_that_cannot_be_resolved_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is behind a proxy or has a typing error in a base_url reads which."""

    async def unknown(*_arguments: object, **_options: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
    async with getting()() as get:
        assert await get(Request(url="http://grid.example/")) == unreachable(Cause.NAME_NOT_RESOLVED)


async def test_a_server_that_speaks_no_tls_is_unreachable() -> None:
    """A handshake that fails is a failure, never an exception."""
    async with RawUpstream(b"plain words\r\n", reads=False, scheme="https") as server, getting()() as get:
        assert await get(Request(url=server.base_url)) == unreachable(Cause.TLS)


@pytest.mark.parametrize(
    "url",
    ["", "nothing", "ftp://127.0.0.1/", "http://[::1", "http://127.0.0.1:99999/", "http://xn--/", "http://h/\ud800"],
)
async def test_an_address_that_is_none_is_unreachable(url: str) -> None:
    """Whatever the libraries below raise, this never does."""
    async with getting()() as get:
        found = await get(Request(url=url))
        assert isinstance(found, Failure)
        assert found.reason is NoSignalReason.UNREACHABLE


@pytest.mark.parametrize(
    "parts",
    [[], [b"HTTP/1.1 200 OK\r\n"], [head(200, length=100), b"half"], [CHUNKED, chunk(b"half")]],
    ids=["nothing", "half a head", "half a body", "half a stream"],
)
async def test_an_answer_that_does_not_end_in_time_is_a_timeout_and_its_socket_closed(parts: list[bytes]) -> None:
    """One limit holds for the whole answer."""
    server = RawUpstream(*parts, ending="stall")
    async with asyncio.timeout(LIMIT), server, getting(timeout_seconds=NO_TIME)() as get:
        assert await get(Request(url=server.base_url)) == Failure(reason=NoSignalReason.TIMEOUT)
        if server.requests:  # it had come so far when the time was over
            await server.left.wait()


async def test_a_server_that_drips_for_ever_is_a_timeout() -> None:
    """Every byte in time does not make the answer in time."""
    drops = [part for _ in range(2000) for part in (chunk(b"x"), 0.01)]
    assert await got(CHUNKED, *drops, timeout_seconds=0.2) == Failure(reason=NoSignalReason.TIMEOUT)


@pytest.mark.parametrize("parts", [[], [head(200, length=100), b"half"]], ids=["before the head", "in the body"])
async def test_a_cancel_closes_the_socket(parts: list[bytes]) -> None:
    """Who leaves takes the connection along, and the cancel is not swallowed."""
    server = RawUpstream(*parts, ending="stall")
    async with asyncio.timeout(LIMIT), server:

        async def ask() -> None:
            async with getting()() as get:
                await get(Request(url=server.base_url))

        asking = asyncio.ensure_future(ask())
        while not server.requests or server.written < sum(map(len, parts)):  # noqa: ASYNC110 (what no event tells)
            await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await server.left.wait()


async def test_a_failure_spoils_no_later_question() -> None:
    """The next GET of the same session is a fresh one."""
    broken, well = RawUpstream(head(200, length=100), b"half"), RawUpstream(head(200, length=2), b"{}")
    async with broken, well, getting()() as get:
        assert await get(Request(url=broken.base_url)) == unreachable(Cause.CUT)
        assert await get(Request(url=well.base_url)) == Answer(status=200, body=b"{}")


async def test_the_connections_of_a_refresh_end_with_it() -> None:
    """A keep-alive connection is not kept for the next refresh, minutes later."""
    server = RawUpstream(head(200, length=2), b"{}", ending="stall")
    async with asyncio.timeout(LIMIT), server:
        async with getting()() as get:
            await get(Request(url=server.base_url))
            assert not server.left.is_set()
        await server.left.wait()


async def test_a_date_to_wait_for_is_measured_by_the_clock_given() -> None:
    """The machine's own clock is not asked."""
    then = format_datetime(NOW.astimezone(UTC) + timedelta(minutes=2), usegmt=True)
    found = await got(head(503, f"retry-after: {then}"))
    assert isinstance(found, Answer)
    assert found.retry_after_seconds == 120.0
