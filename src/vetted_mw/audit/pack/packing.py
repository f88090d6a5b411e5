"""Make an evidence pack: one period of a ledger, row after row, with all that is needed to check it.

The same ledger and period give the same bytes. Nothing is checked here: what is wrong with the ledger is in the pack
too, and `receipts verify` finds it there.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

import msgspec

from vetted_mw.audit.pack import pack as packed
from vetted_mw.audit.pack.pack import (
    Manifest,
    PackedCheckpoint,
    PackedFile,
    PackedHead,
    PackedLedger,
    PackedMethod,
)
from vetted_mw.audit.report.csv_form import sums_csv
from vetted_mw.audit.report.rows import counted
from vetted_mw.audit.report.sums import Key, LedgerSpan
from vetted_mw.audit.report.totals import Adder
from vetted_mw.audit.verify.ids import Ids
from vetted_mw.audit.verify.methods import digests_of
from vetted_mw.receipts.coefficients import load_coefficients
from vetted_mw.receipts.jws import MalformedJwsError, from_b64url
from vetted_mw.receipts.ledger.merkle import MerkleTree
from vetted_mw.receipts.shipped import version_files, versions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vetted_mw.audit.ledger import AuditedLedger
    from vetted_mw.receipts.ledger.reading import LedgerRow

__all__ = ["Packed", "write_pack"]

_EARLIEST = (1980, 1, 1, 0, 0, 0)
"""What a zip file can say at the earliest; the instant of packing would make every pack another one."""
_READABLE_BY_OWNER = 0o600 << 16
_UNIX = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """What became of an export.

    Attributes:
        manifest: of the pack.
        unreadable: rows that hold no receipt that can be read; they are in the pack as they are.
        unknown_methods: `coefficients_digest` of receipts whose methodology this software does not ship.
    """

    manifest: Manifest
    unreadable: int
    unknown_methods: tuple[str, ...]


def write_pack(
    ledger: AuditedLedger, target: IO[bytes], *, since: str, until: str, jwks: bytes, software: str
) -> Packed:
    """Write the pack of one period.

    Args:
        ledger: open; all is read in its one snapshot.
        target: a file that is written from its begin.
        since: begin of the period, as receipts write instants.
        until: its end, not included.
        jwks: the keys of the issuer, as JSON.
        software: what makes the pack.

    Raises:
        LedgerUnreadableError: the ledger is broken.
        OSError: the pack cannot be written.
    """
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, allowZip64=True) as archive, Ids() as ids:
        return _Packing(archive=archive, ledger=ledger, ids=ids, since=since, until=until).run(jwks, software)


class _Digests(msgspec.Struct):
    coefficients_digest: str


class _Member:
    """Writes one file of the pack and remembers what the manifest says of it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self._size = 0

    def write(self, data: bytes) -> None:
        self._stream.write(data)
        self._digest.update(data)
        self._size += len(data)

    def packed(self, name: str) -> PackedFile:
        return PackedFile(name=name, bytes=self._size, sha256=f"sha-256:{self._digest.hexdigest()}")


