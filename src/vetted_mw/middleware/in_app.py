"""In-app mode: the decision first, then the app's own handler, then receipt and trace on what it answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vetted_mw.asgi.shared_receive import SharedReceive
from vetted_mw.chat.sse import Placement
from vetted_mw.completion.completion import Completion
from vetted_mw.errors import InternalError
from vetted_mw.in_app.route import CURRENT, Route
from vetted_mw.middleware.edited import EditedSend
from vetted_mw.middleware.responder import Responder, refused_as
from vetted_mw.proxy.connection import closed_surely
from vetted_mw.telemetry import names
from vetted_mw.telemetry.ended import EndedRequest, RequestOutcome, receipt_outcome, served_as

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from vetted_mw.asgi.door import Identify
    from vetted_mw.completion.asked import Asked
    from vetted_mw.core import Core
    from vetted_mw.gateway import Gateway
    from vetted_mw.lifecycle.traffic import InFlight
    from vetted_mw.proxy.headers import Headers

__all__ = ["InAppResponder"]

_BAD_REQUEST, _SERVER_FAULT = 400, 500


class InAppResponder(Responder):
    """Lets the app's handler answer one chat completion, with a route for its own calls."""

    __slots__ = ("_app", "_refused", "_running", "_server_send", "_status")

    def __init__(
        self, app: ASGIApp, gateway: Gateway, identify: Identify | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        super().__init__(gateway, identify, scope, receive, send)
        self._app = app
        self._server_send = send
        self._running: tuple[Core, Asked, Route, SharedReceive] | None = None
        self._refused: tuple[Core, Completion] | None = None
        self._status: int | None = None

    hands_on = True

    @property
    def status(self) -> int | None:
        """HTTP status of the answer, the handler's or ours; None when there was none."""
        return self._status if self._running is not None else self.sender.status

    async def hand_on(self) -> None:
        """Run the handler; what it raises goes on to the app's own error handling."""
        if self._running is not None:
            _core, _asked, route, receive = self._running
            await self._run_handler(route, receive)

    async def serve(self, in_flight: InFlight) -> None:
        """Decide; with no eligible region the caller gets our error and the handler is not run."""
        core = in_flight.core
        taken = await self.taken_in(core)
        asked = taken.asked
        if not asked.decision.order:
            await self._refuse_all(core, asked)
        receive = SharedReceive(taken.body.raw, self.receive)
        route = Route(
            core,
            msgspec.structs.replace(asked, inbound=list(self.scope["headers"])),
            rules=taken.rules,
            overhead_ms=self.overhead_ms(core, until=None, waited=0.0),
            look_out=receive.look_out,
        )
        self._running = core, asked, route, receive

    def told(self) -> tuple[Headers, bytes | None]:
        """Return headers and trace of a decision that found no region."""
        if self._refused is None:
            return [], None
        core, completion = self._refused
        overhead = self.overhead_ms(core, until=None, waited=0.0)
        return completion.headers(overhead_ms=overhead, receipt=False), completion.trace()

    def ended(self, *, status: int | None, error: str | None, seconds: float) -> EndedRequest:
        """Tell how the request ended, with what its handler's calls know."""
        if self._running is None:
            return self._ended_unanswered(status=status, error=error, seconds=seconds)
        core, asked, route, _receive = self._running
        settled, receipted = route.settled(), route.account.receipted
        return EndedRequest(
            outcome=self._outcome(route),
            status=status,
            error=error,
            seconds=seconds,
            stream=asked.request.stream,
            model=core.known_model(asked.request.model) or names.OTHER,
            policy=asked.decision.policy,
            mode=settled.mode,
            reason=settled.reason,
            requested_region=asked.options.region,
            region=settled.region,
            attempts=route.sent,
            overhead_seconds=route.overhead_ms / 1000 if route.sent else None,
            receipt=None if receipted is None else receipted.receipt,
        )

    def innermost(self) -> Context:
        """Return the context of the request's span: the handler's calls have spans of their own."""
        return self.span.context

    async def _refuse_all(self, core: Core, asked: Asked) -> None:
        """Tell a decision that found no region the way a completion of ours does, span and metrics included.

        Raises:
            AnswerError: always.
        """
        # Without its headers: they are the outer request's, whose span is the parent, and nothing is sent.
        completion = Completion(core, msgspec.structs.replace(asked, inbound=[]), placement=Placement.OFF, bare=True)
        self._refused = core, completion
        try:
            await completion.answer()
        finally:
            await completion.aclose()

    def _ended_unanswered(self, *, status: int | None, error: str | None, seconds: float) -> EndedRequest:
        ended = EndedRequest(outcome=self.unanswered_as(), status=status, error=error, seconds=seconds)
        if self._refused is None:
            return ended
        _core, completion = self._refused
        decision = completion.decision
        return msgspec.structs.replace(
            ended,
            stream=completion.request.stream,
            model=completion.told_model,
            requested_region=completion.requested_region,
            policy=decision.policy,
            mode=decision.mode,
            reason=decision.reason,
        )

    def _outcome(self, route: Route) -> RequestOutcome:
        if self.has_left or route.has_left:
            return RequestOutcome.CLIENT_DISCONNECT
        if self.error is not None:
            return refused_as(self.error)
        if self._status is None or self._status >= _SERVER_FAULT:
            return RequestOutcome.FAILED
        if self._status >= _BAD_REQUEST:
            return RequestOutcome.REFUSED
        return served_as(route.settled().mode, route.attempts())

    async def _run_handler(self, route: Route, receive: SharedReceive) -> None:
        edited = EditedSend(self._noting_send, route, route.configuration)
        self.scope.setdefault("state", {})["vetted"] = route
        token = CURRENT.set(route)
        try:
            await self._app(self.scope, receive, edited)
        except Exception:
            self.has_raised = True
            await edited.failed()
            raise
        finally:
            CURRENT.reset(token)
            await closed_surely(_closed(receive, route))
            self._note_answer(edited, route)

    async def _noting_send(self, message: Message) -> None:
        """Send what the handler sends, and note what it says of the answer."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
        try:
            await self._server_send(message)
        except OSError:  # how some servers say that the caller is gone
            self.has_left = True
            raise

    def _note_answer(self, edited: EditedSend, route: Route) -> None:
        self.error = edited.error
        if self.error is None and self.has_raised and not (self.has_left or route.has_left):
            self.error = InternalError("The application failed to answer.")
        meters, receipted = self.gateway.meters, route.account.receipted
        if meters.are_asleep:
            return
        meters.worked(route.account.reported(), self.span.context)
        if receipted is not None:
            meters.receipted(receipted.receipt, receipt_outcome(receipted.error), self.span.context)


async def _closed(receive: SharedReceive, route: Route) -> None:
    await receive.aclose()
    await route.aclose()
    route.account.keep_the_rest()
