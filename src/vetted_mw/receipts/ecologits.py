"""The optional engine: figures by EcoLogits' own method, at our site and on our grid; imported when asked for."""

from __future__ import annotations

import math
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import msgspec

from vetted_mw.errors import ConfigurationError
from vetted_mw.receipts.charging import Work, charged
from vetted_mw.receipts.coefficients import load_coefficients
from vetted_mw.receipts.parametric import batch_and_hardware

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vetted_mw.receipts.coefficients import Coefficients
    from vetted_mw.receipts.figures import Figures, Inputs
    from vetted_mw.receipts.models import ModelSize

__all__ = ["EcoLogitsModel", "ecologits_variance", "load_ecologits"]

_NAME = "ecologits"
_REMEDY = "Install the extra ecologits (pip install '.[ecologits]' in the clone), or set receipts.engine to parametric."


class EcoLogitsModel:
    """Figures by EcoLogits. It counts no prompt tokens and has no interval: ours takes its error on measured rows.

    Args:
        impacts: `ecologits.impacts.llm.compute_llm_impacts_dag`: what `compute_llm_impacts` calls, and what tells the
            accelerators' part as well.
    """

    name = _NAME

    def __init__(self, impacts: Callable[..., Mapping[str, Any]]) -> None:
        self._impacts = impacts

    def figures(self, inputs: Inputs, coefficients: Coefficients) -> Figures:
        """Return the figures of `inputs`."""
        accelerator_wh, it_wh, embodied = self._used(inputs.size, inputs.completion_tokens, coefficients)
        size_variance = self._size_spread(inputs.size, coefficients) ** 2
        work = Work(
            it_wh=accelerator_wh if inputs.narrow else it_wh,
            accelerator_wh=accelerator_wh,
            embodied_g=0.0 if inputs.narrow else embodied,
            variance=ecologits_variance(inputs, coefficients) + size_variance,
            host_variance=0.0 if inputs.narrow else coefficients.spread.host**2,
        )
        return charged(work, inputs, coefficients)

    def _used(self, size: ModelSize, tokens: int, coefficients: Coefficients) -> tuple[float, float, float]:
        """Return Wh of the accelerators, Wh of the server, and embodied g CO2e."""
        told = self._impacts(
            model_active_parameter_count=size.active_params_b,
            model_total_parameter_count=size.total_params_b,
            model_quantization_bits=size.bytes_per_param * 8,
            output_token_count=tokens,
            request_latency=math.inf,
            batch_size=size.batch_size or coefficients.default_batch(_NAME),
            if_electricity_mix_adpe=0.0,
            if_electricity_mix_pe=0.0,
            if_electricity_mix_gwp=0.0,
            if_electricity_mix_wue=0.0,
            datacenter_pue=1.0,
            datacenter_wue=0.0,
        )
        accelerator = told["gpu_required_count"] * told["gpu_energy"]
        return accelerator * 1000, told["request_it_energy"] * 1000, told["request_embodied_gwp"] * 1000

    def _size_spread(self, size: ModelSize, coefficients: Coefficients) -> float:
        """Return the spread of a size within a range: the farther end lies at the interval's bound."""
        if size.size_range is None:
            return 0.0
        low, high = (
            self._used(msgspec.structs.replace(size, active_params_b=end, total_params_b=end), 1, coefficients)[1]
            for end in size.size_range
        )
        middle = self._used(size, 1, coefficients)[1]
        return max(math.log(high / middle), math.log(middle / low)) / 1.645


def ecologits_variance(inputs: Inputs, coefficients: Coefficients) -> float:
    """Return the variance of ln Wh without the host's and an unknown size's; idle capacity is not in the figure."""
    spread = coefficients.spread
    model = max(spread.ecologits, spread.estimated_usage) if inputs.usage_estimated else spread.ecologits
    batch, hardware = batch_and_hardware(inputs, coefficients)
    return model**2 + batch + hardware


def load_ecologits() -> EcoLogitsModel:
    """Import the package, which takes about 0.4 s, and return the engine.

    Raises:
        ConfigurationError: it is not installed, or in another version than the one receipts name.
    """
    wanted = load_coefficients().engines[_NAME].package
    try:
        found = f"{_NAME}=={version(_NAME)}"
    except PackageNotFoundError:
        raise _refused(f"the engine needs {wanted}, which is not installed.") from None
    if found != wanted:
        raise _refused(f"the engine needs {wanted}, and {found} is installed.")
    try:
        return EcoLogitsModel(import_module("ecologits.impacts.llm").compute_llm_impacts_dag)
    except ImportError:
        raise _refused(f"{wanted} cannot be imported.") from None


def _refused(message: str) -> ConfigurationError:
    return ConfigurationError(message, field="receipts.engine", remedy=_REMEDY)
