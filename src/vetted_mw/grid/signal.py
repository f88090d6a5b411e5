"""One grid carbon intensity, and whether it may decide. Pure: the instant is always an argument."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from datetime import datetime

__all__ = [
    "DECLARED",
    "MAX_SKEW_MINUTES",
    "GridSignal",
    "Ineligible",
    "Method",
    "SignalKind",
    "SignalReading",
    "TemporalMatch",
    "minutes_held",
    "parse_method",
    "read_at",
]

LIVE_WINDOW_MINUTES = 15.0
MAX_SKEW_MINUTES = 5.0
_MAX_SKEW = timedelta(minutes=MAX_SKEW_MINUTES)


class SignalKind(StrEnum):
    """What a value is."""

    MEASURED = "measured"
    FORECAST = "forecast"
    FALLBACK = "fallback"


class TemporalMatch(StrEnum):
    """How a value's time relates to the instant of the decision."""

    LIVE_WINDOW = "live_window"
    FRESH = "fresh"
    STALE = "stale"
    FORECAST = "forecast"
    ANNUAL_FALLBACK = "annual_fallback"


class Ineligible(StrEnum):
    """Why a value may not decide."""

    NOT_MEASURED = "not_measured"
    ESTIMATED = "estimated"
    FUTURE_DATED = "future_dated"
    STALE = "stale"
    NOT_A_NUMBER = "not_a_number"
    PROXY_SHARE = "proxy_share"


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """How a value was made. Values compete only within one method.

    Attributes:
        accounting: what is counted.
        basis: life-cycle or direct emissions.
        kind: average or marginal.
        factor_set: id of the factors applied: ours, or the service's own by the service's name; None when unknown.
    """

    accounting: Literal["production", "consumption", "unknown"] = "unknown"
    basis: Literal["lifecycle", "direct", "unknown"] = "unknown"
    kind: Literal["average", "marginal", "unknown"] = "unknown"
    factor_set: str | None = None

    def __str__(self) -> str:
        if self == DECLARED:
            return "declared"
        return f"{self.accounting}/{self.basis}/{self.kind}/{self.factor_set or '-'}"


DECLARED = Method()
"""Nothing is known of how the value was made; equals only itself."""

_ACCOUNTING = ("production", "consumption", "unknown")
_BASIS = ("lifecycle", "direct", "unknown")
_AVERAGING = ("average", "marginal", "unknown")


