"""What is told where a handler goes its own way: calls that outlive the answer, calls again, reports, no region at all."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from evidence.memory_ledger import MemoryLedger
from evidence.test_in_app_rows import in_app
from evidence.test_late_calls import call, until_asked
from frameworks.hosts import Reply
from frameworks.place import asking, gateway_over, running
from streams.wall import Caller, until
from support import configured, proxied
from telemetry.recorded import Recorded
from telemetry.spans import GRAVELINES, KNOWN, PARIS, asked, upstream
from telemetry.test_metrics import _BrokenModel, outcomes, points, total
from vetted_mw import Gateway, VettedProxy, current_route
from vetted_mw.receipts.engines import engine_named
from vetted_mw.telemetry import names
from vetted_mw.telemetry.gauges import RegionGlance, Watch
from vetted_mw.testing import FakeAnswer, FakeUpstream, asgi_exchange, chat_completion, chat_frames

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import httpx

    from vetted_mw.receipts.coefficients import Coefficients
    from vetted_mw.receipts.figures import Figures, Inputs

pytestmark = pytest.mark.anyio

_JSON = (("content-type", "application/json"),)
_REFUSED = FakeAnswer.json({"error": {"message": "too long"}}, status=422)


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    """Return an SDK of this test's own."""
    made = Recorded()
    yield made
    made.shutdown()


def _late_answer(kind: str, gate: asyncio.Event) -> FakeAnswer:
    if kind == "stream":
        return FakeAnswer.stream([gate, *chat_frames()[:2]], ending="stall")
    if kind == "cut":
        return FakeAnswer(headers=_JSON, body=(gate, b"{"), ending="cut")
    return FakeAnswer(headers=_JSON, body=(gate, chat_completion()))


