"""Ask upstreams whether they live and which models they serve. Never a completion: a probe costs no tokens."""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vetted_mw.configuration import Upstream
    from vetted_mw.fleet.fleet import Fleet

__all__ = ["Fetch", "Probes"]

_DEAD = frozenset({502, 503, 504})  # 404 and 500 are what some healthy servers say on a path they do not have


class Fetch(Protocol):
    """GET one path of one upstream; called by the probes, may wait, never raises. None: it could not be reached."""

    async def __call__(self, upstream: Upstream, path: str, *, from_origin: bool) -> tuple[int, bytes] | None:
        """Return status and body."""
        ...


class Probes:
    """Background probes, one task per upstream, in a context of their own.

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
        empty = contextvars.Context()
        self._tasks = [
            asyncio.get_running_loop().create_task(self._repeat(upstream), context=empty)
            for upstream in self._upstreams.values()
            if upstream.health_path or upstream.discover
        ]

    async def aclose(self) -> None:
        """Stop probing."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def probe(self, region: str) -> None:
        """Probe `region` once and tell the fleet."""
        upstream = self._upstreams[region]
        if upstream.health_path:
            found = await self._fetch(upstream, upstream.health_path, from_origin=True)
            status = None if found is None else found[0]
            self._fleet.probed(region, alive=status is not None and status not in _DEAD, status=status)
        if upstream.discover:
            found = await self._fetch(upstream, "/models", from_origin=False)
            names = model_names(found[1]) if found is not None and found[0] == 200 else None  # noqa: PLR2004
            if names is not None:
                self._fleet.models_fetched(region, names)

    async def _repeat(self, upstream: Upstream) -> None:
        while True:
            await self.probe(upstream.region)
            await asyncio.sleep(self._interval * (0.75 + 0.5 * self._jitter()))


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
