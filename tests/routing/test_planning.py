"""A decision by a plan is the decision that would be made now, whatever happened since the plan was made."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.house import MODELS, REGIONS, RULES, START, House
from vetted_mw.configuration import Limits, Upstream
from vetted_mw.fleet.fleet import Fleet
from vetted_mw.grid.board import SignalBoard
from vetted_mw.grid.signal import SignalKind
from vetted_mw.planning import Planner
from vetted_mw.routing.decision import AttemptOutcome, Rules, decide, settle
from vetted_mw.routing.options import Options, Routing
from vetted_mw.routing.trace import build_trace, encode_trace

if TYPE_CHECKING:
    from vetted_mw.routing.decided import Decision

Step = tuple[Any, ...]
codes = st.sampled_from(("a", "a", "a", "b", "b", "c", "d"))
outcomes = st.sampled_from(
    [
        *([AttemptOutcome.SUCCESS] * 3),
        *([AttemptOutcome.UPSTREAM_CUT] * 4),
        AttemptOutcome.SATURATED,
        AttemptOutcome.CALLER_ERROR,
    ]
)
# Around every limit that there is: a breaker's, a window's, a queue's, a quantile's, a signal's.
seconds = st.sampled_from(
    (0.0, 0.0005, 0.001, 0.0011, 0.5, 1.0, 1.05, 2.9, 3.0, 5.0, 5.25, 5.2489, 5.2495, 6.0, 10.0, 29.9, 60.0, 299.9995)
) | st.sampled_from((300.0, 300.001, 899.9995, 900.0, 900.5, 3599.9995, 3600.0, 3600.002, 7200.0))
signals = st.builds(
    lambda zone, value, back, members: (zone, value, back, members),
    st.sampled_from(("FR", "SE_3", "")),
    st.sampled_from((0.0, 12.0, 18.0, 58.0)) | st.floats(0, 500),
    st.sampled_from((-400.0, -301.0, -60.0, -2.97, 0.0, 1.5, 900.0, 899.9995, 3599.5, 3600.0)),
    st.sampled_from(
        (
            *({}, {}, {"kind": SignalKind.FORECAST}, {"kind": SignalKind.FALLBACK}, {"estimated": True}),
            *({"max_age_minutes": float("nan")}, {"max_age_minutes": float("inf")}, {"proxy_share": 0.5}),
        )
    ),
)
steps: st.SearchStrategy[Step] = st.one_of(
    st.tuples(st.just("lease"), codes, st.integers(1, 3), st.booleans()),
    st.tuples(st.just("lease"), codes, st.integers(1, 3), st.booleans()),
    st.tuples(st.just("release"), outcomes, st.integers(1, 3), st.sampled_from((None, 0.0, 1.0, 30.0))),
    st.tuples(st.just("release"), outcomes, st.integers(1, 3), st.sampled_from((None, 0.0, 1.0, 30.0))),
    st.tuples(st.just("attempts"), codes, outcomes, st.integers(1, 6)),
    st.tuples(st.just("attempts"), codes, outcomes, st.integers(1, 6)),
    st.tuples(st.just("proved")),
    st.tuples(st.just("probed"), codes, st.booleans(), st.integers(1, 2)),
    st.tuples(st.just("fetched"), codes, st.frozensets(st.sampled_from(MODELS[:2]))),
    st.tuples(st.just("connected"), codes, st.integers(1, 12), st.sampled_from((0.02, 0.05, 0.3))),
    st.tuples(st.just("load"), codes, st.integers(0, 5), st.sampled_from((0.0, 3.0))),
    st.tuples(st.just("tick"), seconds),
    st.tuples(st.just("tick"), seconds),
    st.tuples(st.just("tick"), seconds),
    st.tuples(st.just("step_wall"), st.sampled_from((-3600.0, -1.0, 0.0005, 5.0, 7200.0))),
    st.tuples(st.just("say"), st.sampled_from(("first", "second")), st.lists(signals, max_size=3), st.booleans()),
    st.tuples(st.just("say"), st.sampled_from(("first", "second")), st.lists(signals, max_size=3), st.booleans()),
    st.tuples(st.just("reload"), st.sampled_from(({}, {"drained": True}, {"limits": Limits(max_in_flight=1)}))),
)
options = st.builds(
    lambda pin, second, routing, budget: Options(
        region=pin,
        secondary_region=second if pin is not None and second != pin else None,
        routing=None if pin is not None else routing,
        latency_budget_ms=budget,
    ),
    st.none() | st.none() | st.sampled_from(sorted(REGIONS)),
    st.none() | st.sampled_from(sorted(REGIONS)),
    st.sampled_from((None, Routing.DEFAULT, Routing.CARBON_AWARE, Routing.CARBON_AWARE)),
    st.sampled_from((None, None, 10, 20, 39, 40, 49, 50, 51, 300)),
)
requests = st.tuples(options, st.sampled_from(MODELS), st.sampled_from(RULES))


def written(decision: Decision) -> bytes:
    """Write the decision's trace, as it stands when the first of its order served."""
    settled = settle(decision, (), serving=decision.order[0] if decision.order else None)
    return encode_trace(build_trace(decision, settled, (), receipt_signal=None))


