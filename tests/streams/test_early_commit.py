"""`commit_after_seconds` and `sse_keepalive_seconds`: a caller who waits is told so, and what follows stays honest."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

import pytest

from streams.wall import (
    FIRST,
    SECOND,
    Caller,
    RawUpstream,
    busy_connections,
    content,
    finish,
    gateway_over,
    nowhere,
    payload,
    resting,
    role,
    told,
    until,
)
from vetted_mw.completion.delivery import Delivery
from vetted_mw.proxy.streamed import StreamedAnswer
from vetted_mw.testing import FakeAnswer, FakeUpstream, asgi_exchange

if TYPE_CHECKING:
    from starlette.types import Message

pytestmark = pytest.mark.anyio

PATH = "/v1/chat/completions"
DONE = b"data: [DONE]\n\n"
SOON = {"commit_after_seconds": 0.05}
LIVELY = {"sse_keepalive_seconds": 0.1}
ERROR = {"error": {"message": "broken", "type": "server_error", "code": None}}


class Watched(Caller):
    """A caller that says when the answer has begun, and how often it was told that all is well."""

    def __init__(self, app: Any, body: dict[str, Any]) -> None:
        super().__init__(app, body)
        self.begun = asyncio.Event()

    async def _send(self, message: Message) -> None:
        await super()._send(message)
        self.begun.set()

    @property
    def pings(self) -> int:
        """Comments it got."""
        return b"".join(message.get("body", b"") for message in self.sent).count(b": ping\n\n")


async def test_the_answer_begins_before_its_content() -> None:
    """After `commit_after_seconds` status and headers go out for the attempt in flight; its content follows."""
    go_on = asyncio.Event()
    async with FakeUpstream() as one, FakeUpstream() as two:
        one.then(FakeAnswer.stream([go_on, role(), content("Hello"), finish(), DONE]))
        async with gateway_over({FIRST: one, SECOND: two}, limits=SOON) as (app, gateway):
            caller = Watched(app, payload(stream=True))
            answering = caller.start()
            await caller.begun.wait()
            assert [message["type"] for message in caller.sent] == ["http.response.start"]
            go_on.set()
            answer = told(await answering)
            assert await resting(gateway)
    assert (answer.status, answer.text, answer.complete, answer.errors) == (200, "Hello", True, [])
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-vetted-region"] == answer.trace["region"] == FIRST
    assert "x-vetted-receipt-id" not in answer.headers
    assert answer.receipt is not None
    assert answer.attempts == [(FIRST, "success", 200)]


async def test_a_stream_that_is_soon_enough_is_as_ever() -> None:
    """Content before the limit: the upstream's own headers, and a receipt id among them."""
    async with FakeUpstream() as one:
        one.then(FakeAnswer.stream([role(), content("Hello"), finish(), DONE], headers=(("x-own", "1"),)))
        async with gateway_over({FIRST: one}, limits={"commit_after_seconds": 20}) as (app, _gateway):
            answer = told(await asgi_exchange(app, json=payload(stream=True)))
    assert (answer.headers["x-own"], answer.complete) == ("1", True)
    assert answer.receipt is not None
    assert answer.headers["x-vetted-receipt-id"] == answer.receipt["query_id"]


async def test_a_failure_before_the_limit_still_fails_over() -> None:
    """Until the answer has begun the next region is tried."""
    async with FakeUpstream() as one, FakeUpstream(text="two") as two:
        one.then(FakeAnswer(status=500))
        async with gateway_over({FIRST: one, SECOND: two}, limits={"commit_after_seconds": 20}) as (app, _gateway):
            answer = told(await asgi_exchange(app, json=payload(stream=True)))
    assert answer.attempts == [(FIRST, "upstream_error", 500), (SECOND, "success", 200)]


