"""Ledger files for tests: receipts with figures that add up, written as the gateway writes them."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from receipts.making import maker, observed
from vetted_mw.instants import parse_rfc3339, rfc3339
from vetted_mw.receipts.ledger.batch import prepared
from vetted_mw.receipts.ledger.file import LedgerFile
from vetted_mw.receipts.observation import Observation
from vetted_mw.receipts.sealed import Entry
from vetted_mw.routing.regions import load_catalogue

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from vetted_mw.receipts.jws import Signer
    from vetted_mw.receipts.receipt import Receipt
    from vetted_mw.receipts.sealed import Sealed

_OBSERVED = frozenset(Observation.__struct_fields__)
_AT = datetime(2026, 11, 22, 10, 31, 8, tzinfo=UTC)
_ROWS_AT_ONCE = 500


def made_receipt(**changes: Any) -> Receipt:
    """Make a receipt with an id of its own.

    What an `Observation` has (model, tokens, region as a code, instants as texts, ...) is changed there, so that the
    figures follow; anything else is put into the finished receipt as it is.
    """
    told = {name: value for name, value in changes.items() if name in _OBSERVED}
    for name in ("region", "default_region"):
        if isinstance(told.get(name), str):
            told[name] = load_catalogue()[told[name]]
    for name in ("issued_at", "requested_at"):
        if isinstance(told.get(name), str):
            told[name] = parse_rfc3339(told[name])
    receipt = maker().make(observed(**({"query_id": str(uuid.uuid4())} | told)))
    return msgspec.structs.replace(receipt, **{name: value for name, value in changes.items() if name not in told})


def write_ledger(
    path: Path,
    receipts: Sequence[Receipt],
    signer: Signer | None = None,
    ledger_id: str | None = None,
    *,
    caller: str = "",
) -> Sequence[Sealed]:
    """Write the receipts, in order, as one ledger; with the `ledger_id` of an earlier call as its continuation."""
    name = ledger_id or str(uuid.uuid4())
    kept: list[Sealed] = []
    file = LedgerFile(path, durability="normal")
    try:
        seq = file.seq_of(name)
        for start in range(0, len(receipts), _ROWS_AT_ONCE):
            entries = [Entry(receipt=receipt, caller=caller) for receipt in receipts[start : start + _ROWS_AT_ONCE]]
            made = prepared(entries, signer, ledger_id=name, after=seq)
            file.append(made.rows, made.head(at=rfc3339(_AT, milliseconds=True), not_kept=0, signer=signer))
            seq += len(entries)
            kept.extend(made.sealed)
    finally:
        file.close()
    return kept
