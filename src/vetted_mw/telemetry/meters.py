"""Record what happened as metrics. Nothing here raises into a request, and without an SDK nothing here does anything.

Points are recorded with the context of the request's span, so that an SDK can keep exemplars.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vetted_mw.telemetry import names
from vetted_mw.telemetry.costs_no_answer import COSTS_NO_ANSWER
from vetted_mw.telemetry.instruments import LatestGenai
from vetted_mw.telemetry.points import (
    attempt_point,
    clamped,
    failover_point,
    operation_point,
    receipt_point,
    request_point,
    work_point,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opentelemetry.context import Context

    from vetted_mw.receipts.receipt import Receipt
    from vetted_mw.routing.values import AttemptRecord
    from vetted_mw.telemetry.ended import EndedOperation, EndedRequest, ReceiptOutcome
    from vetted_mw.telemetry.instruments import Instruments, PublishedGenai
    from vetted_mw.telemetry.points import Point

__all__ = ["Meters"]

_JOULES_PER_WH = 3600.0


class Meters:
    """Records the metrics of requests.

    Args:
        instruments: what they are recorded with.
        models: the model names of the configuration; every other is told as `_OTHER`.
        genai: whether `gen_ai.*` metrics are recorded too.
    """

    def __init__(self, instruments: Instruments, *, models: frozenset[str], genai: bool) -> None:
        self._instruments = instruments
        self._slumber = instruments.slumber
        self._models = models
        self._genai = instruments.genai if genai else None

    @property
    def are_asleep(self) -> bool:
        """Whether nobody records anything yet, so that nothing need be built for it."""
        slumber = self._slumber
        return slumber is not None and (slumber.monotonic() < slumber.until or slumber.lasts())

    def attempted(self, record: AttemptRecord, context: Context) -> None:
        """Count one attempt that has ended."""
        with COSTS_NO_ANSWER:
            self._instruments.attempts.add(1, attempt_point(record), context)

    def failed_over(self, record: AttemptRecord, next_region: str, context: Context) -> None:
        """Count that `next_region` is tried after an attempt that did not serve."""
        with COSTS_NO_ANSWER:
            self._instruments.failovers.add(1, failover_point(record, next_region), context)

    def operated(self, ended: EndedOperation, context: Context) -> None:
        """Record one logical chat operation."""
        if self._genai is None:
            return
        with COSTS_NO_ANSWER:
            point = operation_point(ended, self._models)
            if ended.to_first_chunk is not None:
                self._genai.time_to_first_chunk.record(ended.to_first_chunk, point, context)
            if ended.response_model is not None:
                point = {**point, names.RESPONSE_MODEL: clamped(ended.response_model, self._models)}
            failed = point if ended.error is None else {**point, names.ERROR_TYPE: ended.error}
            self._genai.duration.record(ended.seconds, failed, context)
            if isinstance(self._genai, LatestGenai):
                _record_latest(self._genai, ended, point, context)
            else:
                _record_published(self._genai, ended, point, context)

    def worked(self, receipts: Iterable[Receipt], context: Context) -> None:
        """Add up what receipts say was used: those of answers, and of work that was given up or not told."""
        with COSTS_NO_ANSWER:
            for receipt in receipts:
                point = work_point(receipt, self._models)
                self._instruments.energy.add(receipt.energy_wh * _JOULES_PER_WH, point, context)
                self._instruments.water.add(receipt.ml_water, point, context)
                matched: Point = {**point, names.GRID_TEMPORAL_MATCH: receipt.grid_temporal_match}
                self._instruments.emissions.add(receipt.gco2e, matched, context)

    def receipted(self, receipt: Receipt | None, outcome: ReceiptOutcome, context: Context) -> None:
        """Count what became of the receipt of one answer."""
        with COSTS_NO_ANSWER:
            self._instruments.receipts.add(1, receipt_point(receipt, outcome), context)

    def ended(self, request: EndedRequest, context: Context) -> None:
        """Count one request, and what it spent in here on its way to an upstream."""
        with COSTS_NO_ANSWER:
            self._instruments.requests.add(1, request_point(request), context)
            if request.overhead_seconds is not None:
                stream = {names.STREAM: bool(request.stream)}
                self._instruments.overhead.record(request.overhead_seconds, stream, context)


def _record_published(genai: PublishedGenai, ended: EndedOperation, point: Point, context: Context) -> None:
    """Record tokens; a count that the upstream did not give is no point, never a guess."""
    usage = ended.usage
    if usage is not None:
        genai.token_usage.record(usage.prompt_tokens, {**point, names.TOKEN_TYPE: names.INPUT}, context)
        genai.token_usage.record(usage.completion_tokens, {**point, names.TOKEN_TYPE: names.OUTPUT}, context)


def _record_latest(genai: LatestGenai, ended: EndedOperation, point: Point, context: Context) -> None:
    """Record tokens; the new conventions want a 0 where the upstream gave no count, of a modality that is unknown."""
    usage = ended.usage
    counted: Point = {**point, names.TOKEN_MODALITY: names.UNKNOWN}
    genai.used_input.add(0 if usage is None else usage.prompt_tokens, counted, context)
    genai.used_output.add(0 if usage is None else usage.completion_tokens, counted, context)
    if usage is not None:
        genai.operation_input.record(usage.prompt_tokens, point, context)
        genai.operation_output.record(usage.completion_tokens, point, context)
