"""The one line in the log that every chat completion leaves: its fields, its ids, and nothing that anybody wrote."""

from __future__ import annotations

import logging
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import trace
from opentelemetry.trace import format_span_id, format_trace_id

from streams.wall import Caller, until
from support import configured, proxied
from telemetry.recorded import Recorded
from telemetry.spans import GRAVELINES, KNOWN, PARIS, asked, told, upstream
from vetted_mw import Gateway, VettedMiddleware, VettedProxy
from vetted_mw.proxy.own.transport import OwnTransport
from vetted_mw.testing import FakeAnswer, FakeUpstream, ManualClock, asgi_exchange, chat_frames

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import Receive, Scope, Send

    from vetted_mw.proxy.own.answer import Answer
    from vetted_mw.proxy.transport import UpstreamRequest

pytestmark = pytest.mark.anyio

MESSAGE = "a chat completion ended"
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


@pytest.fixture(autouse=True)
def _at_info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "vetted_mw")


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    """Return an SDK of this test's own."""
    made = Recorded()
    yield made
    made.shutdown()


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """Return the fields of each such line."""
    return [
        {name: value for name, value in vars(record).items() if name not in _STANDARD}
        for record in caplog.records
        if record.getMessage() == MESSAGE and record.levelno == logging.INFO
    ]


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_leaves_one_line_that_says_where_why_and_at_what_cost(
    recorded: Recorded, caplog: pytest.LogCaptureFixture, stream: bool
) -> None:
    """Every field is the answer's own, and the ids lead to its span."""
    async with (
        FakeUpstream(model=KNOWN) as paris,
        proxied({PARIS: upstream(paris.base_url)}, options=recorded.providers) as app,
    ):
        answer = told(await asgi_exchange(app, json=asked(stream=stream)))
    (line,) = lines(caplog)
    chat = recorded.spans.chat().context
    assert line.pop("duration_ms") >= 0
    assert line.pop("overhead_ms") >= 0
    assert line == {
        "outcome": "served",
        "status": 200,
        "stream": stream,
        "model": KNOWN,
        "region": PARIS,
        "route_policy": "eu_preferred",
        "decision_mode": "preferred",
        "decision_reason": "preferred_available",
        "attempts": 1,
        "prompt_tokens": answer["receipt"]["prompt_tokens"],
        "completion_tokens": answer["receipt"]["completion_tokens"],
        "receipt_id": answer["receipt"]["query_id"],
        "energy_wh": answer["receipt"]["energy_wh"],
        "gco2e": answer["receipt"]["gco2e"],
        "trace_id": format_trace_id(chat.trace_id),
        "span_id": format_span_id(chat.span_id),
    }


async def test_without_an_sdk_there_are_no_ids(caplog: pytest.LogCaptureFixture) -> None:
    """Ids of no trace are left out and not made up."""
    async with FakeUpstream(model=KNOWN) as paris, proxied({PARIS: upstream(paris.base_url)}) as app:
        await asgi_exchange(app, json=asked())
    (line,) = lines(caplog)
    assert "trace_id" not in line
    assert "span_id" not in line


