"""What gauges show of the rooms of one configuration: each region's health, load and grid signal, as they stand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vetted_mw.telemetry.gauges import RegionGlance, SignalGlance

if TYPE_CHECKING:
    from datetime import datetime

    from vetted_mw.grid.board import SignalBoard
    from vetted_mw.lifecycle.rooms import Rooms

__all__ = ["region_glances"]

_SECONDS = 60.0


def region_glances(rooms: Rooms, now: datetime) -> list[RegionGlance]:
    """Tell every region that has an upstream; called from the threads that collect metrics, so it only reads."""
    configuration = rooms.configuration
    found = []
    for code in configuration.upstreams:
        is_healthy, in_flight = rooms.fleet.glance(code)
        found.append(
            RegionGlance(
                region=code,
                is_healthy=is_healthy,
                in_flight=in_flight,
                signal=_signal(rooms.board, configuration.regions[code].zone, now),
            )
        )
    return found


def _signal(board: SignalBoard, zone: str, now: datetime) -> SignalGlance | None:
    found = board.glance(zone, now)
    if found is None:
        return None
    source, reading = found
    return SignalGlance(
        source=source, gco2_per_kwh=reading.signal.gco2_per_kwh, age_seconds=reading.age_minutes * _SECONDS
    )
