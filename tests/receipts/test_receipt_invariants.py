"""What holds of every receipt, whatever was observed."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receipts.making import maker, observed, reading, recomputed, region
from vetted_mw.receipts.coefficients import Spread, load_coefficients
from vetted_mw.receipts.engines import engine_named
from vetted_mw.receipts.measured import MeasuredReading
from vetted_mw.receipts.models import ModelSize, unknown_size
from vetted_mw.receipts.recomputed import recompute
from vetted_mw.routing.options import Boundary

if TYPE_CHECKING:
    from vetted_mw.receipts.receipt import Receipt

MODEL = "operators-own"
TOLERANCE = 1e-5
SPREADS = sorted(Spread.__struct_fields__)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One request as the properties vary it."""

    prompt: int
    cached: int
    completion: int
    size: ModelSize
    pue: float
    wue: float
    ewif: float
    grid: float
    is_live: bool
    hardware: str
    boundary: Boundary
    counted: bool = True
    measured: MeasuredReading | None = None
    default: float | None = None

    def receipt(self, **facts: Any) -> Receipt:
        """Make its receipt by the real maker."""
        place = region(
            pue=self.pue,
            wue_l_per_kwh=self.wue,
            ewif_l_per_kwh=self.ewif,
            hardware=self.hardware,
            annual_gco2_per_kwh=self.grid,
            annual_basis="lifecycle",
            shipped=False,
        )
        seen = observed(
            region=place,
            model=MODEL,
            prompt_tokens=self.prompt if self.counted else None,
            cached_tokens=self.cached,
            completion_tokens=self.completion if self.counted else None,
            prompt_characters=self.prompt,
            completion_characters=self.completion if not self.counted else 0,
            reading=reading(self.grid) if self.is_live else None,
            boundary=self.boundary,
            measured=self.measured,
            default_region=None if self.default is None else region("atnorth-sto-1", pue=self.default),
            default_reading=None if self.default is None else reading(21.0),
        )
        return maker(sizes={MODEL: self.size}, **facts).make(seen)


def _sizes() -> st.SearchStrategy[ModelSize]:
    known = st.builds(
        lambda active, ratio, bytes_per_param, batch: ModelSize(
            active_params_b=active,
            total_params_b=active * ratio,
            bytes_per_param=bytes_per_param,
            batch_size=batch,
        ),
        st.floats(0.05, 2_000),
        st.floats(1, 30),
        st.sampled_from([0.5, 1.0, 2.0, 4.0]),
        st.none() | st.floats(1, 4_096),
    )
    return known | st.just(unknown_size())


def _cases(*, least_tokens: int = 0) -> st.SearchStrategy[Case]:
    counts = st.tuples(st.integers(0, 2_000_000), st.integers(0, 100), st.integers(least_tokens, 200_000))
    return st.builds(
        lambda tokens, **facts: Case(
            prompt=tokens[0], cached=tokens[0] * tokens[1] // 100, completion=tokens[2], **facts
        ),
        counts,
        size=_sizes(),
        pue=st.floats(1, 3),
        wue=st.floats(0, 5),
        ewif=st.floats(0.01, 12),
        grid=st.floats(0.01, 1_500),
        is_live=st.booleans(),
        hardware=st.sampled_from(["H100", "unknown"]),
        boundary=st.sampled_from(list(Boundary)),
        counted=st.booleans(),
    )


def _triple(receipt: Receipt, name: str) -> tuple[float, float, float]:
    return (getattr(receipt, f"{name}_ci90_lo"), getattr(receipt, name), getattr(receipt, f"{name}_ci90_hi"))


@given(case=_cases())
@settings(deadline=None, max_examples=150)
def test_every_figure_can_be_recomputed_from_the_receipts_own_fields(case: Case) -> None:
    """The contract's formulas over the rounded fields of a receipt give its figures and bounds to 1e-5."""
    told = msgspec.to_builtins(case.receipt())
    expected = recomputed(told)
    assert {name: told[name] for name in expected} == pytest.approx(expected, rel=TOLERANCE, abs=0.0)


@st.composite
def _measured(draw: st.DrawFn) -> tuple[Case, MeasuredReading]:
    """Draw a case with a measurement that can be true: the estimate, times up to 90 either way."""
    scope: Any = draw(st.sampled_from(["gpu", "node"]))
    case = draw(_cases(least_tokens=1))
    if scope == "node":
        case = replace(case, boundary=Boundary.COMPREHENSIVE)
    receipt = case.receipt()
    assert receipt.accelerator_wh is not None
    same = receipt.accelerator_wh * (1.0 if scope == "gpu" else 1.29 * 1.12)
    measured = MeasuredReading(value_wh=same * draw(st.floats(1 / 90, 90)), scope=scope)
    return replace(case, measured=measured), measured


