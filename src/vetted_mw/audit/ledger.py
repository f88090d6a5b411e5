"""A ledger file as an auditor reads it: whole, in one snapshot, row by row."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from vetted_mw.audit.report.rows import CountedLedger
from vetted_mw.receipts.ledger.reading import LedgerRow, LedgerUnreadableError
from vetted_mw.receipts.ledger.schema import create

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["AuditedLedger", "LedgerUnreadableError"]

_TABLES = "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name"
_DUPLICATES = "SELECT query_id, count(*) FROM receipts NOT INDEXED GROUP BY query_id HAVING count(*) > 1"
_ORPHANS = """SELECT count(*), min(query_id) FROM receipts AS part
    WHERE request_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM receipts WHERE query_id = part.request_id)"""
_HAS = """SELECT EXISTS (SELECT 1 FROM receipts WHERE ledger_id = ?)
    OR EXISTS (SELECT 1 FROM heads WHERE ledger_id = ?)"""
_PARTS = "SELECT count(*) FROM receipts WHERE request_id = ?"
_OUTSIDE = """SELECT ledger_id, seq, query_id, request_id, issued_at, caller, model, region, jws
    FROM receipts WHERE ledger_id = ? AND seq BETWEEN CAST(? AS INTEGER) AND CAST(? AS INTEGER)
    AND NOT (issued_at >= ? AND issued_at < ?) ORDER BY seq"""


class AuditedLedger(CountedLedger):
    """Adds to the reader what only an audit asks. The database does the work: memory does not grow with the rows."""

    def schema_faults(self) -> tuple[list[str], list[str]]:
        """Return which tables, and which other parts of the schema, are not as a ledger has them."""
        with closing(sqlite3.connect(":memory:")) as sample:
            create(sample)
            expected = {(kind, name): _squeezed(sql) for kind, name, sql in sample.execute(_TABLES)}
        found = {(str(kind), str(name)): _squeezed(str(sql)) for kind, name, sql in self._each(_TABLES, [])}
        differing = sorted(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key))
        tables = [name for kind, name in differing if kind in {"table", "view"}]
        return tables, [f"{kind} {name}" for kind, name in differing if kind not in {"table", "view"}]

    def damages(self) -> list[str]:
        """Return what SQLite finds broken in the file; a few words each, at most twenty."""
        return [str(word) for (word,) in self._each("PRAGMA quick_check(20)", []) if word != "ok"]

    def row_count(self) -> int:
        """Return how many receipts there are."""
        return int(next(self._each("SELECT count(*) FROM receipts", []))[0])

    def twice(self) -> Iterator[tuple[str, int]]:
        """Yield each `query_id` that is there more than once, and how often."""
        for query_id, count in self._each(_DUPLICATES, []):
            yield str(query_id), int(count)

    def orphans(self) -> tuple[int, str]:
        """Return how many rows are of a request whose own receipt is not there, and one of them."""
        count, query_id = next(self._each(_ORPHANS, []))
        return int(count), str(query_id)

    def has(self, ledger_id: str) -> bool:
        """Whether the file holds rows or a head of this ledger."""
        return bool(next(self._each(_HAS, [ledger_id, ledger_id]))[0])

    def parts(self, query_id: str) -> int:
        """Return how many rows are parts of this receipt."""
        return int(next(self._each(_PARTS, [query_id]))[0])

    def outside(self, ledger_id: str, first: int, last: int, since: str, until: str) -> Iterator[LedgerRow]:
        """Yield the rows of one ledger with `first <= seq <= last` that were issued outside a period."""
        return self._rows(_OUTSIDE, [ledger_id, str(first), str(last), since, until])


def _squeezed(sql: str) -> str:
    return " ".join(sql.split())
