"""A circuit breaker per region: faults open it, evidence closes it. No clock of its own."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Breaker", "BreakerPolicy", "BreakerState"]


class BreakerState(StrEnum):
    """Where a breaker stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """When a breaker opens and how it recovers.

    Attributes:
        window_seconds: outcomes older than this do not count.
        minimum: outcomes needed before a ratio means anything.
        ratio: share of faults that opens it.
        open_seconds: first time it stays open, and up to a tenth more; doubles at each failed recovery.
        max_open_seconds: longest time it stays open, the tenth apart.
        probes: attempts admitted at once while half open.
    """

    window_seconds: float = 30.0
    minimum: int = 5
    ratio: float = 0.5
    open_seconds: float = 5.0
    max_open_seconds: float = 60.0
    probes: int = 1


class Breaker:
    """The breaker of one region. Every method takes the monotonic instant in seconds.

    Args:
        policy: when it opens and how it recovers.
        jitter: a number in [0, 1) that spreads the recovery attempts of several processes.
    """

    def __init__(self, policy: BreakerPolicy | None = None, *, jitter: Callable[[], float] = lambda: 0.0) -> None:
        self._policy = policy or BreakerPolicy()
        self._jitter = jitter
        self._outcomes: deque[tuple[float, bool]] = deque()
        self._open_until: float | None = None
        self._open_seconds = self._policy.open_seconds
        self._probing = 0

    def state(self, now: float) -> BreakerState:
        """Say where it stands at `now`."""
        if self._open_until is None:
            return BreakerState.CLOSED
        return BreakerState.OPEN if now < self._open_until else BreakerState.HALF_OPEN

    def seconds_left(self, now: float) -> float:
        """Seconds until it lets a probe through; 0 when it already does."""
        return 0.0 if self._open_until is None else max(0.0, self._open_until - now)

    def admits(self, now: float) -> bool:
        """Whether one more attempt may start at `now`."""
        state = self.state(now)
        return state is BreakerState.CLOSED or (state is BreakerState.HALF_OPEN and self._probing < self._policy.probes)

    def started(self, now: float) -> bool:
        """Note that an admitted attempt starts; returns whether it is a probe, to be passed back to `ended`."""
        probe = self.state(now) is BreakerState.HALF_OPEN
        self._probing += probe
        return probe

    def ended(self, now: float, *, fault: bool | None, probe: bool) -> None:
        """Note how an attempt ended: `fault` True, False for a success, None for neither (the caller's fault, say)."""
        self._probing -= probe
        if fault is None:
            return
        if self._open_until is not None:
            if probe:
                self._recover(now, fault=fault)
            return  # an attempt that began before it opened says nothing new
        self._outcomes.append((now, fault))
        self._forget_before(now - self._policy.window_seconds)
        faults = sum(1 for _, failed in self._outcomes if failed)
        if len(self._outcomes) >= self._policy.minimum and faults >= self._policy.ratio * len(self._outcomes):
            self._open(now)

    def _recover(self, now: float, *, fault: bool) -> None:
        if fault:
            self._open_seconds = min(self._open_seconds * 2, self._policy.max_open_seconds)
            self._open(now)
        else:
            self._open_until = None
            self._open_seconds = self._policy.open_seconds

    def _open(self, now: float) -> None:
        self._outcomes.clear()
        self._open_until = now + self._open_seconds * (1 + 0.1 * self._jitter())

    def _forget_before(self, instant: float) -> None:
        while self._outcomes and self._outcomes[0][0] < instant:
            self._outcomes.popleft()
