"""The ids of a file that has no index of its own, kept on disk: a set of millions has no place in memory."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType
    from typing import Self

__all__ = ["Ids"]

_BATCH = 1_000
_MOST_CALLS = 2**53


class Ids:
    """Takes ids as they come and tells, at the end, which come twice and which are referred to and not there.

    They wait in a temporary database, which SQLite keeps on disk where it outgrows its cache and removes by itself.
    """

    def __init__(self) -> None:
        self._batch: list[tuple[str, str | None, int, str | None]] = []

    def __enter__(self) -> Self:
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute("CREATE TABLE ids (query_id TEXT, request_id TEXT, calls INTEGER, key TEXT)")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._db.close()

    def meet(self, members: Mapping[str, Any], *, key: str | None = None) -> None:
        """Take the ids of one receipt; what is not of the right type is told elsewhere.

        Args:
            members: of the receipt.
            key: what to remember it by in `unanswered`.
        """
        query_id, request_id, calls = members.get("query_id"), members.get("request_id"), members.get("calls")
        if isinstance(query_id, str):
            referred = request_id if isinstance(request_id, str) else None
            count = calls if isinstance(calls, int) and 0 < calls <= _MOST_CALLS else 1
            self._batch.append((query_id, referred, count, key))
        if len(self._batch) >= _BATCH:
            self._write()

    def finish(self) -> None:
        """Sort what was taken; everything below is asked after it."""
        self._write()
        self._db.execute("CREATE INDEX ids_query_id ON ids (query_id)")
        self._db.execute("CREATE INDEX ids_request_id ON ids (request_id)")

    def twice(self) -> Iterator[tuple[str, int]]:
        """Yield each `query_id` that came more than once, and how often."""
        yield from self._db.execute("SELECT query_id, count(*) FROM ids GROUP BY query_id HAVING count(*) > 1")

    def orphans(self) -> tuple[int, str]:
        """Return how many receipts are of a request whose own receipt did not come, and one of them."""
        count, example = self._db.execute(
            "SELECT count(*), min(query_id) FROM ids AS part WHERE request_id IS NOT NULL"
            " AND NOT EXISTS (SELECT 1 FROM ids WHERE query_id = part.request_id)"
        ).fetchone()
        return int(count), str(example)

    def incomplete(self) -> Iterator[tuple[str, int, int]]:
        """Yield each receipt that is a sum, how many calls it says, and how many came."""
        yield from self._db.execute(
            "SELECT whole.query_id, whole.calls, count(part.query_id) FROM ids AS whole"
            " LEFT JOIN ids AS part ON part.request_id = whole.query_id WHERE whole.calls > 1"
            " GROUP BY whole.rowid HAVING count(part.query_id) < whole.calls"
        )

    def unanswered(self) -> Iterator[str]:
        """Yield the key of one receipt of each request whose own receipt did not come."""
        found = self._db.execute(
            "SELECT key, min(rowid) FROM ids AS part WHERE request_id IS NOT NULL AND key IS NOT NULL"
            " AND NOT EXISTS (SELECT 1 FROM ids WHERE query_id = part.request_id) GROUP BY request_id"
        )
        for key, _first in found:
            yield str(key)

    def _write(self) -> None:
        self._db.execute("BEGIN")
        self._db.executemany("INSERT INTO ids VALUES (?, ?, ?, ?)", self._batch)
        self._db.execute("COMMIT")
        self._batch.clear()