@dataclass(slots=True, kw_only=True)
class _Packing:
    archive: zipfile.ZipFile
    ledger: AuditedLedger
    ids: Ids
    since: str
    until: str
    files: list[PackedFile] = field(default_factory=list)
    spans: dict[str, LedgerSpan] = field(default_factory=dict)
    adder: Adder = field(default_factory=Adder)
    tree: MerkleTree = field(default_factory=MerkleTree)
    digests: set[str] = field(default_factory=set)
    unreadable: int = 0

    def run(self, jwks: bytes, software: str) -> Packed:
        self._write_receipts()
        edges = self._write_edges()
        self._write(packed.AGGREGATES, self._aggregates())
        self._write(packed.JWKS, msgspec.json.format(jwks, indent=2))
        methods, unknown = self._write_methods()
        manifest = Manifest(
            software=software,
            since=self.since,
            until=self.until,
            receipts=len(self.tree),
            is_whole=len(self.tree) == self.ledger.row_count(),
            root=f"sha-256:{self.tree.root().hex()}",
            ledgers=[
                PackedLedger(ledger_id=one, first=span.first, last=span.last, count=span.rows, edges=edges[one])
                for one, span in sorted(self.spans.items())
            ],
            heads=[
                PackedHead(ledger_id=head.ledger_id, seq=head.seq, text=head.text)
                for head in self.ledger.heads()
                if head.ledger_id in self.spans
            ],
            checkpoints=[PackedCheckpoint(tree_size=one.tree_size, text=one.text) for one in self.ledger.checkpoints()],
            methods=methods,
            files=self.files,
        )
        with self._member(packed.MANIFEST) as member:
            member.write(msgspec.json.format(msgspec.json.encode(manifest), indent=2))
        return Packed(manifest=manifest, unreadable=self.unreadable, unknown_methods=tuple(sorted(unknown)))

    def _write_receipts(self) -> None:
        with self._listed(packed.RECEIPTS) as member:
            for row in self.ledger.rows(self.since, self.until):
                line = _line(row)
                member.write(line + b"\n")
                self.tree.add(line)
                self._note(row)

    def _note(self, row: LedgerRow) -> None:
        span = self.spans.get(row.ledger_id)
        if span is None:
            self.spans[row.ledger_id] = LedgerSpan(row.seq, row.seq)
        else:
            span.saw(row.seq)
        found, digest = counted(row.text), _coefficients_digest(row.text)
        if found is None or digest is None:
            self.unreadable += 1
            return
        key = self.adder.add(found[0], signed=found[1])
        self.ids.meet(msgspec.structs.asdict(found[0]), key=json.dumps(key))
        self.digests.add(digest)

    def _write_edges(self) -> dict[str, int]:
        """Write the rows beside the period, and those of other times between its rows; return how many per ledger."""
        counts: dict[str, int] = {}
        with self._listed(packed.EDGES) as member:
            for ledger_id, span in sorted(self.spans.items()):
                counts[ledger_id] = 0
                for row in self.ledger.outside(ledger_id, span.first - 1, span.last + 1, self.since, self.until):
                    member.write(_line(row) + b"\n")
                    counts[ledger_id] += 1
        return counts

    def _aggregates(self) -> bytes:
        self.ids.finish()
        for key in self.ids.unanswered():
            self.adder.count_request(Key(*json.loads(key)))
        return "".join(sums_csv(self.adder.totals)).encode()

    def _write_methods(self) -> tuple[list[PackedMethod], set[str]]:
        methods, unknown = [], set(self.digests)
        for version in versions():
            coefficients = load_coefficients(version)
            if self.digests.isdisjoint(digests_of(coefficients)):
                continue
            unknown -= digests_of(coefficients)
            names = []
            for file, data in sorted(version_files(version).items()):
                names.append(f"{packed.METHOD_FOLDER}/{version}/{file}")
                self._write(names[-1], data)
            methods.append(
                PackedMethod(
                    version=version,
                    methodology_digest=coefficients.methodology_digest,
                    coefficients_digest=coefficients.digest,
                    files=names,
                )
            )
        return methods, unknown

    def _write(self, name: str, data: bytes) -> None:
        with self._listed(name) as member:
            member.write(data)

    @contextmanager
    def _listed(self, name: str) -> Iterator[_Member]:
        with self._member(name) as member:
            yield member
        self.files.append(member.packed(name))

    @contextmanager
    def _member(self, name: str) -> Iterator[_Member]:
        info = zipfile.ZipInfo(name, date_time=_EARLIEST)
        info.compress_type = zipfile.ZIP_DEFLATED
        info.create_system = _UNIX
        info.external_attr = _READABLE_BY_OWNER
        with self.archive.open(info, "w", force_zip64=True) as stream:
            yield _Member(stream)


def _line(row: LedgerRow) -> bytes:
    """Return a row's text as one line; a text that spans lines is no receipt, and stays none."""
    return b" ".join(row.text.encode("utf-8", "surrogatepass").splitlines())


def _coefficients_digest(text: str) -> str | None:
    try:
        payload = text.encode() if text.startswith("{") else from_b64url(text.split(".")[1])
        return msgspec.json.decode(payload, type=_Digests).coefficients_digest
    except (MalformedJwsError, msgspec.DecodeError, UnicodeError, IndexError, RecursionError):
        return None
