"""How far a request walks: the attempt budget, the time budget, refused leases, and when a retry can help."""

from __future__ import annotations

import asyncio
import gzip
import math
from typing import TYPE_CHECKING, Any

import pytest

from streams.wall import (
    FIRST,
    LIMIT,
    SECOND,
    Caller,
    RawUpstream,
    busy_connections,
    content,
    gateway_over,
    payload,
    resting,
    role,
    told,
    until,
)
from vetted_mw.testing import FakeAnswer, FakeUpstream, ManualClock, asgi_exchange, chat_completion, chat_frames

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vetted_mw import Gateway

pytestmark = pytest.mark.anyio

THIRD, FOURTH = "scaleway-par-2", "ovh-rbx-1"
BROKEN = FakeAnswer.json({"error": {"message": "broken"}}, status=500)


def _full(seconds: str | None = None) -> FakeAnswer:
    headers = [] if seconds is None else [("Retry-After", seconds)]
    return FakeAnswer.json({"error": {"message": "busy"}}, status=429, headers=headers)


@pytest.mark.parametrize("budget", [1, 2, 3])
async def test_no_more_requests_are_sent_than_the_budget_allows(budget: int) -> None:
    """With `attempts = n` the walk stops after n requests, however many regions are left."""
    async with FakeUpstream() as a, FakeUpstream() as b, FakeUpstream() as c, FakeUpstream() as d:
        upstreams = {FIRST: a, SECOND: b, THIRD: c, FOURTH: d}
        for upstream in upstreams.values():
            upstream.then(BROKEN)
        async with gateway_over(upstreams, limits={"attempts": budget}) as (app, _gateway):
            answer = told(await asgi_exchange(app, json=payload()))
        assert [len(upstream.requests) for upstream in upstreams.values()] == [1] * budget + [0] * (4 - budget)
    assert (answer.status, answer.errors[0]["code"]) == (502, "upstream_error")
    assert (len(answer.attempts), answer.headers["x-vetted-attempts"]) == (budget, str(budget))


@pytest.mark.parametrize("stream", [False, True], ids=["json", "sse"])
async def test_when_the_time_of_the_whole_request_is_over_no_other_region_is_tried(stream: bool) -> None:
    """`total_seconds` ends the walk: 504, and the next region is left alone."""
    async with RawUpstream(ending="stall") as first, FakeUpstream() as second:
        async with gateway_over({FIRST: first, SECOND: second}, limits={"total_seconds": 0.4}) as (app, gateway):
            async with asyncio.timeout(LIMIT):
                answer = told(await asgi_exchange(app, json=payload(stream=stream)))
            assert (gateway.fleet.in_flight, busy_connections(gateway)) == (0, [])
        assert second.requests == []
    assert (answer.status, answer.errors[0]["code"]) == (504, "upstream_timeout")
    assert [region for region, _outcome, _status in answer.attempts] == [FIRST]


async def test_an_attempt_given_up_after_it_was_sent_tells_its_energy_and_one_never_sent_tells_none() -> None:
    """`estimated_energy_wh` stands at an attempt that timed out after it was sent, and at no other."""
    async with RawUpstream(ending="stall") as first, FakeUpstream() as second, FakeUpstream() as third:
        second.then(BROKEN)
        tables: dict[str, Any] = {
            FIRST: {"base_url": first.base_url, "limits": {"answer_seconds": 0.4}},
            SECOND: second,
            THIRD: third,
        }
        sizes = {"m": {"active_params_b": 8.0, "total_params_b": 8.0, "bytes_per_param": 2.0}}
        async with gateway_over(tables, models=sizes) as (app, _gateway):
            answer = told(await asgi_exchange(app, json=payload()))
    energies = [attempt.get("estimated_energy_wh") for attempt in answer.trace["attempts"]]
    assert energies[0] > 0
    assert energies[1:] == [None, None]


async def _at_the_cap(app: Any, gateway: Gateway) -> tuple[Caller, asyncio.Task[Any]]:
    caller = Caller(app, payload(stream=True, vetted={"region": FIRST}))
    answering = caller.start()
    await caller.content.wait()
    state = gateway.fleet.state(FIRST)
    assert state is not None
    assert (state.in_flight, state.saturated) == (1, True)
    return caller, answering


