"""The one decision of a request. Pure: equal arguments, equal decision."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vetted_mw.errors import RegionNotAllowedError, RegionRequiredError, RoutingNotAllowedError
from vetted_mw.grid.signal import Ineligible, Method, SignalReading
from vetted_mw.routing.decided import Decision
from vetted_mw.routing.options import UNASKED, Options, Routing
from vetted_mw.routing.values import (
    AttemptOutcome,
    AttemptRecord,
    Candidate,
    DecisionMode,
    DecisionReason,
    Rejection,
    RoutePolicy,
    Rules,
    Ruling,
    Settled,
    Verdict,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from vetted_mw.routing.regions import Region

__all__ = [
    "AttemptOutcome",
    "AttemptRecord",
    "Candidate",
    "Decision",
    "DecisionMode",
    "DecisionReason",
    "Rejection",
    "RoutePolicy",
    "Rules",
    "Ruling",
    "Settled",
    "Verdict",
    "as_decided",
    "check_policy",
    "decide",
    "has_left",
    "is_allowed",
    "policy_of",
    "rule",
    "settle",
]

_NEVER_LOOKED_AT = frozenset(
    {Rejection.NOT_CONFIGURED, Rejection.NOT_FOR_INFERENCE, Rejection.POLICY, Rejection.OUTSIDE_POLICY}
)
_PREFERRED = {
    Rejection.NOT_CONFIGURED: DecisionReason.PREFERRED_NOT_CONFIGURED,
    Rejection.NOT_FOR_INFERENCE: DecisionReason.PREFERRED_NOT_CONFIGURED,
    Rejection.POLICY: DecisionReason.PREFERRED_NOT_ALLOWED,
    Rejection.MODEL_UNAVAILABLE: DecisionReason.PREFERRED_MODEL_UNAVAILABLE,
    Rejection.DEGRADED: DecisionReason.PREFERRED_DEGRADED,
    Rejection.SATURATED: DecisionReason.PREFERRED_SATURATED,
    Rejection.LATENCY_BUDGET: DecisionReason.PREFERRED_OVER_LATENCY_BUDGET,
}


def policy_of(options: Options, rules: Rules) -> RoutePolicy:
    """Return the rule that orders this request's candidates."""
    if options.region is not None:
        return RoutePolicy.PINNED
    if options.routing is Routing.CARBON_AWARE:
        return RoutePolicy.LOWEST_CARBON
    if options.routing is None and rules.default_carbon_aware and rules.carbon_aware:
        return RoutePolicy.LOWEST_CARBON
    return RoutePolicy.EU_PREFERRED


def is_allowed(region: Region, rules: Rules) -> bool:
    """Whether the operator's and the caller's rules let `region` serve."""
    return (rules.allowed_regions is None or region.code in rules.allowed_regions) and (
        rules.allowed_countries is None or region.country in rules.allowed_countries
    )


def check_policy(options: Options, rules: Rules, regions: Mapping[str, Region]) -> None:
    """Refuse a request that is outside the operator's or the caller's policy.

    Raises:
        PolicyError: naming what policy wants.
    """
    is_open = rules.allowed_regions is None and rules.allowed_countries is None and not rules.require_region
    if is_open and options is UNASKED and rules.default_order and rules.default_order[0] in regions:
        return  # what nearly every request comes to
    if rules.require_region and options.region is None:
        raise RegionRequiredError("Policy wants every request to name its region: set vetted.region.")
    if options.routing is Routing.CARBON_AWARE and not rules.carbon_aware:
        raise RoutingNotAllowedError("Policy has carbon-aware routing turned off. Leave 'routing' out.")
    for name, code in (("region", options.region), ("secondary_region", options.secondary_region)):
        if code is not None and not is_allowed(regions[code], rules):
            allowed = [one.code for one in regions.values() if one.inference and is_allowed(one, rules)]
            raise RegionNotAllowedError(
                f"Policy does not allow this region. Allowed: {', '.join(allowed) or 'none'}.", param=f"vetted.{name}"
            )
    in_order = (regions[code] for code in rules.default_order if code in regions)
    if options.region is None and not any(is_allowed(region, rules) for region in in_order):
        raise RegionNotAllowedError("Policy leaves no region of the default order for this caller. Ask the operator.")


