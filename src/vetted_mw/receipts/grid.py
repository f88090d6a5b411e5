"""Which grid figure a receipt may use: a live-eligible measurement, else the annual figure. Never a forecast."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from vetted_mw.grid.signal import GridSignal, Method, SignalKind, SignalReading, read_at

if TYPE_CHECKING:
    from vetted_mw.receipts.coefficients import Coefficients
    from vetted_mw.routing.regions import Region

__all__ = ["receipt_reading"]

_YEAR_MINUTES = 525_600


def receipt_reading(
    region: Region, reading: SignalReading | None, requested_at: datetime, coefficients: Coefficients
) -> SignalReading:
    """Return the reading a receipt's figures use.

    Args:
        region: where the request ran.
        reading: its zone's best signal at the decision.
        requested_at: the instant of the decision.
        coefficients: hold the figure for a region with neither.
    """
    if reading is not None and reading.live_eligible:
        return reading
    if region.annual_gco2_per_kwh is None:
        fallback = coefficients.grid_fallback
        annual = _annual(
            fallback.gco2_per_kwh, fallback.label, fallback.area, fallback.year, fallback.basis, requested_at
        )
    else:
        label = "annual_declared" if region.shipped else "annual_configured"
        year = region.annual_year or requested_at.year - 1
        annual = _annual(region.annual_gco2_per_kwh, label, region.country, year, region.annual_basis, requested_at)
    return read_at(annual, requested_at)


def _annual(value: float, source: str, area: str, year: int, basis: str, requested_at: datetime) -> GridSignal:
    return GridSignal(
        source=source,
        zone=area,
        area=area,
        kind=SignalKind.FALLBACK,
        gco2_per_kwh=value,
        observed_at=datetime(year + 1, 1, 1, tzinfo=UTC),  # the year's end
        fetched_at=requested_at,
        max_age_minutes=0.0,
        method=Method(basis=basis),  # type: ignore[arg-type]
        resolution_minutes=_YEAR_MINUTES,
    )
