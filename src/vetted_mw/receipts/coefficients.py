"""The default coefficients as values, with the digests that receipts carry."""

from __future__ import annotations

import hashlib
import math
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from vetted_mw.grid.factors import factors_file
from vetted_mw.rounding import significant

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Coefficients", "GridFallback", "Parametric", "Site", "Spread", "load_coefficients"]

_SECONDS_PER_YEAR = 365 * 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Parametric:
    """Constants of the energy model; see `data/methodology.toml` for the formulas."""

    intercept: float
    active_exponent: float
    weights_exponent: float
    batch_exponent: float
    default_batch: float
    peak_flops: float
    utilisation: float
    prefill_watt: float
    host_ratio: float
    idle_ratio: float
    gpu_watt: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Standard deviations in ln units, one per term of the interval."""

    model: float
    estimated_usage: float
    batch_unknown: float
    prefill: float
    hardware_unknown: float
    host: float
    idle: float
    pue_published: float
    pue_assumed: float
    grid_live_window: float
    grid_fresh: float
    grid_annual: float
    grid_annual_unknown_basis: float
    embodied: float
    ewif: float
    wue: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A data centre's overheads.

    Attributes:
        pue: power usage effectiveness.
        wue_l_per_kwh: on-site water, L/kWh.
        published: whether the operator of the site published them for it.
        pedigree: five scores, 1 best to 5 worst.
    """

    pue: float
    wue_l_per_kwh: float
    published: bool
    pedigree: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GridFallback:
    """The grid figure where nothing else is known."""

    gco2_per_kwh: float
    area: str
    basis: str
    label: str
    year: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Coefficients:
    """Every default a receipt rests on.

    Attributes:
        parametric: the energy model's constants.
        spread: standard deviations, ln units.
        embodied_g_per_gpu_second: embodied g CO2e per GPU-second.
        sites: region code -> overheads.
        unknown_site: overheads of a region not in the table.
        ewif_l_per_kwh: country -> the grid's water, L/kWh.
        ewif_fallback: for every other country.
        water_basis: how that water was counted.
        grid_fallback: the grid figure where nothing else is known.
        pedigrees: five scores per part: `parametric`, `embodied`, `water`, `grid_live`, `grid_annual`.
        methodology_version: semver of the method.
        methodology_digest: sha-256 of `methodology.toml`.
        digest: sha-256 over `coefficients.toml`, `models.toml` and the grid's factor set.
    """

    parametric: Parametric
    spread: Spread
    embodied_g_per_gpu_second: float
    sites: Mapping[str, Site]
    unknown_site: Site
    ewif_l_per_kwh: Mapping[str, float]
    ewif_fallback: float
    water_basis: str
    grid_fallback: GridFallback
    pedigrees: Mapping[str, tuple[int, ...]]
    methodology_version: str
    methodology_digest: str
    digest: str

    def site(self, region: str) -> Site:
        """Return the overheads of `region`, or those of an unknown site."""
        return self.sites.get(region, self.unknown_site)

    def ewif(self, country: str) -> float:
        """Return the grid water of `country` in L/kWh, or the fallback."""
        return self.ewif_l_per_kwh.get(country, self.ewif_fallback)


@cache
def load_coefficients() -> Coefficients:
    """Read the shipped files."""
    raw = {name: _read(name) for name in ("coefficients.toml", "models.toml", "methodology.toml")}
    table = tomllib.loads(raw["coefficients.toml"].decode())
    constants = table["parametric"]
    fallback = table["grid_fallback"]
    pedigree = {"parametric": constants, "embodied": table["embodied"], "water": table["water"]}
    return Coefficients(
        parametric=Parametric(**{name: constants[name] for name in Parametric.__dataclass_fields__}),
        spread=Spread(**{name: math.log(row["value"]) for name, row in table["gsd"].items()}),
        embodied_g_per_gpu_second=_embodied(table["embodied"]),
        sites=MappingProxyType({row["region"]: _site(row) for row in table["site"]}),
        unknown_site=_site(table["unknown_site"]),
        ewif_l_per_kwh=MappingProxyType(table["water"]["ewif_l_per_kwh"]),
        ewif_fallback=table["water"]["fallback"]["ewif_l_per_kwh"],
        water_basis=table["water"]["basis"],
        grid_fallback=GridFallback(**{name: fallback[name] for name in GridFallback.__dataclass_fields__}),
        pedigrees=MappingProxyType(
            {name: tuple(rows["pedigree"]) for name, rows in pedigree.items()}
            | {f"grid_{name}": tuple(scores) for name, scores in table["grid_pedigree"].items()}
        ),
        methodology_version=tomllib.loads(raw["methodology.toml"].decode())["version"],
        methodology_digest=_digest(raw["methodology.toml"]),
        digest=_digest(raw["coefficients.toml"] + raw["models.toml"] + factors_file()),
    )


def _embodied(row: dict[str, Any]) -> float:
    kilograms = row["server_kg"] / row["server_gpus"] + row["gpu_kg"]
    # Rounded here, so that the coefficient a receipt shows is the one its figures used.
    return significant(kilograms * 1000 / (row["life_years"] * _SECONDS_PER_YEAR))


def _site(row: dict[str, Any]) -> Site:
    return Site(
        pue=row["pue"],
        wue_l_per_kwh=row["wue_l_per_kwh"],
        published=row["quality"] == "published",
        pedigree=tuple(row["pedigree"]),
    )


def _read(name: str) -> bytes:
    return files("vetted_mw.receipts").joinpath(f"data/{name}").read_bytes()


def _digest(data: bytes) -> str:
    return "sha-256:" + hashlib.sha256(data).hexdigest()
