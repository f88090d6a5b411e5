"""Server-sent events as frames: the same ones however the bytes are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat.json_texts import unhurried
from chat.streams import cut_at, events
from vetted_mw.chat.frames import FrameSplitter, event_and_data

line_ends = st.sampled_from(["\n", "\r\n", "\r"])
fields = st.sampled_from(
    [
        "data: a",
        "data:b",
        "data",
        "data: ",
        "data: {}",
        "event: x",
        "id: 1",
        "retry: 5",
        ": ping",
        ":",
        "dat",
        "Grüße: é",
    ]
)


@st.composite
def sse_bytes(draw: st.DrawFn) -> bytes:
    """Draw a stream of frames, each with a line end of its own, a BOM before it now and then, cut off at its end or not."""
    text = draw(st.sampled_from(["", "\ufeff"]))
    for lines in draw(st.lists(st.lists(fields, min_size=1, max_size=3), max_size=5)):
        end = draw(line_ends)
        text += end.join(lines) + end + end
    return (text + draw(st.sampled_from(["", "data: cut", "data: cut\n", "\r", "\n", ": \r\n"]))).encode()


def split(parts: list[bytes], *, max_frame_bytes: int = 1000) -> tuple[list[bytes], bytes]:
    """Split `parts` into frames and the rest."""
    splitter = FrameSplitter(max_frame_bytes=max_frame_bytes)
    return [frame for part in parts for frame in splitter.feed(part)], splitter.finish()


@unhurried
@given(data=sse_bytes(), places=st.lists(st.integers(0, 500), max_size=8))
def test_any_cut_gives_the_same_frames_and_loses_no_byte(data: bytes, places: list[int]) -> None:
    """However the bytes are cut, the frames are the same, and frames and rest are the bytes that came."""
    whole, rest = split([data])
    assert b"".join(whole) + rest == data
    for parts in (cut_at(data, places), [data[at : at + 1] for at in range(len(data))]):
        frames, left = split(parts)
        assert b"".join(frames) + left == data
        assert frames == whole


@unhurried
@given(data=sse_bytes())
def test_frames_hold_what_an_sse_reader_dispatches(data: bytes) -> None:
    """Read frame by frame, a stream tells the same events as a reader of the standard sees in the whole."""
    frames, rest = split([data])
    seen = [event_and_data(frame) for frame in frames]
    if rest.endswith((b"\n\n", b"\r\r", b"\n\r")):
        seen.append(event_and_data(rest))
    expected = [(event.name.encode(), event.data.strip().encode()) for event in events(data)]
    assert [pair for pair in seen if pair[1]] == [pair for pair in expected if pair[1]]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
def test_a_blank_line_of_each_kind_ends_a_frame(end: bytes) -> None:
    """LF, CRLF and CR all end lines, and a blank line of each ends a frame."""
    frame = b"data: a" + end + b"data: b" + end + end
    frames, rest = split([frame * 2 + b"data: c"])
    assert frames == [frame, frame]
    assert rest == b"data: c"


def test_one_crlf_is_no_blank_line_even_when_it_comes_in_two_parts() -> None:
    """A CRLF cut in two ends one line, never a frame."""
    splitter = FrameSplitter(max_frame_bytes=100)
    assert splitter.feed(b"data: a\r") == []
    assert splitter.feed(b"\ndata: b\r") == []
    assert splitter.feed(b"\n\r") == []
    assert splitter.feed(b"\ndata: c") == [b"data: a\r\ndata: b\r\n\r\n"]


def test_a_splitter_that_was_finished_holds_nothing() -> None:
    """What no blank line ended is given back once."""
    splitter = FrameSplitter(max_frame_bytes=100)
    assert splitter.feed(b"data: a\n") == []
    assert splitter.finish() == b"data: a\n"
    assert splitter.finish() == b""
    assert splitter.feed(b"\ndata: b\n\n") == [b"\ndata: b\n\n"]


@unhurried
@given(size=st.integers(8, 60), limit=st.integers(8, 60), places=st.lists(st.integers(0, 60), max_size=4))
def test_a_frame_may_be_as_long_as_the_limit_and_no_longer(size: int, limit: int, places: list[int]) -> None:
    """A frame of up to `max_frame_bytes` passes, a longer one is refused, however it comes."""
    frame = b"data: ".ljust(size - 2, b"x") + b"\n\n"
    parts = cut_at(frame + b"data: ", places)
    splitter = FrameSplitter(max_frame_bytes=limit)
    frames = [found for part in parts for found in splitter.feed(part)]
    assert (frames, splitter.overflowed) == (([frame], False) if size <= limit else ([], True))


def test_a_frame_that_never_ends_is_refused_once_it_is_over_the_limit() -> None:
    """Bytes without a blank line are held up to the limit, so that memory stays bounded."""
    splitter = FrameSplitter(max_frame_bytes=1000)
    for _ in range(10):
        assert splitter.feed(b"x" * 100) == []
    assert (splitter.overflowed, splitter.feed(b"x")) == (False, [])
    assert (splitter.overflowed, splitter.finish()) == (True, b"")
    assert splitter.feed(b"\n\ndata: a\n\n") == []
    assert splitter.finish() == b""


@unhurried
@given(
    good=st.lists(st.sampled_from([b"data: a\n\n", b": b\r\n\r\n", b"id: 1\r\r"]), max_size=4),
    is_ended=st.booleans(),
    places=st.lists(st.integers(0, 200), max_size=6),
)
def test_frames_before_one_that_is_too_long_are_not_lost(good: list[bytes], is_ended: bool, places: list[int]) -> None:
    """However the bytes are cut, the frames before the first that is over the limit come out, and none after it."""
    too_long = b"data: " + b"x" * 60 + (b"\n\ndata: c\n\n" if is_ended else b"")
    splitter = FrameSplitter(max_frame_bytes=40)
    parts = cut_at(b"".join(good) + too_long, places)
    assert [frame for part in parts for frame in splitter.feed(part)] == good
    assert splitter.overflowed is True


def test_splitting_takes_time_in_proportion_to_the_bytes() -> None:
    """A frame that grows byte by byte is looked at once, not once per byte, whatever line ends it is full of."""
    for filler in (b"x", b"\n:", b"\r:", b"\r\n:"):
        splitter = FrameSplitter(max_frame_bytes=1 << 20)
        looked_at = 0
        for _ in range(2000):
            assert splitter.feed(filler * 10) == []
            looked_at += len(splitter._held) - splitter._searched
        assert looked_at <= 2000 * 4


def test_many_short_frames_in_one_part_are_not_one_long_frame() -> None:
    """The limit is one frame's, not one read's."""
    frames, rest = split([b"data: a\n\n" * 1000], max_frame_bytes=9)
    assert (len(frames), rest) == (1000, b"")


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (b"data: a\n\n", (b"", b"a")),
        (b"data:a\n\n", (b"", b"a")),
        (b"data: a\r\n\r\n", (b"", b"a")),
        (b"data: a\r\r", (b"", b"a")),
        (b"data: a\n", (b"", b"a")),
        (b"data: a", (b"", b"a")),
        (b"\xef\xbb\xbfdata: a\n\n", (b"", b"a")),
        (b"\n\ndata: a\n\n", (b"", b"a")),
        (b"data: a\ndata: b\n\n", (b"", b"a\nb")),
        (b"data: a\rdata: b\r\r", (b"", b"a\nb")),
        (b": ping\ndata: a\n\n", (b"", b"a")),
        (b"event: error\ndata: a\n\n", (b"error", b"a")),
        (b"event:error\r\ndata:a\r\n\r\n", (b"error", b"a")),
        (b"id: 7\nretry: 10\ndata: a\n\n", (b"", b"a")),
        (b"data: a: b\n\n", (b"", b"a: b")),
        (b"data: \n\n", (b"", b"")),
        (b"data\n\n", (b"", b"")),
        (b": ping\n\n", (b"", None)),
        (b"event: ping\n\n", (b"ping", None)),
        (b"databis: a\n\n", (b"", None)),
        (b" data: a\n\n", (b"", None)),
        (b"\n\n", (b"", None)),
        (b"", (b"", None)),
    ],
)
def test_a_frame_tells_its_event_and_its_data(frame: bytes, expected: tuple[bytes, bytes | None]) -> None:
    """Name and data are read as the standard says; a frame without a data line has none."""
    assert event_and_data(frame) == expected
