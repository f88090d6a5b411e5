"""`routing_trace` of a request that its first region served at once: filled into what its plan has kept of it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vetted_mw.instants import rfc3339_bytes
from vetted_mw.rounding import minutes
from vetted_mw.routing.trace import build_trace, encode_trace, kept_candidates, signal_form, told_attempt

if TYPE_CHECKING:
    from vetted_mw.routing.decided import Decision, Plan
    from vetted_mw.routing.values import AttemptRecord, Settled

__all__ = ["encode_served"]

_ENCODE = msgspec.json.Encoder().encode
_MOST_FORMS = 8
"""Kept of one plan: an upstream answers with one status or two, but may with each of a hundred."""
_OPERATIONAL, _RECEIPT, _DURATION, _COMPARED = _HOLES = tuple(msgspec.Raw(b"\x00%d" % number) for number in range(4))
"""Stand where two signals, a duration and a comparison will: no text of JSON holds a zero byte."""


def encode_served(
    decision: Decision, plan: Plan, settled: Settled, attempt: AttemptRecord, *, signal: bytes, compared: bytes
) -> bytes:
    """Write the full trace of an answer that the first region gave at the first attempt, as `encode_trace` would.

    Of all such answers by one plan it differs in few places, and stands otherwise as it was written before.

    Args:
        decision: as decided.
        plan: what it was decided by.
        settled: what finally happened: its mode and reason are the decision's, its region the first of the order.
        attempt: the one that served.
        signal: the signal the receipt's figures used, as JSON.
        compared: the same request in the default region, as JSON.
    """
    forms, operational = kept_candidates(plan, decision).served, settled.operational
    # A signal is told in the same words for as long as it is judged alike; a plan holds one of each region.
    judged = None if operational is None else (operational.temporal_match, operational.ineligible)
    form = forms.get((attempt.status, judged))
    if form is None:
        if len(forms) >= _MOST_FORMS:
            forms.clear()
        form = forms[attempt.status, judged] = _form(decision, settled, attempt)
    if operational is None:
        return form % (signal, attempt.duration_ms, compared)
    at, age = rfc3339_bytes(operational.read_at), _ENCODE(minutes(operational.age_minutes))
    return form % (at, age, signal, attempt.duration_ms, compared)


def _form(decision: Decision, settled: Settled, attempt: AttemptRecord) -> bytes:
    trace = build_trace(decision, settled, (), receipt_signal=_RECEIPT, default_region=_COMPARED)
    attempts = [msgspec.structs.replace(told_attempt(attempt), duration_ms=_DURATION)]
    operational = None if settled.operational is None else _OPERATIONAL
    held = msgspec.structs.replace(trace, attempts=attempts, operational_signal=operational)
    written = encode_trace(held).replace(b"%", b"%%")
    at_and_age = b"" if settled.operational is None else signal_form(settled.operational)
    for hole, form in zip(_HOLES, (at_and_age, b"%b", b"%.1f", b"%b"), strict=True):
        written = written.replace(bytes(hole), form)
    return written
