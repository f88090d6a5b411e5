"""Split one JSON object into its members, each value its own bytes; an object that says a thing twice is refused."""

from __future__ import annotations

import functools
from codecs import utf_8_decode
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["MalformedJSONError", "is_sprawling", "is_utf8", "joined", "parse_object"]

_MAX_MEMBERS = 1024
"""More top-level members than any request has."""

_MANY_CONTAINERS = 50_000
"""Lists and objects in one piece of JSON from which on its decoding would hold the event loop for long (0.1 s)."""

_SMALL_BYTES = 32_768
"""An object of so many bytes is read at one go: it cannot hold so many members that this takes long, or much memory.

In a longer one the copy that is compared costs more than a look at each name.
"""

_LONGEST_KNOWN = 64
"""No longer name is kept for the next request: it would be the caller's text, not a member's name."""

_SLICE = 65_536
"""So much is decoded at a time to see that it is UTF-8: the text of a slice stays in the processor's cache."""

_split = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encoded = msgspec.json.Encoder().encode


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
    if not (raw.isascii() or is_utf8(raw)):  # values stay undecoded bytes, so nothing else would look at theirs
        raise MalformedJSONError
    try:
        if len(raw) <= _SMALL_BYTES:
            members = _split(raw)
            # Written as nearly everybody writes them, these members are `raw`: then none was dropped.
            if len(members) <= _MAX_MEMBERS and (_encoded(members) == raw or _with_blanks(members) == raw):
                return members
        return _one_by_one(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise MalformedJSONError from None


def _with_blanks(members: dict[str, msgspec.Raw]) -> bytes:
    """Write members as Python's standard library does, a blank behind each comma and colon."""
    parts: list[Any] = []
    for name, value in members.items():
        parts.append(_known_opening(name) if len(name) <= _LONGEST_KNOWN else _opening(name))
        parts.append(value)
    if parts:
        parts[0] = b"{" + parts[0][2:]
    parts.append(b"}")
    return b"".join(parts)


def _opening(name: str) -> bytes:
    return b", %b: " % _encoded(name)


_known_opening = functools.lru_cache(maxsize=256)(_opening)  # bounded, since a caller may send any name


def _one_by_one(raw: bytes) -> dict[str, msgspec.Raw]:
    """Split an object, however it is written; raises as `parse_object` and the decoder do."""
    names: set[str] = set()

    def unique(_kind: type, name: str) -> _Name:
        if name in names or len(names) == _MAX_MEMBERS:
            raise MalformedJSONError  # here and not after the last one: millions of them take a second to read
        names.add(name)
        return _Name(name)

    members = msgspec.json.decode(raw, type=dict[_Name, msgspec.Raw], dec_hook=unique)
    return {str(name): value for name, value in members.items()}


def joined(members: Iterable[tuple[str, bytes]]) -> bytes:
    """Write members as one object, each value with its own bytes, which are copied once."""
    parts: list[bytes] = []
    for name, value in members:
        parts += (b",", _encoded(name), b":", value)
    parts[:1] = (b"{",)
    parts.append(b"}")
    return b"".join(parts)


def is_utf8(raw: bytes) -> bool:
    """Whether `raw` is UTF-8, looked at in slices: as one text it could take four times its size."""
    if raw.isascii():
        return True
    try:
        if len(raw) <= _SLICE:
            raw.decode()
            return True
        whole, start = memoryview(raw), 0
        while start < len(raw):
            stop = start + _SLICE
            start += utf_8_decode(whole[start:stop], "strict", stop >= len(raw))[1]  # a cut character is the next one's
    except UnicodeDecodeError:
        return False
    return True


def is_sprawling(raw: bytes, *, most: int = _MANY_CONTAINERS) -> bool:
    """Whether a piece of JSON has more than `most` lists and objects; brackets in its texts count too."""
    return len(raw) > most and raw.count(b"{") + raw.count(b"[") > most
