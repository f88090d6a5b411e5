"""What one framework does and the others do not: per-route middleware, dependencies, compression, threads, own SSE."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Annotated, Any

import fastapi
import litestar
import pytest
from fastapi.responses import EventSourceResponse
from litestar.middleware import DefineMiddleware
from litestar.params import JSONBody  # noqa: TC002 (Litestar reads it)
from litestar.response import ServerSentEvent
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import JSONResponse
from starlette.routing import Route

from frameworks.hosts import PATH
from frameworks.place import asking, chunks_of, events, gateway_over, members_of, running
from vetted_mw import VettedMiddleware, current_route
from vetted_mw.testing import FakeUpstream, asgi_exchange, chat_completion, chat_frames

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.requests import Request
    from starlette.types import ASGIApp

    from vetted_mw import Gateway

pytestmark = pytest.mark.anyio

URL = "http://vetted/v1/chat/completions"
CHUNKS = [json.loads(frame.removeprefix(b"data: ")) for frame in chat_frames(done=False)]


def in_litestar(gateway: Gateway, *handlers: Any, **options: Any) -> Any:
    """Return a Litestar app that opens the gateway."""
    return litestar.Litestar(list(handlers), lifespan=[gateway], logging_config=None, **options)


def per_route(gateway: Gateway, **options: Any) -> list[DefineMiddleware]:
    """Return the middleware of one Litestar route."""
    return [DefineMiddleware(VettedMiddleware, gateway=gateway, **options)]


# ---- Litestar


async def test_litestar_takes_the_middleware_on_one_route_and_leaves_the_others_alone() -> None:
    """A route-level middleware sees its own route's requests only; the gateway is the application's."""
    async with FakeUpstream() as paris:
        gateway = gateway_over(paris)

        @litestar.post(PATH, status_code=200, middleware=per_route(gateway, mode="in_app"))
        async def chat(data: JSONBody[dict[str, Any]]) -> dict[str, Any]:
            body = {name: value for name, value in data.items() if name != "vetted"}
            told: dict[str, Any] = (await gateway.http_client.post(URL, json=body)).json()
            return told

        @litestar.post("/plain", status_code=200)
        async def plain(data: JSONBody[dict[str, Any]]) -> dict[str, Any]:
            return {"choices": [], "route": current_route() is not None}

        async with running(in_litestar(gateway, chat, plain)) as app:
            exchange = await asking(app, vetted={"region": "scaleway-par-1"})
            other = await asking(app, path="/plain")
    assert members_of(exchange)[1]["region"] == "scaleway-par-1"
    assert other.json() == {"choices": [], "route": False}


async def test_litestar_builds_the_middleware_once_per_route_and_method_on_one_gateway() -> None:
    """Many middlewares on one gateway are one gateway: opened once, and closed when the application ends."""
    async with FakeUpstream() as paris:
        gateway = gateway_over(paris, paths=["/v1/chat/completions", "/other"])
        routes = [stub(path) for path in (PATH, "/other", "/third")]
        async with running(in_litestar(gateway, *routes, middleware=per_route(gateway))) as app:
            answers = [await asking(app, path=path) for path in (PATH, "/other")]
            third = await asking(app, path="/third")
            states = [gateway.is_open]
        states.append(gateway.is_open)
    assert states == [True, False]
    assert [members_of(exchange)[1]["region"] for exchange in answers] == ["scaleway-par-1"] * 2
    assert third.json() == {"stub": "/third"}


def stub(path: str) -> Any:
    """Return a Litestar route that says its path."""

    @litestar.post(path, status_code=200, name=path)
    async def handler() -> dict[str, str]:
        return {"stub": path}

    return handler


async def test_litestars_own_404_and_405_are_its_own() -> None:
    """What Litestar refuses before any middleware runs is refused by Litestar, without headers of ours."""
    async with FakeUpstream() as paris:
        gateway = gateway_over(paris)
        async with running(in_litestar(gateway, stub("/third"), middleware=per_route(gateway))) as app:
            no_route = await asking(app)
            no_method = await asgi_exchange(app, method="GET", path="/third")
    assert (no_route.status, no_method.status) == (404, 405)
    assert not [name for exchange in (no_route, no_method) for name in exchange.headers if "vetted" in name]
    assert paris.requests == []


async def test_a_whole_litestar_app_can_be_wrapped_and_then_needs_no_route() -> None:
    """Around the application the middleware answers before Litestar routes, and runs its lifespan through."""
    async with FakeUpstream() as paris:
        gateway = gateway_over(paris)
        inner: Any = litestar.Litestar([stub("/third")], logging_config=None)
        wrapped: ASGIApp = VettedMiddleware(inner, gateway=gateway)
        async with running(wrapped) as app:
            states = [gateway.is_open]
            exchange = await asking(app)
            third = await asking(app, path="/third")
        states.append(gateway.is_open)
    assert states == [True, False]
    assert members_of(exchange)[1]["region"] == "scaleway-par-1"
    assert third.json() == {"stub": "/third"}


async def test_litestars_own_server_sent_events_are_edited_as_any_stream() -> None:
    """Chunks sent through Litestar's `ServerSentEvent` gain the members on the finish chunk, and [DONE]."""
    async with FakeUpstream() as paris:
        gateway = gateway_over(paris)

        async def chunks() -> AsyncIterator[str]:
            for chunk in CHUNKS:
                yield json.dumps(chunk)

        @litestar.post(PATH, status_code=200, middleware=per_route(gateway, mode="in_app"))
        async def chat() -> ServerSentEvent:
            return ServerSentEvent(chunks())

        async with running(in_litestar(gateway, chat)) as app:
            exchange = await asking(app, stream=True)
    assert "".join(one["choices"][0]["delta"].get("content", "") for one in chunks_of(exchange)[:-1]) == "Hello"
    assert members_of(exchange)[1]["receipt_error"] == "no_observed_call"
    assert events(exchange)[-1] == "[DONE]"


