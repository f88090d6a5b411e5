"""A limit on waiting for a peer that does not count the time in which we were too busy to look."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Patience"]

_TURNS = 50  # a TCP connect with a proxy and TLS takes about twenty turns of the loop


class Patience:
    """Limit a block as `asyncio.timeout` does, by turns of the event loop as well as by seconds.

    A thousand requests at once can keep the loop busy for longer than a connect may take. The peer has answered long
    before, and a plain timeout would call it dead. Here every part of the limit must have been waited for with the
    loop running.

    Args:
        seconds: the limit, while the loop keeps up.

    Raises:
        TimeoutError: the block took longer; raised at its end.
    """

    def __init__(self, seconds: float) -> None:
        self._step = seconds / _TURNS
        self._left = _TURNS
        self._loop = asyncio.get_running_loop()
        self._timeout = asyncio.timeout(None)
        self._handle: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        self._handle = self._loop.call_later(self._step, self._turn)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cancel_handle()
        await self._timeout.__aexit__(kind, error, trace)

    def stop(self) -> None:
        """Lift the limit: what was waited for has come."""
        self._cancel_handle()
        self._timeout.reschedule(None)

    def _turn(self) -> None:
        self._left -= 1
        if self._left > 0:
            self._handle = self._loop.call_later(self._step, self._turn)
        else:
            self._timeout.reschedule(self._loop.time())

    def _cancel_handle(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
