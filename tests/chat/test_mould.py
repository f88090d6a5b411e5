"""A frame that differs from the last in its text alone is read by what differs: with the outcome that reading it has."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import vetted_mw.chat.sse
from chat.json_texts import unhurried
from chat.streams import DONE, FINISH, HEAD, ROLE, cut_at, delta, frame, opened
from chat.test_short_ways import outcome, the_long_way
from vetted_mw.chat.chunk import read_plain_chunk
from vetted_mw.chat.frames import one_line
from vetted_mw.chat.mould import mould_of

if TYPE_CHECKING:
    from vetted_mw.chat.chunk import PlainChoice
    from vetted_mw.chat.mould import Mould

TEXTS = st.text(max_size=8) | st.sampled_from(
    ["", "word", 'a "quote"', "back\\slash", "two\nlines", "Grüße 😀", "\x7f", "\u2028"]
)


def spoken(text: str, *, spelled: str = "", index: int = 0) -> bytes:
    """Write a chunk that says `text`, or whose text is spelled just so."""
    told = delta(index, content="<here>")
    return told.replace(
        b'"<here>"', f'"{spelled}"'.encode() if spelled else json.dumps(text, ensure_ascii=False).encode()
    )


def plain(data: bytes) -> PlainChoice:
    """Read a frame as the running stream does."""
    line = one_line(data, 0, len(data))
    choice = None if line is None else read_plain_chunk(line[0])
    assert choice is not None
    return choice


def mould(data: bytes) -> Mould | None:
    """Find the mould of a plain frame."""
    return mould_of(data, plain(data))


@unhurried
@given(
    st.lists(st.tuples(TEXTS, st.integers(0, 1)), min_size=2, max_size=12),
    st.sampled_from([b"\n", b"\r\n"]),
    st.lists(st.integers(0, 4000), max_size=8),
)
@example([("a", 0), ("b" * 300, 0), ("c", 1), ("d" * 4500, 0), ("e", 0)], b"\n", [])
def test_whatever_the_text_is_the_outcome_is_that_of_reading_it(
    said: list[tuple[str, int]], end: bytes, places: list[int]
) -> None:
    """Same bytes out, same counts, same digest, for texts with and without escapes, of two choices, cut anywhere."""
    frames = [ROLE, delta(1, content="first"), *(spoken(text, index=index) for text, index in said)]
    parts = [one.replace(b"\n", end) for one in [*frames, FINISH, delta(1, finish="stop"), DONE]]
    long = outcome([the_long_way(part) for part in parts], choices=2, asked=False)
    assert outcome(parts, choices=2, asked=False) == long
    assert outcome(cut_at(b"".join(parts), places), choices=2, asked=False) == long


@pytest.mark.parametrize(
    "between",
    [
        spoken("", spelled="\\u0041"),
        spoken("", spelled="\\"),
        spoken("", spelled="a\tb"),
        spoken("", spelled='","role":"user'),
        spoken("", spelled='"},"finish_reason":"stop","x":{"y":"'),
        spoken("x").replace(b'"x"', b'"\xff"'),
        spoken("x").replace(b'"x"', b'"\xed\xa0\x80"'),
        spoken("x")[:-1],
        spoken("x").replace(b'"x"', b'"x'),
        spoken("x").replace(b"\n\n", b"\n\n\n"),
    ],
)
def test_what_only_looks_like_another_text_is_read(between: bytes) -> None:
    """Escapes, control characters, broken UTF-8, a member inside the text, a frame without its end: none of it is cast."""
    parts = [ROLE, spoken("a"), spoken("b"), between, spoken("c"), spoken("d"), FINISH, DONE]
    long = outcome([the_long_way(part) for part in parts], choices=1, asked=False)
    assert outcome(parts, choices=1, asked=False) == long


def test_frames_alike_are_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first one of a kind the JSON of the others is not decoded any more, in one read or in many."""
    decoded: list[bytes] = []

    def counted(data: bytes) -> PlainChoice | None:
        decoded.append(data)
        return read_plain_chunk(data)

    monkeypatch.setattr(vetted_mw.chat.sse, "read_plain_chunk", counted)
    stream = opened()
    stream.feed(ROLE + spoken("a"))
    many = [spoken(f"word {number}") for number in range(50)]
    assert all(stream.feed(one) is one for one in many)
    whole = b"".join(many)
    assert stream.feed(whole) is whole
    assert len(decoded) <= 1


def test_an_upstream_whose_frames_never_match_is_given_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where more than the text changes from frame to frame, no time is spent on moulds for ever."""
    looked: list[bytes] = []

    def counted(data: bytes, choice: PlainChoice) -> Mould | None:
        looked.append(data)
        return mould_of(data, choice)

    monkeypatch.setattr(vetted_mw.chat.sse, "mould_of", counted)
    stream = opened()
    stream.feed(ROLE + spoken("a"))
    for number in range(100):
        one = frame({**HEAD, "created": number, "choices": [{"index": 0, "delta": {"content": "b"}}]})
        assert stream.feed(one) is one
    assert 0 < len(looked) <= 8
    assert stream.completion_characters == 101


WITHOUT: dict[str, dict[str, Any]] = {
    "reasoning beside it": {"content": "a", "reasoning": "because"},
    "a refusal beside it": {"content": "a", "refusal": "no"},
    "no content": {"reasoning": "because"},
    "null for content": {"content": None},
    "an escape": {"content": 'a "b"'},
}


@pytest.mark.parametrize("members", WITHOUT.values(), ids=WITHOUT.keys())
def test_a_frame_that_says_more_than_its_text_has_no_mould(members: dict[str, Any]) -> None:
    """What would be counted beside the text would be missed in those after it."""
    assert mould(delta(**members)) is None


def test_only_the_place_that_decides_is_the_place_of_the_text() -> None:
    """Of two members of one name the last counts to a reader, and `content` may stand elsewhere as well."""
    twice = delta(content="a").replace(b'"content": "a"', b'"content": "a", "content": "b"')
    elsewhere = frame({"content": "x", **HEAD, "choices": [{"index": 0, "delta": {"content": "a"}}]})
    assert mould(twice) is None
    assert mould(elsewhere) is None
    found = mould(delta(content="a"))
    assert found is not None
    assert found.head.endswith(b'"content": "')
    assert found.head + b"a" + found.tail == delta(content="a")
