"""Which grid figure a receipt rests on, and that receipt and routing trace tell the same of it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receipts.making import LIVE_METHOD, REQUESTED_AT, made, reading, region
from vetted_mw.grid.signal import DECLARED, GridSignal, Ineligible, Method, SignalKind, SignalReading, read_at
from vetted_mw.receipts.coefficients import load_coefficients
from vetted_mw.receipts.grid import receipt_reading
from vetted_mw.routing.regions import load_catalogue
from vetted_mw.routing.trace import told_signal

if TYPE_CHECKING:
    from vetted_mw.receipts.receipt import Receipt

INELIGIBLE = {
    Ineligible.NOT_MEASURED: reading(20.0, kind=SignalKind.FORECAST),
    Ineligible.ESTIMATED: reading(20.0, estimated=True),
    Ineligible.FUTURE_DATED: reading(20.0, age_minutes=-30.0),
    Ineligible.STALE: reading(20.0, age_minutes=181.0),
    Ineligible.NOT_A_NUMBER: reading(float("nan")),
    Ineligible.PROXY_SHARE: reading(20.0, proxy_share=0.5),
}


def test_a_live_reading_backs_the_receipt() -> None:
    """A measured, eligible reading of the serving region is the figure, with its source, times, area and method."""
    receipt = made(reading=reading(21.37, age_minutes=46.0, proxy_share=0.1))
    assert receipt.grid_intensity_gco2_per_kwh == 21.37
    assert receipt.grid_intensity_source == "rte_mix_derived_live"
    assert receipt.grid_zone == "FR"
    assert receipt.grid_intensity_observed_at == "2026-11-22T09:45:07Z"
    assert receipt.grid_intensity_requested_at == "2026-11-22T10:31:07Z"
    assert receipt.grid_intensity_age_minutes == 46.0
    assert receipt.grid_temporal_match == "fresh"
    assert receipt.grid_factor_set == LIVE_METHOD.factor_set
    assert (receipt.grid_intensity_basis, receipt.grid_intensity_accounting) == ("lifecycle", "production")
    assert (receipt.grid_resolution_minutes, receipt.grid_proxy_share) == (15, 0.1)


@pytest.mark.parametrize(("age_minutes", "told"), [(0, "live_window"), (15, "live_window"), (16, "fresh")])
def test_the_temporal_match_says_how_live_a_reading_is(age_minutes: float, told: str) -> None:
    """Within a quarter of an hour it is the live window, older and within the source's limit it is fresh and wider."""
    receipt = made(reading=reading(age_minutes=age_minutes))
    assert receipt.grid_temporal_match == told
    assert (receipt.sigma_gco2e > made(reading=reading(age_minutes=0)).sigma_gco2e) is (told == "fresh")


def test_the_grid_zone_of_a_live_reading_is_the_area_it_is_really_of() -> None:
    """A country's signal used for a bidding zone is told as the country's."""
    signal = GridSignal(
        source="entsoe_derived_live",
        zone="SE_3",
        area="SE",
        kind=SignalKind.MEASURED,
        gco2_per_kwh=22.4,
        observed_at=REQUESTED_AT - timedelta(minutes=46),
        fetched_at=REQUESTED_AT,
        max_age_minutes=180.0,
    )
    receipt = made(region=region("atnorth-sto-1"), reading=read_at(signal, REQUESTED_AT))
    assert (receipt.grid_zone, receipt.grid_intensity_source) == ("SE", "entsoe_derived_live")


@pytest.mark.parametrize("reason", INELIGIBLE)
def test_what_may_not_decide_never_backs_a_receipt(reason: Ineligible) -> None:
    """A forecast, an estimate, a stale, future or impossible value gives way to the annual figure, labelled as such."""
    assert INELIGIBLE[reason].ineligible is reason
    receipt = made(reading=INELIGIBLE[reason])
    assert receipt.grid_intensity_gco2_per_kwh == 58
    assert (receipt.grid_intensity_source, receipt.grid_temporal_match) == ("annual_declared", "annual_fallback")


@pytest.mark.parametrize(
    ("code", "grams", "country"),
    [
        ("scaleway-par-1", 58, "FR"),
        ("scaleway-par-2", 58, "FR"),
        ("ovh-gra-1", 58, "FR"),
        ("ovh-rbx-1", 58, "FR"),
        ("atnorth-sto-1", 12, "SE"),
        ("atnorth-isl-1", 18, "IS"),
        ("hetzner-fsn-1", 380, "DE"),
        ("hetzner-hel-1", 95, "FI"),
    ],
)
def test_the_shipped_annual_figures_are_declared_ones_of_a_country(code: str, grams: float, country: str) -> None:
    """Without a live reading the declared table's figure of the country is used, of 2024 and unknown basis."""
    receipt = made(region=region(code), reading=None)
    assert (receipt.grid_intensity_gco2_per_kwh, receipt.grid_zone) == (grams, country)
    assert (receipt.grid_intensity_source, receipt.grid_temporal_match) == ("annual_declared", "annual_fallback")
    assert receipt.grid_intensity_observed_at == "2025-01-01T00:00:00Z"
    assert receipt.grid_intensity_age_minutes == _minutes_since_2025()
    assert (receipt.grid_intensity_basis, receipt.grid_intensity_accounting) == ("unknown", "unknown")
    assert (receipt.grid_factor_set, receipt.grid_proxy_share) == (None, None)
    assert receipt.grid_resolution_minutes == 525_600