@pytest.mark.parametrize(
    ("late", "outcome", "code"),
    [
        (FakeAnswer(status=500, delay=0.5), "upstream_error", "upstream_error"),
        (FakeAnswer(status=429, delay=0.5), "saturated", "upstream_error"),
        (FakeAnswer.stream([0.5, role()], ending="cut"), "upstream_cut", "upstream_stream_cut"),
        (FakeAnswer.stream([role()], ending="stall"), "first_byte_timeout", "upstream_timeout"),
    ],
    ids=["500", "429", "cut", "stall"],
)
async def test_a_failure_after_it_ends_the_stream_honestly(late: FakeAnswer, outcome: str, code: str) -> None:
    """Once the answer has begun no other region is tried: one error event without choices, no `[DONE]`, the truth."""
    async with FakeUpstream() as one, FakeUpstream() as two:
        one.then(late)
        limits = SOON | {"first_byte_seconds": 1.5}
        async with gateway_over({FIRST: one, SECOND: two}, limits=limits) as (app, gateway):
            answer = told(await asgi_exchange(app, json=payload(stream=True)))
            assert await resting(gateway)
    assert (answer.status, answer.complete, len(answer.errors)) == (200, False, 1)
    assert answer.errors[0]["code"] == code
    assert [(region, word) for region, word, _ in answer.attempts] == [(FIRST, outcome)]
    assert answer.trace["region"] == FIRST
    assert answer.receipt is None
    assert answer.trace["receipt_error"] == "no_observed_call"
    assert two.requests == []


async def test_what_a_refused_request_is_told_after_it() -> None:
    """The upstream's own 4xx comes as the error event: its message and code, as it would have come as a status."""
    refusal = {"error": {"message": "too long", "type": "invalid_request_error", "code": "context_length_exceeded"}}
    async with FakeUpstream() as one:
        late = FakeAnswer.json(refusal, status=400)
        one.then(FakeAnswer(status=late.status, headers=late.headers, body=late.body, delay=0.5))
        async with gateway_over({FIRST: one}, limits=SOON) as (app, _gateway):
            answer = told(await asgi_exchange(app, json=payload(stream=True, stream_options={"include_usage": True})))
    assert [error["code"] for error in answer.errors] == ["context_length_exceeded"]
    assert answer.attempts == [(FIRST, "caller_error", 400)]
    assert answer.complete is False


async def test_an_attempt_still_connecting_can_be_committed_to() -> None:
    """A TLS handshake that never ends: committed, then an honest timeout, and nothing claims a request was sent."""
    async with RawUpstream(ending="stall", reads=False, scheme="https") as one, FakeUpstream() as two:
        tables: dict[str, Any] = {FIRST: {"base_url": one.base_url, "limits": {"connect_seconds": 1.0}}, SECOND: two}
        async with gateway_over(tables, limits=SOON) as (app, _gateway):
            answer = told(await asgi_exchange(app, json=payload(stream=True)))
    assert (answer.headers["x-vetted-attempts"], answer.errors[0]["code"]) == ("0", "upstream_timeout")
    assert "estimated_energy_wh" not in answer.trace["attempts"][0]
    assert two.requests == []


async def test_nothing_in_flight_means_nothing_to_commit_to() -> None:
    """Every region fails at once: an error with its status, whatever the limit."""
    async with nowhere() as one, gateway_over({FIRST: one}, limits={"commit_after_seconds": 0.001}) as (app, _gateway):
        answer = await asgi_exchange(app, json=payload(stream=True))
    assert answer.status in {200, 502}  # the refusal may come before or after the limit
    assert told(answer).complete is False


async def test_json_answers_know_no_early_commit() -> None:
    """A whole answer has a status of its own: the limit is for streams."""
    async with FakeUpstream() as one, FakeUpstream(text="two") as two:
        one.then(FakeAnswer(status=500, delay=0.3))
        async with gateway_over({FIRST: one, SECOND: two}, limits=SOON) as (app, _gateway):
            answer = told(await asgi_exchange(app, json=payload()))
    assert (answer.status, answer.text) == (200, "two")


# ---- signs of life


async def test_a_waiting_caller_is_kept_company() -> None:
    """Pings flow between commit and content, and between frames; they are comments and change nothing of the answer."""
    first, second = asyncio.Event(), asyncio.Event()
    async with FakeUpstream() as one:
        one.then(FakeAnswer.stream([first, role(), content("Hel"), second, content("lo"), finish(), DONE]))
        async with gateway_over({FIRST: one}, limits=SOON | LIVELY) as (app, gateway):
            caller = Watched(app, payload(stream=True))
            answering = caller.start()
            await until(lambda: caller.pings >= 2)
            first.set()
            await until(lambda: any(b"Hel" in message.get("body", b"") for message in caller.sent))
            before = caller.pings
            await until(lambda: caller.pings >= before + 2)
            second.set()
            exchange = await answering
            assert await resting(gateway)
    answer = told(exchange)
    assert (answer.text, answer.complete) == ("Hello", True)
    parts = exchange.body.split(b"\n\n")
    assert parts.count(b": ping") == caller.pings
    assert all(part.startswith(b"data: ") for part in parts if part not in {b": ping", b""})