def parse_method(text: str) -> Method:
    """Read `accounting/basis/kind/factor-set` (`-` for no factor set), or `declared`.

    Raises:
        ValueError: it is neither.
    """
    if text == "declared":
        return DECLARED
    parts = text.split("/")
    if len(parts) != 4:  # noqa: PLR2004
        raise ValueError("expected accounting/basis/kind/factor-set, or 'declared'")
    accounting, basis, kind, factor_set = parts
    if accounting not in _ACCOUNTING or basis not in _BASIS or kind not in _AVERAGING or not factor_set:
        raise ValueError("a part of the method is unknown")
    return Method(
        accounting=accounting,  # type: ignore[arg-type]
        basis=basis,  # type: ignore[arg-type]
        kind=kind,  # type: ignore[arg-type]
        factor_set=None if factor_set == "-" else factor_set,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class GridSignal:
    """One value of one source, as it was fetched. It never changes; only its age does.

    Attributes:
        source: label of the source, `entsoe_derived_live`.
        zone: the zone it is used for, `SE_3`.
        area: the area it is really of, `SE`.
        kind: measured, forecast or fallback (annual).
        gco2_per_kwh: intensity in gCO2e/kWh.
        observed_at: end of the observed interval, UTC.
        fetched_at: when we got it, UTC.
        max_age_minutes: the source's freshness limit.
        method: how it was made.
        resolution_minutes: length of the interval; None when instantaneous or unknown.
        estimated: True when the service itself calls it an estimate.
        proxy_share: share (0..1) of the mix whose factor is a stand-in; None when no mix is known.
        max_proxy_share: the zone's limit for it.
        raw_ref: sha-256 of the body it was read from, for lineage.
        mix: generation it was made of, PSR code and MW in pairs; empty where the service gives none.

    Raises:
        ValueError: `observed_at` names no offset.
    """

    source: str
    zone: str
    area: str
    kind: SignalKind
    gco2_per_kwh: float
    observed_at: datetime
    fetched_at: datetime
    max_age_minutes: float
    method: Method = DECLARED
    resolution_minutes: int | None = None
    estimated: bool = False
    proxy_share: float | None = None
    max_proxy_share: float = 0.25
    raw_ref: str = ""
    mix: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        if self.observed_at.tzinfo is None:
            raise ValueError("observed_at needs an offset: without one a signal cannot age")


class SignalReading(msgspec.Struct, frozen=True, kw_only=True):
    """A signal as seen at one instant.

    Attributes:
        signal: the signal itself.
        read_at: that instant, UTC.
        age_minutes: minutes since the interval's end, never negative.
        temporal_match: how old that is in words.
        ineligible: why it may not decide; None when it may.
    """

    signal: GridSignal
    read_at: datetime
    age_minutes: float
    temporal_match: TemporalMatch
    ineligible: Ineligible | None

    @property
    def live_eligible(self) -> bool:
        """Whether it may decide a carbon-aware route and back a receipt as live."""
        return self.ineligible is None


def read_at(signal: GridSignal, now: datetime) -> SignalReading:
    """Judge `signal` at `now`; equal arguments give an equal reading.

    A value that was dated ahead when it was fetched stays so: it does not become true by waiting for its time.

    Raises:
        TypeError: a member is not of its type. Every one that counts is looked at, so that a signal that can be judged
            at one instant can be at any.
    """
    elapsed = (now - signal.observed_at).total_seconds() / 60.0
    is_number = math.isfinite(signal.gco2_per_kwh) and signal.gco2_per_kwh >= 0
    is_ahead = (signal.observed_at - signal.fetched_at > _MAX_SKEW) | (elapsed < -MAX_SKEW_MINUTES)
    is_stale = not elapsed <= signal.max_age_minutes  # a limit that is no number is passed
    share = signal.proxy_share
    is_stand_in = share is not None and not share <= signal.max_proxy_share
    ineligible: Ineligible | None = None
    if not is_number:
        ineligible = Ineligible.NOT_A_NUMBER
    elif signal.kind is not SignalKind.MEASURED:
        ineligible = Ineligible.NOT_MEASURED
    elif is_ahead:
        ineligible = Ineligible.FUTURE_DATED
    elif signal.estimated:
        ineligible = Ineligible.ESTIMATED
    elif is_stand_in:
        ineligible = Ineligible.PROXY_SHARE
    elif is_stale:
        ineligible = Ineligible.STALE
    return SignalReading(
        signal=signal,
        read_at=now,
        age_minutes=max(0.0, elapsed),
        temporal_match=_temporal_match(signal.kind, elapsed, is_ahead=is_ahead, is_stale=is_stale),
        ineligible=ineligible,
    )


def minutes_held(signal: GridSignal, now: datetime) -> float:
    """Return for how many minutes from `now` the signal is judged as it is at `now`, and orders by age as it does.

    What `read_at` compares its age with, and the age below which it counts as none, are where that ends.
    """
    elapsed = (now - signal.observed_at).total_seconds() / 60.0
    ends = (-MAX_SKEW_MINUTES, 0.0, LIVE_WINDOW_MINUTES, signal.max_age_minutes)
    return min((end - elapsed for end in ends if end >= elapsed), default=math.inf)


def _temporal_match(kind: SignalKind, elapsed: float, *, is_ahead: bool, is_stale: bool) -> TemporalMatch:
    if kind is SignalKind.FALLBACK:
        return TemporalMatch.ANNUAL_FALLBACK
    if kind is SignalKind.FORECAST or is_ahead:
        return TemporalMatch.FORECAST
    if is_stale:
        return TemporalMatch.STALE
    return TemporalMatch.LIVE_WINDOW if elapsed <= LIVE_WINDOW_MINUTES else TemporalMatch.FRESH
