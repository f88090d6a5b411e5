"""The latest signal of each zone, with one owner. Signals age on the board; nothing ever stamps them anew."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sys
import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec

from vetted_mw.errors import ConfigurationError
from vetted_mw.grid.absence import NoSignal
from vetted_mw.grid.latest import LatestSignals
from vetted_mw.grid.schedule import next_pause
from vetted_mw.grid.services import require_sources
from vetted_mw.grid.soundness import require_members, unfit
from vetted_mw.grid.source import SourceState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
    from datetime import datetime

    from vetted_mw.grid.signal import GridSignal, SignalReading
    from vetted_mw.grid.source import Absence, SignalSource

__all__ = ["SignalBoard"]

_CLOSE_SECONDS = 5.0
_LOG = logging.getLogger("vetted_mw")
_LEAST_REFRESH_SECONDS = 0.05


class SignalBoard:
    """Owns the latest signals and asks their sources.

    Args:
        sources: asked in the background once the board is open, each by a task of its own.
        chains: zone -> source names, first live-eligible wins; every source in order for a zone not named.
        now: wall clock, aware UTC.
        monotonic: seconds that never go back; by them each source is left alone, also while the board is closed.
        jitter: a number in [0, 1) that spreads the refreshes of several processes.
        sleep: waits between two refreshes.

    Raises:
        ConfigurationError: two sources have one name, so that one would hide the other, or a chain names none of them;
            or a source's pace is none.
    """

    def __init__(
        self,
        sources: Sequence[SignalSource],
        *,
        chains: Mapping[str, tuple[str, ...]],
        now: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = lambda: 0.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._sources = {source.name: source for source in sources}
        if len(self._sources) != len(sources):
            raise ConfigurationError(
                "two signal sources have the same name.", field="signals", remedy="Give each a name of its own."
            )
        require_sources(chains, self._sources)
        self._paces = {name: _pace(source) for name, source in self._sources.items()}
        self._idle = frozenset(name for name, one in self._sources.items() if getattr(one, "is_idle", False))
        self._latest = LatestSignals(self._sources, chains)
        self._now = now
        self._monotonic = monotonic
        self._jitter = jitter
        self._sleep = sleep
        self._due: dict[str, float] = {}
        self._states = {name: SourceState() for name in self._sources}
        self._flights: dict[str, asyncio.Task[None]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self, *, background: bool = True) -> None:
        """Start asking. Local sources are asked once before this returns; no source's failure is a reason to fail.

        The others are asked when they may be: what they said before a close holds after it.

        Args:
            background: whether sources are asked from now on; without, only by `refresh`.
        """
        self._flights = {}  # of a loop that was closed without us, perhaps; nothing there will ever end
        for source in self._sources.values():
            if source.is_local:
                await self.refresh(source.name)
        if background:
            self._tasks = [
                self._task(self._repeat(one)) for name, one in self._sources.items() if name not in self._idle
            ]

    async def close(self) -> None:
        """Stop asking; what is on the board stays and ages. A source that does not end when cancelled is let go of."""
        tasks = [*self._tasks, *self._flights.values()]
        self.forget()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_CLOSE_SECONDS)

    def forget(self) -> None:
        """Let go of the tasks, as when the event loop they lived in was closed without us."""
        self._tasks = []
        self._flights = {}

    def take_over(self, previous: SignalBoard, names: Iterable[str]) -> None:
        """Go on with what `previous` knows of sources that are the same here: signals, state, when they may be asked.

        Args:
            previous: the board of the configuration before this one; it is not changed.
            names: of the sources that are the same; others are left out.
        """
        same = [name for name in names if name in self._sources and name in previous._sources]
        self._latest.take_over(previous._latest, same)
        for name in same:
            self._states[name] = previous._states[name]
            if name in previous._due:
                self._due[name] = previous._due[name]

    async def refresh(self, name: str) -> None:
        """Ask one source now and note how it fared; whoever asks meanwhile waits for the same answer.

        One that has nothing to ask stays not asked.
        """
        if name in self._idle:
            return
        flight = self._flights.get(name)
        if flight is None or flight.done():
            flight = self._flights[name] = self._task(self._ask(self._sources[name]))
        await asyncio.wait({flight})  # whoever waits is not what is cancelled when the board closes

    async def refresh_all(self) -> None:
        """Ask every source now, all at once, and return when each has answered or failed."""
        await asyncio.gather(*(self.refresh(name) for name in self._sources))

    def best(self, zone: str, now: datetime) -> SignalReading | None:
        """Return the zone's reading at `now`: the chain's first live-eligible one, else the most telling other one."""
        return self._latest.best(zone, now)

    @property
    def changes(self) -> int:
        """What goes up whenever a signal comes, goes or is replaced, and never down."""
        return self._latest.changes

    def holds_until(self, zone: str, now: datetime) -> float:
        """Return for how many minutes from `now` a zone's best reading stays the same by itself, its age apart."""
        return self._latest.holds_until(zone, now)

    def glance(self, zone: str, now: datetime) -> tuple[str, SignalReading] | None:
        """Return the measured reading that a zone is judged by, or would be if it were newer, and its source's name.

        For collectors of metrics: unlike everything else here it may be called from any thread, and changes nothing.
        """
        return self._latest.glance(zone, now)

    def rows_for(self, zone: str, now: datetime) -> tuple[tuple[str, SignalReading], ...]:
        """Return what every source of the zone's chain last gave, in its order, each with the source's name."""
        return self._latest.rows_for(zone, now)

    def readings_for(self, zone: str, now: datetime) -> tuple[SignalReading, ...]:
        """Return the same without the names."""
        return tuple(reading for _name, reading in self._latest.rows_for(zone, now))

    def absences_for(self, zone: str) -> tuple[Absence, ...]:
        """Return why the sources of the zone's chain have nothing new, of those that have not, in its order."""
        return self._latest.absences_for(zone)

    def all_readings(self, now: datetime) -> tuple[SignalReading, ...]:
        """Return everything on the board at `now`."""
        return self._latest.all_readings(now)

    def states(self) -> Mapping[str, SourceState]:
        """Return how each source has fared."""
        asking = {name for name, flight in self._flights.items() if not flight.done()}
        return MappingProxyType(
            {name: msgspec.structs.replace(state, is_asking=name in asking) for name, state in self._states.items()}
        )

    def chain(self, zone: str) -> tuple[str, ...]:
        """Return the names of the sources a zone takes its signal from, the first that may decide first."""
        return self._latest.chain(zone)

    async def _ask(self, source: SignalSource) -> None:
        # An asking that is cut counts as a failure that may pass; what the source said before it still holds.
        cut = msgspec.structs.replace(self._states[source.name], failures=self._states[source.name].failures + 1)
        pause = self._pause(source.name, msgspec.structs.replace(cut, retry_after_seconds=None), lambda: 0.0)
        self._due[source.name] = max(self._due.get(source.name, 0.0), self._monotonic() + pause)
        try:
            self._hear(source, await source.readings())
        except (Exception, asyncio.CancelledError) as error:
            # A source may raise or return anything; it costs a refresh, never a request. A cancel is ours when closing.
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise
            self._failed(source.name, type(error).__name__, is_transient=True, wait=None)
        pause = self._pause(source.name, self._states[source.name], self._jitter)
        self._due[source.name] = self._monotonic() + pause

    def _hear(self, source: SignalSource, answers: Sequence[GridSignal | NoSignal]) -> None:
        name, now = source.name, self._now()
        answers = tuple(answers)
        require_members(answers)
        given = [one for one in answers if not isinstance(one, NoSignal)]
        signals = [one for one in given if unfit(one) is None]
        told = [one for one in answers if isinstance(one, NoSignal)] + [why for one in given if (why := unfit(one))]
        waits = [one.retry_after_seconds for one in told if one.retry_after_seconds is not None]
        wait = max((seconds for seconds in waits if 0 <= seconds <= sys.float_info.max), default=None)
        failed = [one.reason for one in told if one.reason.is_failure]
        absences = [*told, *self._latest.keep(name, signals, is_complete=source.is_complete, now=now)]
        new = self._latest.note(name, absences, signals, now=now)
        # A source that fails as a whole is told as one; what then still fails alone has not been told.
        for one in absences if self._states[name].failures else new:
            if signals and one.reason.is_failure:
                extra = {"source": name, "zone": one.zone, "error": one.reason.value}
                _LOG.warning("a signal source has nothing for a zone", extra=extra)
        if failed and not signals:
            self._failed(name, failed[0].value, is_transient=failed[0].is_transient, wait=wait)
        else:
            self._answered(name, wait=wait)

    def _answered(self, name: str, *, wait: float | None) -> None:
        if self._states[name].failures:
            _LOG.info("a signal source answers again", extra={"source": name})
        self._states[name] = SourceState(succeeded_at=self._now(), retry_after_seconds=wait)

    def _failed(self, name: str, error: str, *, is_transient: bool, wait: float | None) -> None:
        state = self._states[name]
        if state.error != error:  # an answer clears it, so each outage is told once
            _LOG.warning("a signal source failed", extra={"source": name, "error": error})
        self._states[name] = msgspec.structs.replace(
            state,
            failed_at=self._now(),
            error=error,
            failures=state.failures + 1,
            is_transient=is_transient,
            retry_after_seconds=wait,
        )

    async def _repeat(self, source: SignalSource) -> None:
        while True:
            await self._until_due(source.name)
            await self.refresh(source.name)

    async def _until_due(self, name: str) -> None:
        """Sleep until a source may be asked; an asking that ended meanwhile, by whoever, has put that off."""
        waited_for = None
        while (due := self._due.get(name)) is not None and due != waited_for:
            if (seconds := due - self._monotonic()) > 0:
                await self._sleep(seconds)
            waited_for = due

    def _pause(self, name: str, state: SourceState, jitter: Callable[[], float]) -> float:
        refresh, least = self._paces[name]
        try:
            return next_pause(
                refresh,
                failures=state.failures,
                is_transient=state.is_transient,
                retry_after_seconds=state.retry_after_seconds,
                jitter=jitter(),
                least_seconds=least,
            )
        except Exception:  # noqa: BLE001 (without a pause the source's task would end, in silence)
            return max(refresh, least)

    @staticmethod
    def _task(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        # An empty context: what a source does belongs to no request, not even to the one that opened the board.
        return asyncio.get_running_loop().create_task(work, context=contextvars.Context())


def _pace(source: SignalSource) -> tuple[float, float]:
    """Return how often a source wants to be asked, and how often at most, in seconds.

    What is none would stop its task, or have it asked without a pause: either would show only in a signal that ages.
    """
    refresh: object = getattr(source, "refresh_seconds", None)
    least: object = getattr(source, "least_pause_seconds", 0.0)
    paces = {"refresh_seconds": (refresh, _LEAST_REFRESH_SECONDS), "least_pause_seconds": (least, 0.0)}
    for member, (seconds, floor) in paces.items():
        is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
        if not is_number or not floor <= seconds <= sys.float_info.max:  # type: ignore[operator]
            raise ConfigurationError(
                f"the signal source {source.name!r} has {member} that are no pause.",
                field="signals",
                remedy=f"Give it {member} as a finite number of seconds, at least {floor:g}.",
            )
    return float(refresh), float(least)  # type: ignore[arg-type]
