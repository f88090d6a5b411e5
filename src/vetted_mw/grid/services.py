"""The grid services we can ask: where they are, how fresh they are, how often they may be asked. Pure facts."""

from __future__ import annotations

from difflib import get_close_matches
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from vetted_mw.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

__all__ = ["DEFAULT_CHAIN", "SERVICES", "Service", "least_refresh_seconds", "require_sources"]


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """One grid service.

    Attributes:
        name: its word in the settings, `entsoe`.
        label: the source its signals name, `entsoe_derived_live`.
        base_url: where it is.
        max_age_minutes: freshness limit of its values, above resolution and publication lag together.
        refresh_seconds: how often it is asked.
        least_refresh_seconds: how often it may be asked at most at its own address.
        spacing_seconds: pause between two requests of one refresh.
        ban_seconds: how long it is left alone after a 429 that names no time.
        needs_key: whether it answers only with a key.
        figure: which of its figures is read unless the settings name another; empty where it has one.
        has_areas: whether it tells several places apart, so that an operator may name further ones.
        other_hosts: where it is too, under the same limits.
    """

    name: str
    label: str
    base_url: str
    max_age_minutes: float
    refresh_seconds: float
    least_refresh_seconds: float
    spacing_seconds: float = 0.0
    ban_seconds: float = 60.0
    needs_key: bool = False
    figure: str = ""
    has_areas: bool = True
    other_hosts: tuple[str, ...] = ()

    def is_at(self, base_urls: Iterable[str]) -> bool:
        """Whether one of the addresses is the service's own, however it is written: there its limits hold."""
        return not {_host(self.base_url), *self.other_hosts}.isdisjoint(map(_host, base_urls))


def _host(url: str) -> str:
    return (urlsplit(url).hostname or "").rstrip(".")


_ALL = (
    Service(
        # 400 requests a minute per token, then 429 or an abort and about ten minutes of ban (support article
        # 12783148966036). Hourly zones are 60 + ~100 minutes old just before their next publication.
        name="entsoe",
        label="entsoe_derived_live",
        base_url="https://web-api.tp.entsoe.eu/api",
        max_age_minutes=180.0,
        refresh_seconds=600.0,
        least_refresh_seconds=60.0,
        spacing_seconds=0.2,
        ban_seconds=600.0,
        needs_key=True,
        other_hosts=("external-api.tp.entsoe.eu",),
    ),
    Service(
        # No limit is published; a value a minute, asked every five.
        name="landsnet",
        label="landsnet_live",
        base_url="https://amper.landsnet.is",
        max_age_minutes=30.0,
        refresh_seconds=300.0,
        least_refresh_seconds=300.0,
        ban_seconds=600.0,
        has_areas=False,
    ),
    Service(
        # Anonymous calls have a daily quota, told in X-RateLimit headers. "Down to H-2" is its nominal depth.
        name="odre",
        label="rte_mix_derived_live",
        base_url="https://odre.opendatasoft.com",
        max_age_minutes=180.0,
        refresh_seconds=900.0,
        least_refresh_seconds=300.0,
        ban_seconds=3600.0,
        has_areas=False,
        figure="mix",
    ),
    Service(
        name="statnett",
        label="statnett_derived_live",
        base_url="https://driftsdata.statnett.no",
        max_age_minutes=15.0,
        refresh_seconds=300.0,
        least_refresh_seconds=60.0,
        ban_seconds=600.0,
    ),
    Service(
        # A request per country and quarter of an hour is plenty; keep 1.5 s between two.
        name="energy_charts",
        label="energy_charts_live",
        base_url="https://api.energy-charts.info",
        max_age_minutes=180.0,
        refresh_seconds=900.0,
        least_refresh_seconds=300.0,
        spacing_seconds=1.5,
        ban_seconds=900.0,
    ),
    Service(
        # Ten requests a minute and 10 000 a day per key. Five missed updates make a value stale.
        name="fingrid",
        label="fingrid_live",
        base_url="https://data.fingrid.fi",
        max_age_minutes=20.0,
        refresh_seconds=300.0,
        least_refresh_seconds=60.0,
        spacing_seconds=7.0,
        needs_key=True,
        has_areas=False,
        figure="consumption",
    ),
    Service(
        name="electricity_maps",
        label="electricitymaps_live",
        base_url="https://api.electricitymaps.com",
        max_age_minutes=180.0,
        refresh_seconds=900.0,
        least_refresh_seconds=60.0,
        spacing_seconds=0.2,
        needs_key=True,
        other_hosts=("api.electricitymap.org",),
        figure="lifecycle",
    ),
    Service(
        # One request per dataset, minute and address since 2025-08-26.
        name="energinet",
        label="energinet_live",
        base_url="https://api.energidataservice.dk",
        max_age_minutes=30.0,
        refresh_seconds=300.0,
        least_refresh_seconds=120.0,
        ban_seconds=120.0,
    ),
)

SERVICES: Mapping[str, Service] = MappingProxyType({service.name: service for service in _ALL})
"""Every service, in the order of a zone's default chain: mixes under our one factor set first, then the others."""

DEFAULT_CHAIN = (*SERVICES, "http_json", "file")
"""A zone whose chain is not set takes the configured sources in this order, sources of the application's own last."""


def least_refresh_seconds(urls: Collection[str]) -> float:
    """Return how often these addresses may be asked at most by what the services there allow; 0 for unknown ones."""
    return max((service.least_refresh_seconds for service in _ALL if service.is_at(urls)), default=0.0)


def require_sources(chains: Mapping[str, Iterable[str]], configured: Collection[str]) -> None:
    """Refuse a chain that names a source nobody has configured.

    Raises:
        ConfigurationError: naming the chain, and what to write; the name itself is not repeated, it may be anything.
    """
    for zone, names in chains.items():
        for place, name in enumerate(names, start=1):
            if name not in configured:
                raise ConfigurationError(
                    f"its entry {place} is no configured source.",
                    field=f"signals.chains.{zone}",
                    remedy=_remedy(name, configured),
                )


def _remedy(name: str, configured: Collection[str]) -> str:
    there = f"Configured: {', '.join(configured) or 'none'}."
    if name in DEFAULT_CHAIN:
        return f"Add its table, [signals.sources.{name}], or take it out. {there}"
    labels = {service.label: service.name for service in _ALL}
    like = labels.get(name) or next(iter(get_close_matches(name, (*configured, *DEFAULT_CHAIN), n=1)), None)
    return there if like is None else f"Did you mean {like}? {there}"
