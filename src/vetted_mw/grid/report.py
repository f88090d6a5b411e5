"""What the board knows, as JSON-ready facts: every source's last answer per zone, and how each source fares."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from vetted_mw.instants import rfc3339
from vetted_mw.rounding import minutes, significant

if TYPE_CHECKING:
    from datetime import datetime

    from vetted_mw.grid.absence import NoSignal
    from vetted_mw.grid.board import SignalBoard
    from vetted_mw.grid.signal import GridSignal, SignalReading
    from vetted_mw.grid.source import Absence, SourceState

_MEMBERS = (
    *("source", "area", "signal_kind", "gco2_per_kwh", "interval_start", "observed_at", "fetched_at"),
    *("resolution_minutes", "estimated", "max_age_minutes", "method", "factor_set", "proxy_share", "max_proxy_share"),
    *("mix", "raw_ref", "requested_at", "age_minutes", "temporal_match", "live_eligible", "ineligible_reason"),
)

__all__ = ["reading_facts", "signal_facts", "source_facts", "zone_facts"]


def zone_facts(board: SignalBoard, zone: str, now: datetime) -> list[dict[str, Any]]:
    """Return what each source of the zone's chain last gave, in its order, and why it has nothing new.

    `of_zone` is true for the value the zone takes part with: the first that is live-eligible. A source that has never
    given anything for the zone stands there with its reason, its other members null; one that was never asked for it,
    or has not answered yet, does not: `source_facts` tells how it fares.
    """
    chain = board.chain(zone)
    rows: list[tuple[int, dict[str, Any]]] = []
    absences = {(one.source, one.told.source): one for one in board.absences_for(zone)}
    is_taken = False
    for name, reading in board.rows_for(zone, now):
        absence = absences.pop((name, reading.signal.source), None)
        of_zone = reading.live_eligible and not is_taken
        is_taken = is_taken or of_zone
        rows.append((chain.index(name), _row(zone, name, reading_facts(reading), of_zone=of_zone, absence=absence)))
    for (name, label), absence in absences.items():
        nothing = dict.fromkeys(_MEMBERS) | {"source": label, "live_eligible": False}
        rows.append((chain.index(name), _row(zone, name, nothing, of_zone=False, absence=absence)))
    return [row for _place, row in sorted(rows, key=lambda one: one[0])]


def _row(zone: str, name: str, facts: dict[str, Any], *, of_zone: bool, absence: Absence | None) -> dict[str, Any]:
    told = None if absence is None else _no_signal(absence.told, absence.since)
    return {"zone": zone, "name": name, **facts, "of_zone": of_zone, "no_signal": told}


def reading_facts(reading: SignalReading) -> dict[str, Any]:
    """Tell a reading whole: the signal, its age and whether it may decide."""
    return {
        **signal_facts(reading.signal),
        "requested_at": rfc3339(reading.read_at),
        "age_minutes": minutes(reading.age_minutes),
        "temporal_match": reading.temporal_match.value,
        "live_eligible": reading.live_eligible,
        "ineligible_reason": None if reading.ineligible is None else reading.ineligible.value,
    }


def signal_facts(signal: GridSignal) -> dict[str, Any]:
    """Tell a signal whole; its age is another matter."""
    start = None
    if signal.resolution_minutes is not None:
        start = rfc3339(signal.observed_at - timedelta(minutes=signal.resolution_minutes))
    return {
        "source": signal.source,
        "area": signal.area,
        "signal_kind": signal.kind.value,
        "gco2_per_kwh": significant(signal.gco2_per_kwh),
        "interval_start": start,
        "observed_at": rfc3339(signal.observed_at),
        "fetched_at": rfc3339(signal.fetched_at),
        "resolution_minutes": signal.resolution_minutes,
        "estimated": signal.estimated,
        "max_age_minutes": signal.max_age_minutes,
        "method": str(signal.method),
        "factor_set": signal.method.factor_set,
        "proxy_share": None if signal.proxy_share is None else significant(signal.proxy_share),
        "max_proxy_share": signal.max_proxy_share,
        "mix": {code: significant(megawatts) for code, megawatts in signal.mix} or None,
        "raw_ref": signal.raw_ref or None,
    }


def source_facts(board: SignalBoard) -> list[dict[str, Any]]:
    """Return how each source fares, in the order of the default chain."""
    return [{"source": name, **_state(state)} for name, state in board.states().items()]


def _state(state: SourceState) -> dict[str, Any]:
    return {
        "state": _word(state),
        "breaker": "open" if state.is_open else "closed",
        "succeeded_at": _instant(state.succeeded_at),
        "failed_at": _instant(state.failed_at),
        "error": state.error,
        "failures": state.failures,
        "retry_after_seconds": state.retry_after_seconds,
    }


def _word(state: SourceState) -> str:
    if state.failures:
        return "failing"
    if state.succeeded_at is not None:
        return "answering"
    return "asking" if state.is_asking else "not_asked"


def _instant(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment)


def _no_signal(told: NoSignal, since: datetime) -> dict[str, Any]:
    return {
        "reason": told.reason.value,
        "cause": None if told.cause is None else told.cause.value,
        "status": told.status,
        "since": rfc3339(since),
    }
