"""Moves the write-ahead log into the file, on a thread of its own, so that no commit waits for a disk."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from pathlib import Path
from typing import Literal

from vetted_mw.receipts.ledger.faults import reason_of
from vetted_mw.receipts.ledger.file import connected, place_of, touch
from vetted_mw.receipts.sealed import LedgerUnavailableError

__all__ = ["Checkpointer"]

_LOG = logging.getLogger("vetted_mw")

_LOOK_SECONDS = 1.0
"""Between two looks at a log that grows. One that did not change between two looks is idle."""
_LATER_SECONDS = 5.0
"""After a reader or a fault stood in the way."""
_LARGE = 32 * 1024 * 1024
"""Bytes of log from which it is moved under load."""
_TOO_LARGE = 8 * _LARGE
"""Bytes of log from which a writer is made to wait for it."""


class Checkpointer:
    """Looks after one log; asleep while nothing is written."""

    def __init__(self, path: Path, *, durability: Literal["normal", "full"]) -> None:
        self._path = path
        self._durability = durability
        self._dirty = threading.Event()
        self._stopping = threading.Event()

    def committed(self) -> None:
        """Hear of a commit. Costs nothing but after a pause."""
        if not self._dirty.is_set():
            self._dirty.set()

    def stop(self) -> None:
        """Let the thread end, after the checkpoint it may be at."""
        self._stopping.set()
        self._dirty.set()

    def run(self) -> None:
        """Move the log whenever it is idle or large, until `stop`."""
        pause = _LOOK_SECONDS
        before: tuple[int, int] | None = None
        while self._dirty.wait() and not self._stopping.wait(pause):
            now = self._log()
            pause = _LOOK_SECONDS
            if now == before or now[0] >= _LARGE:
                self._dirty.clear()
                if not self._moved(is_urgent=now[0] >= _TOO_LARGE):
                    self._dirty.set()
                    pause = _LATER_SECONDS
                now = self._log()
            before = now

    def _log(self) -> tuple[int, int]:
        """Return size and time of change of the log, which tell of every process's writes."""
        with contextlib.suppress(OSError):
            told = Path(f"{self._path.resolve()}-wal").stat()
            return told.st_size, told.st_mtime_ns
        return 0, 0

    def _moved(self, *, is_urgent: bool) -> bool:
        """Move the log, and begin a new one; False when that has to be tried again."""
        try:
            connection = connected(place_of(self._path), durability=self._durability)
        except (sqlite3.Error, OSError, LedgerUnavailableError):
            return True  # the writer finds the same, and tells of it
        try:
            return _emptied(connection, is_urgent=is_urgent)
        except sqlite3.Error as error:
            _LOG.debug("the ledger's log was not moved", extra={"reason": reason_of(error)})
            return False
        finally:
            connection.close()


def _emptied(connection: sqlite3.Connection, *, is_urgent: bool) -> bool:
    _busy, frames, moved = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    if frames != moved and not is_urgent:
        return False
    if not is_urgent:
        connection.execute("PRAGMA busy_timeout = 0")
    busy, _frames, _moved = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        return False
    touch(connection)  # whoever writes first into a new log waits until its header is on the disk
    return True
