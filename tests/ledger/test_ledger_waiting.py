"""How long anyone waits for a ledger."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from ledger.keeping import entry, hold_to_its_word, ids_of, now, opened, rows_of
from vetted_mw.receipts.ledger import file
from vetted_mw.receipts.ledger import sqlite as shipped
from vetted_mw.receipts.ledger import writer as writing
from vetted_mw.receipts.ledger.job import Job
from vetted_mw.receipts.ledger.sqlite import SqliteLedger
from vetted_mw.receipts.sealed import LedgerUnavailableError

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


def ours() -> list[threading.Thread]:
    kinds = ("vetted-ledger-writer", "vetted-ledger-checkpointer", "vetted-ledger-reader")
    return [thread for thread in threading.enumerate() if thread.name.startswith(kinds)]


async def gone(threads: list[threading.Thread]) -> None:
    """Wait until the threads have ended; the suite's own limit is what fails a hang."""
    for thread in threads:
        await asyncio.to_thread(thread.join)


class Gate:
    """Holds up the writer's thread where it is put."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()

    def passed(self, *_told: Any) -> bool:
        self.reached.set()
        return self.opened.wait()


async def test_a_lookup_that_hangs_is_given_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lookup has a limit, after which it says so."""
    release = threading.Event()
    monkeypatch.setattr(shipped, "_found", lambda *_told: release.wait())
    monkeypatch.setattr(shipped, "LIMIT_SECONDS", 0.05)
    async with opened(path) as ledger:
        with pytest.raises(LedgerUnavailableError, match="timeout"):
            await ledger.find("unknown")
        release.set()


async def test_a_wait_has_a_limit_and_what_was_not_begun_is_withdrawn(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the writer hangs, a wait ends after its limit; what the writer had not begun is never written."""
    gate = Gate()
    append = file.LedgerFile.append

    def hanging(self: Any, rows: Any, head: str) -> None:
        gate.passed()
        append(self, rows, head)

    async with opened(path) as ledger:
        assert await ledger.is_ready()
        monkeypatch.setattr(file.LedgerFile, "append", hanging)
        monkeypatch.setattr(shipped, "LIMIT_SECONDS", 0.1)
        first, second = entry(), entry()
        hangs = asyncio.ensure_future(ledger.keep([first], None))
        await asyncio.to_thread(gate.reached.wait)
        with pytest.raises(LedgerUnavailableError, match="timeout"):
            await ledger.keep([second], None)
        with pytest.raises(LedgerUnavailableError, match="timeout"):
            await hangs
        monkeypatch.setattr(shipped, "LIMIT_SECONDS", 10.0)
        gate.opened.set()
        await ledger.keep([entry()], None)
    assert first.receipt.query_id in ids_of(path)
    assert second.receipt.query_id not in ids_of(path)
    hold_to_its_word(path)


async def test_a_writer_that_hangs_is_not_ready_and_takes_no_more(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a write has taken longer than anyone waits, calls fail at once and the ledger is not ready."""
    gate = Gate()
    ticks = [0.0]

    def hanging(_self: Any) -> None:
        gate.passed()

    async with opened(path, monotonic=lambda: ticks[0]) as ledger:
        await ledger.keep([entry()], None)
        monkeypatch.setattr(file.LedgerFile, "append", lambda self, _rows, _head: hanging(self))
        ledger.keep_later([entry()], None)
        await asyncio.to_thread(gate.reached.wait)
        ticks[0] = 11.0
        assert not await ledger.is_ready()
        with pytest.raises(LedgerUnavailableError, match="timeout"):
            await ledger.keep([entry()], None)
        gate.opened.set()


async def test_a_queue_that_only_grows_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond its bound the queue takes no more: a disk that hangs does not fill the memory."""
    gate = Gate()
    monkeypatch.setattr(writing, "_MOST_QUEUED", 3)
    original = writing.Writer._told
    async with opened(path) as ledger:
        assert await ledger.is_ready()
        monkeypatch.setattr(writing.Writer, "_told", lambda self, jobs: (gate.passed(), original(self, jobs))[1])
        ledger.keep_later([entry()], None)
        await asyncio.to_thread(gate.reached.wait)
        for _ in range(5):
            ledger.keep_later([entry()], None)
        with pytest.raises(LedgerUnavailableError, match="overloaded"):
            await ledger.keep([entry()], None)
        gate.opened.set()
    assert len(rows_of(path)) == 4


async def test_closing_has_a_limit(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A disk that hangs does not keep the process from ending: closing gives up, and says so."""
    gate = Gate()
    monkeypatch.setattr(file.LedgerFile, "append", gate.passed)
    monkeypatch.setattr(shipped, "LIMIT_SECONDS", 0.05)
    ledger = SqliteLedger(path, now=now)
    await ledger.open()
    ledger.keep_later([entry()], None)
    await asyncio.to_thread(gate.reached.wait)
    threads = ours()
    await ledger.aclose()
    assert "the ledger was not closed in time" in caplog.text
    gate.opened.set()
    await gone(threads)


async def test_the_loop_is_woken_once_for_a_batch(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many wait for one commit, the writer calls into their loop once."""
    loop = asyncio.get_running_loop()
    woken: list[str] = []
    original = loop.call_soon_threadsafe

    def counting(callback: Any, *told: Any, **named: Any) -> Any:
        if getattr(callback, "__name__", "") == "_settle_all":
            woken.append("woken")
        return original(callback, *told, **named)

    async with opened(path) as ledger:
        await ledger.keep([entry()], None)
        gate = Gate()
        told = writing.Writer._told
        monkeypatch.setattr(writing.Writer, "_told", lambda self, jobs: (gate.passed(), told(self, jobs))[1])
        ledger.keep_later([entry()], None)
        await asyncio.to_thread(gate.reached.wait)
        monkeypatch.setattr(loop, "call_soon_threadsafe", counting)
        waiting = [asyncio.ensure_future(ledger.keep([entry()], None)) for _ in range(30)]
        await asyncio.sleep(0)
        gate.opened.set()
        await asyncio.gather(*waiting)
        monkeypatch.undo()
    assert len(woken) == 1


async def test_a_job_without_a_loop_has_nobody_to_answer() -> None:
    """What nobody waits for cannot be waited for."""
    with pytest.raises(RuntimeError, match="no answer"):
        await Job((), None).answer()
