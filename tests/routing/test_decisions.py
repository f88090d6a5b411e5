"""Which region is tried first, which next and why: every row of the decision table, and the rules of the live ranking."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from grid.samples import DIRECT, LIFECYCLE, NOW, reading
from routing.cases import (
    CARBON_AWARE,
    DEFAULT,
    FSN,
    GRA,
    ISL,
    MODEL,
    OTHER_MODEL,
    PAR_1,
    PAR_2,
    RBX,
    RULES,
    SERVING,
    STO,
    TABLE,
    attempt,
    candidates,
)
from vetted_mw.grid.signal import DECLARED, Method, SignalKind
from vetted_mw.routing.decision import decide, settle
from vetted_mw.routing.options import Options
from vetted_mw.routing.values import DecisionMode, DecisionReason, Rules

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vetted_mw.grid.signal import SignalReading
    from vetted_mw.routing.decided import Decision

LIVE = {"FR": 58.0, "SE_3": 12.0, "IS": 18.0}
DOWN = {"degraded": True}
FULL = {"saturated": True}
UNCONFIGURED = {"configured": False}
PIN = Options(region=STO)
PAIR = Options(region=STO, secondary_region=ISL)


def test_modes_and_reasons_are_exactly_the_words_of_the_table() -> None:
    """The enumerations are closed: every word is in a row of the table and every row's word is one."""
    assert {mode.value for mode in DecisionMode} == {mode for _, mode, _ in TABLE}
    assert {reason.value for reason in DecisionReason} == {reason for _, _, reason in TABLE}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One way to a row of the table; without attempts the first region of the order serves."""

    row: tuple[str, str, str]
    region: str | None
    facts: Mapping[str, Mapping[str, Any]] | None = None
    everywhere: Mapping[str, Any] | None = None
    signals: Mapping[str, Any] | None = None
    options: Options = DEFAULT
    rules: Rules = RULES
    failed: tuple[tuple[str, str], ...] = ()
    chosen_by_signal: bool = False


ROWS = (
    Row(row=("eu_preferred", "preferred", "preferred_available"), region=PAR_1),
    Row(row=("eu_preferred", "preferred", "preferred_available"), region=PAR_1, signals=LIVE),
    Row(row=("eu_preferred", "failover", "preferred_degraded"), region=PAR_2, facts={PAR_1: DOWN}),
    Row(row=("eu_preferred", "failover", "preferred_degraded"), region=GRA, facts={PAR_1: DOWN, PAR_2: FULL}),
    Row(row=("eu_preferred", "failover", "preferred_saturated"), region=PAR_2, facts={PAR_1: FULL}),
    Row(
        row=("eu_preferred", "failover", "preferred_model_unavailable"),
        region=PAR_2,
        facts={PAR_1: {"models": frozenset({OTHER_MODEL})}},
    ),
    Row(
        row=("eu_preferred", "failover", "preferred_over_latency_budget"),
        region=GRA,
        facts={PAR_1: {"network_p95_ms": 51.0}},
        options=Options(latency_budget_ms=50),
    ),
    Row(
        row=("eu_preferred", "failover", "preferred_not_configured"), region=PAR_2, facts={PAR_1: {"configured": False}}
    ),
    Row(
        row=("eu_preferred", "failover", "preferred_not_configured"), region=PAR_2, facts={PAR_1: {"inference": False}}
    ),
    Row(
        row=("eu_preferred", "failover", "preferred_not_allowed"),
        region=PAR_2,
        rules=replace(RULES, allowed_regions=frozenset({PAR_2, GRA})),
    ),
    Row(row=("eu_preferred", "failover", "attempt_failed"), region=PAR_2, failed=((PAR_1, "upstream_error"),)),
    Row(row=("eu_preferred", "failover", "attempt_failed"), region=PAR_2, failed=((PAR_1, "not_admitted"),)),
    Row(
        row=("eu_preferred", "failover", "attempt_failed"),
        region=GRA,
        facts={PAR_1: FULL},
        failed=((PAR_2, "connect_error"),),
    ),
    Row(row=("pinned", "pinned", "pinned_region_available"), region=STO, options=PIN),
    Row(row=("pinned", "pinned", "pinned_region_available"), region=STO, options=PAIR, signals=LIVE),
    Row(row=("pinned", "failover", "documented_secondary"), region=ISL, options=PAIR, facts={STO: DOWN}),
    Row(row=("pinned", "failover", "documented_secondary"), region=ISL, options=PAIR, failed=((STO, "idle_timeout"),)),
    Row(row=("pinned", "failover", "documented_secondary"), region=ISL, options=PAIR, failed=((STO, "not_admitted"),)),
    Row(
        row=("lowest_carbon", "live", "lowest_live_intensity"),
        region=STO,
        options=CARBON_AWARE,
        signals=LIVE,
        chosen_by_signal=True,
    ),
    Row(
        row=("lowest_carbon", "live", "within_tie_band"),
        region=ISL,
        options=CARBON_AWARE,
        signals={"SE_3": 12.0, "IS": 18.0},
        rules=replace(RULES, tie_band_gco2_per_kwh=6.0, default_order=(ISL, STO)),
        chosen_by_signal=True,
    ),
    Row(
        row=("lowest_carbon", "live", "only_live_candidate"),
        region=ISL,
        options=CARBON_AWARE,
        signals={"IS": 18.0},
        chosen_by_signal=True,
    ),
    Row(
        row=("lowest_carbon", "failover", "attempt_failed"),
        region=ISL,
        options=CARBON_AWARE,
        signals=LIVE,
        failed=((STO, "first_byte_timeout"),),
        chosen_by_signal=True,
    ),
    Row(
        row=("lowest_carbon", "failover", "attempt_failed"),
        region=PAR_1,
        options=CARBON_AWARE,
        signals=LIVE,
        failed=((STO, "not_admitted"), (ISL, "upstream_error")),
        chosen_by_signal=True,
    ),
    Row(
        row=("lowest_carbon", "failover", "live_candidates_exhausted"),
        region=PAR_1,
        options=CARBON_AWARE,
        signals={"SE_3": 12.0, "IS": 18.0},
        failed=((STO, "upstream_error"), (ISL, "upstream_error")),
    ),
    Row(
        row=("lowest_carbon", "degraded", "degraded_no_operational_live_signal"),
        region=PAR_1,
        options=CARBON_AWARE,
    ),
    Row(
        row=("lowest_carbon", "degraded", "degraded_no_operational_live_signal"),
        region=PAR_2,
        options=CARBON_AWARE,
        failed=((PAR_1, "upstream_cut"),),
    ),
    Row(
        row=("lowest_carbon", "degraded", "degraded_no_operational_live_signal"),
        region=PAR_2,
        options=Options(),
        rules=replace(RULES, default_carbon_aware=True),
        facts={PAR_1: DOWN},
    ),
    Row(row=("pinned", "unavailable", "pinned_region_unavailable"), region=None, options=PIN, facts={STO: DOWN}),
    Row(row=("pinned", "unavailable", "pinned_region_unavailable"), region=None, options=PIN, facts={STO: FULL}),
    Row(
        row=("pinned", "unavailable", "pinned_region_unavailable"),
        region=None,
        options=PAIR,
        failed=((STO, "saturated"), (ISL, "not_admitted")),
    ),
    Row(row=("eu_preferred", "unavailable", "no_region_available"), region=None, everywhere=DOWN),
    Row(
        row=("lowest_carbon", "unavailable", "no_region_available"), region=None, everywhere=DOWN, options=CARBON_AWARE
    ),
    Row(
        row=("lowest_carbon", "unavailable", "no_region_available"),
        region=None,
        facts={PAR_1: DOWN, PAR_2: DOWN, GRA: DOWN},
        options=CARBON_AWARE,
    ),
    Row(row=("eu_preferred", "unavailable", "all_regions_saturated"), region=None, everywhere=FULL),
    Row(
        row=("lowest_carbon", "unavailable", "all_regions_saturated"),
        region=None,
        everywhere=FULL,
        options=CARBON_AWARE,
    ),
    Row(
        row=("eu_preferred", "unavailable", "all_regions_saturated"),
        region=None,
        failed=((PAR_1, "saturated"), (PAR_2, "not_admitted"), (GRA, "saturated")),
    ),
    Row(
        row=("eu_preferred", "unavailable", "attempts_exhausted"),
        region=None,
        failed=((PAR_1, "saturated"), (PAR_2, "upstream_error"), (GRA, "not_admitted")),
    ),
    Row(
        row=("lowest_carbon", "unavailable", "attempts_exhausted"),
        region=None,
        options=CARBON_AWARE,
        signals=LIVE,
        failed=((STO, "upstream_error"), (ISL, "answer_timeout"), (PAR_1, "invalid_response")),
    ),
    Row(
        row=("lowest_carbon", "unavailable", "attempts_exhausted"),
        region=None,
        options=CARBON_AWARE,
        failed=((PAR_1, "upstream_error"), (PAR_2, "upstream_error"), (GRA, "upstream_error")),
    ),
    Row(
        row=("eu_preferred", "unavailable", "model_not_available"),
        region=None,
        everywhere={"models": frozenset({OTHER_MODEL})},
    ),
    Row(
        row=("pinned", "unavailable", "model_not_available"),
        region=None,
        options=PAIR,
        facts={STO: {"models": frozenset()}, ISL: {"models": frozenset({OTHER_MODEL})}},
    ),
)


def _decided(case: Row) -> Decision:
    found = candidates(case.facts, signals=case.signals, everywhere=case.everywhere)
    return decide(case.options, MODEL, found, NOW, rules=case.rules)


def test_the_cases_below_reach_every_row_of_the_table() -> None:
    """No row of the contract goes without a case."""
    reached = {
        (("any" if mode == "unavailable" else policy), mode, reason) for policy, mode, reason in (c.row for c in ROWS)
    }
    assert reached == set(TABLE)


@pytest.mark.parametrize("case", ROWS, ids=lambda case: f"{case.row[0]}-{case.row[2]}-{case.region}")
def test_mode_and_reason_tell_what_finally_happened(case: Row) -> None:
    """Each situation ends in its row, with the region that served and the signal that chose it or none."""
    decision = _decided(case)
    attempts = [attempt(code, outcome) for code, outcome in case.failed]
    if case.region is not None:
        attempts.append(attempt(case.region, "success", status=200))
    settled = settle(decision, attempts, serving=case.region)
    assert (decision.policy, settled.mode, settled.reason) == case.row
    assert settled.region == case.region
    assert list(decision.order)[: len(attempts)] == [record.region for record in attempts]
    if not case.chosen_by_signal:
        assert settled.operational is None
    else:
        assert settled.operational is not None
        assert settled.operational.live_eligible
        assert settled.operational.signal.zone == {STO: "SE_3", ISL: "IS"}.get(str(case.region), "FR")


@pytest.mark.parametrize("case", [c for c in ROWS if c.region is None and not c.failed], ids=lambda c: c.row[2])
def test_an_unavailable_decision_has_nothing_to_try(case: Row) -> None:
    """What cannot be served is decided so, with an empty order."""
    decision = _decided(case)
    assert decision.order == decision.live == ()
    assert decision.mode == "unavailable"


@pytest.mark.parametrize(
    "case",
    [
        Row(row=("eu_preferred", "preferred", "preferred_available"), region=PAR_1),
        Row(row=("pinned", "pinned", "pinned_region_available"), region=STO, options=PAIR),
        Row(
            row=("lowest_carbon", "live", "lowest_live_intensity"),
            region=STO,
            options=CARBON_AWARE,
            signals=LIVE,
            chosen_by_signal=True,
        ),
    ],
    ids=lambda case: case.row[0],
)
def test_a_region_that_found_the_callers_own_fault_is_the_region_that_answered(case: Row) -> None:
    """A 4xx about the request itself is an answer: mode, reason and region are those of the region that gave it."""
    decision = _decided(case)
    settled = settle(decision, [attempt(str(case.region), "caller_error", status=422)], serving=None)
    assert (decision.policy, settled.mode, settled.reason) == case.row
    assert settled.region == case.region
    assert (settled.operational is not None) == case.chosen_by_signal


def test_a_callers_fault_found_after_a_failover_is_told_as_a_failover() -> None:
    """The second region answered with the caller's fault, so the trace names the second."""
    decision = decide(Options(), MODEL, candidates(), NOW, rules=RULES)
    records = [attempt(PAR_1, "upstream_error", status=500), attempt(PAR_2, "caller_error", status=400)]
    settled = settle(decision, records, serving=None)
    assert (settled.mode, settled.reason, settled.region) == ("failover", "attempt_failed", PAR_2)


