"""The grid's own thread: what runs in it holds up nobody, and it ends when told to."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest

from support import HELLO, MODEL, configured
from vetted_mw import Gateway, VettedProxy
from vetted_mw.grid.sources.own_loop import OwnLoop, in_place
from vetted_mw.testing import FakeUpstream, asgi_exchange

pytestmark = pytest.mark.anyio

LIMIT_SECONDS = 60.0


async def test_work_runs_in_another_thread_and_returns_or_raises_here() -> None:
    """What it returns comes back, and so does what it raises; two pieces of work share the thread."""
    own = OwnLoop()

    async def where() -> int:
        return threading.get_ident()

    async def failing() -> None:
        raise LookupError

    try:
        one, other = await own.run(where), await own.run(where)
        assert one == other != threading.get_ident()
        with pytest.raises(LookupError):
            await own.run(failing)
        assert await in_place(where) == threading.get_ident()
    finally:
        await own.aclose()


async def test_work_that_is_cancelled_here_is_cancelled_there() -> None:
    """A gateway that closes ends what its sources were doing."""
    own, started, ended = OwnLoop(), threading.Event(), threading.Event()

    async def hanging() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    work = asyncio.ensure_future(own.run(hanging))
    await asyncio.to_thread(started.wait, LIMIT_SECONDS)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert await asyncio.to_thread(ended.wait, LIMIT_SECONDS)
    await own.aclose()


async def test_closing_ends_the_thread_and_what_still_runs_and_may_be_followed_by_more_work() -> None:
    """Closed twice or never opened, nothing happens; the next work starts a thread anew."""
    own, ended = OwnLoop(), threading.Event()
    before = set(threading.enumerate())
    await own.aclose()

    async def hanging() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def name() -> str:
        return threading.current_thread().name

    assert await own.run(name) == "vetted-mw-grid"
    left = asyncio.ensure_future(own.run(hanging))
    await asyncio.sleep(0)
    assert await own.run(name) == "vetted-mw-grid"  # by now the other has begun
    await own.aclose()
    await own.aclose()
    with pytest.raises(asyncio.CancelledError):
        await left
    assert ended.is_set()
    assert await own.run(name) == "vetted-mw-grid"
    await own.aclose()
    assert [one for one in set(threading.enumerate()) - before if one.name == "vetted-mw-grid"] == []


async def test_where_no_thread_can_be_started_the_next_work_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process at its limit costs a refresh, not every later one; closing is no matter either."""
    own, start = OwnLoop(), threading.Thread.start

    async def name() -> str:
        return threading.current_thread().name

    def refused(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    with pytest.raises(RuntimeError):
        await own.run(name)
    await own.aclose()
    monkeypatch.setattr(threading.Thread, "start", start)
    assert await own.run(name) == "vetted-mw-grid"
    await own.aclose()


async def test_closing_does_not_stop_the_loop_it_is_awaited_in() -> None:
    """While the grid's thread is still busy with a large answer, requests go on."""
    own, started, release = OwnLoop(), threading.Event(), threading.Event()

    async def busy() -> None:
        started.set()
        release.wait(LIMIT_SECONDS)

    work = asyncio.ensure_future(own.run(busy))
    await asyncio.to_thread(started.wait, LIMIT_SECONDS)
    closing = asyncio.ensure_future(own.aclose())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not closing.done()
    release.set()
    await closing
    await work


async def test_name_lookups_of_services_that_hang_take_nothing_from_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """With every lookup of a grid service hanging, requests whose upstream's name must be looked up are served."""
    real, release = socket.getaddrinfo, threading.Event()
    hung: list[str] = []

    def lookup(host: Any, *arguments: Any, **named: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else str(host)
        if name.endswith(".example"):
            hung.append(name)
            release.wait(LIMIT_SECONDS)
            raise socket.gaierror(-2, "Name or service not known")
        return real(host, *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    names = ("landsnet", "odre", "statnett", "energy_charts", "energinet")
    sources = {name: {"base_url": f"http://{name.replace('_', '-')}.example", "refresh_seconds": 1.0} for name in names}
    zones = {f"zone-{number}": f"http://own-{number}.example/v" for number in range(20)}
    described = {zone.upper(): {"url": url, "value": "v", "observed_at": "t"} for zone, url in zones.items()}
    own = {
        f"own-{number}": {"provider": "Own", "site": "s", "country": "FR", "zone": zone}
        for number, zone in enumerate(described)
    }
    try:
        async with FakeUpstream() as paris:
            configuration = configured(
                {"scaleway-par-1": paris.base_url.replace("127.0.0.1", "localhost")},
                regions=own,
                signals={"sources": sources | {"http_json": {"zones": described}}},
            )
            async with Gateway(configuration) as gateway:
                async with asyncio.timeout(LIMIT_SECONDS):
                    while len(hung) < 20:  # noqa: ASYNC110 (threads of the libraries tell by no event)
                        await asyncio.sleep(0.01)
                body = {"model": MODEL, "messages": HELLO}
                for _ in range(5):
                    exchange = await asgi_exchange(VettedProxy(gateway), json=body)
                    assert exchange.status == 200
            assert not release.is_set()
    finally:
        release.set()
