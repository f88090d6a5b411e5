"""RFC 8785: the one way to write a JSON value, held against the RFC's own vectors and against another implementation."""

from __future__ import annotations

import enum
import math
import struct
from collections import UserDict, UserList
from types import MappingProxyType
from typing import Any

import pytest
import rfc8785
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vetted_mw.receipts.canonical import NotCanonicalError, canonical, canonical_members

# RFC 8785, appendix B: IEEE 754 bits and how they are written.
NUMBERS = {
    "0000000000000000": "0",
    "8000000000000000": "0",
    "0000000000000001": "5e-324",
    "8000000000000001": "-5e-324",
    "7fefffffffffffff": "1.7976931348623157e+308",
    "ffefffffffffffff": "-1.7976931348623157e+308",
    "4340000000000000": "9007199254740992",
    "c340000000000000": "-9007199254740992",
    "4430000000000000": "295147905179352830000",
    "44b52d02c7e14af5": "9.999999999999997e+22",
    "44b52d02c7e14af6": "1e+23",
    "44b52d02c7e14af7": "1.0000000000000001e+23",
    "444b1ae4d6e2ef4e": "999999999999999700000",
    "444b1ae4d6e2ef4f": "999999999999999900000",
    "444b1ae4d6e2ef50": "1e+21",
    "3eb0c6f7a0b5ed8c": "9.999999999999997e-7",
    "3eb0c6f7a0b5ed8d": "0.000001",
    "41b3de4355555553": "333333333.3333332",
    "41b3de4355555554": "333333333.33333325",
    "41b3de4355555555": "333333333.3333333",
    "41b3de4355555556": "333333333.3333334",
    "41b3de4355555557": "333333333.33333343",
    "becbf647612f3696": "-0.0000033333333333333333",
    "43143ff3c1cb0959": "1424953923781206.2",
}


@pytest.mark.parametrize(("bits", "written"), NUMBERS.items())
def test_a_number_is_written_as_the_rfc_writes_it(bits: str, written: str) -> None:
    """Every sample of appendix B, to the digit."""
    (value,) = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical(value) == written.encode()


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (58.0, "58"),
        (7e-07, "7e-7"),
        (1e16, "10000000000000000"),
        (5e-05, "0.00005"),
        (-0.0, "0"),
        (-1.5e-05, "-0.000015"),
    ],
)
def test_a_number_that_python_writes_otherwise_is_written_as_json_everywhere(value: float, written: str) -> None:
    """Where a sorted dump would differ from what every other implementation signs."""
    assert canonical(value) == written.encode()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 2**53, -(2**53), 10**400])
def test_a_number_that_readers_could_differ_on_is_refused(value: float) -> None:
    """What is not finite, or an integer that a double cannot hold, has no canonical form."""
    for whole in (value, [value], {"a": {"b": value}}):
        with pytest.raises(NotCanonicalError):
            canonical(whole)


def test_the_largest_integers_are_written() -> None:
    """Up to 2**53 - 1 either way."""
    assert canonical([2**53 - 1, 1 - 2**53]) == b"[9007199254740991,-9007199254740991]"


def test_the_sample_of_the_rfc_is_written_as_the_rfc_writes_it() -> None:
    """Section 3.2.2: numbers, escapes and literals in one object."""
    value = {
        "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/",
        "literals": [None, True, False],
    }
    assert canonical(value).decode() == (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )


def test_names_stand_in_order_of_their_utf16_code_units() -> None:
    """Section 3.2.3: an emoji, beyond the first plane, stands before a letter of its last block."""
    names = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    written = canonical(dict.fromkeys(names, 0)).decode()
    ordered = ['"\\r"', '"1"', '"\u0080"', '"ö"', '"€"', '"\U0001f600"', '"\ufb33"']
    assert written == "{" + ",".join(f"{name}:0" for name in ordered) + "}"


