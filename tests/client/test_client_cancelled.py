"""A cancel at any turn of the event loop, and one on top of it, leave nothing behind and touch nobody else's socket."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
from typing import TYPE_CHECKING, Any

import pytest

from client.peers import OK, Peer, Peers, completion, door, whole
from client.test_client_tls import context_of
from proxy.tunnels import made_certificate
from streams.wall import LIMIT, until

if TYPE_CHECKING:
    from pathlib import Path

    from vetted_mw.proxy.own.transport import OwnTransport

pytestmark = pytest.mark.anyio

TURNS = 40  # a request over a new connection with TLS is through after about thirty
LARGE = b"x" * 600_000


async def well(peer: Peer) -> None:
    """Answer every request."""
    while True:
        await peer.request()
        await peer.say(OK)


async def _cancelled(client: OwnTransport, body: bytes, turns: int, *, again: int | None) -> bool:
    """Cancel a request after so many turns of the loop, and once more a few later; returns whether it was through."""
    task = asyncio.ensure_future(whole(client, completion(body)))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    if again is not None:
        for _ in range(again):
            await asyncio.sleep(0)
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return not task.cancelled()


@pytest.mark.parametrize("again", [None, 0, 1, 2], ids=["once", "twice", "a turn later", "two turns later"])
@pytest.mark.parametrize("body", [b"{}", LARGE], ids=["small", "large"])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_cancel_at_any_turn_leaves_nothing(tmp_path: Path, scheme: str, body: bytes, again: int | None) -> None:
    """No slot, no task, no socket; a descriptor opened meanwhile stays open, and the next request is served."""
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
    made = made_certificate(tmp_path) if scheme == "https" else None
    bystanders: list[int] = []
    before = asyncio.all_tasks()
    async with asyncio.timeout(LIMIT), Peers(well, tls=context_of(made) if made else None) as peers:
        for turns in range(TURNS):
            async with door(peers.base_url, ca_file=str(made.certificate) if made else "") as client:
                await _cancelled(client, body, turns, again=again)
                bystanders += os.pipe()
                assert not client._busy
                assert not client._dialing
                assert await whole(client, completion(body)) == (200, b"{}")
        await until(lambda: peers.open == 0)
    await until(lambda: asyncio.all_tasks() == before)
    gc.collect()
    for number in bystanders:
        os.close(number)  # raises where somebody else has closed it
    assert complaints == []


@pytest.mark.parametrize("turns", range(0, TURNS, 3))
async def test_a_client_that_closes_while_a_request_is_cancelled_leaves_nothing(tmp_path: Path, turns: int) -> None:
    """Closing and a cancel may meet at any turn, and both come to their end."""
    made = made_certificate(tmp_path)
    before = asyncio.all_tasks()
    async with asyncio.timeout(LIMIT), Peers(well, tls=context_of(made)) as peers:
        async with door(peers.base_url, ca_file=str(made.certificate)) as client:
            task = asyncio.ensure_future(whole(client))
            for _ in range(turns):
                await asyncio.sleep(0)
            closing = asyncio.ensure_future(client.aclose())
            task.cancel()
            await asyncio.wait([task, closing])
            assert task.cancelled() or task.exception() is not None or task.result() == (200, b"{}")
            assert closing.exception() is None
        await until(lambda: peers.open == 0)
    await until(lambda: asyncio.all_tasks() == before)
