"""Start the spans of requests, by the OpenTelemetry API only: until an SDK is set, none is started at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import context, trace
from opentelemetry.trace import INVALID_SPAN, SpanKind

from vetted_mw.errors import ConfigurationError
from vetted_mw.telemetry import names
from vetted_mw.telemetry.attributes import server_span_attributes
from vetted_mw.telemetry.costs_no_answer import COSTS_NO_ANSWER
from vetted_mw.telemetry.propagation import extracted
from vetted_mw.telemetry.spans import ChatSpan, ServerSpan

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from opentelemetry.context import Context
    from opentelemetry.trace import Span, TracerProvider
    from opentelemetry.util.types import AttributeValue

__all__ = ["Recorder"]


class Recorder:
    """Starts the spans of requests.

    Args:
        version: of this package.
        propagate: whether upstreams get `traceparent`.
        provider: where spans go; None: the global one, whenever it is set.

    Raises:
        ConfigurationError: the environment names a provider that is not installed.
    """

    def __init__(self, *, version: str, propagate: bool, provider: TracerProvider | None = None) -> None:
        try:
            self._tracer = trace.get_tracer(
                names.INSTRUMENTATION, version, tracer_provider=provider, schema_url=names.SCHEMA_URL
            )
        except StopIteration:  # all that the API says of a provider it cannot find
            raise ConfigurationError(
                "OTEL_PYTHON_TRACER_PROVIDER names a provider that is not installed.",
                remedy="Install what brings it, or unset the variable.",
            ) from None
        self._propagate = propagate
        self._may_sleep = provider is None and isinstance(self._tracer, trace.ProxyTracer)

    @property
    def _is_asleep(self) -> bool:
        """Whether no SDK has been set yet, so that every span would be one that nobody sees."""
        return self._may_sleep and isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)

    def server(self, *, path: str, scheme: str, headers: Iterable[tuple[bytes, bytes]]) -> ServerSpan:
        """Start the span of one HTTP request, unless the host has one for it.

        Args:
            path: one of the configured ones, never what surrounds it in a host.
            scheme: `http` or `https`.
            headers: the caller's; its trace context is gone on with.
        """
        here = context.get_current()
        if trace.get_current_span(here).get_span_context().is_valid:
            return ServerSpan(INVALID_SPAN, here)
        parent = extracted(headers, here)
        if self._is_asleep:
            return ServerSpan(INVALID_SPAN, parent)
        span = self._start(f"POST {path}", parent, SpanKind.SERVER, server_span_attributes(path=path, scheme=scheme))
        return ServerSpan(span, trace.set_span_in_context(span, parent))

    def chat(
        self, model: str, *, provider: str, outer: Context | None = None, headers: Iterable[tuple[bytes, bytes]] = ()
    ) -> ChatSpan:
        """Start the span of one logical request: under the span that is current, else under the one of the request.

        Args:
            model: the requested name, already clamped to known ones.
            provider: `gen_ai.provider.name` of the region the request goes to first.
            outer: holds the span of the HTTP request; used where no span is current.
            headers: of an in-app handler's call: trace context that its own client put there goes before `outer`.
        """
        parent = context.get_current()
        if not trace.get_current_span(parent).get_span_context().is_valid:
            parent = extracted(headers, parent if outer is None else outer)
        if self._is_asleep:
            return ChatSpan(INVALID_SPAN, parent, start=self._start, propagate=self._propagate)
        attributes = {names.OPERATION_NAME: names.CHAT, names.PROVIDER_NAME: provider, names.REQUEST_MODEL: model}
        span = self._start(f"{names.CHAT} {model}", parent, SpanKind.CLIENT, attributes)
        inside = trace.set_span_in_context(span, parent)
        return ChatSpan(span, inside, start=self._start, propagate=self._propagate)

    def _start(
        self, name: str, parent: Context | None, kind: SpanKind, attributes: Mapping[str, AttributeValue]
    ) -> Span:
        with COSTS_NO_ANSWER:
            return self._tracer.start_span(name, context=parent, kind=kind, attributes=attributes)
        return INVALID_SPAN
