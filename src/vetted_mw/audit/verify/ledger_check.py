"""Check a ledger file: every row, what is missing, its heads and its checkpoints."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vetted_mw.audit.ledger import AuditedLedger, LedgerUnreadableError
from vetted_mw.audit.verify.checker import Checker
from vetted_mw.audit.verify.checkpoint_check import CheckpointWatch, KeptApart
from vetted_mw.audit.verify.findings import Code, Place, counted, note, problem, shown
from vetted_mw.audit.verify.heads import open_head, tell_head, tell_not_kept
from vetted_mw.audit.verify.tracks import Tracks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from vetted_mw.audit.verify.findings import Tell
    from vetted_mw.receipts.jwks import Jwks
    from vetted_mw.receipts.ledger.reading import Head, LedgerRow

__all__ = ["check_ledger"]

_COLUMNS = ("ledger_id", "seq", "query_id", "request_id", "issued_at", "model", "region")
_REASONS = {
    "corrupt": "is damaged: SQLite cannot read all of it",
    "not_a_ledger": "is no ledger of this software, or is damaged, or was copied while in use without its -wal file",
    "newer_version": "was written by a newer version of this software: verify it with that",
    "locked": "is locked by another process: try again, or verify a copy",
    "cannot_open": "cannot be opened: see who may read the file and its folder",
}


def check_ledger(path: Path, name: str, *, keys: Jwks | None, checkpoints: Sequence[KeptApart], tell: Tell) -> Checker:
    """Check one ledger file, and return who did, with what was met.

    Args:
        path: the file.
        name: what findings call it.
        keys: whose signatures count; None when no key is at hand.
        checkpoints: those that were kept apart from it.
        tell: takes what is found.
    """
    checker = Checker(keys=keys, tell=tell)
    place = Place(file=name)
    try:
        with AuditedLedger(path) as ledger:
            _Check(ledger=ledger, checker=checker, place=place).run(checkpoints)
    except LedgerUnreadableError as error:
        what = _REASONS.get(error.reason, f"cannot be read ({error.reason})")
        tell(problem(Code.UNREADABLE, place, f"{what}; what is not told here was not checked"))
    checker.conclude(place)
    return checker


@dataclass(frozen=True, slots=True, kw_only=True)
class _Check:
    ledger: AuditedLedger
    checker: Checker
    place: Place
    tracks: Tracks = field(default_factory=Tracks)

    def run(self, checkpoints: Sequence[KeptApart]) -> None:
        tell = self.checker.tell
        tables, others = self.ledger.schema_faults()
        for other in others:
            what = (
                f"{shown(other)} is not as the gateway made it: what keeps rows append-only was taken away or changed"
            )
            tell(problem(Code.SCHEMA, self.place, what))
        if tables:
            what = f"{', '.join(map(shown, tables))}: these tables are not a ledger's, nothing in them was checked"
            tell(problem(Code.UNREADABLE, self.place, what))
            return
        for damage in self.ledger.damages():
            tell(problem(Code.UNREADABLE, self.place, f"SQLite finds damage: {shown(damage)}"))
        watch = self._watch(checkpoints)
        for row in self.ledger.rows():
            watch.meet(row.text)
            self._check_row(row)
        self.tracks.tell_gaps(self.place, tell)
        self._check_heads()
        watch.conclude(list(self.tracks))
        self._check_ids()
        if not watch.size:
            tell(note(Code.SKIPPED, self.place, "holds no receipt: none was kept, or all were taken out"))
        self.checker.counts.ledgers += len(self.tracks)

    def _watch(self, kept_apart: Sequence[KeptApart]) -> CheckpointWatch:
        watch = CheckpointWatch(keys=self.checker.keys, tell=self.checker.tell)
        for row in self.ledger.checkpoints():
            word = watch.add(row.text, self.place)
            if word is not None and word.tree_size != row.tree_size:
                what = f"the checkpoint filed under {row.tree_size} rows is of {word.tree_size}"
                self.checker.tell(problem(Code.COLUMNS, self.place, what))
        for apart in kept_apart:
            watch.add_apart(apart)
        return watch

    def _check_row(self, row: LedgerRow) -> None:
        where = self.place.of(ledger_id=row.ledger_id, seq=row.seq, query_id=row.query_id)
        members = self.checker.check_text(row.text, where)
        columns = {"ledger_id": row.ledger_id, "seq": row.seq}
        self.tracks.meet(columns, row.text, where, self.checker.tell)
        if members is not None:
            self._check_columns(row, members, where)

    def _check_columns(self, row: LedgerRow, members: Mapping[str, Any], where: Place) -> None:
        tell = self.checker.tell
        for name in _COLUMNS:
            if getattr(row, name) != members.get(name):
                what = f"the column {name} is not what the receipt says: {shown(members.get(name))}"
                tell(problem(Code.COLUMNS, where, what))
        calls = members.get("calls")
        if isinstance(calls, int) and calls > 1 and (parts := self.ledger.parts(row.query_id)) < calls:
            tell(problem(Code.PARTS, where, f"is the sum of {calls} calls, and {parts} of them are in the ledger"))

    def _check_heads(self) -> None:
        tell = self.checker.tell
        heads = self.ledger.heads()
        for head in heads:
            self._check_head(head)
        headless = set(self.tracks) - {head.ledger_id for head in heads}
        for ledger_id in sorted(headless):
            what = "has no head: whether its newest rows are missing cannot be known"
            tell(problem(Code.HEAD, self.place.of(ledger_id=ledger_id), what))

    def _check_head(self, head: Head) -> None:
        where = self.place.of(ledger_id=head.ledger_id)
        word = open_head(head.text, self.checker.keys, where, self.checker.tell)
        if word is None:
            return
        if (word.ledger_id, word.seq) != (head.ledger_id, head.seq):
            self.checker.tell(problem(Code.COLUMNS, where, "the columns of the head are not what the head says"))
        tell_head(word, self.tracks.get(word.ledger_id), where, self.checker.tell)
        tell_not_kept(word.not_kept, where, self.checker.tell)

    def _check_ids(self) -> None:
        tell = self.checker.tell
        for query_id, count in self.ledger.twice():
            tell(problem(Code.DUPLICATE, self.place.of(query_id=query_id), f"query_id is there {count} times"))
        count, example = self.ledger.orphans()
        if count:
            what = (
                f"{counted(count, 'receipt')} of requests whose answer has no receipt here (it failed, or was cut"
                f" before it began), as {shown(example)}"
            )
            tell(note(Code.REFERENCE, self.place, what, count=count))
