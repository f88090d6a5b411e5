"""`UntilCallerLeaves`: told to stop before, during and after the block, together with other ends; when the look begins."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import weakref
from typing import TYPE_CHECKING

import pytest

from vetted_mw.asgi.intake import CallerLeftError
from vetted_mw.asgi.leaving import UntilCallerLeaves
from vetted_mw.errors import ShuttingDownError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import Message

pytestmark = pytest.mark.anyio

WHY = ShuttingDownError("stopped")


async def never() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


async def gone() -> Message:
    return {"type": "http.disconnect"}


async def for_ever() -> None:
    await asyncio.Event().wait()


async def end_of(watch: UntilCallerLeaves, block: Callable[[], Awaitable[None]]) -> Exception | None:
    """Run `block` under `watch`; returns what came out of it."""
    try:
        async with watch:
            await block()
    except Exception as error:  # noqa: BLE001 (whatever it is)
        return error
    return None


def cancelling() -> int:
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


def cancel_current() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


async def test_stopped_before_it_begins_the_block_does_nothing() -> None:
    """The first wait of the block is its last."""
    watch = UntilCallerLeaves(never)
    assert watch.stop(WHY) is True
    assert watch.stop(ShuttingDownError("again")) is False
    assert await end_of(watch, for_ever) is WHY
    assert cancelling() == 0


async def test_stopped_inside_it_ends_by_what_it_was_told() -> None:
    """The cancel is taken back, so that whoever goes on may wait again."""
    watch = UntilCallerLeaves(never)

    async def block() -> None:
        assert watch.stop(WHY) is True
        await for_ever()

    assert await end_of(watch, block) is WHY
    assert cancelling() == 0
    await asyncio.sleep(0)


async def test_a_block_that_has_ended_hears_nothing() -> None:
    """Too late is no reason to raise."""
    async with UntilCallerLeaves(never) as watch:
        await asyncio.sleep(0)
    assert watch.stop(WHY) is False
    await asyncio.sleep(0)
    assert cancelling() == 0


async def test_a_block_stopped_in_its_last_step_has_ended_well() -> None:
    """Nothing was waited for after it: the answer stands, and no cancel is left behind."""
    async with UntilCallerLeaves(never) as watch:
        await asyncio.sleep(0)
        watch.stop(WHY)
    assert cancelling() == 0
    await asyncio.sleep(0)


@pytest.mark.parametrize("turns", range(5))
async def test_stopped_while_the_caller_leaves_it_ends_by_the_first_of_both(turns: int) -> None:
    """One end, never two, whichever came first; what is told as ended is what is raised."""
    watch = UntilCallerLeaves(gone)

    async def stop_later() -> bool:
        for _ in range(turns):
            await asyncio.sleep(0)
        return watch.stop(WHY)

    stopping = asyncio.ensure_future(stop_later())
    end = await end_of(watch, for_ever)
    assert isinstance(end, ShuttingDownError if await stopping else CallerLeftError)
    assert cancelling() == 0


@pytest.mark.parametrize("cancel_first", [False, True])
async def test_a_cancel_from_outside_stays_a_cancel(cancel_first: bool) -> None:
    """Cancelled and stopped at once: whoever cancelled sees a cancelled task, and its count is its own."""
    counts: list[int] = []
    inside = asyncio.Event()
    watch = UntilCallerLeaves(never)

    async def answer() -> None:
        try:
            async with watch:
                inside.set()
                await asyncio.Event().wait()
        finally:
            counts.append(cancelling())

    task = asyncio.ensure_future(answer())
    await inside.wait()
    if cancel_first:
        task.cancel()
    watch.stop(WHY)
    if not cancel_first:
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert counts == [1]


async def test_a_limit_that_ends_with_it_is_still_a_limit() -> None:
    """A timeout around it and a stop in the same turn: one of both is raised, and no cancel is left over."""
    ends: list[Exception | None] = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(None) as whole:
            watch = UntilCallerLeaves(never)

            async def block() -> None:
                whole.reschedule(asyncio.get_running_loop().time())
                watch.stop(WHY)
                await for_ever()

            ends.append(await end_of(watch, block))
    assert ends in ([], [WHY])
    assert cancelling() == 0


async def test_what_the_block_makes_of_the_cancel_is_kept() -> None:
    """A block that ends by an error of its own while it is stopped: its error is told, and no cancel is left behind."""
    watch = UntilCallerLeaves(never)

    async def block() -> None:
        watch.stop(WHY)
        try:
            await for_ever()
        except asyncio.CancelledError:
            raise LookupError from None

    assert isinstance(await end_of(watch, block), LookupError)
    assert cancelling() == 0


async def test_cancelled_by_itself_it_is_cancelled() -> None:
    """Neither stopped nor left: a cancel goes its own way."""

    async def answer() -> None:
        async with UntilCallerLeaves(never):
            cancel_current()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(answer())
    await asyncio.wait({task})
    assert task.cancelled()


# ---- when the look begins


class Counted:
    """A server's `receive` that notes how often it was asked, and tells of a caller who left before that."""

    def __init__(self) -> None:
        self.asked = 0

    async def __call__(self) -> Message:
        self.asked += 1
        return await gone()


