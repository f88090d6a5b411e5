"""The moment a breaker half-opens, on real sockets: of a thousand requests at once no more than its probes get through."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from streams.wall import FIRST, LIMIT, SECOND, content, finish, payload, role, told, until
from support import configured
from vetted_mw import Gateway, VettedProxy
from vetted_mw.fleet.breaker import BreakerPolicy, BreakerState
from vetted_mw.testing import FakeAnswer, FakeUpstream, ManualClock, asgi_exchange, chat_completion

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio

PROBES = BreakerPolicy().probes
CROWD = 1000
both = pytest.mark.parametrize("stream", [False, True], ids=["json", "sse"])


class World:
    """A gateway over two servers, the first of which has failed until its breaker opened."""

    def __init__(self, gateway: Gateway, clock: ManualClock, first: FakeUpstream, second: FakeUpstream) -> None:
        self.gateway = gateway
        self.app = VettedProxy(gateway)
        self.first = first
        self.second = second
        self._clock = clock

    @property
    def breaker(self) -> BreakerState:
        state = self.gateway.fleet.state(FIRST)
        assert state is not None
        return state.breaker

    def stands(self, state: BreakerState) -> bool:
        return self.breaker is state

    async def ask(self, **members: Any) -> Any:
        return told(await asgi_exchange(self.app, json=payload(**members)))

    async def ask_first(self, **members: Any) -> Any:
        return await self.ask(vetted={"region": FIRST}, **members)

    async def fail(self) -> None:
        while self.breaker is BreakerState.CLOSED:
            self.first.then(FakeAnswer.json({"error": {"message": "broken"}}, status=500))
            await self.ask_first()
        self.first.requests.clear()

    def half_open(self) -> None:
        self._clock.tick(BreakerPolicy().max_open_seconds * 2)
        assert self.breaker is BreakerState.HALF_OPEN


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[World]:
    clock = ManualClock()
    async with asyncio.timeout(3 * LIMIT), FakeUpstream() as first, FakeUpstream(text="spare") as second:
        configuration = configured({FIRST: first.base_url, SECOND: second.base_url})
        async with Gateway(configuration, monotonic=clock.monotonic, background=False) as gateway:
            world = World(gateway, clock, first, second)
            await world.fail()
            yield world


def held(gate: asyncio.Event, *, stream: bool) -> FakeAnswer:
    """Return a good answer that waits for the gate before its first byte of content."""
    if stream:
        return FakeAnswer.stream([role(), gate, content(), finish(), b"data: [DONE]\n\n"])
    return FakeAnswer(headers=(("content-type", "application/json"),), body=(gate, chat_completion()), chunked=True)


@both
async def test_of_a_thousand_pinned_requests_at_once_no_more_than_the_probes_reach_the_upstream(stream: bool) -> None:
    """The others are told at once that the region is not available; the answer of the probe closes the breaker."""
    gate = asyncio.Event()
    async with opened() as world:
        world.first.then(*[held(gate, stream=stream) for _ in range(CROWD)])
        world.half_open()
        asking = [asyncio.ensure_future(world.ask_first(stream=stream)) for _ in range(CROWD)]
        await until(lambda: sum(one.done() for one in asking) == CROWD - PROBES and len(world.first.requests) >= PROBES)
        assert len(world.first.requests) == PROBES
        assert world.stands(BreakerState.HALF_OPEN)
        gate.set()
        answers = await asyncio.gather(*asking)
        assert sorted(answer.status for answer in answers) == [200] * PROBES + [503] * (CROWD - PROBES)
        assert len(world.first.requests) == PROBES
        assert world.stands(BreakerState.CLOSED)
        assert world.second.requests == []
        assert world.gateway.fleet.in_flight == 0


async def test_requests_that_may_go_elsewhere_do_and_none_is_refused() -> None:
    """With the probe's place taken the region is not admitted, and the next one of the order serves."""
    gate = asyncio.Event()
    crowd = 200
    async with opened() as world:
        world.first.then(*[held(gate, stream=False) for _ in range(crowd)])
        world.half_open()
        asking = [asyncio.ensure_future(world.ask()) for _ in range(crowd)]
        await until(lambda: sum(one.done() for one in asking) == crowd - PROBES and len(world.first.requests) >= PROBES)
        assert (len(world.first.requests), len(world.second.requests)) == (PROBES, crowd - PROBES)
        gate.set()
        answers = await asyncio.gather(*asking)
        assert {answer.status for answer in answers} == {200}
        assert sorted(answer.attempts[-1][0] for answer in answers) == sorted(
            [FIRST] * PROBES + [SECOND] * (crowd - PROBES)
        )


@both
async def test_a_probe_that_fails_opens_it_again_for_everybody(stream: bool) -> None:
    """The upstream saw one request, and sees none until the next, longer wait is over."""
    async with opened() as world:
        world.half_open()
        world.first.then(FakeAnswer.json({"error": {"message": "broken"}}, status=500))
        assert (await world.ask_first(stream=stream)).status == 503
        assert world.stands(BreakerState.OPEN)
        answers = await asyncio.gather(*(world.ask_first(stream=stream) for _ in range(50)))
        assert {answer.status for answer in answers} == {503}
        assert len(world.first.requests) == 1


async def test_a_probe_whose_caller_leaves_gives_its_place_back() -> None:
    """Nothing was proved: the next request is a probe again."""
    async with opened() as world:
        world.half_open()
        gone = asyncio.ensure_future(world.ask_first())
        world.first.then(held(asyncio.Event(), stream=False))
        await until(lambda: len(world.first.requests) == PROBES)
        assert (await world.ask_first()).status == 503
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert world.stands(BreakerState.HALF_OPEN)
        assert (await world.ask_first()).status == 200
        assert world.stands(BreakerState.CLOSED)
