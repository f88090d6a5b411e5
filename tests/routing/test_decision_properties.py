"""What holds for every decision, over random catalogues, facts, signals, options and rules."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from grid.samples import NOW, reading
from routing.cases import MODEL, TABLE, attempt, carbon_questions, questions
from vetted_mw.grid.signal import GridSignal, SignalKind, read_at
from vetted_mw.routing.decision import decide, settle
from vetted_mw.routing.trace import build_trace, encode_trace
from vetted_mw.routing.values import AttemptOutcome, Candidate, Rejection, RoutePolicy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vetted_mw.routing.decided import Decision
    from vetted_mw.routing.options import Options
    from vetted_mw.routing.values import Rules

    Question = tuple[tuple[Candidate, ...], Options, Rules]

SIGNAL_REASONS = {Rejection.NO_LIVE_SIGNAL, Rejection.STALE_SIGNAL, Rejection.METHOD_MISMATCH}
many = settings(max_examples=150, deadline=None)


def decided(question: Question) -> Decision:
    found, options, rules = question
    return decide(options, MODEL, found, NOW, rules=rules)


def first_failing(candidate: Candidate, question: Question, policy: RoutePolicy) -> Rejection | None:
    """Walk the contract's table up to the signals."""
    _, options, rules = question
    region = candidate.region
    looked_at: Mapping[RoutePolicy, tuple[str | None, ...]] = {
        RoutePolicy.EU_PREFERRED: rules.default_order,
        RoutePolicy.PINNED: (options.region, options.secondary_region),
        RoutePolicy.LOWEST_CARBON: (region.code,),
    }
    budget = options.latency_budget_ms
    checks = (
        (Rejection.NOT_CONFIGURED, not candidate.configured),
        (Rejection.NOT_FOR_INFERENCE, not region.inference),
        (
            Rejection.POLICY,
            (rules.allowed_regions is not None and region.code not in rules.allowed_regions)
            or (rules.allowed_countries is not None and region.country not in rules.allowed_countries),
        ),
        (Rejection.OUTSIDE_POLICY, region.code not in looked_at[policy]),
        (Rejection.MODEL_UNAVAILABLE, candidate.models is not None and MODEL not in candidate.models),
        (Rejection.DEGRADED, candidate.degraded),
        (Rejection.SATURATED, candidate.saturated),
        (
            Rejection.LATENCY_BUDGET,
            budget is not None and (candidate.network_p95_ms is None or candidate.network_p95_ms > budget),
        ),
    )
    return next((reason for reason, fails in checks if fails), None)


def passing(question: Question, policy: RoutePolicy) -> dict[str, Candidate]:
    return {c.region.code: c for c in question[0] if first_failing(c, question, policy) is None}


def is_live(signal: GridSignal) -> bool:
    """The contract's formula of live-eligibility, at `NOW`."""
    age = (NOW - signal.observed_at).total_seconds() / 60
    return (
        signal.kind is SignalKind.MEASURED
        and not signal.estimated
        and -5 <= age <= signal.max_age_minutes
        and (signal.proxy_share is None or signal.proxy_share <= signal.max_proxy_share)
        and 0 <= signal.gco2_per_kwh < float("inf")
    )


def live_of(found: dict[str, Candidate]) -> dict[str, GridSignal]:
    return {code: c.reading.signal for code, c in found.items() if c.reading is not None and is_live(c.reading.signal)}


@many
@given(questions())
def test_a_pin_never_yields_another_region_than_itself_or_its_secondary(question: Question) -> None:
    """Whatever the grid, the health, the order and the rules: a pinned request's order holds at most those two."""
    options = question[1]
    assume(options.region is not None)
    decision = decided(question)
    assert decision.policy is RoutePolicy.PINNED
    assert decision.order in {
        (),
        (options.region,),
        (options.secondary_region,),
        (options.region, options.secondary_region),
    } - {(None,), (options.region, None)}
    assert decision.live == ()


@many
@given(questions())
def test_every_region_has_one_verdict_and_the_first_failing_check_is_its_reason(question: Question) -> None:
    """Verdicts stand in catalogue order; a failed check is told by the first, a passed region at most by its signal."""
    decision = decided(question)
    assert [verdict.candidate for verdict in decision.verdicts] == list(question[0])
    for verdict in decision.verdicts:
        expected = first_failing(verdict.candidate, question, decision.policy)
        if expected is not None:
            assert verdict.rejected is expected
        elif decision.policy is not RoutePolicy.LOWEST_CARBON:
            assert verdict.rejected is None
        else:
            assert verdict.rejected is None or verdict.rejected in SIGNAL_REASONS
        assert verdict.eligible == (verdict.rejected is None)


