"""OTLP messages as plain values: spans, metric points and log lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["LogLine", "Point", "ReceivedSpan", "SpanEvent", "log_lines", "points", "spans"]

_KINDS = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
_STATUSES = ("UNSET", "OK", "ERROR")


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanEvent:
    """One event of a span.

    Attributes:
        name: its name.
        attributes: its attributes.
        time_ns: when, nanoseconds since the epoch.
    """

    name: str
    attributes: Mapping[str, Any]
    time_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedSpan:
    """One span.

    Attributes:
        name: its name.
        kind: `SERVER`, `CLIENT`, `INTERNAL`, ...
        trace_id: 32 hexadecimal digits.
        span_id: 16 hexadecimal digits.
        parent_id: 16 hexadecimal digits; empty for a root.
        status: `UNSET`, `OK` or `ERROR`.
        description: of the status.
        attributes: values as Python has them; arrays are tuples.
        events: in order.
        links: how many it has.
        start_ns: nanoseconds since the epoch.
        end_ns: the same.
        trace_state: as W3C writes it.
        scope: name of the instrumentation scope.
        schema_url: of the scope's spans.
        resource: attributes of the resource.
    """

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    status: str
    description: str
    attributes: Mapping[str, Any]
    events: tuple[SpanEvent, ...]
    links: int
    start_ns: int
    end_ns: int
    trace_state: str
    scope: str
    schema_url: str
    resource: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One point of a metric.

    Attributes:
        metric: the metric's name.
        unit: its unit.
        kind: `sum`, `gauge` or `histogram`.
        monotonic: whether a sum only grows.
        attributes: the point's attributes.
        value: of a sum or gauge; the sum of a histogram.
        count: of a histogram; 0 otherwise.
        bounds: explicit bounds of a histogram.
        buckets: counts per bucket of a histogram.
        exemplars: trace ids of its exemplars; empty strings for those without.
        scope: name of the instrumentation scope.
        resource: attributes of the resource.
    """

    metric: str
    unit: str
    kind: str
    monotonic: bool
    attributes: Mapping[str, Any]
    value: float
    count: int
    bounds: tuple[float, ...]
    buckets: tuple[int, ...]
    exemplars: tuple[str, ...]
    scope: str
    resource: Mapping[str, Any]

    @property
    def series(self) -> tuple[Any, ...]:
        """What tells this series from others: resource, metric and attributes."""
        return (tuple(sorted(self.resource.items())), self.metric, tuple(sorted(self.attributes.items())))


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One log record.

    Attributes:
        body: the message.
        severity: `INFO`, `WARN`, ...
        attributes: its attributes.
        trace_id: 32 hexadecimal digits; empty without a span.
        span_id: 16 hexadecimal digits; empty without a span.
        scope: name of the logger.
        resource: attributes of the resource.
    """

    body: Any
    severity: str
    attributes: Mapping[str, Any]
    trace_id: str
    span_id: str
    scope: str
    resource: Mapping[str, Any]


def spans(message: Any) -> Iterator[ReceivedSpan]:
    """Yield the spans of a trace export."""
    for of_resource in message.resource_spans:
        resource = _attributes(of_resource.resource.attributes)
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                yield _span(span, scope=of_scope.scope.name, schema_url=of_scope.schema_url, resource=resource)


def points(message: Any) -> Iterator[Point]:
    """Yield the points of a metrics export."""
    for of_resource in message.resource_metrics:
        resource = _attributes(of_resource.resource.attributes)
        for of_scope in of_resource.scope_metrics:
            for metric in of_scope.metrics:
                kind = metric.WhichOneof("data")
                data = getattr(metric, kind)
                for point in data.data_points:
                    yield _point(point, metric, kind, data, scope=of_scope.scope.name, resource=resource)


def log_lines(message: Any) -> Iterator[LogLine]:
    """Yield the records of a logs export."""
    for of_resource in message.resource_logs:
        resource = _attributes(of_resource.resource.attributes)
        for of_scope in of_resource.scope_logs:
            for record in of_scope.log_records:
                yield LogLine(
                    body=_value(record.body),
                    severity=record.severity_text,
                    attributes=_attributes(record.attributes),
                    trace_id=record.trace_id.hex(),
                    span_id=record.span_id.hex(),
                    scope=of_scope.scope.name,
                    resource=resource,
                )


def _span(span: Any, *, scope: str, schema_url: str, resource: Mapping[str, Any]) -> ReceivedSpan:
    return ReceivedSpan(
        name=span.name,
        kind=_KINDS[span.kind],
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        status=_STATUSES[span.status.code],
        description=span.status.message,
        attributes=_attributes(span.attributes),
        events=tuple(
            SpanEvent(name=event.name, attributes=_attributes(event.attributes), time_ns=event.time_unix_nano)
            for event in span.events
        ),
        links=len(span.links),
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        trace_state=span.trace_state,
        scope=scope,
        schema_url=schema_url,
        resource=resource,
    )


def _point(point: Any, metric: Any, kind: str, data: Any, *, scope: str, resource: Mapping[str, Any]) -> Point:
    is_histogram = kind == "histogram"
    return Point(
        metric=metric.name,
        unit=metric.unit,
        kind=kind,
        monotonic=kind == "sum" and data.is_monotonic,
        attributes=_attributes(point.attributes),
        value=float(point.sum if is_histogram else getattr(point, point.WhichOneof("value") or "as_int")),
        count=point.count if is_histogram else 0,
        bounds=tuple(point.explicit_bounds) if is_histogram else (),
        buckets=tuple(point.bucket_counts) if is_histogram else (),
        exemplars=tuple(exemplar.trace_id.hex() for exemplar in point.exemplars),
        scope=scope,
        resource=resource,
    )


def _attributes(listed: Any) -> dict[str, Any]:
    return {one.key: _value(one.value) for one in listed}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    found = getattr(value, kind)
    if kind == "array_value":
        return tuple(_value(one) for one in found.values)
    if kind == "kvlist_value":
        return tuple(sorted(_attributes(found.values).items()))
    return found
