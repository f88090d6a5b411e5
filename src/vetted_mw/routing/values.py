"""The words and values of routing: closed vocabularies, the facts of a candidate, a decision, an attempt."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from vetted_mw.grid.signal import SignalReading
    from vetted_mw.routing.regions import Region

__all__ = [
    "TIMEOUTS",
    "AttemptOutcome",
    "AttemptRecord",
    "Candidate",
    "DecisionMode",
    "DecisionReason",
    "Rejection",
    "RoutePolicy",
    "Rules",
    "Ruling",
    "Settled",
    "Verdict",
]


class RoutePolicy(StrEnum):
    """Which rule orders the candidates."""

    EU_PREFERRED = "eu_preferred"
    PINNED = "pinned"
    LOWEST_CARBON = "lowest_carbon"


class DecisionMode(StrEnum):
    """How the request came to run where it ran."""

    PREFERRED = "preferred"
    FAILOVER = "failover"
    PINNED = "pinned"
    LIVE = "live"
    DEGRADED = "degraded"
    UNAVAILABLE = "unavailable"


class DecisionReason(StrEnum):
    """Why, in one word of `routing.md`'s table."""

    PREFERRED_AVAILABLE = "preferred_available"
    PREFERRED_DEGRADED = "preferred_degraded"
    PREFERRED_SATURATED = "preferred_saturated"
    PREFERRED_MODEL_UNAVAILABLE = "preferred_model_unavailable"
    PREFERRED_OVER_LATENCY_BUDGET = "preferred_over_latency_budget"
    PREFERRED_NOT_CONFIGURED = "preferred_not_configured"
    PREFERRED_NOT_ALLOWED = "preferred_not_allowed"
    ATTEMPT_FAILED = "attempt_failed"
    PINNED_REGION_AVAILABLE = "pinned_region_available"
    DOCUMENTED_SECONDARY = "documented_secondary"
    LOWEST_LIVE_INTENSITY = "lowest_live_intensity"
    WITHIN_TIE_BAND = "within_tie_band"
    ONLY_LIVE_CANDIDATE = "only_live_candidate"
    LIVE_CANDIDATES_EXHAUSTED = "live_candidates_exhausted"
    DEGRADED_NO_OPERATIONAL_LIVE_SIGNAL = "degraded_no_operational_live_signal"
    PINNED_REGION_UNAVAILABLE = "pinned_region_unavailable"
    NO_REGION_AVAILABLE = "no_region_available"
    ALL_REGIONS_SATURATED = "all_regions_saturated"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    MODEL_NOT_AVAILABLE = "model_not_available"


class Rejection(StrEnum):
    """Why a region is not a candidate, in the order the checks are made."""

    NOT_CONFIGURED = "not_configured"
    NOT_FOR_INFERENCE = "not_for_inference"
    POLICY = "policy"
    OUTSIDE_POLICY = "outside_policy"
    MODEL_UNAVAILABLE = "model_unavailable"
    DEGRADED = "degraded"
    SATURATED = "saturated"
    LATENCY_BUDGET = "latency_budget"
    NO_LIVE_SIGNAL = "no_live_signal"
    STALE_SIGNAL = "stale_signal"
    METHOD_MISMATCH = "method_mismatch"


class AttemptOutcome(StrEnum):
    """How one attempt ended (`resilience.md`)."""

    SUCCESS = "success"
    CALLER_ERROR = "caller_error"
    SATURATED = "saturated"
    UPSTREAM_ERROR = "upstream_error"
    CONNECT_ERROR = "connect_error"
    TLS_ERROR = "tls_error"
    CONNECT_TIMEOUT = "connect_timeout"
    FIRST_BYTE_TIMEOUT = "first_byte_timeout"
    IDLE_TIMEOUT = "idle_timeout"
    ANSWER_TIMEOUT = "answer_timeout"
    UPSTREAM_CUT = "upstream_cut"
    INVALID_RESPONSE = "invalid_response"
    NOT_ADMITTED = "not_admitted"
    CLIENT_DISCONNECT = "client_disconnect"
    SHUTTING_DOWN = "shutting_down"


