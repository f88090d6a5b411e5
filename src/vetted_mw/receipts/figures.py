"""Energy, carbon and water of one request with their intervals. The method is in `data/methodology.toml`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from vetted_mw.rounding import significant

if TYPE_CHECKING:
    from vetted_mw.receipts.coefficients import Coefficients, Spread
    from vetted_mw.receipts.models import ModelSize

__all__ = ["EnergyModel", "Figures", "GridQuality", "Inputs", "Interval", "ParametricModel", "joules"]

Z90 = 1.6449
"""The normal quantile of a two-sided 90 % interval."""


class GridQuality(StrEnum):
    """How well the grid figure is known."""

    LIVE_WINDOW = "live_window"
    FRESH = "fresh"
    ANNUAL = "annual"
    ANNUAL_UNKNOWN_BASIS = "annual_unknown_basis"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What the figures are made from.

    Attributes:
        prompt_tokens: tokens of the prompt, cached ones included.
        cached_tokens: those of them the server had cached.
        completion_tokens: tokens written, reasoning included.
        size: the model's.
        hardware_known: whether it is an H100, which the model was fitted on.
        pue: power usage effectiveness.
        pue_published: whether the site published it.
        wue_l_per_kwh: on-site water, L/kWh.
        ewif_l_per_kwh: the grid's water, L/kWh.
        grid_gco2_per_kwh: g CO2e/kWh.
        grid_quality: how well that is known.
        narrow: the boundary: accelerators only.
        usage_estimated: the tokens are an estimate.
    """

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    size: ModelSize
    hardware_known: bool
    pue: float
    pue_published: bool
    wue_l_per_kwh: float
    ewif_l_per_kwh: float
    grid_gco2_per_kwh: float
    grid_quality: GridQuality
    narrow: bool = False
    usage_estimated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A median, its 90 % interval, and the sigma both rest on (ln units)."""

    value: float
    low: float
    high: float
    sigma: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one request cost at its boundary.

    Attributes:
        energy_wh: Wh.
        gco2e: g CO2e, operational and embodied.
        ml_water: mL consumed.
        accelerator_wh: Wh of the accelerators alone.
        gco2e_operational: g.
        gco2e_embodied: g.
    """

    energy_wh: Interval
    gco2e: Interval
    ml_water: Interval
    accelerator_wh: float
    gco2e_operational: float
    gco2e_embodied: float


class EnergyModel(Protocol):
    """Makes the figures of one request.

    Called once per receipt from the event loop: it may not wait or block for more than a millisecond. It may raise
    anything; the answer then goes out without a receipt. `name` becomes the receipt's `energy_source`.
    """

    @property
    def name(self) -> str:
        """The word for `energy_source`."""
        ...

    def figures(self, inputs: Inputs, coefficients: Coefficients) -> Figures:
        """Return the figures of `inputs`."""
        ...


class ParametricModel:
    """The default model, fitted on measured H100 inference; counts prompt tokens, gives an interval."""

    name = "parametric"

    def figures(self, inputs: Inputs, coefficients: Coefficients) -> Figures:
        """Return the figures of `inputs`."""
        decode, prefill = joules(inputs, coefficients)
        total = decode + prefill
        accelerator_wh = total / 3600
        parametric = coefficients.parametric
        it_wh = accelerator_wh if inputs.narrow else accelerator_wh * parametric.host_ratio * parametric.idle_ratio
        energy_wh = it_wh if inputs.narrow else it_wh * inputs.pue
        operational = energy_wh / 1000 * inputs.grid_gco2_per_kwh
        gpu_seconds = 0.0 if inputs.narrow else total / parametric.gpu_watt * parametric.idle_ratio
        embodied = gpu_seconds * coefficients.embodied_g_per_gpu_second
        water = it_wh * (inputs.wue_l_per_kwh + inputs.pue * inputs.ewif_l_per_kwh)
        sigmas = _Sigmas(inputs, coefficients, decode_share=decode / total if total else 1.0)
        return Figures(
            energy_wh=_interval(energy_wh, sigmas.energy()),
            gco2e=_interval(operational + embodied, sigmas.carbon(operational, embodied)),
            ml_water=_interval(water, sigmas.water()),
            accelerator_wh=accelerator_wh,
            gco2e_operational=operational,
            gco2e_embodied=embodied,
        )


