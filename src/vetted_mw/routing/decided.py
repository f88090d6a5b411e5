"""A decision: a ruling seen at the instant of one request. Pure."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

from vetted_mw.routing.values import Rejection, Settled, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from vetted_mw.grid.signal import SignalReading
    from vetted_mw.routing.scene import Scene
    from vetted_mw.routing.values import Candidate, DecisionMode, DecisionReason, RoutePolicy, Ruling

__all__ = ["Decision", "Plan"]

_WAITED_FOR = frozenset({Rejection.SATURATED, Rejection.DEGRADED})


class Plan:
    """A ruling and the scene it was made on, kept for every request it holds for.

    Attributes:
        ruling: what was decided.
        scene: on what.
        first: code of the region that requests go to first; None where they go nowhere.
        served: what becomes of a request that the first region serves; None where that was ranked by a live signal,
            whose age each request tells anew, and where there is none.
        told: what the trace has written of its candidates, for the next one; its writer's own.
    """

    __slots__ = ("first", "ruling", "scene", "served", "told")

    def __init__(self, ruling: Ruling, scene: Scene) -> None:
        self.ruling = ruling
        self.scene = scene
        self.first = ruling.order[0] if ruling.order else None
        self.served: Settled | None = None
        if self.first is not None and self.first not in ruling.live:
            self.served = Settled(mode=ruling.mode, reason=ruling.reason, region=self.first, operational=None)
        self.told: object = None


class Decision(msgspec.Struct, eq=False):
    """The ordered list failover walks, and why it is what it is. A value: nothing about it ever changes.

    What its instant adds to the ruling is worked out where it is asked for: most requests need none of it.

    Attributes:
        ruling: what was decided.
        requested_at: the instant of the decision, UTC; the same everywhere in one answer.
        plan: what the ruling was kept as; None where it was made for this request alone.
        monotonic: the same instant on the other clock.
        seen: the facts at that instant; None where `plan` holds them, until somebody asks for them.
    """

    ruling: Ruling
    requested_at: datetime
    plan: Plan | None = None
    monotonic: float = 0.0
    seen: tuple[Candidate, ...] | None = None

    def __eq__(self, other: object) -> bool:
        """Whether both say the same of the same instant."""
        if not isinstance(other, Decision):
            return NotImplemented
        mine = (self.ruling, self.requested_at, self.candidates)
        return mine == (other.ruling, other.requested_at, other.candidates)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """Show what was decided."""
        return f"Decision({self.ruling!r}, {self.requested_at!r})"

    @property
    def policy(self) -> RoutePolicy:
        """The rule applied."""
        return self.ruling.policy

    @property
    def mode(self) -> DecisionMode:
        """As decided, before any attempt."""
        return self.ruling.mode

    @property
    def reason(self) -> DecisionReason:
        """The same."""
        return self.ruling.reason

    @property
    def order(self) -> tuple[str, ...]:
        """Region codes to attempt, first to last; empty when the mode is `unavailable`."""
        return self.ruling.order

    @property
    def live(self) -> tuple[str, ...]:
        """The leading codes of `order` that were ranked by a live signal; empty for every other policy and mode."""
        return self.ruling.live

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """The facts of every catalogue region at the instant, in catalogue order."""
        if self.seen is None:
            self.seen = () if self.plan is None else self.plan.scene.at(self.requested_at, self.monotonic)
        return self.seen

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """One per catalogue region, in catalogue order."""
        pairs = zip(self.candidates, self.ruling.rejected, strict=True)
        return tuple(Verdict(candidate=candidate, rejected=rejected) for candidate, rejected in pairs)

    @property
    def readings(self) -> Mapping[str, SignalReading]:
        """Region code -> the live reading it was ranked by, for the regions of `live`."""
        read = {code: self.reading(code) for code in self.live}
        return MappingProxyType({code: reading for code, reading in read.items() if reading is not None})

    @property
    def retry_after(self) -> float | None:
        """Seconds until the soonest saturated region may be free again; None when unknown."""
        pairs = zip(self.candidates, self.ruling.rejected, strict=True)
        waits = (one.retry_after for one, why in pairs if one.retry_after is not None and why in _WAITED_FOR)
        return min(waits, default=None)

    @property
    def method(self) -> str | None:
        """The method the live values share; None when no signal took part."""
        return self.ruling.method

    @property
    def tie_band_gco2_per_kwh(self) -> float | None:
        """The band in force at the lowest value; None when none is set or no signal took part."""
        return self.ruling.tie_band_gco2_per_kwh

    @property
    def serving_model(self) -> tuple[str, ...]:
        """Codes of configured regions that list the model, for the message of `model_not_available`."""
        return self.ruling.serving_model

    def reading(self, code: str) -> SignalReading | None:
        """Return the best signal of a region's zone at the instant; None when there is none at all."""
        if self.plan is not None:
            return self.plan.scene.known[code].reading(self.requested_at)
        return next(one.reading for one in self.candidates if one.region.code == code)
