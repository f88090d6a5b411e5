"""A server whose every connection follows a script, byte by byte, on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import TYPE_CHECKING, Any, Self

import pytest

from streams.wall import until
from vetted_mw.configuration import Limits, Upstream
from vetted_mw.proxy.outcome import AttemptFailedError
from vetted_mw.proxy.own.transport import OwnTransport
from vetted_mw.proxy.transport import UpstreamRequest

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable
    from types import TracebackType

    from vetted_mw.proxy.headers import Headers
    from vetted_mw.proxy.transport import Response

    Script = Callable[["Peer"], Awaitable[None]]

__all__ = ["JSON_REQUEST", "OK", "Peer", "Peers", "body_of", "completion", "door", "fault_of", "whole"]

JSON_REQUEST: Headers = [(b"content-type", b"application/json")]
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
_AT_ONCE = struct.pack("ii", 1, 0)


class Peer:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: list[bytes]) -> None:
        self._reader = reader
        self._writer = writer
        self._seen = seen
        self.left = asyncio.Event()

    async def request(self) -> bytes:
        """Read one request and keep it; an `IncompleteReadError` ends the script where the client left."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next((int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:")), 0)
        body = await self._reader.readexactly(length)
        self._seen.append(head + body)
        return head + body

    async def head(self) -> bytes:
        """Read the head of a request and no more."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        self._seen.append(head)
        return head

    async def hello(self) -> None:
        """Read the first bytes, whatever they are."""
        await self._reader.read(65536)

    async def say(self, *parts: bytes) -> None:
        """Write, each part in a segment of its own as far as that can be had."""
        for part in parts:
            self._writer.write(part)
            await self._writer.drain()
            await asyncio.sleep(0)

    def offer(self, data: bytes) -> None:
        """Write without waiting until it has left."""
        self._writer.write(data)

    @property
    def unsent(self) -> int:
        """Bytes that have not even reached the kernel."""
        return self._writer.transport.get_write_buffer_size()

    async def until_left(self) -> None:
        """Read on until the client has left."""
        with contextlib.suppress(ConnectionError):
            while await self._reader.read(65536):
                pass
        self.left.set()

    def end(self) -> None:
        """Send the end, and close."""
        self._writer.close()

    def cut(self) -> None:
        """End TCP without a word of TLS."""
        with self._writer.transport.get_extra_info("socket").dup() as tcp:
            tcp.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Reset the connection."""
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self._writer.transport.abort()


class Peers:
    """The server.

    Args:
        scripts: for its connections in order; the last one also for all that follow.
        tls: what it speaks TLS with; None: plain.
        host: where it listens.

    Attributes:
        seen: what was read of requests, in order.
        connections: how many there were.
        open: how many there are.
    """

    def __init__(self, *scripts: Script, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.seen: list[bytes] = []
        self.connections = 0
        self._scripts = scripts
        self._tls = tls
        self._host = host
        self._tasks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def base_url(self) -> str:
        """What an upstream's `base_url` is."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'http' if self._tls is None else 'https'}://{host}:{self.port}/v1"

    @property
    def open(self) -> int:
        """Connections whose script goes on."""
        return len(self._tasks)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._started, self._host, 0, ssl=self._tls)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task, writer in list(self._tasks.items()):
            writer.transport.abort()
            task.cancel()
        await until(lambda: not self._tasks)
        await self._server.wait_closed()

    def _started(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        script = self._scripts[min(self.connections, len(self._scripts) - 1)]
        self.connections += 1
        task = asyncio.ensure_future(self._played(script, Peer(reader, writer, self.seen)))
        self._tasks[task] = writer
        task.add_done_callback(self._ended)

    async def _played(self, script: Script, peer: Peer) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await script(peer)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task).close()
        if not task.cancelled():
            task.result()


@contextlib.asynccontextmanager
async def door(base_url: str, *, limits: Limits | None = None, ca_file: str = "") -> AsyncIterator[OwnTransport]:
    """Open our own client to an upstream; when it closes, none of its connections is busy."""
    transport = OwnTransport(Upstream(region="r", base_url=base_url, limits=limits or Limits(), ca_file=ca_file))
    try:
        yield transport
        assert not transport._busy
        assert not transport._dialing
    finally:
        await transport.aclose()


def completion(body: bytes = b'{"messages":[]}', **callbacks: Any) -> UpstreamRequest:
    """A request for a completion."""
    return UpstreamRequest(method="POST", path="/chat/completions", headers=JSON_REQUEST, body=body, **callbacks)


async def body_of(response: Response) -> bytes:
    """Read the rest of an answer."""
    parts = []
    while part := await response.read():
        parts.append(part)
    return b"".join(parts)


async def whole(transport: OwnTransport, request: UpstreamRequest | None = None) -> tuple[int, bytes]:
    """Send a request and read its answer."""
    response = await transport.send(request or completion())
    try:
        return response.status, await body_of(response)
    finally:
        await response.aclose()


async def fault_of(transport: OwnTransport, request: UpstreamRequest | None = None) -> tuple[str, bool, int | None]:
    """Send a request that fails; returns the outcome, whether anything of it was sent, and the status that came."""
    with pytest.raises(AttemptFailedError) as caught:
        await whole(transport, request)
    assert caught.value.__cause__ is None
    fault = caught.value.fault
    return fault.outcome.value, fault.sent, fault.status
