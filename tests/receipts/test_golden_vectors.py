"""The contract's golden vectors, put through the receipt maker that serves requests."""

from __future__ import annotations

import math
import random
import statistics
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from receipts.making import made, reading, region

if TYPE_CHECKING:
    from collections.abc import Mapping

# Llama-3.1-8B on known H100 at fr-par-2; mistral-medium-3 on unknown hardware at fr-par-1; a reading of the live window.
INPUTS: Mapping[str, dict[str, Any]] = {
    "A": {
        "region": region("scaleway-par-2", hardware="H100"),
        "model": "meta-llama/Llama-3.1-8B-Instruct",
        "prompt_tokens": 150,
        "completion_tokens": 300,
        "reading": reading(58.0),
    },
    "C": {
        "region": region("scaleway-par-1"),
        "model": "mistral-medium-3",
        "prompt_tokens": 24,
        "completion_tokens": 78,
        "reading": reading(58.0),
    },
}
COEFFICIENTS = {
    "A": {
        "params_active_b": 8.03,
        "params_total_b": 8.03,
        "bytes_per_param": 2,
        "batch_size": 32,
        "pue": 1.16,
        "wue_l_per_kwh": 0.214,
        "ewif_l_per_kwh": 3.6737,
        "grid_intensity_gco2_per_kwh": 58,
        "pue_quality": "published",
        "hardware": "H100",
        "grid_temporal_match": "live_window",
    },
    "C": {
        "params_active_b": 128,
        "params_total_b": 128,
        "bytes_per_param": 1,
        "batch_size": 32,
        "pue": 1.46,
        "wue_l_per_kwh": 0.014,
        "ewif_l_per_kwh": 3.6737,
        "grid_intensity_gco2_per_kwh": 58,
        "pue_quality": "published",
        "hardware": "unknown",
        "grid_temporal_match": "live_window",
    },
}
FIGURES = {
    "A": {
        "accelerator_wh": 0.018684,
        "energy_wh": 0.031314,
        "energy_wh_ci90_lo": 0.013179,
        "energy_wh_ci90_hi": 0.074400,
        "gco2e_operational": 0.0018162,
        "gco2e_embodied": 0.0015091,
        "gco2e": 0.0033253,
        "gco2e_ci90_lo": 0.0013548,
        "gco2e_ci90_hi": 0.0081619,
        "ml_water": 0.12081,
        "ml_water_ci90_lo": 0.041306,
        "ml_water_ci90_hi": 0.35336,
        "sigma_gco2e": 0.54588,
        "sigma_water": 0.65246,
        "sigma_energy": 0.52611,
        "embodied_g_per_gpu_second": 0.0104167,
    },
    "C": {
        "accelerator_wh": 0.039025,
        "energy_wh": 0.082319,
        "energy_wh_ci90_lo": 0.031753,
        "energy_wh_ci90_hi": 0.21341,
        "gco2e_operational": 0.0047745,
        "gco2e_embodied": 0.0031520,
        "gco2e": 0.0079265,
        "gco2e_ci90_lo": 0.0029924,
        "gco2e_ci90_hi": 0.020997,
        "ml_water": 0.30321,
        "ml_water_ci90_lo": 0.094872,
        "ml_water_ci90_hi": 0.96903,
        "sigma_gco2e": 0.59222,
        "sigma_water": 0.70635,
        "sigma_energy": 0.57914,
        "embodied_g_per_gpu_second": 0.0104167,
    },
}
JOULES = {"A": (0.2100, 0.028418, 67.262), "C": (1.6618, 0.45298, 140.49)}  # per output token, per prompt token, whole
VECTORS = pytest.mark.parametrize("vector", ["A", "C"])


@VECTORS
def test_a_golden_vector_rests_on_the_contracts_coefficients(vector: str) -> None:
    """The maker finds the vector's model size, site, grid figure and quality flags by itself."""
    told = msgspec.to_builtins(made(**INPUTS[vector]))
    assert {name: told[name] for name in COEFFICIENTS[vector]} == COEFFICIENTS[vector]


@VECTORS
def test_every_figure_of_a_golden_vector_comes_out_to_a_thousandth(vector: str) -> None:
    """Energy, carbon, water, their parts, their intervals and their sigmas are those of the contract's table."""
    told = msgspec.to_builtins(made(**INPUTS[vector]))
    assert {name: told[name] for name in FIGURES[vector]} == pytest.approx(FIGURES[vector], rel=1e-3)


@VECTORS
def test_a_token_costs_what_the_contract_says(vector: str) -> None:
    """One written token, one read token and the whole request take the table's joules on the accelerators."""
    written = made(**INPUTS[vector] | {"prompt_tokens": 0, "completion_tokens": 1})
    read = made(**INPUTS[vector] | {"prompt_tokens": 1, "completion_tokens": 0})
    whole = made(**INPUTS[vector])
    joules = [(receipt.accelerator_wh or 0.0) * 3600 for receipt in (written, read, whole)]
    assert joules == pytest.approx(JOULES[vector], rel=1e-3)


@VECTORS
def test_sampling_every_term_gives_the_same_medians_and_bounds(vector: str) -> None:
    """Against random draws of each term the analytic medians and bounds are within a tenth (the contract's limit)."""
    receipt = made(**INPUTS[vector])
    draws = _draws(vector, 20_000)
    for name in ("energy_wh", "gco2e", "ml_water"):
        cuts = statistics.quantiles([draw[name] for draw in draws], n=20)
        told = [getattr(receipt, f"{name}_ci90_lo"), getattr(receipt, name), getattr(receipt, f"{name}_ci90_hi")]
        assert told == pytest.approx([cuts[0], cuts[9], cuts[18]], rel=0.1)


def _draws(vector: str, count: int) -> list[dict[str, float]]:
    """Sample the whole chain, each term log-normal with the contract's geometric standard deviation."""
    chance = random.Random(20261122)  # noqa: S311 (a fixed sequence is the point)

    def times(gsd: float) -> float:
        return math.exp(chance.gauss(0.0, math.log(gsd)))

    inputs, site = INPUTS[vector], COEFFICIENTS[vector]
    per_output, per_input, _whole = JOULES[vector]
    pue, wue, ewif, grid = (
        float(str(site[name])) for name in ("pue", "wue_l_per_kwh", "ewif_l_per_kwh", "grid_intensity_gco2_per_kwh")
    )
    found = []
    for _ in range(count):
        shared = times(1.20) * (1.0 if site["hardware"] == "H100" else times(1.29))
        decode = inputs["completion_tokens"] * per_output * times(1.41) * times(2.0) ** 0.5278
        joule = shared * (decode + inputs["prompt_tokens"] * per_input * times(1.5))
        it = joule / 3600 * 1.29 * 1.12 * times(1.15)
        drawn_pue = pue * times(1.05)
        energy = it * drawn_pue
        embodied = joule / 520 * 1.12 * 0.0104167 * times(1.5)
        found.append(
            {
                "energy_wh": energy,
                "gco2e": energy / 1000 * grid * times(1.10) + embodied,
                "ml_water": it * (wue * times(1.2) + drawn_pue * ewif * times(1.5)),
            }
        )
    return found
