"""One signal, its age and whether it may decide, at instants that are always given."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grid.samples import LIFECYCLE, NOW, reading, signal
from vetted_mw.grid.signal import DECLARED, GridSignal, Ineligible, Method, SignalKind, TemporalMatch, read_at


def test_the_words_of_the_wire_are_closed() -> None:
    """Three kinds and five temporal matches, as the wire lists them."""
    assert [kind.value for kind in SignalKind] == ["measured", "forecast", "fallback"]
    assert {match.value for match in TemporalMatch} == {"live_window", "fresh", "stale", "forecast", "annual_fallback"}


@pytest.mark.parametrize(
    ("age", "max_age", "match", "eligible"),
    [
        (0, 180, "live_window", True),
        (15, 180, "live_window", True),
        (15.01, 180, "fresh", True),
        (46.1, 180, "fresh", True),
        (180, 180, "fresh", True),
        (180.01, 180, "stale", False),
        (99_999, 180, "stale", False),
        (-5, 180, "live_window", True),
        (-0.01, 180, "live_window", True),
        (20, 20, "fresh", True),
        (20.01, 20, "stale", False),
        (10, 10, "live_window", True),
        (10.01, 10, "stale", False),
        (0.5, 0.5, "live_window", True),
        (0.51, 0.5, "stale", False),
    ],
)
def test_age_decides_between_live_fresh_and_stale(age: float, max_age: float, match: str, eligible: bool) -> None:
    """Within 15 minutes live, within the source's own limit fresh, beyond it stale and no longer eligible."""
    seen = reading(age=age, max_age_minutes=max_age)
    assert (seen.temporal_match, seen.live_eligible) == (match, eligible)
    assert seen.ineligible is (None if eligible else Ineligible.STALE)


@pytest.mark.parametrize("age", [-5.01, -6, -600, -600_000])
def test_a_value_dated_more_than_five_minutes_ahead_is_refused(age: float) -> None:
    """A skewed clock or a future-dated point never decides, and its age is zero, never negative."""
    seen = reading(age=age)
    assert seen.ineligible is Ineligible.FUTURE_DATED
    assert not seen.live_eligible
    assert seen.age_minutes == 0.0
    assert seen.temporal_match not in {"live_window", "fresh"}


@pytest.mark.parametrize("minutes", [0, 5, 6, 60, 179, 181, 100_000])
@pytest.mark.parametrize("ahead", [5.01, 6, 90])
def test_a_value_that_was_dated_ahead_when_it_was_fetched_never_comes_true(ahead: float, minutes: float) -> None:
    """Waiting for its time does not make it a measurement: it stays refused, and is never called live or fresh."""
    given_signal = signal(age=-ahead)
    seen = read_at(given_signal, NOW + timedelta(minutes=minutes))
    assert (seen.ineligible, seen.live_eligible) == (Ineligible.FUTURE_DATED, False)
    assert seen.temporal_match not in {"live_window", "fresh"}
    assert seen.age_minutes == pytest.approx(max(0.0, minutes - ahead))


@pytest.mark.parametrize(("ahead", "eligible"), [(-60, True), (0, True), (5, True), (5.01, False)])
def test_the_skew_allowed_is_the_same_when_it_was_fetched(ahead: float, eligible: bool) -> None:
    """Up to five minutes ahead of the fetch is a clock's fault, and the value decides once it is not ahead of now."""
    fetched_at = NOW - timedelta(minutes=70)
    seen = read_at(signal(observed_at=fetched_at + timedelta(minutes=ahead), fetched_at=fetched_at), NOW)
    assert seen.live_eligible is eligible


@pytest.mark.parametrize(("ahead", "eligible"), [(5, True), (5.01, False), (60, False)])
def test_a_value_ahead_of_the_instant_is_refused_whenever_it_was_fetched(ahead: float, eligible: bool) -> None:
    """Seen from an instant before its fetch, by a clock that was set back, it is of the future."""
    assert reading(age=-ahead, fetched_at=NOW + timedelta(minutes=90)).live_eligible is eligible


def test_an_estimate_dated_ahead_is_told_as_dated_ahead() -> None:
    """A value of no time is worse than an estimate."""
    assert reading(age=-6, estimated=True).ineligible is Ineligible.FUTURE_DATED


