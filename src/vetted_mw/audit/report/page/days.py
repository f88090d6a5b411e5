"""The plots over time: emissions, and the grid intensity they were computed with. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

from vetted_mw.audit.report.page.marks import Element, Frame, h, nice_ticks, picture
from vetted_mw.audit.report.words import MASS, interval, measured, printable, three_digits, unit_for

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vetted_mw.audit.report.sums import Sums

__all__ = ["Span", "Step", "emissions_plot", "grid_plot", "spans"]

_MOST_DAYS, _MOST_WEEKS, _MOST_MONTHS = 120, 800, 3700
"""Days from which on a bar is a week, a month, a year."""
_LABEL = 62.0
"""Px that a date under the axis needs."""
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One step of the time axis: from `first` to `last`, both included."""

    first: date
    last: date

    @property
    def words(self) -> str:
        """How it is told: a date, or the two it reaches from and to."""
        return self.first.isoformat() if self.first == self.last else f"{self.first} to {self.last}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one step of the emissions plot shows.

    Attributes:
        span: the days.
        work: everything but abandoned attempts.
        abandoned: those.
        whole: both.
    """

    span: Span
    work: Sums
    abandoned: Sums
    whole: Sums


def spans(first: date, last: date) -> tuple[str, list[Span]]:
    """Cut a period into days, weeks from Monday on, months or years, and say which: few enough to be seen."""
    days = (last - first).days + 1
    name = (
        "day" if days <= _MOST_DAYS else "week" if days <= _MOST_WEEKS else "month" if days <= _MOST_MONTHS else "year"
    )
    found: list[Span] = []
    start = first
    while start <= last:
        end = min(_end(start, name), last)
        found.append(Span(first=start, last=end))
        if end == date.max:
            break
        start = end + timedelta(days=1)
    return name, found


def emissions_plot(identity: str, steps: Sequence[Step], *, name: str, width: float) -> Element:
    """Draw the emissions of each step, stacked by what they are of, under the interval of their sum.

    Args:
        identity: id of the picture in its page.
        steps: in order, none left out.
        name: what a step is, as in `day`.
        width: of the picture, px.
    """
    frame = Frame(width=width, height=300 if width > 600 else 240)  # noqa: PLR2004 (a phone's picture)
    ticks = nice_ticks(max(step.whole.gco2e.high for step in steps))
    unit = unit_for(ticks[-1], MASS)
    slot = frame.across / len(steps)
    marks = [*_value_axis(frame, ticks, unit[0], f"{unit[1]} CO₂e per {name}"), *_dates(frame, [s.span for s in steps])]
    for number, step in enumerate(steps):
        if step.whole.calls:
            marks.append(_bar(frame, step, frame.left + number * slot, slot, ticks[-1]))
    highest = max(steps, key=lambda step: step.whole.gco2e.value)
    return picture(
        identity,
        frame,
        title=f"Emissions per {name}, with their 90 % interval",
        description=f"{len(steps)} bars, stacked: electricity, making the servers, abandoned attempts. Highest: "
        f"{highest.span.words} with {measured(highest.whole.gco2e.value, MASS)} CO₂e "
        f"({interval(highest.whole.gco2e, MASS)}). A table below has the figures.",
        marks=marks,
    )


def grid_plot(
    identity: str, lines: Mapping[str, Sequence[float | None]], steps: Sequence[Span], *, name: str, width: float
) -> Element:
    """Draw the grid intensity of each region over time, weighted by energy.

    Args:
        identity: id of the picture in its page.
        lines: per region a value for each step, g/kWh; None where nothing ran.
        steps: in order.
        name: what a step is, as in `day`.
        width: of the picture, px.
    """
    frame = Frame(width=width, height=260 if width > 600 else 220)  # noqa: PLR2004
    known = [value for values in lines.values() for value in values if value is not None]
    ticks = nice_ticks(max(known, default=0.0))
    slot = frame.across / len(steps)
    marks = [*_value_axis(frame, ticks, 1.0, "g CO₂e per kWh"), *_dates(frame, steps)]
    for number, values in enumerate(lines.values()):
        marks.extend(_line(frame, values, slot, ticks[-1], number))
    told = "; ".join(f"{printable(region)}: {_range(values)}" for region, values in lines.items())
    return picture(
        identity,
        frame,
        title=f"Grid intensity used per {name}, by region",
        description=f"A line per region, in g CO₂e per kWh, weighted by energy. {told}.",
        marks=marks,
    )


def _end(start: date, name: str) -> date:
    if name == "day":
        return start
    if name == "week":
        return start + timedelta(days=6 - start.weekday())
    month = start.month if name == "month" else 12
    if (start.year, month) == (date.max.year, 12):
        return date.max
    return date(start.year + month // 12, month % 12 + 1, 1) - timedelta(days=1)


def _bar(frame: Frame, step: Step, left: float, slot: float, top: float) -> Element:
    width = max(0.6, min(slot * 0.72, 72.0))
    x, base = left + (slot - width) / 2, 0.0
    marks: list[Element] = []
    parts = (step.work.gco2e_operational, step.work.gco2e_embodied, step.abandoned.gco2e.value)
    for number, part in enumerate(parts):
        if part:
            y = frame.y((base + part) / top)
            marks.append(h("rect", class_=f"f{_STACK[number]}", x=x, y=y, width=width, height=frame.y(base / top) - y))
            base += part
    low, high = frame.y(step.whole.gco2e.low / top), frame.y(step.whole.gco2e.high / top)
    middle = left + slot / 2
    marks.append(h("path", class_="whisker", d=_whisker(middle, low, high, min(4.0, slot / 4))))
    told = f"{step.span.words}: {measured(step.whole.gco2e.value, MASS)} CO₂e ({interval(step.whole.gco2e, MASS)})"
    return h("g", h("title", told), *marks)


_STACK = (0, 1, "x")
"""Colours of the stack: electricity, servers, abandoned."""


def _whisker(x: float, low: float, high: float, half: float) -> str:
    caps = f"M{x - half:.2f} {high:.2f}h{2 * half:.2f}M{x - half:.2f} {low:.2f}h{2 * half:.2f}"
    return f"M{x:.2f} {low:.2f}V{high:.2f}{caps if half >= 2 else ''}"  # noqa: PLR2004 (px: smaller caps are a blur)


def _line(frame: Frame, values: Sequence[float | None], slot: float, top: float, number: int) -> list[Element]:
    """Draw one line, broken where nothing ran; a value without neighbours is a dot."""
    marks: list[Element] = []
    run: list[tuple[float, float]] = []
    for place, value in enumerate([*values, None]):
        if value is not None:
            run.append((frame.left + (place + 0.5) * slot, frame.y(value / top)))
            continue
        if len(run) == 1:
            marks.append(h("circle", class_=f"f{number}", cx=run[0][0], cy=run[0][1], r=3.5))
        elif run:
            marks.append(h("path", class_=f"line l{number}", d="M" + "L".join(f"{x:.2f} {y:.2f}" for x, y in run)))
        run = []
    return marks


def _range(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{three_digits(min(known))} to {three_digits(max(known))}" if known else "nothing ran"


def _value_axis(frame: Frame, ticks: Sequence[float], size: float, title: str) -> list[Element]:
    marks = [h("text", title, class_="axis", x=0, y=12)]
    for tick in ticks:
        y = frame.y(tick / ticks[-1])
        marks.append(
            h("line", class_="grid" if tick else "base", x1=frame.left, x2=frame.width - frame.right, y1=y, y2=y)
        )
        marks.append(h("text", f"{tick / size:,.6g}", class_="tick end", x=frame.left - 6, y=y + 4))
    return marks


def _dates(frame: Frame, steps: Sequence[Span]) -> list[Element]:
    """Label the time axis with as many dates as there is room for."""
    slot = frame.across / len(steps)
    every = max(1, -(-len(steps) // max(1, int(frame.across / _LABEL))))
    marks: list[Element] = []
    for number in range(0, len(steps), every):
        middle = frame.left + (number + 0.5) * slot
        first = steps[number].first
        marks.append(h("line", class_="base", x1=middle, x2=middle, y1=frame.floor, y2=frame.floor + 4))
        marks.append(h("text", _told_date(first, steps), class_="tick mid", x=middle, y=frame.floor + 18))
    return marks


def _told_date(day: date, steps: Sequence[Span]) -> str:
    months = (steps[-1].last - steps[0].first).days > _MOST_WEEKS
    return f"{_MONTHS[day.month - 1]} {day.year}" if months else f"{day.day} {_MONTHS[day.month - 1]}"
