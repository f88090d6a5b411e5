"""uvicorn's httptools protocol with limits on what it has none for: the head of a request, and what is like one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    import asyncio

__all__ = ["BoundedHeads"]

_MAX_HEAD_BYTES = 65_536  # what uvicorn allows a head where h11 reads it
_HEAD_SECONDS = 30.0


class BoundedHeads(HttpToolsProtocol):
    """Close a connection whose head, trailer or chunk extension is too long, or whose head does not come.

    uvicorn keeps every header it is sent, and one line may go on for ever: 32 MiB of short headers on one connection
    took 640 MiB of memory. What is refused gets uvicorn's own 400 where nothing is being answered, and nothing else of
    it is kept or logged.
    """

    _unframed = 0
    _waiting: asyncio.TimerHandle | None = None
    _in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first head."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer, neither for a head nor for the next request.

        uvicorn leaves its keep-alive timer running where the caller has reset the connection, and the timer holds the
        connection and its last request for as long as idle ones are kept.
        """
        self._wait_no_longer()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()

    def data_received(self, data: bytes) -> None:
        """Parse, then look at how much came since the parser last told of a whole head or a part of a body."""
        self._unframed += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._unframed > _MAX_HEAD_BYTES:
            self._refuse("The head of the request is too long.")
        elif self._in_head and self._waiting is None:
            self._wait()

    def on_message_begin(self) -> None:
        """Begin a head."""
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """End the head."""
        self._in_head = False
        self._unframed = 0
        self._wait_no_longer()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of a body, for which there are other limits."""
        self._unframed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request; what follows is the next one's head."""
        self._unframed = 0
        super().on_message_complete()

    def _wait(self) -> None:
        self._waiting = self.loop.call_later(_HEAD_SECONDS, self._refuse, "The head of the request did not come.")

    def _wait_no_longer(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _refuse(self, message: str) -> None:
        self._wait_no_longer()
        if self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.close()  # something is being answered: no second answer may stand in it
        else:
            self.send_400_response(message)
