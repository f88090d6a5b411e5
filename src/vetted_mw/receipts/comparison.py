"""The same request in the default region: attributional, and only where both grid figures are made alike. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vetted_mw.receipts.charging import Place, Tariff, bounds, charge, pue_variance, tariff_at
from vetted_mw.receipts.figures import GridQuality, Interval
from vetted_mw.receipts.grid import receipt_reading
from vetted_mw.receipts.inputs import quality_of, site_of
from vetted_mw.rounding import significant
from vetted_mw.routing.options import Boundary

if TYPE_CHECKING:
    from vetted_mw.grid.signal import SignalReading
    from vetted_mw.receipts.coefficients import Coefficients
    from vetted_mw.receipts.observation import Observation
    from vetted_mw.receipts.receipt import Receipt

__all__ = ["Comparison", "Elsewhere", "compared", "elsewhere_of"]


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What the same request would have been charged with in the default region.

    Attributes:
        region: the default region's code.
        gco2e: g CO2e there, with its interval.
        grid_gco2_per_kwh: g CO2e/kWh there.
        pue: power usage effectiveness there.
    """

    region: str
    gco2e: Interval
    grid_gco2_per_kwh: float
    pue: float


def compared(
    seen: Observation, receipt: Receipt, reading: SignalReading, coefficients: Coefficients
) -> Comparison | None:
    """Charge the energy of a receipt at the default region; None where that cannot be compared.

    Args:
        seen: names the default region and its signal.
        receipt: of this request, its own figures made.
        reading: the grid figure it used.
        coefficients: what it rests on.
    """
    default = seen.default_region
    if default is None:
        return None
    if default.code == seen.region.code:
        return _itself(receipt)
    elsewhere = elsewhere_of(seen, receipt, reading, coefficients)
    if elsewhere is None:
        return None
    return Comparison(
        region=default.code,
        gco2e=elsewhere.gco2e(receipt.energy_wh, receipt.sigma_energy, receipt.gco2e_embodied),
        grid_gco2_per_kwh=elsewhere.there.grid_gco2_per_kwh,
        pue=elsewhere.there.pue,
    )


class Elsewhere(msgspec.Struct, frozen=True, kw_only=True):
    """Two places, and what is the same for every request that is charged at the one as if it ran at the other.

    Attributes:
        there: the default region.
        pue_here: what energy was multiplied by where it ran.
        host_variance: of the host's part in the energy; 0 where it has none, or was measured.
        pue_variance: what PUE brought into the energy where it ran.
        tariff: what a Wh comes to there.
    """

    there: Place
    pue_here: float
    host_variance: float
    pue_variance: float
    tariff: Tariff

    def gco2e(self, energy_wh: float, sigma_energy: float, embodied_g: float) -> Interval:
        """Return g CO2e there of a receipt's energy, its sigma and its embodied g CO2e.

        What the machines used is the same wherever they stand: energy without PUE, and of its spread what is not PUE's.
        """
        variance = max(0.0, sigma_energy**2 - self.host_variance - self.pue_variance)
        charged = charge(energy_wh / self.pue_here, embodied_g, variance, self.host_variance, self.tariff)
        operational, sigma_carbon = charged[1], charged[4]
        return bounds(operational + embodied_g, sigma_carbon)


def elsewhere_of(
    seen: Observation, receipt: Receipt, reading: SignalReading, coefficients: Coefficients
) -> Elsewhere | None:
    """Return how energy at the receipt's region is charged in the default region; None where that cannot be compared.

    Args:
        seen: names the default region and its signal.
        receipt: of a request at the place, whichever tokens it had.
        reading: the grid figure it used.
        coefficients: what it rests on.
    """
    default = seen.default_region
    if default is None:
        return None
    there = receipt_reading(default, seen.default_reading, seen.requested_at, coefficients)
    if not _are_alike(reading, there):
        return None
    spread, site = coefficients.spread, site_of(default, coefficients)
    here = Place(
        pue=receipt.pue,
        pue_published=receipt.pue_quality == "published",
        grid_gco2_per_kwh=receipt.grid_intensity_gco2_per_kwh,
        grid_quality=GridQuality.ANNUAL,  # no part of energy
        narrow=receipt.boundary == Boundary.NARROW.value,
    )
    has_host = not here.narrow and receipt.energy_source != "upstream_node"
    place = Place(
        pue=significant(site.pue),
        pue_published=site.published,
        grid_gco2_per_kwh=significant(there.signal.gco2_per_kwh),
        grid_quality=quality_of(there),
        narrow=seen.boundary is Boundary.NARROW,
    )
    return Elsewhere(
        there=place,
        pue_here=here.pue_in_energy,
        host_variance=spread.host**2 if has_host else 0.0,
        pue_variance=pue_variance(here, spread),
        tariff=tariff_at(place, spread),
    )


def _itself(receipt: Receipt) -> Comparison:
    return Comparison(
        region=receipt.region,
        gco2e=Interval(
            value=receipt.gco2e, low=receipt.gco2e_ci90_lo, high=receipt.gco2e_ci90_hi, sigma=receipt.sigma_gco2e
        ),
        grid_gco2_per_kwh=receipt.grid_intensity_gco2_per_kwh,
        pue=receipt.pue,
    )


def _are_alike(here: SignalReading, there: SignalReading) -> bool:
    """Whether two figures were made in one way: kind and method, and of annual ones who declared them."""
    mine, other = here.signal, there.signal
    if (mine.kind, mine.method) != (other.kind, other.method):
        return False
    return here.live_eligible or mine.source == other.source
