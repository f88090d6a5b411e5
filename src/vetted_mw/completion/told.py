"""What the caller is told of its completion: a fault by an error of its own, decision and attempts by the trace."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import msgspec

from vetted_mw.errors import CallerFaultError, UpstreamCutError, UpstreamFailedError, UpstreamTimeoutError
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
    return encode_trace(
        build_trace(
            decision,
            settled,
            attempts,
            receipt_signal=None if written is None else written.told_signal,
            receipt_error=None if receipted is None else receipted.error,
            default_region=msgspec.UNSET if written is None else written.told_comparison,
            ledger=None if receipted is None else receipted.ledger,
            detail=core.configuration.trace_detail,
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
        *_decided(settled.mode, settled.reason),
        (b"x-vetted-attempts", b"%d" % sent),
        (b"x-vetted-overhead-ms", b"%.2f" % overhead_ms),
    ]
    if settled.region is not None:
        headers.append((b"x-vetted-region", settled.region.encode("ascii", "replace")))
    if receipt_id is not None:
        headers.append((b"x-vetted-receipt-id", receipt_id.encode()))
    return headers


@cache
def _decided(mode: DecisionMode, reason: DecisionReason) -> Headers:
    return [(b"x-vetted-decision-mode", mode.value.encode()), (b"x-vetted-decision-reason", reason.value.encode())]


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