def test_a_walk_that_the_time_budget_ended_before_any_attempt_is_exhausted() -> None:
    """With an order and no attempt nothing was saturated, so it is `attempts_exhausted`."""
    settled = settle(decide(Options(), MODEL, candidates(), NOW, rules=RULES), [], serving=None)
    assert (settled.mode, settled.reason, settled.region) == ("unavailable", "attempts_exhausted", None)


# ---- orders


def test_the_default_order_is_walked_and_nothing_else() -> None:
    """`eu_preferred` tries the configured order, skipping what is not eligible, and never leaves it."""
    decision = decide(Options(), MODEL, candidates({PAR_2: FULL}, signals=LIVE), NOW, rules=RULES)
    assert decision.order == (PAR_1, GRA)


def test_a_pin_has_no_second_and_a_secondary_only_that_one() -> None:
    """A pin's order is itself, with the documented secondary after it, in that order."""
    assert decide(PIN, MODEL, candidates(), NOW, rules=RULES).order == (STO,)
    assert decide(PAIR, MODEL, candidates(), NOW, rules=RULES).order == (STO, ISL)
    swapped = Options(region=ISL, secondary_region=STO)
    assert decide(swapped, MODEL, candidates(), NOW, rules=RULES).order == (ISL, STO)


@pytest.mark.parametrize(
    "facts",
    [{"configured": False}, {"inference": False}, DOWN, FULL, {"network_p95_ms": 51.0}, {"network_p95_ms": None}],
    ids=str,
)
def test_whatever_keeps_a_pin_from_answering_leaves_it_unavailable(facts: dict[str, Any]) -> None:
    """Not configured, not for inference, degraded, saturated or over the budget: no other region is ever taken."""
    options = Options(region=STO, latency_budget_ms=50)
    decision = decide(options, MODEL, candidates({STO: {"network_p95_ms": 10.0} | facts}), NOW, rules=RULES)
    assert (decision.mode, decision.reason, decision.order) == ("unavailable", "pinned_region_unavailable", ())


