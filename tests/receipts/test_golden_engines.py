"""Golden vectors of the narrow boundary, of measured energy and of EcoLogits, worked out apart from the code.

The numbers were computed from the contract's formulas alone, for the inputs of vector C: mistral-medium-3, 24 and 78
tokens, PUE 1.46, WUE 0.014, EWIF 3.6737, grid 58 in the live window, hardware unknown.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from receipts.making import made, maker, observed, reading, region
from vetted_mw.receipts.engines import engine_named
from vetted_mw.receipts.measured import MeasuredReading
from vetted_mw.receipts.models import ModelSize
from vetted_mw.routing.options import Boundary

if TYPE_CHECKING:
    from collections.abc import Mapping

GPU = MeasuredReading(value_wh=0.05, scope="gpu")
NODE = MeasuredReading(value_wh=0.06, scope="node")
VECTORS: Mapping[str, tuple[dict[str, Any], dict[str, float | None]]] = {
    "narrow": (  # accelerators alone: J/3600; vJ without idle; nothing of host, PUE and what is embodied
        {"boundary": Boundary.NARROW},
        {
            "accelerator_wh": 0.0390248,
            "energy_wh": 0.0390248,
            "energy_wh_ci90_lo": 0.0163367,
            "energy_wh_ci90_hi": 0.0932215,
            "gco2e_operational": 0.00226344,
            "gco2e_embodied": 0.0,
            "gco2e": 0.00226344,
            "gco2e_ci90_lo": 0.000934358,
            "gco2e_ci90_hi": 0.00548307,
            "ml_water": 0.20986,
            "ml_water_ci90_lo": 0.0699461,
            "ml_water_ci90_hi": 0.629644,
            "sigma_gco2e": 0.537894,
            "sigma_water": 0.667953,
            "sigma_energy": 0.529382,
        },
    ),
    "gpu": (  # 0.05 Wh of accelerators: times 1.29 * 1.12, then as ever; vJ is idle alone
        {"measured": GPU},
        {
            "accelerator_wh": 0.05,
            "energy_wh": 0.10547,
            "energy_wh_ci90_lo": 0.0716737,
            "energy_wh_ci90_hi": 0.155203,
            "gco2e_operational": 0.00611728,
            "gco2e_embodied": 0.00403846,
            "gco2e": 0.0101557,
            "gco2e_ci90_lo": 0.00656227,
            "gco2e_ci90_hi": 0.015717,
            "ml_water": 0.388478,
            "ml_water_ci90_lo": 0.18001,
            "ml_water_ci90_hi": 0.838372,
            "sigma_gco2e": 0.265489,
            "sigma_water": 0.467643,
            "sigma_energy": 0.234851,
        },
    ),
    "gpu narrow": (  # the measurement itself; only grid and water are uncertain
        {"measured": GPU, "boundary": Boundary.NARROW},
        {
            "accelerator_wh": 0.05,
            "energy_wh": 0.05,
            "energy_wh_ci90_lo": 0.05,
            "energy_wh_ci90_hi": 0.05,
            "gco2e_operational": 0.0029,
            "gco2e_embodied": 0.0,
            "gco2e": 0.0029,
            "gco2e_ci90_lo": 0.0024792,
            "gco2e_ci90_hi": 0.00339223,
            "ml_water": 0.26888,
            "ml_water_ci90_lo": 0.137587,
            "ml_water_ci90_hi": 0.525462,
            "sigma_gco2e": 0.0953102,
            "sigma_water": 0.407327,
            "sigma_energy": 0.0,
        },
    ),
    "node": (  # 0.06 Wh of the server: embodied by J = 0.06 * 3600 / (1.29 * 1.12); PUE alone is uncertain in energy
        {"measured": NODE},
        {
            "accelerator_wh": None,
            "energy_wh": 0.0876,
            "energy_wh_ci90_lo": 0.0808444,
            "energy_wh_ci90_hi": 0.0949201,
            "gco2e_operational": 0.0050808,
            "gco2e_embodied": 0.0033542,
            "gco2e": 0.008435,
            "gco2e_ci90_lo": 0.00633915,
            "gco2e_ci90_hi": 0.0112238,
            "ml_water": 0.322656,
            "ml_water_ci90_lo": 0.165104,
            "ml_water_ci90_hi": 0.630554,
            "sigma_gco2e": 0.173655,
            "sigma_water": 0.407327,
            "sigma_energy": 0.0487902,
        },
    ),
}
# Energy Wh, operational g, embodied g, water mL of EcoLogits 0.11.3 on the inputs of vectors A and C, from the contract.
ECOLOGITS = {
    "A": (
        {
            "region": region("scaleway-par-2", hardware="H100"),
            "model": "llama-3.1-8b",
            "prompt_tokens": 150,
            "completion_tokens": 300,
        },
        (0.025865, 0.001500, 0.002192, 0.09979),
    ),
    "C": ({}, (0.044557, 0.002584, 0.003206, 0.16412)),
}
BANDS = [  # the contract's whole-chain bands on operational carbon
    ({"region": region(hardware="H100")}, None, 0.40, 2.52),
    ({"region": region()}, None, 0.36, 2.76),
    ({"region": region(pue=1.46), "reading": None}, None, 0.31, 3.21),
    ({"region": region(hardware="H100")}, 32.0, 0.50, 2.02),
    ({"measured": GPU}, None, 0.66, 1.52),
    ({"measured": NODE}, None, 0.84, 1.19),
]


@pytest.mark.parametrize("vector", VECTORS)
def test_every_figure_of_a_further_vector_comes_out_to_a_thousandth(vector: str) -> None:
    """Narrow and measured receipts have the figures, bounds and sigmas that the formulas give by hand."""
    facts, expected = VECTORS[vector]
    told = msgspec.to_builtins(made(**facts))
    numbers = {name: value for name, value in expected.items() if value is not None}
    assert {name: told[name] for name in numbers} == pytest.approx(numbers, rel=1e-3)
    assert [name for name in expected if told[name] is None] == [name for name in expected if name not in numbers]


@pytest.mark.parametrize(("facts", "batch", "low", "high"), BANDS)
def test_operational_carbon_has_the_contracts_band(
    facts: dict[str, Any], batch: float | None, low: float, high: float
) -> None:
    """What is known and what is measured narrows the interval of operational carbon to the band the contract names."""
    sizes = {"m": ModelSize(active_params_b=8, total_params_b=8, bytes_per_param=2, batch_size=batch)}
    seen = observed(model="m", prompt_tokens=0, completion_tokens=70, **facts)
    receipt = maker(sizes=sizes).make(seen)
    annual = receipt.grid_temporal_match == "annual_fallback"
    # Operational carbon has no interval of its own in a receipt: it is energy's with the grid's spread.
    sigma = math.hypot(receipt.sigma_energy, math.log(1.40 if annual else 1.10))
    assert (math.exp(-1.6449 * sigma), math.exp(1.6449 * sigma)) == pytest.approx((low, high), abs=0.03)


@pytest.mark.parametrize("vector", ECOLOGITS)
def test_ecologits_gives_the_contracts_figures(vector: str) -> None:
    """The optional engine gives energy, carbon and water of the contract's table, to its last digit."""
    facts, (energy, operational, embodied, water) = ECOLOGITS[vector]
    receipt = maker(engine=engine_named("ecologits")).make(observed(**facts))
    found = (receipt.energy_wh, receipt.gco2e_operational, receipt.gco2e_embodied, receipt.ml_water)
    assert found == pytest.approx((energy, operational, embodied, water), rel=1e-3)
    assert (receipt.energy_source, receipt.tier, receipt.batch_size) == ("ecologits", "parametric", 64)


