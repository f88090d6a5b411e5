"""No content, key or end-user id in any span, whatever was sent and whatever went wrong."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from support import proxied
from telemetry.spans import GRAVELINES, PARIS, upstream
from vetted_mw.testing import FakeAnswer, FakeUpstream, asgi_exchange, chat_completion, sse

if TYPE_CHECKING:
    from pathlib import Path

    from telemetry.spans import Spans

pytestmark = pytest.mark.anyio

CANARY = "canary"
REQUEST: dict[str, Any] = {
    "model": "canary-model-a-caller-wrote",
    "messages": [
        {"role": "system", "content": "canary-system"},
        {"role": "user", "content": [{"type": "text", "text": "canary-prompt"}]},
        {"role": "assistant", "tool_calls": [{"function": {"name": "canary-tool", "arguments": "canary-arguments"}}]},
    ],
    "tools": [{"type": "function", "function": {"name": "canary-definition", "description": "canary-description"}}],
    "stop": ["canary-stop"],
    "user": "canary-user",
    "metadata": {"canary": "canary-metadata"},
    "safety_identifier": "canary-identifier",
}
HEADERS = [
    ("authorization", "Bearer canary-key"),
    ("cookie", "session=canary-cookie"),
    ("user-agent", "canary-agent"),
    ("x-request-id", "canary-request-id"),
    ("baggage", "user=canary-baggage"),
    ("openai-organization", "canary-organization"),
]
SCOPE = {"query_string": b"key=canary-query", "client": ("203.0.113.77", 1)}
SPOKEN: dict[str, Any] = {"text": "canary-completion", "model": "canary-model-an-upstream-wrote"}
FAULT = {"error": {"message": "canary-upstream-error", "type": "canary-type", "code": "canary-code"}}
ANSWERS = {
    "an answer": (FakeAnswer.json(chat_completion(**SPOKEN)),),
    "an answer nobody counted": (FakeAnswer.json(chat_completion(**SPOKEN, usage=None)),),
    "the caller's fault": (FakeAnswer.json(FAULT, status=400),),
    "the upstream's fault": (FakeAnswer.json(FAULT, status=500), FakeAnswer.json(FAULT, status=401)),
    "a page that is no answer": (FakeAnswer.json(b"<html>canary-page", status=200),) * 2,
    "malformed JSON": (FakeAnswer.json(b'{"choices": "canary-malformed', status=200),) * 2,
    "an answer with odd words": (
        FakeAnswer.json(
            {
                "id": "chatcmpl-1",
                "choices": [{"finish_reason": "canary-reason", "message": {"content": "canary-completion"}}],
                "system_fingerprint": "canary-fingerprint",
            },
            headers=[("x-canary", "canary-header")],
        ),
    ),
}
APART = 0.05  # seconds to the next frame: what came in one read with the first content would fail over with it
STREAMS: dict[str, list[bytes | float]] = {
    "a stream": [
        sse({"id": "c", "model": "canary-model", "choices": [{"index": 0, "delta": {"content": "canary-completion"}}]}),
        sse({"choices": [{"index": 0, "delta": {"reasoning": "canary-reasoning"}, "finish_reason": "canary-reason"}]}),
        b"data: [DONE]\n\n",
    ],
    "a stream that breaks": [
        sse({"id": "c", "choices": [{"index": 0, "delta": {"content": "canary-completion"}}]}),
        APART,
        sse({"error": {"message": "canary-error"}}),
    ],
    "a frame that is none": [
        sse({"id": "c", "choices": [{"index": 0, "delta": {"content": "canary-completion"}}]}),
        APART,
        b"data: canary-frame\n\n",
    ],
}


def _assert_silent(spans: Spans, caplog: pytest.LogCaptureFixture) -> None:
    """Search every span as it would be exported, and every log record with all it carries."""
    assert spans.all
    for span in spans.all:
        exported = span.to_json(indent=None)
        assert CANARY not in exported
        assert "203.0.113.77" not in exported
        assert "exception" not in exported
    for record in caplog.records:
        if record.name.startswith("vetted_mw"):
            assert CANARY not in str(vars(record))


@pytest.mark.parametrize("what", ANSWERS)
async def test_no_content_of_a_request_or_an_answer_reaches_a_span(
    what: str, spans: Spans, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Prompts, tools, users, keys, headers, queries, completions and error texts are in no span and no log."""
    key = tmp_path / "key"
    key.write_text("canary-upstream-key", encoding="utf-8")
    async with FakeUpstream() as paris, FakeUpstream() as gravelines:
        first, *rest = ANSWERS[what]
        paris.then(first)
        gravelines.then(*rest)
        urls: dict[str, dict[str, Any]] = {
            PARIS: {"base_url": paris.base_url, "api_key": {"file": str(key)}},
            GRAVELINES: {"base_url": gravelines.base_url},
        }
        with caplog.at_level(logging.DEBUG, "vetted_mw"):
            async with proxied(urls) as app:
                exchange = await asgi_exchange(app, json=REQUEST, headers=HEADERS, scope=SCOPE)
    assert exchange.status in {200, 400, 502}
    assert paris.requests[0].header("authorization") == "Bearer canary-upstream-key"
    _assert_silent(spans, caplog)


@pytest.mark.parametrize("what", STREAMS)
async def test_no_content_of_a_stream_reaches_a_span(what: str, spans: Spans, caplog: pytest.LogCaptureFixture) -> None:
    """Words, reasoning and errors that stream by leave no trace in the spans."""
    async with FakeUpstream() as paris, proxied({PARIS: {"base_url": paris.base_url}}) as app:
        paris.then(FakeAnswer.stream(STREAMS[what]))
        with caplog.at_level(logging.DEBUG, "vetted_mw"):
            exchange = await asgi_exchange(app, json=REQUEST | {"stream": True}, headers=HEADERS, scope=SCOPE)
    assert exchange.status == 200
    assert b"canary-completion" in exchange.body  # it did pass by
    _assert_silent(spans, caplog)


async def test_a_pin_that_fails_tells_nothing_of_the_request(spans: Spans, caplog: pytest.LogCaptureFixture) -> None:
    """An error of ours has a closed word for a type and no text."""
    async with FakeUpstream() as paris, proxied({PARIS: upstream(paris.base_url)}) as app:
        exchange = await asgi_exchange(app, json=REQUEST | {"vetted": {"region": GRAVELINES}}, headers=HEADERS)
    assert exchange.status == 503
    _assert_silent(spans, caplog)