def _capped(upstream: FakeUpstream) -> Mapping[str, Any]:
    return {"base_url": upstream.base_url, "limits": {"max_in_flight": 1}}


async def test_a_full_region_is_not_asked() -> None:
    """A region at its cap is rejected as saturated when the decision is made, and serves again once a lease is back."""
    go_on = asyncio.Event()
    async with FakeUpstream() as first, FakeUpstream() as second, asyncio.timeout(LIMIT):
        first.then(FakeAnswer.stream([role(), content(), go_on]))
        async with gateway_over({FIRST: _capped(first), SECOND: second}) as (app, gateway):
            _caller, answering = await _at_the_cap(app, gateway)
            answer = told(await asgi_exchange(app, json=payload()))
            assert answer.attempts == [(SECOND, "success", 200)]
            assert answer.trace["decision_reason"] == "preferred_saturated"
            pinned = told(await asgi_exchange(app, json=payload(vetted={"region": FIRST})))
            assert (pinned.status, pinned.attempts) == (503, [])
            go_on.set()
            await answering
            assert await resting(gateway)
            assert told(await asgi_exchange(app, json=payload())).attempts == [(FIRST, "success", 200)]


async def test_a_lease_refused_after_the_decision_is_told_sends_nothing_and_uses_no_budget() -> None:
    """A region that fills up while the request is failing elsewhere is `not_admitted`, and the next one serves."""
    held = asyncio.Event()
    async with FakeUpstream() as first, FakeUpstream() as second, FakeUpstream() as third, asyncio.timeout(LIMIT):
        first.then(FakeAnswer(body=[asyncio.Event()], chunked=True))
        third.then(FakeAnswer(body=[held, b"<html>"], chunked=True))
        tables: dict[str, Any] = {THIRD: third, FIRST: _capped(first), SECOND: second}
        async with gateway_over(tables, limits={"attempts": 2}) as (app, gateway):
            answering = Caller(app, payload()).start()
            await until(lambda: third.requests)
            filling = Caller(app, payload(vetted={"region": FIRST}))
            filled = filling.start()
            await until(lambda: first.requests)
            held.set()
            answer = told(await answering)
            filling.leave()
            await filled
            assert await resting(gateway)
        assert (len(third.requests), len(first.requests), len(second.requests)) == (1, 1, 1)
    assert answer.attempts == [
        (THIRD, "invalid_response", 200),
        (FIRST, "not_admitted", None),
        (SECOND, "success", 200),
    ]
    assert answer.headers["x-vetted-attempts"] == "2"
    assert (answer.status, answer.trace["decision_reason"]) == (200, "attempt_failed")


@pytest.mark.parametrize(
    ("seconds", "told_wait"), [("7", 7), ("2.5", 3), ("0", 1), ("-3", 1), ("100000", 3600)], ids=str
)
async def test_our_own_429_says_when_the_soonest_region_may_serve(seconds: str, told_wait: int) -> None:
    """`Retry-After` of our 429 is the upstream's, whole seconds of at least one and at most an hour."""
    async with FakeUpstream() as first, FakeUpstream() as second:
        first.then(_full("9000"))
        second.then(_full(seconds))
        async with gateway_over({FIRST: first, SECOND: second}) as (app, _gateway):
            answer = told(await asgi_exchange(app, json=payload()))
    assert (answer.status, answer.errors[0]["code"]) == (429, "all_regions_saturated")
    assert int(answer.headers["retry-after"]) == told_wait
    assert "x-should-retry" not in answer.headers


async def test_a_pinned_503_carries_the_wait_and_asks_for_no_retry() -> None:
    """A pinned region that asked for time: 503 with its `Retry-After`, and `x-should-retry: false`."""
    async with FakeUpstream() as first, gateway_over({FIRST: first}) as (app, _gateway):
        first.then(_full("7"))
        answer = told(await asgi_exchange(app, json=payload(vetted={"region": FIRST})))
    assert (answer.status, answer.headers["retry-after"]) == (503, "7")
    assert answer.headers["x-should-retry"] == "false"


