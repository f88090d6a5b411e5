"""The coefficients a receipt rests on as values, with the digests that receipts carry."""

from __future__ import annotations

import hashlib
import math
import tomllib
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec

from vetted_mw.receipts.shipped import CURRENT, METHODOLOGY_FILE, TABLES, factor_set_file, version_files, versions
from vetted_mw.rounding import significant

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "Coefficients",
    "Engine",
    "GridFallback",
    "Parametric",
    "Site",
    "Spread",
    "UnreadableMethodologyError",
    "coefficients_for",
    "coefficients_from",
    "load_coefficients",
]

_SECONDS_PER_YEAR = 365 * 86_400


class UnreadableMethodologyError(ValueError):
    """Files that are no methodology of ours. Content-free."""


class Parametric(msgspec.Struct, frozen=True, kw_only=True):
    """Constants of the parametric model; `methodology.toml` has the formulas, `coefficients.toml` the units."""

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


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """Standard deviations in ln units, one per term of the interval; 0 where a version does not have it."""

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
    ecologits: float = 0.0


class Engine(msgspec.Struct, frozen=True, kw_only=True):
    """An energy model of another package.

    Attributes:
        package: name and version, `ecologits==0.11.3`.
        default_batch: requests it takes to be served together where nobody says.
        digest: `coefficients_digest` of receipts it made the figures of.
    """

    package: str
    default_batch: float
    digest: str


class Site(msgspec.Struct, frozen=True, kw_only=True):
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


class GridFallback(msgspec.Struct, frozen=True, kw_only=True):
    """The grid figure where nothing else is known."""

    gco2_per_kwh: float
    area: str
    basis: str
    label: str
    year: int


class Coefficients(msgspec.Struct, frozen=True, kw_only=True):
    """Every default a receipt rests on.

    Attributes:
        parametric: the energy model's constants.
        spread: standard deviations, ln units.
        engines: energy models of other packages, by the name receipts give as `energy_source`.
        embodied_g_per_gpu_second: embodied g CO2e per GPU-second.
        sites: region code -> overheads.
        unknown_site: overheads of a region not in the table.
        ewif_l_per_kwh: country -> the grid's water, L/kWh.
        ewif_fallback: for every other country.
        water_basis: how that water was counted.
        grid_fallback: the grid figure where nothing else is known.
        pedigrees: five scores per part: `parametric`, `embodied`, `water`, `grid_live`, `grid_annual`, and where the
            version has them `measured_gpu`, `measured_node` and the engines by name.
        methodology_version: semver of the method.
        methodology_digest: sha-256 of `methodology.toml`.
        digest: sha-256 over the files with figures and the grid's factor set, one after the other.
    """

    parametric: Parametric
    spread: Spread
    engines: Mapping[str, Engine]
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

    def default_batch(self, energy_source: str) -> float:
        """Return the batch that figures of this source take where nobody says."""
        engine = self.engines.get(energy_source)
        return self.parametric.default_batch if engine is None else engine.default_batch

    def digest_for(self, energy_source: str) -> str:
        """Return the `coefficients_digest` of receipts of this source: another package's version is part of it."""
        engine = self.engines.get(energy_source)
        return self.digest if engine is None else engine.digest

    def pedigree(self, part: str) -> tuple[int, ...]:
        """Return the five scores of a part; of an energy source nobody has scored those of the parametric model."""
        return self.pedigrees.get(part, self.pedigrees["parametric"])


def load_coefficients(version: str = CURRENT) -> Coefficients:
    """Read the shipped files of one version.

    Raises:
        KeyError: no such version is shipped.
    """
    return _shipped(version)


@cache
def coefficients_for(digest: str) -> Coefficients | None:
    """Return the shipped coefficients that a receipt's `coefficients_digest` names; None for any other digest."""
    loaded = map(load_coefficients, versions())
    return next((found for found in loaded if digest in _digests(found)), None)


