"""uvicorn's httptools protocol: with limits on the heads of requests, for which it has none, and fewer writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from vetted_mw.cli.joined import JoinedHeads
from vetted_mw.cli.lean import LeanFlow, LeanPipeline

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

    The head of a response goes out in one write with what follows it at once.
    """

    # Slots: with more than 30 attributes of its own a connection's dictionary would share no keys with the others'.
    __slots__ = ("_headed", "_idle_until", "_joined", "_unframed", "_waiting")

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first head."""
        self._headed: object = None  # the scope of the last request whose head came whole: each has one of its own
        self._idle_until: float | None = None
        self._unframed = 0
        self._joined = joined = JoinedHeads(transport, self.loop)
        super().connection_made(cast("asyncio.Transport", joined))
        self.flow = LeanFlow(cast("asyncio.Transport", joined))
        self.pipeline = LeanPipeline()  # type: ignore[assignment]
        self._waiting: asyncio.TimerHandle | None = None
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer, neither for a head nor for the next request.

        uvicorn leaves its keep-alive timer running where the caller has reset the connection, and the timer holds the
        connection and its last request for as long as idle ones are kept.
        """
        self._wait_no_longer()
        self._joined.forget()
        super().connection_lost(exc)
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = None

    def data_received(self, data: bytes) -> None:
        """Parse, then look at how much came since the parser last told of a whole head or a part of a body."""
        self._unframed += len(data)
        super().data_received(data)
        if self._unframed > _MAX_HEAD_BYTES:
            self._refuse("The head of the request is too long.")
        elif self.scope is not self._headed and self._waiting is None and not self.transport.is_closing():
            self._wait()
        elif self.cycle is not None and self.cycle.response_complete and self.cycle.scope is self.scope:
            self._be_idle()  # the rest of a body that was answered before it came: nothing else would end the wait

    def on_headers_complete(self) -> None:
        """End the head."""
        self._headed = self.scope
        self._unframed = 0
        self._wait_no_longer()
        self._joined.expect_head()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of a body, for which there are other limits.

        uvicorn copies each part twice. One that is handed on before the next comes need not be: nothing and some bytes
        are, added up, those very bytes.
        """
        self._unframed = 0
        held = cast("bytes | bytearray", self.cycle.body)
        if not held:
            self.cycle.body = b""  # type: ignore[assignment]
        elif type(held) is bytes:
            self.cycle.body = bytearray(held)  # many small parts would be copied again and again
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request; what follows is the next one's head."""
        self._unframed = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on with the request that came meanwhile, or be idle for as long as an idle connection is kept.

        As uvicorn does, but for its timer: it makes one after each request, and here the one that runs goes on.
        """
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._joined.expect_head()
            self._start_asgi_task(*self.pipeline.pop())
            return
        self._be_idle()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that was idle for so long; look again where it was in use meanwhile."""
        self.timeout_keep_alive_task = None
        if self._idle_until is None:
            return
        left = self._idle_until - self.loop.time()
        if left > 0:
            self._idle(left)
        else:
            super().timeout_keep_alive_handler()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over with the transport it came with: what is not HTTP has no heads."""
        self._joined.flush()
        self._joined.forget()
        self.transport = self._joined.inner
        super().handle_websocket_upgrade()

    def _unset_keepalive_if_required(self) -> None:
        self._idle_until = None

    def _be_idle(self) -> None:
        self._idle_until = self.loop.time() + self.timeout_keep_alive
        if self.timeout_keep_alive_task is None:
            self._idle(self.timeout_keep_alive)

    def _idle(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

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
