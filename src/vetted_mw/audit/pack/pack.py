"""An evidence pack: one period of a ledger with all that is needed to check it. The format, and how it is read."""

from __future__ import annotations

import os
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, BinaryIO, Literal, Protocol, cast

import msgspec

from vetted_mw.receipts.exact_json import NotExactJsonError, read_json

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "AGGREGATES",
    "EDGES",
    "JWKS",
    "MANIFEST",
    "METHOD_FOLDER",
    "RECEIPTS",
    "Folder",
    "Manifest",
    "Package",
    "PackedCheckpoint",
    "PackedFile",
    "PackedHead",
    "PackedLedger",
    "PackedMethod",
    "UnreadablePackError",
    "Zip",
    "read_manifest",
    "read_small",
]

MANIFEST = "manifest.json"
RECEIPTS = "receipts.jsonl"
EDGES = "edges.txt"
AGGREGATES = "aggregates.csv"
JWKS = "jwks.json"
METHOD_FOLDER = "methodology"
MAX_SMALL_BYTES = 67_108_864
"""Of a file that is read whole: a manifest names every ledger of the period."""
_MOST_FILES = 1_000
_MOST_DIRECTORY_BYTES = 1_048_576
_MOST_TIMES = 250
"""How much larger than its packed form a file may be: receipts reach 3, and what reaches 1,000 is a bomb."""
_SLACK_BYTES = 1_048_576
_END_RECORD = b"PK\x05\x06"
_END_RECORD_BYTES = 22
_LONGEST_COMMENT = 65_535
_CHUNK = 1_048_576

_Digest = Annotated[str, msgspec.Meta(pattern=r"^sha-256:[0-9a-f]{64}$")]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class UnreadablePackError(Exception):
    """A pack or a file in it cannot be read; `args[0]` says why in words that follow its name."""


class PackedLedger(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of one ledger in a pack.

    Attributes:
        ledger_id: which.
        first: smallest `seq` in the period.
        last: largest `seq` in the period.
        count: rows in the period; `last - first + 1` less those issued outside it and those missing.
        edges: rows beside them in `edges.txt`: issued outside the period, they show that nothing was left out.
    """

    ledger_id: str
    first: _Count
    last: _Count
    count: _Count
    edges: _Count


class PackedFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a pack: its name there, its size and its digest."""

    name: str
    bytes: _Count
    sha256: _Digest


class PackedHead(msgspec.Struct, frozen=True, kw_only=True):
    """The head of a ledger when the pack was made."""

    ledger_id: str
    seq: _Count
    text: str


class PackedCheckpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint that the ledger file held."""

    tree_size: _Count
    text: str


class PackedMethod(msgspec.Struct, frozen=True, kw_only=True):
    """One version of the methodology that receipts of the pack name.

    Attributes:
        version: of the methodology.
        methodology_digest: as in the receipts.
        coefficients_digest: as in the receipts whose figures no other package made.
        files: their names in the pack; the last part of each is the name it is shipped under.
    """

    version: str
    methodology_digest: _Digest
    coefficients_digest: _Digest
    files: Annotated[list[str], msgspec.Meta(max_length=20)]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a pack says of itself. It is not signed: everything in it is checked against what is.

    Attributes:
        pack_version: of this format.
        software: what made the pack.
        since: begin of the period, RFC 3339, UTC, in it.
        until: its end, not in it.
        receipts: rows in `receipts.jsonl`.
        is_whole: whether these are all rows that the ledger file held.
        root: Merkle root (RFC 9162) over the lines of `receipts.jsonl`.
        ledgers: the ledgers they are of.
        heads: the heads of these.
        checkpoints: those of the ledger file.
        methods: the methodology versions that receipts name and this software has.
        files: every other file of the pack.
    """

    pack_version: Literal["1"] = "1"
    software: str
    since: str
    until: str
    receipts: _Count
    is_whole: bool
    root: _Digest
    ledgers: list[PackedLedger]
    heads: list[PackedHead]
    checkpoints: list[PackedCheckpoint]
    methods: Annotated[list[PackedMethod], msgspec.Meta(max_length=200)]
    files: Annotated[list[PackedFile], msgspec.Meta(max_length=1_000)]


class Package(Protocol):
    """A pack to be read: a zip file, or the folder it was unpacked into."""

    def names(self) -> list[str]:
        """Return the names of its files, `/` between folders.

        Raises:
            UnreadablePackError: there are more than any pack has.
        """
        ...

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """Open one of its files to be read from the begin.

        Raises:
            UnreadablePackError: it cannot be read, now or later on.
        """
        ...


class Zip:
    """A pack as it was exported.

    Args:
        path: the zip file.

    Raises:
        UnreadablePackError: it is no zip file that a pack could be.
    """

    def __init__(self, path: Path) -> None:
        _forbid_large_directory(path)
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise UnreadablePackError("is no whole zip file: it was cut or damaged") from error
        self._infos = {info.filename: info for info in self._zip.infolist() if not info.is_dir()}

    def close(self) -> None:
        """Close the file."""
        self._zip.close()

    def names(self) -> list[str]:
        """Return the names of its files."""
        listed = [info.filename for info in self._zip.infolist() if not info.is_dir()]
        if len(listed) != len(self._infos):
            raise UnreadablePackError("holds two files of one name")
        return listed

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """Open one of its files."""
        info = self._infos.get(name)
        if info is None:
            raise UnreadablePackError("is not there")
        try:
            with self._zip.open(info) as stream:
                yield cast("BinaryIO", _Bounded(stream, info.compress_size * _MOST_TIMES + _SLACK_BYTES))
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError) as error:
            raise UnreadablePackError("is damaged: its bytes are not those that were packed") from error


