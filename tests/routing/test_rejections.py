"""Why a region is not a candidate: the closed list, each reason, and that the first check that fails is the one told."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

import pytest

from grid.samples import DIRECT, NOW, reading
from routing.cases import (
    CARBON_AWARE,
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
    candidates,
)
from vetted_mw.grid.signal import SignalKind
from vetted_mw.routing.decision import decide
from vetted_mw.routing.options import Options
from vetted_mw.routing.values import AttemptOutcome, Rejection, RoutePolicy, Rules

if TYPE_CHECKING:
    from vetted_mw.routing.decided import Decision

LIVE = {"FR": 58.0, "SE_3": 12.0, "IS": 18.0}


def rejected(decision: Decision) -> dict[str, str | None]:
    """Return code -> reason of every region."""
    return {v.candidate.region.code: None if v.rejected is None else v.rejected.value for v in decision.verdicts}


def test_the_reasons_are_the_contracts_in_the_order_of_its_checks() -> None:
    """Eleven words, no more, and their order is the precedence."""
    assert [reason.value for reason in Rejection] == [
        "not_configured",
        "not_for_inference",
        "policy",
        "outside_policy",
        "model_unavailable",
        "degraded",
        "saturated",
        "latency_budget",
        "no_live_signal",
        "stale_signal",
        "method_mismatch",
    ]


def test_the_route_policies_are_three() -> None:
    """The wire knows these three and no other."""
    assert [policy.value for policy in RoutePolicy] == ["eu_preferred", "pinned", "lowest_carbon"]


def test_the_outcomes_of_an_attempt_are_the_contracts() -> None:
    """Every outcome of the resilience table, and the one of a gateway that is stopped; no other."""
    assert {outcome.value for outcome in AttemptOutcome} == {
        "success",
        "caller_error",
        "saturated",
        "upstream_error",
        "connect_error",
        "tls_error",
        "connect_timeout",
        "first_byte_timeout",
        "idle_timeout",
        "answer_timeout",
        "upstream_cut",
        "invalid_response",
        "not_admitted",
        "client_disconnect",
        "shutting_down",
    }


# Each check of the table: what makes it fail for the region under test, alone.
_FACTS: dict[str, dict[str, Any]] = {
    "not_configured": {"configured": False},
    "not_for_inference": {"inference": False},
    "model_unavailable": {"models": frozenset({OTHER_MODEL})},
    "degraded": {"degraded": True},
    "saturated": {"saturated": True},
    "latency_budget": {"network_p95_ms": 51.0},
}
_BY_RULE = ("policy", "outside_policy")
_HARD = (
    "not_configured",
    "not_for_inference",
    "policy",
    "outside_policy",
    "model_unavailable",
    "degraded",
    "saturated",
    "latency_budget",
)


def _decided(failing: tuple[str, ...], *, options: Options | None = None) -> Decision:
    """Decide over the catalogue where `RBX` (Roubaix) fails the checks named, and only those."""
    facts: dict[str, Any] = {}
    for check in failing:
        facts |= _FACTS.get(check, {})
    order = (PAR_1,) if "outside_policy" in failing else (PAR_1, RBX)
    allowed = frozenset(SERVING) - {RBX} if "policy" in failing else None
    rules = Rules(default_order=order, allowed_regions=allowed)
    chosen = options or Options(latency_budget_ms=50)
    return decide(chosen, MODEL, candidates({RBX: {"network_p95_ms": 50.0} | facts}), NOW, rules=rules)


def test_a_region_that_passes_every_check_has_no_reason() -> None:
    """Eligible means no reason at all."""
    assert rejected(_decided(()))[RBX] is None


@pytest.mark.parametrize("check", _HARD)
def test_each_check_alone_is_the_regions_reason(check: str) -> None:
    """One thing wrong, one reason told, and the region is not in the order."""
    decision = _decided((check,))
    assert rejected(decision)[RBX] == check
    assert RBX not in decision.order


@pytest.mark.parametrize(("first", "later"), list(combinations(_HARD, 2)))
def test_of_two_failing_checks_the_earlier_is_told(first: str, later: str) -> None:
    """The first check of the table that fails is the one reason."""
    assert rejected(_decided((first, later)))[RBX] == first


@pytest.mark.parametrize("check", [check for check in _HARD if check != "outside_policy"])
def test_a_failing_check_comes_before_the_signals(check: str) -> None:
    """Signals are looked at last: a region without one and with another fault is told by the fault."""
    decision = _decided((check,), options=Options(routing=CARBON_AWARE.routing, latency_budget_ms=50))
    assert rejected(decision)[RBX] == check


@pytest.mark.parametrize(
    ("p95", "budget", "reason"),
    [
        (50.0, 50, None),
        (50.1, 50, "latency_budget"),
        (49.9, 50, None),
        (None, 50, "latency_budget"),
        (None, 100_000, "latency_budget"),
        (None, None, None),
        (10_000.0, None, None),
    ],
)
@pytest.mark.parametrize("options", [{}, {"region": RBX}])
def test_a_budget_holds_against_the_known_p95_and_an_unknown_one_fails_it(
    p95: float | None, budget: int | None, reason: str | None, options: dict[str, str]
) -> None:
    """Over the budget or unknown is out, at it is in, and without a budget latency plays no part; pins included."""
    asked = Options(latency_budget_ms=budget, region=options.get("region"))
    rules = Rules(default_order=(RBX,))
    decision = decide(asked, MODEL, candidates({RBX: {"network_p95_ms": p95}}), NOW, rules=rules)
    assert rejected(decision)[RBX] == reason


@pytest.mark.parametrize(
    ("models", "reason"),
    [
        (None, None),
        (frozenset({MODEL}), None),
        (frozenset({MODEL, OTHER_MODEL}), None),
        (frozenset({OTHER_MODEL}), "model_unavailable"),
        (frozenset({MODEL.upper()}), "model_unavailable"),
        (frozenset(), "model_unavailable"),
    ],
)
def test_a_model_list_must_hold_the_model_and_one_not_yet_fetched_serves(
    models: frozenset[str] | None, reason: str | None
) -> None:
    """A list not fetched counts as serving; an empty one serves nothing."""
    decision = decide(Options(), MODEL, candidates({PAR_1: {"models": models}}), NOW, rules=RULES)
    assert rejected(decision)[PAR_1] == reason


def test_a_gateway_region_serves_only_when_the_operator_turns_it_on() -> None:
    """`inference = false` keeps a configured region out; turned on it is a candidate like any other."""
    rules = Rules(default_order=(FSN, PAR_1))
    off = decide(Options(), MODEL, candidates({FSN: {"configured": True}}), NOW, rules=rules)
    on = decide(Options(), MODEL, candidates({FSN: {"configured": True, "inference": True}}), NOW, rules=rules)
    assert (rejected(off)[FSN], off.order[0]) == ("not_for_inference", PAR_1)
    assert (rejected(on)[FSN], on.order[0]) == (None, FSN)


def test_a_pin_puts_every_other_region_outside_policy() -> None:
    """Under a pin the route policy looks at the pin and its secondary, nowhere else."""
    decision = decide(Options(region=STO, secondary_region=ISL), MODEL, candidates(), NOW, rules=RULES)
    told = rejected(decision)
    assert [code for code in SERVING if told[code] is None] == [STO, ISL]
    assert {told[code] for code in (PAR_1, PAR_2, GRA, RBX)} == {"outside_policy"}


def test_carbon_aware_looks_at_the_whole_catalogue() -> None:
    """No region is outside the policy of `lowest_carbon`; the gateway-only ones without upstream are not configured."""
    told = rejected(decide(CARBON_AWARE, MODEL, candidates(signals=LIVE), NOW, rules=RULES))
    assert "outside_policy" not in told.values()
    assert all(told[code] is None for code in SERVING)


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (None, "no_live_signal"),
        (reading(10.0, zone="IS", age=181), "stale_signal"),
        (reading(10.0, zone="IS", kind=SignalKind.FORECAST), "no_live_signal"),
        (reading(10.0, zone="IS", kind=SignalKind.FORECAST, age=9999), "no_live_signal"),
        (reading(10.0, zone="IS", kind=SignalKind.FALLBACK), "no_live_signal"),
        (reading(10.0, zone="IS", estimated=True), "no_live_signal"),
        (reading(10.0, zone="IS", age=-6), "no_live_signal"),
        (reading(10.0, zone="IS", proxy_share=0.26), "no_live_signal"),
        (reading(float("nan"), zone="IS"), "no_live_signal"),
        (reading(-1.0, zone="IS"), "no_live_signal"),
        (reading(10.0, zone="IS", method=DIRECT), "method_mismatch"),
    ],
)
def test_a_signal_that_may_not_decide_keeps_a_region_out_of_the_live_ranking(seen: Any, reason: str) -> None:
    """However low its value: none or not live-eligible, too old, or of another method than the group that competes."""
    decision = decide(CARBON_AWARE, MODEL, candidates(signals={"FR": 58.0, "SE_3": 12.0, "IS": seen}), NOW, rules=RULES)
    assert rejected(decision)[ISL] == reason
    assert decision.mode == "live"
    assert ISL not in decision.live
    assert decision.order[0] == STO


def test_a_tail_region_reached_only_after_the_live_ones_keeps_its_signal_reason() -> None:
    """With some live candidates the others of the order stay in it, last, and still say why they were not ranked."""
    decision = decide(CARBON_AWARE, MODEL, candidates(signals={"SE_3": 12.0}), NOW, rules=RULES)
    assert decision.order == (STO, PAR_1, PAR_2, GRA)
    assert {rejected(decision)[code] for code in (PAR_1, PAR_2, GRA, ISL)} == {"no_live_signal"}


def test_in_a_degraded_decision_only_regions_outside_the_order_carry_a_signal_reason() -> None:
    """The `eu_preferred` tail serves, so its regions are eligible; the rest say what they lacked."""
    old = reading(12.0, zone="SE_3", age=999)
    told = rejected(decide(CARBON_AWARE, MODEL, candidates(signals={"SE_3": old}), NOW, rules=RULES))
    assert [told[code] for code in (PAR_1, PAR_2, GRA)] == [None, None, None]
    assert (told[STO], told[ISL], told[RBX]) == ("stale_signal", "no_live_signal", "no_live_signal")


def test_signals_are_no_matter_outside_carbon_aware_routing() -> None:
    """The default order serves whatever the grid says, and no region carries a signal reason."""
    stale = {zone: reading(1.0, zone=zone, age=9999) for zone in LIVE}
    told = rejected(decide(Options(), MODEL, candidates(signals=stale), NOW, rules=RULES))
    assert [told[code] for code in (PAR_1, PAR_2, GRA)] == [None, None, None]
