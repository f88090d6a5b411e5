"""A receipt that was made: as text, as a value, and what the trace tells of it, each when it is asked for. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vetted_mw.receipts.grid import receipt_reading
from vetted_mw.receipts.receipt import Receipt, encode_receipt
from vetted_mw.routing.trace import told_comparison, told_signal

if TYPE_CHECKING:
    from vetted_mw.grid.signal import SignalReading
    from vetted_mw.receipts.coefficients import Coefficients
    from vetted_mw.receipts.comparison import Comparison
    from vetted_mw.receipts.observation import Observation
    from vetted_mw.receipts.template import Filled
    from vetted_mw.routing.trace import ToldComparison, ToldSignal

__all__ = ["Made", "Written"]

_DECODE = msgspec.json.Decoder(Receipt).decode


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """A receipt and what stands beside it in the trace.

    Attributes:
        receipt: the receipt.
        reading: the grid figure it used.
        comparison: the same request in the default region; None where that cannot be compared.
    """

    receipt: Receipt
    reading: SignalReading
    comparison: Comparison | None


class Written(msgspec.Struct, kw_only=True):
    """A receipt, made as a value or written by a template: of either, what is asked for is worked out then.

    Most answers need the text alone. The value is read out of it for a ledger, a span or a meter.

    Attributes:
        seen: what it was made of.
        coefficients: what it rests on.
        filled: as a template wrote it; None where it was made as a value.
        made: as it was made; None where a template wrote it.
        read: the value as it was read out of the text, for who asks again.
    """

    seen: Observation
    coefficients: Coefficients
    filled: Filled | None = None
    made: Made | None = None
    read: Receipt | None = None

    @property
    def text(self) -> bytes:
        """The receipt as JSON."""
        return self.filled.text if self.filled is not None else encode_receipt(self.receipt)

    @property
    def receipt(self) -> Receipt:
        """The receipt."""
        if self.made is not None:
            return self.made.receipt
        if self.read is None:
            self.read = _DECODE(self.text)
        return self.read

    @property
    def reading(self) -> SignalReading:
        """The grid figure it used."""
        if self.made is not None:
            return self.made.reading
        return receipt_reading(self.seen.region, self.seen.reading, self.seen.requested_at, self.coefficients)

    @property
    def told_signal(self) -> ToldSignal | msgspec.Raw:
        """The grid figure it used, for the trace."""
        return told_signal(self.reading) if self.filled is None else msgspec.Raw(self.filled.signal)

    @property
    def told_comparison(self) -> ToldComparison | msgspec.Raw | None:
        """The same request in the default region, for the trace; None where that cannot be compared."""
        if self.made is None:
            return None if self.filled is None else msgspec.Raw(self.filled.compared)
        found = self.made.comparison
        if found is None:
            return None
        there, here = found.gco2e, self.made.receipt.gco2e
        return told_comparison(found.region, value=there.value, low=there.low, high=there.high, here=here)