@pytest.mark.parametrize("vector", ECOLOGITS)
def test_our_charging_of_ecologits_energy_is_its_own(vector: str) -> None:
    """PUE, grid and water are applied by us, and the result is what the package itself makes of our grid figure."""
    from ecologits.impacts.llm import compute_llm_impacts

    facts, _figures = ECOLOGITS[vector]
    receipt = maker(engine=engine_named("ecologits")).make(
        observed(
            **facts,
        )
    )
    theirs: Any = compute_llm_impacts(
        model_active_parameter_count=receipt.params_active_b,
        model_total_parameter_count=receipt.params_total_b,
        model_quantization_bits=receipt.bytes_per_param * 8,
        output_token_count=receipt.completion_tokens,
        if_electricity_mix_adpe=0.0,
        if_electricity_mix_pe=0.0,
        if_electricity_mix_gwp=receipt.grid_intensity_gco2_per_kwh / 1000,
        if_electricity_mix_wue=receipt.ewif_l_per_kwh,
        datacenter_pue=receipt.pue,
        datacenter_wue=receipt.wue_l_per_kwh,
    )
    own = (receipt.energy_wh, receipt.gco2e_operational, receipt.gco2e_embodied, receipt.ml_water)
    its = (theirs.energy, theirs.usage.gwp, theirs.embodied.gwp, theirs.wcf)
    assert own == pytest.approx([one.value * 1000 for one in its], rel=1e-5)


