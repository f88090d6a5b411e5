"""Every figure again from a receipt's own fields: what an auditor's verification rests on."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receipts.making import made, maker, observed, reading, recomputed, region
from vetted_mw.errors import ConfigurationError
from vetted_mw.receipts import recomputed as module
from vetted_mw.receipts.coefficients import coefficients_for, load_coefficients
from vetted_mw.receipts.engines import engine_named
from vetted_mw.receipts.measured import MeasuredReading
from vetted_mw.receipts.models import ModelSize
from vetted_mw.receipts.recomputed import NotRecomputableError, recompute
from vetted_mw.routing.options import Boundary

ECOLOGITS = engine_named("ecologits")
THERE, AT_THERE = region("atnorth-sto-1"), reading(21.0)
SIZES = {"house": ModelSize(active_params_b=7.123456789, total_params_b=70.1234567, bytes_per_param=0.5, batch_size=9)}
FIGURES = {
    *("gco2e", "gco2e_ci90_lo", "gco2e_ci90_hi", "gco2e_operational", "gco2e_embodied", "sigma_gco2e"),
    *("energy_wh", "energy_wh_ci90_lo", "energy_wh_ci90_hi", "sigma_energy"),
    *("ml_water", "ml_water_ci90_lo", "ml_water_ci90_hi", "sigma_water"),
    *("embodied_g_per_gpu_second", "pedigree_score"),
}
KINDS: dict[str, dict[str, Any]] = {
    "live": {},
    "fresh": {"reading": reading(21.3, age_minutes=100.0)},
    "annual": {"reading": None},
    "annual of a basis": {"reading": None, "region": region(annual_basis="lifecycle", shipped=False)},
    "narrow": {"boundary": Boundary.NARROW},
    "cached": {"prompt_tokens": 5_000, "cached_tokens": 4_096},
    "unknown model": {"model": "nobody-knows"},
    "estimated": {"prompt_tokens": None, "prompt_characters": 91},
    "own figures": {"model": "house", "region": region(pue=1.234567891, wue_l_per_kwh=0.123456789)},
    "known hardware": {"region": region(hardware="H100")},
    "no tokens": {"prompt_tokens": 0, "completion_tokens": 0},
    "gpu": {"measured": MeasuredReading(value_wh=0.0512345678, scope="gpu")},
    "gpu narrow": {"measured": MeasuredReading(value_wh=0.0512345678, scope="gpu"), "boundary": Boundary.NARROW},
    "node": {"measured": MeasuredReading(value_wh=0.0612345678, scope="node")},
    "rejected": {"measured": MeasuredReading(value_wh=-1.0, scope="node")},
    "compared": {"default_region": THERE, "default_reading": AT_THERE},
    "compared narrow": {"default_region": THERE, "default_reading": AT_THERE, "boundary": Boundary.NARROW},
    "at the default": {"default_region": region()},
}


def _told(kind: str, engine: Any = None) -> dict[str, Any]:
    facts = {"engine": engine} if engine is not None else {}
    told: dict[str, Any] = msgspec.to_builtins(maker(sizes=SIZES, **facts).make(observed(**KINDS[kind])))
    return told


def _found(told: dict[str, Any]) -> dict[str, float]:
    coefficients = coefficients_for(told["coefficients_digest"])
    assert coefficients is not None
    return recompute(told, coefficients)


@pytest.mark.parametrize("engine", [None, ECOLOGITS], ids=["parametric", "ecologits"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_figure_of_a_receipt_is_found_again(kind: str, engine: Any) -> None:
    """Energy, carbon, water, their parts, bounds, sigmas, score and comparison come out to 1e-5 from the fields."""
    told = _told(kind, engine)
    found = _found(told)
    expected = set(FIGURES)
    expected |= set() if told["accelerator_wh"] is None else {"accelerator_wh"}
    expected |= set() if told["batch_known"] else {"batch_size"}
    expected |= set() if told["default_region"] is None else {"default_region_gco2e"}
    if told["default_region"] == told["region"]:
        expected |= {"default_region_pue", "default_region_grid_gco2_per_kwh"}
    assert set(found) == expected
    assert found == pytest.approx({name: told[name] for name in found}, rel=1e-5, abs=0.0)


@pytest.mark.parametrize("kind", ["live", "annual", "narrow", "cached", "unknown model", "own figures"])
def test_it_agrees_with_the_contracts_formulas_written_out(kind: str) -> None:
    """The figures are those of an implementation of the formulas that shares no line with the gateway's."""
    told = _told(kind)
    plain, found = recomputed(told), _found(told)
    assert {name: found[name] for name in plain} == pytest.approx(plain, rel=1e-5)


