"""Trace context from callers and to upstreams: W3C's two headers and nothing else, baggage never."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from vetted_mw.telemetry.costs_no_answer import COSTS_NO_ANSWER

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opentelemetry.context import Context

__all__ = ["extracted", "injected", "is_traced"]

_TRACE_CONTEXT = TraceContextTextMapPropagator()
_PARENT, _STATE = b"traceparent", b"tracestate"
_KEY = r"(?:[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})"
_VALUE = r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
_MEMBER = re.compile(f"{_KEY}={_VALUE}")
_MAX_MEMBERS = 32


def is_traced(inside: Context) -> bool:
    """Whether there is a span, ours or another's, that what happens inside belongs under."""
    return bool(inside) and get_current_span(inside).get_span_context().is_valid


def extracted(headers: Iterable[tuple[bytes, bytes]], around: Context) -> Context:
    """Return `around` with the trace context that headers bring; as it is where they bring none that can be read."""
    carrier: dict[str, str] = {}
    states: list[str] = []
    for name, value in headers:
        if name == _PARENT:
            carrier.setdefault("traceparent", value.decode("latin-1"))
        elif name == _STATE:
            states.append(value.decode("latin-1"))
    if not carrier:
        return around
    state = _readable(states)
    if state:
        carrier["tracestate"] = state
    with COSTS_NO_ANSWER:
        return _TRACE_CONTEXT.extract(carrier, around)
    return around


def injected(inside: Context) -> list[tuple[bytes, bytes]]:
    """Return the headers that tell an upstream of the span in `inside`; none where there is none."""
    if not inside:
        return []
    carrier: dict[str, str] = {}
    with COSTS_NO_ANSWER:
        _TRACE_CONTEXT.inject(carrier, inside)
    return [(name.encode("ascii"), value.encode("latin-1")) for name, value in carrier.items()]


def _readable(states: list[str]) -> str:
    """Return the state that these headers are together; nothing where any member breaks the grammar.

    The API would write such a member, a caller's own text, into its log.
    """
    members = [member.strip(" \t") for state in states for member in state.split(",")]
    told = [member for member in members if member]
    is_readable = len(told) <= _MAX_MEMBERS and all(_MEMBER.fullmatch(member) for member in told)
    return ",".join(told) if is_readable else ""
