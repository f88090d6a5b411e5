"""What a value is read on: the zone it is for, and what it must be to decide. And how a source makes its signals."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vetted_mw.grid.absence import NoSignal, NoSignalReason
from vetted_mw.grid.factors import intensity_of, load_factors, mix_method
from vetted_mw.grid.signal import GridSignal, Method, SignalKind
from vetted_mw.grid.units import is_plausible
from vetted_mw.grid.zones import DEFAULT_MAX_PROXY_SHARE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from vetted_mw.grid.absence import Cause

__all__ = ["Terms"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The terms one zone's value of one source is read on.

    Attributes:
        source: label of its signals, `entsoe_derived_live`.
        zone: the zone it is used for, `SE_3`.
        area: what it is really of, `SE`.
        name: the service's own word for that, `se`.
        max_age_minutes: its freshness limit.
        max_proxy_share: share of stand-in factors up to which it may decide.
        min_total_mw: generation below which a mix is not believed.
        expected_types: PSR codes without which an interval is incomplete.
    """

    source: str
    zone: str
    area: str
    name: str
    max_age_minutes: float
    max_proxy_share: float = DEFAULT_MAX_PROXY_SHARE
    min_total_mw: float = 0.0
    expected_types: tuple[str, ...] = ()

    def no(self, reason: NoSignalReason, cause: Cause | None = None) -> NoSignal:
        """Say why there is no signal."""
        return NoSignal(source=self.source, zone=self.zone, reason=reason, cause=cause)

    def signal(
        self,
        gco2_per_kwh: float | None,
        data: bytes,
        *,
        observed_at: datetime,
        fetched_at: datetime,
        method: Method,
        resolution_minutes: int | None = None,
        kind: SignalKind = SignalKind.MEASURED,
        estimated: bool = False,
    ) -> GridSignal | NoSignal:
        """Make a signal of a value the service computed itself; None and what is no intensity give the reason."""
        if gco2_per_kwh is None or not gco2_per_kwh >= 0:
            return self.no(NoSignalReason.NOT_A_NUMBER)
        if not is_plausible(gco2_per_kwh, method.basis):
            return self.no(NoSignalReason.IMPLAUSIBLE)
        return GridSignal(
            source=self.source,
            zone=self.zone,
            area=self.area,
            kind=kind,
            gco2_per_kwh=gco2_per_kwh,
            observed_at=observed_at,
            fetched_at=fetched_at,
            max_age_minutes=self.max_age_minutes,
            method=method,
            resolution_minutes=resolution_minutes,
            estimated=estimated,
            max_proxy_share=self.max_proxy_share,
            raw_ref=hashlib.sha256(data).hexdigest(),
        )

    def signal_of_mix(
        self,
        mix: Mapping[str, float],
        data: bytes,
        *,
        observed_at: datetime,
        fetched_at: datetime,
        resolution_minutes: int | None,
    ) -> GridSignal | NoSignal:
        """Make a signal of a generation mix under the one factor set, or say why its total is not believed."""
        factors = load_factors()
        intensity = intensity_of(mix, factors, self.zone)
        if intensity is None or intensity.total_mw < self.min_total_mw:
            return self.no(NoSignalReason.IMPLAUSIBLE)
        return GridSignal(
            source=self.source,
            zone=self.zone,
            area=self.area,
            kind=SignalKind.MEASURED,
            gco2_per_kwh=intensity.gco2_per_kwh,
            observed_at=observed_at,
            fetched_at=fetched_at,
            max_age_minutes=self.max_age_minutes,
            method=mix_method(factors),
            resolution_minutes=resolution_minutes,
            proxy_share=intensity.proxy_share,
            max_proxy_share=self.max_proxy_share,
            raw_ref=hashlib.sha256(data).hexdigest(),
            mix=tuple(sorted((code, max(megawatts, 0.0)) for code, megawatts in mix.items())),
        )