ENTERING = [  # every field that enters a figure
    *("prompt_tokens", "completion_tokens", "params_active_b", "params_total_b", "bytes_per_param", "batch_size"),
    *("pue", "wue_l_per_kwh", "ewif_l_per_kwh", "grid_intensity_gco2_per_kwh", "embodied_g_per_gpu_second"),
    *("energy_wh", "gco2e", "gco2e_operational", "gco2e_embodied", "ml_water", "accelerator_wh"),
    *("sigma_gco2e", "sigma_water", "sigma_energy", "pedigree_score"),
    *(f"{name}_ci90_{end}" for name in ("energy_wh", "gco2e", "ml_water") for end in ("lo", "hi")),
    *("default_region_gco2e", "default_region_pue", "default_region_grid_gco2_per_kwh"),
]


@pytest.mark.parametrize("name", ENTERING)
def test_a_figure_that_was_changed_is_found(name: str) -> None:
    """Any field that is a figure or enters one, made a tenth larger, no longer agrees with the others."""
    told = _told("compared")
    told[name] = told[name] * 1.1 if isinstance(told[name], float) else told[name] + 10
    found = _found(told)
    assert [one for one in found if not math.isclose(found[one], told[one], rel_tol=1e-5)] != []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cached_tokens", 5),
        ("pue_quality", "assumed"),
        ("hardware", "H100"),
        ("batch_known", True),
        ("boundary", "narrow"),
        ("usage_source", "estimated"),
        ("grid_temporal_match", "annual_fallback"),
        ("grid_temporal_match", "fresh"),
        ("energy_source", "upstream_gpu"),
        ("energy_source", "upstream_node"),
        ("energy_source", "ecologits"),
        ("region", "atnorth-sto-1"),
        ("params_range_lo_b", 1.0),
    ],
)
def test_a_word_that_was_changed_is_found_where_a_figure_rests_on_it(name: str, value: object) -> None:
    """What is not a figure but decides one, a quality, a boundary, a source, cannot be changed unnoticed either."""
    told = _told("compared")
    told[name] = value
    if name == "params_range_lo_b":
        told["params_range_hi_b"] = 700.0
    found = _found(told)
    assert [one for one in found if not math.isclose(found[one], told[one], rel_tol=1e-5)] != []


NO_NUMBERS: list[Any] = ["1", None, True, math.nan, math.inf, -1.0, [], {}]
NO_COUNTS: list[Any] = [1.5, "1", None, True, -1, [1]]
BROKEN: list[tuple[str, Any]] = [
    *((name, value) for name in ("pue", "gco2e_embodied", "sigma_gco2e", "batch_size") for value in NO_NUMBERS),
    *(("prompt_tokens", value) for value in NO_COUNTS),
    ("pue", 0.0),
    ("ewif_l_per_kwh", 1.7e308),
    ("completion_tokens", 10**400),
    ("params_active_b", 10**400),
    ("grid_temporal_match", "stale"),
    ("grid_temporal_match", "annual"),
    ("grid_temporal_match", ["live_window"]),
    ("boundary", "wide"),
    ("energy_source", ["parametric"]),
    ("region", {}),
    ("params_range_lo_b", "1"),
    ("default_region_pue", None),
]


@pytest.mark.parametrize(("name", "value"), BROKEN, ids=[f"{name}={str(value)[:12]}" for name, value in BROKEN])
def test_a_receipt_that_makes_no_sense_is_an_error_and_never_a_crash(name: str, value: Any) -> None:
    """Fields of another type or out of range: one error without content, for an auditor's tool to report."""
    told = _told("compared") | {name: value}
    with pytest.raises(NotRecomputableError) as caught:
        _found(told)
    assert (str(caught.value), caught.value.__cause__) == ("", None)


