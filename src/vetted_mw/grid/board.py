"""The latest signal of each zone, with one owner. Signals age on the board; nothing ever stamps them anew."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from cachetools import LRUCache

from vetted_mw.errors import ConfigurationError
from vetted_mw.grid.signal import GridSignal, Ineligible, SignalKind, SignalReading, read_at

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

__all__ = ["SignalBoard", "SignalSource", "SourceState"]

_LOG = logging.getLogger("vetted_mw")
_MAX_SIGNALS = 4096
_UNUSABLE = frozenset({Ineligible.FUTURE_DATED, Ineligible.NOT_A_NUMBER})


class SignalSource(Protocol):
    """One place signals come from.

    The board calls `readings` every `refresh_seconds`, one call at a time, never on a request's path. It may wait, and
    may raise anything: the board notes the failure by its type, keeps what it has, and asks again later. The signals
    returned replace the source's earlier ones for the same zones; a source that `is_complete` returns all it knows, so
    that what is missing is gone.
    """

    @property
    def name(self) -> str:
        """The settings' word for it, `file`."""
        ...

    @property
    def refresh_seconds(self) -> float:
        """How often it is asked."""
        ...

    @property
    def is_complete(self) -> bool:
        """Whether an answer holds all it knows."""
        ...

    @property
    def is_local(self) -> bool:
        """Whether asking it touches no network, so that opening may wait for the first answer."""
        ...

    async def readings(self) -> Sequence[GridSignal]:
        """Return what it knows now."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceState:
    """How a source has fared.

    Attributes:
        succeeded_at: when it last answered.
        failed_at: when it last failed.
        error: the type of that failure; its text is not kept, a URL in it could hold a token.
        failures: failures since the last answer.
    """

    succeeded_at: datetime | None = None
    failed_at: datetime | None = None
    error: str | None = None
    failures: int = 0


class SignalBoard:
    """Owns the latest signals and asks their sources.

    Args:
        sources: asked in the background once the board is open.
        chains: zone -> source names, first live-eligible wins; every source in order for a zone not named.
        now: wall clock, aware UTC.

    Raises:
        ConfigurationError: two sources have one name, so that one would hide the other, or a chain names none of them.
    """

    def __init__(
        self, sources: Sequence[SignalSource], *, chains: Mapping[str, tuple[str, ...]], now: Callable[[], datetime]
    ) -> None:
        self._sources = {source.name: source for source in sources}
        if len(self._sources) != len(sources):
            raise ConfigurationError(
                "two signal sources have the same name.", field="signals", remedy="Give each a name of its own."
            )
        self._require_known(chains)
        self._chains = chains
        self._now = now
        self._signals: LRUCache[tuple[str, str, SignalKind], GridSignal] = LRUCache(maxsize=_MAX_SIGNALS)
        self._states = {name: SourceState() for name in self._sources}
        self._tasks: list[asyncio.Task[None]] = []

    def _require_known(self, chains: Mapping[str, tuple[str, ...]]) -> None:
        for zone, names in chains.items():
            if not set(names) <= self._sources.keys():
                raise ConfigurationError(
                    "names a source that there is not.",
                    field=f"signals.chains.{zone}",
                    remedy=f"Known sources: {', '.join(self._sources) or 'none; configure [signals.sources]'}.",
                )

    async def open(self) -> None:
        """Start asking. Local sources are asked once before this returns; no source's failure is a reason to fail."""
        for source in self._sources.values():
            if source.is_local:
                await self.refresh(source.name)
        empty = contextvars.Context()
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._repeat(source), context=empty) for source in self._sources.values()]

    async def close(self) -> None:
        """Stop asking; what is on the board stays and ages."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def refresh(self, name: str) -> None:
        """Ask one source now and note how it fared."""
        source = self._sources[name]
        try:
            self._put(source, await source.readings())
        except Exception as error:  # noqa: BLE001 (a source may raise or return anything; it costs a refresh, never a request)
            self._failed(name, error)
            return
        self._states[name] = SourceState(succeeded_at=self._now())

    def best(self, zone: str, now: datetime) -> SignalReading | None:
        """Return the zone's reading at `now`: the chain's first live-eligible one, else the most telling other one."""
        readings = [read_at(signal, now) for signal in self._of_zone(zone)]
        live = next((reading for reading in readings if reading.live_eligible), None)
        if live is not None or not readings:
            return live
        return min(readings, key=lambda reading: (reading.signal.kind is not SignalKind.MEASURED, reading.age_minutes))

    def all_readings(self, now: datetime) -> tuple[SignalReading, ...]:
        """Return everything on the board at `now`."""
        return tuple(read_at(signal, now) for signal in self._signals.values())

    def states(self) -> Mapping[str, SourceState]:
        """Return how each source has fared."""
        return MappingProxyType(dict(self._states))

    def _of_zone(self, zone: str) -> list[GridSignal]:
        names = self._chains.get(zone, tuple(self._sources))
        keys = ((name, zone, kind) for name in names for kind in SignalKind)
        return [signal for key in keys if (signal := self._signals.get(key)) is not None]

    def _put(self, source: SignalSource, signals: Sequence[GridSignal]) -> None:
        now = self._now()
        latest: dict[tuple[str, str, SignalKind], GridSignal] = {}
        for signal in signals:
            key = (source.name, signal.zone, signal.kind)
            if key not in latest or _rank(signal, now) >= _rank(latest[key], now):
                latest[key] = signal
        if source.is_complete:
            for key in [key for key in self._signals if key[0] == source.name and key not in latest]:
                del self._signals[key]
        for key, signal in latest.items():
            known = self._signals.get(key)
            if known is None or source.is_complete or _rank(signal, now) >= _rank(known, now):
                self._signals[key] = signal

    def _failed(self, name: str, error: Exception) -> None:
        state = self._states[name]
        if state.error != type(error).__name__:  # an answer clears it, so each outage is told once
            _LOG.warning("a signal source failed", extra={"source": name, "error": type(error).__name__})
        self._states[name] = replace(
            state, failed_at=self._now(), error=type(error).__name__, failures=state.failures + 1
        )

    async def _repeat(self, source: SignalSource) -> None:
        if not source.is_local:
            await self.refresh(source.name)
        while True:
            await asyncio.sleep(source.refresh_seconds)
            await self.refresh(source.name)


def _rank(signal: GridSignal, now: datetime) -> tuple[bool, datetime]:
    """Order by time; a value dated ahead of `now`, or that is none, never displaces one that could decide."""
    return read_at(signal, now).ineligible not in _UNUSABLE, signal.observed_at
