"""Ask upstreams whether they live, which models they serve and how long their queue is. Never a completion.

A probe costs no tokens: every question is a GET.
"""

from __future__ import annotations

import asyncio
import contextvars
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from vetted_mw.fleet.engines import read_engine_load
from vetted_mw.fleet.state import ScrapeProblem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vetted_mw.configuration import Upstream
    from vetted_mw.fleet.fleet import Fleet

__all__ = ["Fetch", "Fetched", "Probes", "model_names"]

_OK = 200
_DEAD = frozenset({502, 503, 504})  # 404 and 500 are what some healthy servers say on a path they do not have
_STALE_INTERVALS = 3


class Fetched(msgspec.Struct, frozen=True, kw_only=True):
    """What a server answered to a GET.

    Attributes:
        status: HTTP status.
        body: the whole body; empty when it was too large to read.
        round_trip_seconds: the connect where one was made, else from the request's leaving to the answer's head.
    """

    status: int
    body: bytes
    round_trip_seconds: float


class Fetch(Protocol):
    """GET one path of one upstream; called by the probes, may wait, never raises. None: it could not be reached."""

    async def __call__(self, upstream: Upstream, path: str, *, from_origin: bool) -> Fetched | None:
        """Return what it answered."""
        ...


class _Question(StrEnum):
    HEALTH = "health"
    MODELS = "models"
    METRICS = "metrics"


class Probes:
    """Background probes, one task per upstream and question, each in a context of its own.

    A question that is slow to be answered delays no other. What is new to the fleet is asked at once; what was asked
    under an earlier configuration comes when it would have come.

    Args:
        fleet: told what is found.
        upstreams: code -> upstream.
        fetch: does the GET.
        jitter: a number in [0, 1) that spreads the probes.
        interval_seconds: between two probes of one upstream.
    """

    def __init__(
        self,
        fleet: Fleet,
        upstreams: Mapping[str, Upstream],
        *,
        fetch: Fetch,
        jitter: Callable[[], float],
        interval_seconds: float = 5.0,
    ) -> None:
        self._fleet = fleet
        self._upstreams = upstreams
        self._fetch = fetch
        self._jitter = jitter
        self._interval = interval_seconds
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Start probing; nothing is awaited."""
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._repeat(upstream, question), context=contextvars.Context())
            for upstream in self._upstreams.values()
            for question in _questions(upstream)
        ]

    async def aclose(self) -> None:
        """Stop probing."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def probe(self, region: str) -> None:
        """Ask `region` everything once, side by side, and tell the fleet."""
        upstream = self._upstreams[region]
        async with asyncio.TaskGroup() as asking:
            for question in _questions(upstream):
                asking.create_task(self._ask(upstream, question))

    async def _repeat(self, upstream: Upstream, question: _Question) -> None:
        since = self._fleet.seconds_since_asked(upstream.region, _named(upstream, question))
        if since is not None:
            await asyncio.sleep(max(0.0, self._spread_interval() - since))
        while True:
            await self._ask(upstream, question)
            await asyncio.sleep(self._spread_interval())

    def _spread_interval(self) -> float:
        return self._interval * (0.75 + 0.5 * self._jitter())

    async def _ask(self, upstream: Upstream, question: _Question) -> None:
        asked_at = self._fleet.asked(upstream.region, _named(upstream, question))
        is_models = question is _Question.MODELS
        found = await self._fetch(upstream, _path(upstream, question), from_origin=not is_models)
        if question is _Question.HEALTH:
            self._note_health(upstream.region, found)
        elif is_models:
            self._note_models(upstream.region, found)
        else:
            self._note_metrics(upstream.region, found, asked_at)

    def _note_health(self, region: str, found: Fetched | None) -> None:
        status = None if found is None else found.status
        is_alive = status is not None and status not in _DEAD
        self._fleet.probed(region, alive=is_alive, status=status)
        if found is not None and is_alive:
            self._fleet.connected(region, found.round_trip_seconds)

    def _note_models(self, region: str, found: Fetched | None) -> None:
        names = model_names(found.body) if found is not None and found.status == _OK else None
        if names is not None:
            self._fleet.models_fetched(region, names)

    def _note_metrics(self, region: str, found: Fetched | None, asked_at: float) -> None:
        if found is None or found.status != _OK:
            self._fleet.load_unread(region, ScrapeProblem.UNREADABLE)
            return
        load = read_engine_load(found.body)
        if load is None:
            self._fleet.load_unread(region, ScrapeProblem.UNKNOWN_ENGINE)
            return
        good_seconds = _STALE_INTERVALS * self._interval
        self._fleet.load_read(region, load, asked_at=asked_at, good_seconds=good_seconds)


def _questions(upstream: Upstream) -> tuple[_Question, ...]:
    return tuple(question for question in _Question if _path(upstream, question))


def _path(upstream: Upstream, question: _Question) -> str:
    if question is _Question.HEALTH:
        return upstream.health_path
    if question is _Question.METRICS:
        return upstream.metrics_path
    return "/models" if upstream.discover else ""


def _named(upstream: Upstream, question: _Question) -> str:
    return f"{question.value} {_path(upstream, question)}"


def model_names(body: bytes) -> list[str] | None:
    """Read the names out of an OpenAI `/v1/models` answer; None when it is not one."""
    try:
        answer: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    rows = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(rows, list):
        return None
    return [row["id"] for row in rows if isinstance(row, dict) and isinstance(row.get("id"), str)]
