"""What the `chat` span of one completion says at its end: trace, answer and receipt as attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vetted_mw.routing.decision import AttemptOutcome, settle
from vetted_mw.telemetry import names
from vetted_mw.telemetry.attributes import (
    answer_attributes,
    decision_attributes,
    receipt_attributes,
    request_attributes,
    server_attributes,
    signal_attributes,
)

if TYPE_CHECKING:
    from opentelemetry.util.types import AttributeValue

    from vetted_mw.chat.request import ChatRequest
    from vetted_mw.chat.response import Answer
    from vetted_mw.chat.sse import AnswerStream
    from vetted_mw.completion.attempts import Attempts
    from vetted_mw.configuration import Upstream
    from vetted_mw.core import Core, Receipted
    from vetted_mw.routing.decision import Decision

__all__ = ["completion_attributes"]

_STREAM_OUTCOMES = {
    AttemptOutcome.SUCCESS: "completed",
    AttemptOutcome.CLIENT_DISCONNECT: "client_disconnect",
    AttemptOutcome.IDLE_TIMEOUT: "idle_timeout",
    AttemptOutcome.SHUTTING_DOWN: "shutting_down",
}


def completion_attributes(  # noqa: PLR0913 (one for each thing that has become known by then)
    core: Core,
    *,
    request: ChatRequest,
    attempts: Attempts,
    seen: Answer | AnswerStream | None,
    decision: Decision,
    receipted: Receipted | None,
    receipt_placement: str,
    to_first_chunk: float | None,
    has_left: bool,
) -> dict[str, AttributeValue]:
    """Return the attributes of one completion that has ended.

    Args:
        core: what it saw of the gateway.
        request: what the caller asked.
        attempts: what was tried.
        seen: what was observed of the answer; None when nothing was.
        decision: where it could go.
        receipted: what became of its receipt; None where nobody asked for it.
        receipt_placement: where the caller got it.
        has_left: whether the caller of a stream was gone before its end.
        to_first_chunk: seconds to a stream's first content; None for JSON, and for a stream without any.
    """
    settled = settle(decision, attempts.records, serving=attempts.serving)
    attributes = decision_attributes(decision.policy, settled.mode, settled.reason, settled.operational)
    attributes |= request_attributes(request)
    attributes[names.ATTEMPT_COUNT] = attempts.sent
    attributes[names.FAILOVER] = len(attempts.records) > 1
    attributes[names.RECEIPT_PLACEMENT] = receipt_placement
    if attempts.serving is not None:
        attributes |= _serving_attributes(core, attempts.serving, seen)
    if to_first_chunk is not None:
        attributes[names.TIME_TO_FIRST_CHUNK] = to_first_chunk
    if request.stream and attempts.serving is not None:  # begun, by its first content or by a commit before it
        outcome = AttemptOutcome.CLIENT_DISCONNECT if has_left else attempts.records[-1].outcome
        attributes[names.STREAM_OUTCOME] = _STREAM_OUTCOMES.get(outcome, "upstream_cut")
    if receipted is not None and receipted.receipt is not None:
        attributes |= receipt_attributes(receipted.receipt)
    if receipted is not None and receipted.reading is not None:
        attributes |= signal_attributes(names.RECEIPT_SIGNAL, receipted.reading)
    return attributes


def _serving_attributes(core: Core, serving: str, seen: Answer | AnswerStream | None) -> dict[str, AttributeValue]:
    region = core.configuration.regions[serving]
    upstream = core.configuration.upstreams[serving]
    attributes = dict(server_attributes(upstream.base_url))
    if seen is not None:
        attributes |= answer_attributes(seen, model=_told_model(core, seen.model, upstream))
    attributes[names.PROVIDER_NAME] = region.gen_ai_provider
    attributes[names.REGION] = serving
    attributes[names.COUNTRY] = region.country
    attributes[names.CLOUD_REGION] = region.site
    return attributes


def _told_model(core: Core, model: str | None, upstream: Upstream) -> str:
    """Clamp the upstream's word for the model: many repeat what the caller wrote."""
    if model is None or model in upstream.upstream_names.values():
        return model or names.OTHER
    return core.known_model(model) or names.OTHER
