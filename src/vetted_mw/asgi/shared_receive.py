"""One `receive` for two readers: the app's handler, and we, who must know when the caller leaves."""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Message, Receive

__all__ = ["SharedReceive"]


class SharedReceive:
    """A handler's `receive`: the body once more, then whatever the server says, in the server's order.

    Until `look_out` is called nothing is read but what the handler reads itself. From then on a task of ours waits for
    the server's next message: `http.disconnect` is told to `on_leave` and then to the handler as often as it asks; any
    other message is kept for the handler, and nothing more is read until it has taken that. Whoever waits here may be
    cancelled at any moment without a message being lost.

    Args:
        body: the request's body, already read.
        receive: the server's.
    """

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive
        self._on_leave: Callable[[], None] | None = None
        self._context = contextvars.copy_context()  # the request's: outer middleware may look at it in its `receive`
        self._reading: asyncio.Task[Message | Exception] | None = None
        self._direct = 0
        self._gone: Message | None = None

    async def __call__(self) -> Message:
        """Return the next message; raises what the server's `receive` raised."""
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        while self._gone is None and (reading := self._reading) is not None:
            if reading.done():
                return self._taken(reading)
            await asyncio.wait([reading])  # a cancel of who waits leaves the task alone
        return self._gone or await self._read_directly()

    def look_out(self, on_leave: Callable[[], None]) -> None:
        """Notice from now on when the caller leaves, whether or not the handler reads; tell it to `on_leave`, once."""
        if self._gone is not None:
            on_leave()
            return
        self._on_leave = on_leave
        self._read_on()

    async def aclose(self) -> None:
        """End the task of ours, once the handler has ended."""
        self._on_leave = None
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.cancel()
            await asyncio.wait([reading])

    async def _read_directly(self) -> Message:
        self._direct += 1
        try:
            message = await self._receive()
            self._note(message)
        finally:
            self._direct -= 1
            self._read_on()  # we may have left the reading to the handler
        return message

    def _read_on(self) -> None:
        if self._on_leave is not None and self._reading is None and not self._direct:
            self._reading = asyncio.get_running_loop().create_task(self._next(), context=self._context.copy())

    def _taken(self, reading: asyncio.Task[Message | Exception]) -> Message:
        self._reading = None
        self._read_on()
        result = reading.result()
        if isinstance(result, Exception):
            raise result
        return result

    async def _next(self) -> Message | Exception:
        try:
            message = await self._receive()
        except Exception as error:  # noqa: BLE001 (the handler's to see, if it asks)
            return error
        self._note(message)
        return message

    def _note(self, message: Message) -> None:
        if message["type"] == "http.disconnect":
            self._gone = message
            on_leave, self._on_leave = self._on_leave, None
            if on_leave is not None:
                on_leave()
