"""What is not ours reaches the wrapped app: the same scope object, the same `receive`, the same `send`."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
from litestar import Litestar, asgi
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from support import configured, proxied
from vetted_mw import Gateway, VettedMiddleware, VettedProxy
from vetted_mw.testing import FakeUpstream, asgi_exchange
from wire.clients import COMPLETIONS, PARIS, at_the_door_of, chat

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Message, Receive, Scope, Send

pytestmark = pytest.mark.anyio


class Inner:
    """An app that keeps the very objects it was called with, and answers nothing."""

    def __init__(self) -> None:
        self.calls: list[tuple[Scope, Receive, Send]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.calls.append((scope, receive, send))


async def never_received() -> Message:
    raise AssertionError("the middleware read what was not its own")


async def never_sent(message: Message) -> None:
    raise AssertionError(message)


@pytest.fixture(params=["forward", "in_app"])
def mode(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(params=[False, True], ids=["without endpoints", "with endpoints"])
def endpoints(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def http(method: str, path: str, **more: Any) -> dict[str, Any]:
    return {"type": "http", "method": method, "path": path, "headers": [], "http_version": "1.1"} | more


OTHERS = [
    pytest.param({"type": "websocket", "path": COMPLETIONS, "headers": []}, id="a websocket"),
    pytest.param({"type": "websocket", "path": "/v1/models", "headers": []}, id="a websocket at an endpoint"),
    pytest.param({"type": "something.new"}, id="a type of tomorrow"),
    pytest.param(http("GET", COMPLETIONS), id="GET of a path of ours"),
    pytest.param(http("OPTIONS", COMPLETIONS), id="a preflight"),
    pytest.param(http("PUT", COMPLETIONS), id="PUT"),
    pytest.param(http("post", COMPLETIONS), id="a method in lower case"),
    pytest.param(http("POST", "/v1/chat/completion"), id="a shorter path"),
    pytest.param(http("POST", f"{COMPLETIONS}s"), id="a longer path"),
    pytest.param(http("POST", f"{COMPLETIONS}/x"), id="a path below"),
    pytest.param(http("POST", f"{COMPLETIONS}//"), id="two slashes"),
    pytest.param(http("POST", f"/x{COMPLETIONS}"), id="a path behind another"),
    pytest.param(http("POST", "/V1/chat/completions"), id="another case"),
    pytest.param(http("POST", "/v1/completions"), id="the older API"),
    pytest.param(http("POST", "/v1/embeddings"), id="embeddings"),
    pytest.param(http("POST", ""), id="an empty path"),
    pytest.param(http("POST", COMPLETIONS, root_path="/v1"), id="the root path is part of the path"),
    pytest.param(http("GET", "/v1/regions/a/b"), id="below a region"),
    pytest.param(http("GET", "/v1"), id="above an endpoint"),
]


@pytest.mark.parametrize("scope", OTHERS)
async def test_what_is_not_ours_reaches_the_app_untouched(scope: dict[str, Any], mode: Any, *, endpoints: bool) -> None:
    """Other types, methods and paths: the app gets the same three objects, and the scope gains no key."""
    inner = Inner()
    async with Gateway(configured({PARIS: "http://127.0.0.1:9/v1"})) as gateway:
        app = VettedMiddleware(inner, gateway=gateway, mode=mode, endpoints=endpoints)
        before = copy.deepcopy(scope)
        await app(scope, never_received, never_sent)
    ((seen, receive, send),) = inner.calls
    assert seen is scope
    assert receive is never_received
    assert send is never_sent
    assert scope == before


@pytest.mark.parametrize("path", ["/v1/models", "/v1/regions", "/v1/regions/x", "/healthz", "/readyz"])
async def test_endpoints_are_the_apps_own_unless_turned_on(path: str) -> None:
    """Beside a middleware the gateway's endpoints answer only where the application asked for them."""
    inner = Inner()
    async with Gateway(configured({PARIS: "http://127.0.0.1:9/v1"})) as gateway:
        await VettedMiddleware(inner, gateway=gateway)(http("GET", path), never_received, never_sent)
        assert len(inner.calls) == 1
        app = VettedMiddleware(inner, gateway=gateway, endpoints=True)
        exchange = await asgi_exchange(app, method="GET", path=path)
    assert len(inner.calls) == 1
    assert exchange.headers["content-type"] == "application/json"


