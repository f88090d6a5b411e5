"""The latest interval for which a generation mix is whole, out of series of several resolutions. Pure.

What is missing is never filled in: an interval counts for a fuel when its points cover it wholly.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

__all__ = ["Interval", "Series", "latest_complete"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Average generation of one type over consecutive steps of equal length.

    Attributes:
        code: PSR code.
        start: start of the first step, UTC.
        minutes: length of a step.
        megawatts: step (0 is the first) -> MW; a step that is missing has no value.
    """

    code: str
    start: datetime
    minutes: int
    megawatts: Mapping[int, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """One interval and what was generated in it, on average.

    Attributes:
        start: its start, UTC.
        minutes: its length.
        mix: PSR code -> MW.
    """

    start: datetime
    minutes: int
    mix: Mapping[str, float]

    @property
    def end(self) -> datetime:
        """Its end, from which a value's age counts."""
        return self.start + timedelta(minutes=self.minutes)


def latest_complete(
    series: Iterable[Series], *, expected: Collection[str] = (), before: datetime | None = None
) -> Interval | None:
    """Return the latest interval in which every type has a value; None when there is none.

    The interval is as long as the coarsest series' steps; finer ones are averaged up.

    Args:
        series: in any order, several of a type among them.
        expected: types that must have a value though no series is of them.
        before: an interval that ends later is taken only where every whole one does.
    """
    series = list(series)
    wanted = sorted({one.code for one in series} | set(expected))
    with_values = [one for one in series if one.megawatts]
    if not with_values:
        return None
    coarsest = max(with_values, key=lambda one: (one.minutes, -_minute(one.start)))
    length, origin = coarsest.minutes, _minute(coarsest.start)
    fuels = {code: _Fuel(length) for code in wanted}
    for one in with_values:
        first = _minute(one.start) - origin
        for step, megawatts in one.megawatts.items():
            fuels[one.code].add(first + step * one.minutes, one.minutes, megawatts)
    complete = set.intersection(*(fuel.complete() for fuel in fuels.values()))
    if not complete:
        return None
    most = None if before is None else (_minute(before) - origin) // length  # so many end by then
    latest = max((number for number in complete if most is None or number < most), default=max(complete))
    return Interval(
        start=_EPOCH + (origin + latest * length) * _MINUTE,
        minutes=length,
        mix={code: fuel.average(latest) for code, fuel in fuels.items()},
    )


class _Fuel:
    """One type's generation by interval, and which minutes of each it covers."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._generated: dict[int, float] = defaultdict(float)  # interval -> MW minutes
        self._covered: dict[int, int] = defaultdict(int)  # interval -> a bit per minute
        self._unclear: set[int] = set()

    def add(self, minute: int, minutes: int, megawatts: float) -> None:
        number, into = divmod(minute, self._length)
        if into + minutes > self._length:
            self._unclear |= {number, number + 1}  # a step across two intervals tells of neither
            return
        bits = ((1 << minutes) - 1) << into
        if self._covered[number] & bits:
            self._unclear.add(number)  # two values for one minute: nobody knows which is right
        self._covered[number] |= bits
        self._generated[number] += max(megawatts, 0.0) * minutes  # a plant that draws more than it makes makes nothing

    def complete(self) -> set[int]:
        whole = (1 << self._length) - 1
        return {number for number, bits in self._covered.items() if bits == whole} - self._unclear

    def average(self, number: int) -> float:
        return self._generated[number] / self._length


def _minute(instant: datetime) -> int:
    return (instant - _EPOCH) // _MINUTE
