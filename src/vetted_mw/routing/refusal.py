"""What the caller is told when no region served: the error table of the wire, as a pure function."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vetted_mw.errors import (
    AnswerError,
    ModelNotAvailableError,
    NoRegionAvailableError,
    PinnedUnavailableError,
    SaturatedError,
    UpstreamFailedError,
    UpstreamInvalidError,
    UpstreamTimeoutError,
)
from vetted_mw.routing.values import (
    TIMEOUTS,
    AttemptOutcome,
    AttemptRecord,
    DecisionReason,
    Rejection,
    RoutePolicy,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vetted_mw.routing.decided import Decision
    from vetted_mw.routing.options import Options

__all__ = ["refusal_for"]

_NEVER_SERVES = frozenset({Rejection.NOT_CONFIGURED, Rejection.NOT_FOR_INFERENCE})
_FULL = frozenset({AttemptOutcome.SATURATED, AttemptOutcome.NOT_ADMITTED})
_UNTOLD_WAIT_SECONDS = 1.0  # a slot under the in-flight cap frees without notice


def refusal_for(
    decision: Decision, attempts: Sequence[AttemptRecord], *, options: Options, retry_after: float | None = None
) -> AnswerError:
    """Return the error for a request that no region served.

    Args:
        decision: as decided.
        attempts: every attempt made.
        options: what the caller asked for.
        retry_after: seconds until the soonest of the regions tried that asked for time may serve; None when none asked.
    """
    # The soonest of all: a region that was passed over may be free before those that were tried.
    wait = min((known for known in (decision.retry_after, retry_after) if known is not None), default=None)
    if decision.reason is DecisionReason.MODEL_NOT_AVAILABLE:
        return _model_not_available(decision)
    if decision.policy is RoutePolicy.PINNED:
        return _pinned(decision, options, wait)
    if not decision.order:
        return _nothing_sent(decision, wait)
    if attempts and all(attempt.outcome in _FULL for attempt in attempts):
        return _saturated(wait)
    return _attempted(attempts)


def _model_not_available(decision: Decision) -> AnswerError:
    serving = ", ".join(decision.serving_model)
    where = f"These regions serve it: {serving}." if serving else "No configured region serves it: see GET /v1/models."
    return ModelNotAvailableError(f"No region this request may use serves the model. {where}")


def _pinned(decision: Decision, options: Options, wait: float | None) -> AnswerError:
    why = {one.candidate.region.code: one.rejected for one in decision.verdicts}
    if options.secondary_region is None and why.get(options.region or "") in _NEVER_SERVES:
        return PinnedUnavailableError(
            "The pinned region has no server configured here, so it cannot serve. GET /v1/regions tells which have one."
        )
    asked = "The pinned region" if options.secondary_region is None else "Neither the pinned region nor its secondary"
    verb = "cannot serve" if options.secondary_region is None else "can serve"
    return PinnedUnavailableError(
        f"{asked} {verb} this request now. It was not sent to any other region.", retry_after=wait
    )


def _nothing_sent(decision: Decision, wait: float | None) -> AnswerError:
    if decision.reason is DecisionReason.ALL_REGIONS_SATURATED:
        return _saturated(wait)
    return NoRegionAvailableError("No region can serve this request now. Nothing was sent.", retry_after=wait)


def _saturated(wait: float | None) -> AnswerError:
    return SaturatedError(
        "Every region that serves the model is saturated. Try again later.",
        retry_after=_UNTOLD_WAIT_SECONDS if wait is None else wait,
    )


def _attempted(attempts: Sequence[AttemptRecord]) -> AnswerError:
    tried = [attempt for attempt in attempts if attempt.outcome is not AttemptOutcome.NOT_ADMITTED]
    sent = [attempt for attempt in tried if attempt.sent]
    last = (sent or tried)[-1].outcome if tried else AttemptOutcome.ANSWER_TIMEOUT
    if last in TIMEOUTS:
        return UpstreamTimeoutError("The region did not answer in time. Send the request again.")
    if last is AttemptOutcome.INVALID_RESPONSE:
        return UpstreamInvalidError("The region answered with something that is no chat completion.")
    return UpstreamFailedError("Every region that was tried failed. Send the request again.")