def test_live_candidates_come_first_by_intensity_then_the_rest_of_the_default_order() -> None:
    """The lowest first, the next lowest after it, and the regions without a live signal at the end."""
    found = candidates(signals={"SE_3": 12.0, "IS": 18.0})
    decision = decide(CARBON_AWARE, MODEL, found, NOW, rules=replace(RULES, default_order=(PAR_2, GRA)))
    assert decision.order == (STO, ISL, PAR_2, GRA)
    assert decision.live == (STO, ISL)
    assert {code: seen.signal.gco2_per_kwh for code, seen in decision.readings.items()} == {STO: 12.0, ISL: 18.0}


def test_regions_of_equal_intensity_stand_in_preference_order() -> None:
    """The default order decides among equals, then the catalogue's, and no band is needed for it."""
    rules = replace(RULES, default_order=(GRA, PAR_2))
    decision = decide(CARBON_AWARE, MODEL, candidates(signals={"FR": 58.0}), NOW, rules=rules)
    assert decision.order == (GRA, PAR_2, PAR_1, RBX)
    assert decision.reason == "lowest_live_intensity"


def test_a_gateway_region_turned_on_competes_like_any_other() -> None:
    """The whole catalogue is looked at, the default order or not."""
    found = candidates({FSN: {"configured": True, "inference": True}}, signals=LIVE | {"DE_LU": 5.0})
    assert decide(CARBON_AWARE, MODEL, found, NOW, rules=RULES).order[0] == FSN


