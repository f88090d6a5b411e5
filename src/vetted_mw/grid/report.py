"""What the board knows, as JSON-ready facts: every source's last answer per zone, and how each source fares."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from vetted_mw.instants import rfc3339
from vetted_mw.rounding import minutes, significant

if TYPE_CHECKING:
    from datetime import datetime

    from vetted_mw.grid.absence import NoSignal
    from vetted_mw.grid.board import SignalBoard, SourceState
    from vetted_mw.grid.signal import GridSignal, SignalReading

__all__ = ["reading_facts", "signal_facts", "source_facts", "zone_facts"]


def zone_facts(board: SignalBoard, zone: str, now: datetime) -> list[dict[str, Any]]:
    """Return what each source of the zone's chain last gave, in its order, and why it has nothing new.

    `decides` is true for the first that is live-eligible. A source that has never given anything for the zone stands
    there with its reason alone; one that was never asked for it, or has not answered yet, does not: `source_facts`
    tells how it fares.
    """
    chain = board.chain(zone)
    rows: list[tuple[int, dict[str, Any]]] = []
    absences = {(one.source, one.told.source): one for one in board.absences_for(zone)}
    has_decided = False
    for reading in board.readings_for(zone, now):
        name = board.name_of(reading.signal)
        absence = absences.pop((name, reading.signal.source), None)
        decides = reading.live_eligible and not has_decided
        has_decided = has_decided or decides
        told = None if absence is None else _no_signal(absence.told, absence.since)
        rows.append(
            (chain.index(name), {"zone": zone, **reading_facts(reading), "decides": decides, "no_signal": told})
        )
    for (name, label), absence in absences.items():
        told = _no_signal(absence.told, absence.since)
        rows.append((chain.index(name), {"zone": zone, "source": label, "decides": False, "no_signal": told}))
    return [row for _place, row in sorted(rows, key=lambda one: one[0])]


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
        "succeeded_at": _instant(state.succeeded_at),
        "failed_at": _instant(state.failed_at),
        "error": state.error,
        "failures": state.failures,
        "retry_after_seconds": state.retry_after_seconds,
    }


def _word(state: SourceState) -> str:
    if state.failures:
        return "open" if state.is_open else "failing"
    return "not_asked" if state.succeeded_at is None else "answering"


def _instant(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment)


def _no_signal(told: NoSignal, since: datetime) -> dict[str, Any]:
    return {"reason": told.reason.value, "status": told.status, "since": rfc3339(since)}
