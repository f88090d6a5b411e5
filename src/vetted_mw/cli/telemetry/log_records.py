"""Log records of `vetted_mw` as OpenTelemetry's, with the trace they belong to."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeAlias

from opentelemetry import trace
from opentelemetry._logs import SeverityNumber, get_logger
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from vetted_mw.cli.logs import fields_of

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ExportedRecords", "hide_header_values"]

_IDS = ("trace_id", "span_id")
_Plain: TypeAlias = str | bool | int | float
_SEVERITIES = {
    logging.DEBUG: (SeverityNumber.DEBUG, "DEBUG"),
    logging.INFO: (SeverityNumber.INFO, "INFO"),
    logging.WARNING: (SeverityNumber.WARN, "WARN"),
    logging.ERROR: (SeverityNumber.ERROR, "ERROR"),
    logging.CRITICAL: (SeverityNumber.FATAL, "FATAL"),
}


class ExportedRecords(logging.Handler):
    """Passes records on to the global logger provider: the message, its fields, and nothing of an exception.

    The SDK's own handler tells an exception's text and stack, which may be a caller's words.
    """

    def __init__(self, version: str) -> None:
        super().__init__()
        self._logger = get_logger("vetted_mw", version)

    def emit(self, record: logging.LogRecord) -> None:
        """Pass one record on."""
        try:
            fields = {name: value for name, value in fields_of(record).items() if value is not None}
            number, text = _SEVERITIES.get(record.levelno, (SeverityNumber.UNSPECIFIED, record.levelname))
            self._logger.emit(
                timestamp=int(record.created * 1e9),
                context=_context(fields),
                severity_number=number,
                severity_text=text,
                body=record.getMessage(),
                attributes={name: _plain(value) for name, value in fields.items() if name not in _IDS},
            )
        except Exception:  # noqa: BLE001 (logging's own way: what cannot be logged costs no request)
            self.handleError(record)


def hide_header_values() -> None:
    """Let the SDK complain of `OTEL_EXPORTER_OTLP_HEADERS` without repeating them: they are credentials."""
    logging.getLogger("opentelemetry.util.re").addFilter(_without_values)


def _without_values(record: logging.LogRecord) -> bool:
    if record.args:
        record.args = ("(its value is not shown)",)
    return True


def _context(fields: Mapping[str, object]) -> Context | None:
    """Return the context of the trace that a record names itself; None: that of where it was written.

    No span is ever current in a request: its spans outlive the calls they are started in.
    """
    try:
        trace_id, span_id = (int(str(fields[name]), 16) for name in _IDS)
    except (KeyError, ValueError):
        return None
    named = SpanContext(trace_id, span_id, is_remote=False, trace_flags=TraceFlags(TraceFlags.DEFAULT))
    return trace.set_span_in_context(NonRecordingSpan(named), Context())


def _plain(value: object) -> _Plain | list[_Plain]:
    if isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, list | tuple | set | frozenset):
        return [one if isinstance(one, str | bool | int | float) else str(one) for one in value]
    return str(value)
