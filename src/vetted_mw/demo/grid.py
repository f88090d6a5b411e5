"""The demo's grid: made-up generation mixes that move with time. Pure: the instant is always an argument."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from vetted_mw.grid.factors import load_factors

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

__all__ = ["WAVES", "Wave", "mix_at", "wave_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wave:
    """A zone's made-up intensity: a sine in gCO2e/kWh, and the plants that amount to it.

    Attributes:
        zone: grid zone.
        middle: its mean.
        swing: its amplitude.
        period_seconds: one round.
        phase: start of the round, 0 to 1.
        steady: PSR code -> MW that always run.
        moving: PSR code of what runs as much as the intensity asks for.
    """

    zone: str
    middle: float
    swing: float
    period_seconds: float
    phase: float
    steady: Mapping[str, float]
    moving: str

    def at(self, now: datetime) -> float:
        """Return the intensity at `now`."""
        turn = now.timestamp() / self.period_seconds + self.phase
        return round(self.middle + self.swing * math.sin(2 * math.pi * turn), 1)


# Sweden and Iceland cross every few minutes, so that carbon-aware routing is seen to change its mind.
WAVES = (
    Wave(
        zone="FR",
        middle=48.0,
        swing=12.0,
        period_seconds=900,
        phase=0.0,
        steady=MappingProxyType({"B11": 3000.0, "B12": 2000.0, "B14": 40000.0, "B19": 5000.0}),
        moving="B04",
    ),
    Wave(
        zone="SE_3",
        middle=27.0,
        swing=8.0,
        period_seconds=240,
        phase=0.25,
        steady=MappingProxyType({"B12": 1500.0, "B14": 5500.0, "B19": 1500.0}),
        moving="B20",
    ),
    Wave(
        zone="IS",
        middle=28.0,
        swing=1.0,
        period_seconds=600,
        phase=0.5,
        steady=MappingProxyType({"B12": 1600.0}),
        moving="B09",
    ),
    Wave(
        zone="DE_LU",
        middle=340.0,
        swing=90.0,
        period_seconds=900,
        phase=0.75,
        steady=MappingProxyType({"B01": 4000.0, "B02": 3000.0, "B04": 5000.0, "B16": 8000.0, "B19": 15000.0}),
        moving="B05",
    ),
    Wave(
        zone="FI",
        middle=70.0,
        swing=20.0,
        period_seconds=600,
        phase=0.1,
        steady=MappingProxyType({"B11": 1500.0, "B14": 4000.0, "B19": 1500.0}),
        moving="B04",
    ),
)


def wave_of(zone: str) -> Wave:
    """Return a zone's wave.

    Raises:
        KeyError: the demo has no plants there.
    """
    return {wave.zone: wave for wave in WAVES}[zone]


def mix_at(wave: Wave, now: datetime) -> dict[str, float]:
    """Return what runs at `now`, PSR code -> MW: as much of the moving type as gives the wave's intensity."""
    factors = load_factors()
    total = sum(wave.steady.values())
    steady = sum(made * factors.factor(code, wave.zone).gco2_per_kwh for code, made in wave.steady.items()) / total
    wanted = wave.at(now)
    moving = total * (wanted - steady) / (factors.factor(wave.moving, wave.zone).gco2_per_kwh - wanted)
    return {**wave.steady, wave.moving: round(moving, 2)}
