"""Whether the caller of the outer request is still there, and how what is done for it ends when it leaves."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from vetted_mw.errors import AnswerError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ["CallerGoneError", "Presence"]


class CallerGoneError(AnswerError):
    """What a handler's call is told when the handler's own caller has left. No SDK repeats it."""

    status, type, code = 499, "inference_error", "client_disconnect"
    retryable = False


class Presence:
    """Whether the caller is there.

    Args:
        look_out: called whenever something begins that the caller's leaving must end; whoever is behind it sees to it
            that `leave` is called then, from the same event loop.

    Attributes:
        left: whether the caller has left; it never comes back.
    """

    def __init__(self, look_out: Callable[[], None]) -> None:
        self.left = False
        self._look_out = look_out
        self._under_way: set[_WhilePresent] = set()

    def leave(self) -> None:
        """Note that the caller has left, and cancel what is under way for it."""
        self.left = True
        for block in self._under_way:
            block.interrupt()

    def needed(self) -> _WhilePresent:
        """Return a context manager for a block that is worth nothing without the caller.

        Raises:
            CallerGoneError: the caller has left, before the block or while it ran; in the latter case it was cancelled.
        """
        return _WhilePresent(self, self._under_way, self._look_out)


class _WhilePresent:
    """Works as `asyncio.timeout` does: our cancel is taken back at the end, one from outside goes its own way."""

    def __init__(self, presence: Presence, under_way: set[_WhilePresent], look_out: Callable[[], None]) -> None:
        self._presence = presence
        self._under_way = under_way
        self._look_out = look_out
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._interrupted = False

    def interrupt(self) -> None:
        """Cancel the block."""
        if self._task is not None and not self._interrupted:
            self._interrupted = True
            self._task.cancel()

    def __enter__(self) -> None:
        self._look_out()
        if self._presence.left:
            raise _gone()
        self._task = asyncio.current_task()
        self._cancelling = 0 if self._task is None else self._task.cancelling()
        self._under_way.add(self)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._under_way.discard(self)
        if self._task is None or not self._interrupted:
            return
        if self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise _gone() from None


def _gone() -> CallerGoneError:
    return CallerGoneError("The caller of this request has left: its answer is not needed, and nothing more is sent.")
