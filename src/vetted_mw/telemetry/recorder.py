"""Start the spans of requests, by the OpenTelemetry API only: until an SDK is set, none is started at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import context, trace
from opentelemetry.trace import INVALID_SPAN, SpanKind

from vetted_mw.errors import ConfigurationError
from vetted_mw.telemetry import names
from vetted_mw.telemetry.attributes import server_span_attributes
from vetted_mw.telemetry.costs_no_answer import COSTS_NO_ANSWER
from vetted_mw.telemetry.propagation import extracted, is_traced
from vetted_mw.telemetry.slumber import Slumber
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
        may_sleep = provider is None and isinstance(self._tracer, trace.ProxyTracer)
        self._slumber = Slumber(_is_unset) if may_sleep else None
        nowhere = context.Context()
        self._unseen_server = ServerSpan(INVALID_SPAN, nowhere)
        self._unseen_chat = ChatSpan(INVALID_SPAN, nowhere, start=self._start, propagate=propagate)

    @property
    def is_asleep(self) -> bool:
        """Whether no SDK has been set yet, so that every span would be one that nobody sees."""
        slumber = self._slumber
        return slumber is not None and (slumber.monotonic() < slumber.until or slumber.lasts())

    def server(self, *, path: str, scheme: str, headers: Iterable[tuple[bytes, bytes]]) -> ServerSpan:
        """Start the span of one HTTP request, unless the host has one for it.

        Args:
            path: one of the configured ones, never what surrounds it in a host.
            scheme: `http` or `https`.
            headers: the caller's; its trace context is gone on with.
        """
        here = context.get_current()
        if is_traced(here):
            return ServerSpan(INVALID_SPAN, here)
        parent = extracted(headers, here)
        span = self._start(f"POST {path}", parent, SpanKind.SERVER, server_span_attributes(path=path, scheme=scheme))
        return ServerSpan(span, trace.set_span_in_context(span, parent))

    def unseen_server(self, headers: Iterable[tuple[bytes, bytes]] | None) -> ServerSpan:
        """Return what stands for the span of one HTTP request while nobody would see one.

        Args:
            headers: as for `server`; None where they bring no trace context to go on with.
        """
        here = context.get_current()
        if headers is None:
            return ServerSpan(INVALID_SPAN, here) if here else self._unseen_server
        return ServerSpan(INVALID_SPAN, here if is_traced(here) else extracted(headers, here))

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
        parent = self._parent(outer, headers)
        attributes = {names.OPERATION_NAME: names.CHAT, names.PROVIDER_NAME: provider, names.REQUEST_MODEL: model}
        span = self._start(f"{names.CHAT} {model}", parent, SpanKind.CLIENT, attributes)
        inside = trace.set_span_in_context(span, parent)
        return ChatSpan(span, inside, start=self._start, propagate=self._propagate)

    def unseen(self, *, outer: Context | None, headers: Iterable[tuple[bytes, bytes]] | None) -> ChatSpan:
        """Return what stands for the span of one logical request while nobody would see one: nothing is known for it.

        Args:
            outer: as for `chat`; the trace context it holds is told to upstreams all the same.
            headers: as for `chat`; None where the request is the outer one itself, whose context then holds.
        """
        parent = outer if headers is None and outer is not None else self._parent(outer, headers or ())
        if not parent:
            return self._unseen_chat
        return ChatSpan(INVALID_SPAN, parent, start=self._start, propagate=self._propagate)

    def _parent(self, outer: Context | None, headers: Iterable[tuple[bytes, bytes]]) -> Context:
        here = context.get_current()
        if is_traced(here):
            return here
        around = here if outer is None else outer
        return extracted(headers, around) if headers else around

    def _start(
        self, name: str, parent: Context | None, kind: SpanKind, attributes: Mapping[str, AttributeValue]
    ) -> Span:
        with COSTS_NO_ANSWER:
            return self._tracer.start_span(name, context=parent, kind=kind, attributes=attributes)
        return INVALID_SPAN


def _is_unset() -> bool:
    return isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
