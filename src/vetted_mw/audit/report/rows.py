"""Read what is counted of a row, signed or not, and of a head; and a ledger's rows as sums ask for them."""

from __future__ import annotations

import base64
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec

from vetted_mw.audit.report.sums import Counted
from vetted_mw.audit.report.totals import Adder
from vetted_mw.instants import parse_rfc3339, rfc3339
from vetted_mw.receipts.ledger.reading import LedgerReader

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from vetted_mw.audit.report.totals import Totals
    from vetted_mw.receipts.ledger.reading import LedgerRow

__all__ = ["CountedLedger", "CountedRow", "counted", "ledger_totals", "not_kept_of"]

_UNANSWERED = """SELECT ledger_id, seq, query_id, request_id, issued_at, caller, model, region, jws
    FROM receipts AS part
    WHERE request_id IS NOT NULL AND issued_at >= ? AND issued_at < ?
    AND NOT EXISTS (SELECT 1 FROM receipts WHERE query_id = part.request_id)
    AND NOT EXISTS
        (SELECT 1 FROM receipts AS other WHERE other.request_id = part.request_id AND other.rowid < part.rowid)
    ORDER BY rowid"""
_EARLIEST, _LATEST = "0", "A"
"""What sorts before and after every instant."""
_LONGEST_KID, _LONGEST_HEADER = 200, 2_000


class CountedRow(NamedTuple):
    """What is counted of a row.

    Attributes:
        receipt: its members.
        is_signed: whether it is a JWS.
        kid: the key that its header names; empty where it names none. Nothing is verified.
    """

    receipt: Counted
    is_signed: bool
    kid: str


class _Header(msgspec.Struct):
    kid: Annotated[str, msgspec.Meta(max_length=_LONGEST_KID)] = ""


class _Head(msgspec.Struct):
    not_kept: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 0


_DECODE = msgspec.json.Decoder(Counted)
_DECODE_HEADER = msgspec.json.Decoder(_Header)
_DECODE_HEAD = msgspec.json.Decoder(_Head)


def counted(text: str) -> CountedRow | None:
    """Read what is counted of a row; None when it holds no receipt that can be read.

    Neither the signature nor the way it is written is checked.
    """
    is_plain = text.startswith("{")
    try:
        receipt = _DECODE.decode(_payload(text))
        parse_rfc3339(receipt.issued_at)
    except (msgspec.DecodeError, ValueError, IndexError, RecursionError):
        return None
    return CountedRow(receipt, not is_plain, "" if is_plain else _kid(text[:_LONGEST_HEADER].split(".", 1)[0]))


def not_kept_of(head: str) -> int:
    """Return how many receipts a ledger's writer could not keep, as its head says; 0 where it says nothing."""
    try:
        return _DECODE_HEAD.decode(_payload(head)).not_kept
    except (msgspec.DecodeError, ValueError, IndexError, RecursionError):
        return 0  # what is wrong with a head is for `receipts verify`


class CountedLedger(LedgerReader):
    """Adds to the reader what only sums ask. The database does the work, so that memory does not grow with rows."""

    def totals(self, since: datetime | None = None, until: datetime | None = None) -> Totals:
        """Add up the receipts that were issued from `since` on and before `until`.

        Raises:
            LedgerUnreadableError: the file is broken.
        """
        adder = Adder()
        for row in self.issued(since, until):
            if (found := counted(row.text)) is None:
                adder.add_unreadable()
            else:
                adder.add(found.receipt, signed=found.is_signed, kid=found.kid)
        for row in self.unanswered(since, until):
            if (found := counted(row.text)) is not None and found.receipt.request_id is not None:
                adder.count_request(adder.key_of(found.receipt))
        for head in self.heads():
            adder.note_not_kept(head.ledger_id, not_kept_of(head.text))
        return adder.totals

    def issued(self, since: datetime | None = None, until: datetime | None = None) -> Iterator[LedgerRow]:
        """Yield the rows of the period, in the order in which they were committed."""
        return self.rows(_text(since), _text(until))

    def unanswered(self, since: datetime | None = None, until: datetime | None = None) -> Iterator[LedgerRow]:
        """Yield the first row of each request that has rows, issued in the period, and no receipt of its own."""
        return self._rows(_UNANSWERED, [_text(since) or _EARLIEST, _text(until) or _LATEST])


def ledger_totals(path: Path, since: datetime | None = None, until: datetime | None = None) -> Totals:
    """Add up a ledger's receipts that were issued from `since` on and before `until`.

    Raises:
        LedgerUnreadableError: it is missing, no ledger, or broken.
    """
    with CountedLedger(path) as ledger:
        return ledger.totals(since, until)


def _payload(text: str) -> str | bytes:
    return text if text.startswith("{") else base64.urlsafe_b64decode(text.split(".", 2)[1] + "==")


@lru_cache(maxsize=64)
def _kid(header: str) -> str:
    """Read the key's id; the headers of one key are all the same."""
    try:
        return _DECODE_HEADER.decode(base64.urlsafe_b64decode(header + "==")).kid
    except (msgspec.DecodeError, ValueError, RecursionError):
        return ""


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment, milliseconds=True)
