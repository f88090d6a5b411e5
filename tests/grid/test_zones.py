"""The table of zones: what each service calls them, whose value it is, and what a zone's data must hold."""

from __future__ import annotations

import string
from dataclasses import FrozenInstanceError

import pytest

from vetted_mw.grid.factors import load_factors
from vetted_mw.grid.services import SERVICES
from vetted_mw.grid.zones import DEFAULT_MAX_PROXY_SHARE, Area, Zone, load_zones, with_area, zone_of

ZONES = load_zones()
_OF_EIC = string.digits + string.ascii_uppercase + "-"


@pytest.mark.parametrize(
    ("zone", "eic"),
    [
        ("FR", "10YFR-RTE------C"),
        ("SE", "10YSE-1--------K"),
        ("SE_1", "10Y1001A1001A44P"),
        ("SE_2", "10Y1001A1001A45N"),
        ("SE_3", "10Y1001A1001A46L"),
        ("SE_4", "10Y1001A1001A47J"),
        ("FI", "10YFI-1--------U"),
        ("DE_LU", "10Y1001A1001A83F"),
        ("DE", "10Y1001A1001A83F"),
        ("NO_1", "10YNO-1--------2"),
        ("NO_2", "10YNO-2--------T"),
        ("NO_3", "10YNO-3--------J"),
        ("NO_4", "10YNO-4--------9"),
        ("NO_5", "10Y1001A1001A48H"),
        ("NO", "10YNO-0--------C"),
        ("DK_1", "10YDK-1--------W"),
        ("DK_2", "10YDK-2--------M"),
        ("DK", "10Y1001A1001A65H"),
    ],
)
def test_entsoes_word_for_a_zone(zone: str, eic: str) -> None:
    """Its EIC as ENTSO-E lists it; Germany and Luxembourg are asked as Germany, which generation is published for."""
    assert zone_of(zone).areas["entsoe"].name == eic


def _check_character(first_15: str) -> str:
    """Return the check character of an EIC, from ENTSO-E's reference manual."""
    weighted = sum(_OF_EIC.index(one) * weight for one, weight in zip(first_15, range(16, 1, -1), strict=True))
    return _OF_EIC[36 - (weighted - 1) % 37]


@pytest.mark.parametrize("zone", sorted(code for code, one in ZONES.items() if "entsoe" in one.areas))
def test_every_eic_is_whole(zone: str) -> None:
    """Sixteen characters, an area's (Y) from ENTSO-E's own office (10), and the last one checks the others."""
    eic = ZONES[zone].areas["entsoe"].name
    assert len(eic) == 16
    assert eic.startswith("10Y")
    assert _check_character(eic[:15]) == eic[15]


def test_no_two_zones_are_one_area() -> None:
    """Only Germany has two zones, one of them the bidding zone with Luxembourg."""
    asked: dict[str, list[str]] = {}
    for code, one in ZONES.items():
        if "entsoe" in one.areas:
            asked.setdefault(one.areas["entsoe"].name, []).append(code)
    assert [zones for zones in asked.values() if len(zones) > 1] == [["DE_LU", "DE"]]


def test_iceland_is_told_by_iceland() -> None:
    """ENTSO-E and Energy-Charts have nothing for it; its own operator has."""
    assert {source: area.area for source, area in zone_of("IS").areas.items()} == {
        "landsnet": "IS",
        "electricity_maps": "IS",
    }


@pytest.mark.parametrize(
    ("zone", "source", "name", "area"),
    [
        ("DE_LU", "entsoe", "10Y1001A1001A83F", "DE"),
        ("SE_3", "entsoe", "10Y1001A1001A46L", "SE_3"),
        ("SE_3", "energy_charts", "se", "SE"),
        ("SE_3", "statnett", "SE", "SE"),
        ("SE_3", "electricity_maps", "SE-SE3", "SE_3"),
        ("DE_LU", "energy_charts", "de", "DE"),
        ("DE_LU", "electricity_maps", "DE", "DE"),
        ("NO_5", "electricity_maps", "NO-NO5", "NO_5"),
        ("NO_5", "statnett", "NO", "NO"),
        ("DK_1", "energinet", "DK1", "DK_1"),
        ("DK_2", "electricity_maps", "DK-DK2", "DK_2"),
        ("FR", "odre", "FR", "FR"),
        ("FI", "fingrid", "FI", "FI"),
        ("IS", "landsnet", "IS", "IS"),
    ],
)
def test_a_value_says_whose_it_is(zone: str, source: str, name: str, area: str) -> None:
    """Where a service gives a country's value for a zone, the area is the country, in our own words."""
    assert zone_of(zone).areas[source] == Area(name=name, area=area)


