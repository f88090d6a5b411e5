"""Split one JSON object into its members, each value its own bytes; an object that says a thing twice is refused."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["MalformedJSONError", "joined", "parse_object", "spans"]

_DECODE = msgspec.json.Decoder(dict[str, msgspec.Raw])
_DECODE_KEY = msgspec.json.Decoder(str)
_BLANK = re.compile(rb"[ \t\r\n]*")
_KEY = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)


class MalformedJSONError(ValueError):
    """Not one JSON object in UTF-8 with unique members. Content-free."""


def parse_object(raw: bytes) -> dict[str, msgspec.Raw]:
    """Return the members of the object `raw` in order.

    Raises:
        MalformedJSONError: `raw` is anything else; a member that stands twice (after unescaping) counts, since two
            readers of the same bytes could then see two different objects.
    """
    try:
        raw.decode()  # values stay undecoded bytes, so nothing else would look at their UTF-8
        members = _DECODE.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise MalformedJSONError from None
    if sum(1 for _ in spans(raw, members)) != len(members):
        raise MalformedJSONError
    return members


def spans(raw: bytes, members: dict[str, msgspec.Raw]) -> Iterator[tuple[str, int, int]]:
    """Walk the top level of `raw` once and give each member's name, and where name and value begin and end.

    The decoder keeps the last of two equal names, so an earlier one is found by its value not standing where the walk
    is, or by its name coming again.

    Raises:
        MalformedJSONError: a name stands twice.
    """
    seen: set[str] = set()
    place = _after_blank(raw, raw.index(b"{") + 1)
    while raw[place : place + 1] != b"}":
        start = place
        match = _KEY.match(raw, place)
        if match is None:
            raise MalformedJSONError
        name = _name(match.group())
        value = members.get(name)
        colon = _after_blank(raw, match.end())
        place = _after_blank(raw, colon + 1)
        if name in seen or value is None or not raw.startswith(bytes(value), place):
            raise MalformedJSONError
        seen.add(name)
        place += len(bytes(value))
        yield name, start, place
        place = _after_blank(raw, place)
        mark = raw[place : place + 1]
        if mark == b",":
            place = _after_blank(raw, place + 1)
        elif mark != b"}":
            raise MalformedJSONError


def joined(members: Iterable[tuple[str, bytes]]) -> bytes:
    """Write members as one object, each value with its own bytes."""
    return b"{" + b",".join(msgspec.json.encode(name) + b":" + value for name, value in members) + b"}"


def _name(quoted: bytes) -> str:
    try:
        return _DECODE_KEY.decode(quoted)
    except msgspec.DecodeError:
        raise MalformedJSONError from None


def _after_blank(raw: bytes, place: int) -> int:
    match = _BLANK.match(raw, place)
    return place if match is None else match.end()