def decide(options: Options, model: str, candidates: Sequence[Candidate], now: datetime, *, rules: Rules) -> Decision:
    """Order the candidates of one request, with exactly one reason for each that is not among them.

    Args:
        options: what the caller asked for.
        model: the requested model.
        candidates: one per region of the catalogue, in its order.
        now: the instant of the decision, UTC.
        rules: the operator's rules, narrowed for the caller.
    """
    return Decision(rule(options, model, candidates, rules=rules), now, seen=tuple(candidates))


def rule(options: Options, model: str, candidates: Sequence[Candidate], *, rules: Rules) -> Ruling:
    """Decide without an instant: of the candidates' ages and waits nothing is told, and nothing is looked at."""
    policy = policy_of(options, rules)
    preference = _preference(options, policy, rules)
    preferred = frozenset(preference)
    rejected = {c.region.code: _rejection(c, options, model, policy, preferred, rules) for c in candidates}
    passed = {c.region.code: c for c in candidates if rejected[c.region.code] is None}
    chain = tuple(code for code in preference if code in passed)
    base = _Draft(policy=policy, candidates=candidates, model=model, rules=rules)
    if policy is RoutePolicy.LOWEST_CARBON:
        return _lowest_carbon(base, passed, chain, rejected)
    if not chain:
        return base.unavailable(rejected)
    return base.ruling(*_preferred_or_pinned(policy, chain, preference, rejected), order=chain, rejected=rejected)


def settle(decision: Decision, attempts: Sequence[AttemptRecord], *, serving: str | None) -> Settled:
    """See a decision together with its attempts: what finally happened.

    Args:
        decision: as decided.
        attempts: so far, in order.
        serving: the region whose answer goes to the caller; None when none does.
    """
    served = None if decision.plan is None else decision.plan.served
    if served is not None and served.region == serving:
        return served
    if serving is None and attempts and attempts[-1].outcome is AttemptOutcome.CALLER_ERROR:
        serving = attempts[-1].region  # it answered: the fault it found is the caller's own
    if not decision.order:
        return as_decided(decision)
    if serving is None:
        reason = _exhausted(decision, attempts)
        return Settled(mode=DecisionMode.UNAVAILABLE, reason=reason, region=None, operational=None)
    operational = decision.reading(serving) if serving in decision.live else None
    if serving == decision.order[0]:
        return Settled(mode=decision.mode, reason=decision.reason, region=serving, operational=operational)
    mode, reason = _failed_over(decision, serving)
    return Settled(mode=mode, reason=reason, region=serving, operational=operational)


def has_left(attempts: Sequence[AttemptRecord]) -> bool:
    """Whether the caller left while the last attempt was under way: nothing was exhausted, nobody waited for it."""
    return bool(attempts) and attempts[-1].outcome is AttemptOutcome.CLIENT_DISCONNECT


def as_decided(decision: Decision) -> Settled:
    """See a decision of which nothing came: its own words, and no region claimed."""
    return Settled(mode=decision.mode, reason=decision.reason, region=None, operational=None)


def _failed_over(decision: Decision, serving: str) -> tuple[DecisionMode, DecisionReason]:
    if decision.mode is DecisionMode.DEGRADED:
        return decision.mode, decision.reason
    if decision.policy is RoutePolicy.PINNED:
        return DecisionMode.FAILOVER, DecisionReason.DOCUMENTED_SECONDARY
    if decision.policy is RoutePolicy.LOWEST_CARBON and serving not in decision.live:
        return DecisionMode.FAILOVER, DecisionReason.LIVE_CANDIDATES_EXHAUSTED
    return DecisionMode.FAILOVER, DecisionReason.ATTEMPT_FAILED


