"""JSON as people and programs really write it: odd spacing, escapes, numbers in every form."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Sequence

_BLANK = re.compile(r"[ \t\r\n]*")
_NUMBERS = ["0", "-0", "1", "-1.0", "1e3", "1E+3", "0.10", "1e-400", "12345678901234567890123", "1e999", "3.141592653"]

# The machine may be slow and shared: how long an example takes says nothing.
unhurried = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])

blanks = st.sampled_from(["", " ", "\n", "\t ", "\r\n  "])


def spelled(text: str) -> st.SearchStrategy[str]:
    """Write a string as JSON: as it is, in ASCII, or with every character escaped."""
    units = text.encode("utf-16-be")
    escaped = "".join(f"\\u{units[at]:02x}{units[at + 1]:02X}" for at in range(0, len(units), 2))
    return st.sampled_from([json.dumps(text, ensure_ascii=False), json.dumps(text), f'"{escaped}"'])


def _composites(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    parts = st.tuples(blanks, values, blanks).map("".join)
    arrays = st.lists(parts, max_size=3).map(lambda found: "[" + ",".join(found) + "]")
    pairs = st.tuples(blanks, st.text(max_size=5).map(json.dumps), blanks, parts)
    objects = st.lists(pairs, max_size=3).map(
        lambda found: "{" + ",".join(f"{b}{n}{c}:{v}" for b, n, c, v in found) + "}"
    )
    return arrays | objects


scalars = st.sampled_from(["null", "true", "false", *_NUMBERS]) | st.text(max_size=12).flatmap(spelled)
values = st.recursive(scalars, _composites, max_leaves=8)
names = st.text(max_size=8)


@st.composite
def object_of(draw: st.DrawFn, members: Sequence[tuple[str, str]]) -> bytes:
    """Write `members` as one object, each value's text kept, names and spacing as they fall."""
    written = [
        draw(blanks) + draw(spelled(name)) + draw(blanks) + ":" + draw(blanks) + value + draw(blanks)
        for name, value in members
    ]
    inside = ",".join(written) or draw(blanks)
    return (draw(blanks) + "{" + inside + "}" + draw(blanks)).encode()


@st.composite
def members_without(draw: st.DrawFn, *reserved: str, max_size: int = 4) -> list[tuple[str, str]]:
    """Draw members with distinct names, none of them `reserved`."""
    free = names.filter(lambda name: name not in reserved)
    pairs = st.lists(st.tuples(free, values), max_size=max_size, unique_by=lambda pair: pair[0])
    return list(draw(pairs))


def told(body: bytes) -> list[tuple[str, bytes]]:
    """Split an object into names and each value's own bytes by the standard library's reader, repeats included."""
    text = body.decode()
    reader = json.JSONDecoder(parse_int=str)  # Python reads no integer of any length
    found: list[tuple[str, bytes]] = []
    place = _after_blank(text, text.index("{") + 1)
    while text[place] != "}":
        name, place = reader.raw_decode(text, place)
        begin = _after_blank(text, _after_blank(text, place) + 1)
        _value, place = reader.raw_decode(text, begin)
        found.append((name, text[begin:place].encode()))
        place = _after_blank(text, place)
        if text[place] == ",":
            place = _after_blank(text, place + 1)
    return found


def pairs_of(body: bytes) -> list[tuple[str, Any]]:
    """Read an object's top-level members in order, repeats included."""
    return [(name, json.loads(value)) for name, value in told(body)]


def _after_blank(text: str, place: int) -> int:
    match = _BLANK.match(text, place)
    return place if match is None else match.end()
