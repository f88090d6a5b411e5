"""Checkpoints against rows: is what a checkpoint was made of still there, unchanged and in its order."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from vetted_mw.audit.verify.findings import Code, Finding, Place, Severity, counted, note, problem, shown
from vetted_mw.audit.verify.heads import open_checkpoint
from vetted_mw.receipts.ledger.merkle import MerkleTree

if TYPE_CHECKING:
    from collections.abc import Collection

    from vetted_mw.audit.verify.findings import Tell
    from vetted_mw.audit.verify.heads import CheckpointWord
    from vetted_mw.receipts.jwks import Jwks

__all__ = ["CheckpointWatch", "KeptApart"]


@dataclass(slots=True, kw_only=True)
class KeptApart:
    """A checkpoint that was kept apart from its ledger.

    Attributes:
        file: where it was kept.
        text: what it says.
        was_compared: whether a file was met that it is of.
    """

    file: str
    text: str
    was_compared: bool = False


@dataclass(slots=True, kw_only=True)
class _Awaited:
    word: CheckpointWord
    place: Place
    apart: KeptApart | None = None
    root: str | None = None
    told: list[Finding] = field(default_factory=list)


class CheckpointWatch:
    """Grows one tree over the rows of a file and compares it with each checkpoint when it has as many rows.

    Args:
        keys: whose signatures count; None when no key is at hand.
        tell: takes what is found.
    """

    def __init__(self, *, keys: Jwks | None, tell: Tell) -> None:
        self._keys = keys
        self._tell = tell
        self._tree = MerkleTree()
        self._awaited: list[_Awaited] = []
        self._by_size: dict[int, list[_Awaited]] = {}
        self._signed: set[tuple[int, str]] = set()
        self._unsigned: list[tuple[CheckpointWord, Finding]] = []

    @property
    def size(self) -> int:
        """How many rows were met."""
        return len(self._tree)

    @property
    def root(self) -> str:
        """The root over the rows met, `sha-256:<hex>`."""
        return f"sha-256:{self._tree.root().hex()}"

    def add(self, text: str, place: Place) -> CheckpointWord | None:
        """Watch for a checkpoint that stands in the file itself; all are added before the first row."""
        told: list[Finding] = []
        word = open_checkpoint(text, self._keys, place, told.append)
        for finding in told:
            if word is not None and finding.code is Code.UNSIGNED:
                self._unsigned.append((word, finding))
            else:
                self._tell(finding)
        if word is not None:
            self._await(_Awaited(word=word, place=place))
            if not told:
                self._signed.add((word.tree_size, word.root))
        return word

    def add_apart(self, apart: KeptApart) -> None:
        """Watch for one that was kept apart, and may be of another file."""
        told: list[Finding] = []
        place = Place(file=apart.file)
        word = open_checkpoint(apart.text, self._keys, place, told.append)
        if word is not None:
            self._await(_Awaited(word=word, place=place, apart=apart, told=told))
            return
        apart.was_compared = True  # as far as it can be
        for finding in told:
            self._tell(finding)

    def meet(self, text: str) -> None:
        """Take the next row."""
        self._tree.add(text.encode("utf-8", "surrogatepass"))
        self._note_root()

    def conclude(self, ledger_ids: Collection[str]) -> None:
        """Tell which checkpoints do not fit the rows that were met.

        Args:
            ledger_ids: the ledgers of the file; a checkpoint kept apart that names none of them is of another.
        """
        self._tell_unsigned()
        for one in self._of(ledger_ids):
            if one.root is None:
                missing = one.word.tree_size - self.size
                what = (
                    f"is of {counted(one.word.tree_size, 'row')}, and {self.size:,} are left: {missing:,}"
                    f" {'is' if missing == 1 else 'are'} missing, or the export or copy is older than the checkpoint"
                )
                self._tell(problem(Code.CHECKPOINT, one.place, f"the checkpoint of {shown(one.word.at)} {what}"))
            elif one.root != one.word.root:
                first = counted(one.word.tree_size, "row")
                what = f"over the first {first} does not fit: one was changed, taken out or moved"
                self._tell(problem(Code.CHECKPOINT, one.place, f"the checkpoint of {shown(one.word.at)} {what}"))

    def give_up(self, ledger_ids: Collection[str], reason: str) -> None:
        """Tell that no checkpoint can be compared, and why."""
        self._tell_unsigned()
        for one in self._of(ledger_ids):
            self._tell(note(Code.CHECKPOINT, one.place, f"the checkpoint of {shown(one.word.at)} {reason}"))

    def _tell_unsigned(self) -> None:
        """Tell of checkpoints without a signature; one beside a signed one of the same rows does no harm."""
        for word, finding in self._unsigned:
            if (word.tree_size, word.root) in self._signed:
                what = f"{finding.text}; a signed one of the same rows is beside it"
                self._tell(replace(finding, severity=Severity.NOTE, text=what))
            else:
                self._tell(finding)
        self._unsigned.clear()

    def _await(self, one: _Awaited) -> None:
        self._awaited.append(one)
        self._by_size.setdefault(one.word.tree_size, []).append(one)
        self._note_root()

    def _note_root(self) -> None:
        for one in self._by_size.pop(self.size, ()):
            one.root = self.root

    def _of(self, ledger_ids: Collection[str]) -> list[_Awaited]:
        """Return the checkpoints that are of these ledgers, once what was held back about them is told."""
        found = []
        for one in self._awaited:
            if one.apart is not None:
                if not any(ledger_id in ledger_ids for ledger_id in one.word.heads):
                    continue
                one.apart.was_compared = True
            for finding in one.told:
                self._tell(finding)
            found.append(one)
        return found
