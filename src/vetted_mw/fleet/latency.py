"""The network latency of one server, from the round trips that were measured lately. Pure; no clock of its own."""

from __future__ import annotations

import math
from collections import deque

import msgspec

__all__ = ["LatencyWindow", "Quantiles"]

_LEAST_SAMPLES = 8
_MOST_SAMPLES = 128
_WINDOW_SECONDS = 900.0


class Quantiles(msgspec.Struct, frozen=True, kw_only=True):
    """Two quantiles of round trips, each one of those measured, rounded to 0.1 ms.

    Attributes:
        p50_ms: the median in ms.
        p95_ms: the 95th percentile in ms.
    """

    p50_ms: float
    p95_ms: float


class LatencyWindow:
    """The latest round trips to one server: 128 at most, of the last 15 minutes.

    They are times of connects (one round trip of the network, some more with TLS or through a proxy) and of probes (one
    round trip and the server's own time for the page). An event loop that is busy measures them too long; that is
    accepted, since requests wait for the same loop.
    """

    def __init__(self) -> None:
        self._samples: deque[tuple[float, float]] = deque(maxlen=_MOST_SAMPLES)
        self._quantiles: Quantiles | None = None
        self._is_computed = True

    def add(self, now: float, seconds: float) -> None:
        """Note one round trip that ended at `now`; what is no finite duration is passed over."""
        if not 0 <= seconds < math.inf:
            return
        self._samples.append((now, seconds))
        self._is_computed = False

    def quantiles(self, now: float) -> Quantiles | None:
        """Return the quantiles by nearest rank; None with fewer than 8 round trips. Computed once per change."""
        while self._samples and self._samples[0][0] < now - _WINDOW_SECONDS:
            self._samples.popleft()
            self._is_computed = False
        if not self._is_computed:
            self._quantiles = _quantiles([seconds for _at, seconds in self._samples])
            self._is_computed = True
        return self._quantiles

    def holds_until(self) -> float:
        """Return the instant after which the oldest round trip no longer counts, without a new one meanwhile."""
        return self._samples[0][0] + _WINDOW_SECONDS if self._samples else math.inf


def _quantiles(samples: list[float]) -> Quantiles | None:
    if len(samples) < _LEAST_SAMPLES:
        return None
    samples.sort()
    return Quantiles(p50_ms=_nearest_rank(samples, 50), p95_ms=_nearest_rank(samples, 95))


def _nearest_rank(ordered: list[float], percent: int) -> float:
    rank = -(-percent * len(ordered) // 100)
    return round(ordered[rank - 1] * 1000, 1)
