"""Add receipts up. Pure: row after row goes in, and what is kept grows with the number of groups, never of rows.

Figures of different boundaries mean different things and are never added: every group is of one boundary.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec

from vetted_mw.audit.report.sums import Counted, Group, Key, LedgerSpan, Quality, Share, Sums

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["OTHERS", "Adder", "Totals", "totals"]

OTHERS = "others"
"""What further names are counted as once there are `_MOST_NAMES`: what is kept must not grow with what a file says."""
_MOST_NAMES = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What receipts add up to.

    Attributes:
        cells: sums by finest group; every other sum is made of these.
        shares: per boundary, kind and word, how much of the work it holds for.
        ledgers: the rows seen by `ledger_id`.
        methodologies: receipts by `methodology_version`.
        software: receipts by `software`.
        issuers: receipts by `issuer`; the empty text where they name none.
        keys: signed receipts by the `kid` that the signature's header names, which nobody has verified here.
        not_kept: by `ledger_id`, receipts that its writer could not keep, as its head says; only where there are any.
        default_regions: compared receipts by the default region they were compared with.
        signed: receipts that carry a signature; whether it is valid is for `receipts verify`.
        unsigned: receipts without one.
        sums_left_out: receipts that are the sum of their parts, whose parts were added instead.
        unreadable: rows that hold no receipt that can be read; they are in no sum.
        repeated: receipts that another source holds too, word for word; they are counted once.
        conflicting: receipts with an id that another receipt has; the first one read is counted, and these are not.
    """

    cells: Mapping[Key, Sums]
    shares: Mapping[tuple[str, Quality, str], Share]
    ledgers: Mapping[str, LedgerSpan]
    methodologies: Mapping[str, int]
    software: Mapping[str, int]
    issuers: Mapping[str, int]
    keys: Mapping[str, int]
    not_kept: Mapping[str, int]
    default_regions: Mapping[str, int]
    signed: int
    unsigned: int
    sums_left_out: int
    unreadable: int
    repeated: int = 0
    conflicting: int = 0

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
        self._issuers: Counter[str] = Counter()
        self._keys: Counter[str] = Counter()
        self._not_kept: dict[str, int] = {}
        self._default_regions: Counter[str] = Counter()
        self._signed = self._unsigned = self._sums_left_out = self._unreadable = 0
        self._repeated = self._conflicting = 0

    def add(self, row: Counted, *, signed: bool, kid: str = "") -> Key:
        """Add one receipt and return the group it is in.

        A row without `request_id` is its request's own and counts it. A row with one is a part, or an attempt that was
        given up: its request is counted by the answer's row, or by `count_request` when there is no answer.

        Args:
            row: the receipt.
            signed: whether it carries a signature.
            kid: the key that signature names; empty where that is not told.
        """
        key = self.key_of(row)
        sums = self._cells.get(key)
        if sums is None:
            sums = self._cells[key] = Sums()
        self._note(row, signed=signed, kid=kid)
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

    def add_repeated(self, *, differs: bool) -> None:
        """Count a receipt whose id was added before: the same one again, or where it `differs`, another."""
        if differs:
            self._conflicting += 1
        else:
            self._repeated += 1

    def note_not_kept(self, ledger_id: str, number: int) -> None:
        """Take how many receipts the writer of a ledger could not keep; only of ledgers that rows were added of."""
        if number and ledger_id in self._ledgers:
            self._not_kept[ledger_id] = max(number, self._not_kept.get(ledger_id, 0))

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
            issuers=MappingProxyType(self._issuers),
            keys=MappingProxyType(self._keys),
            not_kept=MappingProxyType(self._not_kept),
            default_regions=MappingProxyType(self._default_regions),
            signed=self._signed,
            unsigned=self._unsigned,
            sums_left_out=self._sums_left_out,
            unreadable=self._unreadable,
            repeated=self._repeated,
            conflicting=self._conflicting,
        )

    def _shares_of(self, row: Counted) -> tuple[Share, ...]:
        """Return the shares a receipt counts in; there are few combinations, and each is looked up once."""
        words = (row.boundary, row.grid_temporal_match, row.tier, row.usage_source, row.energy_source)
        found = self._found.get(words)
        if found is None:
            kinds = ((row.boundary, quality, getattr(row, quality.value)) for quality in Quality)
            found = self._found[words] = tuple(self._shares.setdefault(kind, Share()) for kind in kinds)
        return found

    def _note(self, row: Counted, *, signed: bool, kid: str) -> None:
        if signed:
            self._signed += 1
        else:
            self._unsigned += 1
        _count(self._methodologies, row.methodology_version)
        _count(self._software, row.software)
        _count(self._issuers, row.issuer)
        if kid:
            _count(self._keys, kid)
        if row.default_region is not None and row.default_region_gco2e is not None and row.calls == 1:
            _count(self._default_regions, row.default_region)
        if row.ledger_id is None or row.seq is None:
            return
        span = self._ledgers.get(row.ledger_id)
        if span is None:
            self._ledgers[row.ledger_id] = LedgerSpan(row.seq, row.seq)
        else:
            span.saw(row.seq)


def _count(counter: Counter[str], name: str) -> None:
    counter[name if name in counter or len(counter) < _MOST_NAMES else OTHERS] += 1


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
