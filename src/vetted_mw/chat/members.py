"""Split one JSON object into its members, each value its own bytes; an object that says a thing twice is refused."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["MalformedJSONError", "is_sprawling", "is_utf8", "joined", "parse_object"]

_MAX_MEMBERS = 1024
"""More top-level members than any request has."""

_MANY_CONTAINERS = 50_000
"""Lists and objects in one piece of JSON from which on its decoding would hold the event loop for long (0.1 s)."""

_SLICE = 1_048_576


class MalformedJSONError(ValueError):
    """Not one JSON object in UTF-8 with unique members. Content-free."""


class _Name(str):
    """A member's name; a type of its own, so that the decoder shows us each one as it comes."""

    __slots__ = ()


def parse_object(raw: bytes) -> dict[str, msgspec.Raw]:
    """Return the members of the object `raw` in order.

    Raises:
        MalformedJSONError: `raw` is anything else; a member that stands twice (after unescaping) counts, since two
            readers of the same bytes could then see two different objects. So do more members than any request has.
    """
    if not is_utf8(raw):  # values stay undecoded bytes, so nothing else would look at theirs
        raise MalformedJSONError
    names: set[str] = set()

    def unique(_kind: type, name: str) -> _Name:
        if name in names or len(names) == _MAX_MEMBERS:
            raise MalformedJSONError  # here and not after the last one: millions of them take a second to read
        names.add(name)
        return _Name(name)

    try:
        members = msgspec.json.decode(raw, type=dict[_Name, msgspec.Raw], dec_hook=unique)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise MalformedJSONError from None
    return {str(name): value for name, value in members.items()}


def joined(members: Iterable[tuple[str, bytes]]) -> bytes:
    """Write members as one object, each value with its own bytes."""
    return b"{" + b",".join(msgspec.json.encode(name) + b":" + value for name, value in members) + b"}"


def is_utf8(raw: bytes) -> bool:
    """Whether `raw` is UTF-8, looked at in slices: as one text it could take four times its size."""
    if raw.isascii():
        return True
    reader = codecs.getincrementaldecoder("utf-8")()
    try:
        for start in range(0, len(raw), _SLICE):
            reader.decode(raw[start : start + _SLICE], final=start + _SLICE >= len(raw))
    except UnicodeDecodeError:
        return False
    return True


def is_sprawling(raw: bytes, *, most: int = _MANY_CONTAINERS) -> bool:
    """Whether a piece of JSON has more than `most` lists and objects; brackets in its texts count too."""
    return len(raw) > most and raw.count(b"{") + raw.count(b"[") > most
