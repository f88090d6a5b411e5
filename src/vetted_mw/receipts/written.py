"""A receipt that was made, as a value or by a template; what else is asked of it is made when it is asked. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vetted_mw.receipts.grid import receipt_reading
from vetted_mw.receipts.receipt import Receipt, encode_receipt
from vetted_mw.routing.trace import told_comparison, told_signal

if TYPE_CHECKING:
    from typing import TypeAlias

    from vetted_mw.grid.signal import SignalReading
    from vetted_mw.receipts.coefficients import Coefficients
    from vetted_mw.receipts.comparison import Comparison
    from vetted_mw.receipts.observation import Observation
    from vetted_mw.routing.trace import ToldComparison, ToldSignal

    Written: TypeAlias = "Made | Filled"

__all__ = ["Filled", "Made", "Written"]

_DECODE = msgspec.json.Decoder(Receipt).decode


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """A receipt that was made as a value, and what stands beside it in the trace.

    Attributes:
        seen: what it was made of.
        receipt: the receipt.
        reading: the grid figure it used.
        comparison: the same request in the default region; None where that cannot be compared.
    """

    seen: Observation
    receipt: Receipt
    reading: SignalReading
    comparison: Comparison | None

    @property
    def text(self) -> bytes:
        """The receipt as JSON."""
        return encode_receipt(self.receipt)

    @property
    def told_signal(self) -> ToldSignal:
        """The grid figure it used, for the trace."""
        return told_signal(self.reading)

    @property
    def told_comparison(self) -> ToldComparison | None:
        """The same request in the default region, for the trace; None where that cannot be compared."""
        found = self.comparison
        if found is None:
            return None
        there = found.gco2e
        return told_comparison(found.region, value=there.value, low=there.low, high=there.high, here=self.receipt.gco2e)


class Filled(msgspec.Struct, gc=False):
    """A receipt that a template wrote, and what the trace tells beside it.

    Most answers need the text alone. The value is read out of it for a ledger, a span or a meter.

    Attributes:
        seen: what it was made of.
        coefficients: what it rests on.
        text: the receipt, as `encode_receipt` writes it.
        signal: the grid figure it used, as the trace tells it.
        compared: the same request in the default region, as the trace tells it; `null` where that is not compared.
        read: the value as it was read out of the text, for who asks again.
    """

    seen: Observation
    coefficients: Coefficients
    text: bytes
    signal: bytes
    compared: bytes
    read: Receipt | None = None

    @property
    def receipt(self) -> Receipt:
        """The receipt."""
        if self.read is None:
            self.read = _DECODE(self.text)
        return self.read

    @property
    def reading(self) -> SignalReading:
        """The grid figure it used."""
        return receipt_reading(self.seen.region, self.seen.reading, self.seen.requested_at, self.coefficients)

    @property
    def told_signal(self) -> msgspec.Raw:
        """The grid figure it used, for the trace."""
        return msgspec.Raw(self.signal)

    @property
    def told_comparison(self) -> msgspec.Raw:
        """The same request in the default region, for the trace; `null` where that is not compared."""
        return msgspec.Raw(self.compared)