@pytest.mark.parametrize(
    ("zone", "min_total_mw", "expected_types", "max_proxy_share"),
    [
        ("FR", 20000, ("B04", "B14"), None),
        ("DE_LU", 20000, ("B02", "B04", "B05", "B19"), 0.45),
        ("SE_3", 3000, ("B14", "B19"), None),
        ("FI", 3000, ("B14", "B19"), None),
        ("IS", 1000, ("B09", "B12"), None),
        ("LU", 0, (), None),
        ("NO_5", 0, (), None),
    ],
)
def test_what_a_zones_data_must_hold(
    zone: str, min_total_mw: float, expected_types: tuple[str, ...], max_proxy_share: float | None
) -> None:
    """What it makes at least, the types it always has, and its own bar for stand-ins where it needs one."""
    found = zone_of(zone)
    assert (found.min_total_mw, found.expected_types) == (min_total_mw, expected_types)
    assert found.max_proxy_share == max_proxy_share
    assert DEFAULT_MAX_PROXY_SHARE == 0.25


@pytest.mark.parametrize("zone", sorted(ZONES))
def test_every_row_is_sound(zone: str) -> None:
    """Its sources are services we know, its types count, its bars are in range."""
    found = ZONES[zone]
    assert found.code == zone
    assert found.areas.keys() <= SERVICES.keys()
    assert found.areas
    assert all(area.name and area.area for area in found.areas.values())
    assert {area.area for area in found.areas.values()} <= ZONES.keys()
    assert found.min_total_mw >= 0
    factors = load_factors()
    assert all(code in factors.factors and factors.counts(code) for code in found.expected_types)
    assert found.max_proxy_share is None or 0 < found.max_proxy_share < 1


def test_a_zone_that_is_not_known_has_no_service() -> None:
    """An operator may name any zone; without a row nobody is asked for it, and nothing is expected of it."""
    assert zone_of("XX_9") == Zone(code="XX_9", areas={}, min_total_mw=0.0, expected_types=(), max_proxy_share=None)
    assert "XX_9" not in ZONES


def test_an_operator_names_an_area() -> None:
    """Of ENTSO-E's word the value is the zone's own; the other services' words, the bars and the shipped table stay."""
    shipped = zone_of("DE_LU")
    named = with_area(shipped, "entsoe", "10Y1001A1001A82H")
    assert named.areas["entsoe"] == Area(name="10Y1001A1001A82H", area="DE_LU")
    assert {source: area for source, area in named.areas.items() if source != "entsoe"} == {
        source: area for source, area in shipped.areas.items() if source != "entsoe"
    }
    assert (named.min_total_mw, named.expected_types, named.max_proxy_share) == (
        shipped.min_total_mw,
        shipped.expected_types,
        shipped.max_proxy_share,
    )
    assert zone_of("DE_LU").areas["entsoe"].name == "10Y1001A1001A83F"
    assert with_area(zone_of("XX_9"), "landsnet", "XX").areas == {"landsnet": Area(name="XX", area="XX")}


@pytest.mark.parametrize(
    ("zone", "source", "name", "area"),
    [
        ("SE_3", "energy_charts", "se", "SE"),
        ("XX", "energy_charts", "se", "SE"),
        ("SE_3", "energy_charts", "de", "DE"),
        ("SE_3", "entsoe", "10YSE-1--------K", "SE_3"),
        ("XX", "entsoe", "10YXX-----------X", "XX"),
        ("DE_LU", "entsoe", "10Y1001A1001A83F", "DE"),
        ("DE_LU", "entsoe", "10Y1001A1001A82H", "DE_LU"),
        ("SE_3", "electricity_maps", "SE", "SE"),
        ("SE_3", "electricity_maps", "SE-SE4", "SE_4"),
        ("IT", "electricity_maps", "IT-NO", "IT-NO"),
        ("SE_3", "electricity_maps", "US-CAR-DUK", "US-CAR-DUK"),
        ("SE_3", "electricity_maps", "SE-NO1", "SE-NO1"),
        ("DK_1", "energinet", "DK2", "DK_2"),
        ("SE_3", "statnett", "NO", "NO"),
        ("SE_3", "statnett", "7", "7"),
        ("SE_3", "statnett", "-", "-"),
    ],
)
def test_an_operators_word_is_of_the_place_it_names(zone: str, source: str, name: str, area: str) -> None:
    """As the table's own: a country's value is the country's whoever names it, and the table's word stays what it is."""
    assert with_area(zone_of(zone), source, name).areas[source] == Area(name=name, area=area)


def test_the_table_cannot_be_changed() -> None:
    """It is read once and shared, so nobody writes to it."""
    assert load_zones() is ZONES
    with pytest.raises(TypeError):
        ZONES["FR"] = ZONES["FI"]  # type: ignore[index]
    with pytest.raises(TypeError):
        ZONES["FR"].areas["entsoe"] = Area(name="x", area="x")  # type: ignore[index]
    with pytest.raises(FrozenInstanceError):
        ZONES["FR"].code = "FI"  # type: ignore[misc]
