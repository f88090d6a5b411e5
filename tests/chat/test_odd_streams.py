"""Streams as odd, careless or hostile servers send them: read as far as they make sense, in bounded memory and time."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat.json_texts import unhurried
from chat.streams import DONE, FINISH, HEAD, ROLE, chunks, cut_at, delta, events, frame, opened, played, text_of
from chat.streams import usage_chunk as usage
from vetted_mw.chat.counts import Usage

CONTENT = delta(content="Hello")
MAX = 100_000


def choice(**members: Any) -> bytes:
    """Write a chunk whose one choice has `members`."""
    return frame({**HEAD, "choices": [members]})


# ---- which choice?


@pytest.mark.parametrize("index", [0, 1, -1, -(10**20), 10**30, 2**63, 5.0, 1e300, 0.0])
def test_a_choice_is_told_apart_by_any_whole_number(index: float) -> None:
    """Negative, huge and written as a float, an index still names its choice; the stream ends when that one has."""
    stream = opened()
    out = played([choice(index=index, delta={"content": "x"}), choice(index=index, finish_reason="stop")], stream)
    assert (stream.complete, stream.finish_reasons) == (True, ("stop",))
    assert out.endswith(DONE)


def test_floats_as_indexes_do_not_make_two_choices_one() -> None:
    """A server whose numbers are all floats answers two choices as well as any other."""
    parts = [choice(index=index, delta={"content": "x"}) for index in (0.0, 1.0)]
    parts += [choice(index=index, delta={}, finish_reason="stop") for index in (0.0, 1.0)]
    stream = opened(choices=2)
    played(parts, stream)
    assert stream.complete
    assert stream.finish_reasons == ("stop", "stop")


@pytest.mark.parametrize("at_once", [True, False], ids=["one chunk", "one each"])
def test_more_choices_than_anyone_gives_break_the_stream(at_once: bool) -> None:
    """10^5 choices, in one chunk or one after the other, are refused before what is kept of them grows."""
    told = [{"index": number, "delta": {"content": "x"}} for number in range(MAX)]
    parts = [frame({"choices": told})] if at_once else [frame({"choices": [one]}) for one in told[:2000]]
    stream = opened(max_frame_bytes=1 << 24)
    out = b"".join(stream.feed(part) for part in parts)
    assert stream.broken
    assert len(stream._choices.unfinished) <= 1025
    assert len(chunks(out)) == (0 if at_once else 1024)


# ---- the end, twice or in the middle


def test_a_finish_reason_said_twice_counts_once() -> None:
    """The later reason is the choice's, both chunks reach the caller, and the members travel on the last."""
    stream = opened()
    out = played([CONTENT, FINISH, delta(finish="length"), DONE], stream)
    assert stream.finish_reasons == ("length",)
    assert [one["choices"][0]["finish_reason"] for one in chunks(out)] == [None, "stop", "length"]
    assert ["receipt" in one for one in chunks(out)] == [False, False, True]


def test_text_after_the_finish_reason_is_not_lost() -> None:
    """A choice that goes on after its finish reason loses none of its text, and keeps its order."""
    stream = opened()
    assert text_of(played([CONTENT, FINISH, delta(content=" wor"), delta(content="ld"), DONE], stream)) == "Hello world"
    assert stream.complete


def test_the_last_of_two_usages_counts_and_comes_once() -> None:
    """Counts that are sent twice are not added up, and the caller who asked sees one usage chunk."""
    stream = opened(include_usage=True)
    first, last = (usage(prompt_tokens=5, completion_tokens=count) for count in (1, 2))
    out = played([CONTENT, FINISH, first, last, DONE], stream)
    assert stream.usage == Usage(prompt_tokens=5, completion_tokens=2)
    assert [one["usage"]["completion_tokens"] for one in chunks(out) if "usage" in one] == [2]


