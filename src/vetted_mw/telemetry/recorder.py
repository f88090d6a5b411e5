"""Record one request as spans: one `chat` span with a `vetted.route` and a `vetted.attempt` per try under it.

The OpenTelemetry API only: without an SDK every call here is a no-op of about a microsecond. No method raises into a
request, and none takes text that a caller wrote. Spans are started and ended by hand: `start_as_current_span` around a
stream would leave its span current in the caller's context.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec
from opentelemetry import context, trace
from opentelemetry.trace import INVALID_SPAN, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from vetted_mw.routing.trace import told_signal
from vetted_mw.telemetry import names
from vetted_mw.telemetry.attributes import server_attributes, trace_attributes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType

    from opentelemetry.context import Context
    from opentelemetry.trace import Span
    from opentelemetry.util.types import AttributeValue

    from vetted_mw.configuration import Upstream
    from vetted_mw.routing.decision import AttemptRecord, Decision
    from vetted_mw.routing.regions import Region

__all__ = ["AttemptSpan", "ChatSpan", "Recorder"]

_LOG = logging.getLogger("vetted_mw")
_TRACE_CONTEXT = TraceContextTextMapPropagator()
_NOT_AN_ERROR = frozenset({"success", "client_disconnect", "not_admitted"})


class Recorder:
    """Starts the spans of requests.

    Args:
        version: of this package.
        propagate: whether upstreams get `traceparent`.
    """

    def __init__(self, *, version: str, propagate: bool) -> None:
        self._tracer = trace.get_tracer(names.INSTRUMENTATION, version, schema_url=names.SCHEMA_URL)
        self._propagate = propagate

    def chat(self, model: str, *, provider: str, inbound: Mapping[str, str]) -> ChatSpan:
        """Start the span of one logical request.

        Args:
            model: the requested name, already clamped to known ones.
            provider: `gen_ai.provider.name` of the region the request goes to first.
            inbound: the caller's `traceparent` and `tracestate`; used only where no span is current.
        """
        parent: Context | None = None
        if inbound and not trace.get_current_span().get_span_context().is_valid:
            parent = _TRACE_CONTEXT.extract(inbound, context.get_current())
        attributes = {names.OPERATION_NAME: "chat", names.PROVIDER_NAME: provider, names.REQUEST_MODEL: model}
        span = self._start(f"chat {model}", parent, SpanKind.CLIENT, attributes)
        return ChatSpan(self, span, trace.set_span_in_context(span, parent))

    def _start(
        self, name: str, parent: Context | None, kind: SpanKind, attributes: Mapping[str, AttributeValue]
    ) -> Span:
        with _COSTS_NO_ANSWER:
            return self._tracer.start_span(name, context=parent, kind=kind, attributes=attributes)
        return INVALID_SPAN


class ChatSpan:
    """The one span of a logical request; ended exactly once."""

    def __init__(self, recorder: Recorder, span: Span, inside: Context) -> None:
        self._recorder = recorder
        self._span = span
        self._context = inside
        self._attempts = 0

    def route(self, decision: Decision) -> None:
        """Record the decision as a span of its own."""
        span = self._recorder._start(names.ROUTE_SPAN, self._context, SpanKind.INTERNAL, {})  # noqa: SLF001 (one module, one recorder)
        _end(span, lambda: _describe_decision(span, decision))

    def attempt(self, upstream: Upstream, region: Region) -> AttemptSpan:
        """Start the span of one try."""
        attributes: dict[str, AttributeValue] = {
            names.HTTP_METHOD: "POST",
            **server_attributes(upstream.base_url),
            names.URL_SCHEME: urlsplit(upstream.base_url).scheme,
            names.REGION: region.code,
            names.COUNTRY: region.country,
            names.ATTEMPT_INDEX: self._attempts,
        }
        self._attempts += 1
        span = self._recorder._start(names.ATTEMPT_SPAN, self._context, SpanKind.CLIENT, attributes)  # noqa: SLF001
        inside = trace.set_span_in_context(span, self._context)
        return AttemptSpan(span, inside, propagate=self._recorder._propagate)  # noqa: SLF001

    def event(self, name: str, attributes: Mapping[str, AttributeValue] | None = None) -> None:
        """Note that something happened now."""
        with _COSTS_NO_ANSWER:
            self._span.add_event(name, attributes)

    def end(self, attributes: Mapping[str, AttributeValue], *, error_type: str | None) -> None:
        """End the span.

        Args:
            attributes: what `telemetry.attributes` made of trace and receipt.
            error_type: a closed word when the caller got an error or a cut stream; None otherwise.
        """

        def describe() -> None:
            self._span.set_attributes(attributes)
            if error_type is not None:
                _mark_error(self._span, error_type)

        _end(self._span, describe)

    @property
    def is_recording(self) -> bool:
        """Whether building attributes is worth the time."""
        return self._span.is_recording()


class AttemptSpan:
    """The span of one try.

    Attributes:
        headers: trace context for the upstream; never baggage.
    """

    def __init__(self, span: Span, inside: Context, *, propagate: bool) -> None:
        self._span = span
        self._inside = inside
        self.headers = _injected(inside) if propagate else []

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """Make the span current while the request is sent, so that a client's own instrumentation nests under it.

        Never around a `yield` of the stream: the span would stay current in whoever reads it.
        """
        token = context.attach(self._inside)
        try:
            yield
        finally:
            context.detach(token)

    def end(self, record: AttemptRecord) -> None:
        """End the span with how the try ended."""

        def describe() -> None:
            if record.status is not None:
                self._span.set_attribute(names.HTTP_STATUS, record.status)
            if record.outcome.value not in _NOT_AN_ERROR:
                _mark_error(self._span, record.outcome.value)

        _end(self._span, describe)


class _CostsNoAnswer:
    """Swallow what a tracer or a span processor raises, with a line in the log."""

    def __enter__(self) -> None:
        """Begin; nothing is kept, so that one instance serves every request."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        if kind is None or not isinstance(error, Exception):
            return False
        # Its text could hold anything, so only its kind is told.
        _LOG.warning("a span could not be recorded", extra={"error": kind.__name__})
        return True


