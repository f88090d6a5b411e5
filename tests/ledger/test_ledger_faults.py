"""A ledger that cannot be written: told in one word, nothing lost that was acknowledged."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from ledger.breaking import Ticks, changes, failing, refused
from ledger.keeping import entry, hold_to_its_word, ids_of, opened, payload_of, rows_of
from vetted_mw.receipts.ledger import file
from vetted_mw.receipts.ledger.faults import reason_of
from vetted_mw.receipts.ledger.reading import LedgerReader
from vetted_mw.receipts.sealed import LedgerUnavailableError

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


async def test_unavailable_and_available_again_are_told_once_each(
    path: Path, ticks: Ticks, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A ledger that fails and recovers writes one line for each change, and goes on without a gap."""
    caplog.set_level(logging.DEBUG, logger="vetted_mw")
    async with opened(path, monotonic=ticks) as ledger:
        await ledger.keep([entry()], None)
        with monkeypatch.context() as broken:
            broken.setattr(file.LedgerFile, "append", failing(sqlite3.SQLITE_FULL))
            for _ in range(3):
                assert await refused(ledger) == "disk_full"
                ticks.seconds += 2
        await ledger.keep([entry()], None)
    assert changes(caplog) == [
        ("the ledger is unavailable", "disk_full"),
        ("the ledger is available again", "disk_full"),
    ]
    assert "somebody's data" not in caplog.text
    assert [row.seq for row in rows_of(path)] == [1, 2]
    hold_to_its_word(path)