def joules(inputs: Inputs, coefficients: Coefficients) -> tuple[float, float]:
    """Return the accelerators' joules for writing the completion and for reading the prompt."""
    constants = coefficients.parametric
    size = inputs.size
    batch = size.batch_size or constants.default_batch
    per_output = (
        math.exp(constants.intercept)
        * size.active_params_b**constants.active_exponent
        * (size.total_params_b * size.bytes_per_param) ** constants.weights_exponent
        * batch**constants.batch_exponent
    )
    flops = 2 * size.active_params_b * 1e9
    per_input = flops / (constants.utilisation * constants.peak_flops) * constants.prefill_watt
    read = max(0, inputs.prompt_tokens - inputs.cached_tokens)
    return inputs.completion_tokens * per_output, read * per_input


class _Sigmas:
    """The spreads of one request's figures; a term that is not in a figure has no part in its sigma."""

    def __init__(self, inputs: Inputs, coefficients: Coefficients, *, decode_share: float) -> None:
        self._inputs = inputs
        self._spread = coefficients.spread
        self._joule = _joule_variance(inputs, coefficients, decode_share)
        self._host = 0.0 if inputs.narrow else self._spread.host**2
        published = inputs.pue_published
        self._pue = (self._spread.pue_published if published else self._spread.pue_assumed) ** 2

    def energy(self) -> float:
        return math.sqrt(self._joule + self._host + (0.0 if self._inputs.narrow else self._pue))

    def carbon(self, operational: float, embodied: float) -> float:
        total = operational + embodied
        share = operational / total if total else 1.0
        pue = 0.0 if self._inputs.narrow else self._pue
        grid = _grid_spread(self._inputs.grid_quality, self._spread) ** 2
        by_grid = share**2 * (self._host + pue + grid)
        return math.sqrt(self._joule + by_grid + (1 - share) ** 2 * self._spread.embodied**2)

    def water(self) -> float:
        inputs = self._inputs
        from_grid = inputs.pue * inputs.ewif_l_per_kwh
        whole = inputs.wue_l_per_kwh + from_grid
        share = from_grid / whole if whole else 1.0
        by_grid = share**2 * (self._pue + self._spread.ewif**2)
        return math.sqrt(self._joule + self._host + by_grid + (1 - share) ** 2 * self._spread.wue**2)


def _joule_variance(inputs: Inputs, coefficients: Coefficients, decode_share: float) -> float:
    spread, size = coefficients.spread, inputs.size
    elasticity = coefficients.parametric.batch_exponent
    model = spread.estimated_usage if inputs.usage_estimated else spread.model
    batch = 0.0 if size.batch_size is not None else elasticity * spread.batch_unknown
    hardware = 0.0 if inputs.hardware_known else spread.hardware_unknown
    idle = 0.0 if inputs.narrow else spread.idle
    decode = decode_share**2 * (model**2 + batch**2)
    prefill = (1 - decode_share) ** 2 * spread.prefill**2
    return decode + prefill + hardware**2 + idle**2 + _size_spread(size, coefficients) ** 2


def _size_spread(size: ModelSize, coefficients: Coefficients) -> float:
    if size.size_range is None:
        return 0.0
    low, high = size.size_range
    exponent = coefficients.parametric.active_exponent + coefficients.parametric.weights_exponent
    return math.log(high / low) / (2 * 1.645) * exponent


def _grid_spread(quality: GridQuality, spread: Spread) -> float:
    return {
        GridQuality.LIVE_WINDOW: spread.grid_live_window,
        GridQuality.FRESH: spread.grid_fresh,
        GridQuality.ANNUAL: spread.grid_annual,
        GridQuality.ANNUAL_UNKNOWN_BASIS: spread.grid_annual_unknown_basis,
    }[quality]


def _interval(value: float, sigma: float) -> Interval:
    told = significant(sigma)  # the bounds rest on the sigma a receipt shows, so that they can be recomputed from it
    factor = math.exp(Z90 * told)
    return Interval(value=value, low=value / factor, high=value * factor, sigma=told)
