"""An SDK of a test's own, in memory: what was recorded, as a tree and as points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from telemetry.spans import Spans

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.sdk.metrics.export import Metric, MetricReader
    from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["Recorded"]


class Recorded:
    """What a gateway that is given `tracers` and `meters` tells. Nothing global is set.

    Args:
        readers: of metrics, beside the one here.

    Attributes:
        tracers: takes spans.
        meters: takes metrics.
        spans: those that have ended.
    """

    def __init__(self, *readers: MetricReader) -> None:
        exporter = InMemorySpanExporter()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(exporter))
        self._reader = InMemoryMetricReader()
        self.meters = MeterProvider([self._reader, *readers], shutdown_on_exit=False)
        self.spans = Spans(exporter)

    def shutdown(self) -> None:
        """End both."""
        self.tracers.shutdown()
        self.meters.shutdown()

    @property
    def providers(self) -> dict[str, Any]:
        """Both, as `Gateway` and the contrib instrumentations name them."""
        return {"tracer_provider": self.tracers, "meter_provider": self.meters}

    @property
    def metrics(self) -> dict[str, Metric]:
        """What our meters have recorded by now, by name."""
        data = self._reader.get_metrics_data()
        found = [] if data is None else [scope for one in data.resource_metrics for scope in one.scope_metrics]
        return {metric.name: metric for scope in found if scope.scope.name == "vetted_mw" for metric in scope.metrics}

    @property
    def tree(self) -> list[str]:
        """The spans, each under its parent and in the order they began; those not ours go by their instrumentation."""
        return [line for root in self._under(None) for line in self._lines(root, "")]

    def _lines(self, span: ReadableSpan, margin: str) -> Iterator[str]:
        scope = "" if span.instrumentation_scope is None else span.instrumentation_scope.name
        yield f"{margin}{span.kind.name} {span.name if scope == 'vetted_mw' else scope.rpartition('.')[2]}"
        for child in self._under(span):
            yield from self._lines(child, margin + "  ")

    def _under(self, parent: ReadableSpan | None) -> list[ReadableSpan]:
        known = {span.context.span_id for span in self.spans.all}

        def parent_of(span: ReadableSpan) -> int | None:
            return span.parent.span_id if span.parent is not None and span.parent.span_id in known else None

        wanted = None if parent is None else parent.context.span_id
        return sorted(
            (span for span in self.spans.all if parent_of(span) == wanted), key=lambda span: span.start_time or 0
        )
