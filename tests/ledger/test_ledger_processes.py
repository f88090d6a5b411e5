"""Several processes on one file, and processes killed at any instant."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ledger.keeping import hold_to_its_word, ids_of, rows_of
from receipts.ledgers import made_receipt, write_ledger

if TYPE_CHECKING:
    from collections.abc import Iterator

TESTS = Path(__file__).parents[1]
CHILD = Path(__file__).with_name("child.py")


class Child:
    """A writing process, and what it has acknowledged so far."""

    def __init__(self, order: str, path: Path, *rest: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(CHILD), order, str(path), *rest],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(TESTS)},
        )
        self.lines: list[str] = []
        self.ready = threading.Event()
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith(b"\n"):  # what was cut by a kill was not said
                self.lines.append(line.decode().strip())
            self.ready.set()
        self.ready.set()

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"go\n")
        self.process.stdin.flush()

    def end(self, *, kill: bool = False) -> int:
        if kill:
            self.process.kill()
        code = self.process.wait()
        self._reading.join()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        return code

    @property
    def acknowledged(self) -> set[str]:
        return {line for line in self.lines if line.count("-") == 4}

    @property
    def reason(self) -> str:
        return next(line.removeprefix("REASON ") for line in self.lines if line.startswith("REASON "))


@contextmanager
def children(count: int, path: Path, durability: str, rows: int) -> Iterator[list[Child]]:
    """Start processes and let them begin at the same instant; none survives."""
    made = [Child("write", path, durability, str(rows)) for _ in range(count)]
    try:
        for child in made:
            child.ready.wait()
        for child in made:
            child.go()
        yield made
    finally:
        for child in made:
            if child.process.poll() is None:
                child.end(kill=True)


def test_two_processes_make_and_fill_one_file(path: Path) -> None:
    """Two processes that begin at once on a file that does not exist keep 2,000 receipts each, numbered apart."""
    with children(2, path, "normal", 2000) as writers:
        assert [child.end() for child in writers] == [0, 0]
    assert sorted(one.name for one in path.parent.iterdir()) == ["ledger.db"]
    rows = rows_of(path)
    assert len(rows) == 4000
    assert len({row.ledger_id for row in rows}) == 2
    assert {row.query_id for row in rows} == set().union(*(child.acknowledged for child in writers))
    hold_to_its_word(path)


def test_four_processes_may_make_one_file(path: Path) -> None:
    """However many begin at the same instant on a file that does not exist, each of them gets to write."""
    with children(4, path, "normal", 8) as writers:
        assert [child.end() for child in writers] == [0, 0, 0, 0]
    assert len(rows_of(path)) == 32
    hold_to_its_word(path)


@pytest.mark.parametrize("durability", ["normal", "full"])
def test_nothing_acknowledged_is_lost_by_a_kill(path: Path, durability: str) -> None:
    """Two writers killed at random instants, again and again on one file: every acknowledged row is there, no gap."""
    chance = random.Random(5)  # noqa: S311 (instants, not secrets)
    acknowledged: set[str] = set()
    for _ in range(3):
        with children(2, path, durability, 0) as writers:
            time.sleep(chance.uniform(0.02, 0.6))
            for child in writers:
                child.end(kill=True)
        for child in writers:
            acknowledged |= child.acknowledged
        if path.exists() and path.stat().st_size:
            assert acknowledged <= ids_of(path)
            hold_to_its_word(path)
    assert acknowledged


@pytest.mark.skipif(sys.platform != "linux", reason="limits of a process")
def test_a_file_that_may_not_grow_loses_nothing_acknowledged(path: Path) -> None:
    """A write the system refuses half-way is a fault of its own call; everything before and after it is kept."""
    child = Child("fill", path)
    assert child.end() == 0
    assert child.reason in {"disk_full", "io_error"}
    assert len(child.acknowledged) > 2
    assert ids_of(path) == child.acknowledged
    hold_to_its_word(path)


@contextmanager
def unwritable(path: Path) -> Iterator[None]:
    """Let everyone read the folder and the file, and nobody write them."""
    for folder in path.parents[1:5]:  # pytest's own folders, one more of them where it runs in several processes
        folder.chmod(0o755)
        if folder.name.startswith("pytest-of-"):
            break
    if path.exists():
        path.chmod(0o444)
    path.parent.chmod(0o555)
    try:
        yield
    finally:
        path.parent.chmod(0o755)


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")
@pytest.mark.parametrize("exists", [False, True])
def test_what_may_not_be_written_is_told(path: Path, exists: bool) -> None:
    """A file or a folder without leave to write makes the ledger unavailable, with a reason that says so."""
    if exists:
        write_ledger(path, [made_receipt()])
    with unwritable(path):
        child = Child("attempt", path)
        assert child.end() == 0
    assert child.reason in {"read_only", "cannot_open"}


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")
@pytest.mark.parametrize(("log", "reason"), [(None, "1"), (b"", "1"), (b"\0" * 4096, "cannot_open")])
def test_a_folder_that_cannot_be_written_is_read(path: Path, log: bytes | None, reason: str) -> None:
    """A ledger on a read-only place is read as it is; with a log beside it that SQLite cannot index, that is said."""
    write_ledger(path, [made_receipt()])
    if log is not None:
        Path(f"{path}-wal").write_bytes(log)
    with unwritable(path):
        child = Child("read", path)
        assert child.end() == 0
    assert child.reason == reason


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")
def test_a_folder_that_may_not_be_looked_into_is_said(path: Path) -> None:
    """A ledger behind a closed folder is unreadable with a reason, and no traceback."""
    write_ledger(path, [made_receipt()])
    with unwritable(path):
        path.parent.chmod(0o700)
        path.parent.parent.chmod(0o700)
        child = Child("read", path)
        assert child.end() == 0
    assert child.reason == "cannot_open"


def test_a_process_that_ends_without_closing_writes_what_is_queued(path: Path) -> None:
    """A process that just ends, its ledger still open, waits for what is on its way."""
    child = Child("leave", path)
    assert child.end() == 0
    assert len(rows_of(path)) == 1
    hold_to_its_word(path)
