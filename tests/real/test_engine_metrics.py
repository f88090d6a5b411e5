"""The queue of a real llama.cpp server, read by the gateway's own probes off its Prometheus page."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import httpx
import pytest

from real.talk import PROMPT
from streams.wall import LIMIT
from support import configured
from vetted_mw import Gateway, VettedProxy
from vetted_mw.fleet.engines import Engine
from vetted_mw.testing import asgi_exchange

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from real.processes import LlamaServer
    from vetted_mw.fleet.fleet import RegionState

pytestmark = [pytest.mark.real, pytest.mark.anyio]

REGION = "scaleway-par-1"
SLOTS, REQUESTS = 2, 5


@contextlib.asynccontextmanager
async def busy(server: LlamaServer) -> AsyncIterator[None]:
    """Keep the server computing long streams, more than it has slots, that nobody waits for in the end."""
    body = {"model": "tiny", "messages": PROMPT, "max_tokens": 1500, "stream": True}
    async with httpx.AsyncClient(trust_env=False, timeout=2 * LIMIT) as client:
        asking = [
            asyncio.ensure_future(client.post(f"{server.base_url}/chat/completions", json=body))
            for _ in range(REQUESTS)
        ]
        try:
            yield
        finally:
            for one in asking:
                one.cancel()
            await asyncio.gather(*asking, return_exceptions=True)


async def probed(gateway: Gateway, holds: Callable[[RegionState], bool]) -> RegionState:
    """Probe the region again and again until what is known of it holds."""
    async with asyncio.timeout(LIMIT):
        while True:
            await gateway.probe(REGION)
            state = gateway.fleet.state(REGION)
            assert state is not None
            if holds(state):
                return state
            await asyncio.sleep(0.05)


async def test_more_requests_than_slots_saturate_a_real_server_and_their_end_frees_it(paris: LlamaServer) -> None:
    """With `max_queue = 1`: two requests are computed, the others wait, the region is full; idle it serves again."""
    table = {"base_url": paris.base_url, "metrics_path": "/metrics", "max_queue": 1}
    async with Gateway(configured({REGION: table}), background=False) as gateway:
        app = VettedProxy(gateway)
        question = {"model": "tiny", "messages": PROMPT, "max_tokens": 3, "vetted": {"region": REGION}}
        idle = await probed(gateway, lambda state: state.queue is not None and state.queue.running == 0)
        assert idle.queue is not None
        assert (idle.queue.engine, idle.queue.waiting, idle.saturated) == (Engine.LLAMA_CPP, 0, False)
        async with busy(paris):
            full = await probed(gateway, lambda state: state.saturated)
            assert full.queue is not None
            assert (full.in_flight, full.degraded) == (0, False)
            assert full.queue.running <= SLOTS
            assert 1 <= full.queue.waiting < REQUESTS
            refused = await asgi_exchange(app, json=question)
            assert refused.status == 503
            rejected = {one["region"]: one["rejected"] for one in refused.json()["routing_trace"]["candidates"]}
            assert rejected[REGION] == "saturated"
        await probed(gateway, lambda state: not state.saturated)
        assert (await asgi_exchange(app, json=question)).status == 200
