"""Logging of the commands: one line a record, its fields behind the message, as a log stack would show them."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
from typing import TextIO

__all__ = ["configure_logging", "fields_of", "write_lines_at_once"]

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "color_message"}
_TOGETHER_SECONDS = 0.05
_TOGETHER_BYTES = 4096  # a pipe takes as much in one piece on Linux, however many workers write into it


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    """Return what whoever wrote a record gave it as `extra`."""
    return {name: value for name, value in record.__dict__.items() if name not in _STANDARD}


class _WithFields(logging.Formatter):
    """Writes `TIME LEVEL LOGGER: MESSAGE NAME=VALUE ...`, in local time with milliseconds."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._second = (-1, "")

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; an exception or a stack stands before the fields, on lines of its own."""
        fields = "".join([f" {name}={value}" for name, value in record.__dict__.items() if name not in _STANDARD])
        if record.exc_info or record.exc_text or record.stack_info:
            return super().format(record) + fields
        return f"{self.formatTime(record)} {record.levelname} {record.name}: {record.getMessage()}{fields}"

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 (logging's name)
        """Return the time as logging does by default, but look at the calendar once a second."""
        second, told = self._second
        if second != int(record.created):
            second, told = int(record.created), super().formatTime(record, datefmt or self.default_time_format)
            self._second = (second, told)
        return f"{told},{int(record.msecs):03d}"


class _Lines(logging.StreamHandler[TextIO]):
    """Writes what a busy event loop logs several lines at a time: waking the reader costs more than making a line.

    Below WARNING a line waits, 50 ms at most. Whatever is written, those before it are written first; at the end of the
    process, and from `wait_no_longer` on, nothing waits. A process that is killed loses what waited.
    """

    def __init__(self) -> None:
        super().__init__()
        self._waiting: list[str] = []
        self._size = 0
        self._waited_for: asyncio.AbstractEventLoop | None = None  # the loop that will write what waits
        self._may_wait = True

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, or let it wait; called under the handler's lock."""
        try:
            line = f"{self.format(record)}\n"
            size = len(line) if line.isascii() else 4 * len(line)
            if self._size + size > _TOGETHER_BYTES:
                self._write()
            self._waiting.append(line)
            self._size += size
            if record.levelno >= logging.WARNING or not self._will_be_written():
                self._write()
        except Exception:  # noqa: BLE001 (logging's own way: what cannot be logged costs no request)
            self.handleError(record)

    def flush(self) -> None:
        """Write what waits; logging does so at the end of the process."""
        self.acquire()
        try:
            self._write()
        finally:
            self.release()

    def wait_no_longer(self) -> None:
        """Write what waits, and from now on each line at once."""
        self._may_wait = False
        with contextlib.suppress(OSError, ValueError):  # standard error is gone: logging's own end says nothing either
            self.flush()

    def _write(self) -> None:
        if self._waiting:
            text = "".join(self._waiting)
            self._waiting.clear()
            self._size = 0
            self.stream.write(text)
        self.stream.flush()

    def _will_be_written(self) -> bool:
        """Whether the loop that runs in this thread will write what waits: it is asked to."""
        if not self._may_wait:
            return False
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return False
        if self._waited_for is not loop:
            self._waited_for = loop
            # A context of its own: that of the request would be kept for as long.
            loop.call_later(_TOGETHER_SECONDS, self._have_waited, context=contextvars.Context())
        return True

    def _have_waited(self) -> None:
        self._waited_for = None
        with contextlib.suppress(OSError, ValueError):  # standard error is gone, and there is nobody else to tell
            self.flush()


def configure_logging(level: int) -> None:
    """Log to standard error from `level` on; where the host has configured logging already, nothing changes."""
    handler = _Lines()
    handler.setFormatter(_WithFields())
    logging.basicConfig(level=level, handlers=[handler])
    logging.getLogger("httpx").setLevel(logging.WARNING)  # its INFO lines hold URLs


def write_lines_at_once() -> None:
    """Write what the log holds back, and hold nothing back any more: the process may end at any moment from now on."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _Lines):
            handler.wait_no_longer()
