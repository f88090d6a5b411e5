"""The policies a fault is met with, and which regions each allows, in order."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["INTENSITIES", "REGIONS", "STRANGER", "Policy"]

_PARIS, _PARIS_2, _GRAVELINES = "scaleway-par-1", "scaleway-par-2", "ovh-gra-1"
_STOCKHOLM, _ICELAND = "atnorth-sto-1", "atnorth-isl-1"

STRANGER = "ovh-rbx-1"
"""Configured and well, and in no policy: nobody may contact it."""

REGIONS = (_PARIS, _PARIS_2, _GRAVELINES, _STOCKHOLM, _ICELAND, STRANGER)
INTENSITIES = {"SE_3": 12.0, "IS": 18.0}
"""Live signals, in gCO2e/kWh: two regions compete by them, those of the default order have none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rules:
    """What a policy means.

    Attributes:
        label: its name in test ids.
        vetted: the request's options.
        order: the regions that may be contacted, in this order and no other.
        faulty: those of them that play the fault.
    """

    label: str
    order: tuple[str, ...]
    faulty: tuple[str, ...]
    vetted: Mapping[str, Any] = field(default_factory=dict)


_DEFAULT_ORDER = (_PARIS, _PARIS_2, _GRAVELINES)


class Policy(Enum):
    """How a request asks to be routed, and where the fault is met."""

    DEFAULT = _Rules(label="default", order=_DEFAULT_ORDER, faulty=(_PARIS,))
    EVERYWHERE = _Rules(label="default-all-faulty", order=_DEFAULT_ORDER, faulty=_DEFAULT_ORDER)
    PINNED = _Rules(label="pinned", vetted={"region": _PARIS}, order=(_PARIS,), faulty=(_PARIS,))
    SECONDARY = _Rules(
        label="pinned-with-secondary",
        vetted={"region": _PARIS, "secondary_region": _GRAVELINES},
        order=(_PARIS, _GRAVELINES),
        faulty=(_PARIS,),
    )
    CARBON_AWARE = _Rules(
        label="carbon-aware",
        vetted={"routing": "carbon_aware"},
        order=(_STOCKHOLM, _ICELAND, *_DEFAULT_ORDER),
        faulty=(_STOCKHOLM, _ICELAND),
    )

    @property
    def is_pin(self) -> bool:
        """Whether it names its region."""
        return "region" in self.value.vetted

    def __str__(self) -> str:
        return self.value.label