async def test_inside_the_window_nothing_is_sent_and_after_it_the_region_serves_again() -> None:
    """A `Retry-After` keeps requests away for its seconds; the next 429 of ours counts down with it."""
    clock = ManualClock()
    options = {"now": clock.now, "monotonic": clock.monotonic, "jitter": lambda: 0.0}
    async with FakeUpstream() as first, gateway_over({FIRST: first}, options=options) as (app, _gateway):
        first.then(_full("30"))
        await asgi_exchange(app, json=payload())
        clock.tick(10)
        within = told(await asgi_exchange(app, json=payload()))
        assert (within.status, within.headers["retry-after"], within.attempts) == (429, "20", [])
        assert len(first.requests) == 1
        clock.tick(20)
        assert told(await asgi_exchange(app, json=payload())).attempts == [(FIRST, "success", 200)]


async def test_where_all_are_full_the_caller_is_told_when_the_first_may_serve_again() -> None:
    """Whether a region was asked just now or passed over because of its window: the soonest of them is what helps."""
    clock = ManualClock()
    options = {"now": clock.now, "monotonic": clock.monotonic, "jitter": lambda: 0.0}
    async with (
        FakeUpstream() as first,
        FakeUpstream() as second,
        gateway_over({FIRST: first, SECOND: second}, options=options) as (app, _gateway),
    ):
        first.then(_full("5"))
        second.then(_full("60"))
        both_asked = told(await asgi_exchange(app, json=payload()))
        clock.tick(10)
        first.then(_full("90"))
        one_passed_over = told(await asgi_exchange(app, json=payload()))
    assert [both_asked.status, one_passed_over.status] == [429, 429]
    assert [len(both_asked.attempts), len(one_passed_over.attempts)] == [2, 1]
    assert [both_asked.headers["retry-after"], one_passed_over.headers["retry-after"]] == ["5", "50"]


async def test_a_region_that_keeps_failing_is_left_alone_and_comes_back_on_evidence() -> None:
    """After a row of faults the breaker opens: no request is sent; then one at a time is let through until one succeeds."""
    clock = ManualClock()
    options = {"now": clock.now, "monotonic": clock.monotonic, "jitter": lambda: 0.0}
    async with FakeUpstream() as first, gateway_over({FIRST: first}, options=options) as (app, gateway):
        first.then(*[BROKEN] * 50)
        statuses = [told(await asgi_exchange(app, json=payload())).status for _ in range(20)]
        sent = len(first.requests)
        assert statuses == [502] * sent + [503] * (20 - sent)
        assert 2 <= sent < 20
        refused = told(await asgi_exchange(app, json=payload()))
        assert (refused.errors[0]["code"], refused.attempts) == ("no_region_available", [])
        state = gateway.fleet.state(FIRST)
        assert state is not None
        assert state.retry_after is not None
        assert refused.headers["retry-after"] == str(math.ceil(state.retry_after))
        clock.tick(state.retry_after)
        assert told(await asgi_exchange(app, json=payload())).status == 502
        assert len(first.requests) == sent + 1
        first._script.clear()
        state = gateway.fleet.state(FIRST)
        assert state is not None
        assert state.retry_after is not None
        clock.tick(state.retry_after)
        assert told(await asgi_exchange(app, json=payload())).status == 200
        assert told(await asgi_exchange(app, json=payload())).status == 200


async def test_an_answer_in_gzip_that_nobody_asked_for_is_undone() -> None:
    """An upstream that encodes although identity was asked still serves, JSON and stream, and the caller gets it plain."""
    packed = [("content-encoding", "gzip")]
    async with FakeUpstream() as first, gateway_over({FIRST: first}) as (app, _gateway):
        first.then(FakeAnswer.json(gzip.compress(chat_completion(text="Hello")), headers=packed))
        first.then(FakeAnswer.stream([gzip.compress(b"".join(chat_frames()))], headers=packed))
        for stream in (False, True):
            answer = told(await asgi_exchange(app, json=payload(stream=stream)))
            assert (answer.text, answer.complete) == ("Hello", True)
            assert "content-encoding" not in answer.headers
        assert [one.header("accept-encoding") for one in first.requests] == ["identity", "identity"]