@pytest.mark.parametrize("minutes", [-600, 0, 600, 600_000])
@pytest.mark.parametrize("others", [{}, {"age": -600}, {"estimated": True}, {"kind": SignalKind.FORECAST}])
@pytest.mark.parametrize(
    "members",
    [
        {"gco2_per_kwh": None},
        {"gco2_per_kwh": "12"},
        {"gco2_per_kwh": [12.0]},
        {"fetched_at": NOW.replace(tzinfo=None)},
        {"fetched_at": "2026-11-22T10:30:00Z"},
        {"max_age_minutes": None},
        {"max_age_minutes": "180"},
        {"proxy_share": "0.1"},
        {"proxy_share": 0.1, "max_proxy_share": None},
    ],
)
def test_what_is_no_signal_is_none_at_any_instant(
    members: dict[str, Any], others: dict[str, Any], minutes: float
) -> None:
    """A member of the wrong type is found at once, not only at the instant at which it would come to matter."""
    given_signal = signal(**(others | members))
    with pytest.raises(TypeError):
        read_at(given_signal, NOW + timedelta(minutes=minutes))


@pytest.mark.parametrize("age", [0, 1, 1000])
def test_a_limit_that_is_no_number_is_passed_at_any_age(age: float) -> None:
    """Nothing lives for ever because a comparison with its limit says no."""
    seen = reading(age=age, max_age_minutes=float("nan"))
    assert (seen.temporal_match, seen.ineligible) == ("stale", "stale")


@pytest.mark.parametrize("age", [0, 1000, -1000])
@pytest.mark.parametrize(
    ("kind", "match"), [(SignalKind.FORECAST, "forecast"), (SignalKind.FALLBACK, "annual_fallback")]
)
def test_what_was_not_measured_is_told_as_what_it_is_at_any_age(kind: SignalKind, match: str, age: float) -> None:
    """Forecasts and annual figures are never live-eligible, however fresh."""
    seen = reading(kind=kind, age=age)
    assert (seen.temporal_match, seen.live_eligible) == (match, False)


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ({"kind": SignalKind.FORECAST}, "not_measured"),
        ({"kind": SignalKind.FALLBACK}, "not_measured"),
        ({"estimated": True}, "estimated"),
        ({"gco2": math.nan}, "not_a_number"),
        ({"gco2": math.inf}, "not_a_number"),
        ({"gco2": -math.inf}, "not_a_number"),
        ({"gco2": -1.0}, "not_a_number"),
        ({"gco2": -1e-9}, "not_a_number"),
        ({"proxy_share": 0.2501}, "proxy_share"),
        ({"proxy_share": 1.0}, "proxy_share"),
        ({"proxy_share": math.nan}, "proxy_share"),
        ({"proxy_share": 0.4501, "max_proxy_share": 0.45}, "proxy_share"),
        ({"age": 181}, "stale"),
        ({"age": -6}, "future_dated"),
    ],
)
def test_each_fault_alone_keeps_a_signal_from_deciding(members: dict[str, Any], why: str) -> None:
    """Every condition of live-eligibility is needed, and the reading says which one failed."""
    seen = reading(**members)
    assert (seen.ineligible, seen.live_eligible) == (why, False)


@pytest.mark.parametrize(
    "members",
    [
        {"gco2": 0.0},
        {"gco2": 1200.0},
        {"proxy_share": 0.0},
        {"proxy_share": 0.25},
        {"proxy_share": 0.45, "max_proxy_share": 0.45, "zone": "DE_LU"},
        {"proxy_share": None},
    ],
)
def test_at_the_limit_a_signal_may_decide(members: dict[str, Any]) -> None:
    """Zero is a value, and a share up to the zone's own bar is allowed (0.25 unless the zone has another)."""
    assert reading(**members).live_eligible


_SIGNALS = st.builds(
    signal,
    st.floats() | st.sampled_from((0.0, -0.0, 12.0)),
    age=st.floats(-20_000, 20_000) | st.sampled_from((-5.0, 0.0, 15.0, 60.0, 180.0)),
    kind=st.sampled_from(SignalKind),
    estimated=st.booleans(),
    proxy_share=st.none() | st.floats(0, 1) | st.sampled_from((0.25, 0.45, math.nan)),
    max_proxy_share=st.sampled_from((0.25, 0.45)),
    fetched_at=(st.floats(-20_000, 20_000) | st.sampled_from((-5.0, 0.0, 15.0))).map(
        lambda minutes: NOW - timedelta(minutes=minutes)
    ),
    max_age_minutes=st.sampled_from((0.5, 15.0, 30.0, 180.0)),
)