async def test_what_was_not_kept_is_counted_in_the_next_head(
    path: Path, ticks: Ticks, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Receipts that an outage cost leave no gap, so the head says how many: refused, failed, and nobody's alike."""
    async with opened(path, monotonic=ticks) as ledger:
        await ledger.keep([entry()], None)
        with monkeypatch.context() as broken:
            broken.setattr(file.LedgerFile, "append", failing(sqlite3.SQLITE_FULL))
            assert await refused(ledger) == "disk_full"  # one that was tried
            assert await refused(ledger) == "disk_full"  # one that was not
            ledger.keep_later([entry(), entry()], None)
        ticks.seconds += 2
        await ledger.keep([entry()], None)
    with LedgerReader(path) as reader:
        (head,) = reader.heads()
    assert payload_of(head.text)["not_kept"] == 4
    assert [row.seq for row in rows_of(path)] == [1, 2]
    assert [record.__dict__["not_kept"] for record in caplog.records if "again" in record.message] == [4]


async def test_losses_after_the_newest_row_are_told_at_the_close(
    path: Path, ticks: Ticks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An outage that no further row follows is not forgotten: the head of the newest row says it when all is closed."""
    async with opened(path, monotonic=ticks) as ledger:
        await ledger.keep([entry()], None)
        with monkeypatch.context() as broken:
            broken.setattr(file.LedgerFile, "append", failing(sqlite3.SQLITE_FULL))
            assert await refused(ledger) == "disk_full"
        ticks.seconds += 2
        assert await ledger.is_ready()
    with LedgerReader(path) as reader:
        (head,) = reader.heads()
    assert payload_of(head.text)["not_kept"] == 1
    hold_to_its_word(path)


async def test_a_ledger_of_another_name_does_not_tell_the_same_losses_again(
    path: Path, ticks: Ticks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that was removed is gone on with under another id, which tells only what no head has told before it."""
    async with opened(path, monotonic=ticks) as ledger:
        with monkeypatch.context() as broken:
            broken.setattr(file.LedgerFile, "append", failing(sqlite3.SQLITE_FULL))
            assert await refused(ledger) == "disk_full"
        ticks.seconds += 2
        await ledger.keep([entry()], None)  # its head tells of one
        path.unlink()
        ticks.seconds += 2
        assert await refused(ledger) == "removed"
        ticks.seconds += 2
        await ledger.keep([entry()], None)
    with LedgerReader(path) as reader:
        (head,) = reader.heads()
    assert payload_of(head.text)["not_kept"] == 1


async def test_while_unavailable_calls_fail_fast_and_tries_are_a_second_apart(
    path: Path, ticks: Ticks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a second of a fault nothing touches the disk; after it the next call tries."""
    tries = []

    def counted(*_told: Any) -> None:
        tries.append(ticks.seconds)
        failing(sqlite3.SQLITE_IOERR_WRITE)()

    async with opened(path, monotonic=ticks) as ledger:
        assert await ledger.is_ready()
        with monkeypatch.context() as broken:
            broken.setattr(file.LedgerFile, "append", counted)
            for _ in range(10):
                assert await refused(ledger) == "io_error"
                assert not await ledger.is_ready()
                ledger.keep_later([entry()], None)
            ticks.seconds += 1
            assert await refused(ledger) == "io_error"
        assert tries == [100.0, 101.0]
        ticks.seconds += 1
        assert await ledger.is_ready()
        await ledger.keep([entry()], None)


async def test_what_is_queued_behind_a_fault_fails_with_it(
    path: Path, ticks: Ticks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault costs one wait, not one for each batch that is queued behind it."""
    tries = []

    def counted(*_told: Any) -> None:
        tries.append(1)
        failing(sqlite3.SQLITE_BUSY)()

    async with opened(path, monotonic=ticks) as ledger:
        assert await ledger.is_ready()
        monkeypatch.setattr(file.LedgerFile, "append", counted)
        told = await asyncio.gather(*(refused(ledger) for _ in range(300)))
    assert set(told) == {"locked"}
    assert len(tries) == 1


async def test_before_the_first_receipt_readiness_is_asked_of_the_disk(
    path: Path, ticks: Ticks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ledger that has written nothing yet writes a page to find out, and is ready when that goes well."""
    with monkeypatch.context() as broken:
        broken.setattr(file, "touch", failing(sqlite3.SQLITE_FULL))
        async with opened(path, monotonic=ticks) as ledger:
            assert not await ledger.is_ready()
            broken.undo()
            ticks.seconds += 1
            assert await ledger.is_ready()


async def test_after_a_fault_readiness_is_asked_of_the_disk(
    path: Path, ticks: Ticks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a fault a page is written to find out, and as long as that fails the ledger is not ready."""
    async with opened(path, monotonic=ticks) as ledger:
        await ledger.keep([entry()], None)
        with monkeypatch.context() as broken:
            broken.setattr(file.LedgerFile, "append", failing(sqlite3.SQLITE_FULL))
            await refused(ledger)
            ticks.seconds += 1
            broken.setattr(file, "touch", failing(sqlite3.SQLITE_FULL))
            assert not await ledger.is_ready()
        ticks.seconds += 1
        assert await ledger.is_ready()


async def test_a_commit_that_was_called_failed_and_is_there_is_counted(
    path: Path, ticks: Ticks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a failed commit is in the file all the same, numbering goes on after it: no gap, no second seq."""
    append = file.LedgerFile.append

    def ambiguous(self: Any, rows: Any, head: str) -> None:
        append(self, rows, head)
        failing(sqlite3.SQLITE_IOERR_FSYNC)()

    async with opened(path, monotonic=ticks) as ledger:
        with monkeypatch.context() as broken:
            broken.setattr(file.LedgerFile, "append", ambiguous)
            assert await refused(ledger) == "io_error"
        ticks.seconds += 1
        (kept,) = await ledger.keep([entry()], None)
    assert kept.receipt.seq == 2
    hold_to_its_word(path)


async def test_a_full_disk_loses_nothing_acknowledged(
    path: Path, ticks: Ticks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite's own word for a full disk: what was acknowledged stays, and with room again it goes on without a gap."""
    room = [30]
    made = file.connected

    def tight(*told: Any, **named: Any) -> sqlite3.Connection:
        connection = made(*told, **named)
        connection.execute(f"PRAGMA max_page_count = {room[0]}")
        return connection

    monkeypatch.setattr(file, "connected", tight)
    kept = set()
    async with opened(path, monotonic=ticks) as ledger:
        reason = ""
        while not reason:
            one = entry()
            try:
                await ledger.keep([one], None)
                kept.add(one.receipt.query_id)
            except LedgerUnavailableError as error:
                reason = error.reason
        room[0] = 1_000_000
        ticks.seconds += 1
        (last,) = await ledger.keep([entry()], None)
    assert (reason, len(kept) > 3) == ("disk_full", True)
    assert ids_of(path) == kept | {last.receipt.query_id}
    hold_to_its_word(path)


async def test_locked_for_too_long_is_told_and_over_when_it_is_over(
    path: Path, ticks: Ticks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process's lock is waited for only so long; afterwards the ledger goes on without a gap."""
    monkeypatch.setattr(file, "BUSY_SECONDS", 0.05)
    async with opened(path, monotonic=ticks) as ledger:
        await ledger.keep([entry()], None)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert await refused(ledger) == "locked"
            other.execute("ROLLBACK")
        ticks.seconds += 1
        (kept,) = await ledger.keep([entry()], None)
    assert kept.receipt.seq == 2
    hold_to_its_word(path)


async def test_anything_unforeseen_leaves_the_thread_alive(
    path: Path, ticks: Ticks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever goes wrong, those who wait hear of it, and the next try is made."""

    def odd(*_told: Any, **_named: Any) -> Any:
        raise MemoryError

    with monkeypatch.context() as broken:
        broken.setattr(file.LedgerFile, "seq_of", odd)
        async with opened(path, monotonic=ticks) as ledger:
            assert await refused(ledger) == "failed"
    async with opened(path, monotonic=ticks) as ledger:
        await ledger.keep([entry()], None)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (FileNotFoundError(2, "x"), "folder_missing"),
        (PermissionError(13, "x"), "cannot_open"),
        (OSError(28, "x"), "disk_full"),
        (OSError(30, "x"), "read_only"),
        (OSError(5, "x"), "io_error"),
        (OSError("x"), "io_error"),
        (sqlite3.ProgrammingError("x"), "failed"),
        (ValueError("x"), "failed"),
    ],
)
def test_each_fault_is_one_word(error: Exception, reason: str) -> None:
    """What the system says comes out as a word of ours, and nothing of its text."""
    assert reason_of(error) == reason


async def test_closing_on_a_broken_disk_is_told(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault while closing is one line, not an exception in somebody's shutdown."""
    async with opened(path) as ledger:
        await ledger.keep([entry()], None)
        with monkeypatch.context() as broken:
            broken.setattr(file.LedgerFile, "fold", failing(sqlite3.SQLITE_IOERR))
            await ledger.aclose()
    assert "the ledger was not closed in order" in caplog.text
    hold_to_its_word(path)