# ---- FastAPI


async def test_fastapis_own_server_sent_events_are_edited_as_any_stream() -> None:
    """Chunks yielded to FastAPI's `EventSourceResponse` gain the members on the finish chunk, and [DONE]."""
    async with FakeUpstream() as paris:
        gateway = gateway_over(paris)
        app = fastapi.FastAPI()
        app.add_middleware(VettedMiddleware, gateway=gateway, mode="in_app")

        @app.post(PATH, response_class=EventSourceResponse)
        async def chat() -> AsyncIterator[dict[str, Any]]:
            for chunk in CHUNKS:
                yield chunk

        async with running(app):
            exchange = await asking(app, stream=True)
    assert "".join(one["choices"][0]["delta"].get("content", "") for one in chunks_of(exchange)[:-1]) == "Hello"
    assert members_of(exchange)[1]["receipt_error"] == "no_observed_call"
    assert events(exchange)[-1] == "[DONE]"


async def friend(authorization: Annotated[str, fastapi.Header()] = "") -> str:
    """Let one caller in, as FastAPI apps do."""
    if authorization != "Bearer friend":
        raise fastapi.HTTPException(401, "the app does not know you")
    return "friend"


async def test_a_fastapi_dependency_that_refuses_answers_for_the_app() -> None:
    """A dependency's 401 is the app's answer, and no call was made for it; a known caller's call is served."""
    async with FakeUpstream() as paris:
        gateway = gateway_over(paris)
        app = fastapi.FastAPI()
        app.add_middleware(VettedMiddleware, gateway=gateway, mode="in_app")

        @app.post(PATH)
        async def chat(request: fastapi.Request, _user: Annotated[str, fastapi.Depends(friend)]) -> dict[str, Any]:
            told: dict[str, Any] = (await gateway.http_client.post(URL, content=await request.body())).json()
            return told

        async with running(app):
            stranger = await asking(app)
            known = await asking(app, headers={"authorization": "Bearer friend"})
    assert (stranger.status, stranger.json()) == (401, {"detail": "the app does not know you"})
    assert members_of(known)[1]["region"] == "scaleway-par-1"
    assert len(paris.requests) == 1


async def test_a_handler_in_a_worker_thread_has_its_route() -> None:
    """FastAPI runs a plain `def` in a thread: `current_route()` and `record()` work there."""
    async with FakeUpstream() as paris:
        gateway = gateway_over(paris)
        app = fastapi.FastAPI()
        app.add_middleware(VettedMiddleware, gateway=gateway, mode="in_app")

        @app.post(PATH)
        def chat() -> fastapi.Response:
            route = current_route()
            assert route is not None
            route.record(usage={"prompt_tokens": 3, "completion_tokens": 1})
            return fastapi.Response(chat_completion(), media_type="application/json")

        async with running(app):
            exchange = await asking(app)
    receipt, _trace = members_of(exchange)
    assert receipt is not None
    assert (receipt["usage_source"], receipt["prompt_tokens"]) == ("reported", 3)


# ---- Starlette


def in_starlette(gateway: Gateway, chat: Callable[..., Any], *outside: Middleware, **options: Any) -> Starlette:
    """Return a Starlette app with other middleware outside ours."""
    middleware = [*outside, Middleware(VettedMiddleware, gateway=gateway, **options)]
    return Starlette(routes=[Route(PATH, chat, methods=["POST"])], middleware=middleware)


async def test_requests_state_holds_the_route() -> None:
    """In a Starlette handler `request.state.vetted` is the current route."""
    seen: list[bool] = []

    async def chat(request: Request) -> JSONResponse:
        seen.append(request.state.vetted is current_route())
        return JSONResponse({"answer": 1})

    async with FakeUpstream() as paris:
        gateway = gateway_over(paris)
        async with running(in_starlette(gateway, chat, mode="in_app")) as app:
            await asking(app)
    assert seen == [True]


@pytest.mark.parametrize("mode", ["forward", "in_app"])
async def test_compression_outside_ours_compresses_the_edited_answer(mode: str) -> None:
    """`GZipMiddleware` around ours sees the whole answer, members and all."""

    async def chat(request: Request) -> JSONResponse:
        return JSONResponse((await gateway.http_client.post(URL, content=await request.body())).json())

    async with FakeUpstream(text="x" * 2000) as paris:
        gateway = gateway_over(paris)
        async with running(in_starlette(gateway, chat, Middleware(GZipMiddleware), mode=mode)) as app:
            exchange = await asking(app, headers={"accept-encoding": "gzip"})
    assert exchange.headers["content-encoding"] == "gzip"
    assert json.loads(gzip.decompress(exchange.body))["routing_trace"]["region"] == "scaleway-par-1"


async def test_two_apps_share_a_gateway_until_the_last_one_ends() -> None:
    """Entries are counted: the first application's end does not close what the second still uses."""

    async def chat(_request: Request) -> JSONResponse:
        return JSONResponse({})

    async with FakeUpstream() as paris:
        gateway = gateway_over(paris)
        first, second = in_starlette(gateway, chat), in_starlette(gateway, chat)
        async with running(first):
            async with running(second):
                states = [gateway.is_open]
            exchange = await asking(first)
            states.append(gateway.is_open)
        states.append(gateway.is_open)
    assert states == [True, True, False]
    assert members_of(exchange)[1]["region"] == "scaleway-par-1"
