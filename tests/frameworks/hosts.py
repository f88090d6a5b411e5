"""One app in three frameworks, each in its own idiom: a chat handler, some routes of its own, its own error handling."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import fastapi
import litestar
from fastapi.responses import StreamingResponse
from litestar.exceptions import NotAuthorizedException
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult, DefineMiddleware
from litestar.response import Stream
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, AuthenticationError, SimpleUser
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute

from vetted_mw import VettedMiddleware

if TYPE_CHECKING:
    from litestar.connection import ASGIConnection
    from starlette.requests import HTTPConnection, Request
    from starlette.types import ASGIApp
    from starlette.websockets import WebSocket

    from vetted_mw import Gateway
    from vetted_mw.asgi.door import Identify

__all__ = ["HOSTS", "PATH", "PREFIX", "Reply", "Spec", "TeapotError"]

PATH = "/v1/chat/completions"
PREFIX = "/inner"


class TeapotError(Exception):
    """What the app's own error handling turns into 418."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the chat handler answers, for the framework's own response classes.

    Attributes:
        content: the body; an iterator is streamed.
        media_type: its type.
        status: its status.
        afterwards: run by the framework in the background, once the answer was sent.
    """

    content: bytes | AsyncIterator[bytes]
    media_type: str = "application/json"
    status: int = 200
    afterwards: Callable[[], Awaitable[None]] | None = None


Answer = Callable[[bytes], Awaitable[Reply]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """How the app is to be built.

    Attributes:
        gateway: for its middleware.
        answer: what its chat handler does with the request's body.
        mode: of the middleware.
        identify: of the middleware.
        guarded: whether the app's own authentication stands outside the middleware: `Bearer friend` is let in.
        lifespan: whether the app opens the gateway.
    """

    gateway: Gateway
    answer: Answer
    mode: Literal["forward", "in_app"] = "in_app"
    identify: Identify | None = None
    guarded: bool = False
    lifespan: bool = True

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of `VettedMiddleware` beside the app."""
        return {"gateway": self.gateway, "mode": self.mode, "identify": self.identify}


def _is_friend(headers: Mapping[str, str]) -> bool:
    return headers.get("authorization") == "Bearer friend"


# ---- Starlette


class _Friends(AuthenticationBackend):
    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, SimpleUser]:
        if not _is_friend(conn.headers):
            raise AuthenticationError("the app does not know you")
        return AuthCredentials(["authenticated"]), SimpleUser("friend")


def _not_known(_conn: HTTPConnection, _error: Exception) -> Response:
    return PlainTextResponse("the app does not know you", status_code=401)


async def _teapot(_request: Request, _error: Exception) -> Response:
    return JSONResponse({"app": "teapot"}, status_code=418)


def _response(reply: Reply) -> Response:
    background = None if reply.afterwards is None else BackgroundTask(reply.afterwards)
    if isinstance(reply.content, bytes):
        return Response(reply.content, reply.status, media_type=reply.media_type, background=background)
    return StreamingResponse(reply.content, reply.status, media_type=reply.media_type, background=background)


