"""The default energy model: fitted on measured H100 inference, counts prompt tokens, brings its interval. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from vetted_mw.receipts.charging import Work, charged, embodied_g

if TYPE_CHECKING:
    from vetted_mw.receipts.coefficients import Coefficients
    from vetted_mw.receipts.figures import Figures, Inputs
    from vetted_mw.receipts.models import ModelSize

__all__ = ["ParametricModel", "batch_and_hardware", "joules"]


class ParametricModel:
    """The default model, fitted on measured H100 inference; counts prompt tokens, gives an interval."""

    name = "parametric"

    def figures(self, inputs: Inputs, coefficients: Coefficients) -> Figures:
        """Return the figures of `inputs`."""
        decode, prefill = joules(inputs, coefficients)
        total = decode + prefill
        accelerator_wh = total / 3600
        constants, spread = coefficients.parametric, coefficients.spread
        ratio = 1.0 if inputs.narrow else constants.host_ratio * constants.idle_ratio
        work = Work(
            it_wh=accelerator_wh * ratio,
            accelerator_wh=accelerator_wh,
            embodied_g=0.0 if inputs.narrow else embodied_g(total, coefficients),
            variance=_variance(inputs, coefficients, decode_share=decode / total if total else 1.0),
            host_variance=0.0 if inputs.narrow else spread.host**2,
        )
        return charged(work, inputs, coefficients)


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


def batch_and_hardware(inputs: Inputs, coefficients: Coefficients) -> tuple[float, float]:
    """Return the variances of ln Wh that an unknown batch and unknown hardware bring in; 0 for what is known."""
    spread = coefficients.spread
    batch = 0.0 if inputs.size.batch_size is not None else coefficients.parametric.batch_exponent * spread.batch_unknown
    return batch**2, 0.0 if inputs.hardware_known else spread.hardware_unknown**2


def _variance(inputs: Inputs, coefficients: Coefficients, *, decode_share: float) -> float:
    spread = coefficients.spread
    batch, hardware = batch_and_hardware(inputs, coefficients)
    model = spread.estimated_usage if inputs.usage_estimated else spread.model
    idle = 0.0 if inputs.narrow else spread.idle
    decode = decode_share**2 * (model**2 + batch)
    prefill = (1 - decode_share) ** 2 * spread.prefill**2
    return decode + prefill + hardware + idle**2 + _size_spread(inputs.size, coefficients) ** 2


def _size_spread(size: ModelSize, coefficients: Coefficients) -> float:
    if size.size_range is None:
        return 0.0
    low, high = size.size_range
    exponent = coefficients.parametric.active_exponent + coefficients.parametric.weights_exponent
    return math.log(high / low) / (2 * 1.645) * exponent
