"""The parts of the SDK's set-up: log records with their trace, and an end that comes whatever providers do."""

from __future__ import annotations

import asyncio
import atexit
import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider

from vetted_mw.cli.telemetry import Sdk, TelemetryPlan
from vetted_mw.cli.telemetry import log_records as module
from vetted_mw.cli.telemetry.log_records import ExportedRecords, hide_header_values

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.anyio

SECRET = "planted-secret"
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


# ---- log records


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemoryLogRecordExporter]:
    """Return what the records of a logger of this test's own become."""
    exporter = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    monkeypatch.setattr(module, "get_logger", provider.get_logger)
    yield exporter
    provider.shutdown()


@pytest.fixture
def log(exported: InMemoryLogRecordExporter) -> Iterator[logging.Logger]:
    logger = logging.getLogger("test.exported")
    logger.propagate, logger.level = False, logging.DEBUG
    handler = ExportedRecords("1")
    logger.addHandler(handler)
    yield logger
    logger.removeHandler(handler)


def records(exported: InMemoryLogRecordExporter) -> list[Any]:
    return [one.log_record for one in exported.get_finished_logs()]


def test_a_record_is_its_message_and_fields(log: logging.Logger, exported: InMemoryLogRecordExporter) -> None:
    """Level, message and every field that is known, in types that a log store can search by."""
    fields = {"status": 200, "ms": 1.5, "stream": True, "model": None, "names": ("a", 1, None), "place": {"x": 1}}
    log.warning("something ended", extra=fields)
    (record,) = records(exported)
    assert (record.body, record.severity_text, record.severity_number.value) == ("something ended", "WARN", 13)
    assert dict(record.attributes) == {
        "status": 200,
        "ms": 1.5,
        "stream": True,
        "names": ("a", 1, "None"),
        "place": "{'x': 1}",
    }


def test_levels_keep_their_rank(log: logging.Logger, exported: InMemoryLogRecordExporter) -> None:
    """The five levels have OpenTelemetry's names; one of an application's own keeps its own."""
    for level in (10, 20, 30, 40, 50, 25):
        log.log(level, "x")
    assert [one.severity_text for one in records(exported)] == ["DEBUG", "INFO", "WARN", "ERROR", "FATAL", "Level 25"]


def test_the_trace_a_record_names_wins(log: logging.Logger, exported: InMemoryLogRecordExporter) -> None:
    """Ids among the fields become the record's own; without, or with some that are none, the current span's count."""
    log.info("named", extra={"trace_id": TRACE, "span_id": SPAN})
    with TracerProvider(shutdown_on_exit=False).get_tracer("t").start_as_current_span("s") as current:
        log.info("current")
        log.info("malformed", extra={"trace_id": "none", "span_id": SPAN})
        log.info("named inside", extra={"trace_id": TRACE, "span_id": SPAN})
    own, inside = (int(TRACE, 16), int(SPAN, 16)), current.get_span_context()
    here = (inside.trace_id, inside.span_id)
    assert [(one.trace_id, one.span_id) for one in records(exported)] == [own, here, here, own]
    assert [one for one in records(exported) if one.attributes] == []


def test_an_exceptions_words_stay_here(log: logging.Logger, exported: InMemoryLogRecordExporter) -> None:
    """What an exception says, and where it passed, is not exported: it may be what a caller wrote."""
    log.error("it failed", exc_info=ValueError(SECRET), stack_info=True)
    (record,) = records(exported)
    assert SECRET not in repr((record.body, record.attributes))
    assert record.attributes == {}


