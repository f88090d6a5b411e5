"""A long prompt on a stream: let go of while the answer still runs, and counted all the same."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from streams.wall import FIRST, content, finish, gateway_over, payload, role, told
from vetted_mw.testing import FakeAnswer, FakeUpstream, asgi_exchange

if TYPE_CHECKING:
    from starlette.types import Message

pytestmark = pytest.mark.anyio

PROMPT = "mot " * 25_000
PAUSED = 0.002


def parts(count: int) -> list[bytes | float]:
    """Return the frames of a stream without usage, each for a read of its own."""
    return [role(), *(one for _ in range(count) for one in (content("mot "), PAUSED)), finish(), b"data: [DONE]\n\n"]


async def estimated(count: int) -> dict[str, Any]:
    """Return the receipt of a stream of so many parts."""
    async with FakeUpstream() as first, gateway_over({FIRST: first}) as (app, _gateway):
        first.then(FakeAnswer.stream(parts(count)))
        asked = payload(stream=True, messages=[{"role": "user", "content": PROMPT}])
        receipt = told(await asgi_exchange(app, json=asked)).receipt
    assert receipt is not None
    return receipt


async def test_a_long_stream_estimates_the_prompt_as_a_short_one_does() -> None:
    """Whether the prompt was let go of before its end or not, the receipt counts the same tokens for it."""
    short, long = await estimated(4), await estimated(80)
    assert short["usage_source"] == long["usage_source"] == "estimated"
    assert short["prompt_tokens"] == long["prompt_tokens"] > 5_000


async def test_its_bytes_do_not_live_as_long_as_the_stream() -> None:
    """By the last part nothing of ours holds the body that came in."""
    body = msgspec.json.encode(payload(stream=True, messages=[{"role": "user", "content": PROMPT}]))
    waiting = [body]
    held: list[int] = []

    async def receive() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        if message.get("body"):
            held.append(sys.getrefcount(body))

    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": []}
    async with FakeUpstream() as first, gateway_over({FIRST: first}) as (app, _gateway):
        first.then(FakeAnswer.stream(parts(80)))
        await app(scope, receive, send)
    assert len(held) > 40
    assert held[0] > held[-1]
    assert held[-1] == sys.getrefcount(body)