async def test_a_block_that_is_quick_is_not_watched() -> None:
    """It costs neither a task nor a message of the server's, and leaves nothing behind that looks later."""
    receive = Counted()
    before = asyncio.all_tasks()
    async with UntilCallerLeaves(receive, after_seconds=0.02):
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == before
    await asyncio.sleep(0.05)
    assert receive.asked == 0
    assert cancelling() == 0


async def test_a_block_that_takes_its_time_is_watched() -> None:
    """A caller that left in the first moment is noticed after it."""
    receive = Counted()
    assert isinstance(await end_of(UntilCallerLeaves(receive, after_seconds=0.02), for_ever), CallerLeftError)
    assert receive.asked == 1
    assert cancelling() == 0


async def test_whoever_knows_that_it_will_take_time_lets_the_look_begin() -> None:
    """At once and once, however often it is asked for, and long before it would have begun by itself."""
    receive = Counted()
    watch = UntilCallerLeaves(receive, after_seconds=600)

    async def block() -> None:
        watch.look_now()
        watch.look_now()
        await for_ever()

    assert isinstance(await end_of(watch, block), CallerLeftError)
    assert receive.asked == 1


@pytest.mark.parametrize("is_stream", [False, True], ids=["looked for in time", "looked for at once"])
async def test_a_caller_who_never_takes_the_answer_counts_as_gone(is_stream: bool) -> None:
    """Where the server says nothing, the end of the time is the end of the block."""
    watch = UntilCallerLeaves(never, after_seconds=0.02, until=asyncio.get_running_loop().time() + 0.06)

    async def block() -> None:
        if is_stream:
            watch.look_now()
        await for_ever()

    assert isinstance(await end_of(watch, block), CallerLeftError)
    assert cancelling() == 0


async def test_the_look_sees_what_the_request_sees() -> None:
    """Outer middleware finds its own context variables in its `receive`, whoever's timer began the look."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("outer", default="nobody's")
    seen: list[str] = []

    async def receive() -> Message:
        seen.append(variable.get())
        return await gone()

    variable.set("the request's")
    await end_of(UntilCallerLeaves(receive, after_seconds=0.02), for_ever)
    assert seen == ["the request's"]


async def test_what_a_caller_who_left_asked_for_is_let_go_of_at_once() -> None:
    """The error that tells it holds the frames it went through: none of them may hold the error as well."""

    class Held:
        """What only the block knows."""

    async def left() -> weakref.ref[Held]:
        held = Held()

        async def receive() -> Message:
            assert held
            return await gone()

        with pytest.raises(CallerLeftError):
            async with UntilCallerLeaves(receive):
                await for_ever()
        return weakref.ref(held)

    gc.collect()
    gc.disable()
    try:
        held = await left()
        await asyncio.sleep(0)  # the loop's own handles go first
        assert held() is None
    finally:
        gc.enable()
