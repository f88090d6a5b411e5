"""In-app streams over real sockets: callers that leave, upstreams that cut, in all three frameworks."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING

import anyio.to_thread
import httpx
import pytest

from frameworks.hosts import HOSTS, PATH, Spec
from frameworks.place import asked, by_sdk, gateway_over, until
from support import served
from vetted_mw.testing import FakeAnswer, FakeUpstream, chat_frames

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import ASGIApp

    from vetted_mw import Gateway

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("host", HOSTS)]


@contextlib.asynccontextmanager
async def served_here(app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    """Serve an app in a thread of its own and yield a client of it."""
    serving = served(app)
    origin = await anyio.to_thread.run_sync(serving.__enter__)
    try:
        async with httpx.AsyncClient(base_url=origin, trust_env=False, timeout=60) as client:
            yield client
    finally:
        await anyio.to_thread.run_sync(serving.__exit__, None, None, None)


def relaying(host: str, gateway: Gateway) -> ASGIApp:
    """Build the host's app around a handler that relays an SDK stream."""
    build, _mount = HOSTS[host]
    return build(Spec(gateway=gateway, answer=by_sdk(gateway)))


async def test_a_caller_that_leaves_mid_stream_frees_the_upstream(host: str) -> None:
    """When the caller hangs up, the framework ends the handler, and the upstream's connection is closed with it."""
    async with FakeUpstream() as paris:
        gateway = gateway_over(paris)
        paris.then(FakeAnswer.stream(chat_frames()[:3], ending="stall"))
        async with served_here(relaying(host, gateway)) as client, asyncio.timeout(60):
            async with client.stream("POST", PATH, json=asked(stream=True)) as answer:
                async for line in answer.aiter_lines():
                    if "Hel" in line:
                        break
            await paris.requests[0].left.wait()
            await until(lambda: not gateway.fleet.in_flight)
    assert len(paris.requests) == 1


async def test_an_upstream_that_cuts_ends_the_handlers_stream_with_an_error_event(host: str) -> None:
    """The caller gets the deltas that came, then an error event with receipt and trace, then the end: no [DONE]."""
    async with FakeUpstream() as paris, FakeUpstream() as gravelines:
        gateway = gateway_over(paris, gravelines)
        paris.then(FakeAnswer.stream(chat_frames(done=False)[:3], ending="cut"))
        async with served_here(relaying(host, gateway)) as client:
            answer = await client.post(PATH, json=asked(stream=True))
    frames = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    *chunks, last = [json.loads(frame) for frame in frames]
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks) == "Hello"
    assert last["error"]["code"] == "upstream_stream_cut"
    assert last["receipt"]["completion_status"] == "upstream_error"
    assert [attempt["outcome"] for attempt in last["routing_trace"]["attempts"]] == ["upstream_cut"]
    assert gravelines.requests == []


async def test_a_stream_reaches_its_caller_while_the_upstream_still_speaks(host: str) -> None:
    """Deltas are not held until the end: the first one is read before the upstream sends the rest."""
    go_on = asyncio.Event()
    first, *rest = chat_frames(words=("Bon", "jour"))[1:]
    async with FakeUpstream() as paris:
        gateway = gateway_over(paris)
        paris.then(FakeAnswer.stream([first, go_on, *rest]))
        text = ""
        async with (
            served_here(relaying(host, gateway)) as client,
            asyncio.timeout(60),
            client.stream("POST", PATH, json=asked(stream=True)) as answer,
        ):
            async for line in answer.aiter_lines():
                text += line
                if "Bon" in line:
                    go_on.set()
    assert "jour" in text
    assert text.endswith("data: [DONE]")
