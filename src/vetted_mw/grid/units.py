"""Units of carbon intensity, as factors to gCO2e/kWh. Pure."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["GRAMS_PER_KWH"]

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