def test_what_cannot_be_exported_costs_nothing(
    log: logging.Logger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A logger that raises is logging's own affair: a note on standard error, and the program goes on."""
    (handler,) = [one for one in log.handlers if isinstance(one, ExportedRecords)]
    monkeypatch.setattr(handler, "_logger", None)
    log.info("x")
    assert "--- Logging error ---" in capsys.readouterr().err


def test_header_values_are_not_repeated(caplog: pytest.LogCaptureFixture) -> None:
    """The SDK's complaint of a malformed header is there, the header is not."""
    from opentelemetry.util.re import parse_env_headers

    hide_header_values()
    hide_header_values()
    parse_env_headers(SECRET, liberal=True)
    assert "Header format invalid" in caplog.text
    assert SECRET not in caplog.text


# ---- the end


class Provider:
    """Shuts down as told, and notes it."""

    def __init__(self, *, hangs: threading.Event | None = None, raises: bool = False) -> None:
        self._hangs = hangs
        self._raises = raises
        self.ended = threading.Event()

    def shutdown(self) -> None:
        if self._hangs is not None:
            self._hangs.wait()
        self.ended.set()
        if self._raises:
            raise RuntimeError(SECRET)


async def test_all_providers_end_beside_each_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One that hangs holds up neither the other nor, for longer than its time, the process; who is asked late may end."""
    release = threading.Event()
    hung, failing = Provider(hangs=release), Provider(raises=True)
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: hung)
    monkeypatch.setattr(metrics, "get_meter_provider", lambda: failing)
    await Sdk(TelemetryPlan()).shut_down(0.2)
    assert failing.ended.is_set()
    assert not hung.ended.is_set()
    messages = [record.message for record in caplog.records]
    assert sorted(messages) == ["telemetry did not shut down well", "telemetry was not all sent before the end"]
    assert SECRET not in caplog.text
    release.set()
    assert hung.ended.wait(60)


async def test_whoever_cannot_wait_need_not(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Hurried while it waits for a provider that hangs, the end comes at once and says what it left; before, nothing."""
    release = threading.Event()
    hung = Provider(hangs=release)
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: hung)
    sdk = Sdk(TelemetryPlan())
    sdk.hurry()
    ending = asyncio.create_task(sdk.shut_down(3600))
    await asyncio.sleep(0.05)
    assert not ending.done()
    sdk.hurry()
    sdk.hurry()
    await ending
    sdk.hurry()
    assert [record.message for record in caplog.records] == ["telemetry was not all sent before the end"]
    release.set()
    assert hung.ended.wait(60)


async def test_the_sdk_is_ended_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Its own handler at the end of the process is taken back: it would end it again, complain, and wait once more."""
    registered: list[object] = []
    monkeypatch.setattr("opentelemetry.sdk.metrics._internal.register", registered.append)
    monkeypatch.setattr(atexit, "unregister", registered.remove)
    provider = MeterProvider()
    assert registered == [provider.shutdown]
    monkeypatch.setattr(metrics, "get_meter_provider", lambda: provider)
    await Sdk(TelemetryPlan()).shut_down()
    assert registered == []
    assert caplog.records == []


def test_what_cannot_be_had_is_logged_by_each_worker(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever watches a log store and not the start sees each fault there, as a warning."""
    Sdk(TelemetryPlan(faults=("one: traces are not exported", "two: logs are not exported")))
    told = [(record.name, record.levelname, record.__dict__["reason"]) for record in caplog.records]
    assert told == [
        ("vetted_mw", "WARNING", "one: traces are not exported"),
        ("vetted_mw", "WARNING", "two: logs are not exported"),
    ]


def test_an_end_that_comes_after_the_loops_is_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that ends when the event loop is gone raises nothing into the rest of the process."""
    release = threading.Event()
    hung = Provider(hangs=release)
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: hung)
    before = set(threading.enumerate())
    asyncio.run(Sdk(TelemetryPlan()).shut_down(0.05))
    late = [one for one in threading.enumerate() if one not in before and one.name == "telemetry-shutdown"]
    release.set()
    for one in late:
        one.join(60)
    assert hung.ended.is_set()
    assert len(late) == 1


async def test_where_nothing_was_set_up_nothing_ends() -> None:
    """The API's own stand-ins have nothing to shut down."""
    await Sdk(TelemetryPlan()).shut_down()
