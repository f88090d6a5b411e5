"""How one path is answered: methods, who may ask, JSON out, and whatever is wrong in OpenAI's envelope."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from vetted_mw.asgi.door import admit, refuse_cross_site
from vetted_mw.asgi.intake import CallerLeftError, Inflow
from vetted_mw.asgi.paths import route_path
from vetted_mw.asgi.sending import JSON, Sender, own_fault
from vetted_mw.errors import AnswerError, MethodNotAllowedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import Receive, Scope, Send

    from vetted_mw.asgi.door import Identify
    from vetted_mw.callers import Caller
    from vetted_mw.core import Core
    from vetted_mw.gateway import Gateway
    from vetted_mw.proxy.headers import Headers
    from vetted_mw.routing.decision import Rules

    Answering = Callable[[Gateway, Scope, Inflow], Awaitable["Content"]]

__all__ = ["GET", "POST", "Asked", "Content", "Endpoint", "for_callers"]

_LOG = logging.getLogger("vetted_mw")

GET = ("GET", "HEAD")
POST = ("POST",)


@dataclass(frozen=True, slots=True)
class Content:
    """What a path answers.

    Attributes:
        told: sent as JSON.
        status: the HTTP status.
        headers: `content-type` among them; the length is added.
    """

    told: object
    status: int = field(default=200, kw_only=True)
    headers: Headers = field(default_factory=lambda: [JSON], kw_only=True)


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """One request to an endpoint for callers.

    Attributes:
        core: the gateway's rooms.
        scope: the request's.
        inflow: its body, unread.
        caller: who asks.
        rules: the operator's rules as narrowed for the caller.
    """

    core: Core
    scope: Scope
    inflow: Inflow
    caller: Caller
    rules: Rules


class Endpoint:
    """Answers one path.

    Args:
        gateway: whose facts it tells.
        answering: gives the content; an `AnswerError` raised there becomes the answer.
        methods: those it takes; empty stands for all.
    """

    def __init__(self, gateway: Gateway, answering: Answering, *, methods: tuple[str, ...] = GET) -> None:
        self._gateway = gateway
        self._answering = answering
        self._methods = methods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; nothing escapes that could carry what the caller wrote."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
            return
        inflow = Inflow(scope, receive, self._gateway.configuration.limits)
        sender = Sender(send)
        try:
            await self._answered(scope, inflow, sender)
        except CallerLeftError:
            _LOG.debug("the caller left before its answer ended")

    async def _answered(self, scope: Scope, inflow: Inflow, sender: Sender) -> None:
        methods = self._methods
        if route_path(scope).removesuffix("/") in self._gateway.paths:
            methods = POST  # a completion never comes this far: here its path only turns other methods away
        if methods and scope["method"] not in methods:
            error = MethodNotAllowedError(f"Use {methods[0]} here.")
            await sender.error(error, headers=[(b"allow", ", ".join(methods).encode())], trace=None, inflow=inflow)
            return
        try:
            content = await self._answering(self._gateway, scope, inflow)
        except CallerLeftError:
            raise
        except AnswerError as error:
            await sender.error(error, headers=[], trace=None, inflow=inflow)
        except Exception as error:  # noqa: BLE001 (the last wall: what an exception says may be the caller's words)
            await sender.error(own_fault(error), headers=[], trace=None, inflow=inflow)
        else:
            await sender.whole(content.status, content.headers, msgspec.json.encode(content.told))


def for_callers(told: Callable[[Asked], Awaitable[object]], identify: Identify | None) -> Answering:
    """Return what answers those whom the door lets in, and nobody else."""

    async def answering(gateway: Gateway, scope: Scope, inflow: Inflow) -> Content:
        if scope["method"] == "POST":
            refuse_cross_site(inflow.named)
        core = await gateway.core()
        admitted = await admit(scope, inflow.named, core.configuration, identify)
        asked = Asked(core=core, scope=scope, inflow=inflow, caller=admitted.caller, rules=admitted.rules)
        return Content(await told(asked))

    return answering
