"""Tell what a file is by what it holds, whatever its name."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING

from vetted_mw.chat.frames import BOM

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["BOM", "Kind", "kind_of"]

_LOOK_BYTES = 65_536
_SQLITE = b"SQLite format 3\x00"
_ZIP = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_HTTP = re.compile(rb"HTTP/[0-9.]+ [0-9]{3}")
_STREAM = re.compile(rb"(?:data|event|id|retry)?:")
_JWS = re.compile(rb"^eyJ|^[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}\.", re.MULTILINE)


class Kind(StrEnum):
    """What receipts come in."""

    LEDGER = "ledger"
    PACK = "pack"
    STREAM = "stream"
    LINES = "lines"
    DOCUMENT = "document"
    HTTP = "http"
    UNKNOWN = "unknown"


def kind_of(path: Path) -> Kind:
    """Return what a file seems to be; whether it is whole is seen when it is read.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        begin = stream.read(_LOOK_BYTES)
    if begin.startswith(_SQLITE[: len(begin)]) and begin:
        return Kind.LEDGER
    if begin.startswith(_ZIP):
        return Kind.PACK
    text = begin.removeprefix(BOM).lstrip()
    if text.startswith(b"{"):
        return _json_kind(text)
    if _HTTP.match(text):
        return Kind.HTTP
    if _STREAM.match(text):
        return Kind.STREAM
    return Kind.LINES if _JWS.search(text) else Kind.UNKNOWN  # the first line may be the damaged one


def _json_kind(text: bytes) -> Kind:
    """Tell objects, one a line, from one object, which may be laid out over many."""
    first, _, rest = text.partition(b"\n")
    is_one_line = first.rstrip().endswith(b"}")
    return Kind.LINES if is_one_line and rest.strip() else Kind.DOCUMENT
