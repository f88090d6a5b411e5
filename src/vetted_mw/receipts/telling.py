"""Write figures down as a receipt: every number with the digits it deserves, beside all it was made from. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from vetted_mw.instants import rfc3339
from vetted_mw.receipts.inputs import FITTED_HARDWARE
from vetted_mw.receipts.receipt import Receipt
from vetted_mw.rounding import minutes, significant

if TYPE_CHECKING:
    from vetted_mw.grid.signal import SignalReading
    from vetted_mw.receipts.coefficients import Coefficients
    from vetted_mw.receipts.comparison import Comparison
    from vetted_mw.receipts.figures import Figures, Inputs
    from vetted_mw.receipts.inputs import Tokens
    from vetted_mw.receipts.observation import Observation

__all__ = ["Charge", "Pedigrees", "amounts", "pedigree_score", "pedigrees_of", "told", "told_name", "with_comparison"]

_LONGEST_NAME = 1_024
_PEDIGREES = {"upstream_gpu": "measured_gpu", "upstream_node": "measured_node"}


class Charge(msgspec.Struct, frozen=True, kw_only=True):
    """What one request is charged with, and on what grounds.

    Attributes:
        tokens: as counted.
        reading: the grid figure used.
        inputs: all that the figures were made from.
        figures: the figures.
        energy_source: who says what energy it was.
    """

    tokens: Tokens
    reading: SignalReading
    inputs: Inputs
    figures: Figures
    energy_source: str

    @property
    def tier(self) -> Literal["proxy", "parametric", "telemetry"]:
        """How the figures were made."""
        if self.energy_source in _PEDIGREES:
            return "telemetry"
        return "proxy" if self.tokens.source == "estimated" else "parametric"


def told(seen: Observation, charge: Charge, coefficients: Coefficients, *, issuer: str, software: str) -> Receipt:
    """Return the receipt, without a comparison."""
    signal, inputs, tokens = charge.reading.signal, charge.inputs, charge.tokens
    size = inputs.size
    figures = amounts(charge.figures)
    pedigree = pedigree_score(
        coefficients,
        energy_source=charge.energy_source,
        region=seen.region.code,
        is_live=charge.reading.live_eligible,
        operational=figures["gco2e_operational"],
        embodied=figures["gco2e_embodied"],
    )
    accelerator = charge.figures.accelerator_wh
    return Receipt(
        query_id=seen.query_id,
        tier=charge.tier,
        **figures,
        accelerator_wh=None if accelerator is None else significant(accelerator),
        methodology_version=coefficients.methodology_version,
        methodology_hash=coefficients.methodology_digest.removeprefix("sha-256:")[:16],
        pedigree_score=pedigree,
        route_taken=seen.region.route_taken,
        grid_zone=signal.area,
        grid_intensity_gco2_per_kwh=inputs.grid_gco2_per_kwh,
        grid_intensity_source=signal.source,
        grid_intensity_observed_at=rfc3339(signal.observed_at),
        grid_intensity_requested_at=rfc3339(seen.requested_at),
        grid_intensity_age_minutes=minutes(charge.reading.age_minutes),
        grid_temporal_match=charge.reading.temporal_match.value,
        receipt_version="1",
        region=seen.region.code,
        model=seen.model,
        upstream_model=told_name(seen.upstream_model),
        upstream_response_id=told_name(seen.upstream_response_id),
        prompt_tokens=tokens.prompt,
        cached_tokens=tokens.cached,
        completion_tokens=tokens.completion,
        usage_source=tokens.source,
        completion_status=seen.completion_status,
        calls=seen.calls,
        boundary=seen.boundary.value,
        embodied_g_per_gpu_second=coefficients.embodied_g_per_gpu_second,
        energy_source=charge.energy_source,
        params_active_b=size.active_params_b,
        params_total_b=size.total_params_b,
        bytes_per_param=size.bytes_per_param,
        batch_size=size.batch_size or coefficients.default_batch(charge.energy_source),
        batch_known=size.batch_size is not None,
        params_range_lo_b=None if size.size_range is None else size.size_range[0],
        params_range_hi_b=None if size.size_range is None else size.size_range[1],
        hardware=FITTED_HARDWARE if inputs.hardware_known else "unknown",
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
        coefficients_digest=coefficients.digest_for(charge.energy_source),
        response_digest=seen.response_digest,
        issued_at=rfc3339(seen.issued_at, milliseconds=True),
        issuer=issuer,
        software=software,
        request_id=msgspec.UNSET if seen.request_id is None else seen.request_id,
        default_region=None,  # `with_comparison` adds it, a ledger the rest
        ledger_id=msgspec.UNSET,
        seq=msgspec.UNSET,
    )


def told_name(told: str | None) -> str | None:
    """Return what an upstream calls something; what is no name by its length is not kept for good."""
    return None if told is None or len(told) > _LONGEST_NAME else told


def with_comparison(receipt: Receipt, found: Comparison | None) -> Receipt:
    """Return the receipt with what the same request would have been charged with in the default region."""
    if found is None:
        return receipt
    return msgspec.structs.replace(
        receipt,
        default_region=found.region,
        default_region_grid_gco2_per_kwh=found.grid_gco2_per_kwh,
        default_region_pue=found.pue,
        default_region_gco2e=significant(found.gco2e.value),
    )


def amounts(figures: Figures) -> dict[str, float]:
    """Return the figures by field, rounded; the parts are rounded too, so that they add up to 1e-5."""
    rounded: dict[str, float] = {}
    for name, interval in (("gco2e", figures.gco2e), ("ml_water", figures.ml_water), ("energy_wh", figures.energy_wh)):
        rounded[name] = significant(interval.value)
        rounded[f"{name}_ci90_lo"] = significant(interval.low)
        rounded[f"{name}_ci90_hi"] = significant(interval.high)
    rounded["sigma_gco2e"] = significant(figures.gco2e.sigma)
    rounded["sigma_water"] = significant(figures.ml_water.sigma)
    rounded["sigma_energy"] = significant(figures.energy_wh.sigma)
    rounded["gco2e_operational"] = significant(figures.gco2e_operational)
    rounded["gco2e_embodied"] = significant(figures.gco2e_embodied)
    return rounded


def pedigree_score(
    coefficients: Coefficients,
    *,
    energy_source: str,
    region: str,
    is_live: bool,
    operational: float,
    embodied: float,
) -> float:
    """Return the impact-share-weighted mean of the pedigrees behind gco2e: 1 best, 5 worst.

    Args:
        coefficients: hold the scores.
        energy_source: as the receipt tells it.
        region: code.
        is_live: whether the grid figure is a live one.
        operational: g CO2e, as the receipt tells it, so that the score can be recomputed.
        embodied: the same.
    """
    found = pedigrees_of(coefficients, energy_source=energy_source, region=region, is_live=is_live)
    return round(found.mean(operational, embodied), 1)


class Pedigrees(NamedTuple):
    """The mean pedigrees behind the two parts of gco2e: `by_use` the operational one, `by_making` the embodied one."""

    by_use: float
    by_making: float

    def mean(self, operational: float, embodied: float) -> float:
        """Return their mean weighted by the parts' shares, in g CO2e each."""
        total = operational + embodied
        share = operational / total if total else 1.0
        return share * self.by_use + (1 - share) * self.by_making


def pedigrees_of(coefficients: Coefficients, *, energy_source: str, region: str, is_live: bool) -> Pedigrees:
    """Return the pedigrees that `pedigree_score` weighs; its arguments."""
    energy = _mean(coefficients.pedigree(_PEDIGREES.get(energy_source, energy_source)))
    site = _mean(coefficients.site(region).pedigree)
    grid = _mean(coefficients.pedigree("grid_live" if is_live else "grid_annual"))
    by_making = (energy + _mean(coefficients.pedigree("embodied"))) / 2
    return Pedigrees((energy + site + grid) / 3, by_making)


def _mean(scores: tuple[int, ...]) -> float:
    return sum(scores) / len(scores)
