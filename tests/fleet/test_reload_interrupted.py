"""A reload that fails, is cancelled or meets another, and the settings file at the odd moments: nothing is left over."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from streams.wall import FIRST, OUTSIDE, SECOND, Caller, content, payload, role, until
from support import configured
from vetted_mw import Gateway, VettedProxy
from vetted_mw.asgi.leaving import UntilCallerLeaves
from vetted_mw.testing import FakeAnswer, FakeUpstream, StaticSignals, asgi_exchange

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from starlette.types import Message

    from vetted_mw.configuration import Configuration, Upstream
    from vetted_mw.errors import AnswerError
    from vetted_mw.grid.signal import GridSignal
    from vetted_mw.proxy.transport import Response, UpstreamRequest

pytestmark = pytest.mark.anyio

NOWHERE = "http://127.0.0.1:9/v1"
ONE = {FIRST: NOWHERE}
THREE = {FIRST: NOWHERE, SECOND: NOWHERE, OUTSIDE: NOWHERE}
OTHER_SIGNALS = {"timeout_seconds": 3}


class Doors:
    """Makes transports that say whether they were closed, and how often; none can be made for `broken`."""

    def __init__(self) -> None:
        self.broken = ""
        self.made: list[Door] = []

    def __call__(self, upstream: Upstream) -> Door:
        if upstream.region == self.broken:
            raise OSError("no such door")
        self.made.append(Door())
        return self.made[-1]


class Door:
    def __init__(self) -> None:
        self.closed = 0

    async def send(self, request: UpstreamRequest) -> Response:
        raise AssertionError("nothing is sent here")

    async def aclose(self) -> None:
        self.closed += 1


class Patient(StaticSignals):
    """A local source that answers when it is let, once it is told to wait."""

    def __init__(self) -> None:
        super().__init__({"FR": 20.0})
        self.asked = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def readings(self) -> Sequence[GridSignal]:
        self.asked.set()
        await self.go_on.wait()
        return await super().readings()


async def never() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


async def test_doors_made_before_one_that_fails_are_closed() -> None:
    """Whatever a transport's maker raises: nothing is swapped, and what was made for the new settings is closed."""
    doors = Doors()
    async with Gateway(configured(ONE), transport=doors) as gateway:
        before = gateway.configuration
        doors.broken = list(configured(THREE).upstreams)[-1]
        with pytest.raises(OSError, match="no such door"):
            await gateway.reload(configured(THREE))
        assert gateway.configuration is before
        assert [door.closed for door in doors.made] == [0, 1]
    assert [door.closed for door in doors.made] == [1, 1]


async def test_a_reload_that_is_cancelled_changes_nothing_and_leaves_nothing() -> None:
    """Cancelled while the new board opens: old settings, old board, probes that go on, no door and no task too many."""
    doors, source = Doors(), Patient()
    async with Gateway(configured(ONE), transport=doors, signals=[source]) as gateway:
        before = gateway.configuration, gateway.board, gateway.fleet
        tasks = asyncio.all_tasks()
        source.asked.clear()
        source.go_on.clear()
        reloading = asyncio.ensure_future(gateway.reload(configured(THREE, signals=OTHER_SIGNALS)))
        await source.asked.wait()
        reloading.cancel()
        await asyncio.wait({reloading})
        assert reloading.cancelled()
        assert (gateway.configuration, gateway.board, gateway.fleet) == before
        assert [door.closed for door in doors.made] == [0, 1, 1]
        await until(lambda: asyncio.all_tasks() == tasks)
        source.go_on.set()
        await gateway.reload(configured(THREE, signals=OTHER_SIGNALS))
        assert len(gateway.configuration.upstreams) == 3
    assert all(door.closed for door in doors.made)


async def test_a_gateway_whose_opening_is_cancelled_leaves_nothing() -> None:
    """The first request's server gives up while the board opens: doors closed, no task left, and it opens later."""
    doors, source = Doors(), Patient()
    source.go_on.clear()
    gateway = Gateway(configured(ONE), transport=doors, signals=[source])
    tasks = asyncio.all_tasks()
    opening = asyncio.ensure_future(gateway.core())
    await source.asked.wait()
    opening.cancel()
    await asyncio.wait({opening})
    assert [door.closed for door in doors.made] == [1]
    assert asyncio.all_tasks() == tasks
    source.go_on.set()
    async with gateway:
        assert gateway.is_open


async def test_each_door_is_closed_once_when_the_gateway_closes_under_a_former_request() -> None:
    """Its last request leaves while everything is being closed: no door of its time is closed a second time."""
    doors = Doors()
    async with Gateway(configured(ONE), transport=doors) as gateway:
        request = await gateway.enter()
        await gateway.reload(configured({SECOND: NOWHERE}))
        closing = asyncio.ensure_future(gateway.aclose())
        await asyncio.sleep(0)
        request.leave()
        await closing
    assert [door.closed for door in doors.made] == [1, 1]


