"""What the caller asked for, from the body's `vetted` member and the `x-vetted-*` headers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Boundary", "Options", "Routing", "Tier"]


class Routing(StrEnum):
    """The `routing` option."""

    DEFAULT = "default"
    CARBON_AWARE = "carbon_aware"


class Tier(StrEnum):
    """The `tier` option; `proxy` can be a receipt's tier but is never asked for."""

    AUTO = "auto"
    PARAMETRIC = "parametric"
    TELEMETRY = "telemetry"


class Boundary(StrEnum):
    """The `boundary` option."""

    COMPREHENSIVE = "comprehensive"
    NARROW = "narrow"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the caller asked for; an absent option is None.

    Attributes:
        region: the pin.
        secondary_region: the documented secondary, only with `region`.
        routing: default or carbon-aware; None takes the operator's default.
        latency_budget_ms: network p95 in ms.
        tier: how the receipt is to be made.
        boundary: what it is to include.
    """

    region: str | None = None
    secondary_region: str | None = None
    routing: Routing | None = None
    latency_budget_ms: int | None = None
    tier: Tier = Tier.AUTO
    boundary: Boundary = Boundary.COMPREHENSIVE
