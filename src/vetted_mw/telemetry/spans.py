"""The spans of one request, each ended once: the HTTP request's, its `chat`, and a `vetted.attempt` per try.

No method raises into a request, and none takes text that a caller wrote. They are started and ended by hand:
`start_as_current_span` around a stream would leave its span current in the caller's context.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Protocol

from opentelemetry import context, trace
from opentelemetry.trace import INVALID_SPAN, SpanKind, Status, StatusCode

from vetted_mw.routing.values import Rejection
from vetted_mw.telemetry import names
from vetted_mw.telemetry.attributes import attempt_attributes, decision_attributes
from vetted_mw.telemetry.costs_no_answer import COSTS_NO_ANSWER
from vetted_mw.telemetry.points import NOT_AN_ERROR
from vetted_mw.telemetry.propagation import injected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextvars import Token
    from types import TracebackType

    from opentelemetry.context import Context
    from opentelemetry.trace import Span
    from opentelemetry.util.types import AttributeValue

    from vetted_mw.configuration import Upstream
    from vetted_mw.routing.decision import AttemptRecord, Decision
    from vetted_mw.routing.regions import Region

__all__ = ["AttemptSpan", "ChatSpan", "ServerSpan", "StartSpan", "correlated"]

_SERVER_FAULT = 500


class StartSpan(Protocol):
    """Starts a span under the one in a context. Never raises: at worst the span is one that nobody sees."""

    def __call__(
        self, name: str, parent: Context | None, kind: SpanKind, attributes: Mapping[str, AttributeValue]
    ) -> Span:
        """Start it."""
        ...


class ServerSpan:
    """The span of one HTTP request, ours or the host's; only ours is ended, exactly once.

    Attributes:
        context: what the request's other spans are children of.
    """

    __slots__ = ("_span", "context")

    def __init__(self, span: Span, inside: Context) -> None:
        self._span = span
        self.context = inside

    def end(self, *, status: int | None, error: str | None, has_raised: bool = False) -> None:
        """End the span.

        Args:
            status: of the answer; None when there was none.
            error: what the caller was told, a closed word; it counts where the fault is on this side.
            has_raised: whether the host's own handler raised, whatever its status.
        """
        if self._span is INVALID_SPAN:
            return

        def describe() -> None:
            if status is not None:
                self._span.set_attribute(names.HTTP_STATUS, status)
            if has_raised or (status is not None and status >= _SERVER_FAULT):
                _mark_error(self._span, error or str(status or names.OTHER))

        _end(self._span, describe)


class ChatSpan:
    """The one span of a logical request; ended exactly once.

    Args:
        span: has been started.
        inside: a context with it.
        start: starts the spans under it.
        propagate: whether upstreams get `traceparent`.

    Attributes:
        context: with the span in it, for what is recorded beside it.
        is_recording: whether anybody gets to see it.
        is_known: whether it is more than a name for nothing: it was started, or a trace goes on through it.
    """

    __slots__ = ("_attempts", "_propagate", "_span", "_start", "context", "is_known", "is_recording")

    def __init__(self, span: Span, inside: Context, *, start: StartSpan, propagate: bool) -> None:
        self._span = span
        self._start = start
        self._propagate = propagate
        self.context = inside
        self._attempts = 0
        self.is_known = span is not INVALID_SPAN or bool(inside)
        self.is_recording = False
        if span is not INVALID_SPAN:
            with COSTS_NO_ANSWER:
                self.is_recording = span.is_recording()

    def route(self, decision: Decision, *, requested: str | None) -> None:
        """Record the decision as a span of its own; without a span that records, nothing is built for one.

        Args:
            decision: as decided.
            requested: code of the region that was asked for by name; None where none was.
        """
        if not self.is_recording:
            return
        with COSTS_NO_ANSWER:
            attributes = _route_attributes(decision)
            if requested is not None:
                attributes[names.REQUESTED_REGION] = requested
            span = self._start(names.ROUTE_SPAN, self.context, SpanKind.INTERNAL, attributes)

            def describe() -> None:
                _tell_rejected(span, decision)
                if not decision.order:
                    _mark_error(span, names.NO_REGION)

            _end(span, describe)

    def attempt(self, upstream: Upstream, region: Region) -> AttemptSpan:
        """Start the span of one try; without a span that records, its upstream is told of the trace as it stands.

        Of one that is not known there is nothing to start: whoever asks looks at `is_known` first.
        """
        if not self.is_recording:
            return AttemptSpan(INVALID_SPAN, self.context, propagate=self._propagate)
        attributes = attempt_attributes(upstream, region, index=self._attempts)
        self._attempts += 1
        span = self._start(names.ATTEMPT_SPAN, self.context, SpanKind.CLIENT, attributes)
        inside = trace.set_span_in_context(span, self.context)
        return AttemptSpan(span, inside, propagate=self._propagate)

    def event(self, name: str, attributes: Mapping[str, AttributeValue] | None = None) -> None:
        """Note that something happened now."""
        if self.is_recording:
            with COSTS_NO_ANSWER:
                self._span.add_event(name, attributes)

    def end(
        self,
        attributes: Callable[[], Mapping[str, AttributeValue]],
        *,
        error_type: str | None,
        finished_at: int | None = None,
    ) -> None:
        """End the span.

        Args:
            attributes: returns what `telemetry.attributes` makes of trace and receipt; asked only by a span that
                records.
            error_type: a closed word when the caller got an error or a cut stream; None otherwise.
            finished_at: when the operation was over, in nanoseconds since the epoch; None: now.
        """
        if self._span is INVALID_SPAN:
            return

        def describe() -> None:
            if error_type is not None:  # first: it holds whatever becomes of the rest
                _mark_error(self._span, error_type)
            self._span.set_attributes(attributes())

        _end(self._span, describe, at=finished_at)


class AttemptSpan:
    """The span of one try.

    Attributes:
        headers: trace context for the upstream; never baggage.
    """

    __slots__ = ("_inside", "_span", "_token", "headers")

    def __init__(self, span: Span, inside: Context, *, propagate: bool) -> None:
        self._span = span
        self._inside = inside
        self._token: Token[Context] | None = None
        self.headers = injected(inside) if propagate else []

    def __enter__(self) -> None:
        """Make the span current while the request is sent, so that a client's own instrumentation nests under it.

        Never around a `yield` of the stream: the span would stay current in whoever reads it.
        """
        if self._inside:
            self._token = context.attach(self._inside)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        token, self._token = self._token, None
        if token is not None:
            context.detach(token)

    def end(self, record: AttemptRecord) -> None:
        """End the span with how the try ended."""
        if self._span is INVALID_SPAN:
            return

        def describe() -> None:
            if record.status is not None:
                self._span.set_attribute(names.HTTP_STATUS, record.status)
            if record.outcome not in NOT_AN_ERROR:
                _mark_error(self._span, record.outcome.value)

        _end(self._span, describe)


@contextlib.contextmanager
def correlated(within: Context) -> Iterator[dict[str, str]]:
    """Make the span of `within` current for one line of the log, and give its ids; nothing may be awaited inside."""
    if not within:
        yield {}
        return
    span = trace.get_current_span(within).get_span_context()
    token = context.attach(within)
    try:
        yield (
            {}
            if not span.is_valid
            else {
                "trace_id": trace.format_trace_id(span.trace_id),
                "span_id": trace.format_span_id(span.span_id),
            }
        )
    finally:
        context.detach(token)


def _end(span: Span, describe: Callable[[], None], *, at: int | None = None) -> None:
    """Describe a span that records, and end it whatever became of the description."""
    with COSTS_NO_ANSWER:
        if span.is_recording():
            describe()
    with COSTS_NO_ANSWER:
        span.end(at)


def _mark_error(span: Span, error_type: str) -> None:
    span.set_attribute(names.ERROR_TYPE, error_type)
    span.set_status(Status(StatusCode.ERROR))


def _route_attributes(decision: Decision) -> dict[str, AttributeValue]:
    chosen = decision.order[0] if decision.order else None
    operational = None if chosen is None else decision.readings.get(chosen)
    attributes = decision_attributes(decision.policy, decision.mode, decision.reason, operational)
    attributes[names.CANDIDATES] = decision.order
    if chosen is not None:
        attributes[names.REGION] = chosen
    return attributes


def _tell_rejected(span: Span, decision: Decision) -> None:
    """Tell why each region of the operator's is not among the candidates; the rest of the catalogue never could be."""
    rejected = [
        (verdict.candidate.region.code, verdict.rejected)
        for verdict in decision.verdicts
        if verdict.rejected is not None and verdict.rejected is not Rejection.NOT_CONFIGURED
    ]
    for code, why in rejected[: names.MAX_REJECTED_EVENTS]:
        span.add_event(names.REJECTED_EVENT, {names.REGION: code, names.REASON: why.value})
