"""Whole streams, drawn at random: the output does not depend on how the bytes are cut, and keeps its promises."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from chat.json_texts import unhurried
from chat.streams import DONE, FINISH, HEAD, ROLE, cut_at, delta, events, frame, opened, played, text_of, usage_chunk

if TYPE_CHECKING:
    from vetted_mw.chat.sse import AnswerStream

CONTENT = delta(content="Hello")
TWO_LINES = b'data: {"choices": [{"index": 0,\ndata:   "delta": {"content": "tw\\no"}}]}\n\n'
SILENT = [ROLE, delta(), delta(content=""), b": ping\n\n", b"data:\n\n", b"id: 4\n\n", b": a\n: b\n\n"]
SPEAKING = [
    CONTENT,
    delta(content=" Grüße 😀"),
    delta(content="\u2028\u0085"),
    delta(reasoning_content="Hm"),
    delta(tool_calls=[{"index": 0, "function": {"name": "f", "arguments": "{"}}]),
    delta(refusal="No"),
    TWO_LINES,
    b"event: message\nid: 9\n" + delta(content="named"),
    frame({"choices": [{"index": 0, "delta": {"content": "bare"}}]}),
]
ENDING = [FINISH, delta(content=" end", finish="length"), b": late\n\n", usage_chunk(), delta()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A stream as drawn.

    Attributes:
        frames: its events, each with its own line ends.
        data: the bytes.
    """

    frames: list[bytes]
    data: bytes


@st.composite
def streams(draw: st.DrawFn) -> Drawn:
    """Draw a stream that is well formed, though it may be cut: any order, line ends, BOM, with and without an end."""
    silent, speaking, ending = (st.sampled_from(kinds) for kinds in (SILENT, SPEAKING, ENDING))
    frames = [
        *draw(st.lists(silent, max_size=3)),
        *draw(st.lists(silent | speaking, max_size=4)),
        *draw(st.lists(ending, max_size=3)),
        *draw(st.lists(st.sampled_from([DONE, frame({"error": {"message": "m"}}), CONTENT]), max_size=2)),
    ]
    ends = st.sampled_from([b"\n", b"\r\n", b"\r"])
    frames = [found.replace(b"\n", draw(ends)) for found in frames]
    data = draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) + b"".join(frames)
    return Drawn(frames=frames, data=data[: len(data) - draw(st.sampled_from([0, 0, 0, 1, 2, 5, 30]))])


def state(stream: AnswerStream) -> tuple[object, ...]:
    """Return all that a stream tells of itself."""
    return (
        stream.committed,
        stream.finished,
        stream.complete,
        stream.done,
        stream.error,
        stream.usage,
        stream.id,
        stream.model,
        stream.finish_reasons,
        stream.completion_characters,
    )


def whole_events(data: bytes) -> bytes:
    """Return the events of a stream up to `[DONE]`, a last one that was cut in two left out."""
    kept = b""
    for event in events(data + b"\n\n"):
        if event.data == "[DONE]":
            break
        with contextlib.suppress(ValueError):
            kept += frame(event.json())
    return kept


@unhurried
@given(drawn=streams(), places=st.lists(st.integers(0, 2000), max_size=10), asked=st.booleans())
def test_any_cut_of_the_bytes_gives_the_same_output(drawn: Drawn, places: list[int], asked: bool) -> None:
    """Read whole, byte by byte or cut anywhere, a stream gives the same bytes and tells the same of itself."""
    whole = opened(include_usage=asked)
    out = played([drawn.data], whole)
    for parts in (cut_at(drawn.data, places), [drawn.data[at : at + 1] for at in range(len(drawn.data))]):
        stream = opened(include_usage=asked)
        assert played(parts, stream) == out
        assert state(stream) == state(whole)


@unhurried
@given(drawn=streams(), asked=st.booleans())
def test_every_stream_keeps_the_promises_of_the_wire(drawn: Drawn, asked: bool) -> None:
    """A complete stream carries the members once and ends with one `[DONE]`; no text is lost, made up or moved."""
    stream = opened(include_usage=asked)
    out = played([drawn.data], stream)
    if not stream.complete or stream.error is not None:
        assert b"[DONE]" not in out
        assert b"receipt" not in out
        return
    seen = events(out)
    assert [event.data for event in seen].count("[DONE]") == 1
    assert seen[-1].data == "[DONE]"
    told = [event.json() for event in seen[:-1]]
    assert sum("receipt" in chunk for chunk in told) == sum("routing_trace" in chunk for chunk in told) == 1
    assert text_of(out) == text_of(whole_events(drawn.data))
    assert any("usage" in chunk for chunk in told) == (asked and stream.usage is not None)


@unhurried
@given(drawn=streams())
def test_nothing_leaves_before_content_and_everything_that_leaves_came(drawn: Drawn) -> None:
    """No byte goes out before a content-bearing event; until the finish chunk what goes out is exactly what came."""
    stream = opened()
    came = out = b""
    for part in drawn.frames:
        came += part
        out += stream.feed(part)
        if not stream.committed:
            assert out == b""
        if stream.error is not None or stream.done or stream.finished or stream.usage is not None:
            return
        held = b"\r" if part.endswith(b"\r") else b""  # the LF of its CRLF may still come
        if stream.committed and not held:
            assert out == came


@unhurried
@given(
    drawn=streams(),
    bad=st.sampled_from([b"data: no JSON\n\n", b'data: {"id": 5, "choices": [}\n\n', b"data: " + b"x" * 5000]),
    places=st.lists(st.integers(0, 4000), max_size=10),
)
def test_a_bad_frame_is_refused_however_it_is_cut(drawn: Drawn, bad: bytes, places: list[int]) -> None:
    """A frame that is none breaks the stream wherever the bytes are cut, and all that was good before it left."""
    good = opened(max_frame_bytes=4000)
    frames = [found for found in drawn.frames if b"[DONE]" not in found and b"error" not in found]
    data = b"".join(frames) + b": end\n\n"
    expected = good.feed(data)
    stream = opened(max_frame_bytes=4000)
    assert b"".join(stream.feed(part) for part in cut_at(data + bad, places)) == expected
    assert stream.broken
    assert b"[DONE]" not in expected


def test_the_promises_hold_for_an_ordinary_stream() -> None:
    """A stream as OpenAI's API sends it comes out as the wire page shows it."""
    stream = opened(include_usage=True)
    out = played([ROLE, CONTENT, FINISH, usage_chunk(), DONE], stream)
    shape = [
        (chunk["id"], [choice["finish_reason"] for choice in chunk["choices"]], "receipt" in chunk, "usage" in chunk)
        for chunk in (json.loads(event.data) for event in events(out)[:-1])
    ]
    name = HEAD["id"]
    assert shape == [
        (name, [None], False, False),
        (name, [None], False, False),
        (name, ["stop"], True, False),
        (name, [], False, True),
    ]


def test_a_mark_at_the_streams_beginning_does_not_travel_with_a_frame_that_is_held() -> None:
    """A usage chunk that came first leaves last; with the byte order mark before it no reader would see it."""
    usage = b'data: {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}\n\n'
    finish = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n'
    out = played([b"\xef\xbb\xbf" + usage + finish], opened(include_usage=True))
    assert any("usage" in event.json() for event in events(out)[:-1])
