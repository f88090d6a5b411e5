"""Decide once for every request that is alike, for as long as nothing changes that a decision looks at.

`routing.decision.decide` says what a decision is. What is kept here is its ruling: made on the first request of a kind,
given to every later one, and dropped as a whole when a region's standing or a signal changes, or when time alone would
make a difference. When in doubt it is made anew.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias

from vetted_mw.routing.decided import Decision, Plan
from vetted_mw.routing.decision import rule
from vetted_mw.routing.options import UNASKED
from vetted_mw.routing.scene import Known, Scene
from vetted_mw.routing.values import Candidate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vetted_mw.fleet.fleet import Fleet, Standing
    from vetted_mw.grid.board import SignalBoard
    from vetted_mw.grid.signal import GridSignal, SignalReading
    from vetted_mw.routing.options import Options, Routing
    from vetted_mw.routing.regions import Region
    from vetted_mw.routing.values import Rules

__all__ = ["Planner", "candidates_at"]

_Kind: TypeAlias = "tuple[Rules, str | None, str | None, Routing | None, int | None, str | None]"
"""All that a ruling depends on beside the scene: rules, region, secondary region, routing, rank of the latency budget,
model. Of what a caller wrote it holds nothing that the operator or an upstream has not written as well."""

_MOST_PLANS = 1024
_MOST_VERDICTS = 65_536
"""In all plans together: of a large catalogue fewer plans are kept."""
_LONGEST_MINUTES = 24 * 60.0
_MARGIN = timedelta(milliseconds=1)
"""Before the end of what time changes: no rounding can make it last longer."""
_NEVER = datetime.min.replace(tzinfo=UTC)


class Planner:
    """Keeps the rulings of one configuration. Called from the event loop only; nothing here waits.

    Args:
        regions: the catalogue, code -> region.
        fleet: what is known of each upstream.
        board: the latest signal of each zone.
    """

    def __init__(self, regions: Mapping[str, Region], fleet: Fleet, board: SignalBoard) -> None:
        self._regions = regions
        self._fleet = fleet
        self._board = board
        self._most = max(1, min(_MOST_PLANS, _MOST_VERDICTS // max(1, len(regions))))
        self._scene = Scene(())
        self._plans: OrderedDict[_Kind, Plan] = OrderedDict()  # the one used last is last
        self._usual: dict[str | None, Plan] = {}  # of requests that ask for nothing, under the rules below
        self._rules: Rules | None = None
        self._standings: Mapping[str, Standing] | None = None
        self._changes = -1
        self._since = self._until = _NEVER

    def decide(self, options: Options, model: str, rules: Rules, now: datetime, *, monotonic: float) -> Decision:
        """Decide as `routing.decision.decide` does on the candidates of this instant.

        Args:
            options: what the caller asked for.
            model: the requested model.
            rules: the operator's rules, narrowed for the caller.
            now: the instant, UTC.
            monotonic: the same instant on the fleet's clock.
        """
        standings = self._fleet.standings(monotonic)
        if (
            standings is not self._standings
            or self._board.changes != self._changes
            or not self._since <= now < self._until
        ):
            self._look(standings, now)
        scene, budget = self._scene, options.latency_budget_ms
        named = model if model in scene.listed else None
        is_usual = options is UNASKED and rules is self._rules
        if is_usual and (usual := self._usual.get(named)) is not None:
            return Decision(usual.ruling, now, usual, monotonic)
        kind: _Kind = (
            rules,
            options.region,
            options.secondary_region,
            options.routing,
            None if budget is None else bisect_right(scene.latencies, budget),
            named,
        )
        plan = self._plans.get(kind)
        if plan is None:
            plan = self._planned(kind, options, model, rules, now)
        else:
            self._plans.move_to_end(kind)
        if options is UNASKED:
            self._keep_usual(rules, named, plan)
        return Decision(plan.ruling, now, plan, monotonic)

    def _planned(self, kind: _Kind, options: Options, model: str, rules: Rules, now: datetime) -> Plan:
        ruling = rule(options, model, self._scene.at(now, 0.0), rules=rules)  # a ruling looks at no wait
        plan = self._plans[kind] = Plan(ruling, self._scene)
        if len(self._plans) > self._most:
            self._plans.popitem(last=False)
        return plan

    def _keep_usual(self, rules: Rules, named: str | None, plan: Plan) -> None:
        """Keep what is asked for next, most likely: found by the rules' identity, which costs a tenth of their hash."""
        if rules is not self._rules or len(self._usual) >= self._most:
            self._usual.clear()
            self._rules = rules
        self._usual[named] = plan

    def _look(self, standings: Mapping[str, Standing], now: datetime) -> None:
        """Make the scene anew; what was decided on the one before is dropped."""
        zones = {region.zone for code, region in self._regions.items() if code in standings}
        best = {zone: self._board.best(zone, now) for zone in zones}
        signals = {zone: None if reading is None else reading.signal for zone, reading in best.items()}
        self._scene = Scene(_known(region, standings.get(code), signals) for code, region in self._regions.items())
        self._plans.clear()
        self._usual.clear()
        self._standings, self._changes = standings, self._board.changes
        minutes = min((self._board.holds_until(zone, now) for zone in zones), default=_LONGEST_MINUTES)
        self._since, self._until = now, _after(now, min(minutes, _LONGEST_MINUTES)) - _MARGIN


def candidates_at(
    regions: Mapping[str, Region], fleet: Fleet, board: SignalBoard, now: datetime
) -> tuple[Candidate, ...]:
    """Freeze the facts of every region at `now`, in catalogue order: what `decide` is given where nothing is kept."""
    readings: dict[str, SignalReading | None] = {}
    return tuple(_candidate(region, fleet, board, now, readings) for region in regions.values())


def _candidate(
    region: Region, fleet: Fleet, board: SignalBoard, now: datetime, readings: dict[str, SignalReading | None]
) -> Candidate:
    state = fleet.state(region.code)
    if state is None:
        return Candidate(region=region, configured=False, network_p95_ms=region.network_p95_ms)
    if region.zone not in readings:
        readings[region.zone] = board.best(region.zone, now)
    return Candidate(
        region=region,
        configured=True,
        models=state.models,
        degraded=state.degraded,
        saturated=state.saturated,
        retry_after=state.retry_after,
        network_p95_ms=region.network_p95_ms if state.network_p95_ms is None else state.network_p95_ms,
        reading=readings[region.zone],
    )


def _known(region: Region, standing: Standing | None, signals: Mapping[str, GridSignal | None]) -> Known:
    if standing is None:
        return Known(region=region, configured=False, network_p95_ms=region.network_p95_ms)
    return Known(
        region=region,
        configured=True,
        models=standing.models,
        degraded=standing.degraded,
        saturated=standing.saturated,
        free_at=standing.free_at,
        network_p95_ms=region.network_p95_ms if standing.network_p95_ms is None else standing.network_p95_ms,
        signal=signals[region.zone],
    )


def _after(now: datetime, minutes: float) -> datetime:
    try:
        return now + timedelta(minutes=minutes)
    except OverflowError:  # at the end of the calendar
        return now
