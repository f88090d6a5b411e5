"""What was observed of one request's attempts, as receipts are made from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vetted_mw.receipts.measured import read_measured
from vetted_mw.receipts.observation import Observation
from vetted_mw.receipts.receipt import ReceiptError
from vetted_mw.routing.options import Tier
from vetted_mw.routing.values import AttemptOutcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vetted_mw.chat.request import ChatRequest
    from vetted_mw.chat.response import Answer
    from vetted_mw.chat.sse import AnswerStream
    from vetted_mw.completion.asked import Asked
    from vetted_mw.core import Core, Receipted
    from vetted_mw.grid.signal import SignalReading
    from vetted_mw.proxy.attempt import Answered
    from vetted_mw.proxy.streamed import StreamedAnswer
    from vetted_mw.receipts.measured import MeasuredReading
    from vetted_mw.receipts.receipt import Receipt
    from vetted_mw.routing.decision import Decision
    from vetted_mw.routing.options import Options
    from vetted_mw.routing.regions import Region

__all__ = ["abandoned_receipts", "measured_of", "observed", "unobserved", "untold_receipts"]

_SPENT_STATUS = {AttemptOutcome.CLIENT_DISCONNECT: "client_abort", AttemptOutcome.SHUTTING_DOWN: "shutting_down"}


def unobserved(
    core: Core, *, decision: Decision, options: Options, region: Region, model: str, query_id: str
) -> Observation:
    """Return what is known before anything was seen of an answer: where, how it was asked for, by which signals."""
    reading, default_reading = _readings(core, decision, region)
    return Observation(
        query_id=query_id,
        region=region,
        model=model,
        tier=options.tier,
        boundary=options.boundary,
        reading=reading,
        requested_at=decision.requested_at,
        issued_at=core.now(),
        default_region=core.default_region,
        default_reading=default_reading,
    )


def observed(
    core: Core,
    asked: Asked,
    seen: Answer | AnswerStream,
    code: str,
    query_id: str,
    *,
    status: str,
    digest: str | None,
    measured: MeasuredReading | None,
) -> Observation:
    """Return what was observed of an answer, whole or cut.

    Args:
        core: what it saw of the gateway.
        asked: what was asked, and where it could go.
        seen: of the answer.
        code: the region where it ran.
        query_id: of its receipt.
        status: how it ended.
        digest: of the delivered content; None where nothing was delivered or bound.
        measured: the energy the upstream says it took; None where it does not.
    """
    decision, options, request, usage = asked.decision, asked.options, asked.request, seen.usage
    region = core.configuration.regions[code]
    reading, default_reading = _readings(core, decision, region)
    prompt = completion = None
    cached = 0
    if usage is not None:
        prompt, completion, cached = usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens
    return Observation(  # by place: the one that every answer is made into
        query_id,
        region,
        request.model,
        options.tier,
        options.boundary,
        reading,
        decision.requested_at,
        core.now(),
        core.default_region,
        default_reading,
        seen.model,
        seen.id,
        prompt,
        cached,
        completion,
        0 if prompt else request.prompt_characters(),
        seen.completion_characters,
        status,
        measured,
        digest,
    )


def measured_of(
    core: Core, region: str, *, answered: Answered | None, streamed: StreamedAnswer | None
) -> MeasuredReading | None:
    """Return the energy that an upstream says its answer took; None where it is not asked for, or does not say."""
    where = core.configuration.upstreams[region].measured_energy
    if where is None:
        return None
    if answered is not None:
        return read_measured(where, headers=answered.headers, body=answered.body)
    if streamed is not None:
        return read_measured(where, headers=streamed.headers, body=streamed.stream.telling)
    return None


def abandoned_receipts(
    core: Core,
    spent: Sequence[tuple[str, AttemptOutcome]],
    *,
    request: ChatRequest,
    options: Options,
    decision: Decision,
    request_id: str,
    level: int,
) -> list[Receipt]:
    """Make a receipt for each attempt that was given up after its request had left: at least its prompt was read.

    They are rows of the ledger, where there is one, and what metrics add up in any case.

    Args:
        core: what it saw of the gateway.
        spent: region and outcome of each of them.
        request: what was asked.
        options: how.
        decision: where it could go.
        request_id: the `query_id` of the answer they were tried for.
        level: at which the log tells that one cannot be made.
    """
    receipts = []
    for code, outcome in spent:
        region = core.configuration.regions[code]
        blank = unobserved(
            core, decision=decision, options=options, region=region, model=request.model, query_id=core.new_id()
        )
        seen = msgspec.structs.replace(
            blank,
            prompt_characters=request.prompt_characters(),
            completion_status=_SPENT_STATUS.get(outcome, "abandoned"),
            tier=Tier.AUTO,  # there is nothing measured of what was given up, and it is spent all the same
            request_id=request_id,
        )
        receipt = core.receipted(seen, level=level).receipt
        if receipt is not None:
            receipts.append(receipt)
    return receipts


def untold_receipts(core: Core, observation: Observation, told: Receipted) -> list[Receipt]:
    """Make the row of an answer that carries no receipt because it cannot be made as the caller asked for it.

    The work was done all the same. The row is parametric and says so; it has an id of its own, so that nothing passes
    for the receipt that was refused.

    Args:
        core: what it saw of the gateway.
        observation: of the answer.
        told: what became of its receipt.
    """
    if told.error != ReceiptError.TIER_UNAVAILABLE:
        return []
    row = msgspec.structs.replace(
        observation,
        query_id=core.new_id(),
        request_id=observation.request_id or observation.query_id,
        tier=Tier.PARAMETRIC,
        response_digest=None,
    )
    receipt = core.receipted(row).receipt
    return [] if receipt is None else [receipt]


def _readings(core: Core, decision: Decision, region: Region) -> tuple[SignalReading | None, SignalReading | None]:
    """Return the best signals at the decision of a region and of the default region."""
    reading, default = decision.reading(region.code), core.default_region
    if default is None or default is region:
        return reading, None if default is None else reading
    return reading, decision.reading(default.code)
