"""Split one JSON object into its members, each value its own bytes; an object that says a thing twice is refused."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["MalformedJSONError", "joined", "parse_object"]

_MAX_MEMBERS = 1024
"""More top-level members than any request has; beyond it the walk below would hold the event loop for seconds."""

_DECODE = msgspec.json.Decoder(dict[str, msgspec.Raw])
_DECODE_NAME = msgspec.json.Decoder(str)
_BLANK = re.compile(rb"[ \t\r\n]*")
_NAME = re.compile(rb'("(?:[^"\\]|\\.)*")[ \t\r\n]*:[ \t\r\n]*', re.DOTALL)


class MalformedJSONError(ValueError):
    """Not one JSON object in UTF-8 with unique members. Content-free."""


def parse_object(raw: bytes) -> dict[str, msgspec.Raw]:
    """Return the members of the object `raw` in order.

    Raises:
        MalformedJSONError: `raw` is anything else; a member that stands twice (after unescaping) counts, since two
            readers of the same bytes could then see two different objects. So do more members than any request has.
    """
    try:
        raw.decode()  # values stay undecoded bytes, so nothing else would look at their UTF-8
        members = _DECODE.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise MalformedJSONError from None
    if len(members) > _MAX_MEMBERS:
        raise MalformedJSONError
    _require_unique(raw, members)
    return members


def joined(members: Iterable[tuple[str, bytes]]) -> bytes:
    """Write members as one object, each value with its own bytes."""
    return b"{" + b",".join(msgspec.json.encode(name) + b":" + value for name, value in members) + b"}"


def _require_unique(raw: bytes, members: dict[str, msgspec.Raw]) -> None:
    """Walk the top level of `raw`, which the decoder took, and refuse a name that stands twice.

    The decoder keeps the last of two equal names, so an earlier one is found by its value not standing where the walk
    is, or by its name coming again.
    """
    seen: set[str] = set()
    place = _after_blank(raw, raw.index(b"{") + 1)
    while raw[place : place + 1] != b"}":
        match = _NAME.match(raw, place)
        name = "" if match is None else _DECODE_NAME.decode(match[1])
        value = bytes(members.get(name, b""))
        if match is None or name in seen or not raw.startswith(value, match.end()):
            raise MalformedJSONError
        seen.add(name)
        place = _after_blank(raw, match.end() + len(value))
        mark = raw[place : place + 1]
        if mark == b",":
            place = _after_blank(raw, place + 1)
        elif mark != b"}":
            raise MalformedJSONError  # one number begins like the other


def _after_blank(raw: bytes, place: int) -> int:
    match = _BLANK.match(raw, place)
    return place if match is None else match.end()
