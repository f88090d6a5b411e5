"""Watch the settings file and say when it has changed."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["SettingsWatch"]

_LOG = logging.getLogger("vetted_mw")
_Look: TypeAlias = tuple[int, int, int] | None
"""When it was written, its size and its inode; None where it is not there."""


class SettingsWatch:
    """Looks at the file once in a while and calls `changed` when it has been written and then left alone.

    A file is written in pieces: one that looks different at every look is still being written, and half a settings file
    can be a valid one without its policy.

    Args:
        path: of the file, which counts as known as it is now.
        changed: called with each change; what it raises is logged, and the watch goes on.
        interval_seconds: between two looks.
        sleep: waits between two looks.
    """

    def __init__(
        self,
        path: str,
        *,
        changed: Callable[[], Awaitable[object]],
        interval_seconds: float = 1.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._path = path
        self._changed = changed
        self._interval = interval_seconds
        self._sleep = sleep
        self._known = _look(path)
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Start watching; a change since the watch was made, or since it was closed, counts."""
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._watched(), context=contextvars.Context())

    def forget(self) -> None:
        """Let go of the task, as when the event loop it lived in was closed without us."""
        self._task = None

    async def aclose(self) -> None:
        """Stop watching."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    async def _watched(self) -> None:
        before = self._known
        while True:
            await self._sleep(self._interval)
            look = await asyncio.to_thread(_look, self._path)  # a file system may hang
            if look is not None and look == before and look != self._known:
                self._known = look
                await self._told()
            before = look

    async def _told(self) -> None:
        try:
            await self._changed()
        except Exception as error:  # noqa: BLE001 (the watch outlives whatever a reload meets)
            _LOG.error("the settings could not be reloaded", extra={"error": type(error).__name__})


def _look(path: str) -> _Look:
    try:
        found = Path(path).stat()
    except OSError:
        return None  # being replaced, or gone: nothing to read
    return found.st_mtime_ns, found.st_size, found.st_ino