@pytest.mark.parametrize(
    ("facts", "first"),
    [
        ({STO: DOWN}, ISL),
        ({STO: FULL}, ISL),
        ({STO: {"models": frozenset({OTHER_MODEL})}}, ISL),
        ({STO: {"configured": False}}, ISL),
        ({STO: DOWN, ISL: FULL}, PAR_1),
    ],
    ids=str,
)
def test_the_lowest_of_those_that_can_serve_is_chosen(facts: dict[str, dict[str, Any]], first: str) -> None:
    """A greener grid is of no use where the model, the health or the capacity is missing."""
    assert decide(CARBON_AWARE, MODEL, candidates(facts, signals=LIVE), NOW, rules=RULES).order[0] == first


def test_a_latency_budget_narrows_the_live_candidates() -> None:
    """Stockholm at p95 70 and Iceland at 110 are over 60 ms, so Paris at 45 is the lowest that remains."""
    options = replace(CARBON_AWARE, latency_budget_ms=60)
    assert decide(options, MODEL, candidates(signals=LIVE), NOW, rules=RULES).order == (PAR_1, GRA)


# ---- what may decide


@pytest.mark.parametrize(
    "seen",
    [
        None,
        reading(1.0, zone="SE_3", kind=SignalKind.FORECAST),
        reading(1.0, zone="SE_3", kind=SignalKind.FALLBACK),
        reading(1.0, zone="SE_3", age=180.1),
        reading(1.0, zone="SE_3", age=-5.1),
        reading(1.0, zone="SE_3", estimated=True),
        reading(1.0, zone="SE_3", proxy_share=0.251),
        reading(-1.0, zone="SE_3"),
        reading(float("nan"), zone="SE_3"),
    ],
)
def test_without_any_live_eligible_signal_the_default_order_serves_degraded(seen: SignalReading | None) -> None:
    """A forecast, an annual, old, early, estimated, proxy-heavy or impossible value is no signal: said so openly."""
    decision = decide(CARBON_AWARE, MODEL, candidates(signals={"SE_3": seen}), NOW, rules=RULES)
    assert (decision.mode, decision.reason) == ("degraded", "degraded_no_operational_live_signal")
    assert decision.order == (PAR_1, PAR_2, GRA)
    assert (decision.live, decision.readings, decision.method) == ((), {}, None)