@pytest.mark.parametrize(
    "value",
    [
        b"bytes",
        bytearray(b"b"),
        memoryview(b"b"),
        {1, 2},
        object(),
        1j,
        {1: "a"},
        {"a": 1, None: 2},
        "\ud800",
        {"\udfff": 1},
    ],
)
def test_what_is_no_json_is_refused(value: object) -> None:
    """Never a guess: bytes, sets, names that are no text, half of a surrogate pair."""
    for whole in (value, [value], {"a": value}):
        with pytest.raises(NotCanonicalError) as caught:
            canonical(whole)
        assert str(caught.value) == ""


def test_what_nests_beyond_reason_is_refused() -> None:
    """A hostile document is a refusal, no crash."""
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(NotCanonicalError):
        canonical(value)
    while value:  # let go of it level by level: Python would recurse
        value = value[0]


class Word(enum.StrEnum):
    ONE = "one"


class Number(enum.IntEnum):
    TWO = 2


class Own(float):
    """Writes itself in its own way."""

    def __repr__(self) -> str:
        return "Own(1.5)"


def test_what_is_like_a_json_value_is_written_as_one() -> None:
    """Words of an enumeration, read-only tables and tuples are what receipts are made of too."""
    assert canonical({"w": Word.ONE, "n": Number.TWO, "f": Own(1.5)}) == b'{"f":1.5,"n":2,"w":"one"}'
    assert (
        canonical(MappingProxyType({"b": (1, "x"), "a": UserDict({"c": UserList([])})}))
        == b'{"a":{"c":[]},"b":[1,"x"]}'
    )


FLOATS = (
    st.floats(allow_nan=False, allow_infinity=False)
    | st.floats(min_value=-1, max_value=1)
    | st.integers(0, 2**64 - 1).map(lambda bits: struct.unpack(">d", bits.to_bytes(8))[0]).filter(math.isfinite)
    | st.tuples(st.integers(-999_999, 999_999), st.integers(-30, 30)).map(lambda pair: pair[0] * 10.0 ** pair[1])
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(1 - 2**53, 2**53 - 1) | FLOATS | TEXTS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXTS, inner, max_size=5),
    max_leaves=20,
)


@settings(max_examples=500, deadline=None)
@given(value=FLOATS)
@example(value=1e21)
@example(value=999999999999999900000.0)
@example(value=1e-6)
@example(value=9.999999999999999e-7)
@example(value=1e-4)
def test_every_number_is_written_as_another_implementation_writes_it(value: float) -> None:
    """Doubles of every size and shape: the same bytes, and they read back as the same number."""
    assert canonical(value) == rfc8785.dumps(value)
    assert float(canonical(value)) == value


@settings(max_examples=500, deadline=None)
@given(value=VALUES)
@example(value={"\U0001f600": 1, "\ufb33": 2, "a": 3})
def test_every_value_is_written_as_another_implementation_writes_it(value: Any) -> None:
    """Texts of all planes, nested lists and objects: the same bytes."""
    assert canonical(value) == rfc8785.dumps(value)


SCALARS = st.none() | st.booleans() | st.integers(-(2**53) - 1, 2**53 + 1) | FLOATS | TEXTS | st.just(math.nan)
NAMES = st.text(st.characters(codec="ascii"), max_size=8)


@settings(max_examples=500, deadline=None)
@given(members=st.dictionaries(NAMES, SCALARS | st.just([1.0, "x"]) | st.just("\ud800"), max_size=8))
@example(members={"b": -0.0, "a": 58.0, "c": 1e-4, "d": 9.9e-5, "e": 1e15, "f": 0.5})
def test_members_of_a_flat_object_are_written_as_the_object_is(members: dict[str, Any]) -> None:
    """The quick way and the long one: the same bytes, or the same refusal."""
    try:
        written = canonical(members)
    except NotCanonicalError:
        with pytest.raises(NotCanonicalError):
            canonical_members(members)
    else:
        assert canonical_members(members) == written
