"""A batch that has to be taken apart: each hears what became of its own receipts."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from typing import TYPE_CHECKING

import pytest

from ledger.breaking import failing
from ledger.keeping import entry, ids_of, opened
from receipts.keys import signer
from vetted_mw.receipts.ledger import file
from vetted_mw.receipts.sealed import LedgerUnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from vetted_mw.receipts.ledger.batch import NewRow

pytestmark = pytest.mark.anyio


class Waiting:
    """A signer that signs once it may, so that others queue up behind it."""

    def __init__(self) -> None:
        self.may = threading.Event()
        self._signer = signer()

    @property
    def kid(self) -> str:
        return self._signer.kid

    @property
    def alg(self) -> str:
        return self._signer.alg

    @property
    def jwk(self) -> Mapping[str, str]:
        return self._signer.jwk

    def sign(self, data: bytes) -> bytes:
        assert self.may.wait(60)
        return self._signer.sign(data)


async def test_what_was_committed_before_a_fault_is_told_as_kept(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of a batch is in the file already and the disk fails at the last: the first is kept, and its caller told so."""
    first, again, last = entry(), entry(), entry()
    append = file.LedgerFile.append

    def failing_at_last(ledger: file.LedgerFile, rows: Sequence[NewRow], head: str) -> None:
        if [row.query_id for row in rows] == [last.receipt.query_id]:
            failing(sqlite3.SQLITE_FULL)()
        append(ledger, rows, head)

    waiting = Waiting()
    async with opened(path) as ledger:
        await ledger.keep([again], None)
        monkeypatch.setattr(file.LedgerFile, "append", failing_at_last)
        before = asyncio.ensure_future(ledger.keep([entry()], waiting))
        await asyncio.sleep(0.05)
        batch = [asyncio.ensure_future(ledger.keep([one], None)) for one in (first, again, last)]
        await asyncio.sleep(0.05)
        waiting.may.set()
        told = await asyncio.gather(before, *batch, return_exceptions=True)
    reasons = [one.reason if isinstance(one, LedgerUnavailableError) else "kept" for one in told]
    assert reasons == ["kept", "kept", "duplicate", "disk_full"]
    assert first.receipt.query_id in ids_of(path)
    assert last.receipt.query_id not in ids_of(path)
