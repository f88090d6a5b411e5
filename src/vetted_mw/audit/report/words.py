"""Write figures, days and names as a reader takes them in. Pure."""

from __future__ import annotations

import math
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vetted_mw.audit.report.sums import Summed

__all__ = [
    "ENERGY",
    "MASS",
    "WATER",
    "count",
    "in_unit",
    "interval",
    "listed",
    "measured",
    "percent",
    "printable",
    "shortened",
    "some",
    "three_digits",
    "unit_for",
]

Units = tuple[tuple[float, str], ...]
ENERGY: Units = ((1e6, "MWh"), (1e3, "kWh"), (1.0, "Wh"), (1e-3, "mWh"))
"""Of Wh."""
MASS: Units = ((1e6, "t"), (1e3, "kg"), (1.0, "g"), (1e-3, "mg"))
"""Of g."""
WATER: Units = ((1e6, "m3"), (1e3, "L"), (1.0, "mL"))
"""Of mL."""
_DIGITS = 3
_LONGEST = 100
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Characters that move the cursor, turn the direction of writing or show nothing: a name that holds them could look
like another one, or take over a terminal."""
_ELLIPSIS = "…"


def three_digits(value: float) -> str:
    """Write a number with three significant digits, its thousands apart, never in powers of ten."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    rounded = float(f"{value:.{_DIGITS}g}")
    decimals = max(0, _DIGITS - 1 - math.floor(math.log10(abs(rounded))))
    return f"{rounded:,.{decimals}f}"


def unit_for(value: float, units: Units) -> tuple[float, str]:
    """Return size and name of the largest unit of which `value` is at least one; the smallest for what is less."""
    rounded = float(f"{abs(value):.{_DIGITS}g}")
    if rounded == 0:
        return next(pair for pair in units if pair[0] == 1.0)
    return next((pair for pair in units if rounded >= pair[0]), units[-1])


def in_unit(value: float, unit: tuple[float, str]) -> str:
    """Write `value` in `unit`, without naming it."""
    return three_digits(value / unit[0])


def measured(value: float, units: Units) -> str:
    """Write a figure in the unit that suits it: `1.23 kWh`."""
    unit = unit_for(value, units)
    return f"{in_unit(value, unit)} {unit[1]}"


def interval(summed: Summed, units: Units, *, named: bool = False) -> str:
    """Write the bounds of a sum in the unit of its value: `0.45 to 3.1`, or where it is `named`, `0.45 to 3.1 kWh`."""
    unit = unit_for(summed.value, units)
    bounds = f"{in_unit(summed.low, unit)} to {in_unit(summed.high, unit)}"
    return f"{bounds} {unit[1]}" if named else bounds


def count(number: int, things: str = "") -> str:
    """Write a count with its thousands apart, of `things` where they are named: `1 call`, `2,000 calls`."""
    if not things:
        return f"{number:,}"
    return f"{number:,} {things.removesuffix('s') if number == 1 else things}"


def percent(part: float, whole: float) -> str:
    """Write a share; `-` of nothing. What is not nothing is never written as 0 %, nor what is not all as 100 %."""
    if not whole:
        return "-"
    share = round(100 * part / whole, 6)  # beyond that is what adding up in another order leaves
    if 0 < share < 0.1:  # noqa: PLR2004 (a tenth of a percent is the last digit shown)
        return "<0.1 %"
    if 99.9 < share < 100:  # noqa: PLR2004
        return ">99.9 %"
    return f"{share:.1f} %"


def printable(text: str) -> str:
    """Return a text that shows what it holds: each hidden character becomes U+FFFD."""
    return "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(one) in _HIDDEN else one for one in text)


def shortened(text: str, characters: int) -> str:
    """Return a printable name of at most so many characters, its middle left out: both ends tell names apart."""
    shown = printable(text)
    if len(shown) <= characters:
        return shown
    end = (characters - 1) // 2
    return f"{shown[: characters - 1 - end]}{_ELLIPSIS}{shown[-end:]}"


def some(counts: Mapping[str, int], most: int, *, unnamed: str = "none named") -> str:
    """Write names with their counts of receipts, the most frequent first and at most so many."""
    order = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    told = [f"{shortened(name, _LONGEST) if name else unnamed} ({count(number, 'receipts')})" for name, number in order]
    return ", ".join([*told[:most], *([f"{count(len(told) - most)} more"] if len(told) > most else [])]) or "none"


def listed(words: Sequence[str]) -> str:
    """Write words as a list in a sentence."""
    return ", ".join(map(printable, words)) if words else "none"
