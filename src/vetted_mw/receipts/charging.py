"""From what the machines used to what a request is charged with: site, grid, water and the intervals. Pure."""

from __future__ import annotations

from math import exp, sqrt
from typing import TYPE_CHECKING

import msgspec

from vetted_mw.receipts.figures import Figures, GridQuality, Interval
from vetted_mw.rounding import significant

if TYPE_CHECKING:
    from vetted_mw.receipts.coefficients import Coefficients, Spread
    from vetted_mw.receipts.figures import Inputs

__all__ = [
    "Z90",
    "Place",
    "Tariff",
    "Work",
    "bounds",
    "charge",
    "charged",
    "embodied_g",
    "pue_variance",
    "tariff_at",
    "tariff_of",
]

Z90 = 1.6449
"""The normal quantile of a two-sided 90 % interval."""


class Work(msgspec.Struct, frozen=True, kw_only=True):
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


class Place(msgspec.Struct, frozen=True, kw_only=True):
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


class Tariff(msgspec.Struct, frozen=True, kw_only=True):
    """What a Wh of the machines comes to at one place: all that `charged` needs to know of it, worked out once.

    Attributes:
        pue_in_energy: what energy at the boundary multiplies by.
        grid_gco2_per_kwh: g CO2e/kWh.
        water_ml_per_wh: mL a Wh takes, at the site and of the grid.
        pue_variance: the variance that PUE brings into energy and carbon.
        grid_variance: that of the grid figure.
        embodied_variance: that of what making the server took.
        water_variance: that of a Wh's water.
    """

    pue_in_energy: float
    grid_gco2_per_kwh: float
    water_ml_per_wh: float
    pue_variance: float
    grid_variance: float
    embodied_variance: float
    water_variance: float


def tariff_of(inputs: Inputs, coefficients: Coefficients) -> Tariff:
    """Return what a Wh comes to at the site and on the grid of `inputs`."""
    spread = coefficients.spread
    from_grid = inputs.pue * inputs.ewif_l_per_kwh
    whole = inputs.wue_l_per_kwh + from_grid
    share = from_grid / whole if whole else 1.0
    pue = _pue_spread(spread, published=inputs.pue_published)
    return tariff_at(
        _place(inputs),
        spread,
        water_ml_per_wh=whole,
        water_variance=share**2 * (pue**2 + spread.ewif**2) + (1 - share) ** 2 * spread.wue**2,
    )


def tariff_at(place: Place, spread: Spread, *, water_ml_per_wh: float = 0.0, water_variance: float = 0.0) -> Tariff:
    """Return what a Wh comes to at a place, with no water where only carbon is charged.

    Args:
        place: where the machines stand.
        spread: of the terms of the interval.
        water_ml_per_wh: mL a Wh takes.
        water_variance: that of it.
    """
    return Tariff(
        pue_in_energy=place.pue_in_energy,
        grid_gco2_per_kwh=place.grid_gco2_per_kwh,
        water_ml_per_wh=water_ml_per_wh,
        pue_variance=pue_variance(place, spread),
        grid_variance=_grid_spread(place, spread) ** 2,
        embodied_variance=spread.embodied**2,
        water_variance=water_variance,
    )


def charge(
    it_wh: float, embodied_g: float, variance: float, host_variance: float, tariff: Tariff
) -> tuple[float, float, float, float, float, float]:
    """Return what the machines' use comes to by a tariff; the members of a `Work` are its arguments.

    Returns:
        Wh, operational g CO2e and mL of water, then the sigma of energy, carbon and water, each in ln units.
    """
    energy = it_wh * tariff.pue_in_energy
    operational = energy / 1000 * tariff.grid_gco2_per_kwh
    total = operational + embodied_g
    share = operational / total if total else 1.0  # a term that is not in the figure has no part in its spread
    rest = 1 - share
    by_place = host_variance + tariff.pue_variance
    by_site_and_grid = by_place + tariff.grid_variance
    return (
        energy,
        operational,
        it_wh * tariff.water_ml_per_wh,
        sqrt(variance + by_place),
        sqrt(variance + share * share * by_site_and_grid + rest * rest * tariff.embodied_variance),
        sqrt(variance + host_variance + tariff.water_variance),
    )


def charged(work: Work, inputs: Inputs, coefficients: Coefficients) -> Figures:
    """Return what a request is charged with for `work` at the site and on the grid of `inputs`."""
    energy, operational, water, sigma_energy, sigma_carbon, sigma_water = charge(
        work.it_wh, work.embodied_g, work.variance, work.host_variance, tariff_of(inputs, coefficients)
    )
    return Figures(
        energy_wh=bounds(energy, sigma_energy),
        gco2e=bounds(operational + work.embodied_g, sigma_carbon),
        ml_water=bounds(water, sigma_water),
        accelerator_wh=work.accelerator_wh,
        gco2e_operational=operational,
        gco2e_embodied=work.embodied_g,
    )


def embodied_g(joule: float, coefficients: Coefficients) -> float:
    """Return the embodied g CO2e of a server whose accelerators used `joule`: by GPU-seconds, idle ones included."""
    constants = coefficients.parametric
    return joule / constants.gpu_watt * constants.idle_ratio * coefficients.embodied_g_per_gpu_second


def pue_variance(place: Place, spread: Spread) -> float:
    """Return the variance that PUE brings into energy and carbon."""
    return 0.0 if place.narrow else _pue_spread(spread, published=place.pue_published) ** 2


def bounds(value: float, sigma: float) -> Interval:
    """Return a median with its interval; the bounds rest on sigma as a receipt shows it."""
    told = significant(sigma)  # so that they can be recomputed from it
    factor = exp(Z90 * told)
    return Interval(value=value, low=value / factor, high=value * factor, sigma=told)


def _place(inputs: Inputs) -> Place:
    return Place(
        pue=inputs.pue,
        pue_published=inputs.pue_published,
        grid_gco2_per_kwh=inputs.grid_gco2_per_kwh,
        grid_quality=inputs.grid_quality,
        narrow=inputs.narrow,
    )


def _pue_spread(spread: Spread, *, published: bool) -> float:
    return spread.pue_published if published else spread.pue_assumed


def _grid_spread(place: Place, spread: Spread) -> float:
    return {
        GridQuality.LIVE_WINDOW: spread.grid_live_window,
        GridQuality.FRESH: spread.grid_fresh,
        GridQuality.ANNUAL: spread.grid_annual,
        GridQuality.ANNUAL_UNKNOWN_BASIS: spread.grid_annual_unknown_basis,
    }[place.grid_quality]
