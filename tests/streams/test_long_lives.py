"""What a stream that may last for minutes still holds once it runs."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from streams.wall import FIRST, content, finish, gateway_over, payload, role
from vetted_mw.proxy.streamed import StreamedAnswer
from vetted_mw.testing import FakeAnswer, FakeUpstream

if TYPE_CHECKING:
    from starlette.types import Message

    from vetted_mw.proxy.headers import Headers

pytestmark = pytest.mark.anyio

ENERGY = ("x-energy-joules", "180")
MEASURED = {"receipts": {"measured_energy": {"header": ENERGY[0], "unit": "J", "scope": "gpu"}}}


async def held_while_it_runs(**settings: Any) -> list[Headers]:
    """Return the headers that each stream holds when its second part goes to the caller, as it and its answer have."""
    held: list[Headers] = []
    others = _streams()
    waiting = [msgspec.json.encode(payload(stream=True))]

    async def receive() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        if b"two-of-two" in message.get("body", b""):
            for one in _streams():
                if not any(one is earlier for earlier in others):
                    held.extend((one.headers, one._response.headers))

    scope: dict[str, Any] = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": []}
    parts: list[bytes | float | asyncio.Event] = [
        role(),
        content("first"),
        0.05,
        content("two-of-two"),
        0.05,
        finish(),
        b"data: [DONE]\n\n",
    ]
    answer = FakeAnswer.stream(parts, headers=(ENERGY, *((f"x-{number}", "y") for number in range(30))))
    async with FakeUpstream().then(answer) as first, gateway_over({FIRST: {"base_url": first.base_url}}, **settings) as (app, _):  # fmt: skip
        await app(scope, receive, send)
    return held


def _streams() -> list[StreamedAnswer]:
    """Return all there are, those that an earlier test's error still holds among them."""
    return [one for one in gc.get_objects() if isinstance(one, StreamedAnswer)]


async def test_the_head_of_an_answer_is_let_go_of() -> None:
    """An upstream may send thirty headers, and no stream holds them for as long as it lasts."""
    assert await held_while_it_runs() == [[], []]


async def test_but_not_the_header_that_tells_what_it_took() -> None:
    """It is read when the receipt is made, at the end."""
    kept = [(ENERGY[0].encode(), ENERGY[1].encode())]
    assert await held_while_it_runs(**MEASURED) == [kept, kept]