async def _echoed(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(f"{await websocket.receive_text()}!")
    await websocket.close()


async def _home(_request: Request) -> Response:
    return PlainTextResponse("home")


async def _echo(request: Request) -> Response:
    return Response(await request.body(), media_type="application/json", headers={"x-app": "echo"})


def starlette_app(spec: Spec) -> ASGIApp:
    """Build it in Starlette: middleware given to the constructor, the lifespan through the middleware."""

    async def chat(request: Request) -> Response:
        return _response(await spec.answer(await request.body()))

    middleware = [Middleware(VettedMiddleware, **spec.options)]
    if spec.guarded:
        middleware.insert(0, Middleware(AuthenticationMiddleware, backend=_Friends(), on_error=_not_known))
    routes = [
        Route("/", _home),
        Route("/echo", _echo, methods=["POST"]),
        Route(PATH, chat, methods=["POST"]),
        Route(PATH, _home, methods=["GET"]),
        WebSocketRoute("/ws", _echoed),
    ]
    return Starlette(routes=routes, middleware=middleware, exception_handlers={TeapotError: _teapot})


def in_starlette(app: ASGIApp) -> ASGIApp:
    """Mount an app under a prefix."""
    return Starlette(routes=[Mount(PREFIX, app=app)])


# ---- FastAPI


def fastapi_app(spec: Spec) -> ASGIApp:
    """Build it in FastAPI: `add_middleware`, the later added outside."""
    app = fastapi.FastAPI()
    app.add_middleware(VettedMiddleware, **spec.options)
    if spec.guarded:
        app.add_middleware(AuthenticationMiddleware, backend=_Friends(), on_error=_not_known)
    app.add_exception_handler(TeapotError, _teapot)

    @app.get("/")
    async def home() -> PlainTextResponse:
        return PlainTextResponse("home")

    @app.get(PATH)
    async def other_method() -> PlainTextResponse:
        return PlainTextResponse("home")

    @app.post("/echo")
    async def echo(request: fastapi.Request) -> fastapi.Response:
        return await _echo(request)

    @app.post(PATH)
    async def chat(request: fastapi.Request) -> fastapi.Response:
        return _response(await spec.answer(await request.body()))

    @app.websocket("/ws")
    async def echoed(websocket: fastapi.WebSocket) -> None:
        await _echoed(websocket)

    return app


def in_fastapi(app: ASGIApp) -> ASGIApp:
    """Mount an app as a sub-application."""
    outer = fastapi.FastAPI()
    outer.mount(PREFIX, app)
    return outer


# ---- Litestar


class _LitestarFriends(AbstractAuthenticationMiddleware):
    async def authenticate_request(self, connection: ASGIConnection[Any, Any, Any, Any]) -> AuthenticationResult:
        if not _is_friend(connection.headers):
            raise NotAuthorizedException("the app does not know you")
        return AuthenticationResult(user="friend", auth=None)


def _litestar_teapot(_request: litestar.Request[Any, Any, Any], _error: TeapotError) -> litestar.Response[Any]:
    return litestar.Response({"app": "teapot"}, status_code=418)


def _litestar_response(reply: Reply) -> litestar.Response[Any]:
    from litestar.background_tasks import BackgroundTask as LitestarTask

    background = None if reply.afterwards is None else LitestarTask(reply.afterwards)
    if isinstance(reply.content, bytes):
        return litestar.Response(
            reply.content, media_type=reply.media_type, status_code=reply.status, background=background
        )
    return Stream(reply.content, media_type=reply.media_type, status_code=reply.status, background=background)


def litestar_app(spec: Spec) -> ASGIApp:
    """Build it in Litestar: middleware per application, the gateway as one of its lifespans."""

    @litestar.get("/")
    async def home() -> str:
        return "home"

    @litestar.post("/echo", status_code=200)
    async def echo(request: litestar.Request[Any, Any, Any]) -> litestar.Response[bytes]:
        return litestar.Response(await request.body(), media_type="application/json", headers={"x-app": "echo"})

    @litestar.post(PATH, status_code=200)
    async def chat(request: litestar.Request[Any, Any, Any]) -> litestar.Response[Any]:
        return _litestar_response(await spec.answer(await request.body()))

    @litestar.get(PATH, sync_to_thread=False)
    def other_method() -> str:
        return "home"

    @litestar.websocket("/ws")
    async def echoed(socket: litestar.WebSocket[Any, Any, Any]) -> None:
        await socket.accept()
        await socket.send_text(f"{await socket.receive_text()}!")
        await socket.close()

    middleware = [DefineMiddleware(VettedMiddleware, **spec.options)]
    if spec.guarded:
        middleware.insert(0, DefineMiddleware(_LitestarFriends))
    app: Any = litestar.Litestar(
        [home, echo, chat, other_method, echoed],
        middleware=middleware,
        lifespan=[spec.gateway] if spec.lifespan else [],
        exception_handlers={TeapotError: _litestar_teapot},
        logging_config=None,  # Litestar's own would replace the root logger's handlers for all tests after
    )
    return app  # type: ignore[no-any-return]


def in_litestar(app: ASGIApp) -> ASGIApp:
    """Mount an app as Litestar mounts ASGI apps: it cuts the path."""

    @litestar.asgi(PREFIX, is_mount=True, copy_scope=True)
    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)

    outer: Any = litestar.Litestar([inner], logging_config=None)
    return outer  # type: ignore[no-any-return]


HOSTS: Mapping[str, tuple[Callable[[Spec], ASGIApp], Callable[[ASGIApp], ASGIApp]]] = {
    "starlette": (starlette_app, in_starlette),
    "fastapi": (fastapi_app, in_fastapi),
    "litestar": (litestar_app, in_litestar),
}
"""Name -> how the app is built, and how an app is mounted in it under `PREFIX`."""