@given(
    st.lists(steps, min_size=6, max_size=40),
    st.lists(requests, min_size=1, max_size=3),
)
@settings(max_examples=400, deadline=None)
def test_a_planned_decision_is_the_one_that_is_made_now_and_so_is_its_trace(
    history: list[Step], asked: list[Any]
) -> None:
    async def told() -> None:
        house = House()
        for step in history:
            await getattr(house, step[0])(*step[1:])
            for one in (*asked, (Options(routing=Routing.CARBON_AWARE), "known", RULES[0])):
                for view in range(len(house.fleets)):
                    planned, made = house.both(*one, view=view)
                    assert written(planned) == written(made)
                    assert planned.ruling == made.ruling
                    assert planned == made
                    assert (planned.readings, planned.retry_after) == (made.readings, made.retry_after)
                    assert all(planned.reading(code) == made.reading(code) for code in REGIONS)

    asyncio.run(told())


def plans_of(planner: Planner) -> int:
    return len(planner._plans)


def test_good_answers_below_the_cap_leave_every_plan_in_place() -> None:
    house = House()
    rulings = []
    for _ in range(20):
        planned, _ = house.both(Options(), "known", RULES[0], view=0)
        rulings.append(planned.ruling)
        lease = house.fleets[0].lease("b")
        assert lease is not None
        lease.proved()
        lease.release(AttemptOutcome.SUCCESS)
        house.wall += 1
        house.elapsed += 1
    assert all(ruling is rulings[0] for ruling in rulings)


def test_a_good_answer_that_opens_a_breaker_is_seen() -> None:
    """It can be the outcome that makes enough of them to judge by."""
    house = House()
    for outcome in (*[AttemptOutcome.UPSTREAM_CUT] * 4, AttemptOutcome.SUCCESS):
        planned, made = house.both(Options(region="d"), "known", RULES[0], view=0)
        assert planned == made
        assert planned.order == ("d",)
        lease = house.fleets[0].lease("d")
        assert lease is not None
        lease.release(outcome)
    planned, made = house.both(Options(region="d"), "known", RULES[0], view=0)
    assert planned == made
    assert planned.order == ()


def test_a_breaker_is_seen_at_every_turn_of_its_story() -> None:
    house = House()

    def order() -> tuple[str, ...]:
        planned, made = house.both(Options(region="d"), "known", RULES[0], view=0)
        assert planned == made
        return planned.order

    for _ in range(5):
        assert order() == ("d",)
        lease = house.fleets[0].lease("d")
        assert lease is not None
        lease.release(AttemptOutcome.UPSTREAM_CUT)
    for house.elapsed in (1_000.0, 1_005.2489, 1_005.2495, 1_005.2499):
        assert order() == ()  # open for 5 s and half a tenth of them
    house.elapsed = 1_005.25
    assert order() == ("d",)  # half open
    probe = house.fleets[0].lease("d")
    assert probe is not None
    assert order() == ()  # its one place is taken
    probe.proved()
    assert order() == ("d",)  # and free again
    probe.release(AttemptOutcome.SUCCESS)
    assert order() == ("d",)  # closed
    house.fleets[0].probed("d", alive=False)
    house.fleets[0].probed("d", alive=False)
    assert order() == ()  # nobody at home
    house.fleets[0].probed("d", alive=True)
    assert order() == ("d",)


