"""TLS in front of a plain upstream, and an egress proxy, both on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path
    from types import TracebackType

__all__ = ["Certificate", "ConnectProxy", "made_certificate", "tls_in_front_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A self-signed certificate: its own authority."""

    certificate: Path
    key: Path


def made_certificate(folder: Path, *, name: str = "IP:127.0.0.1") -> Certificate:
    """Make one with the machine's openssl; without it the test is skipped."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    made = Certificate(certificate=folder / "cert.pem", key=folder / "key.pem")
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(made.key), "-out", str(made.certificate), "-days", "2", "-subj", "/CN=upstream"]
    command += ["-addext", f"subjectAltName={name}", "-addext", "keyUsage=critical,digitalSignature,keyCertSign"]
    subprocess.run(command, check=True, capture_output=True)
    return made


class _Listener:
    """A loopback server whose connections end with it."""

    def __init__(self, serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> None:
        self._serve = serve
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.context: ssl.SSLContext | None = None

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._started, "127.0.0.1", 0, ssl=self.context)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def _started(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._served(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _task: writer.transport.abort())

    async def _served(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await self._serve(reader, writer)


async def _joined(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    """Pass bytes both ways until one side ends."""
    inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
    ways = [asyncio.ensure_future(_passed(a, b)) for a, b in ((reader, inner_writer), (inner_reader, writer))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        inner_writer.transport.abort()
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


async def _passed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


@contextlib.asynccontextmanager
async def tls_in_front_of(base_url: str, made: Certificate) -> AsyncIterator[str]:
    """Offer a plain upstream over TLS; yields its `base_url`."""
    inner = int(base_url.split(":")[2].partition("/")[0])
    listener = _Listener(lambda reader, writer: _joined(reader, writer, inner))
    listener.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    listener.context.load_cert_chain(made.certificate, made.key)
    async with listener:
        yield f"https://127.0.0.1:{listener.port}/v1"


class ConnectProxy(_Listener):
    """An egress proxy that tunnels, or refuses, or falls silent.

    Args:
        status: what it answers to CONNECT; 200 tunnels, None says nothing.

    Attributes:
        targets: what it was asked to connect to.
    """

    def __init__(self, status: int | None = 200) -> None:
        super().__init__(self._tunnel)
        self.targets: list[str] = []
        self.left = asyncio.Event()
        self._status = status

    @property
    def url(self) -> str:
        """What goes into a region's `proxy`."""
        return f"http://127.0.0.1:{self.port}"

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        method, target, _version = head.split("\r\n")[0].split(" ")
        assert method == "CONNECT"
        self.targets.append(target)
        if self._status is None:
            await reader.read()
            self.left.set()
            return
        writer.write(b"HTTP/1.1 %d Scripted\r\n\r\n" % self._status)
        await writer.drain()
        if self._status == 200:
            await _joined(reader, writer, int(target.rsplit(":", 1)[1]))
