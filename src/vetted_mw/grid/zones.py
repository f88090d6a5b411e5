"""What grid services call our zones, and what a zone's data must hold to be believed: a data file. Pure."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DEFAULT_MAX_PROXY_SHARE", "Area", "Zone", "load_zones", "with_area", "zone_of"]

DEFAULT_MAX_PROXY_SHARE = 0.25
_BIDDING_ZONE = re.compile(r"(?:([A-Z]{2})-(?=\1))?(?P<country>[A-Z]{2})(?P<number>[0-9])")
_BARS = ("min_total_mw", "expected_types", "max_proxy_share")


class Area(msgspec.Struct, frozen=True, kw_only=True):
    """One service's word for the place whose value it gives for a zone.

    Attributes:
        name: as the service writes it, `10YFR-RTE------C`.
        area: what the value is really of, in our words, `SE` for a country's value used for `SE_3`.
    """

    name: str
    area: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Zone:
    """A zone as its signals are judged.

    Attributes:
        code: `SE_3`.
        areas: source name -> the service's own word for it; a source that is not there has nothing for the zone.
        min_total_mw: a mix below it is not believed.
        expected_types: PSR codes without which an interval is incomplete.
        max_proxy_share: share (0..1) of stand-in factors up to which a value may decide; None for the default bar.
    """

    code: str
    areas: Mapping[str, Area]
    min_total_mw: float = 0.0
    expected_types: tuple[str, ...] = ()
    max_proxy_share: float | None = None


@cache
def load_zones() -> Mapping[str, Zone]:
    """Read the shipped table."""
    data = files("vetted_mw.grid").joinpath("data/zones.toml").read_bytes()
    return MappingProxyType({code: _zone(code, row) for code, row in tomllib.loads(data.decode()).items()})


def zone_of(code: str) -> Zone:
    """Return what is known of a zone; one that is not in the table has no service."""
    return load_zones().get(code) or Zone(code=code, areas=MappingProxyType({}))


def with_area(zone: Zone, source: str, name: str) -> Zone:
    """Return `zone` with the operator's word for it at `source`; it is of the place it names, as the table's are."""
    shipped = zone.areas.get(source)
    if shipped is not None and shipped.name == name:
        return zone
    areas = dict(zone.areas) | {source: Area(name=name, area=_area(zone.code, source, name))}
    return replace(zone, areas=MappingProxyType(areas))


def _zone(code: str, row: dict[str, Any]) -> Zone:
    named = {key: value for key, value in row.items() if key not in _BARS and not key.endswith("_area")}
    return Zone(
        code=code,
        areas=MappingProxyType(
            {
                source: Area(name=name, area=row.get(f"{source}_area") or _area(code, source, name))
                for source, name in named.items()
            }
        ),
        min_total_mw=float(row.get("min_total_mw", 0.0)),
        expected_types=tuple(row.get("expected_types", ())),
        max_proxy_share=row.get("max_proxy_share"),
    )


def _area(code: str, source: str, name: str) -> str:
    """Say what a service's value is really of: ENTSO-E's is the zone's own, the others' is what they name."""
    if source == "entsoe":
        return code
    return name.upper() if source == "energy_charts" else _our_word(name)


def _our_word(name: str) -> str:
    """Write `SE-SE3` and `DK1` as we do: `SE_3`, `DK_1`; what is not of that form stays, `IT-NO` being no Norway."""
    found = _BIDDING_ZONE.fullmatch(name)
    return name if found is None else f"{found['country']}_{found['number']}"
