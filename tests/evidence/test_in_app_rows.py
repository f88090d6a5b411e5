"""In-app mode: every observed call is a ledger row, and the answer's own receipt is bound to what the handler answered."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from evidence.memory_ledger import MemoryLedger
from frameworks.hosts import HOSTS, Reply, Spec
from frameworks.place import asking, by_sdk, gateway_over, members_of, running
from support import HELLO
from vetted_mw import current_route
from vetted_mw.receipts.binding import opens, transcript_of_answer
from vetted_mw.receipts.jws import from_b64url
from vetted_mw.testing import FakeUpstream, chat_completion, chat_frames

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import ASGIApp

    from frameworks.hosts import Answer
    from vetted_mw import Gateway

pytestmark = pytest.mark.anyio
both = pytest.mark.parametrize("stream", [False, True], ids=["json", "sse"])


def in_app(gateway: Gateway, answer: Answer) -> ASGIApp:
    build, _mount = HOSTS["starlette"]
    return build(Spec(gateway=gateway, answer=answer))


def over(ledger: MemoryLedger, *upstreams: FakeUpstream, **overrides: Any) -> Gateway:
    return gateway_over(*upstreams, options={"ledger": ledger}, **overrides)


async def _frames(frames: list[bytes]) -> AsyncIterator[bytes]:
    for frame in frames:
        await asyncio.sleep(0)
        yield frame


@both
async def test_one_call_is_one_row_and_the_answers_own(*, stream: bool) -> None:
    """The receipt the caller holds is the call's own row; it is bound to the answer the handler gave."""
    ledger = MemoryLedger()
    async with FakeUpstream(text="Bonjour") as paris:
        gateway = over(ledger, paris)
        async with running(in_app(gateway, by_sdk(gateway))) as app:
            exchange = await asking(app, stream=stream)
    receipt, _trace = members_of(exchange)
    assert receipt is not None
    (row,) = ledger.receipts
    assert (row.query_id, row.seq, row.request_id) == (receipt["query_id"], receipt["seq"], msgspec.UNSET)
    transcript = [{"content": "Bonjour", "finish_reason": "stop", "index": 0, "tool_calls": []}]
    assert opens(receipt["response_digest"], from_b64url(receipt["binding_nonce"]), transcript)


async def test_the_binding_is_to_what_the_handler_answered() -> None:
    """A handler that answers something of its own binds the receipt to that, not to what the upstream said."""
    ledger = MemoryLedger()

    async def answer(_request: object) -> Reply:
        await gateway.http_client.post("http://vetted/v1/chat/completions", json={"model": "m", "messages": HELLO})
        return Reply(content=chat_completion(text="Something else"))

    async with FakeUpstream(text="Bonjour") as paris:
        gateway = over(ledger, paris)
        async with running(in_app(gateway, answer)) as app:
            exchange = await asking(app)
    receipt, _trace = members_of(exchange)
    assert receipt is not None
    assert opens(
        receipt["response_digest"], from_b64url(receipt["binding_nonce"]), transcript_of_answer(exchange.json())
    )
    assert not opens(
        receipt["response_digest"],
        from_b64url(receipt["binding_nonce"]),
        [{"content": "Bonjour", "finish_reason": "stop", "index": 0, "tool_calls": []}],
    )


@both
async def test_several_calls_are_rows_beside_their_sum(*, stream: bool) -> None:
    """Each call is a row with an id of its own that leads to the answer's receipt, which sums them up."""
    ledger = MemoryLedger()

    async def answer(_request: object) -> Reply:
        for _call in range(2):
            await gateway.http_client.post("http://vetted/v1/chat/completions", json={"model": "m", "messages": HELLO})
        if stream:
            return Reply(content=_frames(chat_frames()), media_type="text/event-stream")
        return Reply(content=chat_completion())

    async with FakeUpstream() as paris:
        gateway = over(ledger, paris)
        async with running(in_app(gateway, answer)) as app:
            exchange = await asking(app, stream=stream)
    receipt, _trace = members_of(exchange)
    assert receipt is not None
    *parts, whole = ledger.receipts
    assert (whole.query_id, whole.calls, whole.request_id) == (receipt["query_id"], 2, msgspec.UNSET)
    assert [(part.calls, part.request_id, part.response_digest) for part in parts] == [(1, whole.query_id, None)] * 2
    assert len({part.query_id for part in parts} | {whole.query_id}) == 3
    assert sum(part.completion_tokens for part in parts) == whole.completion_tokens
    assert sum(part.energy_wh for part in parts) == pytest.approx(whole.energy_wh, rel=1e-5)
    assert ledger.batches == [3]