def test_ecologits_does_not_count_the_prompt() -> None:
    """A prompt of any length costs the same there: the receipt's `energy_source` is what tells a reader so."""
    short, long = (maker(engine=engine_named("ecologits")).make(observed(prompt_tokens=n)) for n in (1, 100_000))
    assert (short.energy_wh, short.gco2e, short.sigma_energy) == (long.energy_wh, long.gco2e, long.sigma_energy)


def test_the_interval_of_ecologits_is_the_one_its_error_on_measured_rows_gives() -> None:
    """Its model term is a GSD of 2.03, no idle capacity is in it, and so it is wider than the parametric interval."""
    receipt = maker(engine=engine_named("ecologits")).make(observed())
    batch, host, pue = 0.5278 * math.log(2), math.log(1.15), math.log(1.05)
    expected = math.sqrt(math.log(2.03) ** 2 + batch**2 + math.log(1.29) ** 2 + host**2 + pue**2)
    assert receipt.sigma_energy == pytest.approx(expected, rel=1e-5)
    assert receipt.sigma_energy > made().sigma_energy


def test_ecologits_at_the_narrow_boundary_is_its_gpus_alone() -> None:
    """Narrow, the figure is its GPU energy times its GPUs, without server, PUE and what is embodied."""
    engine = engine_named("ecologits")
    narrow, whole = (maker(engine=engine).make(observed(boundary=boundary)) for boundary in reversed(Boundary))
    assert (narrow.energy_wh, narrow.gco2e_embodied) == (whole.accelerator_wh, 0)
    assert narrow.energy_wh < whole.energy_wh / whole.pue


def test_ecologits_takes_the_operators_batch() -> None:
    """A batch the operator names replaces its own of 64, and takes the batch's term out of the interval."""
    size = ModelSize(active_params_b=128, total_params_b=128, bytes_per_param=1, batch_size=16)
    told = maker(engine=engine_named("ecologits"), sizes={"mistral-medium-3": size}).make(observed())
    plain = maker(engine=engine_named("ecologits")).make(observed())
    assert (told.batch_size, told.batch_known) == (16, True)
    assert told.energy_wh > plain.energy_wh
    assert told.sigma_energy < plain.sigma_energy


def test_ecologits_of_an_unknown_size_spans_what_the_range_would_give() -> None:
    """The energy of both ends of the range lies within the interval of its middle."""
    engine = engine_named("ecologits")
    receipt = maker(engine=engine).make(observed(model="nobody-knows"))
    sizes = {f"{end:g}": ModelSize(active_params_b=end, total_params_b=end, bytes_per_param=2) for end in (1.0, 700.0)}
    ends = [maker(engine=engine, sizes=sizes).make(observed(model=name)).energy_wh for name in sizes]
    assert receipt.energy_wh_ci90_lo < min(ends) < receipt.energy_wh < max(ends) < receipt.energy_wh_ci90_hi


def test_estimated_tokens_widen_no_further_what_is_as_wide_already() -> None:
    """An estimate's own term is as wide as EcoLogits' model term, so that it adds nothing to it."""
    engine = engine_named("ecologits")
    counted = maker(engine=engine).make(observed())
    estimated = maker(engine=engine).make(observed(completion_tokens=None, completion_characters=312))
    assert (estimated.tier, estimated.energy_source) == ("proxy", "ecologits")
    assert (estimated.energy_wh, estimated.sigma_energy) == (counted.energy_wh, counted.sigma_energy)


def test_no_tokens_cost_nothing_with_any_engine() -> None:
    """EcoLogits as well charges nothing for an answer without tokens."""
    receipt = maker(engine=engine_named("ecologits")).make(
        observed(completion_tokens=0, prompt_tokens=0, reading=reading(20.0))
    )
    assert (receipt.energy_wh, receipt.gco2e, receipt.ml_water, receipt.accelerator_wh) == (0, 0, 0, 0)
