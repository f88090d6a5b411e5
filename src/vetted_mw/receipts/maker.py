"""Make the receipt of one request from what was observed of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from vetted_mw.chat.counts import TOO_MANY, is_count
from vetted_mw.receipts.coefficients import Coefficients, load_coefficients
from vetted_mw.receipts.comparison import Comparison, compared, elsewhere_of
from vetted_mw.receipts.figures import EnergyModel, Figures, GridQuality, Inputs
from vetted_mw.receipts.grid import receipt_reading
from vetted_mw.receipts.inputs import inputs_of, site_of, tokens_of
from vetted_mw.receipts.kinds import Templates, kind_of
from vetted_mw.receipts.measured import figures_measured, is_believable
from vetted_mw.receipts.models import ModelSize, size_for, unknown_size
from vetted_mw.receipts.observation import Observation, estimated_tokens
from vetted_mw.receipts.parametric import ParametricModel
from vetted_mw.receipts.receipt import Receipt, ReceiptError, ReceiptWithheldError
from vetted_mw.receipts.telling import Charge, told, with_comparison
from vetted_mw.receipts.template import Template
from vetted_mw.receipts.written import Made
from vetted_mw.routing.options import Boundary, Tier

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vetted_mw.configuration import MeasuredEnergy
    from vetted_mw.receipts.inputs import Tokens
    from vetted_mw.receipts.written import Written
    from vetted_mw.routing.regions import Region

__all__ = ["Comparison", "Made", "ReceiptMaker"]

_PARAMETRIC = ParametricModel()
_PARAMETRIC_TIER, _TELEMETRY_TIER = Tier.PARAMETRIC, Tier.TELEMETRY  # a class takes its time to give a member out


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptMaker:
    """Makes receipts; frozen, shared by every request.

    Attributes:
        issuer: who stands behind them.
        software: `vetted-mw/x.y.z`.
        sizes: the operator's model sizes by requested name.
        unknown_model: `widen` the interval, or `null` for no receipt.
        missing_usage: `estimate` the tokens, or `null` for no receipt.
        engine: makes the figures where nothing was measured.
        coefficients: the defaults they rest on.
    """

    issuer: str
    software: str
    sizes: Mapping[str, ModelSize]
    unknown_model: Literal["widen", "null"] = "widen"
    missing_usage: Literal["estimate", "null"] = "estimate"
    engine: EnergyModel = field(default_factory=ParametricModel)
    coefficients: Coefficients = field(default_factory=load_coefficients)
    _templates: Templates = field(init=False, repr=False, compare=False, default_factory=Templates)

    def promises(
        self,
        *,
        model: str,
        tier: Tier,
        boundary: Boundary = Boundary.COMPREHENSIVE,
        measured: MeasuredEnergy | None = None,
    ) -> bool:
        """Whether every complete answer of `model` gets a receipt: a stream's headers go out before it is made.

        Args:
            model: as requested.
            tier: as asked for. Measured energy is known at the end only, so its tier is promised to nobody.
            boundary: as asked for.
            measured: where the upstream tells the energy its answers took; None when it does not.
        """
        is_known = self.unknown_model != "null" or size_for(model, self.sizes) is not None
        may_refuse = _refuses(boundary, tier, None if measured is None else measured.scope)
        return tier is not Tier.TELEMETRY and not may_refuse and self.missing_usage != "null" and is_known

    def make(self, observation: Observation) -> Receipt:
        """Make the receipt of one observation.

        Raises:
            ReceiptWithheldError: the settings want none here, what was asked for cannot be had, or the engine failed.
        """
        return self.made(observation).receipt

    def made(self, observation: Observation) -> Made:
        """Make the receipt of one observation, with the grid figure it used and the comparison it tells.

        Raises:
            ReceiptWithheldError: as `make` does.
        """
        return self._made(observation, self._charge(observation))

    def written(self, observation: Observation) -> Written:
        """Make the receipt of one observation as text; the same as `made` makes, and by a template where there is one.

        Raises:
            ReceiptWithheldError: as `make` does.
        """
        seen, tier = observation, observation.tier
        is_measured = seen.measured is not None and tier is not _PARAMETRIC_TIER
        if is_measured or tier is _TELEMETRY_TIER or type(self.engine) is not ParametricModel:
            return self.made(seen)  # not by the parametric model alone
        size, tokens = self._counted(seen)
        kind = kind_of(seen, size, tokens.source)
        template = None if kind is None else self._templates.get(kind)
        if template is not None and tokens.prompt < TOO_MANY and tokens.completion < TOO_MANY:
            filled = template.fill(seen, tokens)
            if filled is not None:
                return filled
        charge = self._charge(seen)
        made = self._made(seen, charge)
        if kind is not None and template is None:
            self._templates.keep(kind, self._template(seen, charge, made), seen, size)
        return made

    def _template(self, seen: Observation, charge: Charge, made: Made) -> Template:
        receipt, default = made.receipt, seen.default_region
        is_elsewhere = default is not None and default.code != seen.region.code
        return Template(
            receipt,
            charge.inputs,
            charge.reading,
            self.coefficients,
            elsewhere=elsewhere_of(seen, receipt, charge.reading, self.coefficients) if is_elsewhere else None,
        )

    def _made(self, seen: Observation, charge: Charge) -> Made:
        plain = told(seen, charge, self.coefficients, issuer=self.issuer, software=self.software)
        comparison = compared(seen, plain, charge.reading, self.coefficients)
        receipt = with_comparison(plain, comparison)
        return Made(seen=seen, receipt=receipt, reading=charge.reading, comparison=comparison)

    def compared(self, observation: Observation, receipt: Receipt) -> Comparison | None:
        """Return what the same request would have been charged with in the default region; `made` has it at hand."""
        reading = receipt_reading(observation.region, observation.reading, observation.requested_at, self.coefficients)
        return compared(observation, receipt, reading, self.coefficients)

    def attempt_energy_wh(
        self,
        model: str,
        *,
        prompt_characters: int,
        region: Region | None = None,
        boundary: Boundary = Boundary.COMPREHENSIVE,
    ) -> float | None:
        """Estimate the Wh an abandoned attempt may have used: its prompt, read once, as its row in the ledger tells it.

        Args:
            model: the requested name.
            prompt_characters: of the request.
            region: whose site counts; None for an unknown one.
            boundary: as asked for.

        Returns:
            None for an unknown size, or where the engine failed.
        """
        size = size_for(model, self.sizes)
        if size is None:
            return None
        site = self.coefficients.unknown_site if region is None else site_of(region, self.coefficients)
        inputs = Inputs(
            prompt_tokens=estimated_tokens(prompt_characters),
            cached_tokens=0,
            completion_tokens=0,
            size=size,
            hardware_known=False,
            pue=site.pue,
            pue_published=False,
            wue_l_per_kwh=1.0,  # as the rest here: no part of energy
            ewif_l_per_kwh=1.0,
            grid_gco2_per_kwh=1.0,
            grid_quality=GridQuality.ANNUAL,
            narrow=boundary is Boundary.NARROW,
            usage_estimated=True,
        )
        try:
            figures = self.engine.figures(inputs, self.coefficients)
            return figures.energy_wh.value if _can_be_true(figures) else None
        except Exception:  # noqa: BLE001 (as in `_charge`)
            return None

    def _charge(self, seen: Observation) -> Charge:
        size, tokens = self._counted(seen)
        reading = receipt_reading(seen.region, seen.reading, seen.requested_at, self.coefficients)
        try:
            inputs = inputs_of(seen, size, tokens, reading, self.coefficients)
            figures, source = self._figures(seen, inputs)
            can_be_true = _can_be_true(figures) and is_count(tokens.prompt) and is_count(tokens.completion)
            source.encode()  # a name that is no text, or none that could be written
        except ReceiptWithheldError:
            raise
        except Exception:  # noqa: BLE001 (a foreign engine may raise or return anything; its text could hold anything)
            raise ReceiptWithheldError(ReceiptError.ENGINE_FAILED) from None
        if not can_be_true:
            raise ReceiptWithheldError(ReceiptError.ENGINE_FAILED)
        return Charge(tokens=tokens, reading=reading, inputs=inputs, figures=figures, energy_source=source)

    def _figures(self, seen: Observation, inputs: Inputs) -> tuple[Figures, str]:
        """Return the figures and who says what energy it was: measured, if that was told and can be true."""
        measured = None if seen.tier is Tier.PARAMETRIC else seen.measured
        if _refuses(seen.boundary, seen.tier, None if measured is None else measured.scope):
            raise ReceiptWithheldError(ReceiptError.TIER_UNAVAILABLE)
        if measured is not None and is_believable(measured, inputs, self.coefficients):
            return figures_measured(measured, inputs, self.coefficients), f"upstream_{measured.scope}"
        if seen.tier is Tier.TELEMETRY:
            raise ReceiptWithheldError(ReceiptError.TIER_UNAVAILABLE)
        if measured is not None:
            return _PARAMETRIC.figures(inputs, self.coefficients), "parametric_rejected_upstream"
        return self.engine.figures(inputs, self.coefficients), self.engine.name

    def _counted(self, seen: Observation) -> tuple[ModelSize, Tokens]:
        """Return the size of its model and its tokens, as the settings allow them to be taken."""
        size = size_for(seen.model, self.sizes)
        if size is None:
            if self.unknown_model == "null":
                raise ReceiptWithheldError(ReceiptError.UNKNOWN_MODEL)
            size = unknown_size()
        tokens = tokens_of(seen)
        if tokens.source == "estimated" and self.missing_usage == "null":
            raise ReceiptWithheldError(ReceiptError.USAGE_MISSING)
        return size, tokens


def _refuses(boundary: Boundary, tier: Tier, scope: Literal["gpu", "node"] | None) -> bool:
    """Whether accelerators alone are asked for where the whole server is what is measured."""
    return boundary is Boundary.NARROW and tier is not Tier.PARAMETRIC and scope == "node"


def _can_be_true(figures: Figures) -> bool:
    """Whether a foreign engine's figures could be anyone's: finite, not negative, ordered, parts that are the whole."""
    intervals = (figures.energy_wh, figures.gco2e, figures.ml_water)
    accelerator = 0.0 if figures.accelerator_wh is None else figures.accelerator_wh
    parts = (accelerator, figures.gco2e_operational, figures.gco2e_embodied)
    numbers = [*parts, *(number for one in intervals for number in (one.value, one.low, one.high, one.sigma))]
    whole = figures.gco2e_operational + figures.gco2e_embodied
    return (
        all(math.isfinite(number) and number >= 0 for number in numbers)
        and all(one.low <= one.value <= one.high for one in intervals)
        and math.isclose(whole, figures.gco2e.value, rel_tol=1e-9, abs_tol=1e-9)
    )