def coefficients_from(held: Mapping[str, bytes]) -> Coefficients:
    """Read the files of one version, as they are shipped and as evidence packs carry them.

    Args:
        held: file name -> content; names that are none of a methodology's are left alone.

    Raises:
        UnreadableMethodologyError: a file is missing, or is not what it should be.
    """
    try:
        return _loaded(held)
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError):
        raise UnreadableMethodologyError from None


@cache
def _shipped(version: str) -> Coefficients:
    return coefficients_from(version_files(version))


def _digests(coefficients: Coefficients) -> set[str]:
    return {coefficients.digest} | {engine.digest for engine in coefficients.engines.values()}


def _loaded(held: Mapping[str, bytes]) -> Coefficients:
    methodology = held[METHODOLOGY_FILE]
    present = [held[name] for name in TABLES if name in held] + [held[factor_set_file(methodology)]]
    table: dict[str, Any] = {}
    for name in TABLES:
        table |= tomllib.loads(held[name].decode()) if name in held else {}
    fallback = table["grid_fallback"]
    ewif, ewif_fallback, basis = _water(table)
    return Coefficients(
        parametric=Parametric(**{name: float(_value(table["parametric"][name])) for name in _names(Parametric)}),
        spread=Spread(**{name: math.log(row["value"]) for name, row in table["gsd"].items()}),
        engines=_engines(table.get("engine", {}), b"".join(present)),
        embodied_g_per_gpu_second=_embodied({name: _value(row) for name, row in table["embodied"].items()}),
        sites=MappingProxyType({row["region"]: _site(row) for row in table["site"]}),
        unknown_site=_site(table["unknown_site"]),
        ewif_l_per_kwh=MappingProxyType(ewif),
        ewif_fallback=ewif_fallback,
        water_basis=basis,
        grid_fallback=GridFallback(**{name: fallback[name] for name in _names(GridFallback)}),
        pedigrees=MappingProxyType(_pedigrees(table)),
        methodology_version=tomllib.loads(methodology.decode())["version"],
        methodology_digest=_digest(methodology),
        digest=_digest(b"".join(present)),
    )


def _names(kind: type[Parametric | GridFallback]) -> tuple[str, ...]:
    return tuple(kind.__struct_fields__)


def _value(row: Any) -> Any:
    """Return a row's value; in the first version several stood under one source."""
    return row["value"] if isinstance(row, dict) else row


def _water(table: Mapping[str, Any]) -> tuple[dict[str, float], float, str]:
    if "ewif" in table:
        rows = {row["country"]: float(row["value"]) for row in table["ewif"]}
        return rows, float(table["ewif_fallback"]["value"]), table["basis"]
    water = table["water"]
    return dict(water["ewif_l_per_kwh"]), float(water["fallback"]["ewif_l_per_kwh"]), water["basis"]


def _pedigrees(table: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    if "pedigree" in table:
        return {name: tuple(row["scores"]) for name, row in table["pedigree"].items()}
    parts = {name: tuple(table[name]["pedigree"]) for name in ("parametric", "embodied", "water")}
    return parts | {f"grid_{name}": tuple(scores) for name, scores in table["grid_pedigree"].items()}


def _engines(rows: Mapping[str, Any], present: bytes) -> Mapping[str, Engine]:
    return MappingProxyType(
        {
            name: Engine(
                package=row["package"],
                default_batch=float(row["value"]),
                digest=_digest(present + row["package"].encode()),
            )
            for name, row in rows.items()
        }
    )


def _embodied(row: Mapping[str, Any]) -> float:
    kilograms = row["server_kg"] / row["server_gpus"] + row["gpu_kg"]
    # Rounded here, so that the coefficient a receipt shows is the one its figures used.
    return significant(kilograms * 1000 / (row["life_years"] * _SECONDS_PER_YEAR))


def _site(row: Mapping[str, Any]) -> Site:
    return Site(
        pue=row["pue"],
        wue_l_per_kwh=row["wue_l_per_kwh"],
        published=row["quality"] == "published",
        pedigree=tuple(row["pedigree"]),
    )


def _digest(data: bytes) -> str:
    return "sha-256:" + hashlib.sha256(data).hexdigest()
