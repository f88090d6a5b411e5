"""The catalogue: what is known of each region, and the check that every one of them lies in the EU or EEA."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from vetted_mw.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "EU_EEA_AS_OF",
    "EU_EEA_COUNTRIES",
    "SHIPPED_DEFAULT_ORDER",
    "Basis",
    "Region",
    "checked_country",
    "load_catalogue",
]

Basis = Literal["lifecycle", "direct", "unknown"]

EU_EEA_AS_OF = "2026-11-22"
"""The day the list below was checked."""

_EU = (
    *("AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU", "IE", "IT", "LT", "LU", "LV"),
    *("MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK"),
)
EU_EEA_COUNTRIES = frozenset({*_EU, "IS", "LI", "NO"})  # the United Kingdom and Switzerland are in neither


SHIPPED_DEFAULT_ORDER = ("scaleway-par-1", "scaleway-par-2", "ovh-gra-1")
"""The `eu_preferred` order where the operator sets none."""


def checked_country(country: str, *, region: str) -> str:
    """Return `country` when it is an EU or EEA state's ISO 3166 code.

    Raises:
        ConfigurationError: it is not. No setting turns this off.
    """
    if country not in EU_EEA_COUNTRIES:
        raise ConfigurationError(
            f"region {region!r} is in {country!r}, which is not an EU or EEA country.",
            field=f"regions.{region}.country",
            remedy="Use an upper-case ISO 3166 code of an EU-27 state, IS, LI or NO, or remove the region.",
        )
    return country


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """What is known of one region, apart from how to reach it.

    Attributes:
        code: unique name, `scaleway-par-1`.
        provider: who runs it, `Scaleway`.
        site: the provider's own name for the place, `fr-par-1`.
        location: the place in words, `Paris`.
        country: ISO 3166 code of an EU or EEA state, declared by the operator.
        zone: grid zone, `FR` or `SE_3`; empty when unknown.
        annual_gco2_per_kwh: annual average grid intensity in gCO2/kWh, declared; None when unknown.
        annual_year: the year that average is of.
        annual_source: who published it.
        annual_basis: `lifecycle`, `direct` or `unknown`.
        network_p50_ms: declared median network latency in ms; None when unknown.
        network_p95_ms: declared 95th percentile in ms; None when unknown.
        inference: False for a place that only hosts gateways; it is never a candidate.
        pue: power usage effectiveness (>= 1) of the operator's own figure; None takes the shipped coefficient.
        wue_l_per_kwh: on-site water in L/kWh, the same.
        ewif_l_per_kwh: the grid's water in L/kWh, the same.
        hardware: accelerator, `H100`; `unknown` widens the receipt's interval.
        gen_ai_provider: `gen_ai.provider.name` in spans.
        note: a word for readers.
        shipped: True for a region of the shipped catalogue.
    """

    code: str
    provider: str
    site: str
    location: str
    country: str
    zone: str = ""
    annual_gco2_per_kwh: float | None = None
    annual_year: int | None = None
    annual_source: str = ""
    annual_basis: Basis = "unknown"
    network_p50_ms: float | None = None
    network_p95_ms: float | None = None
    inference: bool = True
    pue: float | None = None
    wue_l_per_kwh: float | None = None
    ewif_l_per_kwh: float | None = None
    hardware: str = "unknown"
    gen_ai_provider: str = "openai"
    note: str = ""
    shipped: bool = False

    @property
    def route_taken(self) -> str:
        """`provider:site` as receipts show it, `scaleway:fr-par-1`."""
        return f"{self.provider.lower()}:{self.site}"


@cache
def load_catalogue() -> Mapping[str, Region]:
    """Return the shipped regions, code -> region, in the table's order. Their figures are declared, not measured."""
    table = tomllib.loads(files("vetted_mw.routing").joinpath("data/regions.toml").read_text(encoding="utf-8"))
    shared = table["declared"]
    regions = [Region(**(shared | row), shipped=True) for row in table["region"]]
    for region in regions:
        checked_country(region.country, region=region.code)
    return MappingProxyType({region.code: region for region in regions})
