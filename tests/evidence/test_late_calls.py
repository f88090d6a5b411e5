"""In-app calls around the end of the answer: what is under way then is kept, and nothing new leaves after it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from evidence.memory_ledger import MemoryLedger
from evidence.test_in_app_rows import in_app, over
from frameworks.hosts import Reply
from frameworks.place import asking, gateway_over, members_of, running
from support import HELLO
from vetted_mw import current_route
from vetted_mw.errors import RouteError
from vetted_mw.testing import FakeAnswer, FakeUpstream, chat_completion, chat_frames

if TYPE_CHECKING:
    import httpx

    from vetted_mw import Gateway

pytestmark = pytest.mark.anyio
_URL = "http://vetted/v1/chat/completions"
_JSON = (("content-type", "application/json"),)


async def call(gateway: Gateway, **members: Any) -> httpx.Response:
    response: httpx.Response = await gateway.http_client.post(
        _URL, json={"model": "mistral-medium-3", "messages": HELLO, **members}
    )
    return response


async def until_asked(upstream: FakeUpstream, count: int = 1) -> None:
    while len(upstream.requests) < count:  # noqa: ASYNC110 (a fake that tells nobody)
        await asyncio.sleep(0.005)


async def test_a_call_that_outlives_the_answer_is_a_row() -> None:
    """Its answer came too late for the receipt, and it was paid for: it is kept beside it, once."""
    ledger, gate = MemoryLedger(), asyncio.Event()
    late: list[asyncio.Task[httpx.Response]] = []

    async def answer(_request: object) -> Reply:
        await call(gateway)
        late.append(asyncio.create_task(call(gateway)))
        await until_asked(paris, 2)
        return Reply(content=chat_completion())

    async with FakeUpstream() as paris:
        paris.then(FakeAnswer.json(chat_completion()), FakeAnswer(headers=_JSON, body=(gate, chat_completion())))
        gateway = over(ledger, paris)
        async with running(in_app(gateway, answer)) as app:
            exchange = await asking(app)
            assert [row.calls for row in ledger.receipts] == [1]
            gate.set()
            assert (await late[0]).status_code == 200
    receipt, _trace = members_of(exchange)
    assert receipt is not None
    assert [row.query_id == receipt["query_id"] for row in ledger.receipts] == [True, False]
    own, beside = ledger.receipts
    assert (own.calls, beside.request_id, beside.completion_status) == (1, own.query_id, "complete")
    assert beside.energy_wh > 0


async def test_a_call_that_fails_after_the_answer_is_a_row() -> None:
    """What an upstream may have computed for it is kept as abandoned."""
    ledger, gate = MemoryLedger(), asyncio.Event()
    late: list[asyncio.Task[httpx.Response]] = []

    async def answer(_request: object) -> Reply:
        late.append(asyncio.create_task(call(gateway)))
        await until_asked(paris)
        return Reply(content=b"{}")

    async with FakeUpstream() as paris:
        paris.then(FakeAnswer(headers=_JSON, body=(gate, b"{"), ending="cut"))
        gateway = over(ledger, paris)
        async with running(in_app(gateway, answer)) as app:
            await asking(app)
            assert ledger.rows == []
            gate.set()
            assert (await late[0]).status_code == 502
    assert [row.completion_status for row in ledger.receipts] == ["abandoned"]


async def test_a_stream_that_opens_after_the_answer_is_closed() -> None:
    """Nobody can read it any more: its call is refused, the upstream's connection closed, and its beginning kept."""
    ledger, gate = MemoryLedger(), asyncio.Event()
    late: list[asyncio.Task[httpx.Response]] = []

    async def answer(_request: object) -> Reply:
        late.append(asyncio.create_task(call(gateway, stream=True)))
        await until_asked(paris)
        return Reply(content=b"{}")

    async with FakeUpstream() as paris:
        paris.then(FakeAnswer.stream([gate, *chat_frames()[:2]], ending="stall"))
        gateway = over(ledger, paris)
        async with running(in_app(gateway, answer)) as app:
            await asking(app)
            gate.set()
            with pytest.raises(RouteError, match="has ended"):
                await late[0]
            await paris.requests[0].left.wait()
    assert [row.completion_status for row in ledger.receipts] == ["client_abort"]


async def test_a_call_that_waits_for_the_first_is_not_sent_after_the_answer() -> None:
    """Two calls began together; the answer ended while the second waited to learn which region serves."""
    ledger, gate = MemoryLedger(), asyncio.Event()
    late: list[asyncio.Task[httpx.Response]] = []

    async def answer(_request: object) -> Reply:
        late.extend(asyncio.create_task(call(gateway)) for _ in range(2))
        await until_asked(paris)
        return Reply(content=b"{}")

    async with FakeUpstream() as paris:
        paris.then(FakeAnswer(headers=_JSON, body=(gate, chat_completion())))
        gateway = over(ledger, paris)
        async with running(in_app(gateway, answer)) as app:
            await asking(app)
            gate.set()
            assert (await late[0]).status_code == 200
            with pytest.raises(RouteError, match="has ended"):
                await late[1]
        assert len(paris.requests) == 1
    assert len(ledger.rows) == 1


async def test_fail_closed_sends_no_call_of_a_handler_that_could_not_be_kept() -> None:
    """The ledger failed after the request was let in: the handler's call gets 503, and no upstream is called."""
    ledger = MemoryLedger()
    statuses: list[int] = []

    async def answer(_request: object) -> Reply:
        ledger.refuses = True
        statuses.append((await call(gateway)).status_code)
        return Reply(content=b"{}")

    async with FakeUpstream() as paris:
        gateway = gateway_over(
            paris,
            options={"ledger": ledger},
            ledger={"path": "unused.sqlite3", "policy": "fail_closed"},
            signing={},
        )
        async with running(in_app(gateway, answer)) as app:
            await asking(app)
        assert paris.requests == []
    assert statuses == [503]


@pytest.mark.parametrize("model", ["half \ud800 a pair", 5])
async def test_a_report_names_its_model_in_text(model: Any) -> None:
    """What could not be written into a receipt is refused where the handler can see it."""
    refused: list[str] = []

    async def answer(_request: object) -> Reply:
        route = current_route()
        assert route is not None
        try:
            route.record(usage={"prompt_tokens": 1, "completion_tokens": 1}, model=model)
        except RouteError as error:
            refused.append(str(error))
        return Reply(content=chat_completion())

    ledger = MemoryLedger()
    async with FakeUpstream() as paris, running(in_app(over(ledger, paris), answer)) as app:
        assert (await asking(app)).status == 200
    assert "model as text" in refused[0]
    assert ledger.rows == []


async def test_counts_beyond_any_number_cost_the_sum_alone() -> None:
    """Two reports whose sum no JSON number holds: no receipt for the sum, the answer goes out, each is a row."""
    ledger = MemoryLedger()

    async def answer(_request: object) -> Reply:
        route = current_route()
        assert route is not None
        for _ in range(2):
            route.record(usage={"prompt_tokens": 2**52, "completion_tokens": 1})
        return Reply(content=chat_completion())

    async with FakeUpstream() as paris, running(in_app(over(ledger, paris), answer)) as app:
        exchange = await asking(app)
    receipt, trace = members_of(exchange)
    assert (exchange.status, receipt, trace["receipt_error"]) == (200, None, "engine_failed")
    assert [row.prompt_tokens for row in ledger.receipts] == [2**52, 2**52]
