"""What the event loop hands to the writer, and how it hears back."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, TypeAlias

from vetted_mw.receipts.sealed import LedgerUnavailableError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable, Sequence

    from vetted_mw.receipts.jws import Signer
    from vetted_mw.receipts.sealed import Entry, Sealed

__all__ = ["Job", "Told", "answered"]

Told: TypeAlias = "Sequence[Sealed] | LedgerUnavailableError"
"""What became of a job: its receipts, or why there are none."""


class Job:
    """Entries that are kept together or not at all; without entries, the question whether one could be kept.

    Begun by the writer or withdrawn by the loop, whoever comes first.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        signer: Signer | None,
        *,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.entries = entries
        self.signer = signer
        self.loop = loop
        self.future: asyncio.Future[Sequence[Sealed]] | None = None if loop is None else loop.create_future()
        self._claim = threading.Lock()

    def begin(self) -> bool:
        """Take the job for writing; False when it was withdrawn."""
        return self._claim.acquire(blocking=False)

    async def answer(self) -> Sequence[Sealed]:
        """Wait for what becomes of it; asked on the loop it was made for.

        Raises:
            LedgerUnavailableError: it is not kept, or too late.
        """
        if self.future is None:
            raise RuntimeError("a job without a loop has no answer")
        return await self.future

    def expire(self) -> None:
        """Stop waiting: what the writer has not begun is never written. Called on the loop."""
        self._claim.acquire(blocking=False)
        _settle(self.future, LedgerUnavailableError("timeout"))


def answered(jobs: Iterable[tuple[Job, Told]]) -> None:
    """Tell every loop about its jobs, waking it once. Called on the writer's thread."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Job, Told]]] = {}
    for job, told in jobs:
        if job.loop is not None:
            by_loop.setdefault(job.loop, []).append((job, told))
    for loop, theirs in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits there any more
            loop.call_soon_threadsafe(_settle_all, theirs)


def _settle_all(jobs: Sequence[tuple[Job, Told]]) -> None:
    for job, told in jobs:
        _settle(job.future, told)


def _settle(future: asyncio.Future[Sequence[Sealed]] | None, told: Told) -> None:
    if future is None or future.done():  # given up or cancelled meanwhile
        return
    if isinstance(told, LedgerUnavailableError):
        future.set_exception(told)
    else:
        future.set_result(told)