def _exhausted(decision: Decision, attempts: Sequence[AttemptRecord]) -> DecisionReason:
    if decision.policy is RoutePolicy.PINNED:
        return DecisionReason.PINNED_REGION_UNAVAILABLE
    full = {AttemptOutcome.SATURATED, AttemptOutcome.NOT_ADMITTED}
    if attempts and all(attempt.outcome in full for attempt in attempts):
        return DecisionReason.ALL_REGIONS_SATURATED
    return DecisionReason.ATTEMPTS_EXHAUSTED


def _preference(options: Options, policy: RoutePolicy, rules: Rules) -> tuple[str, ...]:
    if policy is RoutePolicy.PINNED:
        return tuple(code for code in (options.region, options.secondary_region) if code is not None)
    return rules.default_order


def _rejection(  # noqa: PLR0911 (one return per row of the table, in its order)
    candidate: Candidate,
    options: Options,
    model: str,
    policy: RoutePolicy,
    preferred: frozenset[str],
    rules: Rules,
) -> Rejection | None:
    """Return the first check that fails, signals apart."""
    if not candidate.configured:
        return Rejection.NOT_CONFIGURED
    if not candidate.region.inference:
        return Rejection.NOT_FOR_INFERENCE
    if not is_allowed(candidate.region, rules):
        return Rejection.POLICY
    if policy is not RoutePolicy.LOWEST_CARBON and candidate.region.code not in preferred:
        return Rejection.OUTSIDE_POLICY
    if candidate.models is not None and model not in candidate.models:
        return Rejection.MODEL_UNAVAILABLE
    if candidate.degraded:
        return Rejection.DEGRADED
    if candidate.saturated:
        return Rejection.SATURATED
    budget, p95 = options.latency_budget_ms, candidate.network_p95_ms
    if budget is not None and (p95 is None or p95 > budget):
        return Rejection.LATENCY_BUDGET
    return None


def _preferred_or_pinned(
    policy: RoutePolicy,
    chain: tuple[str, ...],
    preference: tuple[str, ...],
    rejected: Mapping[str, Rejection | None],
) -> tuple[DecisionMode, DecisionReason]:
    is_first = chain[0] == preference[0]
    if policy is RoutePolicy.PINNED:
        if is_first:
            return DecisionMode.PINNED, DecisionReason.PINNED_REGION_AVAILABLE
        return DecisionMode.FAILOVER, DecisionReason.DOCUMENTED_SECONDARY
    if is_first:
        return DecisionMode.PREFERRED, DecisionReason.PREFERRED_AVAILABLE
    why = rejected.get(preference[0]) or Rejection.NOT_CONFIGURED
    return DecisionMode.FAILOVER, _PREFERRED[why]


def _lowest_carbon(
    draft: _Draft, passed: Mapping[str, Candidate], chain: tuple[str, ...], rejected: dict[str, Rejection | None]
) -> Ruling:
    ranks = _ranks(draft.rules, draft.candidates)
    group = _competing(passed, ranks)
    if not group:
        rejected |= {code: _signal_reason(c.reading) for code, c in passed.items() if code not in chain}
        if not chain:
            return draft.unavailable(rejected)
        reason = DecisionReason.DEGRADED_NO_OPERATIONAL_LIVE_SIGNAL
        return draft.ruling(DecisionMode.DEGRADED, reason, order=chain, rejected=rejected)
    lowest = min(reading.signal.gco2_per_kwh for reading in group.values())
    band = max(draft.rules.tie_band_gco2_per_kwh, draft.rules.tie_band_ratio * lowest)
    live = _ranked(group, lowest + band, ranks)
    rejected |= {code: _signal_reason(c.reading) for code, c in passed.items() if code not in group}
    return draft.ruling(
        DecisionMode.LIVE,
        _live_reason(group, live, lowest),
        order=(*live, *(code for code in chain if code not in group)),
        rejected=rejected,
        live=live,
        method=str(group[live[0]].signal.method),
        band=band if draft.rules.tie_band_gco2_per_kwh or draft.rules.tie_band_ratio else None,
    )


def _ranks(rules: Rules, candidates: Sequence[Candidate]) -> dict[str, int]:
    """Return the preference order: the default order, then the catalogue's."""
    codes = dict.fromkeys((*rules.default_order, *(candidate.region.code for candidate in candidates)))
    return {code: rank for rank, code in enumerate(codes)}


