"""What of an answer's head decides where its body ends, and which heads are refused. The parser refuses the rest."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vetted_mw.proxy.headers import Headers

__all__ = [
    "CODING",
    "FRAMING",
    "KEPT_VERSION",
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

CODING = b"transfer-encoding"
FRAMING = frozenset({b"content-length", CODING})
KEPT_VERSION = "1.1"
"""The one version in which a connection serves again: in 1.0 too much about that was left to taste."""

_MAX_LENGTH_DIGITS = 20  # those of 64 bits; more are zeros that somebody else counts in another way
_NUL, _VERTICAL_TAB, _FORM_FEED = b"\0\v\f"
_SPACED_NAME = re.compile(rb"\r\n[^:\r\n]* :")
_BODILESS = frozenset({204, 304})
_VERSIONS = frozenset({"1.0", KEPT_VERSION})


class RefusedError(Exception):
    """The answer's framing is one that two readers could read in two ways, or is without end."""


def head_end(seen: bytes, start: int) -> int:
    """Return where a head ends that the parser has taken, having looked at what it is told to let pass.

    The parser lets control characters pass in a header's value, which cost no caller its answer: they are dropped on
    the way back. With them it would let pass lines that go on, or end behind such a character with a line feed alone,
    which two readers read in two ways. It also skips empty lines and knows the answers of other protocols.

    Args:
        seen: the bytes that hold the head.
        start: where it starts in them.

    Raises:
        RefusedError: it is none of HTTP, or has a line that begins with a space, a line that ends otherwise than in
            CR LF, a space before a colon, NUL, or what some take for the end of a line.
    """
    end = seen.find(b"\r\n\r\n", start) + 4
    head = seen[start:end]
    breaks = head.count(b"\r\n")
    if (
        not head.startswith(b"HTTP/")
        or head.count(b"\n") != breaks
        or head.count(b"\r") != breaks
        # Numbers, and `find`: `in` takes bytes for a number first, at ten times the cost.
        or head.find(b"\r\n ") >= 0
        or head.find(b"\r\n\t") >= 0
        or _NUL in head
        or _VERTICAL_TAB in head
        or _FORM_FEED in head
        or (head.find(b" :") >= 0 and _SPACED_NAME.search(head))
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
    if value.lower() != b"chunked" if name == CODING else len(value) > _MAX_LENGTH_DIGITS:
        raise RefusedError
    return False
