"""Where the two clients may differ, and why: ours refuses more, and never takes what httpx does not but for named reasons."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from differential.playing import Got, Outcome

__all__ = ["OTHERWISE", "STRICTER", "is_stricter", "same"]

STRICTER: Mapping[str, tuple[str, ...]] = {
    "RFC 9112, 6.1: both a length and chunks are a sign of smuggling, whichever is right": (
        "framed by a length and chunks",
        "framed by chunks and a length",
        "framed by a length and chunks, and the body has the length",
    ),
    "RFC 9112, 6.3: the same length twice may be refused": (
        "framed by the same length twice",
        "content-length: b'8,8'",
        "content-length: b'8, 8'",
    ),
    "a length beyond 64 bits is refused with the head, and not when its body ends early": (
        "content-length: b'99999999999999999999'",
        "content-length: b'18446744073709551616'",
        "content-length: b'18446744073709551624'",
    ),
    "RFC 9112, 5.2: a folded line may be refused": (
        "framed by a folded coding",
        "framed by a folded length",
        "header: folded",
        "header: folded with a tab",
        "header: folded with many blanks",
        "header: folded twice",
        "header: folded to nothing",
        "chunked: a folded trailer",
    ),
    "RFC 9112, 2.2: a line ends with CR LF; a bare LF need not be taken for one": (
        "status line b'HTTP/1.1 200 OK\\n', 16 bytes",
        "status line b'HTTP/1.1 200 OK\\n\\r\\n', 18 bytes",
        "header: a bare LF at the value's end",
        "header: a bare LF and then a header",
        "chunked: an end by CR LF and a bare LF",
    ),
    "RFC 9112, 7.1: a chunk's size is hexadecimal digits and at most an extension": (
        "chunked: a size with a blank after it",
        "chunked: a size with a tab after it",
        "chunked: a size of 17 digits",
        "chunked: NUL in an extension",
        "chunked: a bare CR in an extension",
    ),
    "RFC 9112, 6.5: a trailer has no say in the framing": ("chunked: a trailer with a length",),
    "other versions of HTTP are not spoken": (
        "status line b'HTTP/1.2 200 OK\\r\\n', 17 bytes",
        "status line b'HTTP/1.9 200 OK\\r\\n', 17 bytes",
        "status line b'HTTP/0.9 200 OK\\r\\n', 17 bytes",
        "status line b'HTTP/2.0 200 OK\\r\\n', 17 bytes",
        "status line b'HTTP/3.0 200 OK\\r\\n', 17 bytes",
    ),
    "the number of headers is limited, and not only their bytes": ("header: 1,000 of them",),
    "an interim answer that ends the connection announces no other": (
        "interim: 100 with connection: close",
        "interim: 100 in HTTP/1.0",
    ),
    "what asks to close is heeded under its old name too": ("proxy-connection: close",),
}
"""Reason -> the exchanges that ours refuses, or refuses earlier, or after which it does not use the connection again."""

OTHERWISE: Mapping[str, tuple[str, ...]] = {
    "RFC 9112, 2.2: an empty line begins nothing, so that nothing can be stolen by it": (
        "a line end behind the answer",
    ),
    "leading zeros, however many, change no size": ("chunked: a size of 21 digits, zeros first",),
    "an answer that comes while the request is being written is read; httpx writes on until its limit": (
        "early: nobody reads what is larger than all buffers, and 200",
    ),
}
"""Reason -> the exchanges in which ours gets an answer, or a connection, that httpx does not."""


def same(theirs: Outcome, ours: Outcome) -> bool:
    """Whether the outcomes are the same; h11 writes the name of the coding, which goes no further, in lower case."""
    return _read_alike(theirs) == _read_alike(ours)


def is_stricter(theirs: Outcome, ours: Outcome) -> bool:
    """Whether ours took less for granted, and the next request was answered as well as ever.

    It failed as a cut answer does, with no more of the body than httpx read; or it got the same and did not use the
    connection again.
    """
    theirs, ours = _read_alike(theirs), _read_alike(ours)
    if ours.then.fault is not None or ours.connections != 2:
        return False
    if ours.got.fault is None:
        return ours.got == theirs.got and theirs.connections == 1
    outcome, is_sent, status = ours.got.fault
    return (
        (outcome, is_sent, status) == ("upstream_cut", True, ours.got.status)
        and ours.got.status in {None, theirs.got.status}
        and theirs.got.body.startswith(ours.got.body)
    )


def _read_alike(outcome: Outcome) -> Outcome:
    return dataclasses.replace(outcome, got=_lowered(outcome.got), then=_lowered(outcome.then))


def _lowered(got: Got) -> Got:
    return dataclasses.replace(
        got,
        headers=tuple((name, value.lower() if name == b"transfer-encoding" else value) for name, value in got.headers),
    )
