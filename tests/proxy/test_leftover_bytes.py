"""Bytes that an upstream sends beyond its answer never become the answer of the next request on that connection."""

from __future__ import annotations

import pytest

from support import HELLO, proxied
from vetted_mw.proxy.doors import DOORS
from vetted_mw.testing import FakeAnswer, FakeUpstream, asgi_exchange, chat_completion, chat_frames

pytestmark = pytest.mark.anyio

OTHERS = chat_completion(text="somebody else's")
GLUED = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(OTHERS), OTHERS)
MINE = chat_completion(text="mine")
JSON = ("content-type", "application/json")


def _too_much() -> list[FakeAnswer]:
    frames = b"".join(b"%x\r\n%s\r\n" % (len(frame), frame) for frame in chat_frames()) + b"0\r\n\r\n"
    sse = (("content-type", "text/event-stream"), ("transfer-encoding", "chunked"))
    return [
        FakeAnswer(headers=(JSON, ("content-length", str(len(MINE)))), body=(MINE + GLUED,)),
        FakeAnswer(headers=(JSON, ("content-length", str(len(MINE) - 10))), body=(MINE,)),
        FakeAnswer(headers=sse, body=(frames + GLUED,)),
    ]


@pytest.mark.parametrize("transport", sorted(DOORS))
@pytest.mark.parametrize("answer", _too_much(), ids=["glued to json", "length too short", "glued to a stream"])
async def test_what_follows_an_answer_is_nobodys_answer(answer: FakeAnswer, transport: str) -> None:
    """The connection is given up, and the next caller gets what the upstream answers to its own request."""
    streams = any(value == "text/event-stream" for _name, value in answer.headers)
    async with (
        FakeUpstream(text="yours") as paris,
        proxied({"scaleway-par-1": paris.base_url}, transport=transport) as app,
    ):
        paris.then(answer)
        await asgi_exchange(app, json={"model": "m", "messages": HELLO, "stream": streams})
        told = (await asgi_exchange(app, json={"model": "m", "messages": HELLO})).json()
    assert told["choices"][0]["message"]["content"] == "yours"
    assert [attempt["outcome"] for attempt in told["routing_trace"]["attempts"]] == ["success"]
    assert len(paris.requests) == 2


@pytest.mark.parametrize("transport", sorted(DOORS))
async def test_a_clean_connection_is_used_again(transport: str) -> None:
    """Giving connections up is for the unclean ones: JSON and streams keep theirs."""
    async with FakeUpstream() as paris, proxied({"scaleway-par-1": paris.base_url}, transport=transport) as app:
        for stream in (False, True, False, True):
            await asgi_exchange(app, json={"model": "m", "messages": HELLO, "stream": stream})
        assert paris.open_connections == 1


async def test_what_a_broken_stream_used_is_counted_once() -> None:
    """The receipt on the error frame has it; the attempt of the same region does not say it again."""
    cut = FakeAnswer.stream(chat_frames()[:2], ending="reset")
    async with FakeUpstream() as paris, proxied({"scaleway-par-1": paris.base_url}) as app:
        paris.then(cut)
        exchange = await asgi_exchange(app, json={"model": "demo-8b", "messages": HELLO, "stream": True})
    assert b'"receipt":{' in exchange.body
    assert b"estimated_energy_wh" not in exchange.body
