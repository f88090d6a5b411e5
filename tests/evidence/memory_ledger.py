"""A ledger in memory that does as it is told: it keeps, refuses, waits, or breaks its contract."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from vetted_mw.receipts.sealed import Entry, LedgerUnavailableError, Sealed, StoredReceipt, seal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vetted_mw.receipts.jws import Signer
    from vetted_mw.receipts.receipt import Receipt


class MemoryLedger:
    """A `ReceiptSink`.

    Attributes:
        rows: what it keeps, in order.
        batches: how many receipts each `keep` brought.
        refuses: whether it is unavailable.
        breaks: raised instead of what its contract says.
        opened: how often it was opened; closed: how often it was closed.
        gate: `keep` waits for it when it is there.
    """

    def __init__(self) -> None:
        self.rows: list[Sealed] = []
        self.callers: list[str] = []
        self.batches: list[int] = []
        self.refuses = False
        self.breaks: Exception | None = None
        self.opened = self.closed = self.asked = 0
        self.gate: asyncio.Event | None = None
        self.waiting = asyncio.Event()

    @property
    def receipts(self) -> list[Receipt]:
        """The receipts it keeps."""
        return [row.receipt for row in self.rows]

    async def open(self) -> None:
        self.opened += 1

    async def keep(self, entries: Sequence[Entry], signer: Signer | None) -> Sequence[Sealed]:
        self.waiting.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.breaks is not None:
            raise self.breaks
        if self.refuses:
            raise LedgerUnavailableError("disk_full")
        return self._kept(entries, signer)

    def keep_later(self, entries: Sequence[Entry], signer: Signer | None) -> None:
        if not self.refuses:
            self._kept(entries, signer)

    async def is_ready(self) -> bool:
        self.asked += 1
        if self.breaks is not None:
            raise self.breaks
        return not self.refuses

    async def find(self, query_id: str) -> StoredReceipt | None:
        for row, caller in zip(self.rows, self.callers, strict=True):
            if row.receipt.query_id == query_id:
                return StoredReceipt(text=row.text, caller=caller)
        return None

    async def aclose(self) -> None:
        self.closed += 1

    def _kept(self, entries: Sequence[Entry], signer: Signer | None) -> list[Sealed]:
        first = len(self.rows) + 1
        kept = [
            seal(msgspec.structs.replace(entry.receipt, ledger_id="memory", seq=seq), signer)
            for seq, entry in enumerate(entries, first)
        ]
        self.rows += kept
        self.callers += [entry.caller for entry in entries]
        self.batches.append(len(kept))
        return kept
