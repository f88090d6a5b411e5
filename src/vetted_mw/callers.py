"""Who asks, and how that narrows the operator's rules. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vetted_mw.routing.decision import Rules

__all__ = ["ANYONE", "Caller", "narrowed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A caller as the host application's `identify` or the settings' `[callers]` know it.

    Attributes:
        name: for the operator's eyes; never on a metric.
        allowed_regions: codes it may use; None for all the operator allows.
        allowed_countries: ISO codes it may use; None for all the operator allows.
        require_region: its requests must name their region.
        carbon_aware: whether it may ask for carbon-aware routing.
        admin: whether it may read others' receipts.
    """

    name: str
    allowed_regions: frozenset[str] | None = None
    allowed_countries: frozenset[str] | None = None
    require_region: bool = False
    carbon_aware: bool = True
    admin: bool = False


ANYONE = Caller(name="")
"""The caller where nobody asks who it is: a loopback gateway, or one inside the application's own authentication."""


def narrowed(rules: Rules, caller: Caller) -> Rules:
    """Return the operator's rules with the caller's on top; a caller can only narrow."""
    return replace(
        rules,
        allowed_regions=_both(rules.allowed_regions, caller.allowed_regions),
        allowed_countries=_both(rules.allowed_countries, caller.allowed_countries),
        require_region=rules.require_region or caller.require_region,
        carbon_aware=rules.carbon_aware and caller.carbon_aware,
    )


def _both(first: frozenset[str] | None, second: frozenset[str] | None) -> frozenset[str] | None:
    if second is None:
        return first
    asked = frozenset(second)  # of an application's own making: a set or a list does as well
    return asked if first is None else first & asked
