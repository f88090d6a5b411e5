"""A circuit breaker per region: faults open it, evidence closes it. No clock of its own."""

from __future__ import annotations

import math
from collections import deque
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Breaker", "BreakerPolicy", "BreakerState", "Trial"]

_MOST_SLOTS = 60
"""Into which a window is divided: half a second each in one of 30."""


class BreakerState(StrEnum):
    """Where a breaker stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class BreakerPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """When a breaker opens and how it recovers.

    Attributes:
        window_seconds: outcomes older than this do not count; where they come fast, nor does the last sixtieth of it.
        minimum: outcomes needed before a ratio means anything.
        ratio: share of faults that opens it.
        open_seconds: first time it stays open, and up to a tenth more; doubles each time it opens again too soon.
        max_open_seconds: longest time it stays open, the tenth apart.
        calm_seconds: each whole one of these that it stayed closed halves the time again.
        probes: attempts admitted at once while half open. One: a server that is coming back is helped by no more, and
            a probe gives its place back as soon as it is proved.
        evidences: probes that have begun to answer well which close it together; one whole good answer does it alone.
    """

    window_seconds: float = 30.0
    minimum: int = 5
    ratio: float = 0.5
    open_seconds: float = 5.0
    max_open_seconds: float = 60.0
    calm_seconds: float = 60.0
    probes: int = 1
    evidences: int = 2


class Trial:
    """One attempt as its breaker sees it: made by `started`, handed back to `proved` and `ended`.

    Attributes:
        is_probe: whether it was admitted while half open.
        holds_place: whether it takes one of the places for probes.
        is_proved: whether it has begun to answer well.
        openings: how often the breaker had opened when it began.
    """

    __slots__ = ("holds_place", "is_probe", "is_proved", "openings")

    def __init__(self, *, is_probe: bool, openings: int) -> None:
        self.is_probe = is_probe
        self.holds_place = is_probe
        self.is_proved = False
        self.openings = openings


class _Slot:
    """Outcomes that came close together: they enter the window together, and leave it with the first of them.

    Each for itself, those of a busy region held ten megabytes at the rates of one process.

    Attributes:
        since: the instant of the first of them.
        outcomes: how many they are.
        faults: how many of them are faults.
    """

    __slots__ = ("faults", "outcomes", "since")

    def __init__(self, since: float) -> None:
        self.since = since
        self.outcomes = 0
        self.faults = 0


class Breaker:
    """The breaker of one region. Every method takes the monotonic instant in seconds.

    An attempt that began before it opened says nothing new, however it ends and whenever.

    Args:
        policy: when it opens and how it recovers.
        jitter: a number in [0, 1) that spreads the recovery attempts of several processes.

    Attributes:
        is_closed: whether it is closed, and so at every instant until something happens.
        ordinary: what every attempt is to it that begins while it is closed: nothing of such a one ever changes.
    """

    def __init__(self, policy: BreakerPolicy | None = None, *, jitter: Callable[[], float] = lambda: 0.0) -> None:
        self._policy = policy or BreakerPolicy()
        self._jitter = jitter
        self._slot_seconds = self._policy.window_seconds / _MOST_SLOTS
        self._slots: deque[_Slot] = deque()  # those within the window, never more than `_MOST_SLOTS` and the first
        self._outcomes = 0  # within all slots
        self._faults = 0
        self.is_closed = True
        self._open_until: float | None = None
        self._open_seconds = 0.0
        self._closed_since = 0.0
        self._openings = 0
        self._evidences = 0
        self._probing = 0
        self.ordinary = Trial(is_probe=False, openings=0)

    def state(self, now: float) -> BreakerState:
        """Say where it stands at `now`."""
        open_until = self._open_until  # once: metrics are collected by other threads, which ask this too
        if open_until is None:
            return BreakerState.CLOSED
        return BreakerState.OPEN if now < open_until else BreakerState.HALF_OPEN

    @property
    def open_until(self) -> float:
        """The instant at which it lets a probe through, once it is not closed."""
        open_until = self._open_until
        return -math.inf if open_until is None else open_until

    def seconds_left(self, now: float) -> float:
        """Seconds until it lets a probe through; 0 when it already does."""
        return 0.0 if self._open_until is None else max(0.0, self._open_until - now)

    def admits(self, now: float) -> bool:
        """Whether one more attempt may start at `now`."""
        open_until = self._open_until
        return open_until is None or (now >= open_until and self._probing < self._policy.probes)

    def started(self, now: float) -> Trial:
        """Note that an admitted attempt starts."""
        open_until = self._open_until
        if open_until is None or now < open_until:
            return self.ordinary
        self._probing += 1
        return Trial(is_probe=True, openings=self._openings)

    def proved(self, now: float, trial: Trial) -> None:
        """Note that an attempt has begun to answer well: its place is free, and half open that is evidence.

        How it ends still counts: a long stream says early that the server is back, and later that it is gone again.
        Further calls do nothing.
        """
        if trial.is_proved or not trial.is_probe:
            return
        trial.is_proved = True
        self._free(trial)
        if self._is_judged_by(trial):
            self._evidences += 1
            if self._evidences >= self._policy.evidences:
                self._close(now)

    def ended(self, now: float, trial: Trial, *, fault: bool | None) -> None:
        """Note how an attempt ended: `fault` True, False for a success, None for neither (the caller's fault, say)."""
        if trial.holds_place:
            self._free(trial)
        if fault is None or trial.openings != self._openings:
            return
        if self._open_until is not None:
            if self._is_judged_by(trial):
                (self._open if fault else self._close)(now)
            return
        slots, policy = self._slots, self._policy
        if not slots or now - slots[-1].since >= self._slot_seconds:
            slots.append(_Slot(now))
        latest = slots[-1]
        latest.outcomes += 1
        latest.faults += fault
        self._outcomes += 1
        self._faults += fault
        oldest = now - policy.window_seconds
        while slots[0].since < oldest:
            left = slots.popleft()
            self._outcomes -= left.outcomes
            self._faults -= left.faults
        if self._faults and self._faults >= policy.ratio * self._outcomes and self._outcomes >= policy.minimum:
            self._open(now)

    def _free(self, trial: Trial) -> None:
        self._probing -= trial.holds_place
        trial.holds_place = False

    def _is_judged_by(self, trial: Trial) -> bool:
        return trial.is_probe and trial.openings == self._openings and self._open_until is not None

    def _close(self, now: float) -> None:
        self._open_until = None
        self.is_closed = True
        self._closed_since = now

    def _open(self, now: float) -> None:
        self._open_seconds = self._next_open_seconds(now)
        self._slots.clear()
        self._outcomes = self._faults = 0
        self._evidences = 0
        self._openings += 1
        self.ordinary = Trial(is_probe=False, openings=self._openings)
        self._open_until = now + self._open_seconds * (1 + 0.1 * self._jitter())
        self.is_closed = False

    def _next_open_seconds(self, now: float) -> float:
        """A server that flaps closes it for a moment each time: only time spent closed makes the wait shorter."""
        policy = self._policy
        if self._openings == 0:
            return policy.open_seconds
        calm = 0 if self._open_until is not None else int((now - self._closed_since) // policy.calm_seconds)
        if calm == 0:
            return min(self._open_seconds * 2, policy.max_open_seconds)
        return max(self._open_seconds / 2.0 ** min(calm, 64), policy.open_seconds)