def test_a_live_signal_of_a_region_that_failed_another_check_is_no_live_signal() -> None:
    """Signals are asked only of regions that passed all other checks: Stockholm's does not count while it is down."""
    decision = decide(CARBON_AWARE, MODEL, candidates({STO: DOWN}, signals={"SE_3": 12.0}), NOW, rules=RULES)
    assert decision.mode == "degraded"


# ---- methods

_OTHER = Method(accounting="consumption", basis="lifecycle", kind="average", factor_set=None)


@pytest.mark.parametrize(
    ("methods", "rules", "order", "mismatched"),
    [
        # two zones of one method outnumber a lower value alone in its method
        ({"FR": LIFECYCLE, "SE_3": DIRECT, "IS": LIFECYCLE}, RULES, (ISL, PAR_1, PAR_2, GRA, RBX), {STO}),
        # zones count, not regions: four French regions are one zone, and two other zones outnumber it
        (
            {"FR": DIRECT, "SE_3": LIFECYCLE, "IS": LIFECYCLE},
            RULES,
            (STO, ISL, PAR_1, PAR_2, GRA),
            {PAR_1, PAR_2, GRA, RBX},
        ),
        # one zone each: the group with the region earliest in preference order
        ({"FR": DIRECT, "SE_3": LIFECYCLE, "IS": _OTHER}, RULES, (PAR_1, PAR_2, GRA, RBX), {STO, ISL}),
        (
            {"FR": DIRECT, "SE_3": LIFECYCLE, "IS": _OTHER},
            replace(RULES, default_order=(ISL, PAR_1)),
            (ISL, PAR_1),
            {STO, PAR_1, PAR_2, GRA, RBX},
        ),
        # preference goes on with the catalogue's order: Stockholm stands before Iceland there
        ({"SE_3": LIFECYCLE, "IS": _OTHER}, RULES, (STO, PAR_1, PAR_2, GRA), {ISL}),
        # `declared` equals only itself
        ({"FR": DECLARED, "SE_3": DECLARED, "IS": LIFECYCLE}, RULES, (STO, PAR_1, PAR_2, GRA, RBX), {ISL}),
        # methods that differ in one part are different
        (
            {"FR": LIFECYCLE, "SE_3": replace(LIFECYCLE, factor_set="ar5_v2"), "IS": LIFECYCLE},
            RULES,
            (ISL, PAR_1, PAR_2, GRA, RBX),
            {STO},
        ),
    ],
)
def test_signals_compete_only_within_the_method_of_most_zones(
    methods: dict[str, Method], rules: Rules, order: tuple[str, ...], mismatched: set[str]
) -> None:
    """Most distinct zones, then the region earliest in preference order; the others are told `method_mismatch`."""
    seen = {zone: reading(LIVE[zone], zone=zone, method=method) for zone, method in methods.items()}
    decision = decide(CARBON_AWARE, MODEL, candidates(signals=seen), NOW, rules=rules)
    assert decision.order == order
    assert {v.candidate.region.code for v in decision.verdicts if v.rejected == "method_mismatch"} == mismatched
    assert decision.mode == "live"
    assert decision.method == str(methods[{STO: "SE_3", ISL: "IS"}.get(order[0], "FR")])


