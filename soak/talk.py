"""A plain HTTP/1.1 caller on a raw socket, who can leave at any instant."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Self

from soak.upstreams import reset

__all__ = ["Answer", "Connection", "LeftError", "UnfinishedError"]

_LIMIT = 60.0
"""Seconds after which an answer that has not come counts as never coming."""


class UnfinishedError(Exception):
    """The answer ended where HTTP does not let it end, or never came; its text says which."""


class LeftError(Exception):
    """The caller left as planned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer that HTTP calls whole.

    Attributes:
        status: HTTP status.
        headers: lower-case names.
        body: whole, chunks joined.
    """

    status: int
    headers: dict[str, str]
    body: bytes


class Connection:
    """One connection to a server on this machine, used for one request after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._left: int | None = None
        self.usable = True

    @classmethod
    async def open(cls, port: int) -> Self:
        """Connect to a loopback port."""
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 20))

    async def send(self, body: bytes, *, upto: float = 1.0) -> None:
        """Send a chat completion, or only the first part of its body."""
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nhost: soak\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        self._writer.write(head.encode() + body[: int(len(body) * upto)])
        await self._writer.drain()

    async def get(self, path: str) -> Answer:
        """Ask for a path."""
        self._writer.write(f"GET {path} HTTP/1.1\r\nhost: soak\r\n\r\n".encode())
        return await self.answer()

    async def answer(self, *, leave_after: int | None = None) -> Answer:
        """Read one answer whole.

        Args:
            leave_after: leave once so many bytes of its body have come.

        Raises:
            UnfinishedError: it is not whole.
            LeftError: so many bytes came.
        """
        self._left = leave_after
        seen = b""
        try:
            async with asyncio.timeout(_LIMIT):
                seen = await self._reader.readuntil(b"\r\n\r\n")
                return await self._after(seen)
        except TimeoutError:
            raise UnfinishedError("no end within the limit") from None
        except (asyncio.IncompleteReadError, ConnectionError):
            raise UnfinishedError("closed within the answer" if seen else "closed before the answer") from None
        finally:
            self._left = None

    async def _after(self, head: bytes) -> Answer:
        first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if headers.get("transfer-encoding") == "chunked":
            body = await self._chunks()
        else:
            body = await self._exactly(int(headers["content-length"]))
        if headers.get("connection") == "close":
            self.usable = False
        return Answer(status=int(first.split(" ")[1]), headers=headers, body=body)

    async def _chunks(self) -> bytes:
        body = bytearray()
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            body += (await self._exactly(size + 2))[:-2]
        await self._reader.readuntil(b"\r\n")
        return bytes(body)

    async def _exactly(self, size: int) -> bytes:
        if self._left is None:
            return await self._reader.readexactly(size)
        if self._left < size:
            await self._reader.readexactly(self._left)
            raise LeftError
        self._left -= size
        return await self._reader.readexactly(size)

    def leave(self, *, resets: bool) -> None:
        """Close it, at once and in the middle of whatever it is."""
        self.usable = False
        if resets:
            reset(self._writer)
        else:
            self._writer.close()