def test_an_id_that_changes_midway_stays_on_its_chunks() -> None:
    """The receipt names the first id and model; every chunk keeps the ones it came with."""
    other = frame({"id": "other", "model": "other", "choices": [{"index": 0, "delta": {"content": "!"}}]})
    stream = opened()
    out = played([CONTENT, other, FINISH, DONE], stream)
    assert (stream.id, stream.model) == (HEAD["id"], HEAD["model"])
    assert [one["id"] for one in chunks(out)] == [HEAD["id"], "other", HEAD["id"]]


# ---- what is no content, and what only looks odd

COMMITTING = {
    "function_call": {"name": "f", "arguments": ""},
    "audio": {"id": "a"},
    "reasoning_details": [{"text": "x"}],
}


@pytest.mark.parametrize(("name", "value"), COMMITTING.items())
def test_what_older_and_newer_servers_send_is_content(name: str, value: object) -> None:
    """Calls of the old kind, audio and members to come begin the answer as text does."""
    stream = opened()
    assert stream.feed(ROLE + choice(index=0, delta={name: value})) != b""
    assert stream.committed


@pytest.mark.parametrize(
    "odd",
    [
        b'{"content":"x","logprob":1e999}',
        b'{"content":"x","n":' + b"9" * 5000 + b"}",
        b'{"content":"x","x":[' + b"[]," * 60_000 + b"[]]}",
    ],
    ids=["out of range", "many digits", "sprawling"],
)
def test_a_delta_that_our_reader_does_not_hold_is_the_callers_to_read(odd: bytes) -> None:
    """A number too large, or more values than are worth reading, break no answer: they count as text and pass."""
    stream = opened()
    strange = b'data: {"choices":[{"index":0,"delta":' + odd + b"}]}\n\n"
    out = played([strange, FINISH, DONE], stream)
    assert out.startswith(strange)
    assert stream.complete
    assert 0 < stream.completion_characters <= len(odd)


