"""Break one server at a time: killed, paused, restarted, in turn."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from real.processes import LlamaServer

__all__ = ["TURN", "Disturbance", "Disturber", "Pace"]


class Disturbance(StrEnum):
    """What is done to a server."""

    KILL = "killed (SIGKILL) and started again"
    PAUSE = "paused (SIGSTOP) and continued"
    RESTART = "stopped in order and started again"


TURN = tuple(Disturbance)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long things last, seconds.

    Attributes:
        down: a killed server stays away.
        paused: a paused one stands still; longer than the gateway's limits, so that they show.
        rest: all is well before the next one.
    """

    down: float = 6.0
    paused: float = 12.0
    rest: float = 8.0


class Disturber:
    """Breaks the servers in turn.

    Attributes:
        done: what was done, by (region, disturbance).
    """

    def __init__(self, servers: Mapping[str, LlamaServer], pace: Pace) -> None:
        self.done: Counter[tuple[str, Disturbance]] = Counter()
        self._servers = servers
        self._pace = pace

    async def run(self, steps: Sequence[tuple[str, Disturbance]], *, until: float | None = None) -> None:
        """Do these steps, once, or again and again until a monotonic instant; every server runs when this returns."""
        while True:
            for region, disturbance in steps:
                await asyncio.sleep(self._pace.rest)
                if until is not None and time.monotonic() >= until:
                    return
                await self._disturb(self._servers[region], disturbance)
                self.done[region, disturbance] += 1
            if until is None:
                await asyncio.sleep(self._pace.rest)
                return

    async def _disturb(self, server: LlamaServer, disturbance: Disturbance) -> None:
        if disturbance is Disturbance.PAUSE:
            server.pause()
            try:
                await asyncio.sleep(self._pace.paused)
            finally:
                server.resume()
            return
        if disturbance is Disturbance.KILL:
            server.kill()
            await asyncio.sleep(self._pace.down)
        else:
            await asyncio.to_thread(server.__exit__, None, None, None)
        await asyncio.to_thread(server.__enter__)
