"""Rounds of all gateways in turn, and what of them may be counted."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from bench.rounds import Round, Seen, Workload, round_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from bench.gateways import Gateway
    from bench.helpers import Helpers

__all__ = ["Figure", "fault_of", "figure_of", "rounds_of", "us_each"]

_FEWEST = 20
_LATE = 0.05
_LATE_US = 20_000
_ONE_WAY_US = 25_000
_RATE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure of one gateway.

    Attributes:
        value: None: there is none.
        why: there is none: "absent" or "invalid (why)".
        each: the rounds' own, whose median `value` is.
    """

    value: float | None = None
    why: str = "-"
    each: tuple[float, ...] = field(default=())


def rounds_of(
    workload: Workload, gateways: Mapping[str, Gateway], helpers: Helpers, *, times: int, warm: float = 0.5
) -> dict[str, list[Round]]:
    """Send the load to all in turn, there and back (A B C C B A), `times` to each, after a warm-up."""
    seen: dict[str, list[Round]] = {name: [] for name in gateways}
    doors = {name: _door(gateway, workload) for name, gateway in gateways.items()}
    if warm:
        for gateway in doors.values():
            round_of(replace(workload, seconds=warm if workload.seconds else 0.0), gateway, helpers)
    for turn in range(times):
        for name in doors if turn % 2 == 0 else reversed(doors):
            seen[name].append(round_of(workload, doors[name], helpers))
    return seen


def _door(gateway: Gateway, workload: Workload) -> Gateway:
    return replace(gateway, port=gateway.stream_port) if workload.chunks and gateway.stream_port else gateway


def fault_of(workload: Workload, one: Round) -> str | None:
    """Say why a round may not be counted; None: it may."""
    seen = one.seen
    if seen.errors:
        return f"{seen.errors} errors: {seen.error}"
    reached = seen.requests / max(seen.seconds, workload.seconds) if workload.rate else 0.0
    if reached < _RATE * workload.rate:  # what waits for its turn was not added by the gateway's work
        return f"{reached:.1f} of {workload.rate:g} requests/s"
    return _fault_of_streams(workload, seen) if workload.chunks else None


def _fault_of_streams(workload: Workload, seen: Seen) -> str | None:
    if seen.lost:
        return f"{seen.lost} chunks out of place"
    if seen.chunks != seen.requests * workload.chunks:
        return f"{seen.chunks} chunks of {seen.requests * workload.chunks}"
    if not workload.seconds and seen.open < workload.connections:
        return f"only {seen.open} open at once"
    if workload.pace_ms and seen.lag and seen.one_way:
        return _fault_of_pace(workload, seen.lag.p50, seen.one_way.p50)
    return None


def _fault_of_pace(workload: Workload, lag_us: float, one_way_us: float) -> str | None:
    length_us = (workload.chunks - 1) * workload.pace_ms * 1000
    if abs(lag_us) > max(_LATE * length_us, _LATE_US):
        return f"pace: streams {lag_us / length_us:+.0%} long"
    if one_way_us > max(_ONE_WAY_US, _LATE * workload.pace_ms * 1000):
        return f"pace: chunks {one_way_us / 1000:.0f} ms late"
    return None


def us_each(one: Round) -> float:
    """Return the CPU, in microseconds, of a request, or where there are streams of a chunk."""
    return one.cpu_seconds * 1e6 / (one.seen.chunks or one.seen.requests)


def figure_of(workload: Workload, rounds: Iterable[Round], figure: Callable[[Round], float]) -> Figure:
    """Return the median of the rounds, or why there is none."""
    every = list(rounds)
    for one in every:
        if fault := fault_of(workload, one):
            return Figure(why=f"invalid ({fault})")
    if sum(one.seen.requests for one in every) < _FEWEST and not workload.chunks:
        return Figure(why=f"invalid (only {sum(one.seen.requests for one in every)} requests)")
    each = tuple(figure(one) for one in every)
    return Figure(value=statistics.median(each), each=each)