@given(case=_cases(), default=st.none() | st.floats(1, 3), name=st.sampled_from(["parametric", "ecologits"]))
@settings(deadline=None, max_examples=150)
def test_the_auditors_recomputation_finds_every_figure_of_every_receipt(
    case: Case, default: float | None, name: str
) -> None:
    """Whatever was observed, and by either engine, `recompute` gives what the receipt says, to 1e-5."""
    told = msgspec.to_builtins(replace(case, default=default).receipt(engine=engine_named(name)))
    found = recompute(told, load_coefficients())
    assert {"energy_wh", "gco2e", "ml_water", "sigma_gco2e", "pedigree_score"} <= set(found)
    assert found == pytest.approx({name: told[name] for name in found}, rel=TOLERANCE, abs=0.0)


@given(drawn=_measured(), default=st.none() | st.floats(1, 3))
@settings(deadline=None, max_examples=150)
def test_measured_energy_is_charged_as_measured_and_found_again(
    drawn: tuple[Case, MeasuredReading], default: float | None
) -> None:
    """A plausible measurement is the receipt's energy, its interval holds it, and the recomputation agrees."""
    case, measured = drawn
    receipt = replace(case, default=default).receipt()
    told = msgspec.to_builtins(receipt)
    assert (receipt.tier, receipt.energy_source) == ("telemetry", f"upstream_{measured.scope}")
    pue = 1.0 if case.boundary is Boundary.NARROW else receipt.pue
    if measured.scope == "node":
        assert receipt.accelerator_wh is None
        assert receipt.energy_wh / pue == pytest.approx(measured.value_wh, rel=TOLERANCE)
    else:
        assert receipt.accelerator_wh is not None
        assert receipt.accelerator_wh == pytest.approx(measured.value_wh, rel=TOLERANCE)
        assert receipt.energy_wh >= receipt.accelerator_wh
    for name in ("energy_wh", "gco2e", "ml_water"):
        low, middle, high = _triple(receipt, name)
        assert 0 < low <= middle <= high
        assert (low < high) or (name == "energy_wh" and case.boundary is Boundary.NARROW)
    found = recompute(told, load_coefficients())
    assert found == pytest.approx({name: told[name] for name in found}, rel=TOLERANCE, abs=0.0)


@given(drawn=_measured())
@settings(deadline=None, max_examples=60)
def test_measuring_never_makes_an_interval_wider(drawn: tuple[Case, MeasuredReading]) -> None:
    """Measured energy drops terms and adds none, so energy and water are at least as certain as estimated."""
    case, _reading = drawn
    estimated, measured = replace(case, measured=None).receipt(), case.receipt()
    assert measured.sigma_energy <= estimated.sigma_energy
    assert measured.sigma_water <= estimated.sigma_water


@given(case=_cases())
@settings(deadline=None, max_examples=100)
def test_the_parts_of_a_receipt_agree_with_one_another(case: Case) -> None:
    """Energy is at least the accelerators', carbon is operational and embodied, operational is energy times grid."""
    receipt = case.receipt()
    assert receipt.accelerator_wh is not None
    assert receipt.energy_wh >= receipt.accelerator_wh
    assert receipt.gco2e == pytest.approx(receipt.gco2e_operational + receipt.gco2e_embodied, rel=TOLERANCE)
    by_grid = receipt.energy_wh / 1000 * receipt.grid_intensity_gco2_per_kwh
    assert receipt.gco2e_operational == pytest.approx(by_grid, rel=TOLERANCE)


@given(case=_cases())
@settings(deadline=None, max_examples=100)
def test_the_narrow_boundary_holds_the_accelerators_alone(case: Case) -> None:
    """Narrow energy is the accelerators', nothing is embodied, and no figure exceeds the comprehensive one."""
    narrow = replace(case, boundary=Boundary.NARROW).receipt()
    whole = replace(case, boundary=Boundary.COMPREHENSIVE).receipt()
    assert (narrow.boundary, narrow.gco2e_embodied) == ("narrow", 0)
    assert narrow.energy_wh == narrow.accelerator_wh == whole.accelerator_wh
    for name in ("energy_wh", "gco2e", "ml_water"):
        assert getattr(narrow, name) <= getattr(whole, name)


