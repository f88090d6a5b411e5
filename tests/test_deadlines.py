"""Limits in time: alarms on one timer ring when they are due, and a limit ends its block as `asyncio.timeout_at` does."""

from __future__ import annotations

import asyncio
import contextlib
import math
from typing import TYPE_CHECKING, Any, Self, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vetted_mw.deadlines import Limit, Sweep, WaitLimit, brief_sweep_here, sweep_here

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

pytestmark = pytest.mark.anyio

LATEST = 0.005
"""Seconds by which an alarm may be late on a loop that keeps up."""


# ---- alarms


class Handle:
    """What `call_at` gives back."""

    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when = when
        self.callback = callback
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class TickedLoop:
    """The part of an event loop that a sweep needs, on a clock that moves only by `tick`."""

    def __init__(self) -> None:
        self.now = 100.0
        self.handles: list[Handle] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None], *, context: object) -> Handle:
        assert context is not None, "a look belongs to no request"
        self.handles.append(Handle(when, callback))
        return self.handles[-1]

    @property
    def pending(self) -> list[Handle]:
        return [handle for handle in self.handles if not handle.is_cancelled]

    def tick(self, seconds: float) -> None:
        """Let time pass, and call what becomes due at its instant."""
        end = self.now + seconds
        while due := [handle for handle in self.pending if handle.when <= end]:
            first = min(due, key=lambda handle: handle.when)
            self.handles.remove(first)
            self.now = max(self.now, first.when)
            first.callback()
        self.now = end


class Bell:
    """An alarm that notes when it rings."""

    def __init__(self, loop: TickedLoop, at: float) -> None:
        self.at = at
        self.rung: list[float] = []
        self._loop = loop

    def ring(self) -> None:
        self.rung.append(self._loop.now)


def swept() -> tuple[TickedLoop, Sweep]:
    loop = TickedLoop()
    return loop, Sweep(cast("Any", loop))


def test_alarms_ring_in_time_by_one_timer() -> None:
    """Whatever their order, each rings once, when it is due, and there is never more than one timer."""
    loop, sweep = swept()
    bells = [Bell(loop, 100.0 + seconds) for seconds in (3.0, 1.0, 2.0, 1.5)]
    for bell in bells:
        sweep.arm(bell)
        assert len(loop.pending) == 1
    loop.tick(10.0)
    assert [bell.rung for bell in bells] == [[103.0], [101.0], [102.0], [101.5]]
    assert loop.pending == []


def test_many_that_are_due_one_after_the_other_cost_few_looks() -> None:
    """A thousand alarms within a tenth of a second are told by looks that lie apart, each late by a moment at most."""
    loop, sweep = swept()
    bells = [Bell(loop, 101.0 + number / 10_000) for number in range(1000)]
    for bell in bells:
        sweep.arm(bell)
    loop.tick(5.0)
    looks = {bell.rung[0] for bell in bells}
    assert len(looks) <= 25
    assert all(0 <= bell.rung[0] - bell.at <= LATEST + 1e-9 for bell in bells)


def test_an_alarm_that_moves_to_later_is_looked_at_again_then() -> None:
    """To move it is to write to it: the look that comes too early finds it not due and comes again."""
    loop, sweep = swept()
    bell = Bell(loop, 101.0)
    sweep.arm(bell)
    bell.at = 105.0
    loop.tick(4.5)
    assert bell.rung == []
    loop.tick(0.5)
    assert bell.rung == [105.0]


def test_one_that_is_disarmed_is_never_rung() -> None:
    """It may be disarmed at any time, and more than once; the timer that was made for it finds nothing, and ends."""
    loop, sweep = swept()
    bell = Bell(loop, 101.0)
    sweep.disarm(bell)
    sweep.arm(bell)
    sweep.disarm(bell)
    sweep.disarm(bell)
    loop.tick(5.0)
    assert bell.rung == []
    assert loop.pending == []


