"""Add receipts up. Pure: row after row goes in, and what is kept grows with the number of groups, never of rows.

Figures of different boundaries mean different things and are never added: every group is of one boundary.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec

from vetted_mw.audit.sums import Counted, Group, Key, LedgerSpan, Quality, Share, Sums

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["Adder", "Totals", "totals"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What receipts add up to.

    Attributes:
        cells: sums by finest group; every other sum is made of these.
        shares: per boundary, kind and word, how much of the work it holds for.
        ledgers: the rows seen by `ledger_id`.
        methodologies: receipts by `methodology_version`.
        software: receipts by `software`.
        default_regions: compared receipts by the default region they were compared with.
        signed: receipts that carry a signature; whether it is valid is for `receipts verify`.
        unsigned: receipts without one.
        sums_left_out: receipts that are the sum of their parts, whose parts were added instead.
        unreadable: rows that hold no receipt that can be read; they are in no sum.
    """

    cells: Mapping[Key, Sums]
    shares: Mapping[tuple[str, Quality, str], Share]
    ledgers: Mapping[str, LedgerSpan]
    methodologies: Mapping[str, int]
    software: Mapping[str, int]
    default_regions: Mapping[str, int]
    signed: int
    unsigned: int
    sums_left_out: int
    unreadable: int

    @property
    def receipts(self) -> int:
        """All receipts read."""
        return self.signed + self.unsigned

    @property
    def boundaries(self) -> list[str]:
        """The boundaries there are figures of, the one with the most calls first."""
        found = {key.boundary for key in self.cells}
        return sorted(found, key=lambda one: (-self.of(one).calls, one))

    @property
    def days(self) -> tuple[str, str] | None:
        """First and last day that has a receipt, UTC; None without any."""
        found = {key.day for key in self.cells}
        return (min(found), max(found)) if found else None

    def of(self, boundary: str, keep: Callable[[Key], bool] = lambda _key: True) -> Sums:
        """Add up one boundary, or what `keep` holds for of it."""
        whole = Sums()
        for key in sorted(self.cells):
            if key.boundary == boundary and keep(key):
                whole.merge(self.cells[key])
        return whole

    def by(
        self, boundary: str, *groups: Group, keep: Callable[[Key], bool] = lambda _key: True
    ) -> dict[tuple[str, ...], Sums]:
        """Add up one boundary by the values of `groups`, in their order; `keep` chooses among the finest groups."""
        found: dict[tuple[str, ...], Sums] = {}
        for key in sorted(self.cells):
            if key.boundary == boundary and keep(key):
                values = tuple(getattr(key, group.value) for group in groups)
                found.setdefault(values, Sums()).merge(self.cells[key])
        return dict(sorted(found.items()))

    def share(self, boundary: str, quality: Quality) -> dict[str, Share]:
        """Return how much of the work each word of `quality` holds for, most energy first."""
        found = {word: one for (of, kind, word), one in self.shares.items() if (of, kind) == (boundary, quality)}
        return dict(sorted(found.items(), key=lambda pair: (-pair[1].energy_wh, pair[0])))


class Adder:
    """Adds receipts up one by one; `totals` gives what they came to."""

    def __init__(self) -> None:
        self._cells: dict[Key, Sums] = {}
        self._shares: dict[tuple[str, Quality, str], Share] = {}
        self._found: dict[tuple[str, ...], tuple[Share, ...]] = {}
        self._ledgers: dict[str, LedgerSpan] = {}
        self._methodologies: Counter[str] = Counter()
        self._software: Counter[str] = Counter()
        self._default_regions: Counter[str] = Counter()
        self._signed = self._unsigned = self._sums_left_out = self._unreadable = 0

    def add(self, row: Counted, *, signed: bool) -> Key:
        """Add one receipt and return the group it is in.

        A row without `request_id` is its request's own and counts it. A row with one is a part, or an attempt that was
        given up: its request is counted by the answer's row, or by `count_request` when there is no answer.
        """
        key = self.key_of(row)
        sums = self._cells.get(key)
        if sums is None:
            sums = self._cells[key] = Sums()
        self._note(row, signed=signed)
        if row.request_id is None:
            sums.requests += 1
        if row.calls > 1:
            self._sums_left_out += 1
            return key
        sums.add(row)
        for share in self._shares_of(row):
            share.calls += 1
            share.energy_wh += row.energy_wh
        return key

    @staticmethod
    def key_of(row: Counted) -> Key:
        """Return the group a receipt is in."""
        return Key(row.boundary, row.issued_at[:10], row.model, row.region, row.completion_status)

    def add_unreadable(self) -> None:
        """Count a row that holds no receipt that can be read."""
        self._unreadable += 1

    def count_request(self, key: Key) -> None:
        """Count one request that never got a receipt of its own, in the group of its first receipt.

        Where none was added to that group, the receipt was not read, and its request is not counted.
        """
        if (sums := self._cells.get(key)) is not None:
            sums.requests += 1

    @property
    def totals(self) -> Totals:
        """What has been added so far."""
        return Totals(
            cells=MappingProxyType(self._cells),
            shares=MappingProxyType(self._shares),
            ledgers=MappingProxyType(self._ledgers),
            methodologies=MappingProxyType(self._methodologies),
            software=MappingProxyType(self._software),
            default_regions=MappingProxyType(self._default_regions),
            signed=self._signed,
            unsigned=self._unsigned,
            sums_left_out=self._sums_left_out,
            unreadable=self._unreadable,
        )

    def _shares_of(self, row: Counted) -> tuple[Share, ...]:
        """Return the shares a receipt counts in; there are few combinations, and each is looked up once."""
        words = (row.boundary, row.grid_temporal_match, row.tier, row.usage_source, row.energy_source)
        found = self._found.get(words)
        if found is None:
            kinds = ((row.boundary, quality, getattr(row, quality.value)) for quality in Quality)
            found = self._found[words] = tuple(self._shares.setdefault(kind, Share()) for kind in kinds)
        return found

    def _note(self, row: Counted, *, signed: bool) -> None:
        if signed:
            self._signed += 1
        else:
            self._unsigned += 1
        self._methodologies[row.methodology_version] += 1
        self._software[row.software] += 1
        if row.default_region is not None and row.default_region_gco2e is not None and row.calls == 1:
            self._default_regions[row.default_region] += 1
        if row.ledger_id is None or row.seq is None:
            return
        span = self._ledgers.get(row.ledger_id)
        if span is None:
            self._ledgers[row.ledger_id] = LedgerSpan(row.seq, row.seq)
        else:
            span.saw(row.seq)


def totals(receipts: Iterable[Mapping[str, Any]], *, signed: bool = True) -> Totals:
    """Add up receipts that are at hand as mappings; requests without an answer are counted where all rows are seen.

    Args:
        receipts: the members of each, as in its signed payload.
        signed: whether they carry signatures.

    Raises:
        msgspec.ValidationError: one of them is no receipt.
    """
    adder = Adder()
    unanswered: dict[str, Key] = {}
    answered: set[str] = set()
    for receipt in receipts:
        row = msgspec.convert(receipt, Counted)
        key = adder.add(row, signed=signed)
        if row.request_id is None:
            answered.add(row.query_id)
        else:
            unanswered.setdefault(row.request_id, key)
    for request_id, key in unanswered.items():
        if request_id not in answered:
            adder.count_request(key)
    return adder.totals
