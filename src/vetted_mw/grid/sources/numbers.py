"""Numbers as grid services write them: numbers, strings, with blanks between thousands, or not at all."""

from __future__ import annotations

import math
import re

__all__ = ["finite", "grouped"]

_NUMBER = re.compile(r"[-+]?\d{1,12}(?:\.\d{1,18})?(?:[eE][-+]?\d{1,3})?")
_BLANKS = str.maketrans("", "", " \u00a0\u202f\u2009")
_MOST = 1e12


def finite(value: object) -> float | None:
    """Return a finite number from a number or a plain decimal text; None for everything else, true and false too."""
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return float(value) if abs(value) <= _MOST else None  # NaN compares false as well
    if isinstance(value, str) and _NUMBER.fullmatch(value) and value.isascii():
        number = float(value)
        return number if math.isfinite(number) and abs(number) <= _MOST else None
    return None


def grouped(value: object) -> float | None:
    """Return a number whose thousands are set apart by blanks, `12 345`; None where there is none, `-` too."""
    if isinstance(value, str):
        return finite(value.translate(_BLANKS).replace("\u2212", "-"))
    return finite(value)
