"""The plots of lying bars: figures with their intervals, shares of a whole, and two figures side by side. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vetted_mw.audit.report.page.marks import Element, Frame, fitted, h, nice_ticks, picture
from vetted_mw.audit.report.words import MASS, interval, measured, percent, printable, unit_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vetted_mw.audit.report.sums import Summed
    from vetted_mw.audit.report.words import Units

__all__ = ["PLAIN", "Pair", "Whole", "comparison_plot", "intervals_plot", "shares_plot"]

_DIGIT = 8.5
"""Width of a digit of 13 px, in px, in the widest of the fonts that are likely."""
PLAIN = "rest"
"""The colour of what is not one thing: the models or regions beyond those shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """One bar of shares.

    Attributes:
        name: what is shared out.
        parts: name of each part and its amount, in one order for all bars.
        colours: their colours, by number or name.
    """

    name: str
    parts: Sequence[tuple[str, float]]
    colours: Sequence[int | str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One region's emissions beside what the default region's figures say of the same calls; g CO2e."""

    name: str
    emitted: float
    default: float


def intervals_plot(
    identity: str, bars: Sequence[tuple[str, Summed]], *, title: str, units: Units, what: str, width: float
) -> Element:
    """Draw a bar per name with its 90 % interval; the name and the figure stand above it.

    Args:
        identity: id of the picture in its page.
        bars: names and figures, in the order they are shown.
        title: what the picture shows.
        units: of the figures.
        what: the figures' unit is of this, as in `CO2e`; empty for none.
        width: of the picture, px.
    """
    row = 46.0
    frame = _frame(width, len(bars) * row)
    ticks = nice_ticks(max(one.high for _, one in bars), at_most=6 if width > 420 else 4)  # noqa: PLR2004 (a phone's)
    unit = unit_for(ticks[-1], units)
    marks = _axis(frame, ticks, unit[0], f"{unit[1]} {what}".strip())
    for number, (name, one) in enumerate(bars):
        y = frame.top + number * row
        figure = f"{measured(one.value, units)} ({interval(one, units)})"
        low, high = frame.x(one.low / ticks[-1]), frame.x(one.high / ticks[-1])
        marks += [
            *_labels(frame, y, name, figure),
            h(
                "rect",
                class_="f0",
                x=frame.left,
                y=y + 20,
                width=frame.x(one.value / ticks[-1]) - frame.left,
                height=14,
            ),
            h(
                "path",
                class_="whisker",
                d=f"M{low:.2f} {y + 27:.2f}H{high:.2f}M{low:.2f} {y + 22:.2f}v10M{high:.2f} {y + 22:.2f}v10",
            ),
        ]
    told = "; ".join(f"{printable(name)} {measured(one.value, units)} ({interval(one, units)})" for name, one in bars)
    return picture(identity, frame, title=title, description=f"Bars with their 90 % interval: {told}.", marks=marks)


def shares_plot(identity: str, wholes: Sequence[Whole], *, title: str, width: float) -> Element:
    """Draw a bar per whole, divided into its parts; each part that has room for it tells its share."""
    row = 52.0
    frame = Frame(width=width, height=len(wholes) * row + 4, left=1, right=1, top=0, bottom=0)
    marks: list[Element] = []
    for number, whole in enumerate(wholes):
        y = number * row
        marks.append(h("text", whole.name, class_="name", x=frame.left, y=y + 14))
        marks.append(h("rect", class_="empty", x=frame.left, y=y + 20, width=frame.across, height=24))
        marks.extend(_parts(frame, whole, y))
    told = "; ".join(f"{whole.name}: {_told_parts(whole)}" for whole in wholes)
    return picture(identity, frame, title=title, description=f"Divided bars. {told}.", marks=marks)


def comparison_plot(identity: str, pairs: Sequence[Pair], *, default: str, width: float) -> Element:
    """Draw what was emitted beside what the default region's figures say, for each region that served."""
    row = 64.0
    frame = _frame(width, len(pairs) * row)
    ticks = nice_ticks(max(max(one.emitted, one.default) for one in pairs), at_most=6 if width > 420 else 4)  # noqa: PLR2004
    unit = unit_for(ticks[-1], MASS)
    marks = _axis(frame, ticks, unit[0], f"{unit[1]} CO₂e")
    for number, one in enumerate(pairs):
        y = frame.top + number * row
        figures = f"{measured(one.emitted, MASS)} / {measured(one.default, MASS)}"
        marks.extend(_labels(frame, y, one.name, figures))
        for colour, place, value in (("0", 20, one.emitted), ("default", 37, one.default)):
            length = frame.x(value / ticks[-1]) - frame.left
            marks.append(h("rect", class_=f"f{colour}", x=frame.left, y=y + place, width=length, height=14))
    told = "; ".join(f"{printable(o.name)} {measured(o.emitted, MASS)} / {measured(o.default, MASS)}" for o in pairs)
    return picture(
        identity,
        frame,
        title=f"Emitted, beside the figures of {default} for the same calls",
        description=f"Two bars per region that served: emitted, and the default region's figures. {told}.",
        marks=marks,
    )


def _frame(width: float, rows: float) -> Frame:
    return Frame(width=width, height=rows + 44, left=1, right=26, top=2, bottom=42)


def _axis(frame: Frame, ticks: Sequence[float], size: float, title: str) -> list[Element]:
    marks: list[Element] = []
    for tick in ticks:
        x = frame.x(tick / ticks[-1])
        marks.append(h("line", class_="grid" if tick else "base", x1=x, x2=x, y1=frame.top + 18, y2=frame.floor))
        place = "tick mid" if tick else "tick"
        marks.append(h("text", f"{tick / size:,.6g}", class_=place, x=x, y=frame.floor + 16))
    marks.append(h("text", title, class_="axis end", x=frame.x(1), y=frame.floor + 34))
    return marks


def _labels(frame: Frame, y: float, name: str, figure: str) -> list[Element]:
    """Put a name on the left and its figure on the right of one line."""
    room = frame.width - len(figure) * _DIGIT - 16
    full = printable(name)
    shown = fitted(name, room)
    text = h("text", shown, class_="name", x=frame.left, y=y + 14)
    if shown != full:
        text.append(h("title", full))
    return [text, h("text", figure, class_="figure end", x=frame.width - 1, y=y + 14)]


def _parts(frame: Frame, whole: Whole, y: float) -> list[Element]:
    total = sum(amount for _, amount in whole.parts)
    marks: list[Element] = []
    begin = 0.0
    for (name, amount), colour in zip(whole.parts, whole.colours, strict=True):
        if not amount:
            continue
        x, share = frame.x(begin), amount / total
        begin = min(1.0, begin + share)
        width = frame.x(begin) - x
        told = percent(amount, total)
        bar = h("rect", class_=f"f{colour}", x=x, y=y + 20, width=width, height=24)
        marks.append(h("g", h("title", f"{printable(name)}: {told}"), bar))
        if width > len(told) * _DIGIT + 6:
            marks.append(h("text", told, class_=f"inside o{colour} mid", x=x + width / 2, y=y + 36))
    return marks


def _told_parts(whole: Whole) -> str:
    total = sum(amount for _, amount in whole.parts)
    return ", ".join(f"{printable(name)} {percent(amount, total)}" for name, amount in whole.parts) or "nothing"