def test_every_shipped_region_is_in_the_table_above() -> None:
    """No region is shipped whose annual label nobody looked at."""
    mark = next(mark for mark in test_the_shipped_annual_figures_are_declared_ones_of_a_country.pytestmark)  # type: ignore[attr-defined]
    assert {row[0] for row in mark.args[1]} == set(load_catalogue())


def test_the_operators_own_annual_figure_has_a_label_of_its_own() -> None:
    """A figure the operator configured is not called declared, and stands at the end of the year it is of."""
    own = region(annual_gco2_per_kwh=44.0, annual_year=2023, annual_basis="lifecycle", shipped=False)
    receipt = made(region=own, reading=None)
    assert (receipt.grid_intensity_gco2_per_kwh, receipt.grid_intensity_basis) == (44, "lifecycle")
    assert receipt.grid_intensity_source == "annual_configured"
    assert receipt.grid_temporal_match == "annual_fallback"
    assert receipt.grid_intensity_observed_at == "2024-01-01T00:00:00Z"


def test_an_annual_figure_without_a_year_is_taken_for_last_years() -> None:
    """Where the operator named no year, the figure stands at the end of the year before the request."""
    own = region(annual_gco2_per_kwh=44.0, annual_year=None, shipped=False)
    assert made(region=own, reading=None).grid_intensity_observed_at == "2026-01-01T00:00:00Z"


def test_a_region_without_any_figure_falls_back_to_europe() -> None:
    """With neither a live nor an annual figure the EU/EEA average is used, under its own label and area."""
    bare = region(code="our-site-1", country="PT", zone="PT", annual_gco2_per_kwh=None, shipped=False)
    receipt = made(region=bare, reading=None)
    assert (receipt.grid_intensity_gco2_per_kwh, receipt.grid_zone) == (282.68, "EU")
    assert receipt.grid_intensity_source not in {"annual_declared", "annual_configured"}
    assert receipt.grid_temporal_match == "annual_fallback"


def test_an_annual_figure_of_unknown_basis_is_the_least_certain() -> None:
    """The interval grows from the live window over fresh and annual to annual of unknown basis."""
    sigmas = [
        made(reading=reading(58.0, age_minutes=5)).sigma_gco2e,
        made(reading=reading(58.0, age_minutes=60)).sigma_gco2e,
        made(reading=None, region=region(annual_basis="direct")).sigma_gco2e,
        made(reading=None, region=region(annual_basis="unknown")).sigma_gco2e,
    ]
    assert sigmas == sorted(set(sigmas))


def _told(receipt: Receipt) -> dict[str, object]:
    return {
        "source": receipt.grid_intensity_source,
        "gco2_per_kwh": receipt.grid_intensity_gco2_per_kwh,
        "observed_at": receipt.grid_intensity_observed_at,
        "requested_at": receipt.grid_intensity_requested_at,
        "age_minutes": receipt.grid_intensity_age_minutes,
        "temporal_match": receipt.grid_temporal_match,
    }


def _agree(receipt: Receipt, used: SignalReading) -> None:
    signal = told_signal(used)
    assert _told(receipt) == {name: getattr(signal, name) for name in _told(receipt)}
    is_annual = receipt.grid_temporal_match == "annual_fallback"
    assert signal.live_eligible is not is_annual
    assert signal.signal_kind == ("fallback" if is_annual else "measured")


@given(
    grams=st.floats(0, 5_000),
    age_minutes=st.floats(-20, 400),
    kind=st.sampled_from(SignalKind),
    method=st.sampled_from([DECLARED, LIVE_METHOD, Method(basis="direct")]),
    code=st.sampled_from(sorted(load_catalogue())),
)
@settings(deadline=None, max_examples=100)
def test_receipt_and_trace_tell_the_same_of_the_signal(
    grams: float, age_minutes: float, kind: SignalKind, method: Method, code: str
) -> None:
    """The trace's `receipt_signal` of the reading the figures used equals the receipt's own grid fields."""
    best = reading(grams, age_minutes=age_minutes, kind=kind, method=method)
    receipt = made(region=region(code), reading=best)
    used = receipt_reading(region(code), best, REQUESTED_AT, load_coefficients())
    _agree(receipt, used)
    assert receipt.grid_temporal_match in {"live_window", "fresh", "annual_fallback"}
    assert (receipt.grid_temporal_match == "annual_fallback") is not best.live_eligible


def _minutes_since_2025() -> float:
    return round((REQUESTED_AT - REQUESTED_AT.replace(2025, 1, 1, 0, 0, 0)).total_seconds() / 60, 1)
