"""TLS: always verified, by name and by address, and its ends told apart from ends that anybody can make."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import TYPE_CHECKING

import pytest

from client.peers import OK, Peer, Peers, completion, door, fault_of, whole
from proxy.tunnels import Certificate, made_certificate
from streams.wall import LIMIT, until
from vetted_mw.proxy.own import dialing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path
    from typing import Any

    from client.peers import Script
    from vetted_mw.proxy.own.transport import OwnTransport

pytestmark = pytest.mark.anyio

WITHOUT_LENGTH = b"HTTP/1.1 200 OK\r\n\r\n"


def context_of(made: Certificate) -> ssl.SSLContext:
    """The server's side of a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.certificate, made.key)
    return context


@pytest.fixture
def made(tmp_path: Path) -> Certificate:
    """A certificate for the loopback's address."""
    return made_certificate(tmp_path)


@contextlib.asynccontextmanager
async def over_tls(script: Script, made: Certificate) -> AsyncIterator[OwnTransport]:
    """A client to a server that speaks TLS."""
    async with Peers(script, tls=context_of(made)) as peers, door(peers.base_url, ca_file=str(made.certificate)) as own:
        yield own


async def well(peer: Peer) -> None:
    """Answer every request."""
    while True:
        await peer.request()
        await peer.say(OK)


async def test_connections_over_tls_are_kept_like_others(made: Certificate) -> None:
    """One handshake for all of a caller's requests, large ones too."""
    async with (
        Peers(well, tls=context_of(made)) as peers,
        door(peers.base_url, ca_file=str(made.certificate)) as client,
    ):
        for size in (10, 100_000, 3_000_000, 10):
            assert await whole(client, completion(b"x" * size)) == (200, b"{}")
        assert peers.connections == 1
        assert [len(seen.partition(b"\r\n\r\n")[2]) for seen in peers.seen] == [10, 100_000, 3_000_000, 10]


async def test_the_name_is_told_and_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SNI holds the host of the URL, the certificate must be of that name, and only HTTP/1.1 is offered."""
    told: list[tuple[str | None, str | None]] = []
    made = made_certificate(tmp_path, name="DNS:model.example")
    context = context_of(made)
    context.set_alpn_protocols(["h2", "http/1.1"])
    context.sni_callback = lambda connection, name, _context: told.append((name, connection.selected_alpn_protocol()))

    async def lead(_host: str, port: int) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(dialing, "_looked_up", lead)
    ca_file = str(made.certificate)
    async with Peers(well, tls=context) as peers:
        async with door(f"https://model.example:{peers.port}/v1", ca_file=ca_file) as client:
            assert await whole(client) == (200, b"{}")
            (wire,) = client._idle
            assert wire._transport.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
        async with door(f"https://other.example:{peers.port}/v1", ca_file=ca_file) as client:
            assert await fault_of(client) == ("tls_error", False, None)
        async with door(f"https://127.0.0.1:{peers.port}/v1", ca_file=ca_file) as client:
            assert await fault_of(client) == ("tls_error", False, None)
    assert [name for name, _protocol in told] == ["model.example", "other.example", None]


async def test_a_certificate_of_an_unknown_authority_is_refused_whatever_the_environment_says(
    made: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No variable of the process makes an authority of a file."""
    monkeypatch.setenv("SSL_CERT_FILE", str(made.certificate))
    monkeypatch.setenv("SSL_CERT_DIR", str(made.certificate.parent))
    async with Peers(well, tls=context_of(made)) as peers, door(peers.base_url) as client:
        assert await fault_of(client) == ("tls_error", False, None)
        assert peers.seen == []


async def test_plain_http_where_tls_was_expected_is_a_failed_handshake() -> None:
    """Nothing of the request was sent, and its key was told to nobody."""

    async def plain(peer: Peer) -> None:
        await peer.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await peer.until_left()

    async with Peers(plain) as peers, door(f"https://127.0.0.1:{peers.port}/v1") as client:
        assert await fault_of(client) == ("tls_error", False, None)


@pytest.mark.parametrize(("how", "outcome"), [("end", "tls_error"), ("reset", "connect_error")])
async def test_a_handshake_that_the_upstream_ends_is_no_connection(how: str, outcome: str) -> None:
    """Ended or reset, nothing was sent."""

    async def ends(peer: Peer) -> None:
        await peer.hello()
        getattr(peer, how)()

    async with Peers(ends) as peers, door(f"https://127.0.0.1:{peers.port}/v1") as client, asyncio.timeout(LIMIT):
        assert await fault_of(client) == (outcome, False, None)


async def test_a_body_without_length_ends_with_the_upstreams_own_goodbye(made: Certificate) -> None:
    """The end that TLS itself says is the end."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(WITHOUT_LENGTH + b"{}")
        peer.end()

    async with over_tls(script, made) as client:
        assert await whole(client) == (200, b"{}")


async def test_an_end_underneath_tls_is_a_cut(made: Certificate) -> None:
    """Anybody on the way can end TCP: an answer is not whole because of it."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(WITHOUT_LENGTH + b"{}")
        peer.cut()
        await peer.until_left()

    async with over_tls(script, made) as client, asyncio.timeout(LIMIT):
        assert await fault_of(client) == ("upstream_cut", True, 200)


async def test_back_pressure_reaches_the_upstream_through_tls(made: Certificate) -> None:
    """What nobody reads is not decrypted without bound either."""
    total = 30_000_000

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.offer(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total + b"x" * total)
        await peer.until_left()

    async with over_tls(script, made) as client, asyncio.timeout(LIMIT):
        response = await client.send(completion())
        await until(lambda: response.unread > 0)
        for _ in range(2000):
            await asyncio.sleep(0)
        assert response.unread < 2_000_000
        read = 0
        while part := await response.read():
            read += len(part)
        assert read == total
        await response.aclose()
        assert len(client._idle) == 1
