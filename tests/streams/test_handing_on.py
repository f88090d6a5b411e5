"""Parts of a running stream are handed on as they come: only what the upstream takes its time for counts against it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from streams.wall import FIRST, content, finish, gateway_over, payload, role
from vetted_mw.testing import FakeAnswer, FakeUpstream

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Message

pytestmark = pytest.mark.anyio

IDLE = 0.15
"""Seconds an upstream may be silent, in this file."""
WORDS = [f"word{number} " for number in range(8)]


async def answered(parts: list[bytes | float], *, slow: Callable[[bytes], bool]) -> bytes:
    """Return what a caller got who takes three times as long as an upstream may, for each part that is `slow`."""
    waiting = [msgspec.json.encode(payload(stream=True))]
    got: list[bytes] = []

    async def receive() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        body = message.get("body", b"")
        got.append(body)
        if slow(body):
            await asyncio.sleep(3 * IDLE)

    scope: dict[str, Any] = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": []}
    async with FakeUpstream() as first:
        first.then(FakeAnswer.stream(parts))
        table = {"base_url": first.base_url, "limits": {"idle_seconds": IDLE}}
        async with gateway_over({FIRST: table}) as (app, _gateway):
            await app(scope, receive, send)
    return b"".join(got)


async def test_a_caller_who_takes_his_time_does_not_make_the_upstream_late() -> None:
    """Nothing is lost, and the answer ends well, though one part took longer than the upstream may be silent."""
    parts: list[bytes | float] = [
        role(),
        *(one for word in WORDS for one in (content(word), 0.01)),
        finish(),
        b"data: [DONE]\n\n",
    ]
    out = await answered(parts, slow=lambda body: b"word3" in body or b"word5" in body)
    assert all(word.encode() in out for word in WORDS)
    assert out.endswith(b"data: [DONE]\n\n")


async def test_an_upstream_that_falls_silent_after_that_is_late_all_the_same() -> None:
    """The limit that slept while the caller took his time is awake for the next wait."""
    parts: list[bytes | float] = [
        role(),
        *(content(word) for word in WORDS[:3]),
        0.01,
        content("word3 "),
        60.0,
        content("late"),
    ]
    out = await answered(parts, slow=lambda body: b"word3" in body)
    assert b"word3" in out
    assert b"late" not in out
    assert b"upstream_timeout" in out
    assert b"[DONE]" not in out
