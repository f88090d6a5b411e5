"""Moves the write-ahead log into the file, on a thread of its own, so that commits do not wait for a disk."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from pathlib import Path
from typing import Literal

from vetted_mw.receipts.ledger.faults import reason_of
from vetted_mw.receipts.ledger.file import connected, place_of, touch
from vetted_mw.receipts.ledger.schema import NotALedgerError, is_empty
from vetted_mw.receipts.sealed import LedgerUnavailableError

__all__ = ["Checkpointer"]

_LOG = logging.getLogger("vetted_mw")

_LOOK_SECONDS = 1.0
"""Between two looks at a log that grows. One that did not change between two looks is idle."""
_LATER_SECONDS = 5.0
"""After a reader, a busy writer or a fault stood in the way."""
_COMMIT_BYTES, _ROW_BYTES = 25_000, 15_000
"""What a commit and each of its rows add to the log, about."""
_LARGE = 32 * 1024 * 1024
"""Bytes added to the log from which it is moved under load."""
_TOO_LARGE = 8 * _LARGE
"""Bytes of log from which writers are made to wait for it."""
_PASSES = 8
"""To get to the end of a log that grows meanwhile; each finds less than the one before."""


class Checkpointer:
    """Looks after one log; asleep while nothing is written."""

    def __init__(self, path: Path, *, durability: Literal["normal", "full"]) -> None:
        self._path = path
        self._durability = durability
        self._dirty = threading.Event()
        self._stopping = threading.Event()
        self._written = 0
        self._moved = 0

    def committed(self, rows: int) -> None:
        """Hear of a commit. Costs next to nothing."""
        self._written += _COMMIT_BYTES + rows * _ROW_BYTES
        if not self._dirty.is_set():
            self._dirty.set()

    def stop(self) -> None:
        """Let the thread end, after the checkpoint it may be at."""
        self._stopping.set()
        self._dirty.set()

    def run(self) -> None:
        """Move the log whenever it is idle or has grown, until `stop`."""
        pause = _LOOK_SECONDS
        before: tuple[int, int] | None = None
        while self._dirty.wait() and not self._stopping.wait(pause):
            now = self._log()
            pause = _LOOK_SECONDS
            if now == before or self._written - self._moved >= _LARGE:
                pause = _LOOK_SECONDS if self._move(is_idle=now == before, size=now[0]) else _LATER_SECONDS
                now = self._log()
            before = now

    def _log(self) -> tuple[int, int]:
        """Return size and time of change of the log, which tell of every process's writes."""
        with contextlib.suppress(OSError):
            told = Path(f"{self._path.resolve()}-wal").stat()
            return told.st_size, told.st_mtime_ns
        return 0, 0

    def _move(self, *, is_idle: bool, size: int) -> bool:
        """Move the log, and begin it anew; False when that has to be tried again."""
        self._dirty.clear()
        written = self._written
        if not self._is_moved(is_idle=is_idle, is_urgent=size >= _TOO_LARGE):
            self._dirty.set()
            return False
        self._moved = written
        return True

    def _is_moved(self, *, is_idle: bool, is_urgent: bool) -> bool:
        try:
            connection = connected(place_of(self._path), durability=self._durability)
        except (sqlite3.Error, OSError, LedgerUnavailableError):
            return True  # the writer finds the same, and tells of it
        try:
            return is_empty(connection) or _begun_anew(connection, is_idle=is_idle, is_urgent=is_urgent)
        except NotALedgerError:
            return True  # as above; and what is no ledger is not touched
        except sqlite3.Error as error:
            _LOG.debug("the ledger's log was not moved", extra={"reason": reason_of(error)})
            return False
        finally:
            connection.close()


def _begun_anew(connection: sqlite3.Connection, *, is_idle: bool, is_urgent: bool) -> bool:
    is_whole = _is_wholly_moved(connection)
    if not is_whole and not is_urgent:
        return False
    if is_idle or not is_whole:
        if not is_urgent:
            connection.execute("PRAGMA busy_timeout = 0")
        (is_busy, _frames, _moved) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if is_busy:
            return False
    touch(connection)  # whoever writes first into a log begun anew waits until its header is on the disk
    return True


def _is_wholly_moved(connection: sqlite3.Connection) -> bool:
    """Move what is in the log, in nobody's way; True when the last pass found nothing new and nothing was left."""
    known = -1
    for _ in range(_PASSES):
        _is_busy, frames, moved = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if frames == known:
            return bool(moved == frames)
        known = frames
    return False
