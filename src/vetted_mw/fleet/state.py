"""What is known of one region at one instant. Pure values."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from vetted_mw.fleet.breaker import BreakerState
    from vetted_mw.fleet.engines import Engine

__all__ = ["Changes", "Health", "QueueState", "RegionState", "ScrapeProblem", "Standing"]


class Health(StrEnum):
    """What the last probes said of a region."""

    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    FAILING = "failing"
    DRAINED = "drained"


class ScrapeProblem(StrEnum):
    """Why an engine's metrics could not be used."""

    UNREADABLE = "unreadable"
    UNKNOWN_ENGINE = "unknown_engine"


class QueueState(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine last said of its own load.

    Attributes:
        engine: whose words these are.
        running: requests it computed.
        waiting: requests in its queue.
        age_seconds: how long ago.
        stale: whether that is too long ago to count.
    """

    engine: Engine
    running: int
    waiting: int
    age_seconds: float
    stale: bool


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What a decision looks at of one region: it holds until something happens there, or a window of time ends.

    Attributes:
        models: names it serves; None when any, or not fetched yet.
        degraded: breaker not closed for business, probe failing, or drained.
        saturated: in-flight cap reached, inside a `Retry-After` window, or its engine's queue at `max_queue`.
        free_at: monotonic instant at which that window and the breaker's end, the later of the two; None when unknown.
        network_p95_ms: measured 95th percentile of network round trips in ms; None when too few were measured.
    """

    models: frozenset[str] | None
    degraded: bool
    saturated: bool
    free_at: float | None
    network_p95_ms: float | None

    def retry_after(self, now: float) -> float | None:
        """Seconds from the monotonic instant `now` until `free_at`."""
        return None if self.free_at is None else self.free_at - now


class Changes:
    """Counts what happens to any server that could change a decision; shared by every view of the same servers.

    Attributes:
        count: goes up with each of them, and never down.
    """

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class RegionState(msgspec.Struct, frozen=True, kw_only=True):
    """One region at one instant, frozen.

    Attributes:
        models: names it serves; None when any, or not fetched yet.
        degraded: breaker not closed for business, probe failing, or drained.
        saturated: in-flight cap reached, inside a `Retry-After` window, or its engine's queue at `max_queue`.
        retry_after: seconds until that window or the breaker's ends; None when unknown.
        health: what probes say.
        breaker: where the breaker stands.
        in_flight: leases held.
        probe_status: HTTP status of the last probe; None when there was no answer, or no probe yet.
        network_p50_ms: measured median of network round trips in ms; None when too few were measured.
        network_p95_ms: their 95th percentile in ms; None with it.
        queue: what its engine said of its queue; None when it is not read, or was never.
    """

    models: frozenset[str] | None
    degraded: bool
    saturated: bool
    retry_after: float | None
    health: Health
    breaker: BreakerState
    in_flight: int
    probe_status: int | None = None
    network_p50_ms: float | None = None
    network_p95_ms: float | None = None
    queue: QueueState | None = None
