"""Read receipts row by row and add them up: from a ledger, or from the pack that an export made."""

from __future__ import annotations

import base64
import json
import sqlite3
from typing import TYPE_CHECKING

import msgspec

from vetted_mw.audit.lines import lines_of
from vetted_mw.audit.pack import RECEIPTS
from vetted_mw.audit.sums import Counted, Key
from vetted_mw.audit.totals import Adder
from vetted_mw.instants import parse_rfc3339, rfc3339
from vetted_mw.receipts.ledger.reading import LedgerReader

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from vetted_mw.audit.pack import Package
    from vetted_mw.audit.totals import Totals
    from vetted_mw.receipts.ledger.reading import LedgerRow

__all__ = ["CountedLedger", "counted", "ledger_totals", "pack_totals"]

_UNANSWERED = """SELECT ledger_id, seq, query_id, request_id, issued_at, caller, model, region, jws
    FROM receipts AS part
    WHERE request_id IS NOT NULL AND issued_at >= ? AND issued_at < ?
    AND NOT EXISTS (SELECT 1 FROM receipts WHERE query_id = part.request_id)
    AND NOT EXISTS
        (SELECT 1 FROM receipts AS other WHERE other.request_id = part.request_id AND other.rowid < part.rowid)
    ORDER BY rowid"""
_DECODE = msgspec.json.Decoder(Counted)
_EARLIEST, _LATEST = "0", "A"
"""What sorts before and after every instant."""


def counted(text: str) -> tuple[Counted, bool] | None:
    """Read what is counted of a row, and whether it is signed; None when it holds no receipt that can be read.

    Neither the signature nor the way it is written is checked.
    """
    is_plain = text.startswith("{")
    try:
        row = _DECODE.decode(text if is_plain else base64.urlsafe_b64decode(text.split(".", 2)[1] + "=="))
        parse_rfc3339(row.issued_at)
    except (msgspec.DecodeError, ValueError, IndexError, RecursionError):
        return None
    return row, not is_plain


class CountedLedger(LedgerReader):
    """Adds to the reader what only sums ask. The database does the work, so that memory does not grow with rows."""

    def totals(self, since: datetime | None = None, until: datetime | None = None) -> Totals:
        """Add up the receipts that were issued from `since` on and before `until`.

        Raises:
            LedgerUnreadableError: the file is broken.
        """
        adder = Adder()
        for row in self.rows(_text(since), _text(until)):
            if (found := counted(row.text)) is None:
                adder.add_unreadable()
            else:
                adder.add(found[0], signed=found[1])
        for row in self.unanswered(since, until):
            if (found := counted(row.text)) is not None and found[0].request_id is not None:
                adder.count_request(adder.key_of(found[0]))
        return adder.totals

    def unanswered(self, since: datetime | None = None, until: datetime | None = None) -> Iterator[LedgerRow]:
        """Yield the first row of each request that has rows, issued in the period, and no receipt of its own."""
        return self._rows(_UNANSWERED, [_text(since) or _EARLIEST, _text(until) or _LATEST])


def ledger_totals(path: Path, since: datetime | None = None, until: datetime | None = None) -> Totals:
    """Add up a ledger's receipts that were issued from `since` on and before `until`.

    Raises:
        LedgerUnreadableError: it is missing, no ledger, or broken.
    """
    with CountedLedger(path) as ledger:
        return ledger.totals(since, until)


def pack_totals(package: Package, since: datetime | None = None, until: datetime | None = None) -> Totals:
    """Add up a pack's receipts that were issued from `since` on and before `until`.

    Raises:
        UnreadablePackError: its receipts cannot be read.
    """
    adder = Adder()
    with _Requests() as requests, package.open(RECEIPTS) as stream:
        for _, line in lines_of(stream):
            _add(line, adder, requests, since, until)
        for key in requests.unanswered():
            adder.count_request(key)
    return adder.totals


class _Requests:
    """Finds the requests of a pack that have no receipt of their own, without holding ids in memory.

    They wait in a temporary database, which SQLite keeps on disk where it outgrows its cache and removes by itself.
    """

    def __enter__(self) -> Self:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("CREATE TABLE answered (query_id TEXT PRIMARY KEY) WITHOUT ROWID")
        self._database.execute("CREATE TABLE parts (request_id TEXT PRIMARY KEY, key TEXT)")
        self._database.execute("BEGIN")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._database.close()

    def saw(self, row: Counted, key: Key) -> None:
        """Take one receipt and the group it was added to."""
        if row.request_id is None:
            self._database.execute("INSERT OR IGNORE INTO answered VALUES (?)", (row.query_id,))
        else:
            self._database.execute("INSERT OR IGNORE INTO parts VALUES (?, ?)", (row.request_id, json.dumps(key)))

    def unanswered(self) -> Iterator[Key]:
        """Yield the group of the first receipt of each such request."""
        found = self._database.execute("SELECT key FROM parts WHERE request_id NOT IN answered ORDER BY rowid")
        for (key,) in found:
            yield Key(*json.loads(key))


def _add(line: bytes | None, adder: Adder, requests: _Requests, since: datetime | None, until: datetime | None) -> None:
    found = None if line is None else counted(line.decode("utf-8", "replace"))
    if found is None:
        adder.add_unreadable()
        return
    row, signed = found
    issued_at = parse_rfc3339(row.issued_at)
    if (since is None or issued_at >= since) and (until is None or issued_at < until):
        requests.saw(row, adder.add(row, signed=signed))


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment, milliseconds=True)
