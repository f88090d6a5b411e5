"""The upstream that plays recorded exchanges: one socket, and the path says whose turn it is."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from differential.exchange import Moment, Script
from faults.playing import Ending
from vetted_mw.testing import _reset

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from differential.exchange import Exchange

__all__ = ["Heard", "Upstream", "well"]

_TLS = b"\x16"
_NO_TLS = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"
_TURNS = 3
"""Turns of the event loop in which a reader in the same loop takes what was written."""


def well(name: str, connection: int) -> bytes:
    """The answer to every request that plays nothing: it says whose it is and over which connection it came."""
    body = f"{name} over connection {connection}".encode()
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


@dataclass(slots=True, kw_only=True)
class Heard:
    """What the upstream saw of one exchange.

    Attributes:
        connections: how many there were.
        requests: the number of the connection of each request whose head was read, in order.
        over: set once its answer has been played to its end.
        moments: set by the client's side.
    """

    connections: int = 0
    requests: list[int] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    moments: dict[Moment, asyncio.Event] = field(default_factory=lambda: {moment: asyncio.Event() for moment in Moment})


class Upstream:
    """Plays exchanges; `heard` tells by their names what it saw of each. To TLS it answers with plain HTTP."""

    def __init__(self, exchanges: Sequence[Exchange]) -> None:
        self.heard: Mapping[str, Heard] = {one.name: Heard() for one in exchanges}
        self._exchanges = exchanges
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def open_connections(self) -> int:
        """Connections that are open now."""
        return len(self._open)

    def base_url(self, number: int, scheme: str = "http") -> str:
        """Where the exchange of that number is played."""
        assert self._server is not None
        return f"{scheme}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/{number}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=2048)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._open):
            writer.transport.abort()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                if (first := await reader.readexactly(1)) == _TLS:
                    writer.write(_NO_TLS)
                else:
                    await self._serve_all(first, reader, writer)
        finally:
            self._open.discard(writer)
            writer.close()

    async def _serve_all(self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number, seen = 0, 0
        while True:
            head = first + await reader.readuntil(b"\r\n\r\n")
            first = b""
            exchange = self._exchanges[int(head.split(b"/", 2)[1])]
            heard = self.heard[exchange.name]
            if seen == 0:
                heard.connections += 1
                number = heard.connections
            heard.requests.append(number)
            try:
                script = _script_of(exchange, number, seen)
                if script is not exchange.answer or exchange.reads:
                    await reader.readexactly(_length_in(head))
                await _play(script or Script(parts=[well(exchange.name, number)]), writer, heard)
                if script is exchange.answer and not exchange.reads and script.ending is Ending.KEEP:
                    await reader.readexactly(_length_in(head))
            finally:
                heard.over.set()
            if script is not None and script.ending is not Ending.KEEP:
                return
            seen += 1


async def _play(script: Script, writer: asyncio.StreamWriter, heard: Heard) -> None:
    for part in script.parts:
        if isinstance(part, Moment):
            await heard.moments[part].wait()
            continue
        writer.write(part)
        await writer.drain()
        for _ in range(_TURNS):
            await asyncio.sleep(0)
    if script.ending is Ending.RESET:
        _reset(writer)
    elif script.ending is Ending.CLOSE:
        writer.close()


def _script_of(exchange: Exchange, connection: int, seen: int) -> Script | None:
    if connection > 1 or seen > 1:
        return None
    return exchange.again if seen else exchange.answer


def _length_in(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0
