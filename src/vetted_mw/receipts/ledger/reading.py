"""Reading a ledger file: one consistent view of it, beside live writers or long after them."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

import msgspec

from vetted_mw.instants import parse_rfc3339, rfc3339
from vetted_mw.receipts.ledger.faults import reason_of
from vetted_mw.receipts.ledger.schema import NotALedgerError, is_empty

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

__all__ = ["CheckpointRow", "Head", "LedgerReader", "LedgerRow", "LedgerUnreadableError"]

_BUSY_SECONDS = 2.0
_KINDS = [[str, int, str, kind, str, str, str, str, str] for kind in (str, NoneType)]
"""SQLite takes any kind of value in any column; what is none of these was not written by a ledger."""
_ROW = "SELECT ledger_id, seq, query_id, request_id, issued_at, caller, model, region, jws FROM receipts"


class LedgerUnreadableError(Exception):
    """The file is missing, no ledger, or broken. Content-free: `reason` is a word."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class LedgerRow(msgspec.Struct, frozen=True, kw_only=True):
    """One receipt as it stands in the file; whether the columns say what `text` says is not checked here.

    Attributes:
        ledger_id: of the process start that wrote it.
        seq: its number there, from 1.
        query_id: its id.
        request_id: the id of the answer's receipt, where this is not it.
        issued_at: RFC 3339, UTC, with milliseconds.
        caller: whose it is; empty where nobody asked.
        model: as requested.
        region: code of the region that served.
        text: the full JWS, or without a key the receipt's canonical JSON.
    """

    ledger_id: str
    seq: int
    query_id: str
    request_id: str | None
    issued_at: str
    caller: str
    model: str
    region: str
    text: str


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """The newest row of one `ledger_id`, as its writer states it.

    Attributes:
        ledger_id: whose head it is.
        seq: of the newest row.
        text: the full JWS, or without a key the canonical JSON.
    """

    ledger_id: str
    seq: int
    text: str


