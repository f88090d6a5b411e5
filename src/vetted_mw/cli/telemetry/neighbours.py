"""The other workers of one `serve`: each has a number and hands out what it is asked for on a Unix socket.

The parent makes a folder that its user alone may enter. A worker takes the lowest number whose lock is free, and the
kernel frees the lock when the worker ends, however it ends: a worker that is started anew is its predecessor's
successor, and a series of it goes on with a counter reset, as any restart shows.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

__all__ = ["Neighbours"]

_ASK_SECONDS = 2.0


class Neighbours:
    """A worker's way to the others.

    Args:
        folder: the parent's, private.
        workers: how many there should be.
        own: gives what this one hands out.
        ask_seconds: how long another may take.

    Attributes:
        number: of this worker; None: it is not open.
    """

    def __init__(
        self, folder: Path, *, workers: int, own: Callable[[], Awaitable[bytes]], ask_seconds: float = _ASK_SECONDS
    ) -> None:
        self._folder = folder
        self._workers = workers
        self._own = own
        self._ask_seconds = ask_seconds
        self._lock: int | None = None
        self._server: asyncio.Server | None = None
        self.number: int | None = None

    async def open(self) -> None:
        """Take a number and answer the others.

        Raises:
            OSError: the folder cannot be used: it is gone, or its path is too long for a socket.
        """
        number, self._lock = _taken_number(self._folder)
        # A socket that a predecessor left is removed by asyncio.
        self._server = await asyncio.start_unix_server(self._answer, path=self._socket(number))
        self.number = number

    async def aclose(self) -> None:
        """Answer no more and give the number back."""
        if self._server is not None:
            self._server.close()
        if self.number is not None:
            self._socket(self.number).unlink(missing_ok=True)
        if self._lock is not None:
            os.close(self._lock)
        self._server = self.number = self._lock = None

    async def answers(self) -> tuple[dict[int, bytes], frozenset[int]]:
        """Ask all others at once.

        Returns:
            What they handed out by number, and the numbers of those that should have and did not in time.
        """
        there = {int(path.stem) for path in self._folder.glob("*.socket")}
        numbers = sorted((there | set(range(self._workers))) - {self.number})
        found = await asyncio.gather(*map(self._asked, numbers))
        answers = {number: data for number, data in zip(numbers, found, strict=True) if data is not None}
        # One beyond the count of workers is there while one is being replaced, and otherwise it is a leftover.
        return answers, frozenset(number for number in range(self._workers) if number not in answers) - {self.number}

    async def _asked(self, number: int) -> bytes | None:
        try:
            async with asyncio.timeout(self._ask_seconds):
                reader, writer = await asyncio.open_unix_connection(self._socket(number))
                try:
                    return await reader.read()
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return None

    async def _answer(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):  # who asked has not waited
            try:
                writer.write(await self._own())
                await writer.drain()
            finally:
                writer.close()

    def _socket(self, number: int) -> Path:
        return self._folder / f"{number}.socket"


def _taken_number(folder: Path) -> tuple[int, int]:
    """Return the lowest free number and the descriptor that holds it."""
    import fcntl  # noqa: PLC0415 (not everywhere; where there is none, several workers have no page)

    number = 0
    while True:
        lock = os.open(folder / f"{number}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            number += 1
        else:
            return number, lock
