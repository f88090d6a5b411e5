"""When the ledger cannot be written: fail-open tells, fail-closed turns away, and no answer is lost by accident."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import pytest

from evidence.memory_ledger import MemoryLedger
from support import HELLO, MODEL, configured
from vetted_mw import Gateway, VettedProxy
from vetted_mw.configuration import LedgerConfiguration
from vetted_mw.testing import FakeAnswer, FakeUpstream, asgi_exchange, chat_frames

if TYPE_CHECKING:
    from vetted_mw.testing import Exchange

pytestmark = pytest.mark.anyio

PARIS = "scaleway-par-1"
both = pytest.mark.parametrize("stream", [False, True], ids=["json", "sse"])
either_way = pytest.mark.parametrize("breaks", [None, RuntimeError("a caller's words")], ids=["refuses", "breaks"])


def gateway_with(
    ledger: MemoryLedger, paris: FakeUpstream, policy: Literal["fail_open", "fail_closed"] = "fail_open"
) -> Gateway:
    configuration = configured({PARIS: paris.base_url})
    return Gateway(replace(configuration, ledger=LedgerConfiguration(policy=policy)), ledger=ledger)


async def ask(gateway: Gateway, *, stream: bool) -> Exchange:
    body: dict[str, Any] = {"model": MODEL, "messages": HELLO, "stream": stream}
    return await asgi_exchange(VettedProxy(gateway), json=body)


def members(exchange: Exchange) -> dict[str, Any]:
    """Return the object that carries the trace."""
    if exchange.headers["content-type"].startswith("application/json"):
        return dict(exchange.json())
    lines = [line[6:] for line in exchange.body.decode().split("\n\n") if line.startswith("data: {")]
    return next(frame for frame in map(json.loads, lines) if "routing_trace" in frame)


@both
@either_way
async def test_fail_open_sends_the_receipt_and_says_that_it_is_not_kept(
    *, stream: bool, breaks: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    """The completion is paid for: it goes out with its receipt, which claims no place in the ledger."""
    ledger = MemoryLedger()
    ledger.refuses, ledger.breaks = True, breaks
    async with FakeUpstream(text="Bonjour") as paris, gateway_with(ledger, paris) as gateway:
        exchange = await ask(gateway, stream=stream)
    assert exchange.status == 200
    assert b"Bonjour" in exchange.body
    assert members(exchange)["routing_trace"]["ledger"] == "unavailable"
    assert "receipt_error" not in members(exchange)["routing_trace"]
    assert "seq" not in members(exchange)["receipt"]
    assert "a caller's words" not in caplog.text


@both
@either_way
async def test_fail_closed_calls_no_upstream_when_nothing_could_be_kept(
    *, stream: bool, breaks: Exception | None
) -> None:
    """The request is turned away with 503 before anything is spent on it."""
    ledger = MemoryLedger()
    ledger.refuses, ledger.breaks = True, breaks
    async with FakeUpstream() as paris, gateway_with(ledger, paris, "fail_closed") as gateway:
        exchange = await ask(gateway, stream=stream)
        assert paris.requests == []
    assert exchange.status == 503
    error = exchange.json()["error"]
    assert (error["type"], error["code"]) == ("internal_error", "ledger_unavailable")


@both
@either_way
async def test_fail_closed_gives_no_answer_without_a_receipt_that_is_kept(
    *, stream: bool, breaks: Exception | None
) -> None:
    """Failing after the upstream answered: JSON is 503, a stream ends by the error frame; no receipt is handed out."""
    ledger = MemoryLedger()
    ledger.gate = asyncio.Event()
    async with FakeUpstream(text="Bonjour") as paris, gateway_with(ledger, paris, "fail_closed") as gateway:
        task = asyncio.create_task(ask(gateway, stream=stream))
        await ledger.waiting.wait()
        ledger.refuses, ledger.breaks = True, breaks
        ledger.gate.set()
        exchange = await task
    told = members(exchange)
    assert told["error"]["code"] == "ledger_unavailable"
    assert told["routing_trace"]["ledger"] == "unavailable"
    if stream:
        assert exchange.status == 200
        assert b"[DONE]" not in exchange.body
        assert told["receipt"] is None
        assert told["routing_trace"]["receipt_error"] == "ledger_unavailable"
    else:
        assert exchange.status == 503
        assert "receipt" not in told
        assert b"Bonjour" not in exchange.body


@pytest.mark.parametrize("policy", ["fail_open", "fail_closed"])
@either_way
async def test_a_gateway_that_would_turn_everyone_away_is_not_ready(
    policy: Literal["fail_open", "fail_closed"], breaks: Exception | None
) -> None:
    """A load balancer sends nobody to an instance that must keep receipts and cannot."""
    ledger = MemoryLedger()
    async with FakeUpstream() as paris, gateway_with(ledger, paris, policy) as gateway:
        app = VettedProxy(gateway)
        assert (await asgi_exchange(app, method="GET", path="/readyz")).status == 200
        ledger.refuses, ledger.breaks = True, breaks
        exchange = await asgi_exchange(app, method="GET", path="/readyz")
    is_closed = policy == "fail_closed"
    assert exchange.status == (503 if is_closed else 200)
    assert exchange.json() == {"status": "ledger_unavailable" if is_closed else "ready"}


async def test_fail_open_asks_the_ledger_nothing_beforehand() -> None:
    """Only who must not answer without it asks before the upstream is called."""
    ledger = MemoryLedger()
    async with FakeUpstream() as paris, gateway_with(ledger, paris) as gateway:
        await ask(gateway, stream=False)
        assert ledger.asked == 0
    async with FakeUpstream() as paris, gateway_with(ledger, paris, "fail_closed") as gateway:
        await ask(gateway, stream=False)
        assert ledger.asked == 1


async def test_a_caller_that_leaves_is_charged_for_what_came() -> None:
    """An aborted stream is a row of its own, though nobody gets its receipt."""
    ledger = MemoryLedger()
    begun = asyncio.Event()
    async with FakeUpstream() as paris, gateway_with(ledger, paris) as gateway:
        paris.then(FakeAnswer.stream(chat_frames()[:2], ending="stall"))
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "path": "/v1/chat/completions",
            "raw_path": b"/v1/chat/completions",
            "query_string": b"",
            "root_path": "",
            "scheme": "http",
            "headers": [(b"content-type", b"application/json")],
        }
        body = json.dumps({"model": MODEL, "messages": HELLO, "stream": True}).encode()
        told = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> dict[str, Any]:
            for message in told:
                return message
            await begun.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.body":
                begun.set()

        await VettedProxy(gateway)(scope, receive, send)
    (row,) = ledger.receipts
    assert (row.completion_status, row.usage_source) == ("client_abort", "estimated")
    assert row.completion_tokens > 0


async def test_the_ledger_lives_as_long_as_the_gateway() -> None:
    """It is opened before the first request and closed after the last, once each, over any number of reloads."""
    ledger = MemoryLedger()
    async with FakeUpstream() as paris, gateway_with(ledger, paris) as gateway:
        assert (ledger.opened, ledger.closed) == (1, 0)
        for seconds in (41.0, 42.0):
            limits = {"idle_seconds": seconds}
            await gateway.reload(configured({PARIS: paris.base_url}, limits=limits))
            await ask(gateway, stream=False)
        assert (ledger.opened, ledger.closed) == (1, 0)
    assert (ledger.opened, ledger.closed) == (1, 1)
    assert len(ledger.rows) == 2


async def test_unsigned_receipts_are_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever runs it without a key is told at the start, and not for every request."""
    caplog.set_level(logging.WARNING, logger="vetted_mw")
    async with FakeUpstream() as paris, gateway_with(MemoryLedger(), paris) as gateway:
        await ask(gateway, stream=False)
        await ask(gateway, stream=False)
    assert [record.message for record in caplog.records if "not signed" in record.message] == [
        "receipts are not signed: set signing.key (vetted-mw keys new makes one)"
    ]
