"""When a source is asked next. Pure."""

from __future__ import annotations

import msgspec

__all__ = ["OPENS_AFTER", "Pace", "next_pause"]

OPENS_AFTER = 3
"""Refreshes in a row without any signal after which a source's breaker is open."""

_FIRST_RETRY_SECONDS = 5.0
_FIRST_RETRY_SHARE = 1 / 32
_JITTER = 0.1


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How often a service is asked.

    Attributes:
        refresh_seconds: between two refreshes.
        least_seconds: between two refreshes at least, whatever jitter and failures say.
        spacing_seconds: between two requests of one refresh.
        ban_seconds: how long it is left alone after a 429 that names no time.
        least_ban_seconds: and at least after any 429, however short a time it names.
    """

    refresh_seconds: float
    least_seconds: float = 0.0
    spacing_seconds: float = 0.0
    ban_seconds: float = 60.0
    least_ban_seconds: float = 0.0


def next_pause(
    refresh_seconds: float,
    *,
    failures: int,
    is_transient: bool,
    retry_after_seconds: float | None,
    jitter: float,
    least_seconds: float = 0.0,
) -> float:
    """Return how many seconds to wait before a source is asked again.

    Args:
        refresh_seconds: how often it is asked while it answers.
        failures: failed refreshes in a row.
        is_transient: whether asking again soon may help.
        retry_after_seconds: how long it wants not to be asked; always honoured, however long.
        jitter: a number in [0, 1) that spreads several processes over the last tenth of the time.
        least_seconds: how often it may be asked at most.
    """
    pause = refresh_seconds
    if failures and is_transient:
        first = max(_FIRST_RETRY_SECONDS, refresh_seconds * _FIRST_RETRY_SHARE)
        # Never longer than a refresh: a service that is back is seen within one.
        pause = min(refresh_seconds, first * 2.0 ** min(failures - 1, 16))
    pause *= 1 - _JITTER * jitter
    return max(pause, least_seconds, retry_after_seconds or 0.0)
