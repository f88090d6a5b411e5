"""Embedded grid signals that move with time, written to a file the gateway watches as it would watch yours."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from vetted_mw.instants import rfc3339

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Wave", "readings_toml", "write_readings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wave:
    """A zone's made-up intensity: a sine in gCO2e/kWh.

    Attributes:
        zone: grid zone.
        middle: its mean.
        swing: its amplitude.
        period_seconds: one round.
        phase: start of the round, 0 to 1.
    """

    zone: str
    middle: float
    swing: float
    period_seconds: float
    phase: float

    def at(self, now: datetime) -> float:
        """Return the intensity at `now`."""
        turn = now.timestamp() / self.period_seconds + self.phase
        return round(self.middle + self.swing * math.sin(2 * math.pi * turn), 1)


# Sweden and Iceland cross every few minutes, so that carbon-aware routing is seen to change its mind.
WAVES = (
    Wave(zone="FR", middle=48.0, swing=12.0, period_seconds=900, phase=0.0),
    Wave(zone="SE_3", middle=27.0, swing=8.0, period_seconds=240, phase=0.25),
    Wave(zone="IS", middle=28.0, swing=1.0, period_seconds=600, phase=0.5),
    Wave(zone="DE_LU", middle=340.0, swing=90.0, period_seconds=900, phase=0.75),
    Wave(zone="FI", middle=70.0, swing=20.0, period_seconds=600, phase=0.1),
)


def readings_toml(now: datetime) -> str:
    """Return `signals.toml` as of `now`."""
    return "\n".join(
        f'[[reading]]\nzone = "{wave.zone}"\ngco2_per_kwh = {wave.at(now)}\nkind = "measured"\n'
        f'observed_at = "{rfc3339(now)}"\nsource = "demo_grid"\n'
        for wave in WAVES
    )


def write_readings(path: Path) -> None:
    """Write the readings of this moment, whole or not at all."""
    draft = path.with_suffix(".draft")
    draft.write_text(readings_toml(datetime.now(UTC).replace(microsecond=0)), encoding="utf-8")
    draft.replace(path)
