"""After commit: one upstream, one honest end, and frames that pass as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from streams.wall import (
    FIRST,
    LIMIT,
    OUTSIDE,
    SECOND,
    Caller,
    Told,
    busy_connections,
    content,
    finish,
    gateway_over,
    payload,
    resting,
    role,
    told,
    until,
)
from vetted_mw.testing import FakeAnswer, FakeUpstream, asgi_exchange, chat_frames, sse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vetted_mw import Gateway

pytestmark = pytest.mark.anyio

ERROR = {"error": {"message": "broken inside", "type": "server_error", "code": 500}}
USAGE = chat_frames()[-2]
DONE = b"data: [DONE]\n\n"

Rest = Callable[[], Iterable["bytes | float | asyncio.Event"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """One way for a stream to break after its first content.

    Attributes:
        name: what happens.
        rest: what the upstream still sends.
        ending: how it ends then.
        outcome: what the trace calls it.
        code: what the caller's error frame says.
        limits: what makes it happen soon.
        total_seconds: the limit of the whole request.
    """

    name: str
    outcome: str
    code: str
    rest: tuple[bytes | float, ...] = ()
    ending: str = "close"
    limits: Mapping[str, float] = field(default_factory=dict)
    total_seconds: float = 900.0


BREAKS = [
    Break(name="error event", rest=(sse(ERROR), finish(), DONE), outcome="upstream_error", code="upstream_error"),
    Break(
        name="named error event",
        rest=(b"event: error\n" + sse({"message": "broken"}), finish(), DONE),
        outcome="upstream_error",
        code="upstream_error",
    ),
    Break(name="clean end without a finish reason", outcome="upstream_cut", code="upstream_stream_cut"),
    Break(name="cut", ending="cut", outcome="upstream_cut", code="upstream_stream_cut"),
    Break(name="reset", ending="reset", outcome="upstream_cut", code="upstream_stream_cut"),
    Break(
        name="cut inside a UTF-8 sequence",
        rest=(content("é").replace(b"\\u00e9", "é".encode())[:-20],),
        ending="cut",
        outcome="upstream_cut",
        code="upstream_stream_cut",
    ),
    Break(
        name="silence",
        ending="stall",
        limits={"idle_seconds": 0.3},
        outcome="idle_timeout",
        code="upstream_timeout",
    ),
    Break(
        name="a frame that never ends",
        rest=(b"data: ", *(0.05, b"x") * 400),
        limits={"idle_seconds": 0.3},
        outcome="idle_timeout",
        code="upstream_timeout",
    ),
    Break(
        name="longer than the whole request may take",
        rest=(content("lo"), 0.05) * 400,
        total_seconds=1.0,
        outcome="answer_timeout",
        code="upstream_timeout",
    ),
    Break(
        name="frame over the limit",
        rest=(content("x" * 5000),),
        ending="stall",
        limits={"max_frame_bytes": 2048},
        outcome="invalid_response",
        code="upstream_error",
    ),
    Break(
        name="frame that is no JSON",
        rest=(b"data: <html>\n\n",),
        ending="stall",
        outcome="invalid_response",
        code="upstream_error",
    ),
]


@pytest.mark.parametrize("broken", BREAKS, ids=lambda one: one.name.replace(" ", "_"))
async def test_a_stream_that_breaks_after_commit_ends_with_one_error_frame_and_nothing_else(broken: Break) -> None:
    """One error frame without `choices`, receipt and trace in it, no `[DONE]`, and no second upstream, ever."""
    go_on = asyncio.Event()
    async with FakeUpstream() as first, FakeUpstream() as second, FakeUpstream() as outside:
        first.then(FakeAnswer.stream([role(), content("Hel"), go_on, *broken.rest], ending=broken.ending))
        table = {"base_url": first.base_url, "limits": dict(broken.limits)}
        async with gateway_over(
            {FIRST: table, SECOND: second, OUTSIDE: outside}, limits={"total_seconds": broken.total_seconds}
        ) as (app, gateway):
            caller = Caller(app, payload(stream=True))
            async with asyncio.timeout(LIMIT):
                answering = caller.start()
                await caller.content.wait()
                go_on.set()
                answer = told(await answering)
            assert (gateway.fleet.in_flight, busy_connections(gateway)) == (0, [])
        assert (len(first.requests), len(second.requests), len(outside.requests)) == (1, 0, 0)
    assert (answer.status, answer.complete) == (200, False)
    assert answer.text.startswith("Hel")
    assert [(error["type"], error["code"], error["param"]) for error in answer.errors] == [
        ("inference_error", broken.code, None)
    ]
    last = answer.frames[-1]
    assert set(last) == {"error", "receipt", "routing_trace"}
    assert "[DONE]" not in answer.frames
    assert answer.attempts == [(FIRST, broken.outcome, 200)]
    assert (answer.trace["region"], answer.headers["x-vetted-region"]) == (FIRST, FIRST)
    assert last["receipt"]["completion_status"] == "upstream_error"


async def test_the_last_attempt_of_a_stream_that_breaks_is_told_after_those_that_failed_before_it() -> None:
    """A failover before commit and a break after it stand in the trace in the order they happened."""
    go_on = asyncio.Event()
    async with FakeUpstream() as first, FakeUpstream() as second:
        first.then(FakeAnswer.json(ERROR, status=500))
        second.then(FakeAnswer.stream([role(), content(), go_on], ending="reset"))
        async with gateway_over({FIRST: first, SECOND: second}) as (app, _gateway):
            caller = Caller(app, payload(stream=True))
            async with asyncio.timeout(LIMIT):
                answering = caller.start()
                await caller.content.wait()
                go_on.set()
                answer = told(await answering)
    assert answer.attempts == [(FIRST, "upstream_error", 500), (SECOND, "upstream_cut", 200)]
    assert answer.headers["x-vetted-attempts"] == "2"


@pytest.mark.parametrize(
    ("frames", "ending"),
    [
        ([*chat_frames()[:4], USAGE, DONE], "close"),
        ([*chat_frames()[:4], USAGE], "close"),
        ([*chat_frames()[:4]], "close"),
        ([*chat_frames()[:3], DONE], "close"),
        ([*chat_frames()[:4], USAGE], "cut"),
        ([*chat_frames()[:4]], "reset"),
        ([*chat_frames()[:4], USAGE], "stall"),
        ([*chat_frames()[:4], USAGE, DONE], "stall"),
        ([*chat_frames()[:4], DONE, content("after the end")], "stall"),
        ([*chat_frames()[:4], DONE, b"data: <html>\n\n"], "reset"),
        ([b": ping\n\n", *chat_frames()[:2], b": ping\n\n", *chat_frames()[2:]], "close"),
        ([bytes([byte]) for byte in b"".join(chat_frames())], "close"),
        ([b"".join(chat_frames())], "close"),
        ([b"".join(chat_frames()).replace(b"\n", b"\r\n")], "close"),
    ],
    ids=[
        "as it should be",
        "no [DONE]",
        "no [DONE] and no usage",
        "[DONE] without a finish reason",
        "cut after the finish reason",
        "reset after the finish reason",
        "silence after the finish reason",
        "[DONE] and then silence",
        "frames after [DONE]",
        "rubbish after [DONE]",
        "comments between frames",
        "byte by byte",
        "all at once",
        "CRLF",
    ],
)
async def test_a_stream_that_said_all_it_had_to_say_ends_well_however_its_connection_ends(
    frames: list[bytes], ending: str
) -> None:
    """Whole text, one finish chunk with the members, `[DONE]`, outcome success, and the connection is given back."""
    async with FakeUpstream() as first, FakeUpstream() as second:
        first.then(FakeAnswer.stream(frames, ending=ending))
        table = {"base_url": first.base_url, "limits": {"finish_hold_seconds": 0.3}}
        async with gateway_over({FIRST: table, SECOND: second}) as (app, gateway):
            async with asyncio.timeout(LIMIT):
                answer = told(await asgi_exchange(app, json=payload(stream=True)))
            assert (gateway.fleet.in_flight, busy_connections(gateway)) == (0, [])
        assert (len(first.requests), len(second.requests)) == (1, 0)
    assert (answer.status, answer.complete, answer.errors) == (200, True, [])
    assert answer.text == "Hello"
    assert answer.attempts == [(FIRST, "success", 200)]
    carrying = [frame for frame in answer.frames if "routing_trace" in frame]
    assert len(carrying) == 1
    assert carrying == answer.frames[-2:-1]
    assert answer.receipt is not None
    assert answer.receipt["completion_status"] == "complete"


async def test_a_stream_that_ended_properly_leaves_its_connection_for_the_next_one() -> None:
    """Two streams one after the other need one connection: the upstream's end is read even after `[DONE]`."""
    async with FakeUpstream() as first, gateway_over({FIRST: first}) as (app, _gateway):
        for _ in range(2):
            assert told(await asgi_exchange(app, json=payload(stream=True))).complete
            assert first.open_connections == 1
        assert len(first.requests) == 2


