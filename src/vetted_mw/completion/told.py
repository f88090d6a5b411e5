"""What the caller is told of an attempt's fault, where it is told by an error of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vetted_mw.errors import CallerFaultError, UpstreamCutError, UpstreamFailedError, UpstreamTimeoutError
from vetted_mw.routing.values import TIMEOUTS, AttemptOutcome

if TYPE_CHECKING:
    from vetted_mw.errors import AnswerError
    from vetted_mw.proxy.outcome import Fault

__all__ = ["broken_stream", "caller_fault"]


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
