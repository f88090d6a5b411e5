"""The comparison with the default region: the same request there, only where both grid figures are made alike."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receipts.making import LIVE_METHOD, made, maker, observed, reading, region
from vetted_mw.grid.signal import Method, SignalKind
from vetted_mw.receipts.engines import engine_named
from vetted_mw.receipts.measured import MeasuredReading
from vetted_mw.routing.options import Boundary

FIELDS = ("default_region", "default_region_grid_gco2_per_kwh", "default_region_pue", "default_region_gco2e")
HERE, THERE = region("scaleway-par-1"), region("atnorth-sto-1", country="SE", zone="SE_3")
MEASURED = {"gpu": MeasuredReading(value_wh=0.05, scope="gpu"), "node": MeasuredReading(value_wh=0.06, scope="node")}
AT_THERE = reading(21.0, zone="SE_3", area="SE")


def _compared(**facts: Any) -> tuple[Any, ...]:
    return tuple(getattr(made(**facts), name) for name in FIELDS)


BOTH = [(kind, boundary) for kind in ("parametric", "ecologits", "gpu", "node") for boundary in Boundary]


@pytest.mark.parametrize(("kind", "boundary"), [pair for pair in BOTH if pair != ("node", Boundary.NARROW)])
@pytest.mark.parametrize("is_live", [True, False])
def test_the_comparison_is_what_the_request_would_be_charged_with_there(
    kind: str, boundary: Boundary, is_live: bool
) -> None:
    """The default region's figure and interval are those of a receipt of the same request that ran there."""
    ours = maker() if kind != "ecologits" else maker(engine=engine_named("ecologits"))
    annual: dict[str, Any] = {"annual_gco2_per_kwh": 47.0, "annual_basis": "lifecycle", "shipped": False}
    here, there = (replace(one, **({} if is_live else annual)) for one in (HERE, THERE))
    facts: dict[str, Any] = {"boundary": boundary, "measured": MEASURED.get(kind)}
    signals = {"reading": reading(58.0), "default_reading": AT_THERE} if is_live else {"reading": None}
    found = ours.made(observed(region=here, default_region=there, **signals, **facts))
    same = ours.make(observed(region=there, reading=AT_THERE if is_live else None, **facts))
    receipt, comparison = found.receipt, found.comparison
    assert comparison is not None
    assert (receipt.default_region, comparison.region) == (there.code, there.code)
    assert receipt.default_region_grid_gco2_per_kwh == same.grid_intensity_gco2_per_kwh
    assert receipt.default_region_pue == same.pue
    assert receipt.default_region_gco2e == pytest.approx(same.gco2e, rel=1e-5)
    there_found = (comparison.gco2e.value, comparison.gco2e.low, comparison.gco2e.high)
    assert there_found == pytest.approx((same.gco2e, same.gco2e_ci90_lo, same.gco2e_ci90_hi), rel=2e-5)
    assert comparison.gco2e.sigma == pytest.approx(same.sigma_gco2e, rel=1e-4)


def test_a_request_that_ran_in_the_default_region_is_compared_with_itself() -> None:
    """There the figures are the receipt's own, and no other signal is looked at."""
    found = maker().made(observed(default_region=HERE, default_reading=None))
    receipt, comparison = found.receipt, found.comparison
    assert comparison is not None
    assert receipt.default_region == receipt.region
    assert receipt.default_region_gco2e == receipt.gco2e == comparison.gco2e.value
    assert (comparison.gco2e.low, comparison.gco2e.high) == (receipt.gco2e_ci90_lo, receipt.gco2e_ci90_hi)
    assert receipt.default_region_pue == receipt.pue
    assert receipt.default_region_grid_gco2_per_kwh == receipt.grid_intensity_gco2_per_kwh


def test_without_a_default_region_nothing_is_compared() -> None:
    """No region has an upstream first in line, so there is nothing to compare with."""
    assert _compared(default_region=None) == (None, None, None, None)


