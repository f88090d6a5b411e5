"""One JSON object split into its members: every value its own bytes, nothing said twice."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat.json_texts import blanks, members_without, object_of, spelled, told, unhurried, values
from vetted_mw.chat.members import MalformedJSONError, joined, parse_object

MALFORMED: dict[str, bytes] = {
    "nothing": b"",
    "blanks only": b" \n",
    "array": b"[]",
    "string": b'"{}"',
    "number": b"1",
    "null": b"null",
    "cut": b'{"a": 1',
    "cut in a name": b'{"a',
    "no value": b'{"a"}',
    "no name": b"{:1}",
    "bare name": b"{a: 1}",
    "single quotes": b"{'a': 1}",
    "trailing comma": b'{"a": 1,}',
    "leading comma": b'{,"a": 1}',
    "two values": b'{"a": 1 2}',
    "no comma": b'{"a": 1 "b": 2}',
    "comment": b'{"a": 1 /* why */}',
    "trailing garbage": b'{"a": 1} x',
    "two objects": b'{"a": 1}{"b": 2}',
    "trailing NUL": b'{"a": 1}\0',
    "NUL in a string": b'{"a": "x\0y"}',
    "NUL in a name": b'{"a\0": 1}',
    "raw line end in a string": b'{"a": "x\ny"}',
    "byte order mark": b'\xef\xbb\xbf{"a": 1}',
    "no-break space": b'\xc2\xa0{"a": 1}',
    "form feed": b'{"a": 1}\x0c',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "invalid UTF-8 in a value": b'{"a": "\xff"}',
    "invalid UTF-8 in a name": b'{"\xff": 1}',
    "invalid UTF-8 deep inside": b'{"a": [{"b": ["\xc3("]}]}',
    "overlong UTF-8": b'{"a": "\xc0\xaf"}',
    "surrogate as UTF-8": b'{"a": "\xed\xa0\x80"}',
    "half a surrogate pair": b'{"a": "\\ud83d"}',
    "unknown escape": b'{"a": "\\q"}',
    "escape that is no number": b'{"a": "\\u12g4"}',
    "leading zero": b'{"a": 01}',
    "number without digits": b'{"a": 1.}',
    "NaN": b'{"a": NaN}',
    "minus Infinity": b'{"a": -Infinity}',
    "half a word": b'{"a": tru}',
    "deep arrays": b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep objects": b'{"a": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001,
    "deep and never closed": b'{"a": ' + b"[" * 100_000,
}

REPEATED: dict[str, bytes] = {
    "plainly": b'{"a": 1, "a": 2}',
    "with the same value": b'{"a": 1, "a": 1}',
    "the first value begins like the last": b'{"a": 12, "a": 1}',
    "the last value begins like the first": b'{"a": 1, "a": 12}',
    "apart": b'{"a": 1, "b": 2, "a": 1}',
    "escaped": b'{"vetted": 1, "\\u0076etted": 1}',
    "escaped first": b'{"\\u0076etted": {}, "vetted": {}}',
    "both escaped": b'{"\\u0076etted": 1, "v\\u0065tted": 1}',
    "a quote in the name": b'{"\\"": 1, "\\u0022": 1}',
    "a backslash in the name": b'{"\\\\": 1, "\\u005c": 1}',
    "the empty name": b'{"": 1, "": 2}',
    "outside ASCII": '{"é": 1, "\\u00e9": 1}'.encode(),
    "outside the basic plane": '{"😀": 1, "\\ud83d\\ude00": 1}'.encode(),
    "three times": b'{"a": 1, "a": 1, "a": 1}',
    "strings that hold the other": b'{"a": "1, \\"a\\": 2", "a": "1"}',
}


@pytest.mark.parametrize("raw", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_not_one_json_object_in_utf8_is_refused(raw: bytes) -> None:
    """Anything but one JSON object in UTF-8 raises the one content-free error, however hostile it is."""
    with pytest.raises(MalformedJSONError) as caught:
        parse_object(raw)
    assert str(caught.value) == ""


@pytest.mark.parametrize("raw", REPEATED.values(), ids=REPEATED.keys())
def test_a_member_that_stands_twice_is_refused(raw: bytes) -> None:
    """Two equal names after unescaping are refused, whatever their values and spelling."""
    with pytest.raises(MalformedJSONError):
        parse_object(raw)


@unhurried
@given(data=st.data(), members=members_without())
def test_every_member_comes_in_order_with_its_own_bytes(data: st.DataObject, members: list[tuple[str, str]]) -> None:
    """Any object splits into its members in order, each value byte for byte as it was written."""
    raw = data.draw(object_of(members))
    found = parse_object(raw)
    assert [(name, bytes(value)) for name, value in found.items()] == [(name, text.encode()) for name, text in members]


@unhurried
@given(data=st.data(), members=members_without(max_size=3), name=st.text(max_size=5), first=values, second=values)
def test_no_spelling_hides_a_repeated_name(
    data: st.DataObject, members: list[tuple[str, str]], name: str, first: str, second: str
) -> None:
    """A name that comes twice is found wherever it stands, however it is spelled and whatever it is worth."""
    others = [pair for pair in members if pair[0] != name]
    for value in (first, second):
        others.insert(data.draw(st.integers(0, len(others))), (name, value))
    with pytest.raises(MalformedJSONError):
        parse_object(data.draw(object_of(others)))


@unhurried
@given(data=st.data(), value=values, name=st.text(max_size=5))
def test_repeats_below_the_top_level_are_left_alone(data: st.DataObject, value: str, name: str) -> None:
    """A name that stands twice inside a value is no business of the top level: the value keeps its bytes."""
    blank = data.draw(blanks)
    inner = "{" + ",".join(data.draw(spelled(name)) + ":" + blank + value for _ in range(2)) + "}"
    assert bytes(parse_object(b'{"a":' + inner.encode() + b"}")["a"]) == inner.encode()


@unhurried
@given(members=members_without())
def test_joined_members_are_one_object_with_each_value_untouched(members: list[tuple[str, str]]) -> None:
    """Members written as an object read back as the same names and the same bytes of each value."""
    written = [(name, text.encode()) for name, text in members]
    assert told(joined(written)) == written


def test_a_thousand_members_are_told_apart() -> None:
    """A wide object keeps every member, and one repeat among a thousand is found."""
    wide = {f"member-{number}": number for number in range(1000)}
    assert list(parse_object(json.dumps(wide).encode())) == list(wide)
    repeated = json.dumps(wide)[:-1] + ', "member-500": 500}'
    with pytest.raises(MalformedJSONError):
        parse_object(repeated.encode())