async def test_the_span_is_current_while_the_line_is_written(
    recorded: Recorded, caplog: pytest.LogCaptureFixture
) -> None:
    """A log pipeline that asks for the current span gets the request's; afterwards nobody does."""
    current: list[int] = []

    class _Asking(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            if record.getMessage() == MESSAGE:
                current.append(trace.get_current_span().get_span_context().span_id)
            return True

    asking = _Asking()
    logging.getLogger("vetted_mw").addFilter(asking)
    try:
        async with (
            FakeUpstream(model=KNOWN) as paris,
            proxied({PARIS: upstream(paris.base_url)}, options=recorded.providers) as app,
        ):
            await asgi_exchange(app, json=asked())
    finally:
        logging.getLogger("vetted_mw").removeFilter(asking)
    assert current == [recorded.spans.chat().context.span_id]
    assert not trace.get_current_span().get_span_context().is_valid


REFUSALS: dict[str, tuple[dict[str, Any], int, str, str]] = {
    "malformed": ({"model": KNOWN}, 400, "invalid_request", "refused"),
    "an unknown region": (asked(vetted={"region": "mars"}), 400, "invalid_region", "refused"),
    "a region without an upstream": (asked(vetted={"region": "ovh-gra-1"}), 503, "service_unavailable", "failed"),
}


@pytest.mark.parametrize("case", REFUSALS)
@pytest.mark.parametrize("mode", ["forward", "in_app"])
async def test_a_refusal_leaves_its_line_too(caplog: pytest.LogCaptureFixture, case: str, mode: Any) -> None:
    """Status and a closed word say what was wrong, the outcome whose fault it was, in both modes."""
    body, status, code, outcome = REFUSALS[case]

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError

    async with FakeUpstream(model=KNOWN) as paris, Gateway(configured({PARIS: upstream(paris.base_url)})) as gateway:
        app = VettedMiddleware(handler, gateway=gateway, mode=mode)
        exchange = await asgi_exchange(app, json=body)
    assert exchange.status == status
    (line,) = lines(caplog)
    assert (line["outcome"], line["status"], line["error"], line["attempts"]) == (outcome, status, code, 0)
    assert "region" not in line


async def test_a_caller_who_left_leaves_a_line_without_an_error(caplog: pytest.LogCaptureFixture) -> None:
    """The request ended by the caller's will; what was spent stands in it."""
    async with FakeUpstream(model=KNOWN) as paris:
        paris.then(FakeAnswer.stream(chat_frames()[:2], ending="stall"))
        async with Gateway(configured({PARIS: upstream(paris.base_url)})) as gateway:
            caller = Caller(VettedProxy(gateway), asked(stream=True))
            answering = caller.start()
            await until(lambda: len(caller.sent) > 1)
            caller.leave()
            await answering
    (line,) = lines(caplog)
    assert (line["outcome"], line["status"], line["region"]) == ("client_disconnect", 200, PARIS)
    assert "error" not in line


async def test_a_stream_that_broke_says_so_though_its_status_was_200(caplog: pytest.LogCaptureFixture) -> None:
    """The line tells what the caller was told in the stream."""
    async with FakeUpstream(model=KNOWN) as paris:
        paris.then(FakeAnswer.stream(chat_frames(words=("Hel", "lo"))[:3], ending="cut"))
        async with proxied({PARIS: upstream(paris.base_url)}) as app:
            await asgi_exchange(app, json=asked(stream=True))
    (line,) = lines(caplog)
    assert (line["outcome"], line["status"], line["error"]) == ("failed", 200, "upstream_stream_cut")


async def test_a_handler_that_raises_leaves_its_line(caplog: pytest.LogCaptureFixture) -> None:
    """In in-app mode what the host makes of the exception is its own; the line says that it failed."""

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        message = "canary"
        raise ValueError(message)

    async with FakeUpstream(model=KNOWN) as paris, Gateway(configured({PARIS: upstream(paris.base_url)})) as gateway:
        app = VettedMiddleware(handler, gateway=gateway, mode="in_app")
        with pytest.raises(ValueError, match="canary"):
            await asgi_exchange(app, json=asked())
    (line,) = lines(caplog)
    assert line["outcome"] == "failed"
    assert "canary" not in str(line)


async def test_a_level_above_info_writes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever wants no line per request raises the level of our logger."""
    caplog.set_level(logging.WARNING, "vetted_mw")
    async with FakeUpstream(model=KNOWN) as paris, proxied({PARIS: upstream(paris.base_url)}) as app:
        await asgi_exchange(app, json=asked())
    assert lines(caplog) == []


async def test_a_pin_that_failed_names_the_region_that_was_wanted(
    recorded: Recorded, caplog: pytest.LogCaptureFixture
) -> None:
    """Nowhere it ran, so there is no region; which one was asked for stands in the line and on the decision's span."""
    async with (
        FakeUpstream(model=KNOWN) as paris,
        proxied({PARIS: upstream(paris.base_url, drained=True)}, options=recorded.providers) as app,
    ):
        await asgi_exchange(app, json=asked(vetted={"region": PARIS}))
    (line,) = lines(caplog)
    assert (line["outcome"], line["requested_region"], line["decision_mode"]) == ("failed", PARIS, "unavailable")
    assert "region" not in line
    assert dict(recorded.spans.route().attributes or {})["vetted.requested_region"] == PARIS


async def test_tokens_are_told_without_a_receipt_too(caplog: pytest.LogCaptureFixture) -> None:
    """What the upstream counted is known, whatever became of the receipt."""
    async with FakeUpstream(model=KNOWN) as paris, proxied({PARIS: upstream(paris.base_url)}) as app:
        await asgi_exchange(app, json=asked(vetted={"tier": "telemetry"}))
    (line,) = lines(caplog)
    assert (line["prompt_tokens"], line["completion_tokens"]) == (5, 2)
    assert "receipt_id" not in line


async def test_time_that_a_failed_region_took_is_none_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    """Overhead is what was spent in us until the latest request left; attempts lost before it, and after, do not count."""
    clock = ManualClock()

    def new_id() -> str:
        clock.tick(0.25)
        return str(uuid.uuid4())

    class _Slow(OwnTransport):
        async def send(self, request: UpstreamRequest) -> Answer:
            clock.tick(2.0)
            return await super().send(request)

    async with FakeUpstream(model=KNOWN) as paris, FakeUpstream(model=KNOWN) as gravelines:
        for one in (paris, gravelines):
            one.then(FakeAnswer.json({"error": {"message": "broken"}}, status=500))
        urls = {PARIS: upstream(paris.base_url), GRAVELINES: upstream(gravelines.base_url)}
        options = {"now": clock.now, "monotonic": clock.monotonic, "new_id": new_id, "transport": _Slow}
        async with proxied(urls, options=options) as app:
            await asgi_exchange(app, json=asked())
    (line,) = lines(caplog)
    assert (line["outcome"], line["attempts"], line["overhead_ms"]) == ("failed", 2, 250.0)
    assert line["duration_ms"] == 4_250.0
