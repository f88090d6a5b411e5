"""The last step before an answer ends: its receipt is signed, and kept in the ledger with what was abandoned."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import msgspec

from vetted_mw.errors import LedgerRefusedError
from vetted_mw.receipts.receipt import ReceiptError
from vetted_mw.receipts.sealed import Entry, LedgerUnavailableError, Sealed, seal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vetted_mw.core import Core, Receipted
    from vetted_mw.receipts.receipt import Receipt

__all__ = ["keep_later", "require_ledger", "sealed", "signed"]

_LOG = logging.getLogger("vetted_mw")

_PATIENCE_SECONDS = 15.0
"""For a ledger that never answers: longer than its contract allows, and still an answer for whoever waits."""


async def sealed(core: Core, made: Receipted, *, beside: Sequence[Receipt], caller: str) -> Receipted:
    """Sign a receipt and keep it, so that whoever holds it finds it in the ledger.

    Args:
        core: what the request saw of the gateway.
        made: the receipt of the answer, or why there is none.
        beside: receipts of what was spent on the same request without being its answer.
        caller: whose they are.

    Returns:
        The same with signature, `ledger_id` and `seq`; with `ledger` set where it could not be kept, and then without a
        receipt where the policy wants none that is not kept.
    """
    if core.ledger is None:
        return signed(core, made)
    receipt = made.receipt
    receipts = [*beside, *(() if receipt is None else (receipt,))]
    if not receipts:
        return made
    kept = await _kept(core, receipts, caller)
    if kept is not None:
        return _with(made, kept[-1]) if made.has_receipt else made
    if core.configuration.ledger.policy == "fail_closed":
        withheld = core.withheld(ReceiptError.LEDGER_UNAVAILABLE.value, level=logging.DEBUG)  # the ledger told it, once
        return msgspec.structs.replace(withheld, ledger="unavailable")
    return msgspec.structs.replace(signed(core, made), ledger="unavailable")


def keep_later(core: Core, receipts: Sequence[Receipt], *, caller: str) -> None:
    """Keep receipts that nobody waits for any more; what a ledger raises costs nobody an answer."""
    if core.ledger is None or not receipts:
        return
    try:
        core.ledger.keep_later([Entry(receipt=receipt, caller=caller) for receipt in receipts], core.signer)
    except Exception as error:  # noqa: BLE001 (a foreign ledger may raise anything; its text could hold anything)
        _LOG.error("the ledger failed", extra={"error": type(error).__name__})


async def require_ledger(core: Core) -> None:
    """Turn a request away before any upstream is called, where its receipt could not be kept and has to be.

    Raises:
        LedgerRefusedError: that is so.
    """
    if core.ledger is None or core.configuration.ledger.policy != "fail_closed":
        return
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            is_ready = await core.ledger.is_ready()
    except Exception as error:  # noqa: BLE001 (a foreign ledger may raise anything; its text could hold anything)
        _LOG.error("the ledger failed", extra={"error": type(error).__name__})
        is_ready = False
    if not is_ready:
        raise LedgerRefusedError.told()


async def _kept(core: Core, receipts: Sequence[Receipt], caller: str) -> Sequence[Sealed] | None:
    """Return the receipts as the ledger holds them; None when it holds none of them."""
    if core.ledger is None:
        return None
    entries = [Entry(receipt=receipt, caller=caller) for receipt in receipts]
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            kept = await core.ledger.keep(entries, core.signer)
        _require_sealed(kept, len(entries))
    except LedgerUnavailableError as error:
        _LOG.debug("a receipt was not kept", extra={"reason": error.reason})  # the ledger tells of its own state, once
        return None
    except Exception as error:  # noqa: BLE001 (a foreign ledger may raise anything; its text could hold anything)
        _LOG.error("the ledger failed", extra={"error": type(error).__name__})
        return None
    return kept


def _require_sealed(kept: Sequence[Sealed], count: int) -> None:
    """Refuse what is not one sealed receipt for each entry.

    Raises:
        TypeError: a foreign ledger broke its contract.
    """
    if len(kept) != count or not all(isinstance(one, Sealed) for one in kept):
        raise TypeError


def signed(core: Core, made: Receipted) -> Receipted:
    """Sign a receipt that no ledger holds; without a key it stays as it is."""
    receipt = None if core.signer is None else made.receipt
    if receipt is None:
        return made
    try:
        return _with(made, seal(receipt, core.signer))
    except Exception as error:  # noqa: BLE001 (a receipt that cannot be signed never costs the caller the completion)
        _LOG.error("a receipt cannot be signed", extra={"error": type(error).__name__})
        return core.withheld(ReceiptError.ENGINE_FAILED.value)


def _with(made: Receipted, final: Sealed) -> Receipted:
    return msgspec.structs.replace(made, final=final.receipt, signature=final.signature)
