"""The one thread that writes: takes what is queued, numbers and seals it, commits it together, and tells."""

from __future__ import annotations

import contextlib
import logging
import queue
import sqlite3
import threading
from typing import TYPE_CHECKING, Literal

from vetted_mw.instants import rfc3339
from vetted_mw.receipts.ledger.batch import prepared
from vetted_mw.receipts.ledger.faults import reason_of
from vetted_mw.receipts.ledger.file import LedgerFile
from vetted_mw.receipts.ledger.job import Job, Told, answered
from vetted_mw.receipts.sealed import LedgerUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from pathlib import Path

    from vetted_mw.receipts.jws import Signer
    from vetted_mw.receipts.ledger.batch import Prepared

__all__ = ["LIMIT_SECONDS", "Writer"]

_LOG = logging.getLogger("vetted_mw")

LIMIT_SECONDS = 10.0
"""How long anyone waits for a commit."""
_ENTRIES_AT_ONCE = 64
"""Of one batch: sealing them takes some ten milliseconds, and whoever is first waits for the last."""
_MOST_QUEUED = 10_000
"""Jobs; more come only when the disk hangs, and memory is not the place for them."""
_AGAIN_SECONDS = 1.0
"""Between two tries while the ledger is unavailable, and between two looks whether the file is still there."""


