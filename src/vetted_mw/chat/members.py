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

_SMALL_BYTES = 65_536
"""An object of so many bytes is read at one go: it cannot hold so many members that this takes long, or much memory."""

_SLICE = 1_048_576

_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_QUOTED = msgspec.json.Encoder().encode


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
    try:
        if len(raw) <= _SMALL_BYTES and _is_all_of(members := _OBJECT.decode(raw), raw):
            return members
        return _one_by_one(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise MalformedJSONError from None


def _is_all_of(members: dict[str, msgspec.Raw], raw: bytes) -> bool:
    """Whether these members, written as nearly everybody writes them, are `raw`: then none was dropped."""
    if len(members) > _MAX_MEMBERS:
        return False
    if msgspec.json.encode(members) == raw:
        return True
    # With blanks, as Python's standard library writes them.
    return raw == b"{%b}" % b", ".join([b"%b: %b" % (_QUOTED(name), value) for name, value in members.items()])


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
        parts += (b",", _QUOTED(name), b":", value)
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
        reader = codecs.getincrementaldecoder("utf-8")()
        for start in range(0, len(raw), _SLICE):
            reader.decode(raw[start : start + _SLICE], final=start + _SLICE >= len(raw))
    except UnicodeDecodeError:
        return False
    return True


def is_sprawling(raw: bytes, *, most: int = _MANY_CONTAINERS) -> bool:
    """Whether a piece of JSON has more than `most` lists and objects; brackets in its texts count too."""
    return len(raw) > most and raw.count(b"{") + raw.count(b"[") > most