@pytest.mark.parametrize("fields", [b"id: 7\n", b"retry: 10\n", b"event: message\n", b": note\n", b"unknown: x\n"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("space", [b" ", b""], ids=["a blank", "none"])
def test_other_fields_and_line_ends_change_nothing(fields: bytes, end: bytes, space: bytes) -> None:
    """Every field of the standard, every line end and a missing blank after `data:` read the same, and pass as they are."""
    told = [part.replace(b"data: ", b"data:" + space) for part in (CONTENT, FINISH, DONE)]
    parts = [(fields + part).replace(b"\n", end) for part in told]
    stream = opened()
    out = played(parts, stream)
    assert out.startswith(parts[0])
    assert (stream.complete, text_of(out)) == (True, "Hello")


def test_pings_count_as_frames_and_pass_only_after_the_answer_has_begun() -> None:
    """A comment is a sign of life and bears nothing: held before the first content, passed on after it."""
    stream = opened()
    assert stream.feed(b": ping\n\n" * 2) == b""
    assert (stream.frames, stream.bearing, stream.committed) == (2, 0, False)
    assert stream.feed(CONTENT) == b": ping\n\n" * 2 + CONTENT
    assert stream.feed(b": ping\n\n") == b": ping\n\n"
    assert (stream.frames, stream.bearing) == (4, 1)
    assert stream.feed(b": pi") == b""
    assert stream.frames == 4  # a frame counts when it is whole


# ---- memory and time

HOSTILE: dict[str, list[bytes]] = {
    "comments": [b": ping\n\n" * 1000] * 30,
    "roles": [ROLE * 100] * 30,
    "one frame": [b"x" * 10_000] * 300,
    "finish chunks": [CONTENT, *[delta(finish="stop") * 50] * 200],
    "usage": [CONTENT, *[usage() * 50] * 200],
    "blank lines": [b"\n" * 10_000] * 10,
    "new choices": [delta(number, content="x") for number in range(10_000)],
    "new ids": [frame({"id": f"{number:0>1000}", "choices": []}) for number in range(3000)],
}


@pytest.mark.parametrize("parts", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_is_kept_of_a_stream_is_bounded(parts: list[bytes]) -> None:
    """Of comments, roles, finish chunks, usage, choices and ids without end a few frames are held at most."""
    stream = opened(max_frame_bytes=20_000, include_usage=True)
    tracemalloc.start()
    try:
        before, _peak = tracemalloc.get_traced_memory()
        for part in parts:
            stream.feed(part)
        now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert now - before < 200_000
    assert peak - before < 500_000


def _whole(begin: bytes, part: bytes, end: bytes) -> bytes:
    return b"data: " + begin + part * (4_000_000 // len(part)) + end + b"\n\n"


_DELTA = b'{"choices":[{"index":0,"delta":{"content":'
SPRAWLING: dict[str, bytes] = {
    "lists": _whole(_DELTA + b"[", b"[],", b"[]]}}]}"),
    "objects": _whole(_DELTA + b"[", b"{},", b"{}]}}]}"),
    "choices": _whole(b'{"choices":[', b"{},", b"{}]}"),
    "usage": _whole(b'{"choices":[],"usage":{"x":[', b"[],", b"[]]}}"),
    "an error": _whole(b'{"error":[', b"[],", b"[]]}"),
    "an odd id": _whole(b'{"id":[', b"[],", b'[]],"choices":[]}'),
    "unknown members": _whole(b"{", b'"a":[],', b'"choices":[]}'),
    "deep": _whole(_DELTA, b"[", b"}}]}"),
    "digits": _whole(_DELTA, b"9", b"}}]}"),
    "lines": b"data: 1\n" * 500_000 + b"\n",
}


@pytest.mark.parametrize("sprawling", SPRAWLING.values(), ids=SPRAWLING.keys())
def test_a_frame_of_millions_of_values_is_not_made_into_millions_of_objects(sprawling: bytes) -> None:
    """4 MiB of nothing take a few times their size while they are looked at, and nothing afterwards."""
    stream = opened(max_frame_bytes=1 << 23)
    tracemalloc.start()
    try:
        stream.feed(sprawling)
        now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 12 * len(sprawling)
    assert now < 100_000


# ---- whatever comes

PIECES = st.sampled_from(
    [
        *(
            CONTENT,
            ROLE,
            FINISH,
            DONE,
            usage(),
            b": ping\n\n",
            b"data: <html>\n\n",
            b"\n",
            b"\r",
            b"\r\n\r\n",
            b"data: ",
        ),
        *(
            frame({"error": {"message": "m"}}),
            b"event: error\ndata: x\n\n",
            b"\xef\xbb\xbf",
            b"\xff",
            b"data:[DONE]\n\n",
        ),
        *(choice(index=1, delta={"content": "b"}), choice(index=1, finish_reason="stop"), choice(index=[], delta=[])),
        *(b'data: {"choices":[{"delta":{"content":"\\ud800"}}]}\n\n', b"data: " + b"x" * 900 + b"\n\n", CONTENT[:-9]),
    ]
)


@unhurried
@given(
    parts=st.lists(PIECES | st.binary(max_size=12), max_size=12),
    places=st.lists(st.integers(0, 3000), max_size=8),
    wanted=st.integers(1, 2),
    asked=st.booleans(),
)
def test_any_bytes_are_read_without_an_error_and_nothing_is_made_up(
    parts: list[bytes], places: list[int], wanted: int, asked: bool
) -> None:
    """Nothing raises, no incomplete stream ends with `[DONE]`, and no more goes out than came, the members apart."""
    data = b"".join(parts)
    streams = [opened(choices=wanted, include_usage=asked, max_frame_bytes=700) for _ in range(2)]
    outs = [played(cut, stream) for cut, stream in zip([[data], cut_at(data, places)], streams, strict=True)]
    stream = streams[0]
    is_whole = stream.complete and stream.error is None and not stream.broken
    assert outs[0] == outs[1]
    assert (stream.broken, stream.frames, stream.bearing) == (
        streams[1].broken,
        streams[1].frames,
        streams[1].bearing,
    )
    assert len(outs[0]) <= len(data) + (500 if is_whole else 2)
    ends = [event.data for event in events(outs[0].decode("utf-8", "replace").encode())].count("[DONE]")
    assert ends == is_whole
    if not is_whole:
        assert b"receipt" not in outs[0]
