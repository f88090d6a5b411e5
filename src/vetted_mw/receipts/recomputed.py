"""Every figure of a receipt again, from the receipt's own fields and the coefficients its digests name. Pure."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any

from vetted_mw.errors import ConfigurationError
from vetted_mw.receipts.charging import Z90, Work, charged
from vetted_mw.receipts.coefficients import load_coefficients
from vetted_mw.receipts.ecologits import ecologits_variance
from vetted_mw.receipts.engines import engine_named
from vetted_mw.receipts.figures import GridQuality, Inputs
from vetted_mw.receipts.inputs import FITTED_HARDWARE
from vetted_mw.receipts.measured import MeasuredReading, figures_measured
from vetted_mw.receipts.models import ModelSize
from vetted_mw.receipts.parametric import ParametricModel
from vetted_mw.receipts.telling import amounts, pedigree_score
from vetted_mw.rounding import significant
from vetted_mw.routing.options import Boundary

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vetted_mw.receipts.coefficients import Coefficients
    from vetted_mw.receipts.figures import EnergyModel, Figures

__all__ = ["NotRecomputableError", "recompute"]

_LIVE = ("live_window", "fresh")
_INTERVALS = {"gco2e": "sigma_gco2e", "ml_water": "sigma_water", "energy_wh": "sigma_energy"}
_PARAMETRIC = ("parametric", "parametric_rejected_upstream")


class NotRecomputableError(ValueError):
    """A receipt whose figures cannot be made again: a field is missing or of no use. Content-free."""


def recompute(receipt: Mapping[str, Any], coefficients: Coefficients) -> dict[str, float]:
    """Return the figures of a receipt as its own fields give them, by field; each holds to 1e-5 relative.

    Args:
        receipt: as JSON has it, its types not looked at.
        coefficients: those its `coefficients_digest` names.

    Returns:
        What can be made again. Energy that was measured, or that an engine gave whose package is not installed, is
        taken from the receipt as it stands; sigmas are left out where the fields do not tell what they are made of.

    Raises:
        NotRecomputableError: what is needed is missing or no number.
    """
    try:
        found = _recomputed(receipt, coefficients)
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError):
        raise NotRecomputableError from None
    if not all(math.isfinite(value) for value in found.values()):
        raise NotRecomputableError
    return found


def _recomputed(receipt: Mapping[str, Any], coefficients: Coefficients) -> dict[str, float]:
    source = receipt["energy_source"]
    inputs = _inputs(receipt)
    figures, has_sigmas = _figures(receipt, source, inputs, coefficients)
    found = dict(amounts(figures))
    if figures.accelerator_wh is not None:
        found["accelerator_wh"] = significant(figures.accelerator_wh)
    for name, sigma in _INTERVALS.items():
        told = _number(receipt, sigma)
        found[f"{name}_ci90_lo"] = found[name] / math.exp(Z90 * told)
        found[f"{name}_ci90_hi"] = found[name] * math.exp(Z90 * told)
        if not has_sigmas:
            del found[sigma]
    if inputs.size.batch_size is None:
        found["batch_size"] = coefficients.default_batch(source)
    found["embodied_g_per_gpu_second"] = coefficients.embodied_g_per_gpu_second
    found["pedigree_score"] = pedigree_score(
        coefficients,
        energy_source=source,
        region=receipt["region"],
        is_live=receipt["grid_temporal_match"] in _LIVE,
        operational=_number(receipt, "gco2e_operational"),
        embodied=_number(receipt, "gco2e_embodied"),
    )
    return found | _in_default_region(receipt, inputs)


def _figures(
    receipt: Mapping[str, Any], source: str, inputs: Inputs, coefficients: Coefficients
) -> tuple[Figures, bool]:
    """Return the figures by what made them, and whether their sigmas can be made again too."""
    # Receipts of the first version did not tell what their spread was made of.
    is_whole = "batch_known" in receipt
    if source in _PARAMETRIC:
        return ParametricModel().figures(inputs, coefficients), is_whole
    if source == "upstream_gpu":
        gpu = MeasuredReading(value_wh=_number(receipt, "accelerator_wh"), scope="gpu")
        return figures_measured(gpu, inputs, coefficients), is_whole
    if source == "upstream_node":
        node = MeasuredReading(value_wh=_number(receipt, "energy_wh") / inputs.pue, scope="node")
        return figures_measured(node, inputs, coefficients), is_whole
    engine = _engine(source, coefficients)
    if engine is not None:
        return engine.figures(inputs, coefficients), is_whole
    is_ecologits = source in coefficients.engines
    work = Work(
        it_wh=_it_wh(receipt, inputs),
        accelerator_wh=None,
        embodied_g=_number(receipt, "gco2e_embodied"),
        variance=ecologits_variance(inputs, coefficients) if is_ecologits else 0.0,
        host_variance=0.0 if inputs.narrow else coefficients.spread.host**2,
    )
    return charged(work, inputs, coefficients), is_whole and is_ecologits and inputs.size.size_range is None


def _engine(source: str, coefficients: Coefficients) -> EnergyModel | None:
    """Return an engine of another package, where it is installed in the version that made the receipt."""
    wanted, ours = coefficients.engines.get(source), load_coefficients().engines.get(source)
    if wanted is None or ours is None or wanted.package != ours.package:
        return None
    return _installed(source)


@cache
def _installed(name: str) -> EnergyModel | None:
    try:
        return engine_named(name)
    except ConfigurationError:
        return None


def _in_default_region(receipt: Mapping[str, Any], inputs: Inputs) -> dict[str, float]:
    if receipt.get("default_region") is None:
        return {}
    pue, grid = (_number(receipt, f"default_region_{name}") for name in ("pue", "grid_gco2_per_kwh"))
    there = _it_wh(receipt, inputs) * (1.0 if inputs.narrow else pue) / 1000 * grid
    found = {"default_region_gco2e": there + _number(receipt, "gco2e_embodied")}
    if receipt["default_region"] == receipt["region"]:
        found |= {"default_region_pue": inputs.pue, "default_region_grid_gco2_per_kwh": inputs.grid_gco2_per_kwh}
    return found


def _it_wh(receipt: Mapping[str, Any], inputs: Inputs) -> float:
    return _number(receipt, "energy_wh") / (1.0 if inputs.narrow else inputs.pue)


def _inputs(receipt: Mapping[str, Any]) -> Inputs:
    return Inputs(
        prompt_tokens=_count(receipt, "prompt_tokens"),
        cached_tokens=_count(receipt, "cached_tokens"),
        completion_tokens=_count(receipt, "completion_tokens"),
        size=_size(receipt),
        hardware_known=receipt["hardware"] == FITTED_HARDWARE,
        pue=_number(receipt, "pue"),
        pue_published=receipt["pue_quality"] == "published",
        wue_l_per_kwh=_number(receipt, "wue_l_per_kwh"),
        ewif_l_per_kwh=_number(receipt, "ewif_l_per_kwh"),
        grid_gco2_per_kwh=_number(receipt, "grid_intensity_gco2_per_kwh"),
        grid_quality=_quality(receipt["grid_temporal_match"], receipt["grid_intensity_basis"]),
        narrow=Boundary(receipt["boundary"]) is Boundary.NARROW,
        usage_estimated=receipt["usage_source"] == "estimated",
    )


def _quality(match: str, basis: str) -> GridQuality:
    if match == "annual_fallback":
        return GridQuality.ANNUAL_UNKNOWN_BASIS if basis == "unknown" else GridQuality.ANNUAL
    if match not in _LIVE:
        raise NotRecomputableError
    return GridQuality(match)


def _size(receipt: Mapping[str, Any]) -> ModelSize:
    has_range = receipt.get("params_range_lo_b") is not None
    batch = _number(receipt, "batch_size")
    return ModelSize(
        active_params_b=_number(receipt, "params_active_b"),
        total_params_b=_number(receipt, "params_total_b"),
        bytes_per_param=_number(receipt, "bytes_per_param"),
        batch_size=batch if receipt.get("batch_known", True) is True else None,
        size_range=(_number(receipt, "params_range_lo_b"), _number(receipt, "params_range_hi_b"))
        if has_range
        else None,
    )


def _number(receipt: Mapping[str, Any], name: str) -> float:
    value = receipt[name]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise NotRecomputableError
    return float(value)


def _count(receipt: Mapping[str, Any], name: str) -> int:
    value = receipt[name]
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise NotRecomputableError
    return value
