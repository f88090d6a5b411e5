"""Check a file of JSON Lines: each line a JWS, a canonical receipt, or the copy a caller holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

from vetted_mw.audit.verify.checkpoint_check import CheckpointWatch, KeptApart
from vetted_mw.audit.verify.copies import check_document, receipts_in
from vetted_mw.audit.verify.findings import Code, Place, counted, note, problem, shown
from vetted_mw.audit.verify.heads import open_checkpoint, open_head
from vetted_mw.audit.verify.ids import Ids
from vetted_mw.audit.verify.lines import lines_of
from vetted_mw.audit.verify.opening import typ_of
from vetted_mw.audit.verify.tracks import Tracks
from vetted_mw.receipts.exact_json import NotExactJsonError, read_json
from vetted_mw.receipts.jws import CHECKPOINT_TYPE, HEAD_TYPE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from vetted_mw.audit.verify.checker import Checker

__all__ = ["check_lines", "tell_ids"]

_COPIES = ('"signature"', '"choices"', '"receipt"')
_OTHERS: Mapping[str, Callable[..., object]] = {HEAD_TYPE: open_head, CHECKPOINT_TYPE: open_checkpoint}
"""What a line may be beside a receipt; whatever else one says it is, it stands where a receipt should."""


def check_lines(stream: BinaryIO, name: str, checker: Checker, *, checkpoints: Sequence[KeptApart]) -> None:
    """Check JSON Lines; the ids wait on disk, so that memory does not grow with the lines.

    Args:
        stream: the file, at its begin.
        name: what findings call it.
        checker: checks each receipt.
        checkpoints: those that were kept apart.
    """
    watch = CheckpointWatch(keys=checker.keys, tell=checker.tell)
    for apart in checkpoints:
        watch.add_apart(apart)
    with Ids() as ids:
        _Check(checker=checker, file=name, ids=ids, watch=watch).run(stream)
    checker.conclude(Place(file=name))


def tell_ids(ids: Ids, place: Place, checker: Checker, *, is_part: bool = False) -> None:
    """Tell what the ids of a file say of each other.

    Args:
        ids: of its receipts.
        place: the file.
        checker: takes what is found.
        is_part: it holds the receipts of a period alone, and what they refer to may be of another.
    """
    ids.finish()
    for query_id, count in ids.twice():
        checker.tell(problem(Code.DUPLICATE, place.of(query_id=query_id), f"query_id is there {count} times"))
    for query_id, calls, parts in ids.incomplete():
        what = f"is the sum of {calls} calls, and {parts} of them are here"
        where = place.of(query_id=query_id)
        told = note(Code.PARTS, where, f"{what}: others may be of another time") if is_part else None
        checker.tell(told or problem(Code.PARTS, where, what))
    count, example = ids.orphans()
    if count:
        what = f"{counted(count, 'receipt')} of requests whose answer has no receipt here, as {shown(example)}"
        checker.tell(note(Code.REFERENCE, place, what, count=count))


@dataclass(slots=True, kw_only=True)
class _Check:
    checker: Checker
    file: str
    ids: Ids
    watch: CheckpointWatch
    tracks: Tracks = field(default_factory=Tracks)
    rows: int = 0
    copies: int = 0

    def run(self, stream: BinaryIO) -> None:
        others = 0
        for number, line in lines_of(stream):
            place = Place(file=self.file, line=number)
            text = self._text(line, place)
            if text is None:
                continue
            opened = None if text.startswith("{") else _OTHERS.get(typ_of(text) or "")
            if opened is not None:
                others += 1
                opened(text, self.checker.keys, place, self.checker.tell)
            elif not self._is_copy(text, place):
                self._check_row(text, place)
        self._conclude(Place(file=self.file), others)

    def _text(self, line: bytes | None, place: Place) -> str | None:
        if line is None:
            self.checker.tell(problem(Code.TOO_LARGE, place, "is longer than any receipt: not read"))
            return None
        try:
            return line.decode()
        except UnicodeDecodeError:
            self.checker.tell(problem(Code.UNREADABLE, place, "is not UTF-8"))
            return None

    def _is_copy(self, text: str, place: Place) -> bool:
        """Whether a line is what a caller holds, an answer or a receipt with its signature; then it is checked so."""
        if not text.startswith("{") or not any(word in text for word in _COPIES):
            return False
        try:
            document = read_json(text.encode())
        except NotExactJsonError:
            return False
        found = receipts_in(document)
        if not found or (found[0] is document and "signature" not in document):
            return False
        self.copies += 1
        check_document(document, self.checker, place)
        for receipt in found:
            self.ids.meet(receipt)
        return True

    def _check_row(self, text: str, place: Place) -> None:
        self.rows += 1
        self.watch.meet(text)
        members = self.checker.check_text(text, place)
        if members is not None:
            self.tracks.meet(members, text, place, self.checker.tell)
            self.ids.meet(members)
            self.checker.met(text, members, place)

    def _conclude(self, place: Place, others: int) -> None:
        tell = self.checker.tell
        if self.rows > 1:
            self.tracks.tell_gaps(place, tell)
            self.watch.conclude(list(self.tracks))
        elif self.rows:
            tell(note(Code.SKIPPED, place, "is one receipt alone: nothing can be said of the others of its ledger"))
        if self.copies:
            what = f"{counted(self.copies, 'receipt')} as callers hold them: a collection, in which no gap can be seen"
            tell(note(Code.SKIPPED, place, what))
        if others:
            what = f"{counted(others, 'line')} with a head or checkpoint: give checkpoints with --checkpoint"
            tell(note(Code.SKIPPED, place, what))
        if self.rows + self.copies > 1:
            tell_ids(self.ids, place, self.checker)
        self.checker.counts.ledgers += len(self.tracks)