async def test_the_same_app_serves_its_own_pages_byte_for_byte() -> None:
    """On a real socket a page behind the middleware is the page without it, status, headers and bytes."""

    async def page(request: Request) -> PlainTextResponse:
        return PlainTextResponse(f"{request.method} {await request.body()!r}", 418, headers={"x-own": "1"})

    methods = ["GET", "POST"]
    routes = [Route("/page", page, methods=methods), Route(COMPLETIONS, page, methods=["GET"])]
    bare = Starlette(routes=routes)
    wrapped = VettedMiddleware(Starlette(routes=routes), gateway=Gateway(configured({PARIS: "http://127.0.0.1:9/v1"})))
    async with at_the_door_of(bare) as plain, at_the_door_of(wrapped) as behind:
        for method, path in (("GET", "/page"), ("POST", "/page"), ("GET", COMPLETIONS), ("GET", "/none")):
            first = await plain.request(method, path, content=b"x")
            second = await behind.request(method, path, content=b"x")
            assert second.status_code == first.status_code
            assert second.content == first.content
            assert without_date(second.headers.raw) == without_date(first.headers.raw)


def without_date(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in headers if name.lower() != b"date"]


# ---- which path is ours


@pytest.mark.parametrize(
    ("path", "root_path"),
    [
        pytest.param(COMPLETIONS, "", id="plain"),
        pytest.param(f"{COMPLETIONS}/", "", id="trailing slash"),
        pytest.param(f"/llm{COMPLETIONS}", "/llm", id="the path holds the root path"),
        pytest.param(f"/llm{COMPLETIONS}/", "/llm", id="and a trailing slash"),
        pytest.param(COMPLETIONS, "/llm", id="a server that took the root path off"),
        pytest.param(COMPLETIONS, "/", id="a root path of one slash"),
        pytest.param(f"/v1{COMPLETIONS}", "/v1", id="a root path like the path's beginning"),
        pytest.param(COMPLETIONS, "/v", id="a root path that is half a segment"),
    ],
)
async def test_a_completion_is_ours_after_the_root_path(path: str, root_path: str) -> None:
    """The path counts after `root_path`, whether the server leaves that in the path or not."""
    async with FakeUpstream() as paris, Gateway(configured({PARIS: paris.base_url})) as gateway:
        app = VettedMiddleware(Inner(), gateway=gateway)
        exchange = await asgi_exchange(app, path=path, json=chat(), scope={"root_path": root_path})
    assert exchange.status == 200
    assert len(paris.requests) == 1


async def test_a_scope_without_root_path_is_taken_as_it_is() -> None:
    """`root_path` is optional in ASGI."""
    async with FakeUpstream() as paris, proxied({PARIS: paris.base_url}) as app:

        async def rootless(scope: Scope, receive: Receive, send: Send) -> None:
            await app({name: value for name, value in scope.items() if name != "root_path"}, receive, send)

        exchange = await asgi_exchange(rootless, json=chat())
    assert exchange.status == 200


@pytest.mark.parametrize("host", ["starlette", "litestar"])
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", COMPLETIONS), ("GET", "/v1/models"), ("GET", f"/v1/regions/{PARIS}"), ("GET", "/healthz")],
)
async def test_the_proxy_can_be_mounted_anywhere(host: str, method: str, path: str) -> None:
    """Starlette's mount leaves the path whole and Litestar's rewrites it; both reach completions and endpoints."""
    async with FakeUpstream() as paris, Gateway(configured({PARIS: paris.base_url})) as gateway:
        proxy = VettedProxy(gateway)
        app: Any = (
            Starlette(routes=[Mount("/llm", proxy)])
            if host == "starlette"
            else Litestar([asgi("/llm", is_mount=True, copy_scope=True)(proxy)])
        )
        body = chat() if method == "POST" else None
        exchange = await asgi_exchange(app, method=method, path=f"/llm{path}", json=body)
    assert exchange.status == 200
    assert exchange.headers["content-type"] == "application/json"
