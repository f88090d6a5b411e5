"""Parts of uvicorn's connection that take memory when they are used, which in most connections they never are."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl

__all__ = ["LeanFlow", "LeanPipeline"]


class LeanFlow(FlowControl):
    """uvicorn's, with an event once writing was paused: an event holds 760 bytes, waiters or none.

    uvicorn waits for it where it is paused alone.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.read_paused = False
        self.write_paused = False

    def pause_writing(self) -> None:
        """Let those wait who write."""
        if not self.write_paused:
            self.write_paused = True
            self._is_writable_event = asyncio.Event()


class LeanPipeline(list[Any]):
    """The requests on a connection that wait for the one before them, as much of a deque as uvicorn uses."""

    __slots__ = ()

    def appendleft(self, request: Any) -> None:
        """Put a request last."""
        self.insert(0, request)