TIMEOUTS = frozenset(
    {
        AttemptOutcome.CONNECT_TIMEOUT,
        AttemptOutcome.FIRST_BYTE_TIMEOUT,
        AttemptOutcome.IDLE_TIMEOUT,
        AttemptOutcome.ANSWER_TIMEOUT,
    }
)
"""Outcomes in which a limit on waiting was reached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The operator's policy, narrowed by the caller's where there is one.

    Attributes:
        default_order: region codes of the `eu_preferred` order.
        allowed_regions: codes that may serve; None allows every region.
        allowed_countries: ISO codes that may serve; None allows every country.
        require_region: every request must name its region.
        carbon_aware: whether `routing: carbon_aware` is allowed.
        default_carbon_aware: whether a request that says nothing is routed carbon-aware (`default_routing`).
        tie_band_gco2_per_kwh: live values within this of the lowest count as equal.
        tie_band_ratio: the same as a share of the lowest; the wider of the two holds.
    """

    default_order: tuple[str, ...]
    allowed_regions: frozenset[str] | None = None
    allowed_countries: frozenset[str] | None = None
    require_region: bool = False
    carbon_aware: bool = True
    default_carbon_aware: bool = False
    tie_band_gco2_per_kwh: float = 0.0
    tie_band_ratio: float = 0.0
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash((self.default_order, self.allowed_regions, self.allowed_countries)))

    def __hash__(self) -> int:
        """Return what was worked out once: every request looks up what was decided under its rules."""
        return self._hash


class Candidate(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The facts one region is judged on, frozen at the instant of the decision.

    Attributes:
        region: what is known of the place.
        configured: it has an upstream.
        models: names it serves; None when any, or the list was not fetched yet.
        degraded: breaker open, probe failing or drained.
        saturated: no capacity for one more request now.
        retry_after: seconds until a saturation window ends, when known.
        network_p95_ms: measured, else declared, else None.
        reading: the best signal of its zone's chain at this instant; None when there is none at all.
    """

    region: Region
    configured: bool
    models: frozenset[str] | None = None
    degraded: bool = False
    saturated: bool = False
    retry_after: float | None = None
    network_p95_ms: float | None = None
    reading: SignalReading | None = None


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one candidate: eligible, or exactly one reason why not."""

    candidate: Candidate
    rejected: Rejection | None

    @property
    def eligible(self) -> bool:
        """Whether it may serve under the policy that was applied."""
        return self.rejected is None


class Ruling(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided, whatever the instant: it holds for as long as the facts do that it rests on.

    Attributes:
        policy: the rule applied.
        mode: as decided, before any attempt.
        reason: the same.
        order: region codes to attempt, first to last; empty when the mode is `unavailable`.
        rejected: one per catalogue region, in catalogue order: None for an eligible one, else why not.
        live: the leading codes of `order` that were ranked by a live signal; empty for every other policy and mode.
        method: the method the live values share; None when no signal took part.
        tie_band_gco2_per_kwh: the band in force at the lowest value; None when none is set or no signal took part.
        serving_model: codes of configured regions that list the model, for the message of `model_not_available`.
    """

    policy: RoutePolicy
    mode: DecisionMode
    reason: DecisionReason
    order: tuple[str, ...]
    rejected: tuple[Rejection | None, ...]
    live: tuple[str, ...] = ()
    method: str | None = None
    tie_band_gco2_per_kwh: float | None = None
    serving_model: tuple[str, ...] = ()


class AttemptRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One try at one region.

    Attributes:
        region: its code.
        outcome: how it ended.
        status: the upstream's HTTP status; None when there was none.
        duration_ms: from lease to end.
        sent: whether a request left for the upstream.
        estimated_energy_wh: for an attempt abandoned after its request was sent.
    """

    region: str
    outcome: AttemptOutcome
    status: int | None = None
    duration_ms: float = 0.0
    sent: bool = True
    estimated_energy_wh: float | None = None


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """What finally happened: the decision seen together with its attempts.

    Attributes:
        mode: final mode.
        reason: final reason.
        region: the code that served; None when none did.
        operational: the signal by which the serving region was chosen; None when no signal chose it.
    """

    mode: DecisionMode
    reason: DecisionReason
    region: str | None
    operational: SignalReading | None
