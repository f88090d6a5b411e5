"""What a report is about, cut to what its forms show: the largest groups, the steps of time. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from vetted_mw.audit.report.page.days import Step, spans
from vetted_mw.audit.report.sums import ABANDONED, Group, Sums
from vetted_mw.instants import rfc3339

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vetted_mw.audit.report.page.days import Span
    from vetted_mw.audit.report.sums import Key
    from vetted_mw.audit.report.totals import Totals

__all__ = ["Largest", "Report", "abandoned", "grid_lines", "largest", "steps", "worked"]

_MIDNIGHT = "T00:00:00Z"
_MOST_GAPS = 10
_LONGEST = 3700
"""Days of an axis that shows the whole period asked for; of a longer one, the days that have receipts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Sums and what they are of.

    Attributes:
        totals: the sums.
        since: the period's first instant; None: from the first receipt on.
        until: the first instant after it; None: up to the last receipt.
        source: what was read, without its folder.
        software: what made the report, `vetted-mw/x.y.z`.
        uncovered: parts of the period, first instant and the first one after it, that no source is of.
    """

    totals: Totals
    since: datetime | None
    until: datetime | None
    source: str
    software: str
    uncovered: Sequence[tuple[datetime, datetime]] = ()

    @property
    def gaps(self) -> str:
        """The parts of the period that no source is of, in words; empty where there is none."""
        told = [f"{_instant(since)} to before {_instant(until)}" for since, until in self.uncovered[:_MOST_GAPS]]
        return ", ".join([*told, *(["..."] if len(self.uncovered) > _MOST_GAPS else [])])

    @property
    def period(self) -> str:
        """The period in words, UTC: whole days with both ends, anything else half-open."""
        whole = [one is None or rfc3339(one).endswith(_MIDNIGHT) for one in (self.since, self.until)]
        if self.since is not None and self.until is not None and all(whole):
            last = (self.until - timedelta(days=1)).date()
            first = self.since.date()
            return f"on {first} (UTC)" if first == last else f"from {first} to {last}, both included (UTC)"
        found = self.totals.days or ("the first", "the last")
        since = found[0] if self.since is None else _instant(self.since)
        until = found[1] if self.until is None else f"before {_instant(self.until)}"
        return f"from {since} to {until} (UTC)"

    @property
    def days(self) -> tuple[date, date] | None:
        """First and last day of the time axis; None without receipts."""
        found = self.totals.days
        if found is None:
            return None
        first, last = map(date.fromisoformat, found)
        begin = first if self.since is None else min(first, self.since.date())
        end = last if self.until is None else max(last, (self.until - timedelta(microseconds=1)).date())
        return (begin, end) if (end - begin).days <= _LONGEST else (first, last)


@dataclass(frozen=True, slots=True, kw_only=True)
class Largest:
    """The groups with the most energy, and the others in one.

    Attributes:
        shown: by name, the largest first.
        others: what all others add up to; None when there are none.
        left: how many others there are.
    """

    shown: Mapping[str, Sums]
    others: Sums | None
    left: int

    @property
    def rows(self) -> dict[str, Sums]:
        """Those shown, and the others under a name that tells how many they are."""
        return dict(self.shown) if self.others is None else {**self.shown, f"{self.left:,} others": self.others}


def worked(key: Key) -> bool:
    """Whether a group is of answers, complete or cut: of everything but abandoned attempts."""
    return key.completion != ABANDONED


def abandoned(key: Key) -> bool:
    """Whether a group is of attempts that were given up for another region."""
    return key.completion == ABANDONED


def largest(groups: Mapping[tuple[str, ...], Sums], most: int) -> Largest:
    """Keep the `most` groups with the most energy; one alone is never folded into others."""
    order = sorted(groups, key=lambda name: (-groups[name].energy_wh.value, name))
    kept = order if len(order) <= most + 1 else order[:most]
    left = order[len(kept) :]
    others = Sums()
    for name in left:
        others.merge(groups[name])
    return Largest(shown={name[0]: groups[name] for name in kept}, others=others if left else None, left=len(left))


def steps(report: Report, boundary: str) -> tuple[str, list[Step]]:
    """Return what a step of the time axis is called, and every step from the first day to the last."""
    days = report.days
    if days is None:
        return "day", []
    name, cut = spans(*days)
    sums = report.totals.by(boundary, Group.DAY, keep=worked)
    given_up = report.totals.by(boundary, Group.DAY, keep=abandoned)
    found = []
    for span, work, lost in zip(cut, _within(cut, sums), _within(cut, given_up), strict=True):
        whole = Sums()
        whole.merge(work)
        whole.merge(lost)
        found.append(Step(span=span, work=work, abandoned=lost, whole=whole))
    return name, found


def grid_lines(report: Report, boundary: str, cut: list[Span], regions: list[str]) -> dict[str, list[float | None]]:
    """Return for each region the grid intensity of each step, weighted by energy, g/kWh; None where nothing ran."""
    by_day = report.totals.by(boundary, Group.REGION, Group.DAY)
    lines = {}
    for region in regions:
        of_region: dict[tuple[str, ...], Sums] = {
            (day,): sums for (name, day), sums in by_day.items() if name == region
        }
        lines[region] = [sums.grid_gco2_per_kwh for sums in _within(cut, of_region)]
    return lines


def _within(cut: list[Span], by_day: Mapping[tuple[str, ...], Sums]) -> list[Sums]:
    """Add up days by the spans they lie in, which leave none out."""
    found = [Sums() for _ in cut]
    place = 0
    for (day,), sums in sorted(by_day.items()):
        while cut[place].last.isoformat() < day:
            place += 1
        found[place].merge(sums)
    return found


def _instant(moment: datetime) -> str:
    text = rfc3339(moment)
    return text.removesuffix(_MIDNIGHT) if text.endswith(_MIDNIGHT) else text.removesuffix("Z").replace("T", " ")
