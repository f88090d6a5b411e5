"""Parts of uvicorn's connection that are smaller than its own do what its own do."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from uvicorn.protocols.http.flow_control import FlowControl

from vetted_mw.cli.lean import LeanFlow, LeanPipeline

pytestmark = pytest.mark.anyio


class _Transport:
    def __init__(self) -> None:
        self.told: list[str] = []

    def pause_reading(self) -> None:
        self.told.append("pause")

    def resume_reading(self) -> None:
        self.told.append("resume")


@pytest.mark.parametrize("kind", [FlowControl, LeanFlow])
async def test_who_writes_waits_from_a_pause_to_the_next_end_of_one(kind: type[FlowControl]) -> None:
    flow = kind(cast("asyncio.Transport", _Transport()))
    flow.resume_writing()
    for _ in range(2):
        flow.pause_writing()
        flow.pause_writing()
        waiting = [asyncio.create_task(flow.drain()) for _ in range(2)]
        await asyncio.sleep(0)
        assert (flow.write_paused, [one.done() for one in waiting]) == (True, [False, False])
        flow.resume_writing()
        assert not flow.write_paused
        await asyncio.gather(*waiting)


@pytest.mark.parametrize("kind", [FlowControl, LeanFlow])
def test_reading_is_stopped_once_and_resumed_once(kind: type[FlowControl]) -> None:
    transport = _Transport()
    flow = kind(cast("asyncio.Transport", transport))
    for step in (flow.resume_reading, flow.pause_reading, flow.pause_reading, flow.resume_reading, flow.resume_reading):
        step()
    assert transport.told == ["pause", "resume"]


def test_it_holds_all_that_uvicorn_looks_for() -> None:
    """An attribute that uvicorn gives its own tomorrow is not missed in a server: but for the event, ours has them all."""
    transport = cast("asyncio.Transport", _Transport())
    assert set(vars(FlowControl(transport))) - set(vars(LeanFlow(transport))) == {"_is_writable_event"}


@given(st.lists(st.integers(0, 9) | st.none()))
def test_requests_that_wait_are_served_in_their_order(steps: list[int | None]) -> None:
    """A number puts a request last, None takes the first."""
    theirs: deque[int] = deque()
    ours = LeanPipeline()
    for step in steps:
        if step is not None:
            theirs.appendleft(step)
            ours.appendleft(step)
        elif theirs:
            assert ours.pop() == theirs.pop()
        assert bool(ours) == bool(theirs)


def test_a_pipeline_without_requests_is_small() -> None:
    assert sys.getsizeof(LeanPipeline()) < sys.getsizeof(deque()) / 4
