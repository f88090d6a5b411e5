"""`routing_trace`: decision and attempts as the caller reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from vetted_mw.instants import rfc3339
from vetted_mw.rounding import minutes, significant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vetted_mw.grid.signal import SignalReading
    from vetted_mw.routing.values import AttemptRecord, Decision, Settled, Verdict

__all__ = ["ToldComparison", "Trace", "build_trace", "encode_trace", "told_comparison", "told_signal"]


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
    duration_ms: float
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
    """Why a request ran where it ran."""

    route_policy: str
    decision_mode: str
    decision_reason: str
    region: str | None
    operational_signal: ToldSignal | None
    receipt_signal: ToldSignal | None
    candidates: list[ToldCandidate] | msgspec.UnsetType = msgspec.UNSET
    attempts: list[ToldAttempt] | msgspec.UnsetType = msgspec.UNSET
    receipt_error: str | msgspec.UnsetType = msgspec.UNSET
    default_region: ToldComparison | msgspec.UnsetType | None = msgspec.UNSET
    ledger: str | msgspec.UnsetType = msgspec.UNSET
    method: str | msgspec.UnsetType = msgspec.UNSET
    tie_band_gco2_per_kwh: float | msgspec.UnsetType = msgspec.UNSET


_ENCODE = msgspec.json.Encoder()


def build_trace(
    decision: Decision,
    settled: Settled,
    attempts: Sequence[AttemptRecord],
    *,
    receipt_reading: SignalReading | None,
    receipt_error: str | None = None,
    default_region: ToldComparison | msgspec.UnsetType | None = msgspec.UNSET,
    ledger: str | None = None,
    detail: Literal["full", "short"] = "full",
) -> Trace:
    """Tell decision and attempts.

    Args:
        decision: as decided.
        settled: what finally happened.
        attempts: every attempt, in order.
        receipt_reading: the signal the receipt's figures used; None without a receipt.
        receipt_error: why there is no receipt.
        default_region: the same request there; None where that cannot be compared, unset where there is no receipt.
        ledger: `unavailable` where the receipt should have been kept and was not.
        detail: `short` leaves candidates and attempts out.
    """
    is_full = detail == "full"
    return Trace(
        route_policy=decision.policy.value,
        decision_mode=settled.mode.value,
        decision_reason=settled.reason.value,
        region=settled.region,
        operational_signal=None if settled.operational is None else told_signal(settled.operational),
        receipt_signal=None if receipt_reading is None else told_signal(receipt_reading),
        candidates=[_candidate(verdict) for verdict in decision.verdicts] if is_full else msgspec.UNSET,
        attempts=[_attempt(attempt) for attempt in attempts] if is_full else msgspec.UNSET,
        receipt_error=msgspec.UNSET if receipt_error is None else receipt_error,
        default_region=default_region,
        ledger=msgspec.UNSET if ledger is None else ledger,
        method=msgspec.UNSET if decision.method is None else decision.method,
        tie_band_gco2_per_kwh=msgspec.UNSET
        if decision.tie_band_gco2_per_kwh is None
        else significant(decision.tie_band_gco2_per_kwh),
    )


def encode_trace(trace: Trace) -> bytes:
    """Write the trace as JSON."""
    return _ENCODE.encode(trace)


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


def _attempt(attempt: AttemptRecord) -> ToldAttempt:
    energy = attempt.estimated_energy_wh
    return ToldAttempt(
        region=attempt.region,
        outcome=attempt.outcome.value,
        status=attempt.status,
        duration_ms=round(attempt.duration_ms, 1),
        estimated_energy_wh=msgspec.UNSET if energy is None else significant(energy),
    )
