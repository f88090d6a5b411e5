"""Upstreams that pack, drip, repeat or rave, on real sockets: every good frame arrives, and memory stays bounded."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc
import zlib

import pytest

from streams.wall import (
    FIRST,
    LIMIT,
    SECOND,
    Caller,
    Told,
    busy_connections,
    content,
    finish,
    gateway_over,
    payload,
    role,
    told,
)
from vetted_mw.testing import FakeAnswer, FakeUpstream, asgi_exchange, chat_frames, sse

pytestmark = pytest.mark.anyio

MIB = 1 << 20
DONE = b"data: [DONE]\n\n"
GZIP = (("content-encoding", "gzip"),)
WORDS = [content(word) for word in ("lo", ", ", "wor", "ld")]
HELLO_WORLD = "Hello, world"
Part = bytes | float | asyncio.Event
PINGS: list[Part] = [0.05, b": ping\n\n"] * 600


class Packed:
    """A gzip stream written in parts, each flushed so that it can be read on its own."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(9, zlib.DEFLATED, 31)

    def part(self, data: bytes) -> bytes:
        """Pack a part."""
        return self._deflate.compress(data) + self._deflate.flush(zlib.Z_SYNC_FLUSH)

    def end(self) -> bytes:
        """End the stream."""
        return self._deflate.flush()


async def answered(
    answer: FakeAnswer, *, go_on: asyncio.Event | None = None, limits: dict[str, float] | None = None
) -> Told:
    """Get the answer of a gateway whose first upstream gives `answer`, with `go_on` set once content has come."""
    async with FakeUpstream() as first, FakeUpstream(text="Second") as second:
        first.then(answer)
        table = {"base_url": first.base_url, "limits": limits or {}}
        async with gateway_over({FIRST: table, SECOND: second}) as (app, gateway):
            caller = Caller(app, payload(stream=True))
            async with asyncio.timeout(LIMIT):
                answering = caller.start()
                if go_on is not None:
                    await caller.content.wait()
                    go_on.set()
                seen = told(await answering)
            assert (gateway.fleet.in_flight, busy_connections(gateway)) == (0, [])
    return seen


# ---- good frames and a bad one in one read