async def test_calls_of_several_models_are_rows_though_no_receipt_is_told() -> None:
    """No sum over different models is told, and nothing that was spent is missing."""
    ledger = MemoryLedger()

    async def answer(_request: object) -> Reply:
        for model in ("m", "n"):
            await gateway.http_client.post(
                "http://vetted/v1/chat/completions", json={"model": model, "messages": HELLO}
            )
        return Reply(content=chat_completion())

    async with FakeUpstream() as paris:
        gateway = over(ledger, paris)
        async with running(in_app(gateway, answer)) as app:
            exchange = await asking(app)
    receipt, trace = members_of(exchange)
    assert (receipt, trace["receipt_error"]) == (None, "several_calls")
    assert sorted(row.model for row in ledger.receipts) == ["m", "n"]
    assert len({row.request_id for row in ledger.receipts}) == 1


@pytest.mark.parametrize("calls", [1, 2])
async def test_calls_whose_receipt_was_refused_are_rows(calls: int) -> None:
    """Asked for measured energy that is not there, the answer has no receipt, and each call is kept as parametric."""
    ledger = MemoryLedger()

    async def answer(_request: object) -> Reply:
        for _call in range(calls):
            await gateway.http_client.post("http://vetted/v1/chat/completions", json={"model": "m", "messages": HELLO})
        return Reply(content=chat_completion())

    async with FakeUpstream() as paris:
        gateway = over(ledger, paris)
        async with running(in_app(gateway, answer)) as app:
            exchange = await asking(app, vetted={"tier": "telemetry"})
    receipt, trace = members_of(exchange)
    assert (receipt, trace["receipt_error"]) == (None, "tier_unavailable")
    assert [(row.tier, row.calls) for row in ledger.receipts] == [("parametric", 1)] * calls
    assert len({row.request_id for row in ledger.receipts}) == 1


async def test_what_a_handler_reports_is_a_row() -> None:
    """A call by a client of the handler's own is kept as reported."""
    ledger = MemoryLedger()

    async def answer(_request: object) -> Reply:
        route = current_route()
        assert route is not None
        route.record(usage={"prompt_tokens": 5, "completion_tokens": 7})
        return Reply(content=chat_completion())

    async with FakeUpstream() as paris:
        gateway = over(ledger, paris)
        async with running(in_app(gateway, answer)) as app:
            await asking(app)
    assert [(row.usage_source, row.completion_tokens) for row in ledger.receipts] == [("reported", 7)]


async def test_calls_behind_an_answer_of_another_kind_are_rows() -> None:
    """A handler that answers no chat completion has its calls kept; no member is added to its answer."""
    ledger = MemoryLedger()

    async def answer(_request: object) -> Reply:
        await gateway.http_client.post("http://vetted/v1/chat/completions", json={"model": "m", "messages": HELLO})
        return Reply(content=b'{"plain": true}')

    async with FakeUpstream() as paris:
        gateway = over(ledger, paris)
        async with running(in_app(gateway, answer)) as app:
            exchange = await asking(app)
    assert exchange.json() == {"plain": True}
    assert [row.completion_status for row in ledger.receipts] == ["complete"]


async def test_fail_closed_gives_no_handlers_answer_without_a_kept_receipt() -> None:
    """Failing after the handler answered, the caller gets 503 and not the answer."""
    ledger = MemoryLedger()

    async def answer(_request: object) -> Reply:
        await gateway.http_client.post("http://vetted/v1/chat/completions", json={"model": "m", "messages": HELLO})
        ledger.refuses = True
        return Reply(content=chat_completion(text="Secret"))

    async with FakeUpstream() as paris:
        gateway = gateway_over(
            paris,
            options={"ledger": ledger},
            ledger={"path": "unused.sqlite3", "policy": "fail_closed"},
            signing={},
        )
        async with running(in_app(gateway, answer)) as app:
            exchange = await asking(app)
    assert exchange.status == 503
    assert json.loads(exchange.body)["error"]["code"] == "ledger_unavailable"
    assert b"Secret" not in exchange.body
    assert json.loads(exchange.body)["routing_trace"]["ledger"] == "unavailable"
