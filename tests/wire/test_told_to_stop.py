"""`UntilCallerLeaves.stop`: told to stop before, during and after the block, together with other ends, and with a cancel."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from vetted_mw.asgi.intake import CallerLeftError, UntilCallerLeaves
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
