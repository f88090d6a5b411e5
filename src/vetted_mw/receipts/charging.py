"""From what the machines used to what a request is charged with: site, grid, water and the intervals. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vetted_mw.receipts.figures import Figures, GridQuality, Interval
from vetted_mw.rounding import significant

if TYPE_CHECKING:
    from vetted_mw.receipts.coefficients import Coefficients, Spread
    from vetted_mw.receipts.figures import Inputs

__all__ = ["Z90", "Place", "Work", "bounds", "charged", "embodied_g", "pue_variance", "sigma_carbon"]

Z90 = 1.6449
"""The normal quantile of a two-sided 90 % interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What the machines used for one request, wherever they stand.

    Attributes:
        it_wh: Wh of the whole server and its share of idle capacity; narrow: of the accelerators.
        accelerator_wh: Wh of the accelerators alone; None where it is not known.
        embodied_g: g CO2e of making the server; narrow: 0.
        variance: of ln Wh, the host's own part apart.
        host_variance: of the host's part; 0 where it is not in the figure, or was measured.
    """

    it_wh: float
    accelerator_wh: float | None
    embodied_g: float
    variance: float
    host_variance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where they stand, and on which grid.

    Attributes:
        pue: power usage effectiveness.
        pue_published: whether the site published it.
        grid_gco2_per_kwh: g CO2e/kWh.
        grid_quality: how well that is known.
        narrow: the boundary: no PUE in energy and carbon.
    """

    pue: float
    pue_published: bool
    grid_gco2_per_kwh: float
    grid_quality: GridQuality
    narrow: bool

    @property
    def pue_in_energy(self) -> float:
        """What energy at the boundary multiplies by."""
        return 1.0 if self.narrow else self.pue


def charged(work: Work, inputs: Inputs, coefficients: Coefficients) -> Figures:
    """Return what a request is charged with for `work` at the site and on the grid of `inputs`."""
    spread = coefficients.spread
    place = _place(inputs)
    energy = work.it_wh * place.pue_in_energy
    operational = energy / 1000 * place.grid_gco2_per_kwh
    water = work.it_wh * (inputs.wue_l_per_kwh + inputs.pue * inputs.ewif_l_per_kwh)
    sigma_energy = math.sqrt(work.variance + work.host_variance + pue_variance(place, spread))
    return Figures(
        energy_wh=bounds(energy, sigma_energy),
        gco2e=bounds(operational + work.embodied_g, sigma_carbon(work, place, spread)),
        ml_water=bounds(water, _sigma_water(work, inputs, spread)),
        accelerator_wh=work.accelerator_wh,
        gco2e_operational=operational,
        gco2e_embodied=work.embodied_g,
    )


def embodied_g(joule: float, coefficients: Coefficients) -> float:
    """Return the embodied g CO2e of a server whose accelerators used `joule`: by GPU-seconds, idle ones included."""
    constants = coefficients.parametric
    return joule / constants.gpu_watt * constants.idle_ratio * coefficients.embodied_g_per_gpu_second


def sigma_carbon(work: Work, place: Place, spread: Spread) -> float:
    """Return the spread of g CO2e, ln units; a term that is not in the figure has no part in it."""
    operational = work.it_wh * place.pue_in_energy / 1000 * place.grid_gco2_per_kwh
    total = operational + work.embodied_g
    share = operational / total if total else 1.0
    by_grid = share**2 * (work.host_variance + pue_variance(place, spread) + _grid_spread(place, spread) ** 2)
    return math.sqrt(work.variance + by_grid + (1 - share) ** 2 * spread.embodied**2)


def pue_variance(place: Place, spread: Spread) -> float:
    """Return the variance that PUE brings into energy and carbon."""
    return 0.0 if place.narrow else _pue_spread(spread, published=place.pue_published) ** 2


def bounds(value: float, sigma: float) -> Interval:
    """Return a median with its interval; the bounds rest on sigma as a receipt shows it."""
    told = significant(sigma)  # so that they can be recomputed from it
    factor = math.exp(Z90 * told)
    return Interval(value=value, low=value / factor, high=value * factor, sigma=told)


def _place(inputs: Inputs) -> Place:
    return Place(
        pue=inputs.pue,
        pue_published=inputs.pue_published,
        grid_gco2_per_kwh=inputs.grid_gco2_per_kwh,
        grid_quality=inputs.grid_quality,
        narrow=inputs.narrow,
    )


def _sigma_water(work: Work, inputs: Inputs, spread: Spread) -> float:
    from_grid = inputs.pue * inputs.ewif_l_per_kwh
    whole = inputs.wue_l_per_kwh + from_grid
    share = from_grid / whole if whole else 1.0
    pue = _pue_spread(spread, published=inputs.pue_published)
    by_grid = share**2 * (pue**2 + spread.ewif**2)
    return math.sqrt(work.variance + work.host_variance + by_grid + (1 - share) ** 2 * spread.wue**2)


def _pue_spread(spread: Spread, *, published: bool) -> float:
    return spread.pue_published if published else spread.pue_assumed


def _grid_spread(place: Place, spread: Spread) -> float:
    return {
        GridQuality.LIVE_WINDOW: spread.grid_live_window,
        GridQuality.FRESH: spread.grid_fresh,
        GridQuality.ANNUAL: spread.grid_annual,
        GridQuality.ANNUAL_UNKNOWN_BASIS: spread.grid_annual_unknown_basis,
    }[place.grid_quality]
