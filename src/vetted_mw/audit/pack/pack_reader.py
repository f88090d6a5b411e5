"""The files of an evidence pack as an auditor reads them: each held against its digest in the manifest."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

from vetted_mw.audit.pack import pack as packed
from vetted_mw.audit.pack.pack import Manifest, Package, UnreadablePackError
from vetted_mw.audit.verify.findings import Code, Place, note, problem
from vetted_mw.audit.verify.lines import lines_of
from vetted_mw.audit.verify.methods import digests_of
from vetted_mw.receipts.coefficients import Coefficients, UnreadableMethodologyError, coefficients_from
from vetted_mw.receipts.jwks import PublicKeyError, parse_jwks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vetted_mw.audit.verify.findings import Tell
    from vetted_mw.receipts.jwks import Jwks

__all__ = ["PackReader"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackReader:
    """Reads the files of a pack and compares each with its digest in the manifest.

    Attributes:
        package: the pack.
        name: what findings call it.
        manifest: what it says of itself.
        tell: takes what is found.
        present: names of the files that are there, once `check_names` has looked.
        compared: names of those whose digests were compared.
    """

    package: Package
    name: str
    manifest: Manifest
    tell: Tell
    present: set[str] = field(default_factory=set)
    compared: set[str] = field(default_factory=set)

    def place(self, file: str) -> Place:
        """Return the place of one of its files."""
        return Place(file=f"{self.name}!{file}")

    def check_names(self) -> None:
        """Tell which files are missing, and which the manifest does not name. Comes before any reading."""
        try:
            self.present.update(set(self.package.names()) - {packed.MANIFEST})
        except UnreadablePackError as error:
            self.tell(problem(Code.MANIFEST, Place(file=self.name), str(error)))
            return
        for name in sorted(self.present):
            if name.startswith(("/", "\\")) or ":" in name or ".." in name.replace("\\", "/").split("/"):
                self.tell(
                    problem(Code.MANIFEST, self.place(name), "is named so that unpacking it could write elsewhere")
                )
        listed = [one.name for one in self.manifest.files]
        if len(set(listed)) != len(listed):
            self.tell(problem(Code.MANIFEST, self.place(packed.MANIFEST), "lists a file twice"))
        for name in sorted(set(listed) - self.present):
            self.tell(problem(Code.MANIFEST, self.place(name), "is in the manifest and not in the pack"))
        for name in sorted(self.present - set(listed)):
            self.tell(problem(Code.MANIFEST, self.place(name), "is in the pack and not in the manifest"))
        for name in (packed.RECEIPTS, packed.EDGES, packed.AGGREGATES, packed.JWKS):
            if name not in listed:
                self.tell(problem(Code.MANIFEST, self.place(name), "belongs to every pack and is not in the manifest"))

    def own_keys(self, *, is_trusted: bool) -> Jwks | None:
        """Return the keys that the pack brings; None when it brings none.

        Args:
            is_trusted: the reader says that they are the issuer's.
        """
        try:
            keys = parse_jwks(self.small(packed.JWKS))
        except PublicKeyError as error:
            self.tell(problem(Code.KEYS, self.place(packed.JWKS), f"is no JWKS: it {error.args[0]}"))
            return None
        if not keys.keys:
            return None
        what = (
            "signatures are checked with keys taken from the pack itself, which whoever made it chose: compare them"
            " with the issuer's own, or give those with --jwks (--trust-packed-keys makes this a note)"
        )
        told = note if is_trusted else problem
        self.tell(told(Code.KEYS, self.place(packed.JWKS), what))
        return keys

    def compare_keys(self, keys: Jwks) -> None:
        """Tell where the keys that the pack brings are not the issuer's: others may check with those of the pack."""
        data = self.small(packed.JWKS)
        if not data:
            return  # which was told
        try:
            brought = parse_jwks(data).keys
        except PublicKeyError as error:
            self.tell(problem(Code.KEYS, self.place(packed.JWKS), f"is no JWKS: it {error.args[0]}"))
            return
        if any(keys.keys.get(kid) != key for kid, key in brought.items()):
            what = "holds a key that the issuer's keys given here do not, or not with these limits: do not hand it on"
            self.tell(note(Code.KEYS, self.place(packed.JWKS), what))

    def methods(self) -> dict[str, Coefficients]:
        """Return the coefficients that the pack brings, by digest."""
        found: dict[str, Coefficients] = {}
        for method in self.manifest.methods:
            files = {name.rpartition("/")[2]: self.small(name) for name in method.files}
            place = self.place(f"{packed.METHOD_FOLDER}/{method.version}")
            try:
                coefficients = coefficients_from(files)
            except UnreadableMethodologyError:
                self.tell(problem(Code.DIGEST, place, "holds no methodology that can be read"))
                continue
            told = (method.methodology_digest, method.coefficients_digest)
            if told != (coefficients.methodology_digest, coefficients.digest):
                self.tell(problem(Code.DIGEST, place, "its files do not have the digests that the manifest names"))
            found |= dict.fromkeys(digests_of(coefficients), coefficients)
        return found

    def small(self, name: str) -> bytes:
        """Return a small file, empty when it cannot be read, and check its digest."""
        if name not in self.present:
            return b""  # which `check_names` told
        try:
            data = packed.read_small(self.package, name)
        except UnreadablePackError as error:
            self.tell(problem(Code.UNREADABLE, self.place(name), str(error)))
            self.compared.add(name)  # as far as it can be; once told is enough
            return b""
        self._compare(name, len(data), hashlib.sha256(data).hexdigest())
        return data

    def lines(self, name: str) -> Iterator[tuple[Place, str]]:
        """Yield the lines of a large file, and compare its digest at the end."""
        if name not in self.present:
            return
        try:
            with self.package.open(name) as stream:
                counted = _Counted(stream)
                for number, line in lines_of(counted):  # type: ignore[arg-type]
                    place = Place(file=f"{self.name}!{name}", line=number)
                    text = self._decoded(line, place)
                    if text is not None:
                        yield place, text
        except UnreadablePackError as error:
            self.tell(problem(Code.UNREADABLE, self.place(name), f"{error}; what follows was not checked"))
            return
        self._compare(name, counted.size, counted.digest.hexdigest())

    def check_rest(self) -> None:
        """Compare the files that nothing else was read of."""
        for one in self.manifest.files:
            if one.name not in self.compared:
                self.small(one.name)

    def _decoded(self, line: bytes | None, place: Place) -> str | None:
        try:
            if line is not None:
                return line.decode()
        except UnicodeDecodeError:
            self.tell(problem(Code.UNREADABLE, place, "is not UTF-8"))
            return None
        self.tell(problem(Code.TOO_LARGE, place, "is longer than any receipt: not read"))
        return None

    def _compare(self, name: str, size: int, digest: str) -> None:
        self.compared.add(name)
        listed = next((one for one in self.manifest.files if one.name == name), None)
        if listed is not None and (listed.bytes, listed.sha256) != (size, f"sha-256:{digest}"):
            self.tell(problem(Code.MANIFEST, self.place(name), "is not the file whose sha-256 the manifest names"))


class _Counted:
    """Counts and digests what is read of a stream."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.size = 0
        self.digest = hashlib.sha256()

    def readline(self, size: int) -> bytes:
        line = self._stream.readline(size)
        self.size += len(line)
        self.digest.update(line)
        return line
