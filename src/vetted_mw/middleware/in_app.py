"""In-app mode: the decision first, then the app's own handler, then receipt and trace on what it answered."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vetted_mw.asgi.shared_receive import SharedReceive
from vetted_mw.in_app.route import CURRENT, Route
from vetted_mw.middleware.edited import EditedSend
from vetted_mw.middleware.responder import Responder
from vetted_mw.proxy.connection import closed_surely
from vetted_mw.routing.decision import Settled
from vetted_mw.routing.refusal import refusal_for
from vetted_mw.routing.trace import build_trace, encode_trace

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from vetted_mw.asgi.door import Identify
    from vetted_mw.core import Core
    from vetted_mw.gateway import Gateway
    from vetted_mw.lifecycle.traffic import InFlight
    from vetted_mw.proxy.headers import Headers
    from vetted_mw.routing.decision import Decision

__all__ = ["InAppResponder"]


class InAppResponder(Responder):
    """Lets the app's handler answer one chat completion, with a route for its own calls."""

    def __init__(
        self, app: ASGIApp, gateway: Gateway, identify: Identify | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        super().__init__(gateway, identify, scope, receive, send)
        self._app = app
        self._server_send = send
        self._running: tuple[Route, SharedReceive] | None = None
        self._refused: tuple[Core, Decision] | None = None

    async def answer(self) -> None:
        """Answer the request; what the app's own handler raises goes on to the app's own error handling."""
        await super().answer()
        if self._running is not None:
            await self._run_handler(*self._running)

    async def serve(self, in_flight: InFlight) -> None:
        """Decide; with no eligible region the caller gets our error and the handler is not run."""
        core = in_flight.core
        taken = await self.taken_in(core)
        decision = taken.asked.decision
        if not decision.order:
            self._refused = (core, decision)
            raise refusal_for(decision, (), options=taken.asked.options)
        receive = SharedReceive(taken.body.raw, self.receive)
        route = Route(
            core,
            replace(taken.asked, inbound=list(self.scope["headers"])),
            rules=taken.rules,
            overhead_ms=self.overhead_ms(core, until=None, waited=0.0),
            look_out=receive.look_out,
        )
        self._running = route, receive

    def told(self) -> tuple[Headers, bytes | None]:
        """Return headers and trace of a decision that found no region."""
        if self._refused is None:
            return [], None
        core, decision = self._refused
        settled = Settled(mode=decision.mode, reason=decision.reason, region=None, operational=None)
        trace = build_trace(decision, settled, (), receipt_reading=None, detail=core.configuration.trace_detail)
        headers = [
            (b"x-vetted-decision-mode", settled.mode.value.encode()),
            (b"x-vetted-decision-reason", settled.reason.value.encode()),
            (b"x-vetted-attempts", b"0"),
        ]
        return headers, encode_trace(trace)

    async def _run_handler(self, route: Route, receive: SharedReceive) -> None:
        configuration = route.configuration
        edited = EditedSend(self._server_send, route, configuration)
        self.scope.setdefault("state", {})["vetted"] = route
        token = CURRENT.set(route)
        try:
            await self._app(self.scope, receive, edited)
        except Exception:
            await edited.failed()
            raise
        finally:
            CURRENT.reset(token)
            await closed_surely(_closed(receive, route))


async def _closed(receive: SharedReceive, route: Route) -> None:
    await receive.aclose()
    await route.aclose()
    route.account.keep_the_rest()
