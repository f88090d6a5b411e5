"""Files that are broken, vanish or were never ledgers: refused in one word, and not touched."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ledger.breaking import Ticks, changes, failing, filled, made_foreign, made_newer, refused
from ledger.keeping import entry, hold_to_its_word, ids_of, opened, rows_of
from vetted_mw.receipts.ledger import file
from vetted_mw.receipts.ledger.schema import APPLICATION_ID
from vetted_mw.receipts.sealed import LedgerUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable


pytestmark = pytest.mark.anyio


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


def _foreign_with_log(path: Path) -> None:
    other = path.with_name("other.db")
    with closing(sqlite3.connect(other, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE receipts (id)")
        shutil.copy(other, path)
        shutil.copy(f"{other}-wal", f"{path}-wal")


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (_text, "not_a_ledger"),
        (_short_text, "not_a_ledger"),
        (made_foreign, "not_a_ledger"),
        (_foreign_with_log, "not_a_ledger"),
        (made_newer, "newer_version"),
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
        for suffix in ("", "-wal", "-shm"):
            Path(f"{path}{suffix}").unlink()
        Path(f"{path}-wal").write_bytes(b"the log of another process")
    assert Path(f"{path}-wal").read_bytes() == b"the log of another process"


async def test_a_file_renamed_while_open_keeps_what_was_acknowledged(path: Path, ticks: Ticks) -> None:
    """Under its new name the file has every acknowledged row, also those that were in the log; the new one begins anew."""
    renamed = path.with_name("renamed.db")
    async with opened(path, monotonic=ticks) as ledger:
        kept = await ledger.keep([entry() for _ in range(20)], None)
        path.rename(renamed)
        ticks.seconds += 1
        assert await refused(ledger) == "removed"
        ticks.seconds += 1
        await ledger.keep([entry()], None)
    assert ids_of(renamed) == {one.receipt.query_id for one in kept}
    assert len(ids_of(path)) == 1
    hold_to_its_word(renamed)
    hold_to_its_word(path)


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


@pytest.mark.parametrize(("at", "reasons"), [(0, {"not_a_ledger"}), (100, {"corrupt", "not_a_ledger"})])
def test_a_broken_header_is_told(path: Path, at: int, reasons: set[str]) -> None:
    """Bytes flipped in the header make the ledger unavailable, not the process."""
    filled(path)
    written = bytearray(path.read_bytes())
    written[at : at + 16] = bytes(byte ^ 0xFF for byte in written[at : at + 16])
    path.write_bytes(written)

    async def attempt() -> str:
        async with opened(path) as ledger:
            return await refused(ledger)

    assert asyncio.run(attempt()) in reasons


def test_broken_pages_are_told(path: Path) -> None:
    """Garbage in every page but the first two makes the ledger unavailable as `corrupt`."""
    filled(path)
    written = bytearray(path.read_bytes())
    for page in range(2 * 4096, len(written), 4096):
        written[page : page + 64] = b"\xa5" * 64
    path.write_bytes(written)

    async def attempt() -> str:
        async with opened(path) as ledger:
            return await refused(ledger)

    assert asyncio.run(attempt()) == "corrupt"


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
    filled(path, rows=1)
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