def test_the_shared_method_is_told_only_when_signals_took_part() -> None:
    """The trace's `method` names the one method of the live values; other policies have none."""
    live = candidates(signals=LIVE)
    assert decide(CARBON_AWARE, MODEL, live, NOW, rules=RULES).method == "production/lifecycle/average/ar5_v1"
    assert decide(Options(), MODEL, live, NOW, rules=RULES).method is None
    assert decide(PIN, MODEL, live, NOW, rules=RULES).method is None


# ---- tie band


@pytest.mark.parametrize(
    ("band", "ratio", "signals", "first", "reason", "told"),
    [
        (0.0, 0.0, {"SE_3": 12.0, "IS": 12.1}, STO, "lowest_live_intensity", None),
        (0.0, 0.0, {"SE_3": 12.0, "IS": 12.0}, ISL, "lowest_live_intensity", None),
        (6.0, 0.0, {"SE_3": 12.0, "IS": 18.0}, ISL, "within_tie_band", 6.0),
        (5.9, 0.0, {"SE_3": 12.0, "IS": 18.0}, STO, "lowest_live_intensity", 5.9),
        (6.0, 0.0, {"SE_3": 18.0, "IS": 12.0}, ISL, "lowest_live_intensity", 6.0),
        (6.0, 0.0, {"SE_3": 12.0, "IS": 12.0}, ISL, "lowest_live_intensity", 6.0),
        (0.0, 0.5, {"SE_3": 12.0, "IS": 18.0}, ISL, "within_tie_band", 6.0),
        (0.0, 0.4, {"SE_3": 12.0, "IS": 18.0}, STO, "lowest_live_intensity", 4.8),
        (10.0, 0.15, {"SE_3": 12.0, "IS": 18.0}, ISL, "within_tie_band", 10.0),
        (1.0, 0.5, {"SE_3": 12.0, "IS": 18.0}, ISL, "within_tie_band", 6.0),
        (6.0, 0.0, {"IS": 18.0}, ISL, "only_live_candidate", 6.0),
        (0.0, 0.5, {"SE_3": 0.0, "IS": 0.1}, STO, "lowest_live_intensity", 0.0),
    ],
)
def test_within_the_band_preference_decides_and_the_reason_says_whether_it_mattered(
    band: float, ratio: float, signals: dict[str, float], first: str, reason: str, told: float | None
) -> None:
    """Iceland is preferred here: it wins inside the wider of the two bands, `within_tie_band` only over a lower value."""
    rules = Rules(default_order=(ISL, STO), tie_band_gco2_per_kwh=band, tie_band_ratio=ratio)
    decision = decide(CARBON_AWARE, MODEL, candidates(signals=signals), NOW, rules=rules)
    assert (decision.order[0], decision.reason) == (first, reason)
    assert decision.tie_band_gco2_per_kwh == pytest.approx(told)


def test_beyond_the_band_the_next_lowest_follows() -> None:
    """Inside the band preference order, outside it intensity."""
    rules = replace(RULES, tie_band_gco2_per_kwh=10.0, default_order=(ISL, PAR_1))
    found = candidates(signals={"FR": 58.0, "SE_3": 12.0, "IS": 18.0})
    assert decide(CARBON_AWARE, MODEL, found, NOW, rules=rules).order == (ISL, STO, PAR_1, PAR_2, GRA, RBX)


def test_a_band_is_told_only_where_it_had_something_to_tie() -> None:
    """A set band is no part of a decision that no signal made."""
    rules = replace(RULES, tie_band_gco2_per_kwh=10.0)
    for options in (Options(), PIN, CARBON_AWARE):
        assert decide(options, MODEL, candidates(), NOW, rules=rules).tie_band_gco2_per_kwh is None


# ---- nobody can serve

_ELSEWHERE: dict[str, object] = {"models": frozenset({OTHER_MODEL})}


