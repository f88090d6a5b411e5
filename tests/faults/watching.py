"""What the wall watches beside the answers: spans that end or do not, and every log record."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from opentelemetry.sdk.trace import SpanProcessor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, Span

__all__ = ["Spans", "kept_logs"]


class Spans(SpanProcessor):
    """Keeps the spans that ended and counts those that have not."""

    def __init__(self) -> None:
        self.ended: list[ReadableSpan] = []
        self.started = 0

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Count it."""
        self.started += 1

    def on_end(self, span: ReadableSpan) -> None:
        """Keep it."""
        self.ended.append(span)

    @property
    def open(self) -> int:
        """How many have not ended."""
        return self.started - len(self.ended)


class _Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(f"{self.format(record)} {vars(record)}")


@contextlib.contextmanager
def kept_logs() -> Iterator[list[str]]:
    """Keep what any logger says, at every level."""
    kept = _Kept()
    root = logging.getLogger()
    level = root.level
    root.addHandler(kept)
    root.setLevel(logging.DEBUG)
    try:
        yield kept.texts
    finally:
        root.removeHandler(kept)
        root.setLevel(level)