async def test_frames_pass_as_they_come_and_only_the_finish_chunk_waits() -> None:
    """Each content frame reaches the caller before the upstream sends the next one, byte for byte."""
    gates = [asyncio.Event() for _ in range(4)]
    frames = [content(text) for text in ("a", "b", "c")]
    async with FakeUpstream() as first, gateway_over({FIRST: first}) as (app, _gateway):
        script = [part for gate, frame in zip(gates, [*frames, finish()], strict=True) for part in (gate, frame)]
        first.then(FakeAnswer.stream([role(), *script]))
        caller = Caller(app, payload(stream=True))
        async with asyncio.timeout(LIMIT):
            answering = caller.start()
            for gate, frame in zip(gates, frames, strict=False):
                caller.content.clear()
                gate.set()
                await caller.content.wait()
                assert caller.sent[-1]["body"].endswith(frame)
            gates[-1].set()
            assert told(await answering).complete


async def test_nothing_goes_to_the_caller_before_the_first_content() -> None:
    """Neither status nor header nor byte leaves while the stream has shown nothing but its role."""
    go_on = asyncio.Event()
    async with FakeUpstream() as first, gateway_over({FIRST: first}) as (app, gateway):
        first.then(FakeAnswer.stream([role(), b": ping\n\n", content(""), go_on, *chat_frames()[1:]]))
        caller = Caller(app, payload(stream=True))
        async with asyncio.timeout(LIMIT):
            answering = caller.start()
            await until(lambda: _head_has_come(gateway))
            assert caller.sent == []
            go_on.set()
            answer = told(await answering)
    assert answer.complete
    assert answer.frames[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}


