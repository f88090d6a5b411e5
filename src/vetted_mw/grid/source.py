"""What the board asks: where signals come from, how a source has fared, and why it has nothing new for a zone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from vetted_mw.grid.schedule import OPENS_AFTER

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from vetted_mw.grid.absence import NoSignal
    from vetted_mw.grid.signal import GridSignal

__all__ = ["Absence", "SignalSource", "SourceState"]


class SignalSource(Protocol):
    """One place signals come from.

    The board calls `readings` every `refresh_seconds`, sooner after a failure and later where the source asked for
    it, one call at a time, never on a request's path; closing and opening the board changes nothing of that, except
    that a local source is asked at every opening. It may wait, and may raise anything: the board notes the failure by
    its type, keeps what it has, and asks again later. The signals returned replace the source's earlier ones for the
    same zones, unless one is older than what is known or could decide less; a `NoSignal` tells of a zone why there is
    none now and leaves an earlier signal to age. A source that `is_complete` returns all it knows, so that what is
    missing is gone. One that has `least_pause_seconds` is never asked sooner by itself than that after the last time;
    one that has `is_idle` set when the board is made has nothing to ask, and is never asked. Its pace is read once,
    when the board is made. An answer with a member that is not of its type is refused whole, and a value that no grid
    can have is told as an absence.
    """

    @property
    def name(self) -> str:
        """The settings' word for it, `file`."""
        ...

    @property
    def refresh_seconds(self) -> float:
        """How often it is asked; at least 0.05."""
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


class SourceState(msgspec.Struct, frozen=True, kw_only=True):
    """How a source has fared.

    Attributes:
        succeeded_at: when it last answered with a signal, or with the word that it has none.
        failed_at: when it last failed.
        error: why, in one word: a `NoSignalReason`, or the type of what it raised. No text is kept: a URL in it could
            hold a key.
        failures: failures since the last answer.
        is_transient: whether that failure is of a kind that asking again soon may mend.
        retry_after_seconds: how long it asked, in its last answer, to be left alone.
        is_asking: whether it is being asked at this moment.
    """

    succeeded_at: datetime | None = None
    failed_at: datetime | None = None
    error: str | None = None
    failures: int = 0
    is_transient: bool = True
    retry_after_seconds: float | None = None
    is_asking: bool = False

    @property
    def is_open(self) -> bool:
        """Whether its breaker is open: it is only probed until it answers."""
        return self.failures >= OPENS_AFTER


class Absence(msgspec.Struct, frozen=True, kw_only=True):
    """Why a source has nothing new for a zone.

    Attributes:
        source: the source's name, `entsoe`.
        told: the reason and what it was about.
        since: when it first gave this reason, without a signal in between.
    """

    source: str
    told: NoSignal
    since: datetime
