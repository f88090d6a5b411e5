"""How a ledger begins, ends, and outlives what forgets it."""

from __future__ import annotations

import asyncio
import gc
import threading
from pathlib import Path

import pytest

from ledger.keeping import NOW, entry, hold_to_its_word, now, opened, rows_of
from vetted_mw.receipts.ledger import writer as writing
from vetted_mw.receipts.ledger.sqlite import SqliteLedger
from vetted_mw.receipts.sealed import LedgerUnavailableError, ReceiptSink

pytestmark = pytest.mark.anyio


def ours() -> list[threading.Thread]:
    kinds = ("vetted-ledger-writer", "vetted-ledger-checkpointer", "vetted-ledger-reader")
    return [thread for thread in threading.enumerate() if thread.name.startswith(kinds)]


async def gone(threads: list[threading.Thread]) -> None:
    """Wait until the threads have ended; the suite's own limit is what fails a hang."""
    for thread in threads:
        await asyncio.to_thread(thread.join)


async def test_each_opening_is_a_ledger_of_its_own(path: Path) -> None:
    """Opened again after it was closed, a ledger numbers from one under a new name, in the same file."""
    ledger = SqliteLedger(path, now=now)
    for _ in range(3):
        await ledger.open()
        assert await ledger.is_ready()
        await ledger.keep([entry()], None)
        await ledger.aclose()
    rows = rows_of(path)
    assert [row.seq for row in rows] == [1, 1, 1]
    assert len({row.ledger_id for row in rows}) == 3
    hold_to_its_word(path)


async def test_closed_means_nothing_is_left(path: Path) -> None:
    """After closing there is no thread, no open file and no write-ahead log."""
    before = _open_files()
    async with opened(path) as ledger:
        await asyncio.gather(*(ledger.keep([entry()], None) for _ in range(50)))
        await ledger.find("unknown")
        threads = ours()
    await gone(threads)
    assert _open_files() == before
    assert sorted(one.name for one in path.parent.iterdir()) == ["ledger.db"]
    await ledger.aclose()


def _open_files() -> set[str]:
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        return set()
    names = {str(one.readlink()) for one in folder.iterdir() if one.is_symlink()}
    return {name for name in names if "ledger.db" in name}


async def test_a_closed_ledger_says_so(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Before opening and after closing nothing is taken, and nothing hangs; what nobody waits for is told in the log."""
    ledger = SqliteLedger(path, now=now)
    for _ in range(2):
        with pytest.raises(LedgerUnavailableError, match="closed"):
            await ledger.keep([entry()], None)
        with pytest.raises(LedgerUnavailableError, match="closed"):
            await ledger.find("unknown")
        ledger.keep_later([entry()], None)
        assert not await ledger.is_ready()
        await ledger.open()
        await ledger.aclose()
    assert rows_of(path) == ()
    lost = [record for record in caplog.records if record.message == "a receipt was not kept"]
    assert [(record.levelname, record.__dict__["reason"]) for record in lost] == [("WARNING", "closed")] * 2


def test_a_ledger_outlives_the_loop_that_forgot_it(path: Path) -> None:
    """An event loop that ends without closing loses nothing; the next one goes on under a new name."""
    ledger = SqliteLedger(path, now=now)

    async def first() -> None:
        await ledger.open()
        ledger.keep_later([entry()], None)
        waiting = asyncio.ensure_future(ledger.keep([entry()], None))
        await asyncio.sleep(0)
        del waiting

    async def second() -> None:
        await ledger.open()
        await ledger.keep([entry()], None)
        await ledger.aclose()
        await gone(ours())

    loop = asyncio.new_event_loop()
    forgotten = loop.create_task(first())
    loop.run_until_complete(forgotten)
    for task in asyncio.all_tasks(loop):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(task)
    loop.close()
    asyncio.run(second())
    assert len(rows_of(path)) == 3
    hold_to_its_word(path)


def test_a_forgotten_ledger_lets_its_threads_go(path: Path) -> None:
    """A ledger that nobody holds any more writes what it has and ends its threads."""

    async def forget() -> None:
        ledger = SqliteLedger(path, now=now)
        await ledger.open()
        ledger.keep_later([entry()], None)

    asyncio.run(forget())
    gc.collect()
    asyncio.run(gone(ours()))
    assert len(rows_of(path)) == 1


def test_an_answer_for_a_closed_loop_harms_nobody(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer never calls into a loop that has been closed since, and goes on for the others."""
    release = threading.Event()
    original = writing.Writer._told
    monkeypatch.setattr(writing.Writer, "_told", lambda self, jobs: (release.wait(), original(self, jobs))[1])
    ledger = SqliteLedger(path, now=now)

    async def leave() -> None:
        await ledger.open()
        task = asyncio.ensure_future(ledger.keep([entry()], None))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(leave())
    release.set()

    async def come() -> None:
        await ledger.keep([entry()], None)
        await ledger.aclose()

    asyncio.run(come())
    assert len(rows_of(path)) == 2


async def test_a_sink_is_what_it_is(path: Path) -> None:
    """The shipped ledger is a `ReceiptSink`, as the type checker sees it."""
    sink: ReceiptSink = SqliteLedger(path, now=lambda: NOW)
    await sink.open()
    await sink.aclose()


async def test_two_ledgers_of_one_process_share_a_file(path: Path) -> None:
    """As during a reload: the old one ends while the new one begins, and neither disturbs the other."""
    async with opened(path) as first:
        async with opened(path) as second:
            await asyncio.gather(
                *(ledger.keep([entry()], None) for _ in range(100) for ledger in (first, second)),
            )
            await first.aclose()
            await second.keep([entry()], None)
        assert len(rows_of(path)) == 201
    hold_to_its_word(path)
