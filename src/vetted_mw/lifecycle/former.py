"""What former configurations used: closed once the last request of their time has left."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from vetted_mw.core import Core
    from vetted_mw.lifecycle.traffic import Traffic

__all__ = ["Former"]

_LOG = logging.getLogger("vetted_mw")


class Former:
    """Owns the cores that no new request sees any more.

    Args:
        traffic: knows which requests still see them.
    """

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._cores: list[Core] = []
        self._closings: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._cores)

    def let_go(self) -> list[Core]:
        """Forget every core and return them; whoever calls this closes what they hold."""
        cores, self._cores = self._cores, []
        return cores

    def add(self, core: Core, *, current: Core) -> None:
        """Keep `core` for the requests that see it; `current` has taken its place."""
        self._cores.append(core)
        self.left(core, current=current)

    def left(self, core: Core, *, current: Core | None) -> None:
        """Note that a request of `core` has left; after the last one, what only it used is closed."""
        if core is current or self._traffic.holds(core) or all(one is not core for one in self._cores):
            return
        self._cores = [one for one in self._cores if one is not core]
        others = self._cores if current is None else [*self._cores, current]
        used = {id(held) for one in others for held in one.holds}
        for held in core.holds:
            if id(held) not in used:
                self.close(held.aclose())

    async def aclose(self) -> None:
        """Wait for what is still closing."""
        if self._closings:
            await asyncio.wait(set(self._closings))

    def close(self, closing: Coroutine[Any, Any, None]) -> None:
        """Let `closing` go its way, nobody waiting for it but `aclose`."""
        # A context of its own: this belongs to no request, not even to the one that left last.
        task = asyncio.get_running_loop().create_task(closing, context=contextvars.Context())
        self._closings.add(task)
        task.add_done_callback(self._closed)

    def _closed(self, task: asyncio.Task[None]) -> None:
        self._closings.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _LOG.warning("what a former configuration used did not close", extra={"error": type(error).__name__})