async def test_settings_read_later_are_never_replaced_by_settings_read_earlier() -> None:
    """Two reloads at once, the first slow to read: what was read last holds."""
    slow = threading.Event()
    reading = threading.Event()
    results = [configured(ONE, receipts={"issuer": "new"}), configured(ONE, receipts={"issuer": "old"})]

    def load() -> Configuration:
        result = results.pop()
        if result.receipts.issuer == "old":
            reading.set()
            slow.wait(30)
        return result

    async with Gateway(configured(ONE), load=load, background=False) as gateway:
        first = asyncio.ensure_future(gateway.reload())
        await until(reading.is_set)
        second = asyncio.ensure_future(gateway.reload())
        await asyncio.sleep(0.1)
        slow.set()
        await asyncio.gather(first, second)
        assert gateway.configuration.receipts.issuer == "new"


async def test_closing_does_not_wait_for_settings_that_are_being_read() -> None:
    """A file system that hangs holds up a reload, not the end."""
    hangs = threading.Event()
    reading = threading.Event()

    def load() -> Configuration:
        reading.set()
        hangs.wait(30)
        return configured(ONE)

    async with Gateway(configured(ONE), load=load, background=False) as gateway:
        reloading = asyncio.ensure_future(gateway.reload())
        await until(reading.is_set)
        await asyncio.wait_for(gateway.aclose(), 25)
        assert not hangs.is_set()
        hangs.set()
        await reloading


async def test_a_change_before_the_opening_is_noticed(tmp_path: Path) -> None:
    """Settings that are written between the gateway's making and its first request hold, without an order."""
    file = tmp_path / "vetted.toml"
    text = f'[regions.{FIRST}]\nbase_url = "{NOWHERE}"\nhealth_path = ""\n'
    file.write_text(text)
    gateway = Gateway.from_file(file)
    file.write_text(f'receipt_key = "vetted"\n{text}')
    async with gateway:
        await until(lambda: gateway.configuration.receipt_key == "vetted")


def test_a_request_in_a_new_loop_is_in_flight() -> None:
    """A test client's second loop: its requests are counted, so that a drain waits for them."""

    async def counted(gateway: Gateway) -> int:
        request = await gateway.enter()
        try:
            return gateway.in_flight
        finally:
            request.leave()

    gateway = Gateway(configured(ONE), background=False)
    assert [asyncio.run(counted(gateway)) for _ in range(3)] == [1, 1, 1]


def test_a_gateway_drained_in_a_loop_that_is_gone_serves_in_the_next() -> None:
    """A host that drains it and ends its loop without closing it: the next loop finds a gateway that serves."""

    async def drained(gateway: Gateway) -> None:
        (await gateway.enter()).leave()
        await gateway.drain(0)

    gateway = Gateway(configured(ONE), background=False)
    asyncio.run(drained(gateway))
    asyncio.run(drained(gateway))


def test_draining_does_not_touch_what_died_with_its_loop() -> None:
    """A request of a loop that is gone can neither be waited for nor ended."""

    async def left(gateway: Gateway) -> None:
        watch = UntilCallerLeaves(never)
        await watch.__aenter__()

        def end(error: AnswerError) -> bool:
            return watch.stop(error)

        (await gateway.enter()).ends_by(end)

    async def drained(gateway: Gateway) -> int:
        return await gateway.drain(0)

    gateway = Gateway(configured(ONE), background=False)
    asyncio.run(left(gateway))
    assert asyncio.run(drained(gateway)) == 0


async def test_whoever_waits_for_the_opening_while_it_is_told_to_stop_is_refused() -> None:
    """Drained while its first request waits for the opening: the request is told, and nothing is sent."""
    source = Patient()
    source.go_on.clear()
    async with FakeUpstream() as one:
        gateway = Gateway(configured({FIRST: one.base_url}), signals=[source])
        answering = asyncio.ensure_future(asgi_exchange(VettedProxy(gateway), json=payload()))
        await source.asked.wait()
        await gateway.drain(0)
        source.go_on.set()
        answer = await answering
        await gateway.aclose()
    assert (answer.status, answer.json()["error"]["code"]) == (503, "shutting_down")
    assert one.requests == []


async def test_streams_over_many_reloads_are_let_go_of_each_in_its_turn() -> None:
    """Three reloads, a stream of each time, ended in another order: each one's door closes with its last request."""
    async with FakeUpstream() as one:
        tables: list[dict[str, Any]] = [
            {FIRST: {"base_url": one.base_url, "limits": {"idle_seconds": 60 + turn}}} for turn in range(3)
        ]
        async with Gateway(configured(tables[0])) as gateway:
            app = VettedProxy(gateway)
            callers, answers, cores = [], [], []
            for turn in range(3):
                one.then(FakeAnswer.stream([role(), content()], ending="stall"))
                caller = Caller(app, payload(stream=True))
                answers.append(caller.start())
                await caller.content.wait()
                callers.append(caller)
                cores.append(weakref.ref(gateway.board if turn == 0 else gateway.fleet))
                if turn < 2:
                    await gateway.reload(configured(tables[turn + 1]))
            assert (len(gateway._former), gateway.fleet.in_flight, one.open_connections) == (2, 3, 3)
            for turn in (1, 0, 2):
                callers[turn].leave()
                await answers[turn]
            assert gateway.fleet.in_flight == 0
            await until(lambda: not one.open_connections)
            assert (len(gateway._former), gateway._former._closings, gateway.in_flight) == (0, set(), 0)
            gc.collect()
            assert cores[1]() is None