def _competing(passed: Mapping[str, Candidate], ranks: Mapping[str, int]) -> dict[str, SignalReading]:
    """Return the live readings of the one method that competes: most zones first, then the most preferred region."""
    groups: dict[Method, dict[str, SignalReading]] = {}
    zones: dict[Method, set[str]] = {}
    for code, candidate in passed.items():
        reading = candidate.reading
        if reading is not None and reading.live_eligible:
            method = reading.signal.method
            groups.setdefault(method, {})[code] = reading
            zones.setdefault(method, set()).add(candidate.region.zone)
    if not groups:
        return {}
    best = min(groups, key=lambda method: (-len(zones[method]), min(ranks[code] for code in groups[method])))
    return groups[best]


def _ranked(group: Mapping[str, SignalReading], ceiling: float, ranks: Mapping[str, int]) -> tuple[str, ...]:
    """Order by intensity, preference among equals; all within the band count as equal."""

    def key(code: str) -> tuple[float, int]:
        value = group[code].signal.gco2_per_kwh
        return (-1.0 if value <= ceiling else value, ranks[code])

    return tuple(sorted(group, key=key))


def _live_reason(group: Mapping[str, SignalReading], live: tuple[str, ...], lowest: float) -> DecisionReason:
    if len(group) == 1:
        return DecisionReason.ONLY_LIVE_CANDIDATE
    is_lowest = group[live[0]].signal.gco2_per_kwh == lowest
    return DecisionReason.LOWEST_LIVE_INTENSITY if is_lowest else DecisionReason.WITHIN_TIE_BAND


def _signal_reason(reading: SignalReading | None) -> Rejection:
    if reading is None:
        return Rejection.NO_LIVE_SIGNAL
    if reading.live_eligible:
        return Rejection.METHOD_MISMATCH
    return Rejection.STALE_SIGNAL if reading.ineligible is Ineligible.STALE else Rejection.NO_LIVE_SIGNAL


class _Draft:
    """What every way to a decision shares."""

    def __init__(self, *, policy: RoutePolicy, candidates: Sequence[Candidate], model: str, rules: Rules) -> None:
        self.policy = policy
        self.candidates = candidates
        self.model = model
        self.rules = rules

    def ruling(
        self,
        mode: DecisionMode,
        reason: DecisionReason,
        *,
        order: tuple[str, ...],
        rejected: Mapping[str, Rejection | None],
        live: tuple[str, ...] = (),
        method: str | None = None,
        band: float | None = None,
    ) -> Ruling:
        return Ruling(
            policy=self.policy,
            mode=mode,
            reason=reason,
            order=order,
            rejected=tuple(rejected[c.region.code] for c in self.candidates),
            live=live,
            method=method,
            tie_band_gco2_per_kwh=band,
            serving_model=self._serving_model() if reason is DecisionReason.MODEL_NOT_AVAILABLE else (),
        )

    def unavailable(self, rejected: Mapping[str, Rejection | None]) -> Ruling:
        looked_at = {why for why in rejected.values() if why not in _NEVER_LOOKED_AT}
        serving = looked_at - {Rejection.MODEL_UNAVAILABLE}
        if looked_at == {Rejection.MODEL_UNAVAILABLE}:
            reason = DecisionReason.MODEL_NOT_AVAILABLE
        elif self.policy is RoutePolicy.PINNED:
            reason = DecisionReason.PINNED_REGION_UNAVAILABLE
        elif serving == {Rejection.SATURATED}:
            reason = DecisionReason.ALL_REGIONS_SATURATED
        else:
            reason = DecisionReason.NO_REGION_AVAILABLE
        return self.ruling(DecisionMode.UNAVAILABLE, reason, order=(), rejected=rejected)

    def _serving_model(self) -> tuple[str, ...]:
        return tuple(
            c.region.code
            for c in self.candidates
            if c.configured
            and c.region.inference
            and is_allowed(c.region, self.rules)
            and (c.models is None or self.model in c.models)
        )
