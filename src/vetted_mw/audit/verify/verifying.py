"""Verify whatever receipts come in: a ledger, a pack, JSON Lines, an answer, a stream, or a folder of these."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vetted_mw.audit.pack import pack as packed
from vetted_mw.audit.pack.pack import Folder, UnreadablePackError, Zip
from vetted_mw.audit.verify.across import Copies, compare
from vetted_mw.audit.verify.checker import Checker
from vetted_mw.audit.verify.copies import check_document, check_stream, holds_receipt
from vetted_mw.audit.verify.findings import Code, Place, Severity, note, problem, shown_path
from vetted_mw.audit.verify.ledger_check import check_ledger
from vetted_mw.audit.verify.lines_check import check_lines
from vetted_mw.audit.verify.pack_check import check_pack
from vetted_mw.audit.verify.seen import Source
from vetted_mw.audit.verify.sources import BOM, Kind, kind_of
from vetted_mw.audit.verify.telling import Outcome
from vetted_mw.receipts.exact_json import NotExactJsonError, read_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from vetted_mw.audit.verify.checkpoint_check import KeptApart
    from vetted_mw.audit.verify.findings import Finding, Tell
    from vetted_mw.receipts.jwks import Jwks

__all__ = ["Verification"]

_MOST_BYTES = 134_217_728
"""Of an answer or a stream, which are read whole."""
_BESIDE_LEDGER = ("-wal", "-shm", "-journal")


@dataclass(slots=True, kw_only=True)
class Verification:
    """One run over any number of files.

    Attributes:
        keys: whose signatures count; None: those a pack brings, else none.
        checkpoints: those that were kept apart from their ledgers.
        tell: takes what is found.
        trusts_packed_keys: whether the keys that a pack brings may stand for the issuer's.
        outcome: what it comes to, beside its findings.
    """

    keys: Jwks | None
    tell: Tell
    checkpoints: Sequence[KeptApart] = ()
    trusts_packed_keys: bool = False
    outcome: Outcome = field(default_factory=Outcome)
    _copies: Copies | None = None
    _ledgers: list[Path] = field(default_factory=list)
    _packs: list[Path] = field(default_factory=list)
    _problems: int = 0

    @property
    def refused(self) -> list[str]:
        """What could not be taken for receipts at all, and why."""
        return self.outcome.refused

    def verify(self, paths: Sequence[Path]) -> None:
        """Verify everything that was named, and hold it against each other."""
        if len(paths) > 1 or any(path.is_dir() and not (path / packed.MANIFEST).is_file() for path in paths):
            with Copies() as self._copies:
                self._verify_all(paths)
                compare(self._copies, ledgers=self._ledgers, packs=self._packs, tell=self._tell)
        else:
            self._verify_all(paths)
        for apart in self.checkpoints:
            if not apart.was_compared:
                what = (
                    "the checkpoint: no row of its ledgers is in what was checked: it is of another file, or they were"
                    " all taken out"
                )
                self._tell(problem(Code.CHECKPOINT, Place(file=apart.file), what))

    def _tell(self, finding: Finding) -> None:
        self._problems += finding.severity is Severity.PROBLEM
        self.tell(finding)

    def _verify_all(self, paths: Sequence[Path]) -> None:
        for path in paths:
            before = (self.outcome.counts.receipts, self._problems, len(self.refused))
            try:
                self._verify(path)
                if before == (self.outcome.counts.receipts, self._problems, len(self.refused)):
                    self.refused.append(f"{shown_path(path)}: holds no receipt{_hint(path)}")
            except OSError as error:
                self.refused.append(f"{shown_path(path)}: cannot be read ({error.strerror or 'no file'})")

    def _verify(self, path: Path) -> None:
        if path.is_dir():
            self._verify_folder(path)
            return
        reason = "is no regular file"
        if path.is_file() or not path.exists():
            reason = self._verify_file(path, kind_of(path))
        if reason:
            self.refused.append(f"{shown_path(path)}: {reason}")

    def _verify_folder(self, folder: Path) -> None:
        """Verify what is below a folder; links to folders are not followed, they may lead in circles."""
        waiting = [folder]
        while waiting:
            folder = waiting.pop()
            if (folder / packed.MANIFEST).is_file():
                self._verify_pack(folder)
                continue
            found = sorted(folder.iterdir())
            for path in found:
                if path.is_file() and not _is_beside_ledger(path):
                    self._verify_found(path)
            waiting += [path for path in reversed(found) if path.is_dir() and not path.is_symlink()]

    def _verify_found(self, path: Path) -> None:
        """Verify a file that nobody named; what holds no receipts is passed over, and said so."""
        try:
            reason = self._verify_file(path, kind_of(path))
        except OSError as error:
            self._tell(problem(Code.UNREADABLE, Place(file=str(path)), f"cannot be read ({error.strerror})"))
            return
        if reason:
            self._tell(note(Code.SKIPPED, Place(file=str(path)), f"passed over: {reason}"))

    def _verify_file(self, path: Path, kind: Kind) -> str:
        """Verify one file, or say why it cannot hold receipts."""
        name = str(path)
        if kind is Kind.LEDGER:
            self._ledgers.append(path)
            self._count(
                check_ledger(path, name, keys=self.keys, checkpoints=self.checkpoints, tell=self._tell), name, kind
            )
        elif kind is Kind.PACK:
            self._verify_pack(path)
        elif kind is Kind.LINES:
            checker = self._checker()
            with path.open("rb") as stream:
                check_lines(stream, name, checker, checkpoints=self.checkpoints)
            self._count(checker, name, kind)
        elif kind is Kind.HTTP:
            return "begins with an HTTP head, as curl -i saves it: remove the HTTP head up to its first blank line"
        elif kind is Kind.UNKNOWN:
            return "is no answer, stream, receipt, ledger or pack" if path.stat().st_size else "is empty"
        elif path.stat().st_size > _MOST_BYTES:
            self._tell(problem(Code.TOO_LARGE, Place(file=name), f"has more than {_MOST_BYTES:,} bytes: not read"))
        elif kind is Kind.STREAM:
            self._check_stream(path.read_bytes(), name)
        else:
            return self._check_document(path.read_bytes(), name)
        return ""

    def _verify_pack(self, path: Path) -> None:
        try:
            package: Folder | Zip = Folder(path) if path.is_dir() else Zip(path)
        except UnreadablePackError as error:
            self._tell(problem(Code.UNREADABLE, Place(file=str(path)), str(error)))
            return
        self._packs.append(path)
        try:
            checker = check_pack(
                package,
                str(path),
                keys=self.keys,
                checkpoints=self.checkpoints,
                tell=self._tell,
                copies=self._copies,
                trusts_packed_keys=self.trusts_packed_keys,
            )
        finally:
            package.close()
        self.outcome.has_packed_keys |= self.keys is None and checker.keys is not None
        self._count(checker, str(path), Kind.PACK)

    def _check_stream(self, data: bytes, name: str) -> None:
        checker = self._checker()
        check_stream(data, checker, Place(file=name))
        self._conclude(checker, name, Kind.STREAM)

    def _check_document(self, data: bytes, name: str) -> str:
        try:
            document = read_json(data.removeprefix(BOM))  # which editors and shells put before what they save
        except NotExactJsonError:
            what = "is no JSON that can be read in one way only (cut, a member twice, NaN, not UTF-8)"
            self._tell(problem(Code.UNREADABLE, Place(file=name), what))
            return ""
        if not _may_hold_receipt(document):
            return "is JSON without a receipt" + (" (a JWKS: give it with --jwks)" if "keys" in document else "")
        checker = self._checker()
        check_document(document, checker, Place(file=name))
        self._conclude(checker, name, Kind.DOCUMENT)
        return ""

    def _checker(self) -> Checker:
        return Checker(keys=self.keys, tell=self._tell, copies=self._copies)

    def _conclude(self, checker: Checker, name: str, kind: Kind) -> None:
        checker.conclude(Place(file=name))
        self._count(checker, name, kind)

    def _count(self, checker: Checker, name: str, kind: Kind) -> None:
        self.outcome.counts.add(checker.counts)
        if checker.counts.receipts:
            self.outcome.sources.append(Source(file=name, kind=kind.value, counts=checker.counts, seen=checker.seen))


def _hint(path: Path) -> str:
    """Say how a ledger that is in use comes to be empty in a copy."""
    if not path.is_file() or kind_of(path) is not Kind.LEDGER:
        return ""
    return ': copied while in use, without its -wal file? Copy a live one with sqlite3 FILE ".backup COPY"'


def _may_hold_receipt(document: Mapping[str, object]) -> bool:
    is_answer = "choices" in document or "receipt" in document
    return is_answer or holds_receipt(document) or any(map(holds_receipt, document.values()))


def _is_beside_ledger(path: Path) -> bool:
    """Whether a file is one that SQLite keeps beside a database."""
    name = path.name
    suffix = next((one for one in _BESIDE_LEDGER if name.endswith(one)), None)
    return suffix is not None and path.with_name(name.removesuffix(suffix)).is_file()
