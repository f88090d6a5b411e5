"""What httpcore would log of an exchange with an upstream: an echoed request id, a cookie, the bytes of a broken answer."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

import httpx
import pytest

from support import HELLO, proxied
from vetted_mw.proxy.doors import DOORS
from vetted_mw.testing import FakeAnswer, FakeUpstream, asgi_exchange, chat_completion

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.anyio

CANARY = "canary"
JSON = ("content-type", "application/json")
SSE = (("content-type", "text/event-stream"), ("transfer-encoding", "chunked"))


@contextlib.contextmanager
def lines_heard() -> Iterator[list[str]]:
    """Keep what any logger says, at every level."""
    heard: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(f"{record.name} {record.getMessage()} {vars(record)}")  # type: ignore[method-assign]
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield heard
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


ANSWERS = {
    "echoed headers": FakeAnswer(
        headers=(JSON, ("x-request-id", CANARY), ("set-cookie", CANARY)), body=(chat_completion(),)
    ),
    "a redirect": FakeAnswer(status=302, headers=(("location", f"http://h/?{CANARY}"),), body=(b"",)),
    "broken framing": FakeAnswer(headers=SSE, body=(f"data: {CANARY}\r\n".encode(),)),
}


@pytest.mark.parametrize("transport", sorted(DOORS))
@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
async def test_no_header_and_no_byte_of_an_upstreams_answer_is_logged(answer: FakeAnswer, transport: str) -> None:
    """At DEBUG on every logger: httpcore shows them unless told to look away."""
    with lines_heard() as heard:
        async with FakeUpstream() as paris, proxied({"scaleway-par-1": paris.base_url}, transport=transport) as app:
            paris.then(answer)
            body = {"model": "m", "messages": HELLO, "stream": answer is ANSWERS["broken framing"]}
            await asgi_exchange(app, json=body, headers=[("x-request-id", CANARY)])
            assert len(paris.requests) == 1
    assert [line for line in heard if CANARY in line] == []
    assert heard


@pytest.mark.parametrize("transport", sorted(DOORS))
async def test_what_others_send_is_logged_as_before(transport: str) -> None:
    """Only our own requests are hushed: an application's httpx in the same task keeps its lines."""
    with lines_heard() as heard:
        async with FakeUpstream() as paris, proxied({"scaleway-par-1": paris.base_url}, transport=transport) as app:
            await asgi_exchange(app, json={"model": "m", "messages": HELLO})
            async with httpx.AsyncClient(trust_env=False) as client:
                await client.post(f"{paris.base_url}/chat/completions", json={"model": "m", "messages": HELLO})
    assert any(line.startswith("httpcore.http11 receive_response_headers.complete") for line in heard)
