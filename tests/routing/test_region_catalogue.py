"""The shipped regions against the table of the contract, and the EU/EEA check."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from datetime import date

import pytest

from vetted_mw.errors import ConfigurationError
from vetted_mw.routing.regions import (
    EU_EEA_AS_OF,
    EU_EEA_COUNTRIES,
    SHIPPED_DEFAULT_ORDER,
    checked_country,
    load_catalogue,
)

TABLE = (
    ("scaleway-par-1", "Scaleway", "fr-par-1", "Paris", "FR", "FR", 58, 22, 45, True),
    ("scaleway-par-2", "Scaleway", "fr-par-2", "Paris", "FR", "FR", 58, None, None, True),
    ("atnorth-sto-1", "atNorth", "sto-1", "Stockholm", "SE", "SE_3", 12, 32, 70, True),
    ("atnorth-isl-1", "atNorth", "isl-1", "Iceland", "IS", "IS", 18, 55, 110, True),
    ("ovh-gra-1", "OVHcloud", "gra-1", "Gravelines", "FR", "FR", 58, 24, 50, True),
    ("ovh-rbx-1", "OVHcloud", "rbx-1", "Roubaix", "FR", "FR", 58, None, None, True),
    ("hetzner-fsn-1", "Hetzner", "fsn-1", "Falkenstein", "DE", "DE_LU", 380, None, None, False),
    ("hetzner-hel-1", "Hetzner", "hel-1", "Helsinki", "FI", "FI", 95, None, None, False),
)
EU_27 = (
    *("AT", "BE", "BG", "HR", "CY", "CZ", "DK", "EE", "FI", "FR", "DE", "GR", "HU", "IE"),
    *("IT", "LV", "LT", "LU", "MT", "NL", "PL", "PT", "RO", "SK", "SI", "ES", "SE"),
)


def test_the_catalogue_is_the_contracts_table_in_its_order() -> None:
    """Eight regions ship with exactly the declared figures, in the table's order."""
    told = tuple(
        (
            code,
            region.provider,
            region.site,
            region.location,
            region.country,
            region.zone,
            region.annual_gco2_per_kwh,
            region.network_p50_ms,
            region.network_p95_ms,
            region.inference,
        )
        for code, region in load_catalogue().items()
    )
    assert told == TABLE


@pytest.mark.parametrize("code", [row[0] for row in TABLE])
def test_every_annual_figure_is_labelled_declared_and_of_unknown_basis(code: str) -> None:
    """A declared average never passes for a measurement: its source says so and its basis is unknown."""
    region = load_catalogue()[code]
    assert region.code == code
    assert region.shipped
    assert region.annual_basis == "unknown"
    assert region.annual_year == 2024
    assert "JRC NEEFE 2024" in region.annual_source
    assert "declared" in region.annual_source


def test_the_shipped_order_is_paris_paris_gravelines() -> None:
    """Where the operator sets no order, these three serve in this order, and all of them run inference."""
    assert SHIPPED_DEFAULT_ORDER == ("scaleway-par-1", "scaleway-par-2", "ovh-gra-1")
    assert all(load_catalogue()[code].inference for code in SHIPPED_DEFAULT_ORDER)


def test_every_shipped_region_lies_in_the_eu_or_eea() -> None:
    """No shipped region is outside, whatever else changes in the data."""
    assert {region.country for region in load_catalogue().values()} <= EU_EEA_COUNTRIES


def test_the_eu_and_eea_are_the_27_and_iceland_liechtenstein_norway() -> None:
    """The dated constant holds exactly the EU-27 and the three EEA states."""
    assert frozenset({*EU_27, "IS", "LI", "NO"}) == EU_EEA_COUNTRIES
    assert len(EU_27) == 27
    assert date.fromisoformat(EU_EEA_AS_OF) >= date(2026, 1, 1)


@pytest.mark.parametrize("country", [*EU_27, "IS", "LI", "NO"])
def test_a_member_state_passes_the_check_unchanged(country: str) -> None:
    """A country of the list is returned as it was written."""
    assert checked_country(country, region="our-site-1") == country


@pytest.mark.parametrize(
    "country", ["GB", "UK", "CH", "US", "RU", "TR", "UA", "EU", "fr", "Fr", " FR", "FR ", "FRA", ""]
)
def test_any_other_country_is_refused_naming_region_key_and_remedy(country: str) -> None:
    """What is not an upper-case code of the list stops the start, and the text says which region and what to write."""
    with pytest.raises(ConfigurationError) as refused:
        checked_country(country, region="our-site-1")
    assert refused.value.field == "regions.our-site-1.country"
    assert "our-site-1" in str(refused.value)
    assert "EU-27 state, IS, LI or NO" in refused.value.remedy


def test_the_catalogue_cannot_be_changed_in_place() -> None:
    """Neither the mapping nor a region of it can be written to."""
    catalogue = load_catalogue()
    with pytest.raises(TypeError):
        catalogue["scaleway-par-1"] = catalogue["ovh-gra-1"]  # type: ignore[index]
    with pytest.raises(FrozenInstanceError):
        catalogue["scaleway-par-1"].country = "US"  # type: ignore[misc]


def test_a_route_is_told_as_provider_and_site() -> None:
    """`route_taken` is the lower-case provider and the provider's own name of the place."""
    assert load_catalogue()["scaleway-par-1"].route_taken == "scaleway:fr-par-1"
    assert load_catalogue()["ovh-gra-1"].route_taken == "ovhcloud:gra-1"
