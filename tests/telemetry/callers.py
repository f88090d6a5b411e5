"""A caller on a raw socket that reads as far as it is told and then goes away."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from typing import TYPE_CHECKING, Any, Literal

from streams.wall import LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["PATH", "SocketCaller"]

PATH = "/v1/chat/completions"


class SocketCaller:
    """One connection to a gateway.

    Attributes:
        data: what has come, head and chunk lengths included.
    """

    def __init__(self, port: int) -> None:
        self.data = b""
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(
        self, body: Mapping[str, Any], *, headers: Iterable[tuple[str, str]] = (), withheld: int = 0, path: str = PATH
    ) -> None:
        """Connect and send a request; `withheld` bytes at its end are announced and never sent."""
        content = json.dumps(body).encode()
        lines = [f"{name}: {value}" for name, value in headers]
        head = [f"POST {path} HTTP/1.1", "host: gateway", "content-type: application/json", "connection: close"]
        head += [*lines, f"content-length: {len(content)}", "", ""]
        self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        self._streams[1].write("\r\n".join(head).encode() + content[: len(content) - withheld])
        await self._streams[1].drain()

    async def read_until(self, wanted: bytes) -> None:
        """Read until `wanted` has come."""
        async with asyncio.timeout(LIMIT):
            while wanted not in self.data:
                part = await self._reader.read(65536)
                assert part, f"the connection ended after {self.data!r}"
                self.data += part

    async def read_part(self) -> bytes:
        """Read what comes next; nothing once the connection has ended, however it did."""
        async with asyncio.timeout(LIMIT):
            try:
                return await self._reader.read(65536)
            except ConnectionError:
                return b""

    async def read_to_end(self) -> None:
        """Read until the server closes."""
        async with asyncio.timeout(LIMIT):
            self.data += await self._reader.read(-1)

    def leave(self, how: Literal["close", "reset"] = "close") -> None:
        """Close the connection, or reset it. May be called twice."""
        if self._streams is None:
            return
        writer = self._streams[1]
        if how == "reset":
            bound: socket.socket = writer.get_extra_info("socket")
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        self._streams = None

    @property
    def _reader(self) -> asyncio.StreamReader:
        assert self._streams is not None
        return self._streams[0]
