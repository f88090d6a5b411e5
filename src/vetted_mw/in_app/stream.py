"""The stream of one in-app call, as httpx hands it to the handler."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

from vetted_mw.chat.sse import error_frame
from vetted_mw.in_app.presence import CallerGoneError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from vetted_mw.completion.completion import Completion
    from vetted_mw.in_app.presence import Presence

__all__ = ["CallStream"]


class CallStream(httpx.AsyncByteStream):
    """Hands on a completion's stream; when the handler's caller leaves, it is closed and ends with an error event.

    Attributes:
        is_reading: whether the handler waits for the next part just now.
    """

    def __init__(self, completion: Completion, presence: Presence) -> None:
        self._completion = completion
        self._presence = presence
        self.is_reading = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while (part := await self._next_part()) is not None:
                yield part
        except CallerGoneError as error:
            await self._completion.aclose()
            yield error_frame(error, members={})

    async def aclose(self) -> None:
        """Close the upstream's connection or give it back. May be called twice."""
        await self._completion.aclose()

    async def _next_part(self) -> bytes | None:
        with self._presence.needed():
            self.is_reading = True
            try:
                return await self._completion.next_part()
            finally:
                self.is_reading = False
