"""Units of carbon intensity, as factors to gCO2e/kWh, and the bounds between which a grid's can lie. Pure."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["GRAMS_PER_KWH", "is_plausible"]

GRAMS_PER_KWH: Mapping[str, float] = MappingProxyType(
    {
        "g_per_kwh": 1.0,
        "kg_per_kwh": 1000.0,
        "kg_per_mwh": 1.0,
        "t_per_mwh": 1000.0,
        "lb_per_mwh": 0.45359237,
    }
)
"""Unit -> gCO2e/kWh of one of it; a pound is 453.59237 g (international avoirdupois)."""

MOST_GCO2_PER_KWH = 3000.0
"""No grid emits as much: a value beyond it is in another unit than was said."""

_LEAST_GCO2_PER_KWH = 1.0
"""No grid emits as little over the life cycle of its plants, of which wind's 11 g are the least."""


def is_plausible(gco2_per_kwh: float, basis: str) -> bool:
    """Whether a grid can have this value; by direct emissions alone some reach zero.

    A value in kg/kWh taken for grams, or a zero that stands for none, would else win every comparison.
    """
    least = 0.0 if basis == "direct" else _LEAST_GCO2_PER_KWH
    return least <= gco2_per_kwh <= MOST_GCO2_PER_KWH
