"""What an energy model is given and gives back: values and the Protocol. The method is in `methodology.toml`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from vetted_mw.receipts.coefficients import Coefficients
    from vetted_mw.receipts.models import ModelSize

__all__ = ["EnergyModel", "Figures", "GridQuality", "Inputs", "Interval"]


class GridQuality(StrEnum):
    """How well the grid figure is known."""

    LIVE_WINDOW = "live_window"
    FRESH = "fresh"
    ANNUAL = "annual"
    ANNUAL_UNKNOWN_BASIS = "annual_unknown_basis"


class Inputs(msgspec.Struct, frozen=True, kw_only=True):
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


class Interval(msgspec.Struct, frozen=True, kw_only=True):
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
        accelerator_wh: Wh of the accelerators alone; None where only the whole server was measured.
        gco2e_operational: g.
        gco2e_embodied: g.
    """

    energy_wh: Interval
    gco2e: Interval
    ml_water: Interval
    accelerator_wh: float | None
    gco2e_operational: float
    gco2e_embodied: float


class EnergyModel(Protocol):
    """Makes the figures of one request.

    Called once per receipt from the event loop: it may not wait or block for more than a millisecond. It may raise
    anything; the answer then goes out without a receipt. `name` becomes the receipt's `energy_source`. Its energy has
    to be proportional to PUE: what the request would cost at another site is computed from that.
    """

    @property
    def name(self) -> str:
        """The word for `energy_source`."""
        ...

    def figures(self, inputs: Inputs, coefficients: Coefficients) -> Figures:
        """Return the figures of `inputs`."""
        ...