class Folder:
    """A pack that was unpacked.

    Args:
        path: the folder with its manifest.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def names(self) -> list[str]:
        """Return the names of its files."""
        found: list[str] = []
        for folder, folders, files in os.walk(self._path):
            folders.sort()
            found += [str((Path(folder) / file).relative_to(self._path).as_posix()) for file in sorted(files)]
            if len(found) > _MOST_FILES:
                raise UnreadablePackError(f"holds more than {_MOST_FILES:,} files")
        return [name for name in found if (self._path / name).is_file()]

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """Open one of its files."""
        try:
            with (self._path / name).open("rb") as stream:
                yield stream
        except OSError as error:
            raise UnreadablePackError("cannot be read") from error


class _Bounded:
    """Reads a packed file as long as it stays within what honest data grows to."""

    def __init__(self, stream: IO[bytes], most: int) -> None:
        self._stream = stream
        self._left = most

    def read(self, size: int = _CHUNK) -> bytes:
        return self._counted(self._stream.read(size))

    def readline(self, size: int = _CHUNK) -> bytes:
        return self._counted(self._stream.readline(size))

    def _counted(self, data: bytes) -> bytes:
        self._left -= len(data)
        if self._left < 0:
            raise UnreadablePackError(f"grows to more than {_MOST_TIMES} times its packed size: no receipts do")
        return data


def read_small(package: Package, name: str) -> bytes:
    """Read a file that is small in any honest pack.

    Raises:
        UnreadablePackError: it cannot be read, or is larger.
    """
    with package.open(name) as stream:
        parts = []
        left = MAX_SMALL_BYTES
        while chunk := stream.read(_CHUNK):
            left -= len(chunk)
            if left < 0:
                raise UnreadablePackError(f"has more than {MAX_SMALL_BYTES:,} bytes")
            parts.append(chunk)
    return b"".join(parts)


def read_manifest(package: Package) -> Manifest:
    """Read what a pack says of itself.

    Raises:
        UnreadablePackError: it says nothing that can be understood.
    """
    try:
        return msgspec.convert(read_json(read_small(package, MANIFEST)), Manifest, strict=True)
    except (NotExactJsonError, msgspec.ValidationError) as error:
        raise UnreadablePackError("is no manifest as `receipts export` writes one") from error


def _forbid_large_directory(path: Path) -> None:
    """Look at the end of a zip file before its directory is read into memory."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - _LONGEST_COMMENT - _END_RECORD_BYTES))
            tail = stream.read()
    except OSError as error:
        raise UnreadablePackError("cannot be read") from error
    at = tail.rfind(_END_RECORD)
    record = tail[at : at + _END_RECORD_BYTES] if at >= 0 else b""
    if len(record) < _END_RECORD_BYTES:
        raise UnreadablePackError("is no whole zip file: it was cut or damaged")
    count, directory = int.from_bytes(record[10:12], "little"), int.from_bytes(record[12:16], "little")
    if count > _MOST_FILES or directory > _MOST_DIRECTORY_BYTES:
        raise UnreadablePackError(f"holds more than {_MOST_FILES:,} files, and so is no pack")
