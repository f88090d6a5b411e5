"""What the caller is told of its completion: a fault by an error of its own, decision and attempts by the trace."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from vetted_mw.errors import CallerFaultError, UpstreamCutError, UpstreamFailedError, UpstreamTimeoutError
from vetted_mw.receipts.written import Filled
from vetted_mw.routing.served_trace import encode_served
from vetted_mw.routing.trace import build_trace, encode_trace
from vetted_mw.routing.values import TIMEOUTS, AttemptOutcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vetted_mw.core import Core, Receipted
    from vetted_mw.errors import AnswerError
    from vetted_mw.proxy.headers import Headers
    from vetted_mw.proxy.outcome import Fault
    from vetted_mw.routing.decision import AttemptRecord, Decision, DecisionMode, DecisionReason, Settled

__all__ = ["broken_stream", "caller_fault", "error_word", "told_headers", "told_trace"]

_SUCCESS = AttemptOutcome.SUCCESS


def told_trace(
    core: Core, decision: Decision, settled: Settled, attempts: Sequence[AttemptRecord], receipted: Receipted | None
) -> bytes:
    """Encode the routing trace of one answer.

    Args:
        core: what it saw of the gateway.
        decision: as decided.
        settled: what finally happened.
        attempts: every attempt, in order.
        receipted: what became of its receipt; None while that is not known.
    """
    written = None if receipted is None else receipted.written
    detail, plan = core.configuration.trace_detail, decision.plan
    if plan is not None and len(attempts) == 1 and detail == "full" and settled.region == plan.first is not None:
        alone = attempts[0]
        is_plain = alone.outcome is _SUCCESS and alone.region == plan.first and alone.estimated_energy_wh is None
        is_kept = receipted is not None and receipted.error is None and receipted.ledger is None
        if is_plain and is_kept and type(written) is Filled:
            return encode_served(decision, plan, settled, alone, signal=written.signal, compared=written.compared)
    return encode_trace(
        build_trace(
            decision,
            settled,
            attempts,
            receipt_signal=None if written is None else written.told_signal,
            receipt_error=None if receipted is None else receipted.error,
            default_region=msgspec.UNSET if written is None else written.told_comparison,
            ledger=None if receipted is None else receipted.ledger,
            detail=detail,
        )
    )


def told_headers(settled: Settled, *, sent: int, overhead_ms: float, receipt_id: str | None) -> Headers:
    """Return the `x-vetted-*` headers of an answer: what really served, and what it cost us in time.

    Args:
        settled: what finally happened.
        sent: requests that left for upstreams.
        overhead_ms: spent in us.
        receipt_id: of its receipt; None where there is none.
    """
    headers = [
        *_decided(settled.mode, settled.reason, sent),
        (b"x-vetted-overhead-ms", b"%.2f" % overhead_ms),
        *_served_by(settled.region),
    ]
    if receipt_id is not None:
        headers.append((b"x-vetted-receipt-id", receipt_id.encode()))
    return headers


@lru_cache(maxsize=512)  # of words, of which there are few; bounded, since a handler may call as often as it likes
def _decided(mode: DecisionMode, reason: DecisionReason, sent: int) -> Headers:
    return [
        (b"x-vetted-decision-mode", mode.value.encode()),
        (b"x-vetted-decision-reason", reason.value.encode()),
        (b"x-vetted-attempts", b"%d" % sent),
    ]


@lru_cache(maxsize=512)  # of the operator's regions
def _served_by(region: str | None) -> Headers:
    return [] if region is None else [(b"x-vetted-region", region.encode("ascii", "replace"))]


def error_word(error: AnswerError) -> str:
    """Return an error as a closed word: the code of its kind, or the status of one that an upstream has worded."""
    return str(error.status) if isinstance(error, CallerFaultError) else type(error).code


def caller_fault(fault: Fault | None) -> CallerFaultError | None:
    """Return what an upstream says is wrong with the request itself; None for a fault of any other kind."""
    if fault is None or fault.message is None or fault.status is None:
        return None
    told = fault.message
    return CallerFaultError(
        told.message,
        status=fault.status,
        type=told.type or "upstream_error",
        code=told.code or "upstream_error",
        param=told.param,
    )


def broken_stream(fault: Fault | None) -> AnswerError:
    """Name a stream that broke after commit, in the three words the wire has for it."""
    outcome = None if fault is None else fault.outcome
    if outcome in TIMEOUTS:
        return UpstreamTimeoutError(
            "The region's stream stopped before its answer was complete. Send the request again."
        )
    if outcome is AttemptOutcome.UPSTREAM_CUT:
        return UpstreamCutError("The region's stream was cut before its answer was complete. Send the request again.")
    return UpstreamFailedError("The region failed before its answer was complete. Send the request again.")