class Writer:
    """Owns the file and the numbers of one `ledger_id`. What is public is called from any thread."""

    def __init__(
        self,
        path: Path,
        *,
        durability: Literal["normal", "full"],
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
        new_id: Callable[[], str],
        committed: Callable[[int], None],
    ) -> None:
        """Prepare, without touching the file.

        Args:
            path: of the file.
            durability: `full` waits for the disk at every commit.
            now: wall clock, aware UTC.
            monotonic: seconds that never go back.
            new_id: a fresh uuid4 as a string.
            committed: told how many rows each commit had, on the writer's thread.
        """
        self._path = path
        self._durability = durability
        self._now = now
        self._monotonic = monotonic
        self._new_id = new_id
        self._committed = committed
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._file: LedgerFile | None = None
        self._ledger_id = new_id()
        self._seq = 0
        self._fault: str | None = None
        self._has_written = False
        self._tried_at = monotonic()
        self._looked_at = monotonic()
        self._busy_since: float | None = None
        self._losses = _Losses()
        self._newest: tuple[Prepared, Signer | None] | None = None

    def submit(self, job: Job) -> None:
        """Hand a job over.

        Raises:
            LedgerUnavailableError: it would fail anyway, or would wait for too long.
        """
        reason = self.refusal
        if reason is not None:
            self._losses.add(len(job.entries))
            raise LedgerUnavailableError(reason)
        self._queue.put(job)

    def stop(self) -> None:
        """Let the thread end once what is queued is written."""
        self._queue.put(None)

    @property
    def refusal(self) -> str | None:
        """Why nothing is taken at the moment; None: a job is taken."""
        since = self._busy_since
        if since is not None and self._monotonic() - since > LIMIT_SECONDS:
            return "timeout"
        if self._queue.qsize() >= _MOST_QUEUED:
            return "overloaded"
        if self._fault is not None and (since is not None or not self._may_try()):
            return self._fault
        return None

    @property
    def is_well(self) -> bool:
        """Whether the last write succeeded, and nothing hangs."""
        return self._has_written and self._fault is None and self.refusal is None

    def run(self) -> None:
        """Write until `stop`."""
        while True:
            jobs, goes_on = self._taken()
            self._busy_since = self._monotonic()
            begun = [job for job in jobs if job.begin()]
            told = self._told(begun)
            kept = sum(len(job.entries) for job, one in told if not isinstance(one, LedgerUnavailableError))
            self._losses.add(sum(len(job.entries) for job in jobs) - kept)
            self._busy_since = None
            answered(told)
            if not goes_on:
                break
        self._leave()

    def _taken(self) -> tuple[list[Job], bool]:
        """Wait for a job and take what else is there; no timer makes anyone wait for company."""
        jobs: list[Job] = []
        entries = 0
        job = self._queue.get()
        while job is not None:
            jobs.append(job)
            entries += len(job.entries)
            if entries >= _ENTRIES_AT_ONCE:
                return jobs, True
            try:
                job = self._queue.get_nowait()
            except queue.Empty:
                return jobs, True
        return jobs, False

    def _told(self, jobs: Sequence[Job]) -> Sequence[tuple[Job, Told]]:
        if not jobs:
            return ()
        if self._fault is not None and not self._may_try():
            return _all_failed(jobs, self._fault)
        told: list[tuple[Job, Told]] = []
        try:
            self._keep(self._opened(), jobs, told)
        except Exception as error:  # noqa: BLE001 (whatever it is, the thread lives on and those who wait hear of it)
            reason = error.reason if isinstance(error, LedgerUnavailableError) else reason_of(error)
            self._fail(reason)
            return [*told, *_all_failed(jobs[len(told) :], reason)]
        self._recover()
        return told

    def _keep(self, file: LedgerFile, jobs: Sequence[Job], told: list[tuple[Job, Told]]) -> None:
        """Keep the jobs in one commit; where one of them cannot be kept, each in its own.

        Args:
            file: the ledger.
            jobs: what to keep.
            told: gets what became of each, in their order; what is in it holds, whatever is raised later.
        """
        try:
            told += self._committed_together(file, jobs)
        except (sqlite3.Error, OSError) as error:
            if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_CONSTRAINT_UNIQUE:
                raise
            reason = "duplicate"
        except Exception as error:  # noqa: BLE001 (a signer may raise anything; its text could hold anything)
            _LOG.error("a receipt cannot be sealed", extra={"error": type(error).__name__})
            reason = "unsealable"
        else:
            return
        if len(jobs) == 1:
            told += _all_failed(jobs, reason)
            return
        for job in jobs:
            self._keep(file, [job], told)

    def _committed_together(self, file: LedgerFile, jobs: Sequence[Job]) -> Sequence[tuple[Job, Told]]:
        made = []
        seq = self._seq
        for job in jobs:
            made.append(prepared(job.entries, job.signer, ledger_id=self._ledger_id, after=seq))
            seq += len(job.entries)
        rows = [row for one in made for row in one.rows]
        if rows:
            last = max(index for index, one in enumerate(made) if one.rows)
            at, losses = rfc3339(self._now(), milliseconds=True), self._losses.count
            file.append(rows, made[last].head(at=at, not_kept=losses, signer=jobs[last].signer))
            self._losses.told = losses
            self._newest = made[last], jobs[last].signer
            self._seq = seq
        else:
            file.touch()
        self._committed(len(rows))
        return [(job, one.sealed) for job, one in zip(jobs, made, strict=True)]

    def _opened(self) -> LedgerFile:
        now = self._monotonic()
        if self._file is None:
            self._file = LedgerFile(self._path, durability=self._durability)
            self._go_on(self._file)
        elif now - self._looked_at >= _AGAIN_SECONDS:
            self._looked_at = now
            if self._file.is_moved():
                raise LedgerUnavailableError("removed")
        return self._file

    def _go_on(self, file: LedgerFile) -> None:
        """Number on from what the file says; in another file than before, as somebody else."""
        seq = file.seq_of(self._ledger_id)
        if seq < self._seq:
            self._begin_anew()
            seq = 0
        self._seq = seq

    def _begin_anew(self) -> None:
        """Go on under another name; what its heads said is not said once more."""
        self._ledger_id, self._seq = self._new_id(), 0
        self._newest = None
        self._losses.forget_told()

    def _may_try(self) -> bool:
        return self._monotonic() - self._tried_at >= _AGAIN_SECONDS

    def _fail(self, reason: str) -> None:
        self._tried_at = self._monotonic()
        if reason == "conflict":  # somebody else has written under our name
            self._begin_anew()
        if self._file is not None:
            with contextlib.suppress(sqlite3.Error):  # it is broken already, and opened anew
                if reason == "removed":
                    self._file.fold()  # under its new name, if it has one, it holds what is in the log here
                self._file.close()
            self._file = None
        if self._fault is None:
            _LOG.error("the ledger is unavailable", extra={"reason": reason})
        self._fault = reason

    def _recover(self) -> None:
        self._has_written = True
        if self._fault is not None:
            _LOG.warning("the ledger is available again", extra={"was": self._fault, "not_kept": self._losses.count})
            self._fault = None

    def _leave(self) -> None:
        if self._file is None:
            return
        try:
            self._tell_of_the_last_losses(self._file)
            self._file.fold()
            self._file.close()
        except sqlite3.Error as error:
            _LOG.warning("the ledger was not closed in order", extra={"reason": reason_of(error)})

    def _tell_of_the_last_losses(self, file: LedgerFile) -> None:
        """Let the head say what was lost after the newest row: no other row comes to say it."""
        if self._newest is not None and self._losses.count != self._losses.told:
            newest, signer = self._newest
            at = rfc3339(self._now(), milliseconds=True)
            file.restate(self._ledger_id, newest.head(at=at, not_kept=self._losses.count, signer=signer))


class _Losses:
    """Counts receipts that were not kept.

    Attributes:
        count: so many under this `ledger_id`.
        told: so many of them the newest head tells.
    """

    def __init__(self) -> None:
        self.count = self.told = 0
        self._lock = threading.Lock()

    def add(self, receipts: int) -> None:
        """Count more of them. Called from any thread."""
        if receipts:
            with self._lock:
                self.count += receipts

    def forget_told(self) -> None:
        """Begin anew with those that no head has told yet."""
        with self._lock:
            self.count -= self.told
            self.told = 0


def _all_failed(jobs: Sequence[Job], reason: str) -> Sequence[tuple[Job, Told]]:
    return [(job, LedgerUnavailableError(reason)) for job in jobs]
