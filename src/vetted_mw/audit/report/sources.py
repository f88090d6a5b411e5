"""Add several ledgers and packs up: a receipt that more than one of them holds counts once."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from typing import TYPE_CHECKING

from vetted_mw.audit.pack.pack import RECEIPTS
from vetted_mw.audit.report.rows import CountedLedger, counted, not_kept_of
from vetted_mw.audit.report.sums import Key
from vetted_mw.audit.report.totals import Adder
from vetted_mw.audit.verify.lines import lines_of
from vetted_mw.instants import parse_rfc3339

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from vetted_mw.audit.pack.pack import Manifest, Package
    from vetted_mw.audit.report.rows import CountedRow
    from vetted_mw.audit.report.totals import Totals

__all__ = ["Summing"]

_DIGEST_BYTES = 16


class Summing:
    """Adds sources up, one after the other, within one period.

    Ids wait in a temporary database, which SQLite keeps on disk where it outgrows its cache and removes by itself.

    Args:
        since: the period's first instant; None: from the first receipt on.
        until: the first instant after it; None: up to the last receipt.
    """

    def __init__(self, since: datetime | None, until: datetime | None) -> None:
        self._since, self._until = since, until
        self._adder = Adder()

    def __enter__(self) -> Self:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("CREATE TABLE met (query_id TEXT PRIMARY KEY, digest BLOB) WITHOUT ROWID")
        self._database.execute("CREATE TABLE parts (request_id TEXT PRIMARY KEY, key TEXT)")
        self._database.execute("BEGIN")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._database.close()

    def add_ledger(self, path: Path) -> None:
        """Add a ledger's receipts of the period.

        Raises:
            LedgerUnreadableError: it is missing, no ledger, or broken.
        """
        with CountedLedger(path) as ledger:
            for row in ledger.issued(self._since, self._until):
                self._add(row.text)
            for row in ledger.unanswered(self._since, self._until):  # which knows answers after the period too
                if (found := counted(row.text)) is not None:
                    self._await_answer(found)
            for head in ledger.heads():
                self._adder.note_not_kept(head.ledger_id, not_kept_of(head.text))

    def add_pack(self, package: Package, manifest: Manifest) -> None:
        """Add a pack's receipts of the period.

        Raises:
            UnreadablePackError: its receipts cannot be read.
        """
        with package.open(RECEIPTS) as stream:
            for _, line in lines_of(stream):
                found = self._add("" if line is None else line.decode("utf-8", "replace"))
                if found is not None:
                    self._await_answer(found)
        for head in manifest.heads:
            self._adder.note_not_kept(head.ledger_id, not_kept_of(head.text))

    def totals(self) -> Totals:
        """Return what all of them add up to; nothing can be added afterwards."""
        found = self._database.execute("SELECT key FROM parts WHERE request_id NOT IN (SELECT query_id FROM met)")
        for (key,) in found:
            self._adder.count_request(Key(*json.loads(key)))
        return self._adder.totals

    def _add(self, text: str) -> CountedRow | None:
        """Add one receipt; return it where it is of the period and was not there before."""
        found = counted(text)
        if found is None:
            self._adder.add_unreadable()
            return None
        if not self._is_within(found.receipt.issued_at) or not self._is_new(found.receipt.query_id, text):
            return None
        self._adder.add(found.receipt, signed=found.is_signed, kid=found.kid)
        return found

    def _is_within(self, instant: str) -> bool:
        issued_at = parse_rfc3339(instant)
        return (self._since is None or issued_at >= self._since) and (self._until is None or issued_at < self._until)

    def _is_new(self, query_id: str, text: str) -> bool:
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest()
        if self._database.execute("INSERT OR IGNORE INTO met VALUES (?, ?)", (query_id, digest)).rowcount:
            return True
        (before,) = self._database.execute("SELECT digest FROM met WHERE query_id = ?", (query_id,)).fetchone()
        self._adder.add_repeated(differs=before != digest)
        return False

    def _await_answer(self, found: CountedRow) -> None:
        """Remember the request of a part by the group of its first one: it counts there if no answer is met."""
        if (request_id := found.receipt.request_id) is not None:
            key = json.dumps(Adder.key_of(found.receipt))
            self._database.execute("INSERT OR IGNORE INTO parts VALUES (?, ?)", (request_id, key))
