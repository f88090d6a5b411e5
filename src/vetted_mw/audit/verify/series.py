"""The numbers of one ledger as they are met: which are missing, which come late, which come twice. Pure."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Gap", "Met", "Series"]

_MOST_HOLES = 100_000
"""Holes kept open for rows that come late; beyond it the oldest count as missing at once, so that memory is bounded."""


class Met(Enum):
    """How a number relates to those met before it."""

    NEXT = auto()
    LATE = auto()
    TWICE = auto()
    OUTSIDE = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Numbers that are missing, from `first` to `last`; `after` is the next that is there, None for the end."""

    first: int
    last: int
    after: int | None

    def __str__(self) -> str:
        is_one = self.first == self.last
        what = f"seq {self.first} is missing" if is_one else f"seq {self.first} to {self.last} are missing"
        if self.after is None:
            return f"{what} at the end"
        return f"{what} before {self.after}" if self.first == 1 else f"{what} between {self.first - 1} and {self.after}"


class Series:
    """Follows the numbers of one ledger in memory that does not grow with them, unless by their gaps.

    Args:
        start: the number the series begins with.
    """

    def __init__(self, *, start: int = 1) -> None:
        self._start = start
        self.newest = start - 1
        """The largest number met."""
        self.count = 0
        """How many were met, each once."""
        self._firsts: list[int] = []  # of the holes, ascending, with their last numbers beside them
        self._lasts: list[int] = []
        self._closed: list[Gap] = []

    def meet(self, seq: int) -> Met:
        """Take the next number and say how it relates to those before."""
        if seq > self.newest:
            if seq > self.newest + 1:
                self._open(self.newest + 1, seq - 1)
            self.newest = seq
            self.count += 1
            return Met.NEXT
        if seq < self._start:
            return Met.OUTSIDE
        if self._filled(seq):
            self.count += 1
            return Met.LATE
        return Met.TWICE

    def overflow(self) -> list[Gap]:
        """Return, once, the gaps that were given up for lack of room."""
        closed, self._closed = self._closed, []
        return closed

    def gaps(self) -> Iterator[Gap]:
        """Return what is missing now, ascending."""
        for first, last in zip(self._firsts, self._lasts, strict=True):
            yield Gap(first=first, last=last, after=last + 1)

    def _open(self, first: int, last: int) -> None:
        self._firsts.append(first)
        self._lasts.append(last)
        if len(self._firsts) > _MOST_HOLES:
            half = (_MOST_HOLES + 1) // 2
            self._closed += [
                Gap(first=one, last=other, after=other + 1)
                for one, other in zip(self._firsts[:half], self._lasts[:half], strict=True)
            ]
            del self._firsts[:half], self._lasts[:half]

    def _filled(self, seq: int) -> bool:
        """Take `seq` out of the hole it belongs to; False when it is in none."""
        at = bisect_right(self._firsts, seq) - 1
        if at < 0 or seq > self._lasts[at]:
            return False
        first, last = self._firsts[at], self._lasts[at]
        left = [(first, seq - 1)] if first < seq else []
        right = [(seq + 1, last)] if seq < last else []
        parts = left + right
        self._firsts[at : at + 1] = [one for one, _ in parts]
        self._lasts[at : at + 1] = [other for _, other in parts]
        return True
