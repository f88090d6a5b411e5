"""An event loop that does not wait: where nothing is left to happen before the next timer, its clock leaps there.

Limits of many seconds pass at once and in their right order, and a machine that is busy for as long as a limit lasts
cannot make one pass too early: what is under way in this process is always finished first.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

__all__ = ["run_leaping"]

_T = TypeVar("_T")
_GRACE = 0.02
"""Real seconds for the system to carry bytes from one socket of this process to another."""


def run_leaping(main: Coroutine[Any, Any, _T]) -> _T:
    """Run `main` in such a loop and return its result; every peer it talks to must live in the same loop."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(main)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._selecting = _Selector()
        super().__init__(self._selecting)

    def time(self) -> float:
        return time.monotonic() + self._selecting.leapt


class _Selector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.leapt = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= _GRACE:
            return super().select(timeout)
        events = super().select(_GRACE)
        if not events:
            self.leapt += timeout - _GRACE
        return events
