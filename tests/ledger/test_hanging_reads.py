"""A disk that hangs while a receipt is looked up."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from ledger.keeping import entry, opened
from vetted_mw.receipts.ledger import sqlite
from vetted_mw.receipts.sealed import LedgerUnavailableError, StoredReceipt

if TYPE_CHECKING:
    from pathlib import Path

_CHILD = """
import asyncio, sys, threading
from datetime import UTC, datetime
from pathlib import Path
from vetted_mw.receipts.ledger import sqlite
from vetted_mw.receipts.sealed import LedgerUnavailableError

sqlite.LIMIT_SECONDS = 0.1
sqlite._found = lambda *_: threading.Event().wait()

async def main():
    ledger = sqlite.SqliteLedger(Path(sys.argv[1]), now=lambda: datetime.now(UTC))
    await ledger.open()
    try:
        await ledger.find("any")
    except LedgerUnavailableError as error:
        print(error.reason)
    await ledger.aclose()

asyncio.run(main())
"""


def test_a_read_that_hangs_keeps_no_process_from_ending(path: Path) -> None:
    """Whoever asked hears of a timeout, and the process ends though its disk never answers."""
    ended = subprocess.run(
        [sys.executable, "-c", _CHILD, str(path)], capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout.split() == ["timeout"]
    assert ended.stderr == ""


@pytest.mark.anyio
async def test_a_read_that_hangs_holds_up_only_as_many_as_there_are_threads(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the disk answers again so does the ledger; what was given up meanwhile is not read any more."""
    over = threading.Event()
    asked: list[str] = []

    def hanging(_path: Path, query_id: str) -> StoredReceipt | None:
        asked.append(query_id)
        assert over.wait(60)
        return StoredReceipt(text=query_id, caller="")

    monkeypatch.setattr(sqlite, "LIMIT_SECONDS", 0.05)
    monkeypatch.setattr(sqlite, "_found", hanging)
    async with opened(path) as ledger:
        for name in ("a", "b", "c"):
            with pytest.raises(LedgerUnavailableError, match="timeout"):
                await ledger.find(name)
        over.set()
        monkeypatch.setattr(sqlite, "LIMIT_SECONDS", 60)
        assert await ledger.find("d") == StoredReceipt(text="d", caller="")
    assert asked == ["a", "b", "d"]


@pytest.mark.anyio
async def test_what_a_read_raises_reaches_whoever_asked(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread lives on, and the next read goes well."""

    def broken(*_told: object) -> None:
        raise OSError("gone")

    async with opened(path) as ledger:
        one = entry()
        await ledger.keep([one], None)
        with monkeypatch.context() as breaking:
            breaking.setattr(sqlite, "_found", broken)
            for _ in range(5):
                with pytest.raises(OSError, match="gone"):
                    await ledger.find("any")
        found = await ledger.find(one.receipt.query_id)
        assert found is not None
