"""A limit on waiting that does not count the time in which we were too busy to look."""

from __future__ import annotations

import asyncio
import time

import pytest

from streams.wall import LIMIT
from vetted_mw.proxy.patience import Patience

pytestmark = pytest.mark.anyio


async def test_what_does_not_come_is_given_up() -> None:
    """With the loop idle it is a plain timeout."""
    async with asyncio.timeout(LIMIT):
        with pytest.raises(TimeoutError):
            async with Patience(0.05):
                await asyncio.Event().wait()


async def test_what_comes_is_not_disturbed() -> None:
    """A block that ends in time ends with its own result, and nothing of the limit is left."""
    async with Patience(0.05):
        await asyncio.sleep(0)
    await asyncio.sleep(0.1)


async def test_a_limit_that_was_lifted_holds_no_more() -> None:
    """After `stop` the block may take as long as it likes."""
    async with Patience(0.02) as patience:
        patience.stop()
        await asyncio.sleep(0.1)


async def test_time_in_which_the_loop_stood_still_does_not_count() -> None:
    """A peer that answered while we were busy is heard, though the limit has long been over by the clock."""
    came = asyncio.Event()

    def busy_and_then_it_came(turns: int) -> None:
        time.sleep(0.02)  # the loop is kept from looking for twenty times the limit in all
        loop = asyncio.get_running_loop()
        loop.call_soon(busy_and_then_it_came, turns - 1) if turns else came.set()

    async with asyncio.timeout(LIMIT):
        async with Patience(0.02):
            asyncio.get_running_loop().call_soon(busy_and_then_it_came, 20)
            await came.wait()
    assert came.is_set()


async def test_a_cancel_from_outside_goes_its_own_way() -> None:
    """Only its own end becomes a `TimeoutError`."""

    async def waiting() -> None:
        async with Patience(60):
            await asyncio.Event().wait()

    task = asyncio.ensure_future(waiting())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_the_block_raises_is_raised() -> None:
    """An error inside is not turned into anything else."""
    with pytest.raises(LookupError):
        async with Patience(60):
            raise LookupError
