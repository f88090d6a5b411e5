"""What pages and plots are built of: elements that escape whatever they hold, scales and ticks. Pure.

Elements are those of the standard library, so that nothing is ever pasted into markup. No plotting library: the page
must come out byte for byte the same from the same receipts, hold no script and nothing from elsewhere, and follow the
reader's colours; what draws such plots in Python brings scripts, fonts or fixed colours along, or a licence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, tostring

from vetted_mw.audit.report.words import printable, shortened

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Content", "Element", "Frame", "fitted", "h", "markup", "nice_ticks", "picture"]

Content = Element | str
_NARROW, _WIDE = 9.0, 13.5
"""Widths of characters of 13 px in bold, in px, in the widest of the fonts that are likely: rather too much."""
_FEWEST, _MOST = 3, 300
_BROAD = frozenset("mw%@")
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


def h(tag: str, *children: Content, **attributes: str | float | None) -> Element:
    """Make an element of HTML or SVG.

    Args:
        tag: its name.
        children: elements, and texts, which are escaped when written.
        attributes: `class_` for `class`, `_` for `-`; those that are None are left out.
    """
    made = Element(tag, {_attribute(name): _value(one) for name, one in attributes.items() if one is not None})
    last: Element | None = None
    for child in children:
        if isinstance(child, str):
            if last is None:
                made.text = (made.text or "") + child
            else:
                last.tail = (last.tail or "") + child
        else:
            made.append(child)
            last = child
    return made


def markup(element: Element) -> str:
    """Write an element as HTML."""
    return tostring(element, encoding="unicode", method="html")


def fitted(text: str, pixels: float) -> str:
    """Return a name that is not wider than `pixels`, its middle left out where it would be."""
    shown = shortened(text, _MOST)
    if _width(shown) <= pixels:
        return shown
    characters = int(pixels / _NARROW)
    while characters > _FEWEST and _width(shortened(shown, characters)) > pixels:
        characters -= 1
    return shortened(shown, max(_FEWEST, characters))


def nice_ticks(highest: float, *, at_most: int = 6) -> list[float]:
    """Return round values from 0 to the first one that is not below `highest`; there are at least two."""
    if highest <= 0:
        return [0.0, 1.0]
    rough = highest / (at_most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(one * power for one in _STEPS if one * power >= rough * (1 - 1e-9))
    return [step * number for number in range(math.ceil(highest / step - 1e-9) + 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """Where a plot's marks lie within its picture, in px.

    Attributes:
        width: of the picture.
        height: of the picture.
        left: blank on the left, for the axis.
        right: blank on the right.
        top: blank above.
        bottom: blank below, for the axis.
    """

    width: float
    height: float
    left: float = 56.0
    right: float = 22.0
    top: float = 28.0
    bottom: float = 26.0

    @property
    def across(self) -> float:
        """Width of the plot's own area."""
        return self.width - self.left - self.right

    @property
    def floor(self) -> float:
        """Where its lower edge is."""
        return self.height - self.bottom

    def y(self, share: float) -> float:
        """Return where a value stands that is this share of the highest tick."""
        return self.floor - share * (self.floor - self.top)

    def x(self, share: float) -> float:
        """Return where a share of the width ends."""
        return self.left + share * self.across


def picture(identity: str, frame: Frame, *, title: str, description: str, marks: Iterable[Element]) -> Element:
    """Return an SVG that says what it shows to those who cannot see it."""
    return h(
        "svg",
        h("title", title, id=f"{identity}-title"),
        h("desc", description, id=f"{identity}-desc"),
        *marks,
        id=identity,
        class_="plot",
        role="img",
        viewBox=f"0 0 {_value(frame.width)} {_value(frame.height)}",
        aria_labelledby=f"{identity}-title {identity}-desc",
    )


def _attribute(name: str) -> str:
    return name.rstrip("_").replace("_", "-")


def _value(value: str | float) -> str:
    """Write a number to a hundredth of a px; hidden characters have no place in an attribute."""
    return printable(value) if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")


def _width(text: str) -> float:
    return sum(map(_character_width, text))


def _character_width(one: str) -> float:
    """Count capitals and whatever is not ASCII as wide: what they are in each font is not known here."""
    return _NARROW if one.isascii() and not one.isupper() and one not in _BROAD else _WIDE
