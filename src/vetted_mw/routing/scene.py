"""What is known of every region, as it holds for a while: what a ruling is made on, and seen at an instant. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from vetted_mw.grid.signal import read_at
from vetted_mw.routing.values import Candidate

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from vetted_mw.grid.signal import GridSignal, SignalReading
    from vetted_mw.routing.regions import Region

__all__ = ["Known", "Scene"]


class Known(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The facts one region is judged on, without what every instant changes: how old a signal is, how long a wait.

    Attributes:
        region: what is known of the place.
        configured: it has an upstream.
        models: names it serves; None when any, or the list was not fetched yet.
        degraded: breaker open, probe failing or drained.
        saturated: no capacity for one more request now.
        free_at: monotonic instant at which a saturation window or an open breaker ends, when known.
        network_p95_ms: measured, else declared, else None.
        signal: the best of its zone's chain; None when there is none at all.
    """

    region: Region
    configured: bool
    models: frozenset[str] | None = None
    degraded: bool = False
    saturated: bool = False
    free_at: float | None = None
    network_p95_ms: float | None = None
    signal: GridSignal | None = None

    def at(self, now: datetime, monotonic: float) -> Candidate:
        """See it at one instant, which both clocks tell."""
        return Candidate(
            region=self.region,
            configured=self.configured,
            models=self.models,
            degraded=self.degraded,
            saturated=self.saturated,
            retry_after=None if self.free_at is None else self.free_at - monotonic,
            network_p95_ms=self.network_p95_ms,
            reading=self.reading(now),
        )

    def reading(self, now: datetime) -> SignalReading | None:
        """Read its signal at `now`."""
        return None if self.signal is None else read_at(self.signal, now)


class Scene:
    """Every region of the catalogue, in its order.

    Args:
        known: one per region.

    Attributes:
        known: the same, by code.
        listed: every model that some region lists by name: all others are alike to a ruling.
        latencies: every network latency there is, ascending: limits between two of them are alike to a ruling.
    """

    __slots__ = ("known", "latencies", "listed")

    def __init__(self, known: Iterable[Known]) -> None:
        self.known = {one.region.code: one for one in known}
        lists = {one.models for one in self.known.values() if one.models is not None}
        self.listed: frozenset[str] = frozenset().union(*lists)
        latencies = (one.network_p95_ms for one in self.known.values())
        # What is no number is over no limit.
        self.latencies = sorted({latency for latency in latencies if latency is not None and not math.isnan(latency)})

    def at(self, now: datetime, monotonic: float) -> tuple[Candidate, ...]:
        """See all of it at one instant, which both clocks tell."""
        return tuple([one.at(now, monotonic) for one in self.known.values()])
