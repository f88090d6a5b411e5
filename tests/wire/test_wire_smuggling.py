"""Requests that two servers could cut in two places, on both readers of HTTP that uvicorn has: one answer, no stowaway."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn

from support import configured
from vetted_mw import Gateway, VettedProxy
from vetted_mw.cli.heads import BoundedHeads
from vetted_mw.testing import FakeUpstream
from wire.clients import COMPLETIONS, PARIS, RawClient, client_of, raw_connection, request_head

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    import httpx

pytestmark = pytest.mark.anyio

LIMIT = 30.0
BODY = b'{"model":"m","messages":[]}'
LENGTH = f"content-length: {len(BODY)}"
CHUNKED = "transfer-encoding: chunked"
CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
SECRET = "stowaway"
HIDDEN = request_head(LENGTH, f"x-name: {SECRET}") + BODY


def first_line(line: str, *lines: str) -> bytes:
    """Write a head with a first line of its own."""
    return "\r\n".join([line, "host: gateway", "content-type: application/json", *lines, "", ""]).encode("latin-1")


@contextlib.contextmanager
def _running(app: VettedProxy, http: Any) -> Iterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        config = uvicorn.Config(app, http=http, lifespan="on", access_log=False, log_level="warning")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            thread.join(0.01)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(LIMIT)


@pytest.fixture(scope="module", params=["httptools", "h11", "served"])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[tuple[httpx.AsyncClient, FakeUpstream]]:
    """Serve a gateway by one reader of HTTP; `served` is the one `vetted-mw serve` runs."""
    http = BoundedHeads if request.param == "served" else request.param
    async with FakeUpstream() as upstream:
        gateway = Gateway(configured({PARIS: upstream.base_url}, limits={"body_read_seconds": 1.0}))
        with _running(VettedProxy(gateway), http) as origin:
            async with client_of(origin) as client:
                yield client, upstream


async def statuses(connection: RawClient) -> list[int]:
    """Read what the server says until it closes, and return the statuses it said."""
    said = await connection.rest()
    return [int(part[:3]) for part in said.split(b"HTTP/1.1 ")[1:]]


# ---- where does the body end?


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(request_head("content-length: 4", CHUNKED) + CHUNKS, id="length and chunks"),
        pytest.param(request_head(CHUNKED, f"content-length: {len(CHUNKS)}") + CHUNKS, id="chunks and length"),
        pytest.param(request_head(LENGTH, "content-length: 5") + BODY, id="two lengths"),
        pytest.param(request_head("content-length: 27, 5") + BODY, id="a list of lengths"),
        pytest.param(request_head("content-length: +27") + BODY, id="a length with a plus"),
        pytest.param(request_head("content-length: 2 7") + BODY, id="a length with a blank"),
        pytest.param(request_head("content-length: " + "9" * 40) + BODY, id="a length of forty digits"),
        pytest.param(request_head("transfer-encoding: identity", LENGTH) + BODY, id="identity and length"),
        pytest.param(request_head("transfer-encoding: gzip, chunked") + CHUNKS, id="gzip, chunked"),
        pytest.param(request_head(CHUNKED, CHUNKED) + CHUNKS, id="chunked twice"),
        pytest.param(request_head("transfer-encoding: \x0bchunked") + CHUNKS, id="a vertical tab before chunked"),
        pytest.param(request_head('transfer-encoding: "chunked"') + CHUNKS, id="chunked in quotes"),
        pytest.param(request_head("transfer-encoding : chunked") + CHUNKS, id="a blank before the colon"),
        pytest.param(first_line(f"POST {COMPLETIONS} HTTP/1.0", CHUNKED) + CHUNKS, id="chunks over HTTP/1.0"),
        pytest.param(request_head(CHUNKED) + b"-1b\r\n" + BODY + b"\r\n0\r\n\r\n", id="a negative chunk"),
        pytest.param(request_head(CHUNKED) + b"0x1b\r\n" + BODY + b"\r\n0\r\n\r\n", id="a chunk with 0x"),
        pytest.param(request_head(CHUNKED) + b"+1b\r\n" + BODY + b"\r\n0\r\n\r\n", id="a chunk with a plus"),
        pytest.param(request_head(CHUNKED) + b" 1b\r\n" + BODY + b"\r\n0\r\n\r\n", id="a blank before a chunk"),
        pytest.param(request_head(CHUNKED) + b"1b\n" + BODY + b"\n0\n\n", id="chunks ended by LF"),
        pytest.param(request_head(CHUNKED) + b"1b;a\nb\r\n" + BODY + b"\r\n0\r\n\r\n", id="LF in an extension"),
        pytest.param(request_head(CHUNKED) + b"5\r\n" + BODY + b"\r\n0\r\n\r\n", id="a chunk longer than it says"),
        pytest.param(request_head(CHUNKED) + b"1b\r\n" + BODY + b"XX0\r\n\r\n", id="no end of a chunk"),
        pytest.param(first_line("POST evil.example:80 HTTP/1.1", LENGTH) + BODY, id="an authority as target"),
        pytest.param(first_line(f"POST {COMPLETIONS}\0 HTTP/1.1", LENGTH) + BODY, id="a NUL in the target"),
        pytest.param(first_line(f"POST {COMPLETIONS}%0d%0aX:y HTTP/1.1", LENGTH) + BODY, id="CRLF in the target"),
        pytest.param(first_line(f"POST {COMPLETIONS} http/1.1", LENGTH) + BODY, id="a version in lower case"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="the preface of HTTP/2"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), id="a TLS handshake"),
    ],
)
async def test_an_unclear_request_is_refused_and_what_hides_behind_it_is_never_run(
    place: tuple[httpx.AsyncClient, FakeUpstream], sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """A 4xx (or nothing at all) and a closed connection; neither it nor the request behind it reaches an upstream."""
    client, upstream = place
    before = len(upstream.requests)
    with caplog.at_level(logging.DEBUG):
        async with raw_connection(client) as connection:
            await connection.send(sent + HIDDEN)
            told = await statuses(connection)
    assert all(400 <= status < 500 for status in told)
    assert len(upstream.requests) == before
    assert SECRET not in caplog.text


async def test_a_chunk_of_more_than_there_can_be_is_never_waited_for(
    place: tuple[httpx.AsyncClient, FakeUpstream],
) -> None:
    """A chunk of 16^17 bytes is refused, or read as far as the limits go; what follows in it is its body, no request."""
    client, upstream = place
    before = len(upstream.requests)
    async with raw_connection(client) as connection:
        await connection.send(request_head(CHUNKED) + b"f" * 17 + b"\r\n" + HIDDEN)
        assert await statuses(connection) in ([400], [408])
    assert len(upstream.requests) == before


# ---- what is clear


async def test_requests_sent_at_once_are_answered_one_by_one(place: tuple[httpx.AsyncClient, FakeUpstream]) -> None:
    """Three pipelined completions are three answers, in their order, each of one upstream request."""
    client, upstream = place
    before = len(upstream.requests)
    bodies = [BODY.replace(b'"m"', b'"%s"' % name) for name in (b"a", b"b", b"c")]
    async with raw_connection(client) as connection:
        await connection.send(b"".join(request_head(LENGTH) + body for body in bodies))
        answers = [await connection.answer() for _ in bodies]
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert [request.json()["model"] for request in upstream.requests[before:]] == ["a", "b", "c"]


async def test_a_request_inside_another_ones_body_is_a_body(place: tuple[httpx.AsyncClient, FakeUpstream]) -> None:
    """A completion written into the body of a GET is thrown away with it."""
    client, upstream = place
    before = len(upstream.requests)
    async with raw_connection(client) as connection:
        await connection.send(first_line("GET /healthz HTTP/1.1", f"content-length: {len(HIDDEN)}") + HIDDEN)
        assert (await connection.answer()).status == 200
        await connection.send(first_line("GET /healthz HTTP/1.1"))
        assert (await connection.answer()).status == 200
    assert len(upstream.requests) == before


@pytest.mark.parametrize("line", ["connection: keep-alive", "accept: */*"])
async def test_http_1_0_gets_one_answer_and_a_closed_connection(
    place: tuple[httpx.AsyncClient, FakeUpstream], line: str
) -> None:
    """The oldest client is served, and a second request on its connection is not read."""
    client, upstream = place
    before = len(upstream.requests)
    async with raw_connection(client) as connection:
        await connection.send(first_line(f"POST {COMPLETIONS} HTTP/1.0", LENGTH, line) + BODY + HIDDEN)
        assert await statuses(connection) == [200]
    assert len(upstream.requests) == before + 1


async def test_an_absolute_target_is_served_here_or_not_at_all(place: tuple[httpx.AsyncClient, FakeUpstream]) -> None:
    """The host in a request's first line chooses no upstream: its path is ours, or nobody's."""
    client, upstream = place
    before = len(upstream.requests)
    async with raw_connection(client) as connection:
        await connection.send(first_line(f"POST http://evil.example{COMPLETIONS} HTTP/1.1", LENGTH) + BODY)
        status = (await connection.answer()).status
    assert (status, len(upstream.requests) - before) in {(200, 1), (404, 0)}


async def test_what_a_trailer_says_is_no_header(place: tuple[httpx.AsyncClient, FakeUpstream]) -> None:
    """A pin to nowhere in a trailer pins nothing: the request is served as if it were not there, or refused whole."""
    client, upstream = place
    before = len(upstream.requests)
    async with raw_connection(client) as connection:
        await connection.send(request_head(CHUNKED) + CHUNKS[:-2] + b"x-vetted-region: nowhere\r\n\r\n")
        status = (await connection.answer()).status
    assert (status, len(upstream.requests) - before) in {(200, 1), (400, 0)}
