"""One recorded exchange: the bytes an upstream writes, when it writes them, and what it does with the connection."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from faults.playing import Ending

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ANSWERED", "CLOSES", "Exchange", "Moment", "Part", "Script", "answered", "in_chunks"]


class Moment(Enum):
    """What the upstream waits for before it goes on, so that no pause has to be long enough."""

    HEAD = "the client has the head of the answer, or will have none"
    BODY = "the client has bytes of the body, or will have none"
    IDLE = "the client has closed the answer"


Part = bytes | Moment


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Script:
    """What is written, part by part, each read before the next is written; and then how it ends."""

    parts: Sequence[Part]
    ending: Ending = Ending.KEEP


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Exchange:
    """One request to an upstream that does as it is told, and a second one behind it.

    Attributes:
        name: what is odd about it; unique.
        answer: to the first request.
        again: to a second request on the same connection; None: it is answered well, as on every other connection.
        upload: bytes of the request's body.
        reads: whether the whole request is read before the answer, or its head only.
        gives_up_after: seconds after which a client gives up an upload that nobody reads.
        scheme: of the address; nobody here speaks TLS.
        is_probe: whether the request is a `GET` without a body.
    """

    name: str
    answer: Script
    again: Script | None = None
    upload: int = 16
    reads: bool = True
    gives_up_after: float = 60.0
    scheme: str = "http"
    is_probe: bool = False

    def __str__(self) -> str:
        return self.name


CLOSES = Script(parts=(), ending=Ending.CLOSE)
"""The upstream hangs up without a word."""

ANSWERED = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
"""The beginning of an ordinary answer; its framing is to follow."""


def answered(body: bytes = b'{"a": 1}', *headers: bytes) -> bytes:
    """An ordinary answer with a length."""
    lines = b"".join(header + b"\r\n" for header in headers)
    return b"%b%bcontent-length: %d\r\n\r\n%b" % (ANSWERED, lines, len(body), body)


def in_chunks(*parts: bytes, last: bytes = b"0\r\n\r\n") -> bytes:
    """A chunked body."""
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + last
