"""What the operator orders by signals: stop in order, or read the settings again."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import signal
from typing import TYPE_CHECKING, Any

from vetted_mw.cli.logs import write_lines_at_once

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator
    from types import FrameType

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from vetted_mw.gateway import Gateway

__all__ = ["OrderedApp", "hold_reload_orders", "takes_reload_order"]

_LOG = logging.getLogger("vetted_mw")
_STOP = (signal.SIGTERM, signal.SIGINT)
_PATIENT = 2
"""Ctrl-C so often is still an orderly end."""
_RELOAD: signal.Signals | None = getattr(signal, "SIGHUP", None)  # not on Windows


class OrderedApp:
    """An app whose gateway drains before its server hears of SIGTERM or Ctrl-C, and reloads at SIGHUP.

    The server goes on listening while the gateway drains, so that new requests are told why they are refused. At a
    second Ctrl-C requests are not waited for any more; at a third the server does what it does then. Each after the
    first also hurries what is waited for once the gateway has closed.

    Args:
        app: the app.
        gateway: is drained and reloaded.
        hurry: lets that end at once, if it is under way; called in the event loop.
    """

    def __init__(self, app: ASGIApp, gateway: Gateway, *, hurry: Callable[[], None]) -> None:
        self._app = app
        self._gateway = gateway
        self._hurry = hurry

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve one connection; no coroutine of its own, which every part of a stream would pass."""
        if scope["type"] == "lifespan":
            return self._taking_orders(scope, receive, send)
        return self._app(scope, receive, send)

    async def _taking_orders(self, scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.ExitStack() as taking:

            async def send_and_take(message: Message) -> None:
                if message["type"] == "lifespan.startup.complete":
                    taking.enter_context(_Orders(self._gateway, hurry=self._hurry).taken())
                await send(message)

            await self._app(scope, receive, send_and_take)


class _Orders:
    """Stands before the server's own signal handlers."""

    def __init__(self, gateway: Gateway, *, hurry: Callable[[], None]) -> None:
        self._gateway = gateway
        self._hurry = hurry
        self._loop = asyncio.get_running_loop()
        self._servers: dict[int, Any] = {}
        self._interrupts = 0
        self._stopping: asyncio.Task[None] | None = None
        self._reloading: asyncio.Task[None] | None = None
        self._is_asked_again = False

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Take the orders; give the server its handlers back at the end."""
        self._servers = {number: signal.signal(number, self._stop) for number in _STOP}
        if _RELOAD is not None:
            self._servers[_RELOAD] = signal.signal(_RELOAD, self._reload)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {_RELOAD})
        try:
            yield
        finally:
            hold_reload_orders()
            for number, handler in self._servers.items():
                signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._interrupts += number == signal.SIGINT
        # Of SIGTERM one worker gets several at one stop: from its parent, and from what ends a whole group.
        if self._interrupts > 1 and number == signal.SIGINT:
            self._loop.call_soon_threadsafe(self._hurry)
        if self._interrupts > _PATIENT:
            self._pass_on(number, frame)
        else:
            self._loop.call_soon_threadsafe(self._drain, number)

    def _reload(self, _number: int, _frame: FrameType | None) -> None:
        self._loop.call_soon_threadsafe(self._read_again)

    def _drain(self, number: int) -> None:
        write_lines_at_once()  # a worker of several ends by the signal itself
        is_urgent = self._interrupts == _PATIENT
        if self._stopping is not None and is_urgent:
            self._stopping.cancel()
        if self._stopping is None or is_urgent:
            self._stopping = self._task(self._drained(number, 0.0 if is_urgent else None))

    async def _drained(self, number: int, seconds: float | None) -> None:
        _LOG.info("shutting down", extra={"in_flight": self._gateway.in_flight})
        try:
            await self._gateway.drain(seconds)
        except Exception as error:  # noqa: BLE001 (whatever it meets, the order to stop is carried out)
            _LOG.error("the gateway did not drain", extra={"error": type(error).__name__})
        self._pass_on(number, None)

    def _read_again(self) -> None:
        self._is_asked_again = True  # while it reads: what was written after it began would be missed
        if self._reloading is None or self._reloading.done():
            self._reloading = self._task(self._read())

    async def _read(self) -> None:
        while self._is_asked_again:
            self._is_asked_again = False
            try:
                await self._gateway.reload_or_tell()
            except Exception as error:  # noqa: BLE001 (an order that cannot be carried out ends nothing)
                _LOG.error("the settings could not be reloaded", extra={"error": type(error).__name__})

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        """Do what the server wanted done at this signal."""
        handler: Callable[[int, FrameType | None], object] | int | None = self._servers.get(number)
        if callable(handler):
            handler(number, frame)
        else:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    def _task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return self._loop.create_task(work, context=contextvars.Context())


def hold_reload_orders() -> None:
    """Let SIGHUP wait until there is something to reload, here and in processes started from here.

    Else it would end a process that has not yet come so far.
    """
    if _RELOAD is not None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {_RELOAD})


def takes_reload_order() -> bool:
    """Whether a SIGHUP waits; it is taken by that."""
    if _RELOAD is None or _RELOAD not in signal.sigpending():
        return False
    signal.sigwait({_RELOAD})
    return True
