"""The default energy model: fitted on measured H100 inference, counts prompt tokens, brings its interval. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from vetted_mw.receipts.charging import Work, charged, embodied_g

if TYPE_CHECKING:
    from vetted_mw.receipts.coefficients import Coefficients
    from vetted_mw.receipts.figures import Figures, Inputs
    from vetted_mw.receipts.models import ModelSize

__all__ = ["ParametricModel", "Rates", "batch_and_hardware", "joules", "rates_of"]


class ParametricModel:
    """The default model, fitted on measured H100 inference; counts prompt tokens, gives an interval."""

    name = "parametric"

    def figures(self, inputs: Inputs, coefficients: Coefficients) -> Figures:
        """Return the figures of `inputs`."""
        rates = rates_of(inputs, coefficients)
        read = max(0, inputs.prompt_tokens - inputs.cached_tokens)
        it_wh, accelerator_wh, embodied, variance = rates.work(inputs.completion_tokens, read)
        work = Work(
            it_wh=it_wh,
            accelerator_wh=accelerator_wh,
            embodied_g=embodied,
            variance=variance,
            host_variance=rates.host_variance,
        )
        return charged(work, inputs, coefficients)


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """All that the model needs to know of a request but its tokens, worked out once.

    Attributes:
        per_output: the accelerators' joules for one token of the completion.
        per_input: the same for one of the prompt.
        ratio: what their energy multiplies by for the whole server and its share of idle capacity.
        embodied_g_per_joule: of making the server.
        decode_variance: of ln joules for writing.
        prefill_variance: of ln joules for reading.
        fixed_variance: of what is the same for both.
        host_variance: of the host's part.
    """

    per_output: float
    per_input: float
    ratio: float
    embodied_g_per_joule: float
    decode_variance: float
    prefill_variance: float
    fixed_variance: float
    host_variance: float

    def work(self, written: int, read: int) -> tuple[float, float, float, float]:
        """Return Wh of the server, Wh of the accelerators, embodied g CO2e, and the variance of ln Wh.

        Args:
            written: tokens of the completion.
            read: tokens of the prompt that were not cached.
        """
        decode = written * self.per_output
        total = decode + read * self.per_input
        share = decode / total if total else 1.0
        rest = 1 - share
        accelerator_wh = total / 3600
        variance = share * share * self.decode_variance + rest * rest * self.prefill_variance + self.fixed_variance
        return accelerator_wh * self.ratio, accelerator_wh, total * self.embodied_g_per_joule, variance


def rates_of(inputs: Inputs, coefficients: Coefficients) -> Rates:
    """Return what the tokens of `inputs` are multiplied by."""
    constants, spread = coefficients.parametric, coefficients.spread
    batch, hardware = batch_and_hardware(inputs, coefficients)
    model = spread.estimated_usage if inputs.usage_estimated else spread.model
    idle = 0.0 if inputs.narrow else spread.idle
    per_output, per_input = _joules_per_token(inputs.size, coefficients)
    return Rates(
        per_output=per_output,
        per_input=per_input,
        ratio=1.0 if inputs.narrow else constants.host_ratio * constants.idle_ratio,
        embodied_g_per_joule=0.0 if inputs.narrow else embodied_g(1.0, coefficients),
        decode_variance=model**2 + batch,
        prefill_variance=spread.prefill**2,
        fixed_variance=hardware + idle**2 + _size_spread(inputs.size, coefficients) ** 2,
        host_variance=0.0 if inputs.narrow else spread.host**2,
    )


def joules(inputs: Inputs, coefficients: Coefficients) -> tuple[float, float]:
    """Return the accelerators' joules for writing the completion and for reading the prompt."""
    per_output, per_input = _joules_per_token(inputs.size, coefficients)
    return inputs.completion_tokens * per_output, max(0, inputs.prompt_tokens - inputs.cached_tokens) * per_input


def _joules_per_token(size: ModelSize, coefficients: Coefficients) -> tuple[float, float]:
    constants = coefficients.parametric
    batch = size.batch_size or constants.default_batch
    per_output = (
        math.exp(constants.intercept)
        * size.active_params_b**constants.active_exponent
        * (size.total_params_b * size.bytes_per_param) ** constants.weights_exponent
        * batch**constants.batch_exponent
    )
    flops = 2 * size.active_params_b * 1e9
    return per_output, flops / (constants.utilisation * constants.peak_flops) * constants.prefill_watt


def batch_and_hardware(inputs: Inputs, coefficients: Coefficients) -> tuple[float, float]:
    """Return the variances of ln Wh that an unknown batch and unknown hardware bring in; 0 for what is known."""
    spread = coefficients.spread
    batch = 0.0 if inputs.size.batch_size is not None else coefficients.parametric.batch_exponent * spread.batch_unknown
    return batch**2, 0.0 if inputs.hardware_known else spread.hardware_unknown**2


def _size_spread(size: ModelSize, coefficients: Coefficients) -> float:
    if size.size_range is None:
        return 0.0
    low, high = size.size_range
    exponent = coefficients.parametric.active_exponent + coefficients.parametric.weights_exponent
    return math.log(high / low) / (2 * 1.645) * exponent
