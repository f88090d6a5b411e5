"""What of an answer's head decides where its body ends, and which heads are refused. The parser refuses the rest."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vetted_mw.proxy.headers import Headers

__all__ = [
    "FRAMING",
    "MAX_BARREN_BYTES",
    "MAX_HEADERS",
    "MAX_HEAD_BYTES",
    "RefusedError",
    "ends_with_connection",
    "head_end",
]

MAX_HEADERS = 1_000
MAX_HEAD_BYTES = 102_400  # as much as httpx takes
MAX_BARREN_BYTES = 102_400
"""Bytes in a row that carry no body: heads, interim answers, the extensions and sizes of chunks, trailers."""

FRAMING = frozenset({b"content-length", b"transfer-encoding"})
_SPACED_NAME = re.compile(rb"\r\n[^:\r\n]* :")
_BODILESS = frozenset({204, 304})
_VERSIONS = frozenset({"1.0", "1.1"})


class RefusedError(Exception):
    """The answer's framing is one that two readers could read in two ways, or is without end."""


def head_end(seen: bytes, start: int) -> int:
    """Return where a head ends that the parser has taken, having looked at what it is told to let pass.

    The parser lets control characters pass in a header's value, which cost no caller its answer: they are dropped on
    the way back. With them it would let pass lines that go on, which two readers read in two ways.

    Args:
        seen: the bytes that hold the head.
        start: where it starts in them.

    Raises:
        RefusedError: an empty line, a line that begins with a space, a space before a colon, NUL.
    """
    end = seen.find(b"\r\n\r\n", start) + 4
    head = seen[start:end]
    if (
        head[:1] in b"\r\n"
        or b"\r\n " in head
        or b"\r\n\t" in head
        or b"\0" in head
        or (b" :" in head and _SPACED_NAME.search(head))
    ):
        raise RefusedError
    return end


def ends_with_connection(status: int, version: str, framing: Headers) -> bool:
    """Return whether the body ends only where the connection does.

    Args:
        status: of the answer, no interim one.
        version: of HTTP, as in `1.1`.
        framing: its headers that are among `FRAMING`. What two lengths, or a length beside an encoding, could mean
            was refused by the parser.

    Raises:
        RefusedError: nobody can say where it ends.
    """
    if version not in _VERSIONS or status < 100:  # noqa: PLR2004
        raise RefusedError
    if not framing:
        return status not in _BODILESS
    if len(framing) > 1:
        raise RefusedError
    name, value = framing[0]
    if name == b"transfer-encoding" and value.lower() != b"chunked":
        raise RefusedError
    return False