def test_of_two_forecasts_the_one_that_is_told_changes_when_the_first_comes_due() -> None:
    async def told() -> None:
        house = House()
        for source, ahead in (("first", 10.0), ("second", 50.0)):
            await house.say(source, [("FR", ahead, -ahead, {"kind": SignalKind.FORECAST})], complete=False)
        for _ in range(8):
            planned, made = house.both(Options(), "known", RULES[0], view=0)
            assert planned == made
            assert written(planned) == written(made)
            await house.tick(10.0)

    asyncio.run(told())


def test_an_age_is_told_anew_as_soon_as_its_tenth_of_a_minute_is_another() -> None:
    async def told() -> None:
        house = House()
        await house.say("first", [("FR", 12.0, 60.0, {}), ("SE_3", 12.0, 61.4, {})], complete=False)
        texts = set()
        for _ in range(60):
            planned, made = house.both(Options(), "known", RULES[0], view=0)
            assert written(planned) == written(made)
            texts.add(written(planned))
            await house.tick(0.2)
        assert len(texts) == 5  # each signal has come twice to another tenth
        house.wall = 0.0
        decisions = [house.both(Options(), "known", RULES[0], view=0)[0] for house.wall in (0.0, 1.0, 2.0, 3.0, 4.0)]
        for first in range(len(decisions)):  # in whichever order they are told
            for planned in (*decisions[first:], *reversed(decisions)):
                anew = decide(Options(), "known", planned.candidates, planned.requested_at, rules=RULES[0])
                assert written(planned) == written(anew)

    asyncio.run(told())


def test_a_wall_clock_that_is_put_back_makes_a_signal_as_young_as_it_was() -> None:
    async def told() -> None:
        house, asked = House(), (Options(routing=Routing.CARBON_AWARE), "known", RULES[0])
        await house.say("first", [("FR", 12.0, 3_590.0, {})], complete=False)
        modes = []
        for by in (20.0, -20.0, 0.0):
            planned, made = house.both(*asked, view=0)
            assert planned == made
            modes.append(planned.mode.value)
            await house.step_wall(by)
        assert modes == ["live", "degraded", "live"]

    asyncio.run(told())


def test_models_that_nobody_lists_share_a_plan_and_no_name_of_theirs_is_kept() -> None:
    house = House()
    rulings = [house.both(Options(), f"unheard-of-{number}", RULES[0], view=0)[0].ruling for number in range(50)]
    assert all(ruling is rulings[0] for ruling in rulings)
    assert plans_of(house.planners[0]) == 1
    assert "unheard-of" not in repr(list(house.planners[0]._plans))


def test_budgets_between_two_latencies_share_a_plan() -> None:
    house = House()
    for budget in range(1, 40):
        house.both(Options(latency_budget_ms=budget), "known", RULES[0], view=0)
    assert plans_of(house.planners[0]) == 1


@pytest.mark.parametrize(("regions", "most"), [(8, 1024), (1000, 65)])
def test_a_larger_catalogue_keeps_fewer_plans(regions: int, most: int) -> None:
    catalogue = {f"r{number}": replace(REGIONS["d"], code=f"r{number}") for number in range(regions)}
    upstream = Upstream(region="r0", base_url="https://r0.example/v1")
    fleet = Fleet({"r0": upstream}, monotonic=lambda: 0.0, jitter=lambda: 0.0)
    planner = Planner(catalogue, fleet, SignalBoard([], chains={}, now=lambda: START))
    for number in range(most + 5):
        own = Rules(default_order=("r0",), tie_band_ratio=float(number))
        planner.decide(Options(), "m", own, START, monotonic=0.0)
    assert plans_of(planner) == most
