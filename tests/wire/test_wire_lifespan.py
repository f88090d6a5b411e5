"""The gateway's life: opened and closed once with its host, whatever the host makes of lifespan."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

import pytest
from asgi_lifespan import LifespanManager
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from support import configured, served
from vetted_mw import Gateway, VettedMiddleware, VettedProxy
from vetted_mw.proxy.own.transport import OwnTransport
from vetted_mw.testing import FakeUpstream, StaticSignals, asgi_exchange
from wire.clients import COMPLETIONS, GRAVELINES, PARIS, chat, client_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.types import Message, Receive, Scope, Send

    from vetted_mw.configuration import Upstream
    from vetted_mw.grid.signal import GridSignal
    from vetted_mw.proxy.transport import Response, UpstreamRequest

pytestmark = pytest.mark.anyio

NOWHERE = "http://127.0.0.1:9/v1"


class Doors:
    """Transports that write down when they are made and closed."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def __call__(self, upstream: Upstream) -> Door:
        self.events.append("open")
        return Door(upstream, self.events)


class Door:
    """One such transport."""

    def __init__(self, upstream: Upstream, events: list[str]) -> None:
        self._behind = OwnTransport(upstream)
        self._events = events

    async def send(self, request: UpstreamRequest) -> Response:
        """Send and return once the head of the answer has arrived."""
        return await self._behind.send(request)

    async def aclose(self) -> None:
        """Close the pool."""
        self._events.append("close")
        await self._behind.aclose()


def gateway_with(doors: Doors, base_url: str = NOWHERE) -> Gateway:
    return Gateway(configured({PARIS: base_url}), transport=doors)


class Host:
    """A server's side of lifespan, and an app that speaks it by script."""

    def __init__(self, events: list[str], *, script: Sequence[str], raises: type[BaseException] | None = None) -> None:
        self.events = events
        self._script = script
        self._raises = raises

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the scripted messages, one per message received."""
        assert scope["type"] == "lifespan"
        for kind in self._script:
            await receive()
            await send({"type": kind})
        if self._raises is not None:
            raise self._raises

    async def run(self, app: Any) -> None:
        """Run the lifespan of `app` to its end and write down what the server hears."""
        messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

        async def receive() -> Message:
            return next(messages)

        async def send(message: Message) -> None:
            self.events.append(message["type"])

        await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)


async def test_the_gateway_is_open_before_the_server_starts_and_closed_before_it_hears_the_end() -> None:
    """Servers stop waiting at `shutdown.complete`, so the pools are closed before it is forwarded."""
    doors = Doors()
    host = Host(doors.events, script=["lifespan.startup.complete", "lifespan.shutdown.complete"])
    await host.run(VettedMiddleware(host.app, gateway=gateway_with(doors)))
    assert doors.events == ["open", "lifespan.startup.complete", "close", "lifespan.shutdown.complete"]


async def test_the_app_sees_its_own_lifespan_scope_and_receive() -> None:
    """Only `send` is wrapped, to know when; scope, state and `receive` are the server's own."""
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend((scope, receive))
        await send({"type": "lifespan.startup.complete"})

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(_message: Message) -> None:
        return None

    scope = {"type": "lifespan", "state": {"db": object()}}
    await VettedMiddleware(app, gateway=gateway_with(Doors()))(scope, receive, send)
    assert seen[0] is scope
    assert seen[1] is receive


async def test_a_shutdown_that_failed_closes_the_gateway_too() -> None:
    """`shutdown.failed` ends the host as surely as `complete`."""
    doors = Doors()
    host = Host(doors.events, script=["lifespan.startup.complete", "lifespan.shutdown.failed"])
    await host.run(VettedMiddleware(host.app, gateway=gateway_with(doors)))
    assert doors.events == ["open", "lifespan.startup.complete", "close", "lifespan.shutdown.failed"]


async def test_an_app_that_fails_to_start_opens_nothing() -> None:
    """`startup.failed` of the inner app reaches the server as it is, and no pool was made."""
    doors = Doors()
    host = Host(doors.events, script=["lifespan.startup.failed"])
    await host.run(VettedMiddleware(host.app, gateway=gateway_with(doors)))
    assert doors.events == ["lifespan.startup.failed"]


async def test_an_app_that_breaks_after_its_start_leaves_no_pool_open() -> None:
    """An exception out of the inner lifespan goes on to the server, after the gateway was closed."""
    doors = Doors()
    host = Host(doors.events, script=["lifespan.startup.complete"], raises=OSError)
    with pytest.raises(OSError):
        await host.run(VettedMiddleware(host.app, gateway=gateway_with(doors)))
    assert doors.events == ["open", "lifespan.startup.complete", "close"]


async def test_an_app_without_lifespan_support_is_served_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    """An app that raises at lifespan keeps telling its server so; the gateway opens at the first request instead."""
    doors = Doors()

    async def http_only(scope: Scope, _receive: Receive, _send: Send) -> None:
        assert scope["type"] == "http", "lifespan is not supported"

    async with FakeUpstream() as paris:
        gateway = gateway_with(doors, paris.base_url)
        app = VettedMiddleware(http_only, gateway=gateway)
        with pytest.raises(AssertionError, match="not supported"):
            await Host(doors.events, script=[]).run(app)
        assert doors.events == []
        with caplog.at_level(logging.INFO, logger="vetted_mw"):
            statuses = [(await asgi_exchange(app, json=chat())).status for _ in range(3)]
        await gateway.aclose()
    assert statuses == [200, 200, 200]
    assert doors.events == ["open", "close"]
    assert len([record for record in caplog.records if "lifespan" in record.getMessage()]) == 1