@settings(max_examples=200, deadline=None)
@given(_SIGNALS)
def test_live_eligibility_is_the_contracts_formula(given_signal: GridSignal) -> None:
    """Measured, not estimated, within the limit, never five minutes ahead, share within the bar, finite and >= 0."""
    seen = read_at(given_signal, NOW)
    elapsed = NOW - given_signal.observed_at
    share = given_signal.proxy_share
    assert seen.live_eligible == (
        given_signal.kind == "measured"
        and not given_signal.estimated
        and timedelta(minutes=-5) <= elapsed <= timedelta(minutes=given_signal.max_age_minutes)
        and given_signal.observed_at - given_signal.fetched_at <= timedelta(minutes=5)
        and (share is None or share <= given_signal.max_proxy_share)
        and math.isfinite(given_signal.gco2_per_kwh)
        and given_signal.gco2_per_kwh >= 0
    )
    assert seen.age_minutes == pytest.approx(max(0.0, elapsed / timedelta(minutes=1)))
    assert seen.live_eligible == (seen.ineligible is None)
    if seen.live_eligible:
        assert seen.temporal_match in {"live_window", "fresh"}
    assert seen.signal is given_signal
    assert seen.read_at == NOW


@settings(max_examples=150, deadline=None)
@given(_SIGNALS, st.floats(0, 20_000), st.floats(0, 20_000))
def test_a_signal_only_ages(given_signal: GridSignal, first: float, later: float) -> None:
    """Age grows with the instant, never back, and what has become stale never decides again."""
    earlier, after = (NOW + timedelta(minutes=minutes) for minutes in sorted((first, later)))
    before, now = read_at(given_signal, earlier), read_at(given_signal, after)
    assert now.age_minutes >= before.age_minutes
    if before.temporal_match is TemporalMatch.STALE:
        assert now.temporal_match is TemporalMatch.STALE
        assert not now.live_eligible


def test_equal_signals_at_equal_instants_are_equal_readings() -> None:
    """A reading is a value, and an instant at another offset is the same instant."""
    oslo = NOW.astimezone(timezone(timedelta(hours=1)))
    assert reading(12.0, age=3) == reading(12.0, age=3)
    assert read_at(signal(12.0, age=3), oslo) == reading(12.0, age=3)
    assert read_at(signal(observed_at=oslo), NOW).age_minutes == 0.0


def test_a_signal_cannot_be_stamped_anew() -> None:
    """A signal never changes; only its age does."""
    with pytest.raises(FrozenInstanceError):
        signal().observed_at = NOW  # type: ignore[misc]


def test_an_instant_without_an_offset_is_refused_at_birth() -> None:
    """A naive time could be of any zone, so a source cannot make such a signal."""
    naive = datetime(2026, 11, 22, 10, 0)  # noqa: DTZ001 (what is tested)
    with pytest.raises(ValueError, match="offset"):
        signal(observed_at=naive)
    assert signal(observed_at=naive.replace(tzinfo=UTC)).observed_at.tzinfo is UTC


# ---- methods


@pytest.mark.parametrize(
    ("method", "text"),
    [
        (LIFECYCLE, "production/lifecycle/average/ar5_v1"),
        (
            Method(accounting="consumption", basis="direct", kind="marginal", factor_set=None),
            "consumption/direct/marginal/-",
        ),
        (Method(factor_set="own"), "unknown/unknown/unknown/own"),
        (Method(basis="lifecycle"), "unknown/lifecycle/unknown/-"),
        (DECLARED, "declared"),
        (Method(), "declared"),
    ],
)
def test_a_method_is_told_in_one_string(method: Method, text: str) -> None:
    """Accounting, basis, kind and factor set; `declared` where nothing is known."""
    assert str(method) == text


@pytest.mark.parametrize(
    "other",
    [
        replace(LIFECYCLE, accounting="consumption"),
        replace(LIFECYCLE, basis="direct"),
        replace(LIFECYCLE, kind="marginal"),
        replace(LIFECYCLE, factor_set="ar5_v2"),
        replace(LIFECYCLE, factor_set=None),
        DECLARED,
    ],
)
def test_methods_are_equal_only_in_every_part(other: Method) -> None:
    """One part apart is another method; `declared` equals only itself."""
    assert other != LIFECYCLE
    assert str(other) != str(LIFECYCLE)
    assert replace(LIFECYCLE) == LIFECYCLE