@many
@given(questions())
def test_the_order_holds_only_regions_that_passed_and_none_twice(question: Question) -> None:
    """No region that failed a check is ever attempted, every eligible one can be, and none stands twice."""
    decision = decided(question)
    passed = passing(question, decision.policy)
    assert len(set(decision.order)) == len(decision.order)
    assert set(decision.order) <= set(passed)
    eligible = {verdict.candidate.region.code for verdict in decision.verdicts if verdict.eligible}
    assert eligible <= set(decision.order)
    assert (decision.mode == "unavailable") == (decision.order == ())


@many
@given(questions())
def test_outside_the_live_ranking_preference_order_is_the_order(question: Question) -> None:
    """Pin then secondary, or the default order: whoever passed, in that order and complete."""
    options, rules = question[1:]
    decision = decided(question)
    preference = (options.region, options.secondary_region) if options.region else rules.default_order
    passed = passing(question, decision.policy)
    tail = tuple(code for code in preference if code in passed and code not in decision.live)
    assert decision.order == (*decision.live, *tail)


@many
@given(carbon_questions(banded=False))
def test_the_chosen_live_candidate_is_the_minimum_of_its_group(question: Question) -> None:
    """Without a band the order of the live candidates is by intensity, equals in preference order."""
    decision = decided(question)
    assume(decision.live)
    signals = live_of(passing(question, decision.policy))
    values = [signals[code].gco2_per_kwh for code in decision.live]
    assert values == sorted(values)
    codes = [candidate.region.code for candidate in question[0]]
    ranks = {code: n for n, code in enumerate(dict.fromkeys((*question[2].default_order, *codes)))}
    by_value = sorted(decision.live, key=lambda code: (signals[code].gco2_per_kwh, ranks[code]))
    assert list(decision.live) == by_value
    reason = "only_live_candidate" if len(values) == 1 else "lowest_live_intensity"
    assert (decision.mode, decision.reason) == ("live", reason)
    assert decision.tie_band_gco2_per_kwh is None


@many
@given(carbon_questions())
def test_with_a_band_the_chosen_one_lies_within_it_of_the_minimum(question: Question) -> None:
    """The wider of the two bands at the lowest value bounds what preference may cost, and the reason admits it."""
    rules = question[2]
    decision = decided(question)
    assume(decision.live)
    signals = live_of(passing(question, decision.policy))
    lowest = min(signals[code].gco2_per_kwh for code in decision.live)
    chosen = signals[decision.order[0]].gco2_per_kwh
    assert chosen <= lowest + max(rules.tie_band_gco2_per_kwh, rules.tie_band_ratio * lowest)
    assert (decision.reason == "within_tie_band") == (chosen > lowest)


@many
@given(carbon_questions())
def test_one_method_competes_and_it_is_the_one_of_most_zones(question: Question) -> None:
    """All live values of one method, and no other method has more zones, or as many and a more preferred region."""
    rules = question[2]
    decision = decided(question)
    assume(decision.live)
    passed = passing(question, decision.policy)
    signals = live_of(passed)
    codes = [candidate.region.code for candidate in question[0]]
    preference = list(dict.fromkeys((*rules.default_order, *codes)))
    groups: dict[object, list[str]] = {}
    for code, signal in signals.items():
        groups.setdefault(signal.method, []).append(code)
    winner = signals[decision.live[0]].method
    assert sorted(decision.live) == sorted(groups[winner])
    assert decision.method == str(winner)

    def strength(method: object) -> tuple[int, int]:
        zones = {passed[code].region.zone for code in groups[method]}
        return len(zones), -min(preference.index(code) for code in groups[method])

    assert all(strength(winner) >= strength(method) for method in groups)
    mismatched = {v.candidate.region.code for v in decision.verdicts if v.rejected is Rejection.METHOD_MISMATCH}
    assert mismatched == set(signals) - set(decision.live)


@many
@given(carbon_questions())
def test_degraded_is_exactly_when_no_region_that_passed_has_a_live_signal(question: Question) -> None:
    """Live where there is one, degraded where there is none and the default order can serve, unavailable otherwise."""
    decision = decided(question)
    passed = passing(question, RoutePolicy.LOWEST_CARBON)
    if live_of(passed):
        assert decision.mode == "live"
    elif set(passed) & set(question[2].default_order):
        assert (decision.mode, decision.reason) == ("degraded", "degraded_no_operational_live_signal")
        assert decision.live == ()
    else:
        assert decision.mode == "unavailable"


