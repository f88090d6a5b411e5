"""Limits in time for what a request waits for: one timer for all of them, and a look at them when the soonest is due.

`asyncio.timeout` makes a timer for each limit, and a request has five of them, a stream one for each of its parts. Here
to arm a limit, to move it and to disarm it is to write to memory.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import threading
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Alarm", "Limit", "Sweep", "WaitLimit", "brief_sweep_here", "sweep_here"]

_APART_SECONDS = 0.005
"""Least time between two looks: as late as a limit may be told, beside what a busy loop makes of it."""


class Alarm(Protocol):
    """What a sweep looks at.

    Attributes:
        at: event-loop time at which it is due; may be changed while it is armed, to an earlier one by `look_by` only.
    """

    @property
    def at(self) -> float:
        """Event-loop time at which it is due."""
        ...

    def ring(self) -> None:
        """Do what is to be done at that time; called once, disarmed. Must neither raise nor take long."""
        ...


class Sweep:
    """Rings alarms that are due, with one timer for all of them. Belongs to one event loop; nothing here waits.

    Args:
        loop: whose time counts.

    Attributes:
        loop: the same.
        due: when it looks next; infinite while nothing was armed since the last look.
        armed: what it looks at.
    """

    __slots__ = ("_context", "_looked", "_timer", "armed", "due", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.due = math.inf
        self.armed: set[Alarm] = set()
        self._looked = -math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._context = contextvars.Context()  # a look belongs to no request, not even to the one that asked for it

    def arm(self, alarm: Alarm) -> None:
        """Ring `alarm` when it is due, unless it is disarmed before."""
        self.armed.add(alarm)
        if alarm.at < self.due:
            self.look_by(alarm.at)

    def disarm(self, alarm: Alarm) -> None:
        """Let `alarm` be. One that was never armed, or has rung, changes nothing."""
        self.armed.discard(alarm)

    def look_by(self, at: float) -> None:
        """See to it that the next look is not later than `at`, or than a moment after the last one."""
        if self._timer is not None:
            self._timer.cancel()
        self.due = max(at, self._looked + _APART_SECONDS)
        self._timer = self.loop.call_at(self.due, self._look, context=self._context)

    def _look(self) -> None:
        self._looked = now = self.loop.time()
        self._timer = None
        self.due = math.inf
        rung = [alarm for alarm in self.armed if alarm.at <= now]
        self.armed.difference_update(rung)
        soonest = min((alarm.at for alarm in self.armed), default=math.inf)
        if soonest < math.inf:
            self.look_by(soonest)
        for alarm in rung:
            alarm.ring()


class Limit:
    """Limit a block in time as `asyncio.timeout_at` does: `with Limit(at):` raises `TimeoutError` at its end.

    The running task is cancelled when time is up, and the cancel is taken back at the block's end, so that one from
    outside still goes its own way. Limits may stand inside each other. One may be entered again once it was left.

    Args:
        at: event-loop time at which the block must be over; infinite: never. It may be later by some milliseconds.
        loop: the running event loop, from whoever knows it: to look it up is a call of the system.

    Attributes:
        at: the same; changed by `move` while the block runs.
        has_expired: whether time was up while the block ran, as last entered.
    """

    __slots__ = ("_cancelling", "_loop", "_sweep", "_task", "at", "has_expired")

    def __init__(self, at: float, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.at = at
        self.has_expired = False
        self._loop = loop
        self._cancelling = 0
        self._task: asyncio.Task[object] | None = None
        self._sweep: Sweep | None = None

    def __enter__(self) -> Self:
        loop = self._loop or asyncio.get_running_loop()
        task = asyncio.current_task(loop)  # told the loop, or it looks it up once more
        if task is None:
            message = "a limit holds a task"
            raise RuntimeError(message)
        self._task = task
        self._cancelling = task.cancelling()
        self.has_expired = False
        sweep = _HERE.sweep
        if sweep is None or sweep.loop is not loop:
            sweep = sweep_here(loop)
        self._sweep = sweep
        sweep.armed.add(self)  # as `arm` and `disarm` do: each part of each stream passes here
        if self.at < sweep.due:
            sweep.look_by(self.at)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, sweep = self._task, self._sweep
        self._task = self._sweep = None
        if task is None or sweep is None:
            return
        sweep.armed.discard(self)
        if self.has_expired and task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def move(self, at: float) -> None:
        """Let the block be over at `at` instead. Once time was up this changes nothing for the block that runs."""
        self.at = at
        if self._sweep is not None and at < self._sweep.due:
            self._sweep.look_by(at)

    def ring(self) -> None:
        """Cancel the block: its time is up."""
        if self._task is not None:
            self.has_expired = True
            self._task.cancel()


class WaitLimit(Limit):
    """Limit each wait of a block that waits again and again, and nothing that the block does in between.

    Entered once for all the waits: to begin the next one later than the last costs the writes of two attributes.

    Args:
        at: as of a `Limit`, for the first wait.

    Attributes:
        at: the same; before each wait it may be set to a later time.
        is_waiting: set by the block while it waits. Where it does not, time does not run out.
        has_slept: time was up while nobody waited: before the next wait `wake` is called.
    """

    __slots__ = ("has_slept", "is_waiting")

    def __init__(self, at: float, loop: asyncio.AbstractEventLoop | None = None) -> None:
        super().__init__(at, loop)
        self.is_waiting = False
        self.has_slept = False

    def wake(self) -> None:
        """Look at `at` again."""
        self.has_slept = False
        if self._sweep is not None:
            self._sweep.arm(self)

    def ring(self) -> None:
        """Cancel the block where it waits."""
        if self.is_waiting:
            super().ring()
        else:
            self.has_slept = True


class _Here(threading.local):
    """The sweeps of the event loop that runs in a thread."""

    sweep: Sweep | None = None
    brief: Sweep | None = None


_HERE = _Here()


def sweep_here(loop: asyncio.AbstractEventLoop) -> Sweep:
    """Return the sweep of `loop`, which runs in this thread. Alarms of another loop stay with that one's own."""
    sweep = _HERE.sweep
    if sweep is None or sweep.loop is not loop:
        sweep = _HERE.sweep = Sweep(loop)
    return sweep


def brief_sweep_here(loop: asyncio.AbstractEventLoop) -> Sweep:
    """Return the sweep for alarms that are due in a moment: it looks often, and thousands of streams are not in it."""
    sweep = _HERE.brief
    if sweep is None or sweep.loop is not loop:
        sweep = _HERE.brief = Sweep(loop)
    return sweep
