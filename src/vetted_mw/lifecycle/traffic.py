"""The requests being answered: counted, refused once the gateway shuts down, and ended honestly when time is up."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import msgspec

from vetted_mw.errors import ShuttingDownError

if TYPE_CHECKING:
    from collections.abc import Callable

    from vetted_mw.core import Core
    from vetted_mw.errors import AnswerError

__all__ = ["InFlight", "Traffic", "refusal"]

_LOG = logging.getLogger("vetted_mw")
_RETRY_SECONDS = 1.0  # another instance may take it at once; a restarted one needs a moment
_END_SECONDS = 5.0


def refusal() -> ShuttingDownError:
    """Return what a request is told that comes too late."""
    return ShuttingDownError("The gateway is shutting down. Send the request again.", retry_after=_RETRY_SECONDS)


class InFlight(msgspec.Struct, eq=False):
    """One request being answered.

    Attributes:
        core: what it sees of the gateway; stays the same when the settings are reloaded meanwhile.
        traffic: counts it.
        loop: the event loop it is answered in.
    """

    core: Core
    traffic: Traffic
    loop: asyncio.AbstractEventLoop
    _end: Callable[[AnswerError], bool] | None = None
    _error: AnswerError | None = None

    def ends_by(self, end: Callable[[AnswerError], bool]) -> None:
        """Say how it can be ended before its time; where nobody says it, its host ends it.

        Where it was to be ended before, while its body was still coming say, `end` is called at once.

        Args:
            end: ends it, or says that it is too late for that.
        """
        self._end = end
        if self._error is not None:
            end(self._error)

    def leave(self) -> None:
        """Note that it is over, on every way out. Further calls do nothing."""
        self._end = None  # it holds whoever holds us: else only the collector could free both
        self.traffic.left(self)

    def end(self, error: AnswerError) -> bool:
        """End it with `error`, now or as soon as it can be; returns whether it was now."""
        self._error = error
        return self._end is not None and self._end(error)


class Traffic:
    """Counts the requests inside and shuts the door behind the last one.

    Args:
        on_left: called with a core that no request inside sees any more, after each last one.
    """

    def __init__(self, *, on_left: Callable[[Core], None]) -> None:
        self._on_left = on_left
        self._inside: set[InFlight] = set()
        self._seen: dict[int, int] = {}
        self._emptied: asyncio.Event | None = None  # there while somebody waits for it
        self.is_closed = False

    def __len__(self) -> int:
        return len(self._inside)

    def enter(self, core: Core, loop: asyncio.AbstractEventLoop) -> InFlight:
        """Let a request in, which sees `core` and is answered in `loop`, the one that runs."""
        one = InFlight(core, self, loop)
        self._inside.add(one)
        seen = id(core)
        self._seen[seen] = self._seen.get(seen, 0) + 1
        return one

    def left(self, one: InFlight) -> None:
        """Note that a request is over."""
        if one not in self._inside:
            return
        self._inside.discard(one)
        seen = id(one.core)
        left = self._seen[seen] = self._seen[seen] - 1
        if left:
            return
        del self._seen[seen]
        if self._emptied is not None and not self._inside:
            self._emptied.set()
            self._emptied = None
        self._on_left(one.core)

    def holds(self, core: Core) -> bool:
        """Whether a request inside still sees `core`."""
        return id(core) in self._seen

    def require_open(self) -> None:
        """Refuse a new request while the gateway shuts down.

        Raises:
            ShuttingDownError: it does.
        """
        if self.is_closed:
            raise refusal()

    async def drain(self, seconds: float) -> int:
        """Let nobody in any more, wait for those inside, and end those that are left after `seconds`.

        Returns:
            How many were ended before their time.
        """
        self.is_closed = True
        if await self.emptied_within(seconds):
            return 0
        error = ShuttingDownError(
            "The gateway shut down before the answer was complete. Send the request again.", retry_after=_RETRY_SECONDS
        )
        ended = sum(one.end(error) for one in list(self._inside))
        _LOG.warning("requests were ended: the gateway shuts down", extra={"ended": ended, "left": len(self) - ended})
        await self.emptied_within(_END_SECONDS)
        return ended

    async def emptied_within(self, seconds: float) -> bool:
        """Wait for those inside, `seconds` at most; returns whether they have all left."""
        if not self._inside:
            return True
        if self._emptied is None:
            self._emptied = asyncio.Event()
        emptied = self._emptied
        try:
            async with asyncio.timeout(seconds):
                await emptied.wait()
        except TimeoutError:
            return False
        return True
