"""What is known of each zone: every source's latest signals, and why there is nothing newer. Nothing here asks."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import TYPE_CHECKING, TypeAlias

import msgspec
from cachetools import LRUCache

from vetted_mw.grid.absence import NoSignal, NoSignalReason
from vetted_mw.grid.signal import GridSignal, Ineligible, SignalKind, SignalReading, minutes_held, read_at
from vetted_mw.grid.source import Absence

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import datetime

__all__ = ["LatestSignals"]

_Key: TypeAlias = tuple[str, SignalKind]
"""Name of the source, kind."""

_MAX_ZONES = 4096
_MAX_ABSENCES = 256
_STANDING = {Ineligible.FUTURE_DATED: 0, Ineligible.NOT_A_NUMBER: 0, Ineligible.ESTIMATED: 1}
"""What could decide, or could have, stands above an estimate, and that above what cannot be."""
_USABLE = 2
_REASONS = {
    Ineligible.FUTURE_DATED: NoSignalReason.FUTURE_DATED,
    Ineligible.NOT_A_NUMBER: NoSignalReason.NOT_A_NUMBER,
    Ineligible.ESTIMATED: NoSignalReason.ESTIMATED,
}


class _Zone(msgspec.Struct, kw_only=True):
    """What is known of one zone.

    Attributes:
        signals: the latest by source and kind.
        absences: why there is nothing new, by source and label; bounded, for labels are the sources' own words.
        chained: the signals of the zone's chain in its order, each with its source's name; None until asked for.
    """

    signals: dict[_Key, GridSignal] = msgspec.field(default_factory=dict)
    absences: LRUCache[tuple[str, str], Absence] = msgspec.field(
        default_factory=lambda: LRUCache(maxsize=_MAX_ABSENCES)
    )
    chained: tuple[tuple[str, GridSignal], ...] | None = None


class LatestSignals:
    """The latest signal of each zone, source and kind; of ever new zones those that were looked at last.

    Args:
        names: the sources, the chain of every zone that has none of its own.
        chains: zone -> names of sources.

    Attributes:
        changes: goes up whenever a signal comes, goes or is replaced, and never down.
    """

    def __init__(self, names: Iterable[str], chains: Mapping[str, tuple[str, ...]]) -> None:
        self.changes = 0
        self._names = tuple(names)
        self._chains = chains
        self._zones: OrderedDict[str, _Zone] = OrderedDict()  # the one looked at last is last

    def chain(self, zone: str) -> tuple[str, ...]:
        """Return the names of the sources a zone takes its signal from, the first that may decide first."""
        return self._chains.get(zone, self._names)

    def best(self, zone: str, now: datetime) -> SignalReading | None:
        """Return the chain's first live-eligible reading, else the most telling other one."""
        others = []
        for _name, signal in self._chained(zone):
            reading = read_at(signal, now)
            if reading.live_eligible:
                return reading
            others.append(reading)
        return min(others, key=_tells_less, default=None)

    def holds_until(self, zone: str, now: datetime) -> float:
        """Return for how many minutes from `now` the same reading stays the best and is judged alike, if none comes.

        Too few do no harm; infinity where time changes nothing.
        """
        return min((minutes_held(signal, now) for _name, signal in self._chained(zone)), default=math.inf)

    def glance(self, zone: str, now: datetime) -> tuple[str, SignalReading] | None:
        """Return the measured reading that a zone is judged by, or would be if it were newer, and its source's name.

        For collectors of metrics: it may be called from any thread, changes nothing, and does not count as a look.
        """
        known = self._zones.get(zone)
        if known is None:
            return None
        rows = []
        for name in self.chain(zone):
            signal = known.signals.get((name, SignalKind.MEASURED))
            if signal is None:
                continue
            reading = read_at(signal, now)
            if reading.live_eligible:
                return name, reading
            if _standing(reading) == _USABLE:
                rows.append((name, reading))
        return min(rows, key=lambda row: row[1].age_minutes, default=None)

    def rows_for(self, zone: str, now: datetime) -> tuple[tuple[str, SignalReading], ...]:
        """Return what every source of the zone's chain last gave, in its order, each with the source's name."""
        return tuple((name, read_at(signal, now)) for name, signal in self._chained(zone))

    def absences_for(self, zone: str) -> tuple[Absence, ...]:
        """Return why the sources of the zone's chain have nothing new, of those that have not, in its order."""
        known = self._seen(zone)
        if known is None:
            return ()
        place = {name: number for number, name in enumerate(self.chain(zone))}
        found = [one for one in known.absences.values() if one.source in place]
        return tuple(sorted(found, key=lambda one: place[one.source]))

    def all_readings(self, now: datetime) -> tuple[SignalReading, ...]:
        """Return everything that is known."""
        return tuple(read_at(signal, now) for known in self._zones.values() for signal in known.signals.values())

    def keep(self, name: str, signals: Iterable[GridSignal], *, is_complete: bool, now: datetime) -> list[NoSignal]:
        """Keep the latest of each zone and kind.

        Args:
            name: the source that gave them.
            signals: what it gave; kept all or none: one that cannot be judged would fail whoever asks for its zone.
            is_complete: whether these are all it has, so that its others are taken back.
            now: by which they are judged.

        Returns:
            For each that is no better than what is known, why not.

        Raises:
            TypeError: a member of a signal is not of its type; nothing has changed.
        """
        latest: dict[tuple[str, SignalKind], SignalReading] = {}
        for signal in signals:
            reading = read_at(signal, now)
            place = (reading.signal.zone, reading.signal.kind)
            if place not in latest or _rank(reading) >= _rank(latest[place]):
                latest[place] = reading
        if is_complete:
            self._take_back(name, latest)
        dropped = []
        for (zone, kind), reading in latest.items():
            known, key = self._known(zone), (name, kind)
            before = known.signals.get(key)
            if before is reading.signal:
                continue
            if before is None or is_complete or _rank(reading) >= _rank(read_at(before, now)):
                known.signals[key] = reading.signal
                self._changed(known)
            else:
                dropped.append(_why_not(reading))
        return dropped

    def note(
        self, name: str, absences: Sequence[NoSignal], signals: Iterable[GridSignal], *, now: datetime
    ) -> list[NoSignal]:
        """Keep why there is nothing new, by zone and label, until there is; returns those that were not known.

        A signal of a zone ends every absence of its source there that was not told again with it: the label of a source
        that had nothing at all need not be the one its signals come under.

        Args:
            name: the source that told them.
            absences: what it has nothing new of.
            signals: what it gave together with them.
            now: since when a new one holds.
        """
        again = {(one.zone, one.source) for one in absences}
        for zone in {one.zone for one in signals}:
            if (known := self._seen(zone)) is not None:
                for key in [key for key in known.absences if key[0] == name and (zone, key[1]) not in again]:
                    del known.absences[key]
        new = []
        for told in absences:
            noted, key = self._known(told.zone).absences, (name, told.source)
            before = noted.get(key)
            since = now
            if before is not None and before.told.reason is told.reason:
                since = before.since
            else:
                new.append(told)
            noted[key] = Absence(source=name, told=told, since=since)
        return new

    def take_over(self, previous: LatestSignals, names: Collection[str]) -> None:
        """Take in what `previous` knows of the sources `names`; it is not changed."""
        for zone, there in previous._zones.items():
            signals = {key: signal for key, signal in there.signals.items() if key[0] in names}
            absences = {key: absence for key, absence in there.absences.items() if key[0] in names}
            if signals or absences:
                known = self._known(zone)
                known.signals |= signals
                known.absences.update(absences)
                self._changed(known)

    def _take_back(self, name: str, left: Collection[tuple[str, SignalKind]]) -> None:
        for zone, known in self._zones.items():
            for key in [key for key in known.signals if key[0] == name and (zone, key[1]) not in left]:
                del known.signals[key]
                self._changed(known)

    def _changed(self, known: _Zone) -> None:
        known.chained = None
        self.changes += 1

    def _seen(self, zone: str) -> _Zone | None:
        known = self._zones.get(zone)
        if known is not None:
            self._zones.move_to_end(zone)
        return known

    def _known(self, zone: str) -> _Zone:
        known = self._seen(zone)
        if known is None:
            known = self._zones[zone] = _Zone()
            if len(self._zones) > _MAX_ZONES:
                self._zones.popitem(last=False)
                self.changes += 1
        return known

    def _chained(self, zone: str) -> tuple[tuple[str, GridSignal], ...]:
        known = self._seen(zone)
        if known is None:
            return ()
        if known.chained is None:
            keys = [(name, kind) for name in self.chain(zone) for kind in SignalKind]
            known.chained = tuple((key[0], known.signals[key]) for key in keys if key in known.signals)
        return known.chained


def _standing(reading: SignalReading) -> int:
    return _USABLE if reading.ineligible is None else _STANDING.get(reading.ineligible, _USABLE)


def _rank(reading: SignalReading) -> tuple[int, datetime]:
    """Order by time; an estimate, or a value that cannot be, never displaces one that could decide."""
    return _standing(reading), reading.signal.observed_at


def _tells_less(reading: SignalReading) -> tuple[bool, bool, float]:
    """Order by age, measured values first, and among those the ones that can be."""
    return reading.signal.kind is not SignalKind.MEASURED, _standing(reading) == 0, reading.age_minutes


def _why_not(reading: SignalReading) -> NoSignal:
    why = reading.ineligible
    reason = NoSignalReason.OUTDATED if why is None else _REASONS.get(why, NoSignalReason.OUTDATED)
    return NoSignal(source=reading.signal.source, zone=reading.signal.zone, reason=reason)
