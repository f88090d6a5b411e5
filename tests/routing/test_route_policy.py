"""What the operator and the caller's own policy allow, and which rule a request gets."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grid.samples import NOW
from routing.cases import CARBON_AWARE, GRA, ISL, MODEL, PAR_1, PAR_2, RULES, STO, candidates, questions
from vetted_mw.callers import ANYONE, Caller, narrowed
from vetted_mw.errors import AnswerError
from vetted_mw.routing.decision import check_policy, decide, is_allowed, policy_of
from vetted_mw.routing.options import Options, Routing
from vetted_mw.routing.regions import load_catalogue
from vetted_mw.routing.values import Candidate, RoutePolicy, Rules

REGIONS = load_catalogue()


def forbidden(options: Options, rules: Rules) -> AnswerError:
    """Return the error, which is always a 403 `policy_error`."""
    with pytest.raises(AnswerError) as error:
        check_policy(options, rules, REGIONS)
    assert (error.value.status, error.value.type) == (403, "policy_error")
    return error.value


# ---- which rule


@pytest.mark.parametrize(
    ("options", "rules", "policy"),
    [
        (Options(), {}, "eu_preferred"),
        (Options(routing=Routing.DEFAULT), {}, "eu_preferred"),
        (Options(latency_budget_ms=50), {}, "eu_preferred"),
        (CARBON_AWARE, {}, "lowest_carbon"),
        (Options(region=PAR_1), {}, "pinned"),
        (Options(region=PAR_1, routing=Routing.DEFAULT), {}, "pinned"),
        (Options(), {"default_carbon_aware": True}, "lowest_carbon"),
        (Options(routing=Routing.DEFAULT), {"default_carbon_aware": True}, "eu_preferred"),
        (Options(region=PAR_1), {"default_carbon_aware": True}, "pinned"),
        (Options(), {"default_carbon_aware": True, "carbon_aware": False}, "eu_preferred"),
    ],
)
def test_the_rule_follows_from_options_and_the_operators_default(
    options: Options, rules: dict[str, bool], policy: str
) -> None:
    """A pin pins, carbon-aware is asked for or the operator's default, and a caller without it gets `default`."""
    assert policy_of(options, replace(RULES, **rules)) == policy  # type: ignore[arg-type]


def test_a_default_of_carbon_aware_decides_by_the_grid_only_for_callers_who_may() -> None:
    """One operator setting, two callers: the one without permission is served by the default order."""
    operator = replace(RULES, default_carbon_aware=True)
    grid = candidates(signals={"FR": 58.0, "SE_3": 12.0})
    may = decide(Options(), MODEL, grid, NOW, rules=narrowed(operator, Caller(name="may")))
    may_not = decide(Options(), MODEL, grid, NOW, rules=narrowed(operator, Caller(name="may-not", carbon_aware=False)))
    assert (may.policy, may.order[0]) == (RoutePolicy.LOWEST_CARBON, STO)
    assert (may_not.policy, may_not.order[0]) == (RoutePolicy.EU_PREFERRED, PAR_1)


# ---- what is forbidden


@pytest.mark.parametrize("options", [Options(), CARBON_AWARE, Options(routing=Routing.DEFAULT)])
def test_a_required_region_that_is_missing_is_asked_for(options: Options) -> None:
    """`require_region` without a region: 403 `region_required`, whatever else was asked."""
    error = forbidden(options, replace(RULES, require_region=True))
    assert (error.code, error.param) == ("region_required", "vetted.region")


def test_a_required_region_that_is_named_passes() -> None:
    """With the region named there is nothing to refuse."""
    check_policy(Options(region=PAR_1), replace(RULES, require_region=True), REGIONS)


def test_carbon_aware_turned_off_refuses_only_who_asks_for_it() -> None:
    """`carbon_aware = false`: 403 `routing_not_allowed` for the option, nothing for everyone else."""
    off = replace(RULES, carbon_aware=False)
    error = forbidden(CARBON_AWARE, off)
    assert (error.code, error.param) == ("routing_not_allowed", "vetted.routing")
    for options in (Options(), Options(routing=Routing.DEFAULT), Options(region=PAR_1)):
        check_policy(options, off, REGIONS)


