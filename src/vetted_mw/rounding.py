"""Round what goes on the wire to the digits it deserves."""

from __future__ import annotations

import math

__all__ = ["minutes", "significant"]


_DIGITS = 6
"""What nearly every number has; a format that is written out takes half the time."""


def significant(value: float, digits: int = _DIGITS) -> float:
    """Round to `digits` significant digits; zero and what is not finite stay as they are."""
    if value == 0 or not math.isfinite(value):
        return value
    return float(f"{value:.6g}" if digits == _DIGITS else f"{value:.{digits}g}")


def minutes(age: float) -> float:
    """Round an age to a tenth of a minute: what receipt and trace both show, so that they are equal."""
    return round(age, 1) + 0.0  # a reading a moment ahead of our clock is 0.0 old, never -0.0