@pytest.mark.parametrize("kind", ["json", "stream", "cut"])
async def test_a_call_that_outlives_the_answer_is_told_when_it_has_ended(
    recorded: Recorded, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its operation ends after its attempt and tells its region, and its energy is counted as the ledger has it."""
    ledger, gate = MemoryLedger(), asyncio.Event()
    late: list[asyncio.Task[httpx.Response]] = []

    async def answer(_request: object) -> Reply:
        await call(gateway)
        late.append(asyncio.create_task(call(gateway, stream=kind == "stream")))
        await until_asked(paris, 2)
        return Reply(content=chat_completion())

    async with FakeUpstream() as paris:
        paris.then(FakeAnswer.json(chat_completion()), _late_answer(kind, gate))
        gateway = gateway_over(paris, options={"ledger": ledger, **recorded.providers})
        async with running(in_app(gateway, answer)) as app:
            await asking(app, model=KNOWN)
            assert len(recorded.spans.named(f"chat {names.OTHER}")) == 1  # the late one has not ended
            gate.set()
            await asyncio.gather(*late, return_exceptions=True)
    _first, last = recorded.spans.named(f"chat {names.OTHER}")
    attempt = recorded.spans.attempts()[-1]
    assert attempt.parent is not None
    assert attempt.parent.span_id == last.context.span_id
    assert (attempt.end_time or 0) <= (last.end_time or 0)
    assert (last.attributes or {}).get(names.REGION) == (None if kind == "cut" else PARIS)
    assert sum(points(recorded.metrics[names.OPERATION_DURATION]).values()) == 2
    kept = sum(row.energy_wh for row in ledger.receipts) * 3600
    assert total(recorded.metrics[names.ENERGY]) == pytest.approx(kept)
    assert "ended span" not in caplog.text


async def test_a_report_that_no_receipt_can_tell_is_counted_as_the_ledger_keeps_it(recorded: Recorded) -> None:
    """Asked for measured energy that is not there, what a handler reported is a parametric row, and in the sums."""
    ledger = MemoryLedger()

    async def answer(_request: object) -> Reply:
        route = current_route()
        assert route is not None
        route.record(usage={"prompt_tokens": 100, "completion_tokens": 7})
        return Reply(content=chat_completion())

    async with FakeUpstream() as paris:
        gateway = gateway_over(paris, options={"ledger": ledger, **recorded.providers})
        async with running(in_app(gateway, answer)) as app:
            await asking(app, vetted={"tier": "telemetry"})
    (row,) = ledger.receipts
    assert row.tier == "parametric"
    assert total(recorded.metrics[names.ENERGY]) == pytest.approx(row.energy_wh * 3600)


async def test_a_decision_without_a_region_is_below_the_request_in_a_callers_trace(recorded: Recorded) -> None:
    """No handler runs, so its operation is a child of the request's own span, and no sibling of it."""

    async def answer(_request: object) -> Reply:
        pytest.fail("the handler ran")

    caller = {"traceparent": f"00-{'1' * 32}-{'2' * 16}-01"}
    async with FakeUpstream() as paris:
        gateway = gateway_over(paris, options=recorded.providers)
        async with running(in_app(gateway, answer)) as app:
            exchange = await asking(app, vetted={"region": "atnorth-isl-1"}, headers=caller)
    assert exchange.status == 503
    assert recorded.tree == [
        "SERVER POST /v1/chat/completions",
        "  CLIENT chat _OTHER",
        "    INTERNAL vetted.route",
    ]


async def _leaves_a_stream(gateway: Gateway, paris: FakeUpstream) -> None:
    paris.then(FakeAnswer.stream(chat_frames()[:2], ending="stall"))
    url = "http://vetted/v1/chat/completions"
    async with gateway.http_client.stream("POST", url, json=asked(stream=True)) as reply:
        await anext(reply.aiter_bytes())


async def _asks_again(gateway: Gateway, paris: FakeUpstream) -> None:
    paris.then(_REFUSED)
    for _ in range(2):
        await call(gateway)


@pytest.mark.parametrize("handle", [_leaves_a_stream, _asks_again], ids=["leaves a stream", "asks again"])
async def test_a_handler_that_stays_in_its_region_did_not_fail_over(recorded: Recorded, handle: Any) -> None:
    """Reading no more of a stream than was needed, and asking again after a refusal, are no failover of the request."""

    async def answer(_request: object) -> Reply:
        await handle(gateway, paris)
        return Reply(content=chat_completion())

    async with FakeUpstream() as paris:
        gateway = gateway_over(paris, options=recorded.providers)
        async with running(in_app(gateway, answer)) as app:
            assert (await asking(app)).status == 200
    assert outcomes(recorded) == {"served": 1}


@pytest.mark.parametrize("is_full", [False, True])
async def test_a_region_that_admits_nothing_was_not_failed_over_to(recorded: Recorded, is_full: bool) -> None:
    """A second region without a free place is not tried: neither the counter nor the span tells of a failover."""
    gate = asyncio.Event()
    async with FakeUpstream(model=KNOWN) as paris, FakeUpstream(model=KNOWN) as gravelines:
        paris.then(_late_answer("cut", gate))
        gravelines.then(FakeAnswer.stream(chat_frames()[:2], ending="stall"))
        limits = {"max_in_flight": 1 if is_full else 2}
        urls = {PARIS: upstream(paris.base_url), GRAVELINES: upstream(gravelines.base_url, limits=limits)}
        async with Gateway(configured(urls), **recorded.providers) as gateway:
            app = VettedProxy(gateway)
            first = asyncio.create_task(asgi_exchange(app, json=asked()))
            await until_asked(paris)
            holder = Caller(app, asked(stream=True, vetted={"region": GRAVELINES}))
            holding = holder.start()
            await until(lambda: len(holder.sent) > 1)
            gate.set()
            await first
            found = recorded.metrics
            spans = [span.attributes or {} for span in recorded.spans.named(f"chat {KNOWN}")]
            holder.leave()
            await holding
    assert (names.FAILOVERS in found) is not is_full
    assert [span[names.FAILOVER] for span in spans] == [not is_full]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_receipt_that_is_kept_after_its_caller_left_was_not_emitted(recorded: Recorded, stream: bool) -> None:
    """Nobody was told it, as the span says too; what it tells was used all the same."""
    ledger = MemoryLedger()
    ledger.gate = asyncio.Event()
    async with FakeUpstream(model=KNOWN) as paris:
        options: dict[str, Any] = {"ledger": ledger, **recorded.providers}
        async with Gateway(configured({PARIS: upstream(paris.base_url)}), **options) as gateway:
            caller = Caller(VettedProxy(gateway), asked(stream=stream))
            answering = caller.start()
            await ledger.waiting.wait()
            caller.leave()
            await answering
            found = recorded.metrics
    assert (recorded.spans.chat().attributes or {})[names.RECEIPT_PLACEMENT] == "none"
    assert names.RECEIPTS not in found
    assert total(found[names.ENERGY]) > 0


@pytest.mark.parametrize("has_ledger", [False, True])
async def test_work_that_nobody_keeps_is_not_missed_in_the_log(
    has_ledger: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A given-up attempt without a receipt is a warning where a ledger lacks its row; the answer's own always is one."""
    options: dict[str, Any] = {"energy_model": _BrokenModel()} | ({"ledger": MemoryLedger()} if has_ledger else {})
    async with FakeUpstream(model=KNOWN) as paris, FakeUpstream(model=KNOWN) as gravelines:
        paris.then(FakeAnswer.stream([], ending="cut"))
        urls = {PARIS: upstream(paris.base_url), GRAVELINES: upstream(gravelines.base_url)}
        async with proxied(urls, options=options) as app:
            assert (await asgi_exchange(app, json=asked(stream=True))).status == 200
    warned = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.getMessage() for record in warned].count("a receipt was withheld") == 1 + has_ledger


class _Counted:
    """The shipped energy model, and how often it was asked."""

    name = "parametric"

    def __init__(self) -> None:
        self.asked = 0
        self._model = engine_named("parametric")

    def figures(self, inputs: Inputs, coefficients: Coefficients) -> Figures:
        """Return what the shipped one does."""
        self.asked += 1
        return self._model.figures(inputs, coefficients)


@pytest.mark.parametrize(("has_sdk", "asked_for"), [(False, 1), (True, 2)])
async def test_without_an_sdk_a_handlers_call_costs_no_receipt_of_its_own(
    recorded: Recorded, has_sdk: bool, asked_for: int
) -> None:
    """An energy model may take a millisecond: it is asked for the answer, and for the call only where that is told."""
    model = _Counted()

    async def answer(_request: object) -> Reply:
        await call(gateway)
        return Reply(content=chat_completion())

    async with FakeUpstream() as paris:
        providers = recorded.providers if has_sdk else {}
        gateway = gateway_over(paris, options={"energy_model": model, **providers})
        async with running(in_app(gateway, answer)) as app:
            assert (await asking(app)).status == 200
    assert model.asked == asked_for


class _Seen:
    """A gateway that tells one region."""

    def __init__(self, region: str) -> None:
        self._region = region

    def glances(self) -> list[RegionGlance]:
        """Tell it."""
        return [RegionGlance(region=self._region, is_healthy=True, in_flight=0, signal=None)]


def test_gateways_that_open_in_several_threads_are_all_looked_at() -> None:
    """Each event loop has a thread of its own; none that opens hides another that opens at that moment."""
    watch = Watch()
    held = [[_Seen(f"{thread}-{number}") for number in range(250)] for thread in range(4)]

    def add(ones: Sequence[_Seen]) -> None:
        for one in ones:
            watch.add(one)

    threads = [threading.Thread(target=add, args=[ones]) for ones in held]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        sys.setswitchinterval(before)
    assert len(list(watch.glances())) == 1000
