"""Round what goes on the wire to the digits it deserves."""

from __future__ import annotations

import math

__all__ = ["significant"]


def significant(value: float, digits: int = 6) -> float:
    """Round to `digits` significant digits; zero and what is not finite stay as they are."""
    if value == 0 or not math.isfinite(value):
        return value
    return float(f"{value:.{digits}g}")
