"""The receiver the other tests lean on: it keeps what real exporters send, and refuses or hangs when it is told to."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

import pytest
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import Status, StatusCode

from telemetry.otlp import OtlpReceiver

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as receiver:
        yield receiver


@pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip], ids=["plain", "gzip"])
def test_spans_come_as_they_were_ended(receiver: OtlpReceiver, compression: Compression) -> None:
    """Names, kinds, parents, attributes, events and status arrive, and the raw bytes hold every text."""
    provider = TracerProvider(resource=Resource({"service.name": "unit"}), shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=f"{receiver.endpoint}/v1/traces", compression=compression)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("scope", schema_url="https://example.eu/schema")
    with tracer.start_as_current_span("outer") as outer:
        inner = tracer.start_span("inner", attributes={"n": 1, "words": ["a", "b"], "text": "needle"})
        inner.add_event("happened", {"why": "so"})
        inner.set_status(Status(StatusCode.ERROR, "told"))
        inner.end()
    provider.shutdown()
    first, second = receiver.spans
    assert (first.name, first.kind, first.status, first.description) == ("inner", "INTERNAL", "ERROR", "told")
    assert first.attributes == {"n": 1, "words": ("a", "b"), "text": "needle"}
    assert [(event.name, event.attributes) for event in first.events] == [("happened", {"why": "so"})]
    assert (first.parent_id, second.parent_id) == (f"{outer.get_span_context().span_id:016x}", "")
    assert (first.trace_id, first.scope, first.schema_url) == (second.trace_id, "scope", "https://example.eu/schema")
    assert first.resource["service.name"] == "unit"
    assert b"needle" in receiver.raw


def test_points_come_with_their_attributes(receiver: OtlpReceiver) -> None:
    """Counters and histograms arrive as sums and buckets, and the latest of a series is where it stands."""
    exporter = OTLPMetricExporter(endpoint=f"{receiver.endpoint}/v1/metrics")
    provider = MeterProvider([PeriodicExportingMetricReader(exporter, export_interval_millis=1e9)])
    meter = provider.get_meter("scope")
    counter = meter.create_counter("asked", unit="{request}")
    seconds = meter.create_histogram("took", unit="s", explicit_bucket_boundaries_advisory=[1.0, 2.0])
    counter.add(1, {"region": "r"})
    seconds.record(1.5, {"region": "r"})
    provider.force_flush()
    counter.add(2, {"region": "r"})
    provider.shutdown()
    latest = {point.metric: point for point in receiver.latest_points if point.scope == "scope"}
    assert (latest["asked"].value, latest["asked"].unit, latest["asked"].monotonic) == (3.0, "{request}", True)
    assert (latest["took"].count, latest["took"].value, latest["took"].buckets) == (1, 1.5, (0, 1, 0))
    assert latest["took"].bounds == (1.0, 2.0)
    assert latest["took"].attributes == {"region": "r"}
    assert [point.value for point in receiver.points if point.metric == "asked"] == [1.0, 3.0]


def test_log_records_come_with_their_extra(receiver: OtlpReceiver) -> None:
    """What a logging handler exports arrives with message, severity and extra."""
    provider = LoggerProvider(shutdown_on_exit=False)
    exporter = OTLPLogExporter(endpoint=f"{receiver.endpoint}/v1/logs")
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    with warnings.catch_warnings():  # the SDK's own handler moves to a contrib package
        warnings.simplefilter("ignore", DeprecationWarning)
        handler = LoggingHandler(logger_provider=provider)
    logger = logging.Logger("unit")  # noqa: LOG001 (nobody else's)
    logger.addHandler(handler)
    logger.warning("it ended", extra={"region": "r"})
    provider.shutdown()
    (line,) = receiver.log_lines
    assert (line.body, line.severity, line.attributes["region"]) == ("it ended", "WARN", "r")


def test_it_refuses_and_hangs_when_it_is_told_to(receiver: OtlpReceiver) -> None:
    """A refused and a hanging exporter get nothing kept; afterwards it takes again."""
    impatient, patient = _tracers(receiver, seconds=0.2), _tracers(receiver, seconds=10)
    receiver.refuse()
    impatient.get_tracer("scope").start_span("refused").end()
    receiver.hang()
    impatient.get_tracer("scope").start_span("hung").end()
    receiver.take()
    receiver.wait_for(lambda: receiver.refused >= 2)
    patient.get_tracer("scope").start_span("taken").end()
    impatient.shutdown()
    patient.shutdown()
    assert [span.name for span in receiver.spans] == ["taken"]


def _tracers(receiver: OtlpReceiver, *, seconds: float) -> TracerProvider:
    """Return a provider whose spans are exported as they end, and given up after so long."""
    provider = TracerProvider(shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=f"{receiver.endpoint}/v1/traces", timeout=seconds)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider


def test_waiting_in_vain_says_what_has_come(receiver: OtlpReceiver) -> None:
    """A predicate that never holds fails with a summary and not with a hang."""
    with pytest.raises(AssertionError, match=r"spans \[\], metrics \[\], 0 log lines"):
        receiver.wait_for(lambda: False, limit=0.05)