def _head_has_come(gateway: Gateway) -> bool:
    return gateway.fleet.in_flight == 1 and busy_connections(gateway) != []


@pytest.mark.parametrize("bearing", ["content", "reasoning_content", "reasoning", "refusal", "tool_calls", "audio"])
async def test_any_member_of_a_delta_but_its_role_commits(bearing: str) -> None:
    """After a delta that says anything, the stream is the caller's: a break then is told, never failed over."""
    go_on = asyncio.Event()
    value: Any = [{"index": 0, "function": {"name": "f"}}] if bearing == "tool_calls" else "x"
    frame = sse({"id": "c", "model": "m", "choices": [{"index": 0, "delta": {bearing: value}, "finish_reason": None}]})
    async with FakeUpstream() as first, FakeUpstream() as second:
        first.then(FakeAnswer.stream([role(), frame, go_on], ending="reset"))
        async with gateway_over({FIRST: first, SECOND: second}) as (app, _gateway):
            caller = Caller(app, payload(stream=True))
            async with asyncio.timeout(LIMIT):
                answering = caller.start()
                await caller.content.wait()
                go_on.set()
                answer = told(await answering)
        assert second.requests == []
    assert [error["code"] for error in answer.errors] == ["upstream_stream_cut"]


async def test_a_slow_caller_holds_neither_lease_nor_slot_once_the_upstream_has_ended() -> None:
    """While the caller is still reading the end, the region's one lease and its connection serve the next request."""
    async with FakeUpstream(text="Hello there") as first:
        table = {"base_url": first.base_url, "limits": {"max_in_flight": 1}}
        async with gateway_over({FIRST: table}) as (app, gateway):
            slow = _SlowCaller(app)
            async with asyncio.timeout(LIMIT):
                answering = slow.start()
                await slow.at_the_end.wait()
                assert (gateway.fleet.in_flight, busy_connections(gateway)) == (0, [])
                assert told(await asgi_exchange(app, json=payload(stream=True))).complete
                slow.reads_on.set()
                assert told(await answering).complete


class _SlowCaller(Caller):
    """Stops reading when the finish chunk comes."""

    def __init__(self, app: Any) -> None:
        super().__init__(app, payload(stream=True))
        self.at_the_end = asyncio.Event()
        self.reads_on = asyncio.Event()

    async def _send(self, message: Any) -> None:
        if b"routing_trace" in message.get("body", b""):
            self.at_the_end.set()
            await self.reads_on.wait()
        await super()._send(message)


@pytest.fixture
async def choosing() -> AsyncIterator[tuple[FakeUpstream, Any, Gateway]]:
    async with FakeUpstream() as first, FakeUpstream() as second, gateway_over({FIRST: first, SECOND: second}) as made:
        yield first, *made


@pytest.mark.parametrize(("reasons", "complete"), [((0, 1), True), ((0,), False), ((1,), False)])
async def test_of_several_choices_each_needs_its_finish_reason(
    choosing: tuple[FakeUpstream, Any, Gateway], reasons: tuple[int, ...], complete: bool
) -> None:
    """With n = 2 an end before both choices have finished is a cut, `[DONE]` or not."""
    first, app, gateway = choosing
    deltas: list[tuple[int, dict[str, str], str | None]] = [(index, {"content": "x"}, None) for index in (0, 1)]
    deltas += [(index, {}, "stop") for index in reasons]
    frames = [
        sse({"id": "c", "model": "m", "choices": [{"index": index, "delta": delta, "finish_reason": reason}]})
        for index, delta, reason in deltas
    ]
    go_on = asyncio.Event()
    first.then(FakeAnswer.stream([frames[0], go_on, *frames[1:], DONE]))
    caller = Caller(app, payload(stream=True, n=2))
    async with asyncio.timeout(LIMIT):
        answering = caller.start()
        await caller.content.wait()
        go_on.set()
        answer = told(await answering)
    assert _ended_well(answer) is complete
    assert answer.attempts == [(FIRST, "success" if complete else "upstream_cut", 200)]
    assert await resting(gateway)


def _ended_well(answer: Told) -> bool:
    assert answer.complete is not bool(answer.errors)
    return answer.complete
