"""What every responder shares: the way in, from headers to a decision, and the way out when something is wrong."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import msgspec

from vetted_mw.asgi.door import Identify, admit, admit_by_key, refuse_cross_site
from vetted_mw.asgi.intake import Body, CallerLeftError, Inflow, read_body
from vetted_mw.asgi.paths import route_path
from vetted_mw.asgi.sending import Sender, own_fault
from vetted_mw.chat.request import parse_request
from vetted_mw.completion.asked import Asked
from vetted_mw.completion.sealing import require_ledger
from vetted_mw.completion.told import error_word
from vetted_mw.deadlines import Limit
from vetted_mw.errors import AnswerError, SaturatedError, ShuttingDownError
from vetted_mw.proxy.headers import OURS
from vetted_mw.routing.decision import Rules, check_policy
from vetted_mw.routing.options import parse_options
from vetted_mw.telemetry.costs_no_answer import COSTS_NO_ANSWER
from vetted_mw.telemetry.ended import EndedRequest, RequestOutcome
from vetted_mw.telemetry.spans import correlated

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from starlette.types import Receive, Scope, Send

    from vetted_mw.core import Core
    from vetted_mw.gateway import Gateway
    from vetted_mw.lifecycle.traffic import InFlight
    from vetted_mw.proxy.headers import Headers
    from vetted_mw.telemetry.recorder import Recorder
    from vetted_mw.telemetry.spans import ServerSpan

__all__ = ["SEND_GRACE_SECONDS", "Responder", "TakenIn", "refused_as"]

SEND_GRACE_SECONDS = 5.0
"""How long an end that we owe a caller may take to be taken; who does not take it by then has left."""
_SERVER_FAULT = 500
_LOG = logging.getLogger("vetted_mw")


class TakenIn(msgspec.Struct, frozen=True, kw_only=True):
    """A request that was let in, and where it may go.

    Attributes:
        asked: what it asks for, and where it may go.
        body: as it came.
        rules: the operator's as narrowed for the caller.
    """

    asked: Asked
    body: Body
    rules: Rules


def refused_as(error: AnswerError | None) -> RequestOutcome:
    """Say whether a request without an answer was refused, for what its caller asked, or failed, for what we have not.

    Args:
        error: what the caller was told; None where there was nothing to tell it by.
    """
    is_callers = error is not None and error.status < _SERVER_FAULT and not isinstance(error, SaturatedError)
    return RequestOutcome.REFUSED if is_callers else RequestOutcome.FAILED


class Responder(ABC):
    """Answers one request; born in `__call__`, holds what belongs to that request only.

    Attributes:
        gateway: owns what lives.
        scope: the request's.
        receive: the server's.
        sender: wraps the server's `send`.
        inflow: the headers by name, and the body as it comes.
        in_flight: counts it while it is answered; None before it was let in.
        span: of the HTTP request, the host's or ours.
        error: what the caller was told when no answer was its answer; None while all is well.
        has_left: whether the caller went away before its answer had ended.
        has_raised: whether the app's own handler raised.
        hands_on: whether somebody else answers once `serve` has let the request in.
    """

    hands_on = False

    __slots__ = (
        "_arrived",
        "_identify",
        "_reading",
        "_started",
        "error",
        "gateway",
        "has_left",
        "has_raised",
        "in_flight",
        "inflow",
        "receive",
        "scope",
        "sender",
        "span",
    )

    def __init__(self, gateway: Gateway, identify: Identify | None, scope: Scope, receive: Receive, send: Send) -> None:
        self.gateway = gateway
        self.scope = scope
        self.receive = receive
        self.sender = Sender(send)
        self.in_flight: InFlight | None = None
        self.error: AnswerError | None = None
        self.has_left = False
        self.has_raised = False
        rooms = gateway.rooms
        self.inflow = Inflow(scope, receive, rooms.configuration.limits)
        recorder, inflow = rooms.recorder, self.inflow
        self.span = (
            recorder.unseen_server(inflow.headers if b"traceparent" in inflow.named else None)
            if recorder.is_asleep
            else self._server_span(recorder)
        )
        self._identify = identify
        self._arrived = gateway.monotonic()
        self._started = 0.0
        self._reading = 0.0

    def _server_span(self, recorder: Recorder) -> ServerSpan:
        scope = self.scope
        path = route_path(scope).removesuffix("/")
        return recorder.server(path=path, scheme=scope.get("scheme", "http"), headers=scope["headers"])

    async def respond(self) -> None:
        """Answer the request, count it as in flight meanwhile, and tell how it ended."""
        try:
            try:
                self.in_flight = in_flight = self.gateway.enter_at_once() or await self.gateway.enter()
                await self.serve(in_flight)
            except CallerLeftError:
                self._note_left()
            except AnswerError as error:
                await self._refuse(error)
            except Exception as error:  # noqa: BLE001 (the last wall: what an exception says may be the caller's words)
                await self._refuse(own_fault(error))
            if self.hands_on:
                await self.hand_on()
        except asyncio.CancelledError:
            self.has_left = True  # how some servers tell it
            raise
        finally:
            if self.in_flight is not None:
                self.in_flight.leave()
            self._tell_end()

    @abstractmethod
    async def serve(self, in_flight: InFlight) -> None:
        """Answer the request; an `AnswerError` raised here becomes the answer, and nothing that is raised escapes.

        What an exception says could be the caller's words.
        """

    async def hand_on(self) -> None:  # noqa: B027 (of those alone that hand on)
        """Let somebody else answer; what is raised here goes on to whoever serves the app."""

    @abstractmethod
    def told(self) -> tuple[Headers, bytes | None]:
        """Return the `x-vetted-*` headers and the trace an error answer carries; nothing before a decision."""

    @abstractmethod
    def ended(self, *, status: int | None, error: str | None, seconds: float) -> EndedRequest:
        """Tell how the request ended, and what is known of it.

        Args:
            status: of the answer; None when there was none.
            error: a closed word for what the caller was told in place of its answer.
            seconds: from its arrival to its end.
        """

    @abstractmethod
    def innermost(self) -> Context:
        """Return the context that what is told of the request at its end belongs to."""

    @property
    def status(self) -> int | None:
        """HTTP status of the answer; None when there was none."""
        return self.sender.status

    async def taken_in(self, core: Core) -> TakenIn:
        """Let the request in and decide where it may go.

        Raises:
            AnswerError: it is not let in, malformed, or outside policy.
            CallerLeftError: it went away meanwhile.
        """
        self._started = core.monotonic()
        inflow, configuration, identify = self.inflow, core.configuration, self._identify
        named, headers = inflow.named, inflow.headers
        refuse_cross_site(named)
        if identify is None:
            admitted = admit_by_key(named, configuration)
        else:
            admitted = await admit(self.scope, named, configuration, identify)
        reading = core.monotonic()
        body = await read_body(inflow, configuration.limits)
        self._reading = core.monotonic() - reading
        inflow.let_go_of_names()
        request = parse_request(body.content)
        options = parse_options(request.vetted_members, headers if OURS in named else (), regions=configuration.regions)
        check_policy(options, admitted.rules, configuration.regions)
        if core.ledger is not None:
            await require_ledger(core)
        asked = Asked(
            request=request,
            options=options,
            decision=core.decide(options, request.model, admitted.rules),
            inbound=self.scope["headers"] if core.forward_headers else headers,
            caller=admitted.caller.name,
            outer=self.span.context,
        )
        return TakenIn(asked=asked, body=body, rules=admitted.rules)

    def overhead_ms(self, core: Core, *, until: float | None, waited: float) -> float:
        """Milliseconds spent in us before the upstream's first byte; reading the body and waiting do not count."""
        end = core.monotonic() if until is None else until
        return max(0.0, end - self._started - self._reading - waited) * 1000

    def unanswered_as(self) -> RequestOutcome:
        """Say how a request ended that no upstream was asked for."""
        return RequestOutcome.CLIENT_DISCONNECT if self.has_left else refused_as(self.error)

    def _tell_end(self) -> None:
        """Tell span, meters and log how it ended; one line in the log per request, none of it the caller's words."""
        error = None if self.error is None else error_word(self.error)
        if _LOG.isEnabledFor(logging.INFO) or not self.gateway.meters.are_asleep:
            self._tell_ended(error)
        self.span.end(status=self.status, error=error, has_raised=self.has_raised)

    def _tell_ended(self, error: str | None) -> None:
        with COSTS_NO_ANSWER:
            ended = self.ended(status=self.status, error=error, seconds=self.gateway.monotonic() - self._arrived)
            if not self.gateway.meters.are_asleep:
                self.gateway.meters.ended(ended, self.innermost())
            if _LOG.isEnabledFor(logging.INFO):
                with correlated(self.innermost()) as ids:
                    _LOG.info("a chat completion ended", extra=ended.logged() | ids)

    def _note_left(self) -> None:
        self.has_left = True
        _LOG.debug("the caller left before its answer ended")

    async def _refuse(self, error: AnswerError) -> None:
        self.error = _without_frames(error)
        if self.sender.started:
            return  # the response has begun: closing it unfinished is the only honest end left
        headers, trace = self.told()
        is_http_1 = self.scope.get("http_version", "1.1").startswith("1")
        if isinstance(error, ShuttingDownError) and is_http_1 and self.inflow.ended:
            headers = [*headers, (b"connection", b"close")]  # the next request goes to an instance that stays
        try:
            # Nobody watches the caller any more, and some servers never return from a `send` to one that has gone.
            with Limit(asyncio.get_running_loop().time() + SEND_GRACE_SECONDS):
                await self.sender.error(error, headers=headers, trace=trace, inflow=self.inflow)
        except (CallerLeftError, TimeoutError):
            self._note_left()


def _without_frames(error: AnswerError) -> AnswerError:
    """Return an error that is kept without where it was raised: those frames hold us, and with us the request's body.

    Only the collector of cycles could free both.
    """
    error.__context__ = error.__cause__ = None
    return error.with_traceback(None)
