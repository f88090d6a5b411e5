"""The methods that receipts name by their digests: those this software ships, and those a pack brings along."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from vetted_mw.errors import ConfigurationError
from vetted_mw.receipts.coefficients import load_coefficients
from vetted_mw.receipts.engines import engine_named
from vetted_mw.receipts.recomputed import NotRecomputableError, recompute
from vetted_mw.receipts.shipped import versions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vetted_mw.receipts.coefficients import Coefficients

__all__ = ["Methods", "digests_of", "figure_faults", "figures_of", "is_taken_as_told"]

_TOLERANCE = 1e-5
"""Figures and what they are made from are told with six significant digits."""
_TINY = 1e-12
_PEDIGREE = "pedigree_score"


@dataclass(frozen=True, slots=True, kw_only=True)
class Methods:
    """Coefficients by their digest.

    Attributes:
        brought: those that came with the receipts, by digest.
    """

    brought: Mapping[str, Coefficients] = field(default_factory=lambda: MappingProxyType({}))

    def of(self, digest: str) -> Coefficients | None:
        """Return the coefficients with this digest, the shipped ones first; None when nobody has them."""
        return _shipped().get(digest) or self.brought.get(digest)


def digests_of(coefficients: Coefficients) -> set[str]:
    """Return every `coefficients_digest` that receipts made with these coefficients carry."""
    return {coefficients.digest} | {engine.digest for engine in coefficients.engines.values()}


@cache
def _shipped() -> Mapping[str, Coefficients]:
    loaded = [load_coefficients(version) for version in versions()]
    return MappingProxyType({digest: one for one in loaded for digest in digests_of(one)})


def is_taken_as_told(energy_source: str, coefficients: Coefficients) -> bool:
    """Whether the energy is the work of another package's engine that is not here in the version the receipt names."""
    wanted, ours = coefficients.engines.get(energy_source), load_coefficients().engines.get(energy_source)
    if wanted is None:
        return False
    return ours is None or wanted.package != ours.package or not _is_installed(energy_source)


@cache
def _is_installed(engine: str) -> bool:
    try:
        engine_named(engine)
    except ConfigurationError:
        return False
    return True


def figures_of(receipt: Mapping[str, Any], coefficients: Coefficients) -> dict[str, float] | None:
    """Return the figures that follow from a receipt's own fields; None when none can be computed from them.

    Args:
        receipt: its members, whose types are right.
        coefficients: those it names.
    """
    try:
        return recompute(receipt, coefficients)
    except NotRecomputableError:
        return None


def figure_faults(
    receipt: Mapping[str, Any], figures: Mapping[str, float], coefficients: Coefficients
) -> Iterator[str]:
    """Say which figures a receipt tells otherwise than they follow from it.

    Args:
        receipt: its members.
        figures: those that follow.
        coefficients: by which they do.
    """
    for name, value in figures.items():
        told = receipt.get(name)
        if not isinstance(told, (int, float)):
            yield f"{name} is not told, and {value:.6g} follows from the receipt's own fields"
        elif not _agree(told, value) and not (name == _PEDIGREE and _was_rounded_away(receipt, coefficients)):
            yield f"{name} is {told:g}, and {value:.6g} follows from the receipt's own fields"


def _agree(told: float, value: float) -> bool:
    return math.isclose(told, value, rel_tol=_TOLERANCE, abs_tol=_TINY)


def _was_rounded_away(receipt: Mapping[str, Any], coefficients: Coefficients) -> bool:
    """Whether a pedigree score, told with one decimal, is off because the shares it weighs are rounded themselves."""
    operational = receipt["gco2e_operational"]
    near = ({**receipt, "gco2e_operational": operational * factor} for factor in (1 - _TOLERANCE, 1 + _TOLERANCE))
    return any(_agree(receipt[_PEDIGREE], recompute(one, coefficients)[_PEDIGREE]) for one in near)