@given(st.lists(st.tuples(st.sampled_from("adlet"), st.integers(0, 4), st.floats(0.0, 3.0)), max_size=60))
def test_none_is_early_none_is_late_none_is_forgotten(steps: list[tuple[str, int, float]]) -> None:
    """Armed, disarmed, moved and left in any order: who is armed rings at its instant or within a moment of it."""
    loop, sweep = swept()
    bells = [Bell(loop, math.inf) for _ in range(5)]
    due: dict[int, float] = {}

    def settle() -> None:
        for number, at in list(due.items()):
            if bells[number].rung:
                (told,) = bells[number].rung
                assert at <= told <= max(at, armed_at[number]) + LATEST + 1e-9
                bells[number].rung.clear()
                del due[number]

    armed_at: dict[int, float] = {}
    for what, number, seconds in steps:
        bell = bells[number]
        if what == "t":
            loop.tick(seconds)
            settle()
            assert all(at > loop.now - LATEST - 1e-9 or armed_at[n] > loop.now - LATEST for n, at in due.items())
        elif what == "d":
            sweep.disarm(bell)
            due.pop(number, None)
        elif what == "a":
            bell.at = due[number] = loop.now + seconds
            armed_at[number] = loop.now
            sweep.arm(bell)
        elif number in due:  # later by writing, earlier by asking for a look
            bell.at = due[number] = due[number] + seconds if what == "l" else max(loop.now, due[number] - seconds)
            armed_at[number] = loop.now
            if bell.at < sweep.due:
                sweep.look_by(bell.at)
        assert len(loop.pending) <= 1
    loop.tick(300.0)
    settle()
    assert due == {}
    assert all(bell.rung == [] for bell in bells)


async def test_a_thread_has_a_sweep_of_its_own_for_each_loop() -> None:
    """The running loop keeps its sweep; another loop's alarms never end up on this one's timer."""
    loop = asyncio.get_running_loop()
    here, brief = sweep_here(loop), brief_sweep_here(loop)
    assert here is sweep_here(loop)
    assert brief is brief_sweep_here(loop)
    assert brief is not here

    async def elsewhere() -> tuple[Sweep, object]:
        running = asyncio.get_running_loop()
        with Limit(running.time() + 60):
            return sweep_here(running), running

    there, other = await asyncio.to_thread(lambda: asyncio.run(elsewhere()))
    assert there is not here
    assert there.loop is other
    assert sweep_here(loop) is here


# ---- a limit is what asyncio.timeout_at is


class AsTimeout:
    """`Limit` with the manners of `asyncio.Timeout`, so that one story can be told of both."""

    def __init__(self, at: float) -> None:
        self._limit = Limit(at)

    async def __aenter__(self) -> Self:
        self._limit.__enter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._limit.__exit__(kind, error, trace)

    def reschedule(self, at: float) -> None:
        self._limit.move(at)

    def expired(self) -> bool:
        return self._limit.has_expired


Making = Any  # of either kind
SOON, NEVER = 0.02, 60.0


def now() -> float:
    return asyncio.get_running_loop().time()


async def waits_too_long(limit: Making) -> object:
    async with limit(now() + SOON) as held:
        await asyncio.sleep(NEVER)
    return held.expired()


async def ends_in_time(limit: Making) -> object:
    async with limit(now() + NEVER) as held:
        await asyncio.sleep(0)
    return held.expired()


async def is_over_before_it_begins(limit: Making) -> None:
    async with limit(now() - 1):
        await asyncio.sleep(NEVER)


async def never_waits(limit: Making) -> object:
    async with limit(now() - 1) as held:
        pass
    return held.expired()


async def raises_its_own(limit: Making) -> None:
    async with limit(now() + SOON):
        raise KeyError


async def makes_an_error_of_the_cancel(limit: Making) -> None:
    async with limit(now() + SOON):
        try:
            await asyncio.sleep(NEVER)
        except asyncio.CancelledError:
            raise LookupError from None


async def swallows_the_cancel(limit: Making) -> object:
    async with limit(now() + SOON) as held:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(NEVER)
    return held.expired()


async def the_inner_is_due_first(limit: Making) -> object:
    inner_ended = False
    async with limit(now() + NEVER) as outer:
        try:
            async with limit(now() + SOON):
                await asyncio.sleep(NEVER)
        except TimeoutError:
            inner_ended = True
    return inner_ended, outer.expired()


async def the_outer_is_due_first(limit: Making) -> object:
    outer_ended = False
    try:
        async with limit(now() + SOON), limit(now() + NEVER) as inner:
            await asyncio.sleep(NEVER)
    except TimeoutError:
        outer_ended = True
    return outer_ended, inner.expired()


async def both_are_due_at_once(limit: Making) -> None:
    at = now() + SOON
    async with limit(at), limit(at):
        await asyncio.sleep(NEVER)


async def is_moved_to_sooner(limit: Making) -> None:
    async with limit(now() + NEVER) as held:
        held.reschedule(now() + SOON)
        await asyncio.sleep(NEVER)


