"""What is told of a request that has ended: values, the words for how it ended, and its line in the log. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from vetted_mw.receipts.receipt import ReceiptError
from vetted_mw.routing.values import AttemptOutcome, DecisionMode

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vetted_mw.chat.counts import Usage
    from vetted_mw.receipts.receipt import Receipt
    from vetted_mw.routing.values import AttemptRecord, DecisionReason, RoutePolicy

__all__ = ["EndedOperation", "EndedRequest", "ReceiptOutcome", "RequestOutcome", "receipt_outcome", "served_as"]

_FAILURES = frozenset({ReceiptError.ENGINE_FAILED, ReceiptError.LEDGER_UNAVAILABLE})
"""What is nobody's rule but our trouble."""


class RequestOutcome(StrEnum):
    """How a request ended for its caller."""

    SERVED = "served"
    SERVED_DEGRADED = "served_degraded"
    FAILED_OVER = "failed_over"
    REFUSED = "refused"
    FAILED = "failed"
    CLIENT_DISCONNECT = "client_disconnect"


class ReceiptOutcome(StrEnum):
    """What became of the receipt of an answer."""

    EMITTED = "emitted"
    FAILED = "failed"
    WITHHELD = "withheld"


def served_as(mode: DecisionMode, attempts: Iterable[AttemptRecord]) -> RequestOutcome:
    """Say how a request was served: after another region failed, without the live signal it asked for, or as wished.

    Args:
        mode: the final one.
        attempts: every one, those included that were not admitted. An in-app handler may call a region again, and leave
            a stream that it has read enough of: neither is a failover.
    """
    served, other = set[str](), set[str]()
    for one in attempts:
        (served if one.outcome is AttemptOutcome.SUCCESS else other).add(one.region)
    if mode is DecisionMode.FAILOVER or (served and other - served):
        return RequestOutcome.FAILED_OVER
    return RequestOutcome.SERVED_DEGRADED if mode is DecisionMode.DEGRADED else RequestOutcome.SERVED


def receipt_outcome(error: str | None) -> ReceiptOutcome:
    """Say what became of a receipt: withheld by rule, or failed for want of something.

    Args:
        error: why there is none, a word of the trace's `receipt_error`; None when there is one.
    """
    if error is None:
        return ReceiptOutcome.EMITTED
    return ReceiptOutcome.FAILED if error in _FAILURES else ReceiptOutcome.WITHHELD


class EndedOperation(msgspec.Struct, frozen=True, kw_only=True):
    """One logical chat operation, as `gen_ai.*` metrics count it: a request, or one call of an in-app handler.

    Attributes:
        provider: `gen_ai.provider.name` of the region that served, or would have.
        model: the requested name, as it was written.
        response_model: the upstream's word for it; None when nothing was observed.
        region: code of the region that served; None when none did.
        seconds: from its start to its end.
        to_first_chunk: seconds to a stream's first content; None for JSON, and without any.
        usage: tokens as the upstream counted them; None when it did not.
        error: a closed word when the caller got an error or a cut stream.
    """

    provider: str
    model: str
    response_model: str | None
    region: str | None
    seconds: float
    to_first_chunk: float | None
    usage: Usage | None
    error: str | None


class EndedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request for a chat completion.

    Attributes:
        outcome: how it ended for its caller.
        status: HTTP status of the answer; None when there was none.
        error: code of the error the caller was told, or the status of one that was its own; None without one.
        seconds: from its arrival to its end.
        stream: whether it asked for a stream; None when that was not known yet.
        model: the requested name, clamped to known ones; None when it was not known yet.
        policy: which rule ordered the regions; None before a decision.
        mode: how it came to run where it ran; None before a decision.
        reason: why; None before a decision.
        requested_region: code of the region that was asked for by name; None where none was.
        region: code of the region that answered; None when none did.
        attempts: requests that left for upstreams.
        overhead_seconds: spent in us before the latest of them left; None when none did.
        usage: tokens as the upstream counted them; None when it did not, or several calls were made.
        receipt: of the answer.
    """

    outcome: RequestOutcome
    status: int | None
    error: str | None
    seconds: float
    stream: bool | None = None
    model: str | None = None
    policy: RoutePolicy | None = None
    mode: DecisionMode | None = None
    reason: DecisionReason | None = None
    requested_region: str | None = None
    region: str | None = None
    attempts: int = 0
    overhead_seconds: float | None = None
    usage: Usage | None = None
    receipt: Receipt | None = None

    def logged(self) -> dict[str, object]:
        """Return the fields of its line in the log; what is not known is left out."""
        receipt = self.receipt
        counted = self.usage if receipt is None or receipt.usage_source == "estimated" else receipt
        fields: dict[str, object] = {
            "outcome": self.outcome.value,
            "status": self.status,
            "error": self.error,
            "stream": self.stream,
            "model": self.model,
            "requested_region": self.requested_region,
            "region": self.region,
            "route_policy": self.policy,
            "decision_mode": self.mode,
            "decision_reason": self.reason,
            "attempts": self.attempts,
            "duration_ms": round(self.seconds * 1000, 2),
            "overhead_ms": None if self.overhead_seconds is None else round(self.overhead_seconds * 1000, 2),
            "prompt_tokens": None if counted is None else counted.prompt_tokens,
            "completion_tokens": None if counted is None else counted.completion_tokens,
            "receipt_id": None if receipt is None else receipt.query_id,
            "energy_wh": None if receipt is None else receipt.energy_wh,
            "gco2e": None if receipt is None else receipt.gco2e,
        }
        return {name: value for name, value in fields.items() if value is not None}
