"""One boundary's part of the page, and how a plot stands in it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vetted_mw.audit.report.page.marks import Element, h
from vetted_mw.audit.report.words import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vetted_mw.audit.report.content import Report
    from vetted_mw.audit.report.sums import Sums

__all__ = ["REGIONS_DRAWN", "Part", "figure"]

REGIONS_DRAWN = 6
_WIDE, _HALF, _SLIM = 1000.0, 480.0, 358.0
"""Widths of pictures, px: across the page, beside another one, on a phone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One boundary of a report.

    Attributes:
        report: all of it.
        boundary: this part's.
        identity: what the ids of its elements begin with.
        whole: what everything in it adds up to.
    """

    report: Report
    boundary: str
    identity: str
    whole: Sums


def figure(
    part: Part,
    name: str,
    title: str,
    told: str,
    draw: Callable[[str, float], Element],
    *,
    legend: Sequence[tuple[str, str]] = (),
    half: bool = False,
) -> list[Element]:
    """Put a plot under its title, twice: for a screen or paper, and for a phone, where it is drawn anew to be read."""
    identity = f"{part.identity}-{name}"
    figure = h("figure", h("figcaption", told))
    if legend:
        entries = (h("li", _swatch(c), h("bdi", printable(text))) for c, text in legend)
        figure.append(h("ul", *entries, class_="legend"))
    figure.append(h("div", draw(identity, _HALF if half else _WIDE), class_="wide"))
    figure.append(h("div", draw(f"{identity}-slim", _SLIM), class_="slim"))
    return [h("h3", title), figure]


def _swatch(colour: str) -> Element:
    """Return the sign of an entry: a patch of the colour, or the line as it is drawn, for those who see no colours."""
    if colour.startswith("l"):
        line = h("path", class_=f"line {colour}", d="M1 6h28")
        return h("svg", line, class_="sign", width=30, height=12, aria_hidden="true")
    return h("i", class_="bar" if colour == "bar" else f"f{colour}")
