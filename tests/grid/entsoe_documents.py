"""ENTSO-E documents as the tests need them: small, made up, and wrong in one place at a time."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from vetted_mw.grid.sources.terms import Terms

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FRANCE = "10YFR-RTE------C"
GENERATION = "urn:iec62325.351:tc57wg16:451-6:generationloaddocument:3:0"
ACKNOWLEDGEMENT = "urn:iec62325.351:tc57wg16:451-1:acknowledgementdocument:7:0"
FETCHED_AT = datetime(2025, 10, 24, 13, 21, 7, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Period:
    """One Period, its points as they are written: position and quantity in words."""

    start: str
    end: str
    resolution: str
    points: tuple[tuple[str, str], ...]


def terms(zone: str = "FR", name: str = FRANCE, **members: Any) -> Terms:
    """Return the terms a document is read on."""
    return Terms(
        source="entsoe_derived_live", zone=zone, area=zone, name=name, **({"max_age_minutes": 180.0} | members)
    )


def period(
    start: str,
    megawatts: Sequence[float | str | None] | Mapping[int, float],
    *,
    minutes: int = 60,
    end: str | None = None,
    resolution: str | None = None,
) -> Period:
    """Return a Period from `start` (`2025-10-24T11:00Z`).

    Args:
        start: as it is written.
        megawatts: one value per step, None for a point that is left out; or position (from 1) -> value.
        minutes: length of a step.
        end: where it is not the end of the last step.
        resolution: where it is written otherwise than `PT60M`.
    """
    points = megawatts if not isinstance(megawatts, list) else dict(enumerate(megawatts, 1))
    assert not isinstance(points, list)
    if end is None:
        last = datetime.fromisoformat(start) + timedelta(minutes=minutes * len(points))  # type: ignore[arg-type]
        end = f"{last:%Y-%m-%dT%H:%MZ}"
    return Period(
        start=start,
        end=end,
        resolution=f"PT{minutes}M" if resolution is None else resolution,
        points=tuple((str(position), str(value)) for position, value in points.items() if value is not None),  # type: ignore[union-attr]
    )
