"""Make the receipt of one request from what was observed of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from vetted_mw.instants import rfc3339
from vetted_mw.receipts.coefficients import Coefficients, Site, load_coefficients
from vetted_mw.receipts.figures import EnergyModel, Figures, GridQuality, Inputs, ParametricModel, joules
from vetted_mw.receipts.grid import receipt_reading
from vetted_mw.receipts.models import ModelSize, size_for, unknown_size
from vetted_mw.receipts.observation import Observation, estimated_tokens
from vetted_mw.receipts.receipt import Receipt, ReceiptError, ReceiptWithheldError
from vetted_mw.rounding import minutes, significant
from vetted_mw.routing.options import Boundary, Tier

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vetted_mw.grid.signal import SignalReading
    from vetted_mw.routing.regions import Region

__all__ = ["ReceiptMaker"]

_FITTED_HARDWARE = "H100"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tokens:
    prompt: int
    cached: int
    completion: int
    source: Literal["upstream", "estimated", "reported"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptMaker:
    """Makes receipts; frozen, shared by every request.

    Attributes:
        issuer: who stands behind them.
        software: `vetted-mw/x.y.z`.
        sizes: the operator's model sizes by requested name.
        unknown_model: `widen` the interval, or `null` for no receipt.
        missing_usage: `estimate` the tokens, or `null` for no receipt.
        engine: makes the figures.
        coefficients: the defaults they rest on.
    """

    issuer: str
    software: str
    sizes: Mapping[str, ModelSize]
    unknown_model: Literal["widen", "null"] = "widen"
    missing_usage: Literal["estimate", "null"] = "estimate"
    engine: EnergyModel = field(default_factory=ParametricModel)
    coefficients: Coefficients = field(default_factory=load_coefficients)

    def promises(self, *, model: str, tier: Tier) -> bool:
        """Whether every complete answer of `model` gets a receipt: a stream's headers go out before it is made."""
        is_known = self.unknown_model != "null" or size_for(model, self.sizes) is not None
        return tier is not Tier.TELEMETRY and self.missing_usage != "null" and is_known

    def make(self, observation: Observation) -> Receipt:
        """Make the receipt of one observation.

        Raises:
            ReceiptWithheldError: the settings want none here, or the engine failed.
        """
        if observation.tier is Tier.TELEMETRY:
            raise ReceiptWithheldError(ReceiptError.TIER_UNAVAILABLE)
        size = self._size(observation.model)
        tokens = self._tokens(observation)
        region = observation.region
        reading = receipt_reading(region, observation.reading, observation.requested_at, self.coefficients)
        inputs = self._inputs(observation, size, tokens, reading)
        try:
            figures = self.engine.figures(inputs, self.coefficients)
            can_be_true = _can_be_true(figures)
        except Exception:  # noqa: BLE001 (a foreign engine may raise or return anything; its text could hold anything)
            raise ReceiptWithheldError(ReceiptError.ENGINE_FAILED) from None
        if not can_be_true:
            raise ReceiptWithheldError(ReceiptError.ENGINE_FAILED)
        return self._receipt(observation, tokens, reading, inputs, figures)

    def attempt_energy_wh(self, model: str, *, prompt_characters: int, region: Region | None = None) -> float | None:
        """Estimate the Wh an abandoned attempt may have used: its prompt, read once; None for an unknown size.

        Args:
            model: the requested name.
            prompt_characters: of the request.
            region: whose site counts; None for an unknown one.
        """
        size = size_for(model, self.sizes)
        if size is None:
            return None
        site = self.coefficients.unknown_site if region is None else self._site(region)
        inputs = Inputs(
            prompt_tokens=estimated_tokens(prompt_characters),
            cached_tokens=0,
            completion_tokens=0,
            size=size,
            hardware_known=False,
            pue=site.pue,
            pue_published=False,
            wue_l_per_kwh=0.0,
            ewif_l_per_kwh=0.0,
            grid_gco2_per_kwh=0.0,
            grid_quality=GridQuality.ANNUAL,
        )
        parametric = self.coefficients.parametric
        return sum(joules(inputs, self.coefficients)) / 3600 * parametric.host_ratio * parametric.idle_ratio * site.pue

    def _size(self, model: str) -> ModelSize:
        size = size_for(model, self.sizes)
        if size is not None:
            return size
        if self.unknown_model == "null":
            raise ReceiptWithheldError(ReceiptError.UNKNOWN_MODEL)
        return unknown_size()

    def _tokens(self, seen: Observation) -> _Tokens:
        prompt = seen.prompt_tokens or estimated_tokens(seen.prompt_characters)
        completion = seen.completion_tokens or estimated_tokens(seen.completion_characters)
        if seen.is_counted:
            cached = min(seen.cached_tokens, prompt)
            source: Literal["reported", "upstream"] = "reported" if seen.reported else "upstream"
            return _Tokens(prompt=prompt, cached=cached, completion=completion, source=source)
        if self.missing_usage == "null":
            raise ReceiptWithheldError(ReceiptError.USAGE_MISSING)
        return _Tokens(prompt=prompt, cached=0, completion=completion, source="estimated")

    def _inputs(self, seen: Observation, size: ModelSize, tokens: _Tokens, reading: SignalReading) -> Inputs:
        region = seen.region
        site = self._site(region)
        ewif = self.coefficients.ewif(region.country) if region.ewif_l_per_kwh is None else region.ewif_l_per_kwh
        return Inputs(
            prompt_tokens=tokens.prompt,
            cached_tokens=tokens.cached,
            completion_tokens=tokens.completion,
            size=_as_told(size),
            hardware_known=region.hardware == _FITTED_HARDWARE,
            pue=significant(site.pue),
            pue_published=site.published,
            wue_l_per_kwh=significant(site.wue_l_per_kwh),
            ewif_l_per_kwh=significant(ewif),
            grid_gco2_per_kwh=significant(reading.signal.gco2_per_kwh),
            grid_quality=_quality(reading),
            narrow=seen.boundary is Boundary.NARROW,
            usage_estimated=tokens.source == "estimated",
        )

    def _site(self, region: Region) -> Site:
        site = self.coefficients.site(region.code)
        if region.pue is None and region.wue_l_per_kwh is None:
            return site
        # The operator's own PUE is taken, but nothing here shows that anyone published it: it counts as assumed.
        return Site(
            pue=site.pue if region.pue is None else region.pue,
            wue_l_per_kwh=site.wue_l_per_kwh if region.wue_l_per_kwh is None else region.wue_l_per_kwh,
            published=site.published and region.pue is None,
            pedigree=site.pedigree,
        )

    def _receipt(
        self, seen: Observation, tokens: _Tokens, reading: SignalReading, inputs: Inputs, figures: Figures
    ) -> Receipt:
        coefficients = self.coefficients
        signal = reading.signal
        return Receipt(
            query_id=seen.query_id,
            tier="proxy" if tokens.source == "estimated" else "parametric",
            **_amounts(figures),
            methodology_version=coefficients.methodology_version,
            methodology_hash=coefficients.methodology_digest.removeprefix("sha-256:")[:16],
            pedigree_score=self._pedigree(seen.region, reading, figures),
            route_taken=seen.region.route_taken,
            grid_zone=signal.area,
            grid_intensity_gco2_per_kwh=inputs.grid_gco2_per_kwh,
            grid_intensity_source=signal.source,
            grid_intensity_observed_at=rfc3339(signal.observed_at),
            grid_intensity_requested_at=rfc3339(seen.requested_at),
            grid_intensity_age_minutes=minutes(reading.age_minutes),
            grid_temporal_match=reading.temporal_match.value,
            receipt_version="1",
            region=seen.region.code,
            model=seen.model,
            upstream_model=seen.upstream_model,
            upstream_response_id=seen.upstream_response_id,
            prompt_tokens=tokens.prompt,
            cached_tokens=tokens.cached,
            completion_tokens=tokens.completion,
            usage_source=tokens.source,
            completion_status=seen.completion_status,
            calls=seen.calls,
            boundary=seen.boundary.value,
            embodied_g_per_gpu_second=coefficients.embodied_g_per_gpu_second,
            energy_source=self.engine.name,
            params_active_b=inputs.size.active_params_b,
            params_total_b=inputs.size.total_params_b,
            bytes_per_param=inputs.size.bytes_per_param,
            batch_size=inputs.size.batch_size or coefficients.parametric.default_batch,
            batch_known=inputs.size.batch_size is not None,
            params_range_lo_b=None if inputs.size.size_range is None else inputs.size.size_range[0],
            params_range_hi_b=None if inputs.size.size_range is None else inputs.size.size_range[1],
            hardware=_FITTED_HARDWARE if inputs.hardware_known else "unknown",
            pue=inputs.pue,
            wue_l_per_kwh=inputs.wue_l_per_kwh,
            ewif_l_per_kwh=inputs.ewif_l_per_kwh,
            pue_quality="published" if inputs.pue_published else "assumed",
            grid_factor_set=signal.method.factor_set,
            grid_proxy_share=None if signal.proxy_share is None else significant(signal.proxy_share),
            grid_intensity_basis=signal.method.basis,
            grid_intensity_accounting=signal.method.accounting,
            grid_resolution_minutes=signal.resolution_minutes,
            water_basis=coefficients.water_basis,
            interval_method="lognormal_delta_v1",
            methodology_digest=coefficients.methodology_digest,
            coefficients_digest=coefficients.digest,
            issued_at=rfc3339(seen.issued_at, milliseconds=True),
            issuer=self.issuer,
            software=self.software,
        )

    def _pedigree(self, region: Region, reading: SignalReading, figures: Figures) -> float:
        """Return the impact-share-weighted mean of the pedigrees behind gco2e: 1 best, 5 worst."""
        scores = self.coefficients.pedigrees
        grid = scores["grid_live" if reading.live_eligible else "grid_annual"]
        site = self.coefficients.site(region.code).pedigree
        operational = (_mean(scores["parametric"]) + _mean(site) + _mean(grid)) / 3
        embodied = (_mean(scores["parametric"]) + _mean(scores["embodied"])) / 2
        total = figures.gco2e.value
        share = figures.gco2e_operational / total if total else 1.0
        return round(share * operational + (1 - share) * embodied, 1)


