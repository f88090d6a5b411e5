"""Logging of the commands: one line a record, its fields behind the message, as a log stack would show them."""

from __future__ import annotations

import logging

__all__ = ["configure_logging", "fields_of"]

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "color_message"}


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    """Return what whoever wrote a record gave it as `extra`."""
    return {name: value for name, value in record.__dict__.items() if name not in _STANDARD}


class _WithFields(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={value}" for name, value in fields_of(record).items())
        return super().format(record) + fields


def configure_logging(level: int) -> None:
    """Log to standard error from `level` on; where the host has configured logging already, nothing changes."""
    handler = logging.StreamHandler()
    handler.setFormatter(_WithFields("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
    logging.getLogger("httpx").setLevel(logging.WARNING)  # its INFO lines hold URLs
