"""Closing a gateway: everything is let go of, whatever fails on the way, in whatever loop, and nothing opens it again."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from support import configured
from vetted_mw import Gateway
from vetted_mw.errors import ShuttingDownError
from vetted_mw.testing import StaticSignals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vetted_mw.configuration import Upstream
    from vetted_mw.grid.signal import GridSignal
    from vetted_mw.proxy.transport import Response, UpstreamRequest

pytestmark = pytest.mark.anyio

LIMIT_SECONDS = 60.0
TWO = {"scaleway-par-1": "http://127.0.0.1:9/v1", "ovh-gra-1": "http://127.0.0.1:9/v1"}


class Doors:
    """Makes transports that write down that they were closed; the first one raises when it is."""

    def __init__(self) -> None:
        self.closed: list[str] = []
        self.made: list[str] = []

    def __call__(self, upstream: Upstream) -> Door:
        self.made.append(upstream.region)
        return Door(self, upstream.region)


class Door:
    def __init__(self, doors: Doors, region: str) -> None:
        self._doors = doors
        self._region = region

    async def send(self, request: UpstreamRequest) -> Response:
        raise AssertionError("nothing is sent here")

    async def aclose(self) -> None:
        self._doors.closed.append(self._region)
        if self._region == self._doors.made[0]:
            raise OSError("already gone")


class Stubborn(StaticSignals):
    """A source that goes on when it is cancelled."""

    is_local = False

    def __init__(self) -> None:
        super().__init__({"FR": 21.0}, name="stubborn")
        self.asked = asyncio.Event()
        self.release = asyncio.Event()

    async def readings(self) -> Sequence[GridSignal]:
        self.asked.set()
        while not self.release.is_set():
            try:
                await self.release.wait()
            except asyncio.CancelledError:
                continue
        return await super().readings()


async def test_a_transport_that_cannot_be_closed_keeps_no_other_open() -> None:
    """Each is closed; the failure is told after that."""
    doors = Doors()
    with pytest.raises(OSError, match="already gone"):
        async with Gateway(configured(TWO), transport=doors):
            pass
    assert sorted(doors.closed) == sorted(doors.made) == ["ovh-gra-1", "scaleway-par-1"]


async def test_a_source_that_ignores_being_cancelled_is_let_go_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing waits a while for sources to end, not for ever."""
    monkeypatch.setattr("vetted_mw.grid.board._CLOSE_SECONDS", 0.05)
    source = Stubborn()
    async with Gateway(configured(TWO), signals=[source]) as gateway:
        await asyncio.wait_for(source.asked.wait(), LIMIT_SECONDS)
    assert not gateway.is_open
    source.release.set()
    await asyncio.sleep(0)


async def test_whoever_waits_while_it_is_closed_does_not_open_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request at the moment of the host's shutdown is told so, and nothing is left running."""
    monkeypatch.setattr("vetted_mw.grid.board._CLOSE_SECONDS", 1.0)
    source = Stubborn()
    gateway = Gateway(configured(TWO), signals=[source])
    async with gateway:
        await asyncio.wait_for(source.asked.wait(), LIMIT_SECONDS)
        closing = asyncio.ensure_future(gateway.aclose())
        for _ in range(5):
            await asyncio.sleep(0)
        assert not closing.done()
        with pytest.raises(ShuttingDownError):
            await gateway.enter()
        source.release.set()
        await closing
    assert not gateway.is_open


async def test_closing_within_its_own_block_does_not_spoil_the_count() -> None:
    """Entered again later, it opens and closes as ever."""
    gateway = Gateway(configured(TWO))
    seen = []
    async with gateway:
        await gateway.aclose()
        seen.append(gateway.is_open)
    async with gateway:
        seen.append(gateway.is_open)
    seen.append(gateway.is_open)
    assert seen == [False, True, False]


def test_a_gateway_whose_loop_was_closed_can_be_closed_in_another() -> None:
    """What lived in the old loop died with it; the grid's thread ends."""
    hosts = dict.fromkeys(("landsnet", "statnett"), "http://127.0.0.1:9")
    sources = {name: {"base_url": url, "refresh_seconds": 0.2} for name, url in hosts.items()}
    before = set(threading.enumerate())
    gateway = Gateway(configured(TWO, signals={"sources": sources}))

    async def use() -> None:
        await gateway.core()
        await gateway.board.refresh_all()

    asyncio.run(use())
    asyncio.run(gateway.aclose())
    assert not gateway.is_open
    assert [one for one in set(threading.enumerate()) - before if one.name == "vetted-mw-grid"] == []
    asyncio.run(use())
    asyncio.run(gateway.aclose())
