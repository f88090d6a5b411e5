"""The requests inside, counted by hand: who hears that they have left, and which of them end before their time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from vetted_mw.errors import AnswerError, ShuttingDownError
from vetted_mw.lifecycle.traffic import InFlight, Traffic

pytestmark = pytest.mark.anyio

NEVER_SECONDS = 600.0


def entered(traffic: Traffic, core: Any = "a core") -> InFlight:
    return traffic.enter(core, asyncio.get_running_loop())


def unheard(_core: object) -> None:
    return None


async def test_everybody_who_waits_for_the_last_one_hears_of_it() -> None:
    """Two wait for the same requests, one comes when they are gone, and one waits for those of later."""
    traffic = Traffic(on_left=unheard)
    first, second = entered(traffic), entered(traffic)
    waiting = [asyncio.ensure_future(traffic.emptied_within(NEVER_SECONDS)) for _ in range(2)]
    await asyncio.sleep(0)
    first.leave()
    await asyncio.sleep(0)
    assert not any(one.done() for one in waiting)
    second.leave()
    assert await asyncio.gather(*waiting) == [True, True]
    assert await traffic.emptied_within(0) is True
    later = entered(traffic)
    assert await traffic.emptied_within(0) is False
    later.leave()
    assert await traffic.emptied_within(0) is True


async def test_who_comes_again_at_once_keeps_nobody_waiting() -> None:
    """Nobody was inside for a moment: that is what was waited for."""
    traffic = Traffic(on_left=unheard)
    one = entered(traffic)
    waiting = asyncio.ensure_future(traffic.emptied_within(NEVER_SECONDS))
    await asyncio.sleep(0)
    one.leave()
    entered(traffic)
    assert await waiting is True


async def test_the_last_request_of_each_core_is_told() -> None:
    """Whoever closes what a core used asks no more often than that."""
    told: list[object] = []
    traffic = Traffic(on_left=told.append)
    ones = [entered(traffic, core) for core in ("old", "old", "new")]
    for one in ones:
        one.leave()
        one.leave()
    assert told == ["old", "new"]
    assert (len(traffic), traffic.holds("old")) == (0, False)  # type: ignore[arg-type]


async def test_only_those_that_end_before_their_time_are_counted_as_ended() -> None:
    """One ends, one says that it is too late, one does not say how it ends until later: then it does at once."""
    traffic = Traffic(on_left=unheard)
    heard: list[tuple[str, AnswerError]] = []
    ending, late, silent = entered(traffic), entered(traffic), entered(traffic)

    def end(error: AnswerError) -> bool:
        heard.append(("ending", error))
        ending.leave()
        return True

    def too_late(_error: AnswerError) -> bool:
        late.leave()
        return False

    def at_once(error: AnswerError) -> bool:
        heard.append(("silent", error))
        silent.leave()
        return True

    ending.ends_by(end)
    late.ends_by(too_late)
    draining = asyncio.ensure_future(traffic.drain(0))
    while not heard:  # noqa: ASYNC110 (a turn of the loop, at most a few)
        await asyncio.sleep(0)
    silent.ends_by(at_once)
    assert await draining == 1
    assert [name for name, _error in heard] == ["ending", "silent"]
    assert all(isinstance(error, ShuttingDownError) for _name, error in heard)