class CheckpointRow(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint that was made of this file.

    Attributes:
        tree_size: how many rows it covers.
        text: the full JWS, or without a key the canonical JSON.
    """

    tree_size: int
    text: str


class LedgerReader:
    """Reads one ledger file, read-only, in one snapshot from `with` on: rows, heads and checkpoints belong together.

    Every method may raise `LedgerUnreadableError`. One reader serves one thread. One that stays open for long keeps the
    write-ahead log from shrinking, so read and leave.
    """

    def __init__(self, path: Path) -> None:
        self._path = Path(path)
        self._open: sqlite3.Connection | None = None
        self._was_alone = False

    def __enter__(self) -> Self:
        try:
            is_there = self._path.is_file()
        except OSError:  # a folder on the way may not be looked into
            raise LedgerUnreadableError("cannot_open") from None
        if not is_there:
            raise LedgerUnreadableError("missing")
        self._was_alone = not any(path.exists() for path in self._beside())
        try:
            self._open = self._connected()
        except LedgerUnreadableError:
            self._leave_as_found()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None
            self._leave_as_found()

    def rows(self, since: str | None = None, until: str | None = None) -> Iterator[LedgerRow]:
        """Yield the receipts in the order in which they were committed to the file.

        Args:
            since: RFC 3339; receipts issued at this instant or later.
            until: RFC 3339; receipts issued before this instant.

        Raises:
            ValueError: a bound is no instant.
        """
        bounds, values = [], []
        for bound, comparison in ((since, ">="), (until, "<")):
            if bound is not None:
                bounds.append(f"issued_at {comparison} ?")
                values.append(rfc3339(parse_rfc3339(bound), milliseconds=True))
        within = f" WHERE rowid IN (SELECT rowid FROM receipts WHERE {' AND '.join(bounds)})" if bounds else ""  # noqa: S608 (no value in it)
        return self._rows(f"{_ROW}{within} ORDER BY rowid", values)

    def find(self, query_id: str) -> LedgerRow | None:
        """Return the receipt of this id; None when there is none."""
        return next(self._rows(f"{_ROW} WHERE query_id = ?", [query_id]), None)

    def heads(self) -> tuple[Head, ...]:
        """Return the head of every `ledger_id`, by `ledger_id`."""
        found = self._all("SELECT ledger_id, seq, jws FROM heads ORDER BY ledger_id")
        if any(list(map(type, one)) != [str, int, str] for one in found):
            raise LedgerUnreadableError("corrupt")
        return tuple(Head(ledger_id=ledger_id, seq=seq, text=text) for ledger_id, seq, text in found)

    def checkpoints(self) -> tuple[CheckpointRow, ...]:
        """Return the checkpoints, the smallest tree first, of one size in the order they were made in."""
        found = self._all("SELECT tree_size, jws FROM checkpoints ORDER BY tree_size, rowid")
        if any(list(map(type, one)) != [int, str] for one in found):
            raise LedgerUnreadableError("corrupt")
        return tuple(CheckpointRow(tree_size=size, text=text) for size, text in found)

    def _connected(self) -> sqlite3.Connection:
        place = self._path.resolve()
        if self._was_alone and not os.access(place, os.W_OK):
            # Nobody has it open. SQLite would make a log beside it all the same, and could not take it away again.
            return _snapshot(f"{place.as_uri()}?mode=ro&immutable=1")
        try:
            return _snapshot(f"{place.as_uri()}?mode=ro")
        except LedgerUnreadableError as error:
            # Beside a file that no process has open, SQLite makes an index of the write-ahead log; in a folder that
            # cannot be written it has none to make when there is no log.
            log = Path(f"{place}-wal")
            if error.reason not in ("cannot_open", "read_only") or (log.exists() and log.stat().st_size):
                raise
            return _snapshot(f"{place.as_uri()}?mode=ro&immutable=1")

    def _beside(self) -> tuple[Path, Path]:
        """Return where SQLite keeps the write-ahead log and its index."""
        place = self._path.resolve()
        return Path(f"{place}-wal"), Path(f"{place}-shm")

    def _leave_as_found(self) -> None:
        """Let SQLite take away the empty log that reading made beside a file nobody has open.

        A reader cannot. A writer that writes nothing can, as it leaves, and does so only where it is alone.
        """
        log, _index = self._beside()
        with contextlib.suppress(OSError, sqlite3.Error):  # where it cannot be, two empty files stay
            if self._was_alone and log.exists() and not log.stat().st_size:
                uri = f"{self._path.resolve().as_uri()}?mode=rw"
                with contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=0)) as connection:
                    connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()

    def _rows(self, sql: str, values: list[str]) -> Iterator[LedgerRow]:
        for found in self._each(sql, values):
            ledger_id, seq, query_id, request_id, issued_at, caller, model, region, text = found
            if list(map(type, found)) not in _KINDS:
                raise LedgerUnreadableError("corrupt")
            yield LedgerRow(
                ledger_id=ledger_id,
                seq=seq,
                query_id=query_id,
                request_id=request_id,
                issued_at=issued_at,
                caller=caller,
                model=model,
                region=region,
                text=text,
            )

    def _all(self, sql: str) -> list[tuple[Any, ...]]:
        return list(self._each(sql, []))

    def _each(self, sql: str, values: list[str]) -> Iterator[tuple[Any, ...]]:
        if self._open is None:
            raise LedgerUnreadableError("closed")
        try:
            yield from self._open.execute(sql, values)
        except sqlite3.Error as error:
            raise LedgerUnreadableError(reason_of(error)) from None


def _snapshot(uri: str) -> sqlite3.Connection:
    """Open the file and begin to read it.

    Raises:
        LedgerUnreadableError: it cannot be opened, or is no ledger.
    """
    connection: sqlite3.Connection | None = None
    try:
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_BUSY_SECONDS)
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("BEGIN")
        reason = "not_a_ledger" if is_empty(connection) else ""
    except NotALedgerError as error:
        reason = error.reason
    except sqlite3.Error as error:
        reason = reason_of(error)
    if not reason and connection is not None:
        return connection
    if connection is not None:
        connection.close()
    raise LedgerUnreadableError(reason)
