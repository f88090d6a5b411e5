"""The frozen configuration of grid signals: where they come from and what they must be to decide. Pure values."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from vetted_mw.grid.signal import Method
    from vetted_mw.secret import Secret

__all__ = ["FileSource", "JsonReading", "JsonSource", "ServiceSource", "SignalConfiguration"]


class FileSource(msgspec.Struct, frozen=True, kw_only=True):
    """Readings from a file that is watched.

    Attributes:
        path: the file.
        max_age_minutes: freshness limit of its readings.
    """

    path: Path
    max_age_minutes: float = 180.0


class ServiceSource(msgspec.Struct, frozen=True, kw_only=True):
    """One grid service that is asked.

    Attributes:
        name: its word in the settings, `entsoe`; what it is stands in `grid.services`.
        base_urls: where it is, without a trailing slash; the next one is tried when one is down.
        key: our key there; None for a service that needs none.
        max_age_minutes: freshness limit of its values.
        refresh_seconds: how often it is asked.
        areas: zone -> the service's own word for it, over the shipped table.
        figure: which of its figures is read, for a service that has several.
    """

    name: str
    base_urls: tuple[str, ...]
    max_age_minutes: float
    refresh_seconds: float
    key: Secret | None = None
    areas: Mapping[str, str] = msgspec.field(default_factory=lambda: MappingProxyType({}))
    figure: str = ""


class JsonReading(msgspec.Struct, frozen=True, kw_only=True):
    """Where one zone's value stands in an answer of a service we do not know.

    Attributes:
        zone: the zone it is used for.
        area: what it is really of.
        url: asked with one GET; may hold a key, so it is never shown.
        value: path of the value, `data.0.intensity.actual`; a number counts list items, -1 is the last.
        observed_at: path of the interval's end: RFC 3339 with an offset, or unix seconds or milliseconds.
        estimated: path of a truth value that says the service estimated it; empty for none.
        unit: what the value is in.
        method: how it was made.
        max_age_minutes: its freshness limit.
        header: header that carries the key; empty without a key.
        key: our key there.
    """

    zone: str
    area: str
    url: Secret
    value: str
    observed_at: str
    estimated: str
    unit: str
    method: Method
    max_age_minutes: float
    header: str = ""
    key: Secret | None = None


class JsonSource(msgspec.Struct, frozen=True, kw_only=True):
    """Services we do not know, read by the operator's description.

    Attributes:
        readings: one per zone.
        refresh_seconds: how often each is asked.
    """

    readings: tuple[JsonReading, ...]
    refresh_seconds: float


class SignalConfiguration(msgspec.Struct, frozen=True, kw_only=True):
    """Where signals come from and what they must be to decide.

    Attributes:
        chains: zone -> source names, first live-eligible wins; a zone not named takes every configured source in order.
        file: the file source; None when not configured.
        services: the grid services that are asked, in the order of the default chain.
        http_json: services we do not know; None when none is described.
        timeout_seconds: for one whole answer of a service.
        proxy: egress proxy to reach services by; empty for none. The environment is never consulted.
        max_proxy_share: zone, or `default` -> share of stand-in factors up to which a value may decide.
        min_total_mw: zone -> generation below which a mix is not believed, over the shipped table.
        expected_types: zone -> PSR codes without which an interval is incomplete, over the shipped table.
    """

    chains: Mapping[str, tuple[str, ...]] = msgspec.field(default_factory=lambda: MappingProxyType({}))
    file: FileSource | None = None
    services: tuple[ServiceSource, ...] = ()
    http_json: JsonSource | None = None
    timeout_seconds: float = 30.0
    proxy: str = ""
    max_proxy_share: Mapping[str, float] = msgspec.field(default_factory=lambda: MappingProxyType({}))
    min_total_mw: Mapping[str, float] = msgspec.field(default_factory=lambda: MappingProxyType({}))
    expected_types: Mapping[str, tuple[str, ...]] = msgspec.field(default_factory=lambda: MappingProxyType({}))
