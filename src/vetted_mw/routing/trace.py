"""`routing_trace`: decision and attempts as the caller reads them."""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003 (a struct's types are read when it is used)
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

import msgspec

from vetted_mw.instants import rfc3339
from vetted_mw.rounding import minutes, significant

if TYPE_CHECKING:
    from vetted_mw.grid.signal import SignalReading
    from vetted_mw.routing.decided import Decision, Plan
    from vetted_mw.routing.values import AttemptRecord, Candidate, Settled, Verdict

__all__ = [
    "ToldComparison",
    "Trace",
    "build_trace",
    "encode_comparison",
    "encode_trace",
    "kept_candidates",
    "signal_form",
    "told_attempt",
    "told_candidates",
    "told_comparison",
    "told_signal",
]


class ToldSignal(msgspec.Struct, frozen=True, kw_only=True):
    """A signal as the trace shows it."""

    source: str
    signal_kind: str
    gco2_per_kwh: float
    observed_at: str
    requested_at: str
    age_minutes: float
    temporal_match: str
    live_eligible: bool


class ToldCandidate(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate as the trace shows it."""

    region: str
    eligible: bool
    rejected: str | None
    gco2_per_kwh: float | None
    signal_age_minutes: float | None
    network_p95_ms: float | None


class ToldAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt as the trace shows it."""

    region: str
    outcome: str
    status: int | None
    duration_ms: float | msgspec.Raw
    estimated_energy_wh: float | msgspec.UnsetType = msgspec.UNSET


class ToldComparison(msgspec.Struct, frozen=True, kw_only=True):
    """The same request in the default region, as the trace shows it: attributional, nothing about avoided emissions."""

    region: str
    gco2e: float
    gco2e_ci90_lo: float
    gco2e_ci90_hi: float
    comparison: Literal["attributional"]
    lower_by_gco2e: float


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """Why a request ran where it ran. What was written before stands in it as it was written."""

    route_policy: str
    decision_mode: str
    decision_reason: str
    region: str | None
    operational_signal: ToldSignal | msgspec.Raw | None
    receipt_signal: ToldSignal | msgspec.Raw | None
    candidates: Sequence[ToldCandidate] | msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    attempts: Sequence[ToldAttempt] | msgspec.UnsetType = msgspec.UNSET
    receipt_error: str | msgspec.UnsetType = msgspec.UNSET
    default_region: ToldComparison | msgspec.Raw | msgspec.UnsetType | None = msgspec.UNSET
    ledger: str | msgspec.UnsetType = msgspec.UNSET
    method: str | msgspec.UnsetType = msgspec.UNSET
    tie_band_gco2_per_kwh: float | msgspec.UnsetType = msgspec.UNSET


class ToldCandidates(msgspec.Struct, frozen=True):
    """The candidates of one plan as they were written last.

    Attributes:
        text: as JSON has them.
        since: from which instant on they are told alike.
        until: the first at which one of them is told as older by a tenth of a minute.
        served: traces of requests that the first region served, with holes; `served_trace`'s own.
    """

    text: msgspec.Raw
    since: datetime
    until: datetime
    served: dict[object, bytes] = {}


_ENCODE = msgspec.json.Encoder().encode
_AGED = b'"requested_at":"","age_minutes":0.0'
_HALF_A_TENTH = 0.05
_MARGIN_MINUTES = 1e-4
"""No rounding of an age can be nearer to where the next tenth begins."""


def build_trace(
    decision: Decision,
    settled: Settled,
    attempts: Sequence[AttemptRecord],
    *,
    receipt_signal: ToldSignal | msgspec.Raw | None,
    receipt_error: str | None = None,
    default_region: ToldComparison | msgspec.Raw | msgspec.UnsetType | None = msgspec.UNSET,
    ledger: str | None = None,
    detail: Literal["full", "short"] = "full",
) -> Trace:
    """Tell decision and attempts.

    Args:
        decision: as decided.
        settled: what finally happened.
        attempts: every attempt, in order.
        receipt_signal: the signal the receipt's figures used; None without a receipt.
        receipt_error: why there is no receipt.
        default_region: the same request there; None where that cannot be compared, unset where there is no receipt.
        ledger: `unavailable` where the receipt should have been kept and was not.
        detail: `short` leaves candidates and attempts out.
    """
    is_full = detail == "full"
    band = decision.tie_band_gco2_per_kwh
    return Trace(
        route_policy=decision.policy,
        decision_mode=settled.mode,
        decision_reason=settled.reason,
        region=settled.region,
        operational_signal=None if settled.operational is None else told_signal(settled.operational),
        receipt_signal=receipt_signal,
        candidates=told_candidates(decision) if is_full else msgspec.UNSET,
        attempts=[told_attempt(attempt) for attempt in attempts] if is_full else msgspec.UNSET,
        receipt_error=msgspec.UNSET if receipt_error is None else receipt_error,
        default_region=default_region,
        ledger=msgspec.UNSET if ledger is None else ledger,
        method=msgspec.UNSET if decision.method is None else decision.method,
        tie_band_gco2_per_kwh=msgspec.UNSET if band is None else significant(band),
    )


def encode_trace(trace: Trace) -> bytes:
    """Write the trace as JSON."""
    return _ENCODE(trace)


def told_candidates(decision: Decision) -> Sequence[ToldCandidate] | msgspec.Raw:
    """Tell every candidate; for a decision by a plan they are written once, until one of them looks older."""
    if decision.plan is None:
        return [_candidate(verdict) for verdict in decision.verdicts]
    return kept_candidates(decision.plan, decision).text


def kept_candidates(plan: Plan, decision: Decision) -> ToldCandidates:
    """Return the candidates of a plan as they are told at the instant of one of its decisions."""
    told, now = plan.told, decision.requested_at
    if not isinstance(told, ToldCandidates) or not told.since <= now < told.until:
        text = msgspec.Raw(_ENCODE([_candidate(verdict) for verdict in decision.verdicts]))
        before, after = _minutes_alike(decision.candidates)
        told = ToldCandidates(text, now - timedelta(minutes=before), now + timedelta(minutes=after))
        plan.told = told
    return told


def _minutes_alike(candidates: Sequence[Candidate]) -> tuple[float, float]:
    """Return for how many minutes before and after their instant every candidate's age is told as it is then.

    Before as well: of two decisions that were made one after the other, the second may be told first.
    """
    ages = [candidate.reading.age_minutes for candidate in candidates if candidate.reading is not None]
    apart = [(age, age - minutes(age)) for age in ages]
    before = min((_HALF_A_TENTH + over for age, over in apart if minutes(age)), default=_HALF_A_TENTH)
    after = min((_HALF_A_TENTH - over for _age, over in apart), default=_HALF_A_TENTH)
    return max(0.0, before - _MARGIN_MINUTES), max(0.0, after - _MARGIN_MINUTES)


def told_comparison(region: str, *, value: float, low: float, high: float, here: float) -> ToldComparison:
    """Tell what the same request would be charged with in the default region.

    Args:
        region: the default region's code.
        value: g CO2e there, the median.
        low: the lower bound of its interval.
        high: the upper bound of its interval.
        here: g CO2e of the receipt; where it is the higher one, `lower_by_gco2e` is negative and says so.
    """
    there = significant(value)
    return ToldComparison(
        region=region,
        gco2e=there,
        gco2e_ci90_lo=significant(low),
        gco2e_ci90_hi=significant(high),
        comparison="attributional",
        lower_by_gco2e=significant(there - here),
    )


def told_signal(reading: SignalReading) -> ToldSignal:
    """Tell a reading in its eight members; ages to a tenth of a minute."""
    return ToldSignal(
        source=reading.signal.source,
        signal_kind=reading.signal.kind.value,
        gco2_per_kwh=significant(reading.signal.gco2_per_kwh),
        observed_at=rfc3339(reading.signal.observed_at),
        requested_at=rfc3339(reading.read_at),
        age_minutes=minutes(reading.age_minutes),
        temporal_match=reading.temporal_match.value,
        live_eligible=reading.live_eligible,
    )


def signal_form(reading: SignalReading) -> bytes:
    """Write a reading as JSON with two holes: for the instant of a decision, and for the signal's age at that instant.

    It holds for every instant at which the signal is judged as it is in this reading.
    """
    told = msgspec.structs.replace(told_signal(reading), requested_at="", age_minutes=0.0)
    return _ENCODE(told).replace(b"%", b"%%").replace(_AGED, b'"requested_at":"%b","age_minutes":%b')


def encode_comparison(told: ToldComparison) -> bytes:
    """Write a comparison as JSON."""
    return _ENCODE(told)


def _candidate(verdict: Verdict) -> ToldCandidate:
    reading = verdict.candidate.reading
    return ToldCandidate(
        region=verdict.candidate.region.code,
        eligible=verdict.eligible,
        rejected=None if verdict.rejected is None else verdict.rejected.value,
        gco2_per_kwh=None if reading is None else significant(reading.signal.gco2_per_kwh),
        signal_age_minutes=None if reading is None else minutes(reading.age_minutes),
        network_p95_ms=verdict.candidate.network_p95_ms,
    )


def told_attempt(attempt: AttemptRecord) -> ToldAttempt:
    """Tell an attempt; its duration to a tenth of a millisecond."""
    energy = attempt.estimated_energy_wh
    return ToldAttempt(
        region=attempt.region,
        outcome=attempt.outcome,
        status=attempt.status,
        duration_ms=round(attempt.duration_ms, 1),
        estimated_energy_wh=msgspec.UNSET if energy is None else significant(energy),
    )
