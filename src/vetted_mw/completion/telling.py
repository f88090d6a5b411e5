"""What spans and metrics tell of one completion: noted on its way, told once, at its end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from vetted_mw.chat.sse import Placement
from vetted_mw.routing.decision import AttemptOutcome, DecisionMode
from vetted_mw.telemetry import names
from vetted_mw.telemetry.attributes import (
    answer_attributes,
    decision_attributes,
    receipt_attributes,
    request_attributes,
    server_attributes,
    signal_attributes,
)
from vetted_mw.telemetry.ended import EndedOperation, receipt_outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.context import Context
    from opentelemetry.util.types import AttributeValue

    from vetted_mw.completion.account import Account
    from vetted_mw.completion.asked import Asked
    from vetted_mw.completion.attempts import Attempts
    from vetted_mw.configuration import Upstream
    from vetted_mw.core import Core
    from vetted_mw.routing.decision import Settled
    from vetted_mw.telemetry.spans import ChatSpan

__all__ = ["Telling", "telling_of"]

_STREAM_OUTCOMES = {
    AttemptOutcome.SUCCESS: "completed",
    AttemptOutcome.CLIENT_DISCONNECT: "client_disconnect",
    AttemptOutcome.IDLE_TIMEOUT: "idle_timeout",
    AttemptOutcome.SHUTTING_DOWN: "shutting_down",
}


class Telling(msgspec.Struct, eq=False):
    """The span of one completion and its points on the metrics.

    Attributes:
        core: the gateway's rooms.
        asked: what the caller asked.
        placement: where a stream carries the members.
        span: its own.
        started: when it began, on the gateway's monotonic clock.
        first: code of the region to try first; None where there is none to try.
        are_members_given: set once receipt and trace were handed out, for the answer.
        error: a closed word for what its caller was told in place of its answer, or at its end; None while all is well.
    """

    core: Core
    asked: Asked
    placement: Placement
    span: ChatSpan
    started: float
    first: str | None
    are_members_given: bool = False
    error: str | None = None
    _model: str | None = None
    _to_first_chunk: float | None = None
    _finished: tuple[float, int | None] | None = None
    _has_ended: bool = False

    @property
    def model(self) -> str:
        """The requested name, clamped to known ones; looked up once, when somebody asks."""
        if self._model is None:
            self._model = _told_name(self.core, self.asked)
        return self._model

    @property
    def context(self) -> Context:
        """The context of the span, for what is told beside it."""
        return self.span.context

    def first_chunk(self) -> None:
        """Note that a stream's first content has come. Further calls do nothing."""
        if self._to_first_chunk is None:
            self._to_first_chunk = self.core.monotonic() - self.started
            self.span.event(names.FIRST_CHUNK_EVENT)

    def finished(self) -> None:
        """Note that the operation is over: its span ends now, inside that of a host, which ends with what we send."""
        self._finished = self.core.monotonic(), time.time_ns() if self.span.is_known else None

    def end(self, attempts: Attempts, account: Account, *, settled: Callable[[], Settled], has_left: bool) -> None:
        """Tell everything, once.

        Args:
            attempts: what was tried.
            account: what was used, and its receipt.
            settled: says what finally happened; asked only where somebody hears it.
            has_left: whether the end of a stream may not have been sent, since nobody came for more.
        """
        if self._has_ended:
            return
        self._has_ended = True
        meters = self.core.meters
        seconds, at = self._finished or (self.core.monotonic(), None)
        if self.span.is_known:
            self.span.end(
                lambda: self._attributes(attempts, account, settled=settled(), has_left=has_left),
                error_type=self.error,
                finished_at=at,
            )
        if meters.are_asleep:
            return
        meters.worked(account.rows, self.context)
        is_told = account.is_told and (self.are_members_given or self.error is not None)  # else the caller left before
        if is_told and account.receipted is not None:
            meters.receipted(account.receipted.receipt, receipt_outcome(account.receipted.error), self.context)
        meters.operated(self._operation(settled().region, account, seconds - self.started), self.context)

    def _operation(self, region: str | None, account: Account, seconds: float) -> EndedOperation:
        seen = account.seen
        return EndedOperation(
            provider=_provider_of(self.core, region or self.first),
            model=self.asked.request.model,
            response_model=None if seen is None else seen.model,
            region=region,
            seconds=seconds,
            to_first_chunk=self._to_first_chunk,
            usage=None if seen is None else seen.usage,
            error=self.error,
        )

    def _attributes(
        self, attempts: Attempts, account: Account, *, settled: Settled, has_left: bool
    ) -> dict[str, AttributeValue]:
        attributes = decision_attributes(self.asked.decision.policy, settled.mode, settled.reason, settled.operational)
        attributes |= request_attributes(self.asked.request)
        attributes[names.ATTEMPT_COUNT] = attempts.sent
        attributes[names.FAILOVER] = attempts.has_failed_over or settled.mode is DecisionMode.FAILOVER
        attributes[names.RECEIPT_PLACEMENT] = self._receipt_placement(account)
        final = settled.region or next((one.region for one in reversed(attempts.records) if one.sent), None)
        if final is not None:
            attributes |= server_attributes(self.core.configuration.upstreams[final].base_url)
        if settled.region is not None:
            attributes |= self._region_attributes(settled.region)
        if attempts.serving is not None and account.seen is not None:
            model = self._told_model(account.seen.model, self.core.configuration.upstreams[attempts.serving])
            attributes |= answer_attributes(account.seen, model=model)
        if self._to_first_chunk is not None:
            attributes[names.TIME_TO_FIRST_CHUNK] = self._to_first_chunk
        is_stream = self.asked.request.stream
        if is_stream and attempts.serving is not None:  # begun, by its first content or by a commit before
            outcome = AttemptOutcome.CLIENT_DISCONNECT if has_left else attempts.records[-1].outcome
            attributes[names.STREAM_OUTCOME] = _STREAM_OUTCOMES.get(outcome, "upstream_cut")
        receipted = account.receipted
        if receipted is not None and receipted.receipt is not None:
            attributes |= receipt_attributes(receipted.receipt)
        if receipted is not None and receipted.reading is not None:
            attributes |= signal_attributes(names.RECEIPT_SIGNAL, receipted.reading)
        return attributes

    def _region_attributes(self, code: str) -> dict[str, AttributeValue]:
        region = self.core.configuration.regions[code]
        return {
            names.PROVIDER_NAME: region.gen_ai_provider,
            names.REGION: code,
            names.COUNTRY: region.country,
            names.CLOUD_REGION: region.site,
        }

    def _told_model(self, model: str | None, upstream: Upstream) -> str:
        """Clamp the upstream's word for the model: many repeat what the caller wrote."""
        if model is None or model in upstream.upstream_names.values():
            return model or names.OTHER
        return self.core.known_model(model) or names.OTHER

    def _receipt_placement(self, account: Account) -> str:
        has_receipt = account.receipted is not None and account.receipted.has_receipt
        if not (has_receipt and account.is_told and self.are_members_given):
            return "none"
        if not self.asked.request.stream:
            return "json_body"
        return "none" if self.placement is Placement.OFF and self.error is None else "sse_chunk"