async def is_moved_to_later(limit: Making) -> object:
    async with limit(now() + SOON) as held:
        held.reschedule(now() + NEVER)
        await asyncio.sleep(3 * SOON)
    return held.expired()


async def is_cancelled_from_outside(limit: Making) -> None:
    task = asyncio.current_task()
    assert task is not None
    async with limit(now() + NEVER):
        asyncio.get_running_loop().call_soon(task.cancel)
        await asyncio.sleep(NEVER)


async def is_cancelled_and_due_at_once(limit: Making) -> None:
    task = asyncio.current_task()
    assert task is not None
    async with limit(now() + NEVER) as held:
        held.reschedule(now())
        task.cancel()
        await asyncio.sleep(NEVER)


async def is_cancelled_while_it_expires(limit: Making) -> None:
    task = asyncio.current_task()
    assert task is not None
    async with limit(now() + SOON):
        try:
            await asyncio.sleep(NEVER)
        finally:
            task.cancel()


STORIES = [
    value for name, value in list(globals().items()) if asyncio.iscoroutinefunction(value) and "test" not in name
]


async def end_of(story: Callable[[Making], Awaitable[object]], limit: Making) -> tuple[object, ...]:
    """Run a story in a task of its own; returns how it ended and how many cancels were left with the task."""
    left: list[int] = []

    async def told() -> object:
        try:
            return await story(limit)
        finally:
            task = asyncio.current_task()
            left.append(-1 if task is None else task.cancelling())

    task = asyncio.ensure_future(told())
    await asyncio.wait({task}, timeout=20)
    if task.cancelled():
        return "cancelled", left
    error = task.exception()
    return ("raised", type(error), left) if error is not None else ("returned", task.result(), left)


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
async def test_a_limit_ends_its_block_as_asyncio_does(story: Callable[[Making], Awaitable[object]]) -> None:
    """The same outcome, the same error and the same count of cancels, whoever cancels and whatever the block makes of it."""
    assert await end_of(story, AsTimeout) == await end_of(story, asyncio.timeout_at)


async def test_one_limit_may_be_entered_again_and_again() -> None:
    """As a stream does for each of its parts: what expired once limits the next block as if it were new."""
    limit = Limit(now() + SOON)
    for _ in range(3):
        limit.at = now() + SOON
        with pytest.raises(TimeoutError), limit:
            await asyncio.sleep(NEVER)
        assert limit.has_expired
        limit.at = now() + NEVER
        with limit:
            await asyncio.sleep(0)
        assert not limit.has_expired


async def test_a_limit_moved_outside_its_block_cancels_nobody() -> None:
    """It holds a task only while its block runs; afterwards it is a number."""
    limit = Limit(now() + NEVER)
    with limit:
        await asyncio.sleep(0)
    limit.move(now())
    await asyncio.sleep(SOON)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_limit_of_waits_ends_a_wait_and_nothing_else() -> None:
    """While the block does not wait it may take its time; the wait that begins after that has its own time again."""
    limit = WaitLimit(now() + SOON)
    slept: list[bool] = []

    async def block() -> None:
        with limit:
            await asyncio.sleep(3 * SOON)
            slept.append(limit.has_slept)
            limit.at = now() + SOON
            limit.wake()
            slept.append(limit.has_slept)
            limit.is_waiting = True
            await asyncio.sleep(NEVER)

    with pytest.raises(TimeoutError):
        await block()
    assert (slept, limit.has_expired) == ([True, False], True)


async def test_a_limit_of_waits_moves_to_later() -> None:
    """Each wait may be as long as the last, however many there are."""
    limit = WaitLimit(now() + 4 * SOON)
    with limit:
        limit.is_waiting = True
        for _ in range(6):
            limit.at = now() + 4 * SOON
            await asyncio.sleep(SOON)
    assert not limit.has_expired


def test_a_limit_needs_a_task() -> None:
    """Outside of one there is nothing it could cancel: that is said at once."""
    loop = asyncio.new_event_loop()
    told: list[Exception] = []

    def enter() -> None:
        try:
            with Limit(0.0):
                pass
        except RuntimeError as error:
            told.append(error)
        loop.stop()

    loop.call_soon(enter)
    loop.run_forever()
    loop.close()
    assert len(told) == 1


async def test_an_infinite_limit_makes_no_timer() -> None:
    """What never ends needs no look."""
    loop, sweep = swept()
    sweep.arm(Bell(loop, math.inf))
    assert loop.handles == []
