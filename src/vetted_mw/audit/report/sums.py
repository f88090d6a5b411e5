"""One receipt as it is counted, and what a group of them adds up to. Pure.

Errors of receipts are shared (one model, one site), so intervals are added as fully correlated: lower bounds to lower
bounds, upper to upper. That is the conservative sum; nothing shrinks by the square root of n.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Annotated, NamedTuple

import msgspec

__all__ = ["ABANDONED", "COMPLETE", "Counted", "Group", "Key", "LedgerSpan", "Quality", "Share", "Summed", "Sums"]

COMPLETE = "complete"
ABANDONED = "abandoned"
_LIVE = frozenset({"live_window", "fresh"})

_Amount = Annotated[float, msgspec.Meta(ge=0, le=1e15)]
_Sigma = Annotated[float, msgspec.Meta(ge=0, le=20)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
_Instant = Annotated[str, msgspec.Meta(pattern=r"^\d{4}-\d\d-\d\dT")]


class Counted(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is added up of one receipt; its other members are passed over. The fields are those of `docs/receipt.md`."""

    query_id: str
    issued_at: _Instant
    model: str
    region: str
    boundary: str
    tier: str
    usage_source: str
    energy_source: str
    completion_status: str
    calls: Annotated[int, msgspec.Meta(ge=1)]
    prompt_tokens: _Count
    completion_tokens: _Count
    energy_wh: _Amount
    energy_wh_ci90_lo: _Amount
    energy_wh_ci90_hi: _Amount
    sigma_energy: _Sigma
    gco2e: _Amount
    gco2e_ci90_lo: _Amount
    gco2e_ci90_hi: _Amount
    sigma_gco2e: _Sigma
    gco2e_operational: _Amount
    gco2e_embodied: _Amount
    ml_water: _Amount
    ml_water_ci90_lo: _Amount
    ml_water_ci90_hi: _Amount
    sigma_water: _Sigma
    grid_intensity_gco2_per_kwh: _Amount
    grid_temporal_match: str
    methodology_version: str
    software: str
    issuer: str = ""
    default_region: str | None = None
    default_region_gco2e: _Amount | None = None
    request_id: str | None = None
    ledger_id: str | None = None
    seq: int | None = None


class Group(StrEnum):
    """By what receipts are added up, within one boundary."""

    DAY = "day"
    MODEL = "model"
    REGION = "region"
    COMPLETION = "completion"


class Quality(StrEnum):
    """What a share is of: how the figures came about."""

    GRID = "grid_temporal_match"
    TIER = "tier"
    USAGE = "usage_source"
    ENERGY = "energy_source"


class Key(NamedTuple):
    """The finest group: `day` is the UTC date of `issued_at`, `completion` the receipt's `completion_status`."""

    boundary: str
    day: str
    model: str
    region: str
    completion: str


@dataclass(slots=True)
class Summed:
    """A figure added up.

    Attributes:
        value: sum of the medians.
        low: sum of the lower bounds.
        high: sum of the upper bounds.
        expected: sum of the means, `x * exp(sigma**2 / 2)` each: what is expected in the long run.
    """

    value: float = 0.0
    low: float = 0.0
    high: float = 0.0
    expected: float = 0.0

    def add(self, value: float, low: float, high: float, sigma: float) -> None:
        """Add one receipt's figure; `sigma` is the spread behind its interval, in ln units."""
        self.value += value
        self.low += low
        self.high += high
        self.expected += value * math.exp(sigma * sigma / 2)

    def merge(self, other: Summed) -> None:
        """Add another sum."""
        self.value += other.value
        self.low += other.low
        self.high += other.high
        self.expected += other.expected


@dataclass(slots=True, kw_only=True)
class Sums:
    """What a group of receipts adds up to. Mutable: it is added to row after row.

    Attributes:
        requests: callers' requests, each counted once, however many calls it took.
        calls: calls of an upstream: the receipts whose figures are in the sums.
        prompt_tokens: tokens read.
        completion_tokens: tokens written.
        energy_wh: Wh.
        gco2e: g CO2e.
        ml_water: mL.
        gco2e_operational: of `gco2e`, the electricity; g CO2e.
        gco2e_embodied: of `gco2e`, making the servers; g CO2e.
        grid_weighted: sum of energy times grid intensity, Wh * g/kWh.
        live_calls: of `calls`, those whose grid figure was live.
        live_wh: of `energy_wh`, that of those; Wh.
        compared: of `calls`, those with a figure of the default region beside their own.
        compared_gco2e: what those emitted; g CO2e.
        default_gco2e: what the default region's figures say of those; g CO2e.
    """

    requests: int = 0
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    energy_wh: Summed = field(default_factory=Summed)
    gco2e: Summed = field(default_factory=Summed)
    ml_water: Summed = field(default_factory=Summed)
    gco2e_operational: float = 0.0
    gco2e_embodied: float = 0.0
    grid_weighted: float = 0.0
    live_calls: int = 0
    live_wh: float = 0.0
    compared: int = 0
    compared_gco2e: float = 0.0
    default_gco2e: float = 0.0

    @property
    def grid_gco2_per_kwh(self) -> float | None:
        """The grid intensity used, weighted by energy, g/kWh; None where no energy was used."""
        return self.grid_weighted / self.energy_wh.value if self.energy_wh.value else None

    def add(self, row: Counted) -> None:
        """Add one call."""
        self.calls += 1
        self.prompt_tokens += row.prompt_tokens
        self.completion_tokens += row.completion_tokens
        self.energy_wh.add(row.energy_wh, row.energy_wh_ci90_lo, row.energy_wh_ci90_hi, row.sigma_energy)
        self.gco2e.add(row.gco2e, row.gco2e_ci90_lo, row.gco2e_ci90_hi, row.sigma_gco2e)
        self.ml_water.add(row.ml_water, row.ml_water_ci90_lo, row.ml_water_ci90_hi, row.sigma_water)
        self.gco2e_operational += row.gco2e_operational
        self.gco2e_embodied += row.gco2e_embodied
        self.grid_weighted += row.energy_wh * row.grid_intensity_gco2_per_kwh
        if row.grid_temporal_match in _LIVE:
            self.live_calls += 1
            self.live_wh += row.energy_wh
        if row.default_region_gco2e is not None:
            self.compared += 1
            self.compared_gco2e += row.gco2e
            self.default_gco2e += row.default_region_gco2e

    def merge(self, other: Sums) -> None:
        """Add what another group adds up to."""
        for one in fields(self):
            mine, more = getattr(self, one.name), getattr(other, one.name)
            if isinstance(mine, Summed):
                mine.merge(more)
            else:
                setattr(self, one.name, mine + more)


@dataclass(slots=True)
class Share:
    """How much of the work something holds for.

    Attributes:
        calls: receipts.
        energy_wh: their energy, Wh.
    """

    calls: int = 0
    energy_wh: float = 0.0


@dataclass(slots=True)
class LedgerSpan:
    """The rows seen of one ledger.

    Attributes:
        first: lowest `seq`.
        last: highest `seq`.
        rows: how many; less than `last - first + 1` when some are missing.
    """

    first: int
    last: int
    rows: int = 1

    @property
    def absent(self) -> int:
        """How many rows between first and last were not among them: missing, or issued in another period."""
        return max(0, self.last - self.first + 1 - self.rows)

    def saw(self, seq: int) -> None:
        """Widen the span by one row."""
        self.first, self.last, self.rows = min(self.first, seq), max(self.last, seq), self.rows + 1
