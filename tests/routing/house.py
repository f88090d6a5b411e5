"""One catalogue with its fleets, its board and their planners: what a plan has to keep up with, by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from vetted_mw.configuration import Limits, Upstream
from vetted_mw.fleet.engines import Engine, EngineLoad
from vetted_mw.fleet.fleet import Fleet
from vetted_mw.grid.board import SignalBoard
from vetted_mw.grid.signal import GridSignal, Method, SignalKind
from vetted_mw.planning import Planner, candidates_at
from vetted_mw.routing.decision import AttemptOutcome, Rules, decide
from vetted_mw.routing.regions import Region

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vetted_mw.fleet.fleet import Lease
    from vetted_mw.routing.decided import Decision
    from vetted_mw.routing.options import Options

START = datetime(2026, 11, 22, 10, 30, tzinfo=UTC)
ZONES = {"a": "FR", "b": "SE_3", "c": "FR", "d": "", "e": "SE_3"}
REGIONS = {
    code: Region(
        code=code,
        provider="Own",
        site=code,
        location="Somewhere",
        country="FR" if zone == "FR" else "SE",
        zone=zone,
        network_p95_ms=None if code == "a" else 40.0,
    )
    for code, zone in ZONES.items()
}
"""All but `e` have an upstream."""
UPSTREAMS: Mapping[str, dict[str, Any]] = {
    "a": {"limits": Limits(max_in_flight=2), "metrics_path": "/metrics", "max_queue": 3},
    "b": {"discover": True},
    "c": {"models": frozenset({"known"}), "health_path": ""},
    "d": {},
}
LIFECYCLE = Method(accounting="production", basis="lifecycle", kind="average", factor_set="ipcc-2014")
RULES = (
    Rules(default_order=("a", "b", "c")),
    Rules(default_order=("d", "a"), allowed_countries=frozenset({"SE"}), default_carbon_aware=True),
    Rules(default_order=("c", "b"), tie_band_ratio=0.3),
)
MODELS = ("known", "fetched", "anything", "anything-else")


@dataclass
class Source:
    """A signal source that says what it was told to say."""

    name: str
    said: Sequence[GridSignal] = ()
    refresh_seconds: float = 3600.0
    is_complete: bool = False
    is_local: bool = True

    async def readings(self) -> Sequence[GridSignal]:
        return self.said


@dataclass
class House:
    """Fleets, board and planners of one catalogue, with both clocks; every fleet after the first is one reloaded."""

    wall: float = 0.0
    elapsed: float = 1_000.0  # at 0 every window that never was would seem to end just now
    leases: list[Lease] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sources = {name: Source(name) for name in ("first", "second")}
        self.board = SignalBoard(list(self.sources.values()), chains={}, now=self.now)
        self.fleets = [self._fleet(None)]
        self.planners = [Planner(REGIONS, self.fleets[0], self.board)]

    def now(self) -> datetime:
        return START + timedelta(seconds=self.wall)

    # ---- what may happen, by the names the steps have

    async def lease(self, code: str, times: int, is_old: bool) -> None:
        for _ in range(times):
            lease = self.fleets[0 if is_old else -1].lease(code)
            self.leases += [] if lease is None else [lease]

    async def release(self, outcome: AttemptOutcome, times: int, wait: float | None) -> None:
        given, self.leases = self.leases[:times], self.leases[times:]
        for lease in given:
            lease.release(outcome, retry_after=wait)

    async def attempts(self, code: str, outcome: AttemptOutcome, times: int) -> None:
        for _ in range(times):
            if (lease := self.fleets[-1].lease(code)) is not None:
                lease.release(outcome)

    async def proved(self) -> None:
        for lease in self.leases[-1:]:
            lease.proved()

    async def probed(self, code: str, alive: bool, times: int) -> None:
        for _ in range(times):
            self.fleets[-1].probed(code, alive=alive)

    async def fetched(self, code: str, models: frozenset[str]) -> None:
        self.fleets[-1].models_fetched(code, models)

    async def connected(self, code: str, times: int, took: float) -> None:
        for _ in range(times):
            self.fleets[-1].connected(code, took)

    async def load(self, code: str, waiting: int, good_seconds: float) -> None:
        load = EngineLoad(engine=Engine.VLLM, running=1, waiting=waiting)
        self.fleets[-1].load_read(code, load, asked_at=self.elapsed, good_seconds=good_seconds)

    async def tick(self, by: float) -> None:
        self.wall += by
        self.elapsed += by

    async def step_wall(self, by: float) -> None:
        self.wall += by

    async def say(self, source: str, told: Sequence[tuple[str, float, float, dict[str, Any]]], complete: bool) -> None:
        self.sources[source].said = [
            signal(value, zone, source, at=self.now() - timedelta(seconds=back), **members)
            for zone, value, back, members in told
        ]
        self.sources[source].is_complete = complete
        await self.board.refresh(source)

    async def reload(self, settings: Mapping[str, Any]) -> None:
        self.fleets = [self.fleets[-1], self._fleet(self.fleets[-1], **settings)]
        self.planners = [self.planners[-1], Planner(REGIONS, self.fleets[-1], self.board)]

    # ---- what is asked of it

    def both(self, options: Options, model: str, rules: Rules, *, view: int) -> tuple[Decision, Decision]:
        """Return the planned decision and the one that is made now."""
        fleet, now = self.fleets[view], self.now()
        planned = self.planners[view].decide(options, model, rules, now, monotonic=self.elapsed)
        return planned, decide(options, model, candidates_at(REGIONS, fleet, self.board, now), now, rules=rules)

    def _fleet(self, previous: Fleet | None, **settings: Any) -> Fleet:
        upstreams = {
            code: Upstream(region=code, base_url=f"https://{code}.example/v1", **(given | settings))
            for code, given in UPSTREAMS.items()
        }
        return Fleet(upstreams, monotonic=lambda: self.elapsed, jitter=lambda: 0.5, previous=previous)


def signal(value: float, zone: str, source: str, *, at: datetime, **members: Any) -> GridSignal:
    kind = members.pop("kind", SignalKind.MEASURED)
    limit = members.pop("max_age_minutes", 60.0)
    return GridSignal(
        source=source,
        zone=zone,
        area=zone,
        kind=kind,
        gco2_per_kwh=value,
        observed_at=at,
        fetched_at=members.pop("fetched_at", at),
        max_age_minutes=limit,
        method=LIFECYCLE,
        **members,
    )