async def test_many_first_requests_at_once_open_it_once(caplog: pytest.LogCaptureFixture) -> None:
    """Without lifespan the first requests race; one opens the gateway, one line says so."""
    doors = Doors()
    async with FakeUpstream() as paris:
        gateway = gateway_with(doors, paris.base_url)
        with caplog.at_level(logging.INFO, logger="vetted_mw"):
            exchanges = await asyncio.gather(*(asgi_exchange(VettedProxy(gateway), json=chat()) for _ in range(20)))
        await gateway.aclose()
    assert {exchange.status for exchange in exchanges} == {200}
    assert doors.events == ["open", "close"]
    assert len([record for record in caplog.records if "lifespan" in record.getMessage()]) == 1


async def test_entries_are_counted() -> None:
    """Several middlewares and the host itself may hold one gateway; the last one out closes it."""
    doors = Doors()
    gateway = gateway_with(doors)
    host = Host(doors.events, script=["lifespan.startup.complete", "lifespan.shutdown.complete"])
    async with gateway:
        await host.run(VettedMiddleware(VettedMiddleware(host.app, gateway=gateway), gateway=gateway))
        doors.events.append("still open" if gateway.is_open else "closed too early")
    assert doors.events == ["open", "lifespan.startup.complete", "lifespan.shutdown.complete", "still open", "close"]


async def test_closing_whatever_the_entries_count() -> None:
    """`aclose()` ends a gateway that was entered more often than left, and can be called again."""
    doors = Doors()
    gateway = gateway_with(doors)
    await gateway.__aenter__()
    await gateway.__aenter__()
    await gateway.aclose()
    await gateway.aclose()
    assert not gateway.is_open
    assert doors.events == ["open", "close"]


async def test_opening_asks_nobody() -> None:
    """Services that are down cannot keep a gateway from opening: a source that fails and upstreams that are not there."""

    class Down:
        name = "down"
        refresh_seconds = 3600.0
        is_complete = True
        is_local = False

        async def readings(self) -> Sequence[GridSignal]:
            raise OSError

    configuration = configured({PARIS: {"base_url": NOWHERE, "health_path": "/health"}, GRAVELINES: NOWHERE})
    async with Gateway(configuration, signals=[Down(), StaticSignals({})]) as gateway:
        assert gateway.is_open


async def test_starlettes_own_lifespan_runs_inside_ours() -> None:
    """The app's start-up and shut-down code runs as ever, the gateway opens after its start and closes after its end."""
    doors = Doors()

    async def page(_request: Request) -> PlainTextResponse:
        return PlainTextResponse("own")

    async def lifespan_of(app: Starlette) -> Any:
        doors.events.append("app starts")
        yield
        doors.events.append("app ends")

    inner = Starlette(routes=[Route("/page", page)], lifespan=contextlib.asynccontextmanager(lifespan_of))
    async with FakeUpstream() as paris:
        app = VettedMiddleware(inner, gateway=gateway_with(doors, paris.base_url))
        async with LifespanManager(app):
            served = await asgi_exchange(app, json=chat())
            own = await asgi_exchange(app, method="GET", path="/page")
    assert (served.status, own.body) == (200, b"own")
    assert doors.events == ["app starts", "open", "app ends", "close"]


async def test_an_app_that_does_not_start_fails_the_server_and_opens_nothing() -> None:
    """A start-up error of the host application stays its own."""
    doors = Doors()

    def broken(_app: Starlette) -> Any:
        raise LookupError("the database is down")

    app = VettedMiddleware(Starlette(lifespan=broken), gateway=gateway_with(doors))
    with pytest.raises(LookupError):
        async with LifespanManager(app):
            raise AssertionError("it started")
    assert doors.events == []


async def test_on_a_real_server_the_gateway_opens_and_closes_with_it() -> None:
    """uvicorn's start and end open and close the gateway once each; no request is needed for either."""
    doors = Doors()
    async with FakeUpstream() as paris:
        with served(VettedProxy(gateway_with(doors, paris.base_url))) as origin:
            assert doors.events == ["open"]
            async with client_of(origin) as client:
                statuses = [(await client.post(COMPLETIONS, json=chat())).status_code for _ in range(2)]
    assert statuses == [200, 200]
    assert doors.events == ["open", "close"]


async def test_a_proxy_mounted_in_an_app_opens_at_the_first_request() -> None:
    """A mounted app sees no lifespan of its own."""
    doors = Doors()
    async with FakeUpstream() as paris:
        gateway = gateway_with(doors, paris.base_url)
        app = Starlette(routes=[Mount("/llm", VettedProxy(gateway))])
        async with LifespanManager(app):
            assert doors.events == []
            exchange = await asgi_exchange(app, path=f"/llm{COMPLETIONS}", json=chat())
        await gateway.aclose()
    assert exchange.status == 200
    assert doors.events == ["open", "close"]