def _amounts(figures: Figures) -> dict[str, float]:
    """Return the figures by field, rounded; the parts are rounded too, so that they add up to 1e-5."""
    told: dict[str, float] = {}
    for name, interval in (("gco2e", figures.gco2e), ("ml_water", figures.ml_water), ("energy_wh", figures.energy_wh)):
        told[name] = significant(interval.value)
        told[f"{name}_ci90_lo"] = significant(interval.low)
        told[f"{name}_ci90_hi"] = significant(interval.high)
    told["sigma_gco2e"] = significant(figures.gco2e.sigma)
    told["sigma_water"] = significant(figures.ml_water.sigma)
    told["sigma_energy"] = significant(figures.energy_wh.sigma)
    told["accelerator_wh"] = significant(figures.accelerator_wh)
    told["gco2e_operational"] = significant(figures.gco2e_operational)
    told["gco2e_embodied"] = significant(figures.gco2e_embodied)
    return told


def _can_be_true(figures: Figures) -> bool:
    """Whether a foreign engine's figures could be anyone's: finite, not negative, ordered, parts that are the whole."""
    intervals = (figures.energy_wh, figures.gco2e, figures.ml_water)
    parts = (figures.accelerator_wh, figures.gco2e_operational, figures.gco2e_embodied)
    numbers = [*parts, *(number for one in intervals for number in (one.value, one.low, one.high, one.sigma))]
    whole = figures.gco2e_operational + figures.gco2e_embodied
    return (
        all(math.isfinite(number) and number >= 0 for number in numbers)
        and all(one.low <= one.value <= one.high for one in intervals)
        and math.isclose(whole, figures.gco2e.value, rel_tol=1e-9, abs_tol=1e-9)
    )


def _as_told(size: ModelSize) -> ModelSize:
    """Round a size to what the receipt shows of it, so that its figures can be recomputed from that."""
    return replace(
        size,
        active_params_b=significant(size.active_params_b),
        total_params_b=significant(size.total_params_b),
        bytes_per_param=significant(size.bytes_per_param),
        batch_size=None if size.batch_size is None else significant(size.batch_size),
    )


def _quality(reading: SignalReading) -> GridQuality:
    if reading.live_eligible:
        return GridQuality(reading.temporal_match.value)
    return GridQuality.ANNUAL_UNKNOWN_BASIS if reading.signal.method.basis == "unknown" else GridQuality.ANNUAL


def _mean(scores: tuple[int, ...]) -> float:
    return sum(scores) / len(scores)
