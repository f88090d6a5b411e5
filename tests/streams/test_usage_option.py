"""`stream_options.include_usage` that we add: taken back where an upstream refuses it, and never a silent zero."""

from __future__ import annotations

import pytest

from streams.wall import FIRST, SECOND, Told, gateway_over, payload, told
from vetted_mw.testing import FakeAnswer, FakeUpstream, asgi_exchange, chat_frames

pytestmark = pytest.mark.anyio

REFUSED = {"error": {"message": "Unexpected fields: stream_options", "type": "invalid_request_error"}}


def _asked(upstream: FakeUpstream) -> list[bool]:
    """Whether each request asked for usage."""
    return [bool((one.json().get("stream_options") or {}).get("include_usage")) for one in upstream.requests]


@pytest.mark.parametrize("status", [400, 422])
async def test_an_option_of_ours_that_is_refused_is_left_out_and_the_refusal_remembered(status: int) -> None:
    """The same region gets the request once more without it: one attempt, an estimated receipt, and no second refusal."""
    async with FakeUpstream() as first, FakeUpstream() as second:
        first.then(FakeAnswer.json(REFUSED, status=status))
        async with gateway_over({FIRST: first, SECOND: second}, limits={"attempts": 1}) as (app, _gateway):
            answers = [told(await asgi_exchange(app, json=payload(stream=True))) for _ in range(2)]
        assert _asked(first) == [True, False, False]
        assert [len(one.body) for one in first.requests[1:]] == [len(first.requests[1].body)] * 2
        assert second.requests == []
    for answer in answers:
        assert answer.complete
        assert answer.attempts == [(FIRST, "success", 200)]
        assert answer.headers["x-vetted-attempts"] == "1"
        _is_estimated(answer)


def _is_estimated(answer: Told) -> None:
    assert answer.receipt is not None
    assert (answer.receipt["usage_source"], answer.receipt["tier"]) == ("estimated", "proxy")
    assert answer.receipt["completion_tokens"] > 0


async def test_without_the_option_the_refusal_stands_and_nothing_is_remembered() -> None:
    """A request that is refused either way is the caller's fault: the second answer is told, and the option stays."""
    async with FakeUpstream() as first, gateway_over({FIRST: first}) as (app, gateway):
        first.then(FakeAnswer.json(REFUSED, status=400))
        first.then(FakeAnswer.json({"error": {"message": "messages is empty"}}, status=400))
        answer = told(await asgi_exchange(app, json=payload(stream=True)))
        assert _asked(first) == [True, False]
        assert gateway.fleet.takes_usage_option(FIRST)
    assert (answer.status, answer.errors[0]["message"]) == (400, "messages is empty")
    assert answer.attempts == [(FIRST, "caller_error", 400)]


async def test_a_failure_of_the_repeated_request_fails_over() -> None:
    """Where the request without the option fails as an upstream does, the next region gets it."""
    async with FakeUpstream() as first, FakeUpstream() as second:
        first.then(FakeAnswer.json(REFUSED, status=400), FakeAnswer.json({}, status=500))
        async with gateway_over({FIRST: first, SECOND: second}) as (app, gateway):
            answer = told(await asgi_exchange(app, json=payload(stream=True)))
            assert gateway.fleet.takes_usage_option(FIRST)
    assert answer.attempts == [(FIRST, "upstream_error", 500), (SECOND, "success", 200)]


async def test_an_option_the_caller_set_is_not_ours_to_take_back() -> None:
    """A caller that asked for usage itself gets the upstream's refusal, after one request."""
    asked = payload(stream=True, stream_options={"include_usage": True})
    async with FakeUpstream() as first, gateway_over({FIRST: first}) as (app, _gateway):
        first.then(FakeAnswer.json(REFUSED, status=400))
        answer = told(await asgi_exchange(app, json=asked))
        assert _asked(first) == [True]
    assert (answer.status, answer.errors[0]["message"]) == (400, REFUSED["error"]["message"])


@pytest.mark.parametrize(("setting", "asks"), [("auto", True), ("supported", True), ("rejected", False)])
async def test_the_setting_says_whether_the_option_is_added(setting: str, asks: bool) -> None:
    """`stream_usage = "rejected"` never adds it; the receipt then says that tokens are estimated."""
    async with FakeUpstream() as first:
        table = {"base_url": first.base_url, "stream_usage": setting}
        async with gateway_over({FIRST: table}) as (app, _gateway):
            answer = told(await asgi_exchange(app, json=payload(stream=True)))
        assert _asked(first) == [asks]
    assert answer.receipt is not None
    assert answer.receipt["usage_source"] == ("upstream" if asks else "estimated")


async def test_the_usage_chunk_we_asked_for_stays_with_us_and_one_the_caller_asked_for_is_passed_on() -> None:
    """A caller sees the usage chunk only if it asked for it; the receipt counts by it either way."""
    async with FakeUpstream(usage=(11, 7)) as first, gateway_over({FIRST: first}) as (app, _gateway):
        unasked = told(await asgi_exchange(app, json=payload(stream=True)))
        asked = told(await asgi_exchange(app, json=payload(stream=True, stream_options={"include_usage": True})))
    for answer, seen in ((unasked, []), (asked, [{"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}])):
        usages = [frame["usage"] for frame in answer.frames if isinstance(frame, dict) and frame.get("usage")]
        assert usages == seen
        assert answer.receipt is not None
        assert (answer.receipt["prompt_tokens"], answer.receipt["completion_tokens"]) == (11, 7)


async def test_a_stream_without_usage_is_estimated_never_zero() -> None:
    """An upstream that ignores the option leaves a receipt that says so."""
    async with FakeUpstream() as first, gateway_over({FIRST: first}) as (app, _gateway):
        first.then(FakeAnswer.stream(chat_frames(words=["Bonjour", " à", " tous"], usage=None)))
        _is_estimated(told(await asgi_exchange(app, json=payload(stream=True))))
