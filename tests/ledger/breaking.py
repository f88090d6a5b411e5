"""What breaks a ledger in tests, and what is asked of a broken one."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from ledger.keeping import entry, ids_of, opened
from vetted_mw.receipts.ledger.schema import APPLICATION_ID
from vetted_mw.receipts.sealed import LedgerUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from vetted_mw.receipts.ledger.sqlite import SqliteLedger


class Ticks:
    """A clock that goes when told."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


async def refused(ledger: SqliteLedger) -> str:
    """Return the reason why nothing can be kept."""
    with pytest.raises(LedgerUnavailableError) as caught:
        await ledger.keep([entry()], None)
    return caught.value.reason


def changes(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Return what the log says about the ledger as such."""
    lines = [record for record in caplog.records if record.getMessage().startswith("the ledger is")]
    return [(record.getMessage(), vars(record).get("reason") or vars(record)["was"]) for record in lines]


def failing(code: int) -> Callable[..., None]:
    """Return what raises as SQLite does."""

    def fail(*_told: Any, **_named: Any) -> None:
        error = sqlite3.OperationalError("a text with somebody's data")
        error.sqlite_errorcode = code
        raise error

    return fail


def filled(path: Path, rows: int = 50) -> set[str]:
    async def fill() -> None:
        async with opened(path) as ledger:
            await ledger.keep([entry() for _ in range(rows)], None)

    asyncio.run(fill())
    return ids_of(path)


def made_foreign(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE receipts (id)")


def made_newer(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE receipts (id)")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 2")
