"""Several sources held against each other: a receipt that a caller or a pack holds has to be in the ledger it names."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from vetted_mw.audit.ledger import AuditedLedger, LedgerUnreadableError
from vetted_mw.audit.pack import pack as packed
from vetted_mw.audit.pack.pack import Folder, UnreadablePackError, Zip
from vetted_mw.audit.verify.findings import Code, Place, counted, note, problem, shown
from vetted_mw.audit.verify.lines import lines_of
from vetted_mw.audit.verify.tracks import digest_of
from vetted_mw.receipts.jws import MalformedJwsError, read_jws

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from vetted_mw.audit.verify.findings import Tell

__all__ = ["Copies", "compare"]

_TABLE = """CREATE TABLE copies (query_id TEXT, ledger_id TEXT, seq INTEGER, issued_at TEXT, digest TEXT, file TEXT,
    line INTEGER, is_packed INTEGER, is_found INTEGER DEFAULT 0, known_in TEXT, other_in TEXT)"""
_LARGEST = 2**53
_BATCH = 1_000


class Copies:
    """Receipts that wait, on disk, to be looked up in the ledgers and packs that were given beside them."""

    def __enter__(self) -> Self:
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute(_TABLE)
        self._db.execute("BEGIN")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._db.close()

    def meet(self, text: str, members: Mapping[str, Any], place: Place, *, is_packed: bool = False) -> None:
        """Take a receipt.

        Args:
            text: as a ledger would hold it.
            members: what it says; of what is not of its type is told elsewhere.
            place: where it stands.
            is_packed: it is a row of a pack, and so looked for in ledgers alone.
        """
        query_id, ledger_id, seq = members.get("query_id"), members.get("ledger_id"), members.get("seq")
        if not isinstance(query_id, str):
            return
        is_placed = isinstance(ledger_id, str) and isinstance(seq, int) and 0 < seq <= _LARGEST
        values = (query_id, ledger_id if is_placed else None, seq if is_placed else None, str(members.get("issued_at")))
        with suppress(UnicodeEncodeError):  # half a surrogate pair is in no ledger
            self._db.execute(
                "INSERT INTO copies (query_id, ledger_id, seq, issued_at, digest, file, line, is_packed)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (*values, digest_of(text), place.file, place.line, is_packed),
            )

    def finish(self) -> bool:
        """Sort what was taken; False when there is nothing."""
        self._db.execute("CREATE INDEX copies_query_id ON copies (query_id)")
        self._db.execute("CREATE INDEX copies_ledger_id ON copies (ledger_id)")
        return bool(self._db.execute("SELECT EXISTS (SELECT 1 FROM copies)").fetchone()[0])

    def ledger_ids(self) -> Iterator[str]:
        """Yield the ledgers that are named."""
        for (ledger_id,) in self._db.execute("SELECT DISTINCT ledger_id FROM copies WHERE ledger_id IS NOT NULL"):
            yield ledger_id

    def wanted(self, ledger_id: str) -> Iterator[tuple[int, str, str]]:
        """Yield key, id and digest of what was not found yet and names this ledger; each may be noted meanwhile."""
        last = 0
        while batch := self._db.execute(
            "SELECT rowid, query_id, digest FROM copies WHERE ledger_id = ? AND rowid > ? AND NOT is_found"
            " ORDER BY rowid LIMIT ?",
            (ledger_id, last, _BATCH),
        ).fetchall():
            yield from batch
            last = batch[-1][0]

    def found(self, key: int) -> None:
        """Note that one is where it should be."""
        self._db.execute("UPDATE copies SET is_found = 1 WHERE rowid = ?", (key,))

    def lacking(self, key: int, file: str, *, has_other: bool) -> None:
        """Note that a file holds the ledger and not this receipt, or another one under its id."""
        column = "other_in" if has_other else "known_in"
        self._db.execute(f"UPDATE copies SET {column} = ? WHERE rowid = ?", (file, key))  # noqa: S608 (no value in it)

    def expect(self, ledger_id: str, since: str, until: str, file: str) -> None:
        """Note that a pack of a period holds the ledger, and so all its receipts of that time."""
        self._db.execute(
            "UPDATE copies SET known_in = ? WHERE ledger_id = ? AND issued_at >= ? AND issued_at < ? AND NOT is_packed",
            (file, ledger_id, since, until),
        )

    def compare_row(self, query_id: str, digest: str, file: str) -> None:
        """Take a row of a pack."""
        self._db.execute(
            "UPDATE copies SET is_found = is_found OR digest = ?1, other_in = iif(digest = ?1, other_in, ?2)"
            " WHERE query_id = ?3 AND ledger_id IS NOT NULL AND NOT is_packed",
            (digest, file, query_id),
        )

    def missing(self) -> Iterator[tuple[Place, str, bool]]:
        """Yield what was not found: its place, the file that should have it, and whether that has another one."""
        rows = self._db.execute(
            "SELECT query_id, ledger_id, seq, file, line, known_in, other_in FROM copies"
            " WHERE NOT is_found AND coalesce(other_in, known_in) IS NOT NULL ORDER BY rowid"
        )
        for query_id, ledger_id, seq, file, line, known_in, other_in in rows:
            place = Place(file=file, line=line, ledger_id=ledger_id, seq=seq, query_id=query_id)
            yield place, other_in or known_in, other_in is not None

    def unknown(self, *, has_ledgers: bool) -> tuple[int, str]:
        """Return how many are of ledgers or times that nothing here holds, and one such ledger."""
        count, example = self._db.execute(
            "SELECT count(*), min(ledger_id) FROM copies"
            " WHERE NOT is_found AND ledger_id IS NOT NULL AND coalesce(other_in, known_in) IS NULL"
            " AND (? OR NOT is_packed)",
            (has_ledgers,),
        ).fetchone()
        return int(count), str(example)

    def unplaced(self) -> tuple[int, str]:
        """Return how many name no ledger, and the id of one."""
        count, example = self._db.execute(
            "SELECT count(*), min(query_id) FROM copies WHERE ledger_id IS NULL"
        ).fetchone()
        return int(count), str(example)


@dataclass(frozen=True, slots=True)
class _Holder:
    """A file that holds rows."""

    path: Path
    copies: Copies

    def compare_ledger(self) -> None:
        with suppress(LedgerUnreadableError), AuditedLedger(self.path) as ledger:  # which was told when it was checked
            for ledger_id in [one for one in self.copies.ledger_ids() if ledger.has(one)]:
                for key, query_id, digest in self.copies.wanted(ledger_id):
                    row = ledger.find(query_id)
                    if row is not None and digest_of(row.text) == digest:
                        self.copies.found(key)
                    else:
                        self.copies.lacking(key, str(self.path), has_other=row is not None)

    def compare_pack(self) -> None:
        with suppress(UnreadablePackError):  # as above
            package = Folder(self.path) if self.path.is_dir() else Zip(self.path)
            try:
                manifest = packed.read_manifest(package)
                for ledger in manifest.ledgers:
                    self.copies.expect(ledger.ledger_id, manifest.since, manifest.until, str(self.path))
                for name in (packed.RECEIPTS, packed.EDGES):
                    with package.open(name) as stream:
                        for _number, line in lines_of(stream):
                            self._compare_line(line)
            finally:
                package.close()

    def _compare_line(self, line: bytes | None) -> None:
        text = (line or b"").decode("utf-8", "replace")
        with suppress(MalformedJwsError, msgspec.DecodeError, UnicodeEncodeError, RecursionError):
            told = msgspec.json.decode(text if text.startswith("{") else read_jws(text).payload, type=_Id)
            self.copies.compare_row(told.query_id, digest_of(text), str(self.path))


class _Id(msgspec.Struct):
    query_id: str


def compare(copies: Copies, *, ledgers: Sequence[Path], packs: Sequence[Path], tell: Tell) -> None:
    """Look every copy up in the ledgers and packs beside it, and tell what is not there.

    Args:
        copies: all of them.
        ledgers: ledger files that were checked.
        packs: packs that were checked.
        tell: takes what is found.
    """
    if not (ledgers or packs) or not copies.finish():
        return
    for path in ledgers:
        _Holder(path, copies).compare_ledger()
    for path in packs:
        _Holder(path, copies).compare_pack()
    for place, file, has_other in copies.missing():
        if has_other:
            what = f"{shown(file)} holds another receipt under this id: one of the two was changed"
        else:
            what = (
                f"seq {place.seq} of ledger {shown(place.ledger_id)} is not in {shown(file)}, which holds that ledger:"
                " the row was taken out there"
            )
        tell(problem(Code.MISSING_ROW, place, what))
    files = Place(file=", ".join(shown(path) for path in [*ledgers, *packs][:3]))
    count, example = copies.unknown(has_ledgers=bool(ledgers))
    if count:
        what = (
            f"{counted(count, 'receipt')} from elsewhere of ledgers, or of times, that are not in here, as ledger"
            f" {shown(example)}: not compared"
        )
        tell(note(Code.MISSING_ROW, files, what, count=count))
    count, example = copies.unplaced()
    if count:
        what = f"{counted(count, 'receipt')} without a ledger_id, as {shown(example)}: kept in no ledger (fail_open?)"
        tell(note(Code.NOT_KEPT, files, what, count=count))
