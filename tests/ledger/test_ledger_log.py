"""The write-ahead log: moved into the file in nobody's way."""

from __future__ import annotations

import asyncio
import logging
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ledger.breaking import failing, filled, made_foreign, made_newer
from ledger.keeping import entry, hold_to_its_word, ids_of, opened, rows_of
from vetted_mw.receipts.ledger import checkpointer, file
from vetted_mw.receipts.ledger.checkpointer import Checkpointer

if TYPE_CHECKING:
    from collections.abc import Callable


pytestmark = pytest.mark.anyio


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
    assert largest < 1.5 * written  # a log that is never moved comes to more than twice the file


def test_a_log_that_grew_too_large_makes_writers_wait(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a reader no longer stands in the way, a log that is too large is emptied; until then nothing is lost."""
    kept = filled(path, rows=3)
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
    filled(path, rows=1)
    monkeypatch.setattr(checkpointer, "touch", failing(sqlite3.SQLITE_IOERR))
    watcher = Checkpointer(path, durability="normal")
    assert not watcher._move(is_idle=True, size=0)
    assert "the ledger's log was not moved" in caplog.text
    assert "somebody's data" not in caplog.text


def test_a_checkpoint_of_a_file_that_is_gone_is_the_writers_business(tmp_path: Path) -> None:
    """Where the file cannot be opened, the checkpointer leaves telling to the writer."""
    assert Checkpointer(tmp_path / "missing" / "ledger.db", durability="normal")._move(is_idle=True, size=0)


def test_a_log_that_is_gone_is_an_idle_one(tmp_path: Path) -> None:
    """Where there is no log, there is nothing that grows."""
    assert Checkpointer(tmp_path / "ledger.db", durability="normal")._log() == (0, 0)


def test_a_log_that_a_reader_holds_is_left_for_later(path: Path) -> None:
    """An idle log that a reader still needs is not waited for: it is tried again."""
    kept = filled(path, rows=3)
    with closing(file.connected(path, durability="normal")) as writer, closing(sqlite3.connect(path)) as reader:
        file.touch(writer)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM receipts").fetchone()
        watcher = Checkpointer(path, durability="normal")
        assert not watcher._move(is_idle=True, size=0)
        reader.execute("COMMIT")
        assert watcher._move(is_idle=True, size=0)
    assert ids_of(path) == kept


@pytest.mark.parametrize("made", [Path.touch, made_foreign, made_newer])
def test_a_checkpoint_never_touches_what_is_no_ledger(path: Path, made: Callable[[Path], None]) -> None:
    """When another file has been put at the path, the thread that looks after the log leaves it as it is."""
    made(path)
    before = path.read_bytes()
    assert Checkpointer(path, durability="normal")._move(is_idle=True, size=2**40)
    assert path.read_bytes() == before