_COSTS_NO_ANSWER = _CostsNoAnswer()


def _end(span: Span, describe: Callable[[], None]) -> None:
    """Describe a span that records, and end it whatever became of the description."""
    with _COSTS_NO_ANSWER:
        if span.is_recording():
            describe()
    with _COSTS_NO_ANSWER:
        span.end()


def _mark_error(span: Span, error_type: str) -> None:
    span.set_attribute(names.ERROR_TYPE, error_type)
    span.set_status(Status(StatusCode.ERROR))


def _describe_decision(span: Span, decision: Decision) -> None:
    chosen = decision.order[0] if decision.order else None
    operational = None if chosen is None else decision.readings.get(chosen)
    signal = None if operational is None else msgspec.to_builtins(told_signal(operational))
    told = {
        "route_policy": decision.policy.value,
        "decision_mode": decision.mode.value,
        "decision_reason": decision.reason.value,
        "operational_signal": signal,
    }
    span.set_attributes({**trace_attributes(told), names.CANDIDATES: list(decision.order)})
    rejected = [verdict for verdict in decision.verdicts if verdict.rejected is not None]
    for verdict in rejected[: names.MAX_REJECTED_EVENTS]:
        reason = "" if verdict.rejected is None else verdict.rejected.value
        span.add_event(names.REJECTED_EVENT, {names.REGION: verdict.candidate.region.code, names.REASON: reason})
    if chosen is None:
        _mark_error(span, names.NO_REGION)
    else:
        span.set_attribute(names.REGION, chosen)


def _injected(inside: Context) -> list[tuple[bytes, bytes]]:
    carrier: dict[str, str] = {}
    _TRACE_CONTEXT.inject(carrier, inside)
    return [(name.encode("ascii"), value.encode("latin-1")) for name, value in carrier.items()]
