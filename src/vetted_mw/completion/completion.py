"""One chat completion on its way: attempts in the decision's order, then receipt and trace of what really happened."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from vetted_mw.chat.sse import Placement, error_frame
from vetted_mw.completion.account import Account
from vetted_mw.completion.attempts import Attempts, NoneServedError
from vetted_mw.completion.delivery import Delivery
from vetted_mw.completion.telling import telling_of
from vetted_mw.completion.told import broken_stream, caller_fault, error_word, told_headers, told_trace
from vetted_mw.errors import AnswerError, InternalError
from vetted_mw.proxy.attempt import fetch_answer
from vetted_mw.proxy.outcome import Fault
from vetted_mw.receipts.binding import new_nonce
from vetted_mw.routing.decision import as_decided, has_left, settle
from vetted_mw.routing.refusal import refusal_for

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from vetted_mw.completion.asked import Asked
    from vetted_mw.core import Core
    from vetted_mw.proxy.attempt import Answered
    from vetted_mw.proxy.headers import Headers
    from vetted_mw.proxy.streamed import StreamedAnswer
    from vetted_mw.routing.decision import Settled

__all__ = ["Completion"]

_EARLY_HEADERS: Headers = [(b"content-type", b"text/event-stream; charset=utf-8")]


class Completion:
    """One chat completion, from its decision to its receipt. Born for one request, used by one task, closed once.

    Args:
        core: the gateway's rooms.
        asked: what the caller asked, and where it may go.
        placement: where a stream carries the members; `OFF` for an in-app call, whose handler gets the bare answer.
        order: regions to walk instead of the decision's order; must be a part of it.
        loop: the running event loop, from whoever knows it.
        bare: the answer carries no members, and its receipt is the route's to keep: an in-app handler gets what the
            upstream said.

    Attributes:
        core: the same.
        account: what it used, and its receipt.
        failure: what was told when no region served, or when the stream broke after it began; None while all is well.
    """

    __slots__ = (
        "_asked",
        "_bare",
        "_closed",
        "_delivery",
        "_has_begun",
        "_has_given",
        "_holds_prompt",
        "_is_told",
        "_order",
        "_telling",
        "account",
        "attempts",
        "core",
        "decision",
        "failure",
        "request",
    )

    def __init__(
        self,
        core: Core,
        asked: Asked,
        *,
        placement: Placement,
        order: tuple[str, ...] | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
        bare: bool = False,
    ) -> None:
        self.request = asked.request
        self.decision = asked.decision
        self.core = core
        self._asked = asked
        self._bare = bare
        self._order = self.decision.order if order is None else order
        self._telling = telling_of(
            core, asked, order=self._order, is_decided=order is None, placement=placement, bare=bare
        )
        loop = loop or asyncio.get_running_loop()
        nonce = None if bare else new_nonce()
        self.attempts = Attempts(
            core,
            asked,
            span=self._telling.span,
            placement=placement,
            loop=loop,
            deadline=loop.time() + core.configuration.limits.total_seconds,
            nonce=nonce,
        )
        self._delivery = self._delivered() if self.request.stream else None
        self.account = Account(
            core, asked, attempts=self.attempts, delivery=self._delivery, span=self._telling.span, nonce=nonce
        )
        self.failure: AnswerError | None = None
        self._has_begun = False
        self._has_given = False
        self._holds_prompt = True
        self._closed = False
        self._is_told = False

    # ---- getting the answer

    async def answer(self) -> Answered:
        """Get a whole JSON answer from the first region that serves, its receipt final.

        Raises:
            AnswerError: none did, or the receipt had to be kept and could not; `trace()` tells why.
        """
        try:
            answered = await self.attempts.first_success(self._order, fetch_answer)
        except NoneServedError as none:
            raise self._refused(none) from None
        self.account.answered = answered
        self.attempts.ended(None)
        error = await self.account.seal()
        self._telling.finished()
        if error is not None:
            self._note_failure(error)
            raise error
        return answered

    async def open(self) -> tuple[int, Headers]:
        """Open a stream and return the status and headers its answer begins with; nothing has gone to the caller yet.

        Raises:
            AnswerError: no region showed content.
        """
        delivery = self._of_stream()
        try:
            await delivery.open()
        except NoneServedError as none:
            raise self._refused(none) from None
        streamed = delivery.streamed
        if streamed is not None:
            self._has_begun = True
            self._telling.first_chunk()
        return (200, _EARLY_HEADERS) if streamed is None else (streamed.status, streamed.headers)

    async def next_part(self) -> bytes | None:
        """Return the next bytes of the stream for the caller; None at its end, after the members were given out."""
        if self._closed:
            self._is_told = True  # whoever asks on has sent the end
            return None
        delivery = self._of_stream()
        self._let_go_of_prompt()
        try:
            part = await delivery.next_part()
        except NoneServedError as none:
            self._closed = True
            return await self._broken_off(caller_fault(none.fault) or broken_stream(none.fault))
        if not self._has_begun and delivery.streamed is not None:
            self._has_begun = True
            self._telling.first_chunk()
        if part is not None:
            self._has_given = self._has_begun
            return part
        await delivery.aclose()  # the pool's slot before the lease: who gets the lease must not wait for the slot
        return await self._end_of(self._stream())

    def running(self) -> StreamedAnswer | None:
        """Return the stream where it can hand on its parts by itself for now; `next_part` goes on when it returns."""
        self._let_go_of_prompt()
        return None if self._closed else self._of_stream().running()

    async def ended_early(self, error: AnswerError) -> bytes | None:
        """End a stream that has begun, for a reason of ours, and return its end for the caller: an honest one.

        None where its end was given out before and may not have been sent: then only the connection can tell.
        """
        delivery = self._of_stream()
        await delivery.aclose()
        if self._closed:
            return b"" if self._is_told else None
        self._is_told = True  # by what is returned here
        streamed = delivery.streamed
        is_over = streamed is not None and (streamed.fault is not None or streamed.stream.complete)
        if streamed is not None and is_over and not streamed.is_behind:  # only its end was still waited for
            return await self._end_of(streamed)
        self._closed = True
        self.attempts.ended(
            Fault(outcome=self.attempts.given_up_as, status=None if streamed is None else streamed.status)
        )
        return await self._broken_off(error)

    def failed_by(self, error: Exception) -> None:
        """Note what ended it from outside, where it has not failed by itself; whoever calls this tells the caller."""
        if self.failure is None:
            self._note_failure(error if isinstance(error, AnswerError) else InternalError("The gateway failed."))

    async def aclose(self) -> None:
        """Close the upstream's connection and the spans, on every way out; a stream still open was left.

        An in-app call that outlives the answer has its attempt under way in a task of its own: that task closes it.
        """
        delivery = self._delivery
        try:
            if delivery is not None:
                await delivery.aclose()
        finally:
            if delivery is not None and delivery.streamed is not None:
                self.attempts.ended(Fault(outcome=self.attempts.given_up_as, status=delivery.streamed.status))
            if not self.attempts.is_under_way:
                try:
                    self.account.keep_the_rest()
                finally:
                    # Nobody came for more, so the end may not have been sent; a handler's client need not read on.
                    is_left = self._closed and not (self._is_told or self._bare)
                    self._telling.end(self.attempts, self.account, settled=self.settled, has_left=is_left)

    # ---- what happened

    @property
    def overhead_ms(self) -> float:
        """Milliseconds spent in here before the latest request left, waiting for upstreams that failed not counted."""
        sent = self.attempts.last_sent
        return 0.0 if sent is None else max(0.0, sent - self._telling.started - self.attempts.waited) * 1000

    @property
    def error(self) -> str | None:
        """The failure as a closed word, for telemetry."""
        return self._telling.error

    @property
    def context(self) -> Context:
        """The context of its span, for what is told of it beside."""
        return self._telling.context

    @property
    def told_model(self) -> str:
        """The requested model, clamped to known ones."""
        return self._telling.model

    @property
    def requested_region(self) -> str | None:
        """Code of the region that was asked for by name."""
        return self._asked.options.region

    @property
    def has_served(self) -> bool:
        """Whether a region served and something of its answer was seen."""
        return self.attempts.serving is not None and self.account.seen is not None

    def settled(self) -> Settled:
        """See the decision together with its attempts so far."""
        records, serving = self.attempts.records, self.attempts.serving
        if serving is None and has_left(records):
            return as_decided(self.decision)
        return settle(self.decision, records, serving=serving)

    def members(self) -> dict[str, bytes]:
        """Encode receipt and trace under their names on the wire; a receipt that was withheld is `null`."""
        self._telling.are_members_given = True
        if self._bare:
            return {}
        receipted = self.account.made()
        trace = told_trace(self.core, self.decision, self.settled(), self.attempts.records, receipted)
        return {self.core.configuration.receipt_key: receipted.encoded(), "routing_trace": trace}

    def trace(self) -> bytes:
        """Encode the routing trace as it stands; call it after the last attempt has ended."""
        return told_trace(self.core, self.decision, self.settled(), self.attempts.records, self.account.receipted)

    @property
    def receipt_promised(self) -> bool:
        """Whether there will be a receipt for sure, known before the answer is."""
        serving = self.attempts.serving
        if serving is None or self.account.seen is None:
            return False
        return self.core.maker.promises(
            model=self.request.model,
            tier=self._asked.options.tier,
            boundary=self._asked.options.boundary,
            measured=self.core.configuration.upstreams[serving].measured_energy,
        )

    def headers(self, *, overhead_ms: float, receipt: bool) -> Headers:
        """Return the `x-vetted-*` headers of an answer: what really served, and what it cost us in time."""
        receipt_id = self.account.query_id if receipt else None
        return told_headers(self.settled(), sent=self.attempts.sent, overhead_ms=overhead_ms, receipt_id=receipt_id)

    # ---- inside

    def _let_go_of_prompt(self) -> None:
        """Let go of it once a part has gone to the caller: it leaves for nobody else, and a stream may be long."""
        if self._has_given and self._holds_prompt:
            self._holds_prompt = False
            self.request.let_go_of_prompt()

    def _refused(self, none: NoneServedError) -> AnswerError:
        error = caller_fault(none.fault) or refusal_for(
            self.decision, self.attempts.records, options=self._asked.options, retry_after=none.retry_after
        )
        self._note_failure(error)
        return error

    def _note_failure(self, error: AnswerError) -> None:
        self.failure = error
        self._telling.error = error_word(error)

    async def _end_of(self, streamed: StreamedAnswer) -> bytes:
        """Note how the stream ended and return its end for the caller."""
        self._closed = True
        self.attempts.ended(streamed.fault)
        if streamed.fault is not None:
            return await self._broken_off(broken_stream(streamed.fault))
        error = await self.account.seal()
        if error is not None:
            return await self._broken_off(error)
        self._telling.finished()
        return streamed.stream.close(self.members())

    async def _broken_off(self, error: AnswerError) -> bytes:
        """Return the one honest end of an answer that broke after it had begun."""
        self._note_failure(error)
        await self.account.seal()
        self._telling.finished()
        return error_frame(error, members=self.members())

    def _delivered(self) -> Delivery:
        limits = self.core.configuration.limits
        return Delivery(
            self.attempts,
            self._order,
            # Both are for a caller who waits; the handler of an in-app call sees to its own.
            commit_after_seconds=0.0 if self._bare else limits.commit_after_seconds,
            keepalive_seconds=0.0 if self._bare else limits.sse_keepalive_seconds,
        )

    def _of_stream(self) -> Delivery:
        if self._delivery is None:
            message = "only a stream is opened, and has parts"
            raise RuntimeError(message)
        return self._delivery

    def _stream(self) -> StreamedAnswer:
        streamed = self._of_stream().streamed
        if streamed is None:
            message = "open() comes before next_part()"
            raise RuntimeError(message)
        return streamed

    @property
    def replaced(self) -> tuple[str, ...]:
        """Members of ours that the upstream's own stream had and that gave way."""
        streamed = None if self._delivery is None else self._delivery.streamed
        return () if streamed is None else streamed.stream.replaced