@pytest.mark.parametrize(
    "there",
    [
        None,
        reading(21.0, method=replace(LIVE_METHOD, accounting="consumption")),
        reading(21.0, method=replace(LIVE_METHOD, factor_set="another")),
        reading(21.0, method=Method()),
        reading(21.0, kind=SignalKind.FORECAST),
        reading(21.0, age_minutes=10_000.0),
        reading(21.0, estimated=True),
    ],
    ids=["no signal", "accounting", "factors", "undeclared", "a forecast", "stale", "an estimate"],
)
def test_figures_that_are_made_differently_are_not_compared(there: Any) -> None:
    """Where the signal there is of another kind or method, or none that a receipt may use, all four fields are null."""
    assert _compared(default_region=THERE, default_reading=there) == (None, None, None, None)
    assert maker().made(observed(default_region=THERE, default_reading=there)).comparison is None


def test_a_live_figure_is_not_compared_with_an_annual_one_either_way() -> None:
    """Running on an annual figure while the default region has a live one is no comparison as well."""
    assert _compared(reading=None, default_region=THERE, default_reading=AT_THERE) == (None, None, None, None)


@pytest.mark.parametrize(
    ("facts", "is_compared"),
    [
        ({}, True),
        ({"annual_gco2_per_kwh": 12.0, "shipped": False}, False),
        ({"annual_gco2_per_kwh": None}, False),
        ({"annual_basis": "lifecycle"}, False),
    ],
    ids=["declared", "configured", "fallback", "another basis"],
)
def test_annual_figures_are_compared_only_from_one_source_and_basis(facts: dict[str, Any], is_compared: bool) -> None:
    """Declared with declared of one basis; what an operator configured, or the fallback, is another source."""
    found = _compared(reading=None, default_region=replace(THERE, **facts))
    assert (found != (None, None, None, None)) is is_compared


def test_another_source_of_live_values_with_one_method_is_compared() -> None:
    """Live values may come from different services as long as they are made in one way."""
    there = reading(21.0, source="entsoe_derived_live")
    assert _compared(default_region=THERE, default_reading=there)[0] == "atnorth-sto-1"


def test_a_default_region_that_is_cleaner_is_shown_as_such() -> None:
    """The comparison is told whichever way it comes out: nothing hides that the default would have been lower."""
    receipt = made(reading=reading(300.0), default_region=THERE, default_reading=AT_THERE)
    assert receipt.default_region_gco2e is not None
    assert receipt.default_region_gco2e < receipt.gco2e


def test_the_comparison_can_be_asked_for_with_the_receipt_alone() -> None:
    """`compared` gives for a receipt what `made` gave beside it."""
    seen = observed(default_region=THERE, default_reading=AT_THERE)
    found = maker().made(seen)
    assert maker().compared(seen, found.receipt) == found.comparison
    assert maker().make(seen) == found.receipt


@given(
    grid=st.floats(0, 1_500),
    pue=st.floats(1, 3),
    tokens=st.integers(0, 100_000),
    boundary=st.sampled_from(list(Boundary)),
)
@settings(deadline=None, max_examples=60)
def test_a_comparison_is_an_ordered_interval_whatever_the_site(
    grid: float, pue: float, tokens: int, boundary: Boundary
) -> None:
    """At any PUE and grid figure the comparison has 0 <= lo <= x <= hi, and shows the PUE and grid it used."""
    there = replace(THERE, pue=pue)
    seen = observed(
        completion_tokens=tokens, boundary=boundary, default_region=there, default_reading=reading(grid, zone="SE_3")
    )
    found = maker().made(seen)
    assert found.comparison is not None
    low, value, high = (getattr(found.comparison.gco2e, name) for name in ("low", "value", "high"))
    assert 0 <= low <= value <= high
    assert found.receipt.default_region_pue == float(f"{pue:.6g}")