@given(case=_cases(least_tokens=1))
@settings(deadline=None, max_examples=100)
def test_a_median_lies_strictly_inside_its_positive_interval(case: Case) -> None:
    """With any token at all every figure has 0 < lo < x < hi, further up than down."""
    receipt = case.receipt()
    for name in ("energy_wh", "gco2e", "ml_water"):
        low, middle, high = _triple(receipt, name)
        assert 0 < low < middle < high
        assert high - middle > middle - low


@given(case=_cases())
@settings(deadline=None, max_examples=50)
def test_no_tokens_at_all_cost_nothing_at_all(case: Case) -> None:
    """A request without tokens has zeros for medians, bounds and parts."""
    receipt = replace(case, prompt=0, cached=0, completion=0).receipt()
    for name in ("energy_wh", "gco2e", "ml_water"):
        assert _triple(receipt, name) == (0, 0, 0)
    assert (receipt.accelerator_wh, receipt.gco2e_operational, receipt.gco2e_embodied) == (0, 0, 0)


@given(case=_cases(), prompt=st.integers(1, 100_000))
@settings(deadline=None, max_examples=50)
def test_a_prompt_without_a_completion_still_costs_its_reading(case: Case, prompt: int) -> None:
    """Zero completion tokens with a prompt that was not cached cost prefill, and a fully cached prompt costs nothing."""
    only_read = replace(case, prompt=prompt, cached=0, completion=0, counted=True)
    assert only_read.receipt().energy_wh > 0
    assert replace(only_read, cached=prompt).receipt().energy_wh == 0


GROWING = {
    "completion tokens": lambda case: replace(case, completion=case.completion * 2),
    "prompt tokens": lambda case: replace(case, prompt=case.prompt * 2 + 1),
    "PUE": lambda case: replace(case, pue=case.pue * 1.1),
    "grid intensity": lambda case: replace(case, grid=case.grid * 1.1),
    "a smaller batch": lambda case: replace(
        case, size=msgspec.structs.replace(case.size, batch_size=(case.size.batch_size or 32.0) * 0.9)
    ),
    "the size of the model": lambda case: replace(
        case,
        size=msgspec.structs.replace(
            case.size, active_params_b=case.size.active_params_b * 1.1, total_params_b=case.size.total_params_b * 1.1
        ),
    ),
}
GROWN = {
    "completion tokens": ("energy_wh", "gco2e", "ml_water"),
    "prompt tokens": ("energy_wh", "gco2e", "ml_water"),
    "PUE": ("energy_wh", "gco2e", "ml_water"),
    "grid intensity": ("gco2e",),
    "a smaller batch": ("energy_wh", "gco2e", "ml_water"),
    "the size of the model": ("energy_wh", "gco2e", "ml_water"),
}


@pytest.mark.parametrize("what", GROWING)
@given(case=_cases(least_tokens=1))
@settings(deadline=None, max_examples=40)
def test_more_of_what_costs_never_costs_less(what: str, case: Case) -> None:
    """More tokens, PUE, grid intensity, parameters or a smaller batch never lower a figure."""
    case = replace(case, counted=True)
    before, after = case.receipt(), GROWING[what](case).receipt()
    for name in ("energy_wh", "gco2e", "ml_water"):
        assert getattr(after, name) >= getattr(before, name)


@pytest.mark.parametrize("what", GROWING)
def test_more_of_what_costs_costs_more(what: str) -> None:
    """On an ordinary request each of them raises the figures it is a factor of, and only those."""
    case = Case(
        prompt=1_000,
        cached=0,
        completion=300,
        size=ModelSize(active_params_b=8, total_params_b=8, bytes_per_param=2),
        pue=1.2,
        wue=0.2,
        ewif=3.7,
        grid=58.0,
        is_live=True,
        hardware="H100",
        boundary=Boundary.COMPREHENSIVE,
    )
    before, after = case.receipt(), GROWING[what](case).receipt()
    raised = {name for name in ("energy_wh", "gco2e", "ml_water") if getattr(after, name) > getattr(before, name)}
    assert raised == set(GROWN[what])


@given(case=_cases(least_tokens=1))
@settings(deadline=None, max_examples=60)
def test_an_annual_figure_is_less_certain_than_a_live_one(case: Case) -> None:
    """All else equal the carbon interval is wider on an annual figure than on a live one; energy's is the same."""
    case = replace(case, grid=max(case.grid, 20.0))  # below it the grid's part is lost in the rounding
    live, annual = (replace(case, is_live=is_live).receipt() for is_live in (True, False))
    assert (live.gco2e, live.energy_wh) == (annual.gco2e, annual.energy_wh)
    assert annual.gco2e_ci90_lo < live.gco2e_ci90_lo
    assert annual.gco2e_ci90_hi > live.gco2e_ci90_hi
    assert annual.sigma_energy == live.sigma_energy


