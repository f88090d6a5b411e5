"""Files that break, fill up, vanish or were never ledgers: told in one word, nothing lost that was acknowledged."""

from __future__ import annotations

import asyncio
import logging
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ledger.keeping import entry, hold_to_its_word, ids_of, opened, rows_of
from vetted_mw.receipts.ledger import checkpointer, file
from vetted_mw.receipts.ledger.checkpointer import Checkpointer
from vetted_mw.receipts.ledger.faults import reason_of
from vetted_mw.receipts.ledger.schema import APPLICATION_ID
from vetted_mw.receipts.sealed import LedgerUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from vetted_mw.receipts.ledger.sqlite import SqliteLedger

pytestmark = pytest.mark.anyio


class Ticks:
    """A clock that goes when told."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def ticks() -> Ticks:
    return Ticks()


async def refused(ledger: SqliteLedger) -> str:
    """Return the reason why nothing can be kept."""
    with pytest.raises(LedgerUnavailableError) as caught:
        await ledger.keep([entry()], None)
    return caught.value.reason


def changes(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Return what the log says about the ledger as such."""
    lines = [record for record in caplog.records if record.getMessage().startswith("the ledger is")]
    return [(record.getMessage(), vars(record)["reason"]) for record in lines]


def failing(code: int) -> Callable[..., None]:
    """Return what raises as SQLite does."""

    def fail(*_told: Any, **_named: Any) -> None:
        error = sqlite3.OperationalError("a text with somebody's data")
        error.sqlite_errorcode = code
        raise error

    return fail


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


async def test_a_missing_folder_is_said_and_waited_for(tmp_path: Path, ticks: Ticks) -> None:
    """The folder is never made; once the operator has, the ledger works."""
    path = tmp_path / "missing" / "ledger.db"
    async with opened(path, monotonic=ticks) as ledger:
        assert not await ledger.is_ready()
        assert await refused(ledger) == "folder_missing"
        assert not path.parent.exists()
        path.parent.mkdir()
        ticks.seconds += 1
        await ledger.keep([entry()], None)
    hold_to_its_word(path)


def _text(path: Path) -> None:
    path.write_bytes(b"no database at all, whatever its name says\n" * 100)


def _short_text(path: Path) -> None:
    path.write_bytes(b"xy")


