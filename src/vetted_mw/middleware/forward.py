"""Forward mode: serve a chat completion through the chosen upstream; the wrapped app never sees it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from vetted_mw.asgi.intake import CallerLeftError
from vetted_mw.asgi.leaving import UntilCallerLeaves
from vetted_mw.chat.response import add_members
from vetted_mw.completion.completion import Completion
from vetted_mw.deadlines import Limit
from vetted_mw.errors import ShuttingDownError
from vetted_mw.middleware.responder import SEND_GRACE_SECONDS, Responder, refused_as
from vetted_mw.proxy.headers import returning_headers
from vetted_mw.routing.decision import AttemptOutcome
from vetted_mw.telemetry.ended import EndedRequest, RequestOutcome, served_as

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from starlette.types import Receive, Scope, Send

    from vetted_mw.asgi.door import Identify
    from vetted_mw.errors import AnswerError
    from vetted_mw.gateway import Gateway
    from vetted_mw.lifecycle.traffic import InFlight
    from vetted_mw.proxy.headers import Headers
    from vetted_mw.routing.decision import DecisionMode

__all__ = ["ForwardResponder"]

_WATCH_AFTER_SECONDS = 0.02
"""An answer that takes no longer than this is not watched for a caller who leaves meanwhile: a task costs more."""
_LOG = logging.getLogger("vetted_mw")
_STREAM_HEADERS: Headers = [(b"cache-control", b"no-transform"), (b"x-accel-buffering", b"no")]


class ForwardResponder(Responder):
    """Answers one chat completion itself."""

    __slots__ = ("_completion", "_watch")

    def __init__(self, gateway: Gateway, identify: Identify | None, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(gateway, identify, scope, receive, send)
        self._completion: Completion | None = None
        self._watch: UntilCallerLeaves | None = None

    async def serve(self, in_flight: InFlight) -> None:
        """Decide, forward, and send what came with receipt and trace."""
        core = in_flight.core
        asked = (await self.taken_in(core)).asked  # without the body: a stream may be long
        request, placement = asked.request, core.configuration.sse_placement
        self._completion = completion = Completion(core, asked, placement=placement, loop=in_flight.loop)
        # The attempts keep to the deadline themselves; the rest is for a caller that stops reading what we send.
        until = completion.attempts.deadline + SEND_GRACE_SECONDS
        self._watch = watch = UntilCallerLeaves(self.receive, _WATCH_AFTER_SECONDS, until, in_flight.loop)
        in_flight.ends_by(self._end)
        try:
            async with watch:
                await (self._stream(completion, watch) if request.stream else self._json(completion))
        except ShuttingDownError as error:
            if not (request.stream and self.sender.started):
                completion.failed_by(error)
                raise
            await self._end_early(completion, error)
        except CallerLeftError:
            raise
        except Exception as error:
            completion.failed_by(error)
            raise
        finally:
            await completion.aclose()

    def told(self) -> tuple[Headers, bytes | None]:
        """Return headers and trace once a decision was made."""
        completion = self._completion
        if completion is None:
            return [], None
        return self._headers(completion, receipt=False), completion.trace()

    def ended(self, *, status: int | None, error: str | None, seconds: float) -> EndedRequest:
        """Tell how the request ended, with what its completion knows."""
        completion = self._completion
        if completion is None:
            return EndedRequest(outcome=self.unanswered_as(), status=status, error=error, seconds=seconds)
        attempts, settled = completion.attempts, completion.settled()
        overhead = None
        if attempts.last_sent is not None and attempts.sent:
            overhead = self.overhead_ms(completion.core, until=attempts.last_sent, waited=attempts.waited) / 1000
        seen, receipted = completion.account.seen, completion.account.receipted
        return EndedRequest(
            outcome=self._outcome(completion, settled.mode),
            status=status,
            error=error or completion.error,
            seconds=seconds,
            stream=completion.request.stream,
            model=completion.told_model,
            policy=completion.decision.policy,
            mode=settled.mode,
            reason=settled.reason,
            requested_region=completion.requested_region,
            region=settled.region,
            attempts=attempts.sent,
            overhead_seconds=overhead,
            usage=None if seen is None else seen.usage,
            receipt=None if receipted is None else receipted.receipt,
        )

    def innermost(self) -> Context:
        """Return the context of the completion's span, or of the request's where there is none."""
        return self.span.context if self._completion is None else self._completion.context

    def _end(self, error: AnswerError) -> bool:
        """End it by `error` before its time; returns whether that is to come."""
        ends = self._watch is not None and self._watch.stop(error)
        if ends and self._completion is not None:
            self._completion.attempts.given_up_as = AttemptOutcome.SHUTTING_DOWN
        return ends

    def _outcome(self, completion: Completion, mode: DecisionMode) -> RequestOutcome:
        failure = completion.failure or self.error
        if self.has_left:
            return RequestOutcome.CLIENT_DISCONNECT
        return served_as(mode, completion.attempts.records) if failure is None else refused_as(failure)

    async def _json(self, completion: Completion) -> None:
        answered = await completion.answer()
        edited = add_members(answered.body, completion.members(), names=answered.answer.names)
        if edited.replaced:
            _warn_of(edited.replaced)
        headers = returning_headers(answered.headers)
        receipted = completion.account.receipted
        headers += self._headers(completion, receipt=receipted is not None and receipted.has_receipt)
        await self.sender.whole(answered.status, headers, edited.body)

    async def _stream(self, completion: Completion, watch: UntilCallerLeaves) -> None:
        status, headers = await completion.open()
        watch.look_now()
        await self.sender.start(status, self._stream_headers(completion, headers))
        del headers  # nothing of the beginning is needed as long as the stream lasts
        while (part := await completion.next_part()) is not None:
            await self.sender.body(part, more=True)
            running = completion.running()
            if running is not None:
                try:
                    await running.pass_on(self.sender.part)
                except OSError:
                    if running.is_behind:
                        raise CallerLeftError from None
                    raise
        _warn_of(completion.replaced)
        await self.sender.body(b"", more=False)

    def _stream_headers(self, completion: Completion, received: Headers) -> Headers:
        returned = [pair for pair in returning_headers(received) if pair[0] != b"cache-control"]
        return [*returned, *_STREAM_HEADERS, *self._headers(completion, receipt=completion.receipt_promised)]

    async def _end_early(self, completion: Completion, error: ShuttingDownError) -> None:
        """Send the end of a stream that we end; raises `error` where only the connection can tell it."""
        end = await completion.ended_early(error)
        if end is None:
            raise error
        try:
            loop = completion.attempts.loop
            with Limit(loop.time() + SEND_GRACE_SECONDS, loop):
                await self.sender.body(end, more=False)
        except TimeoutError:
            raise CallerLeftError from None

    def _headers(self, completion: Completion, *, receipt: bool) -> Headers:
        attempts = completion.attempts
        overhead = self.overhead_ms(completion.core, until=attempts.last_sent, waited=attempts.waited)
        return completion.headers(overhead_ms=overhead, receipt=receipt)


def _warn_of(replaced: tuple[str, ...]) -> None:
    if replaced:
        _LOG.warning("the upstream's answer had a member of ours; it was replaced", extra={"members": replaced})
