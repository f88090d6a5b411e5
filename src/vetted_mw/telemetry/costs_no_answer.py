"""The wall between telemetry and answers: whatever an SDK, an exporter or a processor raises stays there."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["COSTS_NO_ANSWER"]

_LOG = logging.getLogger("vetted_mw")


class _CostsNoAnswer:
    """Swallow what telemetry raises, with a line in the log; its text could hold anything."""

    def __enter__(self) -> None:
        """Begin; nothing is kept, so that one instance serves every request."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        """Let through only what is meant to end the request, a cancellation say."""
        if kind is None or not issubclass(kind, Exception):
            return False
        _LOG.warning("telemetry could not be recorded", extra={"error": kind.__name__})
        return True


COSTS_NO_ANSWER = _CostsNoAnswer()
