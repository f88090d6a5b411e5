"""Grid services as an operator configures them, and what one answer reads as for a zone."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from grid.samples import NOW
from vetted_mw.grid.absence import NoSignal, NoSignalReason
from vetted_mw.grid.services import SERVICES
from vetted_mw.grid.signal import GridSignal
from vetted_mw.grid.sources.shipped import parsers_of, sources_of, terms_of
from vetted_mw.secret import Secret
from vetted_mw.signal_configuration import ServiceSource, SignalConfiguration

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime

    from vetted_mw.grid.sources.fetching import Answer, Failure, Get
    from vetted_mw.grid.sources.request import Parsed, Request
    from vetted_mw.grid.sources.terms import Terms

KEY = "a-key-of-ours-7f3a"
RECORDINGS = Path(__file__).parents[2].parent / "shared" / "grid-recordings"
recorded = pytest.mark.skipif(not RECORDINGS.is_dir(), reason="the recordings are not here")


def service(name: str, *, figure: str = "", **members: Any) -> ServiceSource:
    """Return a service with the limits and the address it ships with."""
    shipped = SERVICES[name]
    given: dict[str, Any] = {
        "base_urls": (shipped.base_url,),
        "max_age_minutes": shipped.max_age_minutes,
        "refresh_seconds": shipped.refresh_seconds,
        "key": Secret(KEY) if shipped.needs_key else None,
        "figure": figure,
    }
    return ServiceSource(name=name, **(given | members))


def terms_for(source: ServiceSource, zone: str, signals: SignalConfiguration | None = None) -> Terms:
    """Return the terms of a zone the service knows."""
    terms = terms_of(source, zone, signals or SignalConfiguration())
    assert terms is not None
    return terms


def read(source: ServiceSource, zone: str, answer: Any, *, at: datetime = NOW) -> tuple[Parsed, ...]:
    """Read an answer, bytes as they are and all else as JSON; one outcome per kind of value the service gives."""
    data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return tuple(parse(data, at) for parse in parsers_of(source, terms_for(source, zone)))


def signal_of(source: ServiceSource, zone: str, answer: Any, *, at: datetime = NOW) -> GridSignal:
    """Return the signal of an answer that gives one."""
    first = read(source, zone, answer, at=at)[0]
    assert isinstance(first, GridSignal), first
    return first


def reason_of(source: ServiceSource, zone: str, answer: Any, *, at: datetime = NOW) -> NoSignalReason:
    """Return why an answer gives no signal; it names the source and the zone all the same."""
    first = read(source, zone, answer, at=at)[0]
    assert isinstance(first, NoSignal), first
    assert (first.source, first.zone) == (terms_for(source, zone).source, zone)
    return first.reason


class OneAnswer:
    """A `Session` that gives every GET the same answer and keeps what was asked."""

    def __init__(self, answer: Answer | Failure) -> None:
        self.asked: list[Request] = []
        self._answer = answer

    @contextlib.asynccontextmanager
    async def __call__(self) -> AsyncIterator[Get]:
        async def get(request: Request) -> Answer | Failure:
            self.asked.append(request)
            return self._answer

        yield get


async def told_by(source: ServiceSource, zone: str, answer: Answer | Failure) -> list[Parsed]:
    """Return what the source tells of a zone when its service gives this answer."""
    signals = SignalConfiguration(services=(source,))
    (polled,) = sources_of(signals, [zone], session=OneAnswer(answer), now=lambda: NOW)
    return list(await polled.readings())
