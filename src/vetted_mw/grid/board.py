"""The latest signal of each zone, with one owner. Signals age on the board; nothing ever stamps them anew."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from cachetools import LRUCache

from vetted_mw.errors import ConfigurationError
from vetted_mw.grid.absence import NoSignal
from vetted_mw.grid.services import require_sources
from vetted_mw.grid.schedule import OPENS_AFTER, next_pause
from vetted_mw.grid.signal import GridSignal, Ineligible, SignalKind, SignalReading, read_at

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
    from datetime import datetime

__all__ = ["Absence", "SignalBoard", "SignalSource", "SourceState"]

_Key: TypeAlias = tuple[str, str, SignalKind]
"""Name of the source, zone, kind."""

_LOG = logging.getLogger("vetted_mw")
_MAX_SIGNALS = 4096
_UNUSABLE = frozenset({Ineligible.FUTURE_DATED, Ineligible.NOT_A_NUMBER})


class SignalSource(Protocol):
    """One place signals come from.

    The board calls `readings` every `refresh_seconds`, sooner after a failure and later where the source asked for
    it, one call at a time, never on a request's path. It may wait, and may raise anything: the board notes the failure
    by its type, keeps what it has, and asks again later. The signals returned replace the source's earlier ones for the
    same zones; a `NoSignal` tells of a zone why there is none now and leaves an earlier signal to age. A source that
    `is_complete` returns all it knows, so that what is missing is gone. One that has `least_pause_seconds` is never
    asked sooner than that after the last time.
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

    async def readings(self) -> Sequence[GridSignal | NoSignal]:
        """Return what it knows now, and of which zone it knows nothing."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceState:
    """How a source has fared.

    Attributes:
        succeeded_at: when it last answered with a signal, or with the word that it has none.
        failed_at: when it last failed.
        error: why, in one word: a `NoSignalReason`, or the type of what it raised. No text is kept: a URL in it could
            hold a key.
        failures: failures since the last answer.
        is_transient: whether that failure is of a kind that asking again soon may mend.
        retry_after_seconds: how long it asked, in its last answer, to be left alone.
    """

    succeeded_at: datetime | None = None
    failed_at: datetime | None = None
    error: str | None = None
    failures: int = 0
    is_transient: bool = True
    retry_after_seconds: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether its breaker is open: it is only probed until it answers."""
        return self.failures >= OPENS_AFTER


@dataclass(frozen=True, slots=True, kw_only=True)
class Absence:
    """Why a source has nothing new for a zone.

    Attributes:
        source: the source's name, `entsoe`.
        told: the reason and what it was about.
        since: when it first gave this reason, without a signal in between.
    """

    source: str
    told: NoSignal
    since: datetime


