"""The shipped ledger, as the event loop sees it: hands receipts to a thread, and never waits for a disk."""

from __future__ import annotations

import asyncio
import atexit
import logging
import threading
import time
import uuid
import weakref
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Literal

from vetted_mw.receipts.ledger.checkpointer import Checkpointer
from vetted_mw.receipts.ledger.job import Job
from vetted_mw.receipts.ledger.readers import Readers
from vetted_mw.receipts.ledger.reading import LedgerReader, LedgerUnreadableError
from vetted_mw.receipts.ledger.writer import LIMIT_SECONDS, Writer
from vetted_mw.receipts.sealed import LedgerUnavailableError, StoredReceipt

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from pathlib import Path

    from vetted_mw.receipts.jws import Signer
    from vetted_mw.receipts.sealed import Entry, Sealed

__all__ = ["SqliteLedger"]

_LOG = logging.getLogger("vetted_mw")
_EXIT_SECONDS = 5.0


def _uuid4() -> str:
    return str(uuid.uuid4())


class SqliteLedger:
    """Keeps receipts in one SQLite file; a `ReceiptSink`.

    Several processes may write to one file, each opened ledger under a `ledger_id` of its own. Not for network file
    systems. See `docs/ledger.md`.
    """

    def __init__(
        self,
        path: Path,
        *,
        durability: Literal["normal", "full"] = "normal",
        now: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
        new_id: Callable[[], str] = _uuid4,
    ) -> None:
        """Prepare, without touching the file.

        Args:
            path: of the file; made when it does not exist, in a folder that does.
            durability: `full` waits for the disk at every commit; with `normal` the last ones may be lost when the
                power fails, never when the process is killed.
            now: wall clock, aware UTC.
            monotonic: seconds that never go back.
            new_id: a fresh uuid4 as a string.
        """
        self._path = path
        self._durability: Literal["normal", "full"] = durability
        self._now = now
        self._monotonic = monotonic
        self._new_id = new_id
        self._threads: _Threads | None = None
        self._forgotten: weakref.finalize[[], SqliteLedger] | None = None

    async def open(self) -> None:
        """Start the threads and have the file opened; under a new `ledger_id`, whatever was open before."""
        if self._forgotten is not None:
            self._forgotten()  # left open by an event loop that is gone
        checkpointer = Checkpointer(self._path, durability=self._durability)
        writer = Writer(
            self._path,
            durability=self._durability,
            now=self._now,
            monotonic=self._monotonic,
            new_id=self._new_id,
            committed=checkpointer.committed,
        )
        self._threads = _Threads(writer, checkpointer)
        self._forgotten = weakref.finalize(self, self._threads.stop)
        writer.submit(Job((), None))

    async def keep(self, entries: Sequence[Entry], signer: Signer | None) -> Sequence[Sealed]:
        """Give each entry its `ledger_id` and `seq`, sign it, and return when all of them are committed together.

        Cancelled or too late, the entries may be in the file all the same.

        Raises:
            LedgerUnavailableError: they are not kept, or nobody could say so within ten seconds.
        """
        if not entries:
            return ()
        return await self._answer(entries, signer)

    def keep_later(self, entries: Sequence[Entry], signer: Signer | None) -> None:
        """Do the same without anyone waiting."""
        try:
            self._writer().submit(Job(tuple(entries), signer))
        except LedgerUnavailableError as error:
            # The writer tells of its own state, once; that nobody writes any more, only this can tell.
            level = logging.WARNING if error.reason == "closed" else logging.DEBUG
            _LOG.log(level, "a receipt was not kept", extra={"reason": error.reason})

    async def is_ready(self) -> bool:
        """Whether a receipt could be kept now: at once after a write that went well, else by trying one."""
        try:
            if not self._writer().is_well:
                await self._answer((), None)
        except LedgerUnavailableError:
            return False
        return True

    async def find(self, query_id: str) -> StoredReceipt | None:
        """Return the receipt of this id; None when there is none.

        Raises:
            LedgerUnavailableError: it cannot be looked up.
        """
        if self._threads is None:
            raise LedgerUnavailableError("closed")
        try:
            async with asyncio.timeout(LIMIT_SECONDS):
                return await asyncio.wrap_future(self._threads.readers.submit(partial(_found, self._path, query_id)))
        except TimeoutError:
            raise LedgerUnavailableError("timeout") from None

    async def aclose(self) -> None:
        """Write what is still on its way, and close. Waits ten seconds at the most."""
        threads, self._threads = self._threads, None
        if self._forgotten is not None:
            self._forgotten.detach()
        if threads is not None:
            await threads.aclose()

    async def _answer(self, entries: Sequence[Entry], signer: Signer | None) -> Sequence[Sealed]:
        loop = asyncio.get_running_loop()
        writer = self._writer()
        job = Job(tuple(entries), signer, loop=loop)
        writer.submit(job)
        limit = loop.call_later(LIMIT_SECONDS, job.expire)
        try:
            return await job.answer()
        finally:
            limit.cancel()

    def _writer(self) -> Writer:
        if self._threads is None:
            raise LedgerUnavailableError("closed")
        return self._threads.writer


class _Threads:
    """The threads of one opened ledger. None of them keeps the ledger alive, or the process."""

    def __init__(self, writer: Writer, checkpointer: Checkpointer) -> None:
        self.writer = writer
        self.readers = Readers()
        self._checkpointer = checkpointer
        self._over: Future[None] = Future()
        self._over.set_running_or_notify_cancel()
        self._main = threading.Thread(target=self._run, name="vetted-ledger-writer", daemon=True)
        self._main.start()
        atexit.register(self._leave)

    def stop(self) -> None:
        """Let the threads end once what is queued is written, without waiting."""
        self._checkpointer.stop()
        self.writer.stop()
        self.readers.stop()

    async def aclose(self) -> None:
        """Do the same, and wait."""
        self.stop()
        try:
            async with asyncio.timeout(LIMIT_SECONDS):
                await asyncio.wrap_future(self._over)
        except TimeoutError:
            _LOG.error("the ledger was not closed in time")
            return
        self._main.join()

    def _run(self) -> None:
        beside = threading.Thread(target=self._checkpointer.run, name="vetted-ledger-checkpointer", daemon=True)
        beside.start()
        try:
            self.writer.run()
        finally:
            beside.join()
            atexit.unregister(self._leave)
            self._over.set_result(None)

    def _leave(self) -> None:
        self.stop()
        self._main.join(_EXIT_SECONDS)


def _found(path: Path, query_id: str) -> StoredReceipt | None:
    try:
        with LedgerReader(path) as reader:
            row = reader.find(query_id)
    except LedgerUnreadableError as error:
        raise LedgerUnavailableError(error.reason) from None
    return None if row is None else StoredReceipt(text=row.text, caller=row.caller)
