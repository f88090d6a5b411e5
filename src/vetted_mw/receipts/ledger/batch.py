"""Receipts made ready for one commit: numbered, sealed, with the head that goes with them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from vetted_mw.receipts.ledger.head import head_text
from vetted_mw.receipts.sealed import seal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vetted_mw.receipts.jws import Signer
    from vetted_mw.receipts.sealed import Entry, Sealed

__all__ = ["NewRow", "Prepared", "prepared"]


class NewRow(NamedTuple):
    """A row in the order of the table's columns.

    Attributes:
        ledger_id: of the writer.
        seq: its number.
        query_id: its id.
        request_id: the id of the answer's receipt, where this is not it.
        issued_at: RFC 3339, UTC, with milliseconds.
        caller: whose it is.
        model: as requested.
        region: code of the region that served.
        text: what is kept.
    """

    ledger_id: str
    seq: int
    query_id: str
    request_id: str | None
    issued_at: str
    caller: str
    model: str
    region: str
    text: str


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """Entries as they will stand in the file.

    Attributes:
        sealed: what their callers get.
        rows: what the table gets.
    """

    sealed: Sequence[Sealed]
    rows: Sequence[NewRow]

    def head(self, *, at: str, not_kept: int, signer: Signer | None) -> str:
        """Write the head that says the last of them is the newest."""
        newest = self.rows[-1]
        return head_text(newest.ledger_id, newest.seq, newest.text, at=at, not_kept=not_kept, signer=signer)


def prepared(entries: Sequence[Entry], signer: Signer | None, *, ledger_id: str, after: int) -> Prepared:
    """Number the entries from `after + 1` on and seal them.

    Raises:
        UnicodeEncodeError: a caller's name is no text that a file could hold.
        Exception: what sealing raises, and a signer may raise anything.
    """
    sealed = [
        seal(msgspec.structs.replace(entry.receipt, ledger_id=ledger_id, seq=seq), signer)
        for seq, entry in enumerate(entries, start=after + 1)
    ]
    rows = [
        _row(entry, final, ledger_id, seq)
        for seq, (entry, final) in enumerate(zip(entries, sealed, strict=True), start=after + 1)
    ]
    return Prepared(sealed=sealed, rows=rows)


def _row(entry: Entry, final: Sealed, ledger_id: str, seq: int) -> NewRow:
    receipt = entry.receipt
    entry.caller.encode()
    return NewRow(
        ledger_id=ledger_id,
        seq=seq,
        query_id=receipt.query_id,
        request_id=None if receipt.request_id is msgspec.UNSET else receipt.request_id,
        issued_at=receipt.issued_at,
        caller=entry.caller,
        model=receipt.model,
        region=receipt.region,
        text=final.text,
    )
