"""The catalogue as the operator changed it: shipped regions, regions of their own, every one checked for EU/EEA."""

from __future__ import annotations

from dataclasses import fields, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from vetted_mw.errors import ConfigurationError
from vetted_mw.routing.regions import Region, checked_country, load_catalogue
from vetted_mw.settings import texts
from vetted_mw.settings.refusal import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from vetted_mw.settings.schema import RegionSettings

__all__ = ["catalogue_of", "require_code", "require_known"]

_REGION_FACTS = frozenset(field.name for field in fields(Region)) - {"code", "shipped", "note"}


def catalogue_of(written: Mapping[str, RegionSettings]) -> Mapping[str, Region]:
    """Return the catalogue: the shipped regions as the operator changed them, then the operator's own."""
    catalogue = dict(load_catalogue())
    for code, settings in written.items():
        catalogue[code] = _region(code, settings, catalogue.get(code))
    for region in catalogue.values():
        checked_country(region.country, region=region.code)
    return MappingProxyType(catalogue)


def _region(code: str, settings: RegionSettings, shipped: Region | None) -> Region:
    facts = {name: value for name in _REGION_FACTS if (value := getattr(settings, name)) is not None}
    if shipped is not None:
        if "annual_gco2_per_kwh" in facts:
            # The operator's own figure: nothing the shipped table says of its own is true of it.
            facts = {"annual_year": None, "annual_source": "", "annual_basis": "unknown"} | facts
        return replace(shipped, **facts, shipped=shipped.shipped and "annual_gco2_per_kwh" not in facts)
    require_code(code)
    for name in ("provider", "site", "country"):
        if name not in facts:
            like = nearest(code, load_catalogue())
            hint = "" if like is None else f" If you meant the shipped region {like}, write its code exactly."
            raise ConfigurationError(
                "is missing: a region that is not shipped needs provider, site and country.",
                field=f"regions.{code}.{name}",
                remedy=f"Set it.{hint}",
            )
    return Region(**({"location": facts["site"]} | facts | {"code": code}))


def require_code(code: str, *, table: str = "regions") -> None:
    """Refuse a name that could not travel in headers, logs and environment names."""
    try:
        texts.code(code)
    except ValueError:
        raise ConfigurationError(
            f"the name of a table in [{table}] is not usable.",
            field=table,
            remedy="Use up to 64 letters, digits, '-', '_' and '.', with a letter or digit at both ends.",
        ) from None


def require_known(codes: Iterable[str], regions: Mapping[str, Region], *, field: str) -> None:
    """Refuse a code that is not in the catalogue, with the nearest that is."""
    for code in codes:
        if code not in regions:
            like = nearest(code, regions)
            hint = "" if like is None else f"Did you mean {like}? "
            raise ConfigurationError(
                "names a region that is not in the catalogue.",
                field=field,
                remedy=f"{hint}Known: {', '.join(regions)}.",
            )
