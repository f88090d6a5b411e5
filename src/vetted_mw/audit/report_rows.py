"""Read receipts row by row and add them up: from a ledger, or from the pack that an export made."""

from __future__ import annotations

import json
import sqlite3
import zipfile
import zlib
from typing import TYPE_CHECKING, BinaryIO, cast

import msgspec

from vetted_mw.audit.lines import lines_of
from vetted_mw.audit.sums import Counted, Key
from vetted_mw.audit.totals import Adder
from vetted_mw.instants import parse_rfc3339, rfc3339
from vetted_mw.receipts.jws import MalformedJwsError, from_b64url
from vetted_mw.receipts.ledger.reading import LedgerReader

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from vetted_mw.audit.totals import Totals
    from vetted_mw.receipts.ledger.reading import LedgerRow

__all__ = ["CountedLedger", "PackUnreadableError", "counted", "ledger_totals", "pack_totals"]

_RECEIPTS_SUFFIX = ".jsonl"
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


class PackUnreadableError(Exception):
    """The file is no pack of receipts, or broken. Content-free: `reason` is a word."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def counted(text: str) -> tuple[Counted, bool] | None:
    """Read what is counted of a row, and whether it is signed; None when it holds no receipt that can be read.

    The signature is not checked.
    """
    is_plain = text.startswith("{")
    try:
        row = _DECODE.decode(text if is_plain else from_b64url(text.split(".")[1]))
        parse_rfc3339(row.issued_at)
    except (MalformedJwsError, msgspec.DecodeError, UnicodeDecodeError, ValueError, IndexError, RecursionError):
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


def pack_totals(path: Path, since: datetime | None = None, until: datetime | None = None) -> Totals:
    """Add up a pack's receipts that were issued from `since` on and before `until`.

    Raises:
        PackUnreadableError: it is missing, no pack, or broken.
    """
    adder = Adder()
    try:
        with zipfile.ZipFile(path) as pack, _Requests() as requests:
            for text in _texts(pack):
                _add(text, adder, requests, since, until)
            for key in requests.unanswered():
                adder.count_request(key)
    except OSError:
        raise PackUnreadableError("missing" if not path.exists() else "not_readable") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError):
        # To zipfile an encrypted member is a RuntimeError, an unknown compression a NotImplementedError.
        raise PackUnreadableError("not_a_pack_or_broken") from None
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


def _texts(pack: zipfile.ZipFile) -> Iterator[str | None]:
    """Yield each line of the pack's receipts; None for one that is none."""
    names = [name for name in pack.namelist() if name.endswith(_RECEIPTS_SUFFIX)]
    if not names:
        raise PackUnreadableError("no_receipts")
    for name in names:
        with pack.open(name) as member:
            for _, line in lines_of(cast("BinaryIO", member)):
                yield None if line is None else line.decode("utf-8", "replace")


def _add(text: str | None, adder: Adder, requests: _Requests, since: datetime | None, until: datetime | None) -> None:
    found = None if text is None else counted(text)
    if found is None:
        adder.add_unreadable()
        return
    row, signed = found
    issued_at = parse_rfc3339(row.issued_at)
    if (since is None or issued_at >= since) and (until is None or issued_at < until):
        requests.saw(row, adder.add(row, signed=signed))


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment, milliseconds=True)
