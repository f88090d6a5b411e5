"""The same request in the default region: attributional, and only where both grid figures are made alike. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vetted_mw.receipts.charging import Place, Work, bounds, pue_variance, sigma_carbon
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

__all__ = ["Comparison", "compared"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
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
    there = receipt_reading(default, seen.default_reading, seen.requested_at, coefficients)
    if not _are_alike(reading, there):
        return None
    site = site_of(default, coefficients)
    place = Place(
        pue=significant(site.pue),
        pue_published=site.published,
        grid_gco2_per_kwh=significant(there.signal.gco2_per_kwh),
        grid_quality=quality_of(there),
        narrow=seen.boundary is Boundary.NARROW,
    )
    work = _work_of(receipt, coefficients)
    operational = work.it_wh * place.pue_in_energy / 1000 * place.grid_gco2_per_kwh
    return Comparison(
        region=default.code,
        gco2e=bounds(operational + work.embodied_g, sigma_carbon(work, place, coefficients.spread)),
        grid_gco2_per_kwh=place.grid_gco2_per_kwh,
        pue=place.pue,
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


def _work_of(receipt: Receipt, coefficients: Coefficients) -> Work:
    """Return what the machines used, wherever they stand: energy without PUE, and what of its spread is not PUE's."""
    spread = coefficients.spread
    here = Place(
        pue=receipt.pue,
        pue_published=receipt.pue_quality == "published",
        grid_gco2_per_kwh=receipt.grid_intensity_gco2_per_kwh,
        grid_quality=GridQuality.ANNUAL,  # no part of energy
        narrow=receipt.boundary == Boundary.NARROW.value,
    )
    has_host = not here.narrow and receipt.energy_source != "upstream_node"
    host = spread.host**2 if has_host else 0.0
    return Work(
        it_wh=receipt.energy_wh / here.pue_in_energy,
        accelerator_wh=receipt.accelerator_wh,
        embodied_g=receipt.gco2e_embodied,
        variance=max(0.0, receipt.sigma_energy**2 - host - pue_variance(here, spread)),
        host_variance=host,
    )
