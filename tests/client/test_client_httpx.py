"""Our client under httpx's API."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import httpx
import pytest

from client.peers import OK, Peer, Peers
from proxy.tunnels import made_certificate, tls_in_front_of
from streams.wall import LIMIT, nowhere, until
from vetted_mw.configuration import Limits
from vetted_mw.proxy.own.httpx_adapter import OwnAsyncTransport
from vetted_mw.testing import FakeAnswer, FakeUpstream, chat_frames

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.anyio


def client_over(transport: OwnAsyncTransport, *, timeout: httpx.Timeout | float | None = LIMIT) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=transport, timeout=timeout, trust_env=False)


async def test_a_request_leaves_as_httpx_made_it_and_its_answer_comes_back() -> None:
    """Method, path, query, headers and body; status, headers and body; over one kept connection."""
    async with FakeUpstream() as upstream, client_over(OwnAsyncTransport()) as client:
        url = upstream.base_url + "/chat/completions?a=%20b&c"
        for _ in range(2):
            answer = await client.post(url, json={"model": "m"}, headers={"x-one": "a"})
            assert (answer.status_code, answer.http_version) == (200, "HTTP/1.1")
            assert answer.json()["choices"]
        assert upstream.open_connections == 1
    sent = [*upstream.requests, *upstream.others][0]
    assert (sent.method, sent.path) == ("POST", "/v1/chat/completions?a=%20b&c")
    assert sent.header("x-one") == "a"
    assert sent.header("host") == upstream.base_url.removeprefix("http://").removesuffix("/v1")
    assert sent.json() == {"model": "m"}


async def test_other_methods_and_bodies_that_are_made_as_they_go() -> None:
    """A body without length is read first, and is sent with one."""
    seen: list[bytes] = []

    async def script(peer: Peer) -> None:
        while True:
            seen.append(await peer.request())
            await peer.say(OK)

    async def parts() -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"

    async with Peers(script) as peers, client_over(OwnAsyncTransport()) as client:
        for method in ("GET", "DELETE", "PUT", "PATCH", "OPTIONS"):
            assert (await client.request(method, peers.base_url)).content == b"{}"
        await client.post(peers.base_url, content=parts())
        assert (await client.head(peers.base_url)).content == b""
    assert [one.split(b" ")[0] for one in seen] == [b"GET", b"DELETE", b"PUT", b"PATCH", b"OPTIONS", b"POST", b"HEAD"]
    assert seen[5].endswith(b"\r\ncontent-length: 6\r\n\r\nonetwo")
    assert b"transfer-encoding" not in seen[5].lower()


async def test_a_stream_is_read_as_it_comes() -> None:
    """The first part is there while the upstream has yet to go on."""
    gate = asyncio.Event()
    frames = chat_frames()
    async with FakeUpstream() as upstream, client_over(OwnAsyncTransport()) as client, asyncio.timeout(LIMIT):
        upstream.then(FakeAnswer.stream([frames[0], gate, *frames[1:]]))
        async with client.stream("POST", upstream.base_url + "/chat/completions", json={}) as answer:
            parts = answer.aiter_bytes()
            assert await anext(parts) == frames[0]
            gate.set()
            assert b"".join([part async for part in parts]) == b"".join(frames[1:])
        async with client.stream("GET", upstream.base_url + "/models") as answer:
            assert answer.status_code in {200, 404}
        await until(lambda: upstream.open_connections <= 1)


async def _ends(peer: Peer) -> None:
    await peer.request()
    peer.end()


async def _garbles(peer: Peer) -> None:
    await peer.request()
    await peer.say(b"garbage\r\n\r\n")


async def _cuts(peer: Peer) -> None:
    await peer.request()
    await peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{}")
    peer.end()


@pytest.mark.parametrize("script", [_ends, _garbles, _cuts])
async def test_what_is_cut_is_a_protocol_error(script: object) -> None:
    """At the head and in the body; the exception knows its request and repeats nothing of the answer."""
    async with Peers(script) as peers, client_over(OwnAsyncTransport()) as client:  # type: ignore[arg-type]
        with pytest.raises(httpx.RemoteProtocolError) as caught:
            await client.post(peers.base_url, content=b"{}")
        assert caught.value.request.method == "POST"
        assert "garbage" not in str(caught.value)


async def test_what_cannot_be_reached_is_a_connect_error() -> None:
    """So is a URL that is none of HTTP's, in httpx's own word for it."""
    async with client_over(OwnAsyncTransport()) as client:
        async with nowhere() as none:
            with pytest.raises(httpx.ConnectError):
                await client.get(none.base_url)
        with pytest.raises(httpx.UnsupportedProtocol):
            await client.get("ftp://example.org/")


async def test_timeouts_are_httpxs() -> None:
    """Until the head, and between two parts of the body."""

    async def silent(peer: Peer) -> None:
        await peer.request()
        await peer.until_left()

    async def stalls(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{}")
        await peer.until_left()

    async with Peers(silent, stalls) as peers, client_over(OwnAsyncTransport(), timeout=0.2) as client:
        for _ in range(2):
            with pytest.raises(httpx.ReadTimeout):
                await client.post(peers.base_url, content=b"{}")
            await until(lambda: peers.open == 0)
        assert peers.connections == 2


async def test_a_handshake_that_hangs_is_a_connect_timeout() -> None:
    """By the caller's limit, or by ours where that is shorter."""

    async def silent(peer: Peer) -> None:
        await peer.until_left()

    limits = {0.1: Limits(), LIMIT: Limits(connect_seconds=0.1)}
    for seconds, ours in limits.items():
        async with Peers(silent) as peers, client_over(OwnAsyncTransport(limits=ours), timeout=seconds) as client:
            with pytest.raises(httpx.ConnectTimeout):
                await client.get(f"https://127.0.0.1:{peers.port}/")


async def test_tls_is_verified_by_the_authority_that_was_named(tmp_path: Path) -> None:
    """As for a region's `ca_file`."""
    made = made_certificate(tmp_path)
    async with FakeUpstream() as upstream, tls_in_front_of(upstream.base_url, made) as secure:
        async with client_over(OwnAsyncTransport(ca_file=str(made.certificate))) as client:
            assert (await client.post(secure + "/chat/completions", json={})).status_code == 200
        async with client_over(OwnAsyncTransport()) as client:
            with pytest.raises(httpx.ConnectError):
                await client.post(secure + "/chat/completions", json={})


async def test_closing_the_client_closes_every_connection() -> None:
    """Of every origin it has been at, those in use among them."""
    async with FakeUpstream() as one, FakeUpstream() as two:
        client = client_over(OwnAsyncTransport())
        for upstream in (one, two):
            await client.get(upstream.base_url + "/models")
            assert upstream.open_connections == 1
        await client.aclose()
        await until(lambda: (one.open_connections, two.open_connections) == (0, 0))
