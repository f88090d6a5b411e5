"""Spans as an indented text, so that a test can say what the whole tree is; and what no tree may have."""

from __future__ import annotations

import textwrap
import threading
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.trace import format_span_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from telemetry.decoded import ReceivedSpan, SpanEvent

__all__ = ["CountedSpans", "complaints", "drawn", "rendered"]

_OURS = "vetted_mw"
_TOLD = (
    ("error.type", "error"),
    ("http.response.status_code", "status"),
    ("http.status_code", "status"),
    ("http.request.resend_count", "resend"),
    ("vetted.region", "region"),
    ("vetted.attempt_count", "attempts"),
    ("vetted.stream.outcome", "outcome"),
    ("vetted.receipt.placement", "receipt"),
    ("vetted.reason", "reason"),
)
_UNCONFIGURED = "not_configured"


class CountedSpans(SpanProcessor):
    """Counts how often each span was started and ended.

    Attributes:
        started: span id -> times.
        ended: span id -> times.
    """

    def __init__(self) -> None:
        self.started: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        self._lock = threading.Lock()

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        """Count a start."""
        with self._lock:
            self.started[format_span_id(span.context.span_id)] += 1

    def on_end(self, span: Any) -> None:
        """Count an end."""
        with self._lock:
            self.ended[format_span_id(span.context.span_id)] += 1

    @property
    def open(self) -> int:
        """How many have been started and not ended."""
        with self._lock:
            return self.started.total() - self.ended.total()


def drawn(text: str) -> str:
    """Return a tree as it was drawn in a test, without the test's own indentation."""
    return textwrap.dedent(text).lstrip("\n")


def rendered(spans: Iterable[ReceivedSpan]) -> str:
    """Return the spans as an indented text, siblings in the order they started, events below their span.

    A line says name, kind, status and, of the attributes, error type, HTTP status, region, attempts, outcome, where the
    receipt is; the scope only where it is not ours. Regions of the catalogue that nobody configured are no event here.
    """
    children: dict[str, list[ReceivedSpan]] = defaultdict(list)
    listed = list(spans)
    ids = {span.span_id for span in listed}
    for span in listed:
        children[span.parent_id if span.parent_id in ids else ""].append(span)
    return "".join(f"{line}\n" for line in _lines(children, "", 0))


def complaints(spans: Sequence[ReceivedSpan], counted: CountedSpans, *, remote: Iterable[str] = ()) -> list[str]:
    """Return what is wrong with what was exported, in words; nothing, it is to be hoped.

    Args:
        spans: everything that was exported.
        counted: everything that was started and ended.
        remote: span ids of callers, parents that nobody here exports.
    """
    found = []
    by_id = {span.span_id: span for span in spans}
    if len(by_id) != len(spans):
        found.append("a span was exported twice")
    if set(by_id) != set(counted.started) or counted.started != counted.ended:
        found.append(f"{counted.started.total()} started, {counted.ended.total()} ended, {len(spans)} exported")
    if any(times != 1 for times in (*counted.started.values(), *counted.ended.values())):
        found.append("a span was started or ended twice")
    known = {"", *by_id, *remote}
    found += [f"{span.name}: an orphan" for span in spans if span.parent_id not in known]
    for span in spans:
        parent = by_id.get(span.parent_id)
        found += [] if parent is None else _of_kinship(span, parent)
        found += [f"{span.name}: description"] if span.description else []
        found += [f"{span.name}: exception"] if any(event.name == "exception" for event in span.events) else []
    return found


def _of_kinship(span: ReceivedSpan, parent: ReceivedSpan) -> list[str]:
    """Say what is wrong between a span and its parent: it lies within it, in one trace."""
    found = []
    if span.trace_id != parent.trace_id:
        found.append(f"{span.name}: in another trace than its parent")
    if span.start_ns < parent.start_ns or span.end_ns > parent.end_ns:
        found.append(f"{span.name}: not within {parent.name}")
    return found


def _lines(children: dict[str, list[ReceivedSpan]], parent: str, depth: int) -> Iterable[str]:
    for span in sorted(children[parent], key=lambda one: one.start_ns):
        yield "  " * depth + " ".join([span.name, span.kind, span.status, *_words(span)])
        yield from ("  " * (depth + 1) + line for line in _events(span.events))
        yield from _lines(children, span.span_id, depth + 1)


def _words(span: ReceivedSpan) -> list[str]:
    told = [f"{short}={span.attributes[name]}" for name, short in _TOLD if name in span.attributes]
    return told if span.scope == _OURS else [*told, f"[{span.scope}]"]


def _events(events: Iterable[SpanEvent]) -> Iterable[str]:
    for event in events:
        if event.attributes.get("vetted.reason") != _UNCONFIGURED:
            told = [f"{short}={event.attributes[name]}" for name, short in _TOLD if name in event.attributes]
            yield " ".join(["!", event.name, *told])