async def test_no_ping_before_commit() -> None:
    """Without an early commit nothing goes out before the first content, however long it takes."""
    go_on = asyncio.Event()
    async with FakeUpstream() as one:
        one.then(FakeAnswer.stream([role(), go_on, content("Hello"), finish(), DONE]))
        async with gateway_over({FIRST: one}, limits=LIVELY) as (app, _gateway):
            caller = Watched(app, payload(stream=True))
            answering = caller.start()
            await until(lambda: one.requests)
            await asyncio.sleep(0.3)
            assert caller.sent == []
            go_on.set()
            answer = told(await answering)
    assert answer.complete is True


async def test_pings_do_not_keep_a_silent_upstream_alive() -> None:
    """The idle limit is the upstream's: our own comments do not count against it."""
    async with FakeUpstream() as one:
        one.then(FakeAnswer.stream([role(), content("Hel")], ending="stall"))
        async with gateway_over({FIRST: one}, limits=LIVELY | {"idle_seconds": 1.0}) as (app, gateway):
            caller = Watched(app, payload(stream=True))
            answer = told(await caller.exchange())
            assert await resting(gateway)
    assert caller.pings >= 1
    assert [error["code"] for error in answer.errors] == ["upstream_timeout"]


@pytest.mark.parametrize("limits", [SOON, SOON | LIVELY, LIVELY], ids=["committed", "both", "lively"])
@pytest.mark.parametrize("has_content", [False, True])
async def test_a_caller_that_leaves_meanwhile_leaves_nothing_behind(
    limits: dict[str, float], has_content: bool
) -> None:
    """Gone while the opening or a part is awaited: connection closed, lease back, no task left."""
    async with FakeUpstream() as one:
        frames = [role(), content("Hel")] if has_content else [role()]
        one.then(FakeAnswer.stream(frames, ending="stall"))
        async with gateway_over({FIRST: one}, limits=limits) as (app, gateway):
            before = asyncio.all_tasks()
            caller = Watched(app, payload(stream=True))
            answering = caller.start()
            await until(lambda: one.requests)
            if has_content or "commit_after_seconds" in limits:
                await caller.begun.wait()
            if "sse_keepalive_seconds" in limits and caller.begun.is_set():
                await until(lambda: caller.pings)
            caller.leave()
            await answering
            await one.requests[0].left.wait()
            assert await resting(gateway)
            assert busy_connections(gateway) == []
            await until(
                lambda: asyncio.all_tasks() - before <= {task for task in asyncio.all_tasks() if _is_fake(task)}
            )
    assert told_outcomes(gateway) == 0


def told_outcomes(gateway: Any) -> int:
    """Return the leases that are still held."""
    return int(gateway.fleet.in_flight)


def _is_fake(task: asyncio.Task[Any]) -> bool:
    return (
        "FakeUpstream" in repr(task.get_coro()) or "_left" in repr(task.get_coro()) or "_send" in repr(task.get_coro())
    )


# ---- afterwards


@pytest.mark.parametrize("limits", [SOON, LIVELY, SOON | LIVELY], ids=["early", "lively", "both"])
@pytest.mark.parametrize("leaves", [False, True], ids=["cut", "caller gone"])
async def test_nothing_of_a_broken_stream_waits_for_the_collector(limits: dict[str, float], *, leaves: bool) -> None:
    """What waits beside a stream is let go of at its end: its exception holds frames, and with them the whole request.

    `serve` lets the collector look rarely.
    """
    gc.collect()
    gc.disable()
    try:
        async with FakeUpstream() as one:
            is_late = "commit_after_seconds" in limits
            shown: list[bytes | float] = [] if is_late else [role(), content("Hello")]
            one.then(FakeAnswer.stream([*shown, 1.0 if leaves else 0.3], ending="stall" if leaves else "reset"))
            async with gateway_over({FIRST: one}, limits=limits) as (app, gateway):
                caller = Watched(app, payload(stream=True))
                answering = caller.start()
                await caller.begun.wait()
                if leaves:
                    caller.leave()
                await answering
                assert await resting(gateway)
        left = [type(held).__name__ for held in gc.get_objects() if isinstance(held, (Delivery, StreamedAnswer))]
    finally:
        gc.enable()
    assert left == []
