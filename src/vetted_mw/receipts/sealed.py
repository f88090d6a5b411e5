"""A receipt that is final: signed where there is a key, and kept where there is a ledger. Values and the Protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from vetted_mw.receipts.canonical import canonical_members
from vetted_mw.receipts.jws import compact, detached

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vetted_mw.receipts.jws import Signer
    from vetted_mw.receipts.receipt import Receipt

__all__ = ["Entry", "LedgerUnavailableError", "ReceiptSink", "Sealed", "StoredReceipt", "seal"]


class LedgerUnavailableError(Exception):
    """The ledger could not be written or read. Content-free: `reason` is a word for the log."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A receipt on its way into the ledger.

    Attributes:
        receipt: without `ledger_id` and `seq`; the ledger gives them.
        caller: name of whom it belongs to; empty where nobody asks.
    """

    receipt: Receipt
    caller: str


class Sealed(msgspec.Struct, frozen=True, kw_only=True):
    """A receipt as it will stand for good.

    Attributes:
        receipt: with `ledger_id` and `seq` when a ledger holds it.
        text: the full JWS; without a key the receipt's canonical JSON.
        signature: the detached JWS; None without a key.
    """

    receipt: Receipt
    text: str
    signature: str | None


class StoredReceipt(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a ledger.

    Attributes:
        text: the full JWS, or without a key the receipt's canonical JSON.
        caller: whose it is; empty where nobody asked.
    """

    text: str
    caller: str


class ReceiptSink(Protocol):
    """Keeps receipts for auditors. The shipped ledger is one; a server database can be another.

    The gateway owns it: `open` before the first request, `aclose` after the last; both may be called again after each
    other. Everything is called from the event loop and may not block it. Nothing may raise but what is said here.
    """

    async def open(self) -> None:
        """Get ready. Does not fail because the store cannot be reached: `keep` and `is_ready` tell."""
        ...

    async def keep(self, entries: Sequence[Entry], signer: Signer | None) -> Sequence[Sealed]:
        """Give each entry its `ledger_id` and `seq`, sign it, and return when all of them are committed together.

        An answer waits for it: within ten seconds it says how it went. Cancelled, it keeps them all the same, since the
        caller has left and the energy is spent.

        Returns:
            One for each entry, in their order.

        Raises:
            LedgerUnavailableError: none of them is kept, and no `seq` was used up.
        """
        ...

    def keep_later(self, entries: Sequence[Entry], signer: Signer | None) -> None:
        """Do the same without anyone waiting: whoever it was for has left. What fails is logged."""
        ...

    async def is_ready(self) -> bool:
        """Whether a receipt could be kept now; asked before each request where the policy is `fail_closed`."""
        ...

    async def find(self, query_id: str) -> StoredReceipt | None:
        """Return the receipt of this id; None when there is none.

        Raises:
            LedgerUnavailableError: it cannot be looked up.
        """
        ...

    async def aclose(self) -> None:
        """Write what is still on its way, and close."""
        ...


def seal(receipt: Receipt, signer: Signer | None) -> Sealed:
    """Write the receipt in its canonical form and sign it, where there is a key."""
    payload = canonical_members(msgspec.to_builtins(receipt))
    if signer is None:
        return Sealed(receipt=receipt, text=payload.decode(), signature=None)
    text = compact(payload, signer)
    return Sealed(receipt=receipt, text=text, signature=detached(text))