@pytest.mark.parametrize(
    ("options", "rules", "param", "allowed"),
    [
        (Options(region=STO), {"allowed_regions": frozenset({PAR_1, PAR_2})}, "vetted.region", (PAR_1, PAR_2)),
        (Options(region=ISL), {"allowed_countries": frozenset({"SE"})}, "vetted.region", (STO,)),
        (
            Options(region=PAR_1, secondary_region=STO),
            {"allowed_countries": frozenset({"FR"})},
            "vetted.secondary_region",
            (PAR_1, GRA),
        ),
    ],
)
def test_a_region_outside_policy_is_forbidden_and_the_allowed_ones_are_named(
    options: Options, rules: dict[str, frozenset[str]], param: str, allowed: tuple[str, ...]
) -> None:
    """A pin or secondary that policy excludes: 403 `region_not_allowed`, and the text lists what may be pinned."""
    asked = options.region if param == "vetted.region" else options.secondary_region
    error = forbidden(options, replace(RULES, **rules))  # type: ignore[arg-type]
    assert (error.code, error.param) == ("region_not_allowed", param)
    assert all(code in error.message for code in allowed)
    assert str(asked) not in error.message


def test_both_lists_must_allow_a_region() -> None:
    """A region that is on one list and in a country off the other is forbidden, and when nothing is left it says none."""
    rules = replace(RULES, allowed_regions=frozenset({STO}), allowed_countries=frozenset({"FR"}))
    assert "none" in forbidden(Options(region=STO), rules).message


@pytest.mark.parametrize("options", [Options(), Options(routing=Routing.DEFAULT)])
def test_a_policy_that_empties_the_order_is_said_so(options: Options) -> None:
    """A caller whose policy leaves no region of the order: 403 `region_not_allowed`, not a 503 to be retried."""
    rules = narrowed(RULES, Caller(name="nordic", allowed_countries=frozenset({"SE"})))
    assert forbidden(options, rules).code == "region_not_allowed"


def test_a_policy_that_leaves_a_pin_passes_even_when_it_empties_the_order() -> None:
    """A pin needs no order."""
    check_policy(Options(region=STO), replace(RULES, allowed_countries=frozenset({"SE"})), REGIONS)


def test_an_open_policy_refuses_nothing() -> None:
    """Without rules every option of the catalogue passes."""
    for options in (Options(), CARBON_AWARE, *(Options(region=code) for code in REGIONS)):
        check_policy(options, RULES, REGIONS)


# ---- a caller narrows, never widens

_SETS = st.none() | st.frozensets(st.sampled_from(sorted(REGIONS)))
_COUNTRIES = st.none() | st.frozensets(st.sampled_from(["FR", "SE", "IS", "DE", "FI"]))
_RULES = st.builds(
    Rules,
    default_order=st.just(RULES.default_order),
    allowed_regions=_SETS,
    allowed_countries=_COUNTRIES,
    require_region=st.booleans(),
    carbon_aware=st.booleans(),
    default_carbon_aware=st.booleans(),
)
_CALLERS = st.builds(
    Caller,
    name=st.just("team"),
    allowed_regions=_SETS,
    allowed_countries=_COUNTRIES,
    require_region=st.booleans(),
    carbon_aware=st.booleans(),
    admin=st.booleans(),
)


@settings(max_examples=200, deadline=None)
@given(rules=_RULES, caller=_CALLERS)
def test_a_narrowed_region_is_one_that_both_allow(rules: Rules, caller: Caller) -> None:
    """A region passes exactly when operator and caller both let it, and so for carbon-aware and the required region."""
    both = narrowed(rules, caller)
    alone = Rules(default_order=(), allowed_regions=caller.allowed_regions, allowed_countries=caller.allowed_countries)
    for region in REGIONS.values():
        assert is_allowed(region, both) == (is_allowed(region, rules) and is_allowed(region, alone))
    assert both.carbon_aware == (rules.carbon_aware and caller.carbon_aware)
    assert both.require_region == (rules.require_region or caller.require_region)
    assert both.default_order == rules.default_order
    assert both.default_carbon_aware == rules.default_carbon_aware


@settings(max_examples=100, deadline=None)
@given(rules=_RULES)
def test_a_caller_with_no_policy_of_its_own_changes_nothing(rules: Rules) -> None:
    """Anyone, and a named caller without a policy, get the operator's rules."""
    assert narrowed(rules, ANYONE) == narrowed(rules, Caller(name="team")) == rules


@settings(max_examples=150, deadline=None)
@given(question=questions(), caller=_CALLERS)
def test_no_decision_leads_outside_a_callers_policy(
    question: tuple[tuple[Candidate, ...], Options, Rules], caller: Caller
) -> None:
    """Whatever is asked, a region that the caller's country list excludes is never in the order."""
    found, options, rules = question
    caller = replace(caller, allowed_regions=None)
    decision = decide(options, MODEL, found, NOW, rules=narrowed(rules, caller))
    countries = {c.region.code: c.region.country for c in found}
    if caller.allowed_countries is not None:
        assert {countries[code] for code in decision.order} <= caller.allowed_countries
