"""One stream on its way to the caller: its opening, its parts, and a sign of life while there is none."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from vetted_mw.proxy.connection import closed_surely
from vetted_mw.proxy.streamed import open_stream

if TYPE_CHECKING:
    from vetted_mw.completion.attempts import Attempts
    from vetted_mw.proxy.streamed import StreamedAnswer

__all__ = ["Delivery"]

_PING = b": ping\n\n"


class Delivery:
    """Opens a stream at the first region that shows content, and hands its parts on.

    Args:
        attempts: of the request.
        order: regions to try.
        commit_after_seconds: after so long the answer begins with the attempt in flight, content or not; 0: never.
        keepalive_seconds: after so long without a part a comment is handed out in its place; 0: never.

    Attributes:
        streamed: the stream; None until one has shown content.
    """

    __slots__ = (
        "_attempts",
        "_commit_after",
        "_keepalive",
        "_opening",
        "_order",
        "_part",
        "streamed",
    )

    def __init__(
        self, attempts: Attempts, order: tuple[str, ...], *, commit_after_seconds: float, keepalive_seconds: float
    ) -> None:
        self.streamed: StreamedAnswer | None = None
        self._attempts = attempts
        self._order = order
        self._commit_after = commit_after_seconds
        self._keepalive = keepalive_seconds
        self._opening: asyncio.Task[StreamedAnswer] | None = None
        self._part: asyncio.Task[bytes | None] | None = None

    @property
    def is_behind(self) -> bool:
        """Whether something of the stream may not have reached the caller."""
        return self.streamed is not None and self.streamed.is_behind

    async def open(self) -> None:
        """Return when the answer may begin.

        Raises:
            NoneServedError: no region showed content.
        """
        if not self._commit_after:
            self._begun(await self._attempts.first_success(self._order, open_stream))
            return
        self._opening = asyncio.ensure_future(self._attempts.first_success(self._order, open_stream))
        await asyncio.wait({self._opening}, timeout=self._commit_after)
        while not self._opening.done() and not self._attempts.commit():  # noqa: ASYNC110 (a turn of the loop, at most)
            await asyncio.sleep(0)  # the first attempt has not begun yet
        if self._opening.done():
            await self._opened()

    async def next_part(self) -> bytes | None:
        """Return the next bytes for the caller, None at the end; a comment where nothing else has come for too long.

        Raises:
            NoneServedError: the attempt to which the answer was committed early failed.
        """
        if not self._keepalive:
            return await self._next()
        if self._part is None:
            self._part = asyncio.ensure_future(self._next())
        done, _ = await asyncio.wait({self._part}, timeout=self._keepalive)
        if not done:
            return _PING  # parts are whole frames, so this stands between two of them
        self._part = None
        return done.pop().result()  # no name for it here: what it raises holds this frame

    def running(self) -> StreamedAnswer | None:
        """Return the stream where its parts may be had from itself as they come; None: they have to be asked for here.

        A comment between its parts needs somebody who waits beside it.
        """
        return None if self._keepalive else self.streamed

    async def aclose(self) -> None:
        """Give up what is under way and close the upstream's connection. May be called twice."""
        await closed_surely(self._closed())

    async def _next(self) -> bytes | None:
        streamed = self.streamed or await self._opened()
        return await streamed.next_part()

    async def _opened(self) -> StreamedAnswer:
        if self._opening is None:
            message = "open() comes before next_part()"
            raise RuntimeError(message)
        return self._begun(await self._opening)

    def _begun(self, streamed: StreamedAnswer) -> StreamedAnswer:
        self.streamed = streamed
        return streamed

    async def _closed(self) -> None:
        for task in (self._part, self._opening):
            if task is not None and not task.done():
                task.cancel()
                await asyncio.wait({task})
        for task in (self._part, self._opening):
            if task is not None and not task.cancelled():
                task.exception()  # seen here, since nobody else will ask for it
        if self._opening is not None and self.streamed is None and _has_result(self._opening):
            self.streamed = self._opening.result()
        # What they raised holds the frames it passed, and those hold us: else only the collector could free both.
        self._part = self._opening = None
        if self.streamed is not None:
            await self.streamed.aclose()


def _has_result(task: asyncio.Task[StreamedAnswer]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None
