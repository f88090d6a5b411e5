"""The trace that is filled into what a plan has kept of it: the bytes of the one that is built, whenever it is told."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.samples import NOW, signal
from vetted_mw.routing.decided import Decision, Plan
from vetted_mw.routing.decision import AttemptOutcome, AttemptRecord, Rules, rule, settle
from vetted_mw.routing.options import Options, Routing
from vetted_mw.routing.regions import Region
from vetted_mw.routing.scene import Known, Scene
from vetted_mw.routing.served_trace import encode_served
from vetted_mw.routing.trace import ToldCandidates, build_trace, encode_trace

REGIONS = [
    Region(code=code, provider="100 % Own", site=code, location="There", country="FR", zone=zone)
    for code, zone in (("a%b", "FR"), ("c%d%%", "SE_3"))
]
SIGNALS = {"FR": signal(58.0, zone="FR", observed_at=NOW), "SE_3": signal(12.0, zone="SE_3", observed_at=NOW)}
RULES = Rules(default_order=("a%b", "c%d%%"))
TEXTS = st.dictionaries(st.sampled_from(["%", "%b", "%.1f", "\\", '"', "s"]), st.integers() | st.text()).map(
    msgspec.json.encode
)


def planned(options: Options) -> Plan:
    scene = Scene(Known(region=region, configured=True, signal=SIGNALS[region.zone]) for region in REGIONS)
    return Plan(rule(options, "m", scene.at(NOW, 0.0), rules=RULES), scene)


PLANS = [planned(Options()), planned(Options(routing=Routing.CARBON_AWARE))]
PLAN = PLANS[0]


@given(
    plan=st.sampled_from(PLANS),
    seconds=st.floats(-30.0, 7200.0),
    duration=st.floats(0.0, 1e9),
    status=st.integers(200, 299),
    signal_text=TEXTS,
    compared=TEXTS | st.just(b"null"),
)
def test_what_the_first_region_served_is_told_as_if_it_were_built(
    plan: Plan, seconds: float, duration: float, status: int, signal_text: bytes, compared: bytes
) -> None:
    """By a live signal or not, whatever stands in the receipt's texts, whenever it was decided, however long it took.

    The signal grows stale on the way: a planner would drop the plan before, the form does without it.
    """
    decision = Decision(plan.ruling, NOW + timedelta(seconds=seconds), plan)
    region = plan.ruling.order[0]
    attempt = AttemptRecord(region=region, outcome=AttemptOutcome.SUCCESS, status=status, duration_ms=duration)
    settled = settle(decision, [attempt], serving=region)
    told = encode_served(decision, plan, settled, attempt, signal=signal_text, compared=compared)
    unkept = Decision(plan.ruling, decision.requested_at, seen=decision.candidates)
    assert told == encode_trace(
        build_trace(
            unkept,
            settle(unkept, [attempt], serving=region),
            [attempt],
            receipt_signal=msgspec.Raw(signal_text),
            default_region=msgspec.Raw(compared),
        )
    )


@pytest.mark.parametrize("serving", ["a%b", "c%d%%", None])
def test_what_a_plan_settles_beforehand_is_what_comes_of_it(serving: str | None) -> None:
    """The first region's service is known of a plan; any other end is worked out."""
    bare = Decision(PLAN.ruling, NOW, seen=PLAN.scene.at(NOW, 0.0))
    settled = settle(Decision(PLAN.ruling, NOW, plan=PLAN), [], serving=serving)
    assert settled == settle(bare, [], serving=serving)
    assert (settled is PLAN.served) == (serving == "a%b")


def test_a_region_that_a_live_signal_put_first_is_settled_by_each_request() -> None:
    """How old that signal is, every one of them tells anew: nothing of it is known beforehand."""
    plan = PLANS[1]
    settled = settle(Decision(plan.ruling, NOW + timedelta(minutes=1), plan), [], serving="c%d%%")
    assert (plan.ruling.live, plan.first, plan.served) == (("c%d%%", "a%b"), "c%d%%", None)
    assert settled.operational is not None
    assert settled.operational.age_minutes == 1.0


def test_an_upstream_of_many_statuses_leaves_few_forms() -> None:
    """A plan keeps a form for each status, and what an upstream answers is its own affair: it cannot make us hold more.

    Each form holds every candidate, of which a large catalogue has a thousand.
    """
    plan = planned(Options())
    decision = Decision(plan.ruling, NOW, plan)
    for status in range(200, 300):
        attempt = AttemptRecord(region="a%b", outcome=AttemptOutcome.SUCCESS, status=status, duration_ms=1.0)
        told = encode_served(
            decision, plan, settle(decision, [attempt], serving="a%b"), attempt, signal=b"1", compared=b"2"
        )
        assert msgspec.json.decode(told)["attempts"][0]["status"] == status
    assert isinstance(plan.told, ToldCandidates)
    assert 0 < len(plan.told.served) < 10