BAD = {
    "no JSON": b"data: <html>\n\n",
    "no UTF-8": b'data: {"choices": [], "x": "\xff"}\n\n',
    "too long": content("x" * 5000),
    "too long and without end": b"data: " + b"x" * 5000,
    "deep": b'data: {"choices": ' + b"[" * 3000 + b"]" * 3000 + b"}\n\n",
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
async def test_frames_that_come_in_one_read_with_a_bad_one_reach_the_caller_before_the_error(bad: bytes) -> None:
    """After commit the caller has every word that was good, then one honest error frame and no `[DONE]`."""
    go_on = asyncio.Event()
    script: list[Part] = [role() + content("Hel"), go_on, b"".join(WORDS) + bad + content("never") + DONE]
    answer = await answered(FakeAnswer.stream(script, ending="stall"), go_on=go_on, limits={"max_frame_bytes": 4096})
    assert answer.text == HELLO_WORLD
    assert [error["code"] for error in answer.errors] == ["upstream_error"]
    assert (answer.complete, answer.attempts) == (False, [(FIRST, "invalid_response", 200)])


async def test_a_bad_frame_in_the_very_read_that_shows_content_still_fails_over() -> None:
    """Nothing has gone to the caller yet, so it gets another upstream's whole answer and not a broken one."""
    answer = await answered(FakeAnswer.stream([role() + content("Hel") + BAD["no JSON"]], ending="stall"))
    assert (answer.text, answer.complete) == ("Second", True)
    assert [outcome for _region, outcome, _status in answer.attempts] == ["invalid_response", "success"]


# ---- gzip, though identity was asked for


async def test_a_packed_stream_is_passed_on_as_it_comes() -> None:
    """Each packed part reaches the caller before the next one is sent, and the end is a good one."""
    go_on, packed = asyncio.Event(), Packed()
    script: list[Part] = [
        packed.part(role() + content("Hel")),
        go_on,
        packed.part(b"".join(WORDS)),
        packed.part(finish() + DONE),
    ]
    answer = await answered(FakeAnswer.stream([*script, packed.end()], headers=GZIP), go_on=go_on)
    assert (answer.text, answer.complete, answer.errors) == (HELLO_WORLD, True, [])


@pytest.mark.parametrize(
    "extra", [b"garbage", gzip.compress(b"data: more\n\n"), b"\xff" * 50], ids=["garbage", "a second member", "noise"]
)
@pytest.mark.parametrize("is_whole", [True, False], ids=["after [DONE]", "before the end"])
async def test_what_follows_a_packed_stream_takes_no_word_away(extra: bytes, is_whole: bool) -> None:
    """A second member or garbage is an error unless the answer was whole, and all before it reaches the caller."""
    go_on, packed = asyncio.Event(), Packed()
    rest = b"".join(WORDS) + (finish() + DONE if is_whole else b"")
    script: list[Part] = [packed.part(role() + content("Hel")), go_on, packed.part(rest) + packed.end() + extra]
    answer = await answered(FakeAnswer.stream(script, headers=GZIP, ending="stall"), go_on=go_on)
    assert answer.text == HELLO_WORLD
    assert answer.complete is is_whole
    assert [error["code"] for error in answer.errors] == ([] if is_whole else ["upstream_error"])


async def test_a_packed_stream_that_breaks_in_the_middle_loses_no_word_before_the_break() -> None:
    """Noise in the packed bytes ends the stream honestly, after the words that could be read."""
    go_on, packed = asyncio.Event(), Packed()
    script: list[Part] = [packed.part(role() + content("Hel")), go_on, packed.part(b"".join(WORDS)) + b"\xff" * 50]
    answer = await answered(FakeAnswer.stream(script, headers=GZIP, ending="stall"), go_on=go_on)
    assert answer.text == HELLO_WORLD
    assert [error["code"] for error in answer.errors] == ["upstream_error"]
    assert answer.attempts == [(FIRST, "invalid_response", 200)]


@pytest.mark.parametrize("begun", [False, True], ids=["before commit", "after commit"])
async def test_a_packed_bomb_ends_as_an_invalid_answer_in_bounded_memory(begun: bool) -> None:
    """256 MiB in a quarter of one are unfolded up to the limit of a frame and no further, then the attempt is over."""
    go_on, packed = asyncio.Event(), Packed()
    head: list[Part] = [packed.part(role() + content("Hello")), go_on] if begun else []
    bomb = packed.part(b"data: " + b" " * (256 * MIB))
    tracemalloc.start()
    try:
        before, _peak = tracemalloc.get_traced_memory()
        answer = await answered(
            FakeAnswer.stream([*head, bomb], headers=GZIP, ending="stall"),
            go_on=go_on if begun else None,
            limits={"max_frame_bytes": MIB},
        )
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < 12 * MIB
    assert answer.attempts[0] == (FIRST, "invalid_response", 200)
    assert (answer.text, answer.complete) == (("Hello", False) if begun else ("Second", True))


async def test_a_packed_bomb_of_pings_meets_the_limits_and_holds_nobody_up() -> None:
    """Millions of comments in one packed part are held up to the limit before the answer, and another region serves."""
    packed = Packed()
    bomb = packed.part(b":\n\n" * (16 * MIB))
    answer = await answered(
        FakeAnswer.stream([bomb], headers=GZIP, ending="stall"), limits={"max_frame_bytes": 200_000}
    )
    assert (answer.text, answer.complete) == ("Second", True)
    assert [outcome for _region, outcome, _status in answer.attempts] == ["invalid_response", "success"]


# ---- signs of life

EMPTY_USAGE = sse({"id": "c", "model": "m", "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 1}})


@pytest.mark.parametrize(
    "sign", [b": ping\n\n", b"event: ping\n\n", EMPTY_USAGE], ids=["comment", "an event without data", "usage"]
)
async def test_any_whole_frame_is_a_sign_of_life(sign: bytes) -> None:
    """`idle_seconds` is between two frames, also of those that say nothing or are not for the caller."""
    pauses: list[Part] = [0.25, sign] * 12
    answer = await answered(
        FakeAnswer.stream([role(), content("Hel"), *pauses, *WORDS, finish(), DONE]), limits={"idle_seconds": 2.0}
    )
    assert (answer.text, answer.complete, answer.errors) == (HELLO_WORLD, True, [])
    assert answer.attempts == [(FIRST, "success", 200)]


async def test_pings_before_the_first_content_are_no_answer() -> None:
    """Before the answer begins they do not lengthen `first_byte_seconds`: the next region is asked."""
    answer = await answered(FakeAnswer.stream([role(), *PINGS]), limits={"first_byte_seconds": 0.5})
    assert (answer.text, answer.complete) == ("Second", True)
    assert answer.attempts[0] == (FIRST, "first_byte_timeout", 200)


async def test_pings_pass_to_a_caller_once_the_answer_has_begun() -> None:
    """An upstream's comments reach the caller as they came, between frames."""
    async with FakeUpstream() as first, gateway_over({FIRST: first}) as (app, _gateway):
        frames = chat_frames()
        first.then(FakeAnswer.stream([b": early\n\n", *frames[:2], b": ping\n\n", *frames[2:]]))
        async with asyncio.timeout(LIMIT):
            exchange = await asgi_exchange(app, json=payload(stream=True))
    assert exchange.body.count(b": early\n\n") == exchange.body.count(b"\n\n: ping\n\ndata: ") == 1


# ---- after the finish reason


async def test_an_answer_that_goes_on_after_its_finish_reason_is_not_cut_by_the_hold() -> None:
    """`finish_hold_seconds` waits for an end; while content still comes, the answer has not ended."""
    slow: list[Part] = [part for word in WORDS for part in (0.6, word)]
    answer = await answered(
        FakeAnswer.stream([role(), content("Hel"), finish(), *slow], ending="stall"),
        limits={"finish_hold_seconds": 2.0},
    )
    assert (answer.text, answer.complete, answer.errors) == (HELLO_WORLD, True, [])


async def test_pings_after_the_finish_reason_do_not_hold_the_end_back() -> None:
    """An upstream that says it has finished and then only pings is done when the hold is over."""
    answer = await answered(
        FakeAnswer.stream([role(), content("Hello"), finish(), *PINGS], ending="stall"),
        limits={"finish_hold_seconds": 0.3, "idle_seconds": 60.0},
    )
    assert (answer.text, answer.complete, answer.errors) == ("Hello", True, [])