@given(missing=st.sets(st.sampled_from(sorted(_told("compared"))), min_size=1, max_size=4))
@settings(deadline=None, max_examples=60)
def test_missing_fields_are_an_error_or_not_needed(missing: set[str]) -> None:
    """Whatever is missing, there is a result of the rest or the one error."""
    told = {name: value for name, value in _told("compared").items() if name not in missing}
    try:
        found = recompute(told, load_coefficients())
    except NotRecomputableError:
        return
    assert all(math.isfinite(value) for value in found.values())


def test_a_receipt_of_the_first_version_still_verifies() -> None:
    """A receipt made before spreads could be rebuilt gives its medians, parts and bounds, and no sigma."""
    told = msgspec.to_builtins(maker(coefficients=load_coefficients("1.0.0")).make(observed()))
    later = ("batch_known", "params_range_lo_b", "params_range_hi_b", "default_region", "response_digest")
    told = {name: value for name, value in told.items() if name not in later}
    found = _found(told)
    assert told["methodology_version"] == "1.0.0"
    assert set(found) == (FIGURES | {"accelerator_wh"}) - {"sigma_gco2e", "sigma_water", "sigma_energy"}
    assert found == pytest.approx({name: told[name] for name in found}, rel=1e-5)


@pytest.mark.parametrize("kind", ["live", "narrow", "compared", "unknown model"])
def test_without_the_package_the_rest_of_an_ecologits_receipt_is_found(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where EcoLogits is not installed its energy is taken as told; what follows from it is still held to it."""

    def missing(_name: str) -> Any:
        raise ConfigurationError("not installed")

    told = _told(kind, ECOLOGITS)
    monkeypatch.setattr(module, "engine_named", missing)
    monkeypatch.setattr(module, "_installed", module._installed.__wrapped__)
    found = _found(told)
    sigmas = {"sigma_gco2e", "sigma_water", "sigma_energy"}
    assert (set(found) & sigmas) == (set() if kind == "unknown model" else sigmas)
    assert found == pytest.approx({name: told[name] for name in found}, rel=1e-5)
    for name in ("gco2e", "gco2e_operational", "ml_water", "pue", "gco2e_ci90_hi"):
        changed = told | {name: told[name] * 1.1}
        again = _found(changed)
        assert [one for one in again if not math.isclose(again[one], changed[one], rel_tol=1e-5)] != []


def test_energy_of_an_engine_of_the_applications_own_is_taken_as_told() -> None:
    """Of an engine nobody ships only what follows from its energy can be made again, and no sigma."""
    told = _told("live") | {"energy_source": "our-own-meter"}
    found = _found(told)
    assert not set(found) & {"sigma_gco2e", "sigma_water", "sigma_energy", "accelerator_wh"}
    for name in ("energy_wh", "gco2e", "gco2e_operational", "ml_water", "gco2e_ci90_lo"):
        assert found[name] == pytest.approx(told[name], rel=1e-5)


def test_a_receipt_of_another_release_of_the_package_is_not_recomputed_with_this_one() -> None:
    """Coefficients that name another EcoLogits take its energy as told: ours would give other figures."""
    told = _told("live", ECOLOGITS)
    coefficients = load_coefficients()
    engine = msgspec.structs.replace(coefficients.engines["ecologits"], package="ecologits==0.9.9")
    theirs = msgspec.structs.replace(coefficients, engines={"ecologits": engine})
    doubled = told | {"completion_tokens": told["completion_tokens"] * 2}
    assert recompute(doubled, theirs)["energy_wh"] == told["energy_wh"]
    assert recompute(doubled, coefficients)["energy_wh"] == pytest.approx(told["energy_wh"] * 2, rel=1e-5)


def test_recomputing_is_deterministic() -> None:
    """An auditor's second run gives the same numbers, bit for bit."""
    told = msgspec.to_builtins(made())
    assert _found(told) == _found(told)
