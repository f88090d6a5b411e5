"""Record one request as spans: one `chat` span with a `vetted.route` and a `vetted.attempt` per try under it.

The OpenTelemetry API only: without an SDK every call here is a no-op of about a microsecond. No method raises into a
request, and none takes text that a caller wrote. Spans are started and ended by hand: `start_as_current_span` around a
stream would leave its span current in the caller's context.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.trace import INVALID_SPAN, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from vetted_mw.telemetry import names

if TYPE_CHECKING:
    from collections.abc import Mapping

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

    def chat(self, model: str, *, inbound: Mapping[str, str]) -> ChatSpan:
        """Start the span of one logical request.

        Args:
            model: the requested name, already clamped to known ones.
            inbound: the caller's `traceparent` and `tracestate`; used only where no span is current.
        """
        parent: Context | None = None
        if inbound and not trace.get_current_span().get_span_context().is_valid:
            parent = _TRACE_CONTEXT.extract(inbound)
        attributes = {names.OPERATION_NAME: "chat", names.PROVIDER_NAME: "openai", names.REQUEST_MODEL: model}
        span = self._start(f"chat {model}", parent, SpanKind.CLIENT, attributes)
        return ChatSpan(self, span, trace.set_span_in_context(span, parent))

    def _start(
        self, name: str, context: Context | None, kind: SpanKind, attributes: Mapping[str, AttributeValue]
    ) -> Span:
        try:
            return self._tracer.start_span(name, context=context, kind=kind, attributes=attributes)
        except Exception as error:  # noqa: BLE001 (a tracer that fails costs a span, never an answer)
            _LOG.warning("a span could not be started", extra={"error": type(error).__name__})
            return INVALID_SPAN


class ChatSpan:
    """The one span of a logical request; ended exactly once."""

    def __init__(self, recorder: Recorder, span: Span, context: Context) -> None:
        self._recorder = recorder
        self._span = span
        self._context = context
        self._attempts = 0

    def route(self, decision: Decision) -> None:
        """Record the decision as a span of its own."""
        span = self._recorder._start(names.ROUTE_SPAN, self._context, SpanKind.INTERNAL, {})  # noqa: SLF001 (one module, one recorder)
        if span.is_recording():
            span.set_attributes(
                {
                    names.TRACE_PREFIX + "route_policy": decision.policy.value,
                    names.TRACE_PREFIX + "decision_mode": decision.mode.value,
                    names.TRACE_PREFIX + "decision_reason": decision.reason.value,
                    names.CANDIDATES: list(decision.order),
                }
            )
            rejected = [verdict for verdict in decision.verdicts if verdict.rejected is not None]
            for verdict in rejected[: names.MAX_REJECTED_EVENTS]:
                reason = "" if verdict.rejected is None else verdict.rejected.value
                span.add_event(
                    names.REJECTED_EVENT, {names.REGION: verdict.candidate.region.code, names.REASON: reason}
                )
            if not decision.order:
                span.set_status(Status(StatusCode.ERROR))
        span.end()

    def attempt(self, upstream: Upstream, region: Region) -> AttemptSpan:
        """Start the span of one try."""
        url = urlsplit(upstream.base_url)
        attributes: dict[str, AttributeValue] = {
            names.HTTP_METHOD: "POST",
            names.SERVER_ADDRESS: url.hostname or "",
            names.SERVER_PORT: url.port or (443 if url.scheme == "https" else 80),
            names.URL_SCHEME: url.scheme,
            names.REGION: region.code,
            names.COUNTRY: region.country,
            names.ATTEMPT_INDEX: self._attempts,
        }
        self._attempts += 1
        span = self._recorder._start(names.ATTEMPT_SPAN, self._context, SpanKind.CLIENT, attributes)  # noqa: SLF001
        context = trace.set_span_in_context(span, self._context)
        return AttemptSpan(span, _injected(context) if self._recorder._propagate else [])  # noqa: SLF001

    def end(self, attributes: Mapping[str, AttributeValue], *, error_type: str | None) -> None:
        """End the span.

        Args:
            attributes: what `telemetry.attributes` made of trace and receipt.
            error_type: a closed word when the caller got an error or a cut stream; None otherwise.
        """
        if self._span.is_recording():
            self._span.set_attributes(attributes)
            if error_type is not None:
                self._span.set_attribute(names.ERROR_TYPE, error_type)
                self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()

    @property
    def is_recording(self) -> bool:
        """Whether building attributes is worth the time."""
        return self._span.is_recording()


class AttemptSpan:
    """The span of one try.

    Attributes:
        headers: trace context for the upstream; never baggage.
    """

    def __init__(self, span: Span, headers: list[tuple[bytes, bytes]]) -> None:
        self._span = span
        self.headers = headers

    def end(self, record: AttemptRecord) -> None:
        """End the span with how the try ended."""
        if self._span.is_recording():
            if record.status is not None:
                self._span.set_attribute(names.HTTP_STATUS, record.status)
            if record.outcome.value not in _NOT_AN_ERROR:
                self._span.set_attribute(names.ERROR_TYPE, record.outcome.value)
                self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()


def _injected(context: Context) -> list[tuple[bytes, bytes]]:
    carrier: dict[str, str] = {}
    _TRACE_CONTEXT.inject(carrier, context)
    return [(name.encode("ascii"), value.encode("latin-1")) for name, value in carrier.items()]