class SignalBoard:
    """Owns the latest signals and asks their sources.

    Args:
        sources: asked in the background once the board is open, each by a task of its own.
        chains: zone -> source names, first live-eligible wins; every source in order for a zone not named.
        now: wall clock, aware UTC.
        jitter: a number in [0, 1) that spreads the refreshes of several processes.
        sleep: waits between two refreshes.

    Raises:
        ConfigurationError: two sources have one name, so that one would hide the other, or a chain names none of them.
    """

    def __init__(
        self,
        sources: Sequence[SignalSource],
        *,
        chains: Mapping[str, tuple[str, ...]],
        now: Callable[[], datetime],
        jitter: Callable[[], float] = lambda: 0.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._sources = {source.name: source for source in sources}
        if len(self._sources) != len(sources):
            raise ConfigurationError(
                "two signal sources have the same name.", field="signals", remedy="Give each a name of its own."
            )
        require_sources(chains, self._sources)
        self._chains = chains
        self._now = now
        self._jitter = jitter
        self._sleep = sleep
        self._signals: LRUCache[_Key, GridSignal] = LRUCache(maxsize=_MAX_SIGNALS)
        self._of_zone: dict[str, tuple[GridSignal, ...]] = {}
        self._absences: LRUCache[tuple[str, str, str], Absence] = LRUCache(maxsize=_MAX_SIGNALS)
        self._states = {name: SourceState() for name in self._sources}
        self._flights: dict[str, asyncio.Task[None]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self, *, background: bool = True) -> None:
        """Start asking. Local sources are asked once before this returns; no source's failure is a reason to fail.

        Args:
            background: whether sources are asked from now on; without, only by `refresh`.
        """
        self._flights = {}  # of a loop that was closed without us, perhaps; nothing there will ever end
        for source in self._sources.values():
            if source.is_local:
                await self.refresh(source.name)
        if background:
            self._tasks = [self._task(self._repeat(source)) for source in self._sources.values()]

    async def close(self) -> None:
        """Stop asking; what is on the board stays and ages."""
        tasks, self._tasks = [*self._tasks, *self._flights.values()], []
        self._flights = {}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def refresh(self, name: str) -> None:
        """Ask one source now and note how it fared; whoever asks meanwhile waits for the same answer."""
        flight = self._flights.get(name)
        if flight is None or flight.done():
            flight = self._flights[name] = self._task(self._ask(self._sources[name]))
        await asyncio.shield(flight)

    async def refresh_all(self) -> None:
        """Ask every source now, all at once, and return when each has answered or failed."""
        await asyncio.gather(*(self.refresh(name) for name in self._sources))

    def best(self, zone: str, now: datetime) -> SignalReading | None:
        """Return the zone's reading at `now`: the chain's first live-eligible one, else the most telling other one."""
        readings = self.readings_for(zone, now)
        live = next((reading for reading in readings if reading.live_eligible), None)
        if live is not None or not readings:
            return live
        return min(readings, key=lambda reading: (reading.signal.kind is not SignalKind.MEASURED, reading.age_minutes))

    def readings_for(self, zone: str, now: datetime) -> tuple[SignalReading, ...]:
        """Return what every source of the zone's chain last gave, in the chain's order, at `now`."""
        signals = self._of_zone.get(zone)
        if signals is None:
            signals = self._of_zone[zone] = self._chained(zone)
        return tuple(read_at(signal, now) for signal in signals)

    def absences_for(self, zone: str) -> tuple[Absence, ...]:
        """Return why the sources of the zone's chain have nothing new, of those that have not."""
        names = self.chain(zone)
        found = [one for one in self._absences.values() if one.told.zone == zone and one.source in names]
        return tuple(sorted(found, key=lambda one: names.index(one.source)))

    def name_of(self, signal: GridSignal) -> str:
        """Return the settings' word for the source that gave `signal`; empty when it is no longer on the board."""
        return next((key[0] for key, known in self._signals.items() if known is signal), "")

    def all_readings(self, now: datetime) -> tuple[SignalReading, ...]:
        """Return everything on the board at `now`."""
        return tuple(read_at(signal, now) for signal in self._signals.values())

    def states(self) -> Mapping[str, SourceState]:
        """Return how each source has fared."""
        return MappingProxyType(dict(self._states))

    def chain(self, zone: str) -> tuple[str, ...]:
        """Return the names of the sources a zone takes its signal from, the first that may decide first."""
        return self._chains.get(zone, tuple(self._sources))

    def _chained(self, zone: str) -> tuple[GridSignal, ...]:
        keys = ((name, zone, kind) for name in self.chain(zone) for kind in SignalKind)
        return tuple(signal for key in keys if (signal := self._signals.get(key)) is not None)

    def _put(self, source: SignalSource, signals: Sequence[GridSignal]) -> None:
        now = self._now()
        latest: dict[_Key, GridSignal] = {}
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
        self._of_zone = {}

    def _note(self, source: SignalSource, absences: Sequence[NoSignal], signals: Sequence[GridSignal]) -> None:
        """Keep why there is nothing new, by zone and label, until there is."""
        for told in {(signal.zone, signal.source) for signal in signals}:
            self._absences.pop((source.name, *told), None)
        for absence in absences:
            key = (source.name, absence.zone, absence.source)
            known = self._absences.get(key)
            is_new = known is None or known.told.reason is not absence.reason
            # A source that fails as a whole is told as one; what then still fails alone has not been told.
            is_news = is_new or self._states[source.name].failures > 0
            if is_news and signals and absence.reason.is_failure:
                extra = {"source": source.name, "zone": absence.zone, "error": absence.reason.value}
                _LOG.warning("a signal source has nothing for a zone", extra=extra)
            since = self._now() if known is None or is_new else known.since
            self._absences[key] = Absence(source=source.name, told=absence, since=since)

    async def _ask(self, source: SignalSource) -> None:
        try:
            answers = await source.readings()
            signals = [one for one in answers if not isinstance(one, NoSignal)]
            absences = [one for one in answers if isinstance(one, NoSignal)]
            self._put(source, signals)
            self._note(source, absences, signals)
        except (Exception, asyncio.CancelledError) as error:
            # A source may raise or return anything; it costs a refresh, never a request. A cancel is ours when closing.
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise
            self._failed(source.name, type(error).__name__, is_transient=True, wait=None)
            return
        wait = max((one.retry_after_seconds for one in absences if one.retry_after_seconds is not None), default=None)
        failed = [one.reason for one in absences if one.reason.is_failure]
        if failed and not signals:
            self._failed(source.name, failed[0].value, is_transient=failed[0].is_transient, wait=wait)
        else:
            self._answered(source.name, wait=wait)

    def _answered(self, name: str, *, wait: float | None) -> None:
        if self._states[name].failures:
            _LOG.info("a signal source answers again", extra={"source": name})
        self._states[name] = SourceState(succeeded_at=self._now(), retry_after_seconds=wait)

    def _failed(self, name: str, error: str, *, is_transient: bool, wait: float | None) -> None:
        state = self._states[name]
        if state.error != error:  # an answer clears it, so each outage is told once
            _LOG.warning("a signal source failed", extra={"source": name, "error": error})
        self._states[name] = replace(
            state,
            failed_at=self._now(),
            error=error,
            failures=state.failures + 1,
            is_transient=is_transient,
            retry_after_seconds=wait,
        )

    async def _repeat(self, source: SignalSource) -> None:
        if not source.is_local:
            await self.refresh(source.name)
        while True:
            state = self._states[source.name]
            pause = next_pause(
                source.refresh_seconds,
                failures=state.failures,
                is_transient=state.is_transient,
                retry_after_seconds=state.retry_after_seconds,
                jitter=self._jitter(),
                least_seconds=getattr(source, "least_pause_seconds", 0.0),
            )
            await self._sleep(pause)
            await self.refresh(source.name)

    @staticmethod
    def _task(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        # An empty context: what a source does belongs to no request, not even to the one that opened the board.
        return asyncio.get_running_loop().create_task(work, context=contextvars.Context())


def _rank(signal: GridSignal, now: datetime) -> tuple[bool, datetime]:
    """Order by time; a value dated ahead of `now`, or that is none, never displaces one that could decide."""
    return read_at(signal, now).ineligible not in _UNUSABLE, signal.observed_at