_USELESS = st.sampled_from(
    [
        None,
        reading(0.0, kind=SignalKind.FORECAST),
        reading(0.0, kind=SignalKind.FALLBACK),
        reading(0.0, age=180.01),
        reading(0.0, age=-5.01),
        reading(0.0, estimated=True),
        reading(0.0, proxy_share=0.26),
        reading(float("nan")),
        reading(float("-inf")),
    ]
)


@many
@given(question=carbon_questions(), instead=st.lists(_USELESS, min_size=6, max_size=6), annual=st.floats(0, 1000))
def test_what_may_not_decide_never_decides(question: Question, instead: list[object], annual: float) -> None:
    """Any useless value in another's place, however low, and any annual figure change nothing of the choice."""
    found, options, rules = question

    def changed(candidate: Candidate, other: object) -> Candidate:
        region = replace(candidate.region, annual_gco2_per_kwh=annual)
        seen = candidate.reading
        useful = seen is not None and is_live(seen.signal)
        return msgspec.structs.replace(candidate, region=region, reading=seen if useful else other)

    swapped = tuple(changed(*pair) for pair in zip(found, instead, strict=False))
    before, after = decided(question), decided((swapped, options, rules))
    assert (after.mode, after.reason, after.order, after.live) == (
        before.mode,
        before.reason,
        before.order,
        before.live,
    )
    assert all(is_live(seen.signal) and seen.live_eligible for seen in before.readings.values())
    assert set(before.readings) == set(before.live)


@many
@given(questions())
def test_equal_arguments_give_an_equal_decision(question: Question) -> None:
    """The decision is a pure function: rebuilt arguments give the same value, and its own arguments are untouched."""
    found, options, rules = question
    rebuilt = tuple(
        msgspec.structs.replace(
            candidate,
            region=replace(candidate.region),
            reading=None if candidate.reading is None else read_at(replace(candidate.reading.signal), NOW),
        )
        for candidate in found
    )
    assert rebuilt == found
    assert decide(replace(options), MODEL, rebuilt, NOW, rules=replace(rules)) == decided(question)
    assert rebuilt == found


_OUTCOMES = st.sampled_from([outcome.value for outcome in AttemptOutcome if outcome is not AttemptOutcome.SUCCESS])


@many
@given(question=st.one_of(questions(), carbon_questions()), data=st.data())
def test_whatever_happens_ends_in_a_row_of_the_table_and_contradicts_nothing(
    question: Question, data: st.DataObject
) -> None:
    """Walked in any way, mode, reason, region and operational signal fit together, in the value and on the wire."""
    decision = decided(question)
    tried = data.draw(st.integers(0, len(decision.order)))
    records = [attempt(code, data.draw(_OUTCOMES)) for code in decision.order[:tried]]
    serving = data.draw(st.sampled_from((None, records[-1].region))) if records else None
    if serving is not None:
        records[-1] = attempt(serving, "success", status=200)
    settled = settle(decision, records, serving=serving)
    rows = {(policy, mode, reason) for policy, mode, reason in TABLE}
    policy = "any" if settled.mode == "unavailable" else decision.policy.value
    assert (policy, settled.mode.value, settled.reason.value) in rows
    assert (settled.region is None) == (settled.mode == "unavailable")
    if serving is not None:
        assert settled.region == serving
    by_signal = settled.mode == "live" or (
        decision.policy is RoutePolicy.LOWEST_CARBON
        and (settled.mode.value, settled.reason.value) == ("failover", "attempt_failed")
    )
    assert (settled.operational is not None) == by_signal
    told = msgspec.json.decode(encode_trace(build_trace(decision, settled, records, receipt_signal=None)))
    assert (told["decision_mode"], told["region"]) == (settled.mode.value, settled.region)
    if by_signal:
        assert told["operational_signal"]["live_eligible"] is True
        assert told["operational_signal"]["signal_kind"] == "measured"
        rows_told = {row["region"]: row for row in told["candidates"]}
        assert rows_told[serving or settled.region]["eligible"] is True


@many
@given(carbon_questions())
def test_narrowing_the_rules_never_brings_a_region_in(question: Question) -> None:
    """A region that leaves the allow-list leaves the order, and nothing outside the list ever enters it."""
    found, options, rules = question
    wide = decided(question)
    assume(wide.order)
    left = frozenset(candidate.region.code for candidate in found) - {wide.order[0]}
    allowed = left if rules.allowed_regions is None else left & rules.allowed_regions
    narrow = decided((found, options, replace(rules, allowed_regions=allowed)))
    assert set(narrow.order) <= allowed
