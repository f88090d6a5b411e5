"""Signals of the tests: one instant, and values by their age at it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from vetted_mw.grid.signal import GridSignal, Method, SignalKind, SignalReading, read_at

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NOW = datetime(2026, 11, 22, 10, 31, 7, tzinfo=UTC)
LIFECYCLE = Method(accounting="production", basis="lifecycle", kind="average", factor_set="ar5_v1")
DIRECT = Method(accounting="production", basis="direct", kind="average", factor_set="direct_v1")


def signal(gco2: float = 50.0, *, zone: str = "FR", age: float = 0.0, **members: Any) -> GridSignal:
    """Return a measured value of `zone` whose interval ended `age` minutes before `NOW`."""
    given: dict[str, Any] = {
        "source": "entsoe_derived_live",
        "zone": zone,
        "area": zone,
        "kind": SignalKind.MEASURED,
        "gco2_per_kwh": gco2,
        "observed_at": NOW - timedelta(minutes=age),
        "fetched_at": NOW,
        "max_age_minutes": 180.0,
        "method": LIFECYCLE,
    }
    return GridSignal(**(given | members))


def reading(gco2: float = 50.0, *, zone: str = "FR", age: float = 0.0, **members: Any) -> SignalReading:
    """Return the same as it is seen at `NOW`."""
    return read_at(signal(gco2, zone=zone, age=age, **members), NOW)


class ScriptedSource:
    """A `SignalSource` that answers from a script, whose last line it repeats; a line that is an exception is raised."""

    def __init__(
        self,
        *script: Sequence[GridSignal] | Exception,
        name: str = "scripted",
        complete: bool = False,
        local: bool = True,
        refresh_seconds: float = 3600.0,
        asked: Callable[[int], None] = lambda _count: None,
    ) -> None:
        self.name = name
        self.refresh_seconds = refresh_seconds
        self.is_complete = complete
        self.is_local = local
        self.calls = 0
        self._script = script
        self._asked = asked

    async def readings(self) -> Sequence[GridSignal]:
        """Return or raise the script's next line."""
        line = self._script[min(self.calls, len(self._script) - 1)]
        self.calls += 1
        self._asked(self.calls)
        if isinstance(line, Exception):
            raise line
        return line
