"""A generation mix as a carbon intensity: the one factor set, a data file, and the sum over it. Pure."""

from __future__ import annotations

import hashlib
import tomllib
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from vetted_mw.grid.signal import Method

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Factor", "FactorSet", "Intensity", "factors_file", "intensity_of", "load_factors", "mix_method"]

_FILE = "ar5_v1.toml"


class Factor(msgspec.Struct, frozen=True, kw_only=True):
    """What one generation type emits.

    Attributes:
        code: ENTSO-E PSR code, `B14`.
        name: in words.
        gco2_per_kwh: gCO2e per kWh.
        proxy: whether it is another fuel's factor, standing in.
        source: where it was published.
        year: when.
        quality: `published` or `proxy`.
    """

    code: str
    name: str
    gco2_per_kwh: float
    proxy: bool
    source: str
    year: int
    quality: str


class FactorSet(msgspec.Struct, frozen=True, kw_only=True):
    """One versioned table of factors.

    Attributes:
        id: `ar5_v1`; part of every method made with it.
        digest: sha-256 of the file, `sha-256:<hex>`.
        basis: life-cycle or direct emissions.
        factors: code -> factor.
        overrides: (zone, code) -> the factor that holds in that zone.
        excluded: storage, in neither sum.
        ignored: codes that are no generation.
        unknown_as: the code whose factor an unknown code gets.
    """

    id: str
    digest: str
    basis: Literal["lifecycle", "direct"]
    factors: Mapping[str, Factor]
    overrides: Mapping[tuple[str, str], Factor]
    excluded: frozenset[str]
    ignored: frozenset[str]
    unknown_as: str

    def counts(self, code: str) -> bool:
        """Whether a generation type is part of the sums."""
        return code not in self.excluded and code not in self.ignored

    def factor(self, code: str, zone: str) -> Factor:
        """Return the factor of `code` in `zone`; a code that is not known gets a stand-in, never an error."""
        known = code if code in self.factors else self.unknown_as
        return self.overrides.get((zone, known), self.factors[known])


class Intensity(msgspec.Struct, frozen=True, kw_only=True):
    """What a mix amounts to.

    Attributes:
        gco2_per_kwh: gCO2e/kWh.
        proxy_share: share (0..1) of the energy whose factor is a stand-in, unknown codes included.
        total_mw: what was summed.
    """

    gco2_per_kwh: float
    proxy_share: float
    total_mw: float


def factors_file() -> bytes:
    """Return the shipped factor set as it stands in its file."""
    return files("vetted_mw.grid").joinpath(f"data/{_FILE}").read_bytes()


@cache
def load_factors() -> FactorSet:
    """Read the shipped factor set."""
    data = factors_file()
    table = tomllib.loads(data.decode())
    factors = {code: _factor(code, row) for code, row in table["factors"].items()}
    return FactorSet(
        id=table["id"],
        digest="sha-256:" + hashlib.sha256(data).hexdigest(),
        basis=table["basis"],
        factors=MappingProxyType(factors),
        overrides=MappingProxyType(
            {
                (zone, row["code"]): _factor(row["code"], {"name": factors[row["code"]].name} | row)
                for row in table["override"]
                for zone in row["zones"]
            }
        ),
        excluded=frozenset(table["excluded"]),
        ignored=frozenset(table["ignored"]),
        unknown_as=table["unknown_as"],
    )


def mix_method(factors: FactorSet) -> Method:
    """Return how a value is made that is the sum over a generation mix."""
    return Method(accounting="production", basis=factors.basis, kind="average", factor_set=factors.id)


def intensity_of(mix: Mapping[str, float], factors: FactorSet, zone: str) -> Intensity | None:
    """Sum a mix; None when nothing is generated.

    Args:
        mix: PSR code -> MW. A negative value, a plant that draws more than it makes, counts as 0.
        factors: applied to it.
        zone: some zones have factors of their own.
    """
    total = grams = proxied = 0.0
    for code, megawatts in mix.items():
        made = max(megawatts, 0.0)
        if not factors.counts(code):
            continue
        factor = factors.factor(code, zone)
        total += made
        grams += made * factor.gco2_per_kwh
        if factor.proxy:
            proxied += made
    if total <= 0:
        return None
    return Intensity(gco2_per_kwh=grams / total, proxy_share=proxied / total, total_mw=total)


def _factor(code: str, row: Mapping[str, Any]) -> Factor:
    return Factor(
        code=code,
        name=row["name"],
        gco2_per_kwh=row["value"],
        proxy=row["proxy"],
        source=row["source"],
        year=row["year"],
        quality=row["quality"],
    )
