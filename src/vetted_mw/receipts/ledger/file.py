"""One ledger file, open for writing: opened with care, appended to in one step. Blocks; the writer thread calls it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from typing import TYPE_CHECKING, Literal

from vetted_mw.receipts.ledger.faults import reason_of
from vetted_mw.receipts.ledger.schema import SCHEMA_VERSION, NotALedgerError, create, is_empty
from vetted_mw.receipts.sealed import LedgerUnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from vetted_mw.receipts.ledger.batch import NewRow

__all__ = ["BUSY_SECONDS", "LedgerFile", "connected", "place_of", "touch"]

BUSY_SECONDS = 2.0
"""How long a write waits for another process's write."""
_ROWS_AT_ONCE = 512
"""Of one statement; more rows take several, in one transaction."""
_RETRY_SECONDS = 0.01
_TEMPORARY = (
    """CREATE TEMP VIEW batch AS
        SELECT ledger_id, seq, query_id, request_id, issued_at, caller, model, region, jws, '' AS head FROM receipts""",
    """CREATE TEMP TRIGGER batch_into_ledger INSTEAD OF INSERT ON batch BEGIN
        INSERT INTO receipts VALUES (NEW.ledger_id, NEW.seq, NEW.query_id, NEW.request_id, NEW.issued_at, NEW.caller,
            NEW.model, NEW.region, NEW.jws);
        INSERT INTO heads SELECT NEW.ledger_id, NEW.seq, NEW.head WHERE NEW.head IS NOT NULL
            ON CONFLICT (ledger_id) DO UPDATE SET seq = excluded.seq, jws = excluded.jws;
    END""",
)
"""Rows and head in one statement that commits by itself: the GIL is let go of once for a batch, not once for each of
its statements, and taking it back from a busy event loop costs a switch interval each time."""


class LedgerFile:
    """An open ledger file. Everything may raise `sqlite3.Error` or `OSError`; then it is closed and opened anew."""

    def __init__(self, path: Path, *, durability: Literal["normal", "full"]) -> None:
        """Open the file, and make it where there is none.

        Raises:
            LedgerUnavailableError: it is no ledger, or its folder does not exist; nothing was written to it.
            sqlite3.Error: it cannot be opened or written.
            OSError: the same.
        """
        self.path = place_of(path)
        _refuse_foreign(self.path)
        self._connection = connected(self.path, durability=durability, cached_statements=_ROWS_AT_ONCE)
        try:
            _establish(self._connection)
            self._identity = _identity(self.path)
        except BaseException:
            self._connection.close()
            raise

    def append(self, rows: Sequence[NewRow], head: str) -> None:
        """Commit the rows and the head that goes with the last of them, all or nothing."""
        parts = [rows[start : start + _ROWS_AT_ONCE] for start in range(0, len(rows), _ROWS_AT_ONCE)]
        if len(parts) == 1:
            self._insert(rows, head)
            return
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            for part in parts:
                self._insert(part, head if part is parts[-1] else None)
            self._connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # SQLite has rolled back by itself after some errors
                self._connection.execute("ROLLBACK")
            raise

    def restate(self, ledger_id: str, head: str) -> None:
        """Put another head in the place of a ledger's, for the same newest row."""
        self._connection.execute("UPDATE heads SET jws = ? WHERE ledger_id = ?", (head, ledger_id))

    def touch(self) -> None:
        """Write a page, to see whether one can be written."""
        touch(self._connection)

    def seq_of(self, ledger_id: str) -> int:
        """Return the `seq` of a ledger's head; 0 when it has none."""
        found = self._connection.execute("SELECT seq FROM heads WHERE ledger_id = ?", (ledger_id,)).fetchone()
        return found[0] if found else 0

    def is_moved(self) -> bool:
        """Whether another file, or none, is at the path by now."""
        try:
            return _identity(self.path) != self._identity
        except OSError:
            return True

    def fold(self) -> None:
        """Move what the log holds into the file, as far as no reader stands in the way."""
        self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def close(self) -> None:
        """Close it; whoever closes it last takes the write-ahead log with it."""
        self._connection.close()

    def _insert(self, rows: Sequence[NewRow], head: str | None) -> None:
        values: list[str | int | None] = []
        for row in rows:
            values.extend(row)
            values.append(None)
        values[-1] = head
        self._connection.execute(f"INSERT INTO batch VALUES {','.join([_PLACES] * len(rows))}", values)  # noqa: S608


_PLACES = f"({','.join('?' * 10)})"


def place_of(path: Path) -> Path:
    """Return where the file really is, as SQLite names what stands beside it.

    Raises:
        LedgerUnavailableError: the folder does not exist, or the path is a folder.
    """
    place = path.resolve()
    if not place.parent.is_dir():
        raise LedgerUnavailableError("folder_missing")
    if place.is_dir():
        raise LedgerUnavailableError("not_a_ledger")
    return place


def connected(place: Path, *, durability: Literal["normal", "full"], cached_statements: int = 16) -> sqlite3.Connection:
    """Connect to an existing file, for writing. No checkpoint is ever made inside one of its commits."""
    connection = sqlite3.connect(
        f"{place.as_uri()}?mode=rw",
        uri=True,
        isolation_level=None,
        timeout=BUSY_SECONDS,
        check_same_thread=False,
        cached_statements=cached_statements,
    )
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute(f"PRAGMA synchronous = {durability.upper()}")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
    except BaseException:
        connection.close()
        raise
    return connection


def touch(connection: sqlite3.Connection) -> None:
    """Commit one page that says what it said before."""
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _identity(place: Path) -> tuple[int, int]:
    told = place.stat()
    return told.st_dev, told.st_ino


def _refuse_foreign(place: Path) -> None:
    """Look before writing: what is no ledger is not touched, and what does not exist is made for us alone.

    Raises:
        LedgerUnavailableError: it is no ledger.
        sqlite3.Error: it cannot be read.
        OSError: it cannot be made.
    """
    with contextlib.suppress(FileExistsError):
        os.close(os.open(place, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    if not place.stat().st_size:
        return
    connection = sqlite3.connect(f"{place.as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=BUSY_SECONDS)
    try:
        is_empty(connection)
    except NotALedgerError as error:
        raise LedgerUnavailableError(error.reason) from None
    except sqlite3.OperationalError as error:
        # A crash while the file was made leaves a journal that only a writer can roll back.
        if reason_of(error) not in ("read_only", "cannot_open"):
            raise
    finally:
        connection.close()


def _establish(connection: sqlite3.Connection) -> None:
    """Make the tables where there are none, and have the log's header on the disk before the first receipt comes.

    Raises:
        LedgerUnavailableError: it is no ledger, or its file system takes no write-ahead log.
        sqlite3.Error: it cannot be written.
    """
    try:
        is_empty(connection)
        _use_log(connection)
        connection.execute("BEGIN IMMEDIATE")
        if is_empty(connection):
            create(connection)
        connection.execute("COMMIT")
    except NotALedgerError as error:
        raise LedgerUnavailableError(error.reason) from None
    for statement in _TEMPORARY:
        connection.execute(statement)
    touch(connection)


def _use_log(connection: sqlite3.Connection) -> None:
    """Turn to WAL mode. While another process does the same SQLite says busy without waiting.

    Raises:
        LedgerUnavailableError: the file system does not take it.
        sqlite3.Error: it is locked for too long, or cannot be written.
    """
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            if reason_of(error) != "locked" or time.monotonic() > until:
                raise
            time.sleep(_RETRY_SECONDS)
            continue
        if mode != "wal":
            raise LedgerUnavailableError("no_wal")
        return