@given(case=_cases(), name=st.sampled_from(SPREADS), times=st.floats(1, 4))
@settings(deadline=None, max_examples=200)
def test_widening_any_term_never_narrows_an_interval(case: Case, name: str, times: float) -> None:
    """A larger geometric standard deviation of any one term leaves every interval as wide or wider."""
    coefficients = load_coefficients()
    spread = msgspec.structs.replace(coefficients.spread, **{name: getattr(coefficients.spread, name) * times})
    before = case.receipt()
    after = case.receipt(coefficients=msgspec.structs.replace(coefficients, spread=spread))
    for figure in ("energy_wh", "gco2e", "ml_water"):
        low, middle, high = _triple(before, figure)
        wide_low, wide_middle, wide_high = _triple(after, figure)
        assert wide_low <= low
        assert wide_middle == middle
        assert wide_high >= high


@pytest.mark.parametrize("name", ["host", "idle", "embodied"])
def test_a_term_outside_the_narrow_boundary_has_no_part_in_its_intervals(name: str) -> None:
    """However uncertain host, idle capacity and embodied emissions are, the narrow intervals stay the same."""
    assert _narrow_sigmas(name) == _narrow_sigmas(None)


@pytest.mark.parametrize("name", ["pue_published", "pue_assumed"])
def test_the_narrow_boundary_knows_pue_in_its_water_only(name: str) -> None:
    """PUE is no factor of narrow energy and carbon, so its spread is none of theirs; narrow water has it as a factor."""
    published = name == "pue_published"
    (energy, carbon, water), (plain_energy, plain_carbon, plain_water) = (
        _narrow_sigmas(name, published=published),
        _narrow_sigmas(None, published=published),
    )
    assert (energy, carbon) == (plain_energy, plain_carbon)
    assert water > plain_water


def _narrow_sigmas(widened: str | None, *, published: bool = True) -> tuple[float, float, float]:
    coefficients = load_coefficients()
    if widened is not None:
        coefficients = msgspec.structs.replace(
            coefficients, spread=msgspec.structs.replace(coefficients.spread, **{widened: 3.0})
        )
    place = region() if published else region(pue=1.4)
    receipt = maker(coefficients=coefficients).make(observed(region=place, boundary=Boundary.NARROW))
    return receipt.sigma_energy, receipt.sigma_gco2e, receipt.sigma_water


@pytest.mark.parametrize(
    ("term", "facts", "size"),
    [
        ("hardware_unknown", {"hardware": "H100"}, None),
        ("batch_unknown", {}, ModelSize(active_params_b=128, total_params_b=128, bytes_per_param=1, batch_size=32)),
    ],
)
def test_what_is_known_takes_its_term_out_of_the_interval(
    term: str, facts: dict[str, str], size: ModelSize | None
) -> None:
    """Known hardware and a known batch leave the medians alone and take exactly their term out of sigma squared."""
    completion_only = {"prompt_tokens": 0, "completion_tokens": 100}
    sizes = {} if size is None else {"mistral-medium-3": size}
    before = maker().make(observed(**completion_only))
    after = maker(sizes=sizes).make(observed(region=region(**facts), **completion_only))
    factor = 0.5278 if term == "batch_unknown" else 1.0
    expected = (factor * {"hardware_unknown": math.log(1.29), "batch_unknown": math.log(2.0)}[term]) ** 2
    assert after.energy_wh == before.energy_wh
    for name in ("sigma_energy", "sigma_gco2e", "sigma_water"):
        gone = getattr(before, name) ** 2 - getattr(after, name) ** 2
        assert gone == pytest.approx(expected, rel=1e-4)


def test_the_property_tests_know_every_term() -> None:
    """The spread of every term of the contract's table is among those that are widened."""
    terms = {"model", "batch_unknown", "prefill", "hardware_unknown", "host", "idle", "embodied", "ewif", "wue"}
    terms |= {"pue_published", "pue_assumed", "grid_live_window", "grid_fresh", "grid_annual"}
    assert terms | {"grid_annual_unknown_basis", "estimated_usage", "ecologits"} == set(SPREADS)
    assert all(value > 0 for value in msgspec.structs.astuple(load_coefficients().spread))