@pytest.mark.parametrize(
    ("options", "facts", "reason"),
    [
        # every region looked at lacks the model
        (Options(), dict.fromkeys((PAR_1, PAR_2, GRA), _ELSEWHERE), "model_not_available"),
        (CARBON_AWARE, dict.fromkeys(SERVING, _ELSEWHERE), "model_not_available"),
        (PIN, {STO: _ELSEWHERE}, "model_not_available"),
        (PAIR, {STO: _ELSEWHERE, ISL: _ELSEWHERE}, "model_not_available"),
        # one that is not configured lists nothing
        (Options(), {PAR_1: {"configured": False}, PAR_2: _ELSEWHERE, GRA: _ELSEWHERE}, "model_not_available"),
        # one that serves it is down: waiting may help
        (Options(), {PAR_1: DOWN, PAR_2: _ELSEWHERE, GRA: _ELSEWHERE}, "no_region_available"),
        (PAIR, {STO: _ELSEWHERE, ISL: DOWN}, "pinned_region_unavailable"),
        (PAIR, {STO: FULL, ISL: _ELSEWHERE}, "pinned_region_unavailable"),
        # all that serve it are saturated
        (Options(), {PAR_1: FULL, PAR_2: _ELSEWHERE, GRA: _ELSEWHERE}, "all_regions_saturated"),
        (Options(), {PAR_1: FULL, PAR_2: {"configured": False}, GRA: _ELSEWHERE}, "all_regions_saturated"),
        (CARBON_AWARE, dict.fromkeys(SERVING, FULL), "all_regions_saturated"),
        # saturated and down: not all are saturated
        (Options(), {PAR_1: FULL, PAR_2: DOWN, GRA: FULL}, "no_region_available"),
        # a saturated pin is 503, never 429
        (PAIR, {STO: FULL, ISL: FULL}, "pinned_region_unavailable"),
        # nothing configured at all
        (Options(), dict.fromkeys(SERVING, UNCONFIGURED), "no_region_available"),
        (PIN, {STO: {"configured": False}}, "pinned_region_unavailable"),
    ],
)
def test_what_is_told_when_no_region_can_serve(options: Options, facts: dict[str, dict[str, Any]], reason: str) -> None:
    """A model nobody lists, capacity that all lack, and everything else are three different answers."""
    decision = decide(options, MODEL, candidates(facts), NOW, rules=RULES)
    assert (decision.mode, decision.reason, decision.order) == ("unavailable", reason, ())


def test_the_regions_that_do_serve_a_model_are_known_to_the_decision() -> None:
    """Outside the order two regions list the model; those that policy excludes, or that cannot serve, are not named."""
    facts = dict.fromkeys((PAR_1, PAR_2, GRA), _ELSEWHERE) | {
        STO: {"models": frozenset({MODEL})},
        RBX: {"models": frozenset({MODEL})},
        ISL: {"configured": False},
    }
    anyone = decide(Options(), MODEL, candidates(facts), NOW, rules=RULES)
    french = decide(Options(), MODEL, candidates(facts), NOW, rules=replace(RULES, allowed_countries=frozenset({"FR"})))
    assert anyone.serving_model == (STO, RBX)
    assert french.serving_model == (RBX,)


@pytest.mark.parametrize(
    ("facts", "wait"),
    [
        (dict.fromkeys((PAR_1, PAR_2, GRA), FULL), None),
        ({PAR_1: FULL | {"retry_after": 30.0}, PAR_2: FULL | {"retry_after": 7.0}, GRA: FULL}, 7.0),
        ({PAR_1: FULL | {"retry_after": 30.0}, PAR_2: DOWN | {"retry_after": 9.0}, GRA: DOWN}, 9.0),
        (
            {PAR_1: FULL | {"retry_after": 30.0}, PAR_2: FULL, GRA: FULL, STO: FULL | {"retry_after": 1.0}},
            30.0,
        ),
    ],
)
def test_the_wait_is_that_of_the_soonest_region_looked_at(facts: dict[str, dict[str, Any]], wait: float | None) -> None:
    """Only regions the policy looks at count, and one that knows no time does not shorten it."""
    assert decide(Options(), MODEL, candidates(facts), NOW, rules=RULES).retry_after == wait


def test_a_decision_carries_its_instant() -> None:
    """`requested_at` is the instant the decision was given, the same everywhere in one answer."""
    assert decide(Options(), MODEL, candidates(), NOW, rules=RULES).requested_at == NOW