def telling_of(
    core: Core, asked: Asked, *, order: tuple[str, ...], is_decided: bool, placement: Placement, bare: bool
) -> Telling:
    """Begin to tell of a completion: its span, with one for its decision under it from the start.

    Args:
        core: the gateway's rooms.
        asked: what the caller asked.
        order: codes of the regions to try.
        is_decided: whether the decision is its own, and not that of an earlier call.
        placement: where a stream carries the members.
        bare: whether the answer carries no members, as the calls of an in-app handler do.
    """
    started, recorder = core.monotonic(), core.recorder
    first, model = order[0] if order else None, None
    headers = asked.inbound if bare else None  # a handler's client may put its own trace context on its call
    if recorder.is_asleep:
        span = recorder.unseen(outer=asked.outer, headers=headers)
    else:
        provider, model = _provider_of(core, first), _told_name(core, asked)
        span = recorder.chat(model, provider=provider, outer=asked.outer, headers=headers or ())
        if is_decided:
            span.route(asked.decision, requested=asked.options.region)
    return Telling(core, asked, placement, span, started, first, _model=model)


def _told_name(core: Core, asked: Asked) -> str:
    return core.known_model(asked.request.model) or names.OTHER


def _provider_of(core: Core, region: str | None) -> str:
    return names.OPENAI if region is None else core.configuration.regions[region].gen_ai_provider
