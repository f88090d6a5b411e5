"""Notice that the caller has gone, and end what is done for it."""

from __future__ import annotations

import asyncio
import contextvars
import math
from typing import TYPE_CHECKING, Self

from vetted_mw.asgi.intake import CallerLeftError
from vetted_mw.deadlines import brief_sweep_here, sweep_here

if TYPE_CHECKING:
    from types import TracebackType

    from starlette.types import Receive

    from vetted_mw.deadlines import Sweep
    from vetted_mw.errors import AnswerError

__all__ = ["UntilCallerLeaves"]

_PAUSE_SECONDS = 0.05


class UntilCallerLeaves:
    """Cancel the block when the caller goes away, and raise `CallerLeftError` then; or when it is told to stop.

    One task waits for `http.disconnect`. Works as `asyncio.timeout` does: the running task is cancelled, and the cancel
    is taken back at the block's end, so that a cancel from outside still goes its own way.

    Args:
        receive: the server's.
        after_seconds: how long a block may run before anybody looks: one that has ended by then costs no task. A caller
            that leaves meanwhile is noticed then.
        until: event-loop time from which on a caller counts as gone that has still not taken the answer; later than
            `after_seconds` from now.
        loop: the running event loop, from whoever knows it.

    Attributes:
        at: event-loop time at which there is something to do next: to look, then to give the caller up.
    """

    __slots__ = (
        *("_after_seconds", "_cancelling", "_context", "_is_cancelled", "_is_inside", "_loop", "_receive", "_sweep"),
        *("_task", "_until", "_watch", "_why", "at"),
    )

    def __init__(
        self,
        receive: Receive,
        after_seconds: float = 0.0,
        until: float = math.inf,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.at = 0.0
        self._receive = receive
        self._after_seconds = after_seconds
        self._until = until
        self._loop = loop
        self._why: Exception | None = None
        self._is_inside = False
        self._is_cancelled = False
        self._cancelling = 0
        self._task: asyncio.Task[object] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._sweep: Sweep | None = None
        self._context: contextvars.Context | None = None

    async def __aenter__(self) -> Self:
        loop = self._loop or asyncio.get_running_loop()
        self._task = task = asyncio.current_task(loop)
        self._cancelling = 0 if task is None else task.cancelling()
        self._is_inside = True
        if self._why is not None:
            self._cancel(self._why)
        self._context = contextvars.copy_context()  # the request's: outer middleware may look at it in its `receive`
        if not self._after_seconds:
            self.look_now()
            return self
        self.at = loop.time() + self._after_seconds
        self._sweep = sweep = brief_sweep_here(loop)
        sweep.armed.add(self)  # as `arm` does: every request passes here
        if self.at < sweep.due:
            sweep.look_by(self.at)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_inside = False
        if self._sweep is not None:
            self._sweep.armed.discard(self)
        watch, self._watch = self._watch, None  # the task's frames hold us: else only the collector could free both
        interrupted = False if watch is None else await _ended(watch)
        is_ours = self._is_cancelled and self._task is not None and self._task.uncancel() <= self._cancelling
        has_left = interrupted and isinstance(self._why, CallerLeftError)  # a block told to stop may have ended first
        if is_ours and self._why is not None and (has_left or kind is asyncio.CancelledError):
            why, self._why = self._why, None
            try:
                raise why from None
            finally:
                del why  # its traceback holds this frame: else only the collector could free both, and the request
        if interrupted and not is_ours:
            raise asyncio.CancelledError

    def stop(self, error: AnswerError) -> bool:
        """Cancel the block, now or when it begins, and raise `error` at its end; returns whether that is to come.

        A block that has ended, or is being cancelled already, is left alone.
        """
        if self._task is None and self._why is None:
            self._why = error
            return True
        return self._is_inside and self._cancel(error)

    def look_now(self) -> None:
        """Begin to look, where nobody does yet; for a block that is known to take its time. Called inside it."""
        if self._watch is not None:
            return
        if self._sweep is not None:
            self._sweep.disarm(self)
        loop = self._loop or asyncio.get_running_loop()
        self._watch = loop.create_task(self._watched(), context=self._context)
        self._context = None
        if self._until < math.inf:
            self.at = self._until
            self._sweep = sweep_here(loop)
            self._sweep.arm(self)

    def ring(self) -> None:
        """Begin to look: the block has taken its time. Rung again, give the caller up."""
        if self._watch is None:
            self.look_now()
        else:
            self._cancel(CallerLeftError())

    async def _watched(self) -> None:
        # A receive that says anything else may say it again at once, and for ever.
        while (await self._receive())["type"] != "http.disconnect":  # noqa: ASYNC110 (a message is no event)
            await asyncio.sleep(_PAUSE_SECONDS)
        self._cancel(CallerLeftError())

    def _cancel(self, why: Exception) -> bool:
        if self._is_cancelled or self._task is None:
            return False
        self._is_cancelled = True
        self._why = why
        self._task.cancel()
        return True


async def _ended(task: asyncio.Task[None]) -> bool:
    """Cancel a task and wait for its end; returns whether we were cancelled meanwhile."""
    task.cancel()
    interrupted = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            interrupted = True
    return interrupted
