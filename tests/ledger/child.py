"""A process of its own that writes to a ledger, and says on standard output what has been acknowledged."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

from ledger.keeping import entry, rows_of
from receipts.keys import signer
from vetted_mw.receipts.ledger.reading import LedgerUnreadableError
from vetted_mw.receipts.ledger.sqlite import SqliteLedger
from vetted_mw.receipts.sealed import LedgerUnavailableError

AT_ONCE = 8
NOBODY = 65534


def told(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def clock() -> datetime:
    return datetime.now(UTC)


async def one(ledger: SqliteLedger, key: object) -> None:
    made = entry()
    await ledger.keep([made], key)  # type: ignore[arg-type]
    told(made.receipt.query_id)


async def write(path: Path, durability: str, count: int) -> None:
    """Write `count` receipts, several at once; 0: for ever."""
    ledger = SqliteLedger(path, durability=durability, now=clock)  # type: ignore[arg-type]
    key = signer()
    entry()
    told("READY")
    sys.stdin.readline()
    await ledger.open()
    done = 0
    while not count or done < count:
        await asyncio.gather(*(one(ledger, key) for _ in range(AT_ONCE)))
        done += AT_ONCE
    await ledger.aclose()


async def fill(path: Path) -> None:
    """Write until the file may not grow any more, then with that limit gone once more."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    ticks = [0.0]
    ledger = SqliteLedger(path, now=clock, monotonic=lambda: ticks[0])
    await ledger.open()
    await ledger.is_ready()
    _soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
    reason = ""
    while not reason:
        try:
            await one(ledger, None)
        except LedgerUnavailableError as error:
            reason = error.reason
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    ticks[0] += 1
    await one(ledger, None)
    await ledger.aclose()
    told(f"REASON {reason}")


async def attempt(path: Path) -> None:
    """Try to write as nobody, and say why not."""
    entry()
    if os.geteuid() == 0:
        os.setuid(NOBODY)
    ledger = SqliteLedger(path, now=clock)
    await ledger.open()
    try:
        await one(ledger, None)
    except LedgerUnavailableError as error:
        told(f"REASON {error.reason}")
    await ledger.aclose()


def read(path: Path) -> None:
    """Read as nobody, and say how many rows there are or why not."""
    if os.geteuid() == 0:
        os.setuid(NOBODY)
    try:
        told(f"REASON {len(rows_of(path))}")
    except LedgerUnreadableError as error:
        told(f"REASON {error.reason}")


def leave(path: Path) -> None:
    """End without closing anything, while something is queued."""

    async def begin() -> SqliteLedger:
        ledger = SqliteLedger(path, now=clock)
        await ledger.open()
        ledger.keep_later([entry()], None)
        return ledger

    globals()["left"] = asyncio.run(begin())


if __name__ == "__main__":
    order, place, *rest = sys.argv[1:]
    if order == "write":
        asyncio.run(write(Path(place), rest[0], int(rest[1])))
    elif order == "fill":
        asyncio.run(fill(Path(place)))
    elif order == "attempt":
        asyncio.run(attempt(Path(place)))
    elif order == "read":
        read(Path(place))
    else:
        leave(Path(place))