def _foreign(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE receipts (id)")


def _foreign_with_log(path: Path) -> None:
    other = path.with_name("other.db")
    with closing(sqlite3.connect(other, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE receipts (id)")
        shutil.copy(other, path)
        shutil.copy(f"{other}-wal", f"{path}-wal")


def _newer(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE receipts (id)")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 2")


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (_text, "not_a_ledger"),
        (_short_text, "not_a_ledger"),
        (_foreign, "not_a_ledger"),
        (_foreign_with_log, "not_a_ledger"),
        (_newer, "newer_version"),
    ],
)
async def test_what_is_no_ledger_is_refused_and_not_touched(
    path: Path, made: Callable[[Path], None], reason: str
) -> None:
    """A file of somebody else, or of a newer version, is left as it is, byte for byte."""
    made(path)
    log = Path(f"{path}-wal")
    before = path.read_bytes(), log.read_bytes() if log.exists() else b""
    async with opened(path) as ledger:
        assert await refused(ledger) == reason
        assert not await ledger.is_ready()
    assert (path.read_bytes(), log.read_bytes() if log.exists() else b"") == before


async def test_a_folder_at_the_path_is_refused(path: Path) -> None:
    """A path that is a folder is no ledger."""
    path.mkdir()
    async with opened(path) as ledger:
        assert await refused(ledger) == "not_a_ledger"


async def test_an_empty_file_becomes_a_ledger(path: Path) -> None:
    """An empty file, as `touch` makes it, is filled."""
    path.touch()
    async with opened(path) as ledger:
        await ledger.keep([entry()], None)
    hold_to_its_word(path)


async def test_a_ledger_without_its_tables_is_refused(path: Path) -> None:
    """A file that claims to be a ledger and lacks the tables is none."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 1")
    async with opened(path) as ledger:
        assert await refused(ledger) == "not_a_ledger"


@pytest.mark.parametrize("replaced", [False, True])
async def test_a_file_removed_while_open_is_noticed(
    path: Path, ticks: Ticks, replaced: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Within a second of being removed or replaced the file is missed; a new one begins, under a new name."""
    async with opened(path, monotonic=ticks) as ledger:
        (first,) = await ledger.keep([entry()], None)
        path.unlink()
        if replaced:
            path.touch()
        ticks.seconds += 1
        assert await refused(ledger) == "removed"
        ticks.seconds += 1
        (second,) = await ledger.keep([entry()], None)
    assert second.receipt.seq == 1
    assert second.receipt.ledger_id != first.receipt.ledger_id
    assert ("the ledger is unavailable", "removed") in changes(caplog)
    assert ids_of(path) == {second.receipt.query_id}
    hold_to_its_word(path)


async def test_a_file_removed_before_closing_is_left_alone(path: Path) -> None:
    """Closing after the file was replaced takes nothing away from the one that is there now."""
    async with opened(path) as ledger:
        await ledger.keep([entry()], None)
        path.unlink()
        Path(f"{path}-wal").write_bytes(b"the log of another process")
    assert Path(f"{path}-wal").read_bytes() == b"the log of another process"


async def test_an_older_file_put_back_is_not_numbered_on(path: Path, ticks: Ticks, monkeypatch: Any) -> None:
    """When the file holds less than was acknowledged, nothing is added under the same name: the gap would be hidden."""
    async with opened(path, monotonic=ticks) as ledger:
        (first,) = await ledger.keep([entry()], None)
        with monkeypatch.context() as broken:
            broken.setattr(file.LedgerFile, "append", failing(sqlite3.SQLITE_IOERR))
            await refused(ledger)
        for suffix in ("", "-wal", "-shm"):
            Path(f"{path}{suffix}").unlink(missing_ok=True)
        ticks.seconds += 1
        (second,) = await ledger.keep([entry()], None)
    assert (first.receipt.seq, second.receipt.seq) == (1, 1)
    assert first.receipt.ledger_id != second.receipt.ledger_id


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


async def test_rows_written_under_our_name_end_the_name(path: Path, ticks: Ticks) -> None:
    """When somebody else has taken our next number, we go on under a new name."""
    async with opened(path, monotonic=ticks) as ledger:
        (first,) = await ledger.keep([entry()], None)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute(
                "INSERT INTO receipts VALUES (?, 2, 'x', NULL, 'x', '', 'm', 'r', 'x')", (first.receipt.ledger_id,)
            )
        assert await refused(ledger) == "conflict"
        ticks.seconds += 1
        (second,) = await ledger.keep([entry()], None)
    assert second.receipt.ledger_id != first.receipt.ledger_id


def _filled(path: Path, rows: int = 50) -> set[str]:
    async def fill() -> None:
        async with opened(path) as ledger:
            await ledger.keep([entry() for _ in range(rows)], None)

    asyncio.run(fill())
    return ids_of(path)


@pytest.mark.parametrize(("at", "reasons"), [(0, {"not_a_ledger"}), (100, {"corrupt", "not_a_ledger"})])
def test_a_broken_header_is_told(path: Path, at: int, reasons: set[str]) -> None:
    """Bytes flipped in the header make the ledger unavailable, not the process."""
    _filled(path)
    written = bytearray(path.read_bytes())
    written[at : at + 16] = bytes(byte ^ 0xFF for byte in written[at : at + 16])
    path.write_bytes(written)

    async def attempt() -> str:
        async with opened(path) as ledger:
            return await refused(ledger)

    assert asyncio.run(attempt()) in reasons


def test_broken_pages_are_told(path: Path) -> None:
    """Garbage in every page but the first two makes the ledger unavailable as `corrupt`."""
    _filled(path)
    written = bytearray(path.read_bytes())
    for page in range(2 * 4096, len(written), 4096):
        written[page : page + 64] = b"\xa5" * 64
    path.write_bytes(written)

    async def attempt() -> str:
        async with opened(path) as ledger:
            return await refused(ledger)

    assert asyncio.run(attempt()) == "corrupt"


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


async def test_a_file_that_cannot_be_made_a_log_for_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another connection holds the file in another mode, turning to the log is retried, then told as `locked`."""
    monkeypatch.setattr(file, "BUSY_SECONDS", 0.05)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        async with opened(path) as ledger:
            assert await refused(ledger) == "locked"


async def test_a_file_system_without_shared_memory_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where SQLite cannot turn to a write-ahead log, the reason is its own word."""

    class Deaf:
        def execute(self, _sql: str) -> Deaf:
            return self

        def fetchone(self) -> tuple[str]:
            return ("delete",)

    with pytest.raises(LedgerUnavailableError, match="no_wal"):
        file._use_log(Deaf())  # type: ignore[arg-type]


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


def _log_size(path: Path) -> int:
    return Path(f"{path}-wal").stat().st_size


async def test_an_idle_log_is_moved_into_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some time after the last commit everything is in the file itself, and the log is small again."""
    monkeypatch.setattr(checkpointer, "_LOOK_SECONDS", 0.02)
    async with opened(path) as ledger:
        await ledger.keep([entry() for _ in range(50)], None)
        while _log_size(path) > 10_000:  # noqa: ASYNC110 (another thread's work)
            await asyncio.sleep(0.01)
        copy = path.with_name("copy.db")
        shutil.copy(path, copy)
        assert len(ids_of(copy)) == 50


async def test_a_log_under_load_is_begun_anew(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between commits the log is moved once it is large, so that it does not grow with what is written."""
    monkeypatch.setattr(checkpointer, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(checkpointer, "_LATER_SECONDS", 0.01)
    monkeypatch.setattr(checkpointer, "_LARGE", 500_000)
    largest = written = 0
    async with opened(path) as ledger:
        for _ in range(60):
            await ledger.keep([entry() for _ in range(10)], None)
            await asyncio.sleep(0.005)
            largest = max(largest, _log_size(path))
    hold_to_its_word(path)
    written = path.stat().st_size
    assert len(rows_of(path)) == 600
    assert largest < 4 * written


def test_a_log_that_grew_too_large_makes_writers_wait(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a reader no longer stands in the way, a log that is too large is emptied; until then nothing is lost."""
    kept = _filled(path, rows=3)
    monkeypatch.setattr(checkpointer, "_TOO_LARGE", 1)
    with closing(file.connected(path, durability="normal")) as connection, closing(sqlite3.connect(path)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM receipts").fetchone()
        file.touch(connection)
        monkeypatch.setattr(file, "BUSY_SECONDS", 0.05)
        watcher = Checkpointer(path, durability="normal")
        assert not watcher._move(is_idle=False, size=2)
        assert watcher._dirty.is_set()
        reader.execute("COMMIT")
        assert watcher._move(is_idle=True, size=2)
        assert not watcher._dirty.is_set()
        assert ids_of(path) == kept


def test_a_checkpoint_that_fails_is_tried_again(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault at a checkpoint costs no receipt: it is told at DEBUG and tried again."""
    caplog.set_level(logging.DEBUG, logger="vetted_mw")
    _filled(path, rows=1)
    monkeypatch.setattr(checkpointer, "touch", failing(sqlite3.SQLITE_IOERR))
    watcher = Checkpointer(path, durability="normal")
    assert not watcher._move(is_idle=True, size=0)
    assert "the ledger's log was not moved" in caplog.text
    assert "somebody's data" not in caplog.text


def test_a_checkpoint_of_a_file_that_is_gone_is_the_writers_business(tmp_path: Path) -> None:
    """Where the file cannot be opened, the checkpointer leaves telling to the writer."""
    assert Checkpointer(tmp_path / "missing" / "ledger.db", durability="normal")._move(is_idle=True, size=0)


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


def test_a_log_that_is_gone_is_an_idle_one(tmp_path: Path) -> None:
    """Where there is no log, there is nothing that grows."""
    assert Checkpointer(tmp_path / "ledger.db", durability="normal")._log() == (0, 0)


def test_a_log_that_a_reader_holds_is_left_for_later(path: Path) -> None:
    """An idle log that a reader still needs is not waited for: it is tried again."""
    kept = _filled(path, rows=3)
    with closing(file.connected(path, durability="normal")) as writer, closing(sqlite3.connect(path)) as reader:
        file.touch(writer)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM receipts").fetchone()
        watcher = Checkpointer(path, durability="normal")
        assert not watcher._move(is_idle=True, size=0)
        reader.execute("COMMIT")
        assert watcher._move(is_idle=True, size=0)
    assert ids_of(path) == kept


def test_a_crash_while_the_file_was_made_is_undone(path: Path, tmp_path: Path) -> None:
    """A file whose making was cut off, its journal still beside it, is rolled back and made again."""
    half = tmp_path / "half.db"
    with closing(sqlite3.connect(half, isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("CREATE TABLE half (text)")
        connection.executemany("INSERT INTO half VALUES (?)", [("x" * 4000,)] * 50)
        shutil.copy(half, path)
        shutil.copy(f"{half}-journal", f"{path}-journal")
        connection.execute("ROLLBACK")

    async def fill() -> None:
        async with opened(path) as ledger:
            await ledger.keep([entry()], None)

    asyncio.run(fill())
    assert len(rows_of(path)) == 1
    hold_to_its_word(path)


def test_a_connection_that_cannot_be_prepared_is_closed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault right after connecting leaves no open file behind."""
    _filled(path, rows=1)
    closed = []

    class Broken(sqlite3.Connection):
        def execute(self, *_told: Any) -> sqlite3.Cursor:
            failing(sqlite3.SQLITE_IOERR)()
            raise AssertionError

        def close(self) -> None:
            closed.append(True)
            super().close()

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *told, **named: connect(*told, factory=Broken, **named))
    with pytest.raises(sqlite3.OperationalError):
        file.connected(path, durability="normal")
    assert closed == [True]
