"""Forward mode in Starlette, FastAPI and Litestar: the app keeps what is its own, the middleware answers the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from frameworks.hosts import HOSTS, PATH, PREFIX, Spec
from frameworks.place import asking, chunks_of, events, gateway_over, members_of, never, running
from vetted_mw import Caller, VettedProxy
from vetted_mw.testing import FakeAnswer, FakeUpstream, asgi_exchange

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Scope

    from vetted_mw import Gateway
    from vetted_mw.asgi.door import Identify

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("host", HOSTS)]


def forwarding(host: str, gateway: Gateway, **options: Any) -> ASGIApp:
    """Build the host's app; its own chat handler must never run."""
    build, _mount = HOSTS[host]
    return build(Spec(gateway=gateway, answer=never, mode="forward", **options))


async def spoken(app: ASGIApp, text: str, *, path: str = "/ws") -> list[Message]:
    """Open a websocket, say `text`, and return what the app sent."""
    incoming: list[Message] = [{"type": "websocket.connect"}, {"type": "websocket.receive", "text": text}]
    sent: list[Message] = []

    async def receive() -> Message:
        return incoming.pop(0) if incoming else {"type": "websocket.disconnect", "code": 1000}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": path, "raw_path": path.encode(), "scheme": "ws", "subprotocols": []}
    await app(scope | COMMON, receive, send)
    return sent


COMMON: dict[str, Any] = {
    "asgi": {"version": "3.0", "spec_version": "2.3"},
    "http_version": "1.1",
    "query_string": b"",
    "root_path": "",
    "headers": [],
    "client": ("127.0.0.1", 50000),
    "server": ("127.0.0.1", 8080),
    "state": {},
}


async def test_a_json_completion_is_answered_by_the_middleware(host: str) -> None:
    """The upstream's whole answer comes back with receipt and trace; the app's chat handler is not run."""
    async with FakeUpstream(text="Bonjour") as paris, running(forwarding(host, gateway_over(paris))) as app:
        exchange = await asking(app)
    receipt, trace = members_of(exchange)
    assert exchange.status == 200
    assert exchange.json()["choices"][0]["message"]["content"] == "Bonjour"
    assert receipt is not None
    assert receipt["region"] == trace["region"] == exchange.headers["x-vetted-region"] == "scaleway-par-1"
    assert len(paris.requests) == 1


async def test_a_streamed_completion_is_answered_by_the_middleware(host: str) -> None:
    """The stream comes back with the members on its finish chunk and ends with [DONE]."""
    async with FakeUpstream(text="Bon jour") as paris, running(forwarding(host, gateway_over(paris))) as app:
        exchange = await asking(app, stream=True)
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks_of(exchange))
    assert text == "Bonjour"
    assert events(exchange)[-1] == "[DONE]"
    assert members_of(exchange)[1]["region"] == "scaleway-par-1"


async def test_the_apps_own_routes_answer_as_if_nothing_stood_before_them(host: str) -> None:
    """Another path, another method and another POST reach the app, and its answers come back as they are."""
    async with FakeUpstream() as paris, running(forwarding(host, gateway_over(paris))) as app:
        home = await asgi_exchange(app, method="GET", path="/")
        other_method = await asgi_exchange(app, method="GET", path=PATH)
        echo = await asgi_exchange(app, path="/echo", body=b'{"one": 1}', headers=[("content-length", "10")])
    assert (home.status, home.body) == (200, b"home")
    assert (other_method.status, other_method.body) == (200, b"home")
    assert (echo.status, echo.body, echo.headers["x-app"]) == (200, b'{"one": 1}', "echo")
    assert not [name for exchange in (home, other_method, echo) for name in exchange.headers if "vetted" in name]
    assert paris.requests == []


async def test_a_websocket_goes_through(host: str) -> None:
    """A websocket of the app is opened, spoken to and closed through the middleware."""
    async with FakeUpstream() as paris, running(forwarding(host, gateway_over(paris))) as app:
        sent = await spoken(app, "hello")
    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.send", "websocket.close"]
    assert sent[1]["text"] == "hello!"


async def test_the_apps_lifespan_opens_and_closes_the_gateway(host: str) -> None:
    """The gateway is open while the app runs, and closed when the app has shut down."""
    async with FakeUpstream() as paris:
        gateway = gateway_over(paris)
        states = [gateway.is_open]
        async with running(forwarding(host, gateway)):
            states.append(gateway.is_open)
        states.append(gateway.is_open)
    assert states == [False, True, False]


async def test_without_a_lifespan_the_gateway_opens_at_the_first_request(
    host: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An app whose lifespan nobody runs serves all the same, and says in one log line when the gateway opened."""
    caplog.set_level("INFO", logger="vetted_mw")
    async with FakeUpstream() as paris:
        gateway = gateway_over(paris)
        app = forwarding(host, gateway, lifespan=False)
        try:
            answers = [await asking(app) for _ in range(2)]
        finally:
            await gateway.aclose()
    assert [exchange.status for exchange in answers] == [200, 200]
    assert len([record for record in caplog.records if "opens at the first request" in record.message]) == 1


async def test_an_app_mounted_under_a_prefix_is_served_there_and_nowhere_else(host: str) -> None:
    """Inside a mount the path after the prefix counts; the same path outside it is the outer app's."""
    _build, mount = HOSTS[host]
    async with (
        FakeUpstream() as paris,
        gateway_over(paris) as gateway,
        running(mount(forwarding(host, gateway))) as app,
    ):
        inside = await asking(app, path=PREFIX + PATH)
        outside = await asking(app, path=PATH)
    assert inside.status == 200
    assert members_of(inside)[1]["region"] == "scaleway-par-1"
    assert outside.status == 404
    assert len(paris.requests) == 1


async def test_the_stand_alone_gateway_can_be_mounted_under_a_prefix(host: str) -> None:
    """`VettedProxy` in a mount serves completions and its own endpoints below the prefix."""
    _build, mount = HOSTS[host]
    async with FakeUpstream() as paris, gateway_over(paris) as gateway, running(mount(VettedProxy(gateway))) as app:
        completion = await asking(app, path=PREFIX + PATH)
        regions = await asgi_exchange(app, method="GET", path=f"{PREFIX}/v1/regions")
    assert members_of(completion)[1]["region"] == "scaleway-par-1"
    assert "scaleway-par-1" in [region["code"] for region in regions.json()["data"]]


@pytest.mark.parametrize("stream", [False, True], ids=["json", "sse"])
async def test_the_apps_authentication_outside_the_middleware_turns_strangers_away(host: str, stream: bool) -> None:
    """Inside the app's own authentication only those it knows are served; the rest get the app's own 401."""
    async with FakeUpstream() as paris, running(forwarding(host, gateway_over(paris), guarded=True)) as app:
        stranger = await asking(app, stream=stream)
        friend = await asking(app, stream=stream, headers={"authorization": "Bearer friend"})
    assert stranger.status == 401
    assert b"the app does not know you" in stranger.body
    assert friend.status == 200
    assert len(paris.requests) == 1


def friends_only(seen: list[str]) -> Identify:
    """Return an `identify` that knows one friend, who may use France only."""

    async def identify(scope: Scope) -> Caller | None:
        seen.append(scope["path"])
        known = dict(scope["headers"]).get(b"authorization") == b"Bearer friend"
        return Caller(name="friend", allowed_countries=frozenset({"FR"})) if known else None

    return identify


async def test_identify_says_who_asks_and_narrows_what_they_may_use(host: str) -> None:
    """`identify` turns strangers away with 401, and the caller it returns is held to its own policy."""
    seen: list[str] = []
    async with FakeUpstream() as paris, FakeUpstream() as gravelines, FakeUpstream() as stockholm:
        gateway = gateway_over(paris, gravelines, stockholm)
        async with running(forwarding(host, gateway, identify=friends_only(seen))) as app:
            friend = {"authorization": "Bearer friend"}
            stranger = await asking(app)
            served = await asking(app, headers=friend)
            refused = await asking(app, headers=friend, vetted={"region": "atnorth-sto-1"})
            home = await asgi_exchange(app, method="GET", path="/")
    assert (stranger.status, stranger.json()["error"]["code"]) == (401, "invalid_api_key")
    assert served.status == 200
    assert (refused.status, refused.json()["error"]["code"]) == (403, "region_not_allowed")
    assert home.status == 200
    assert seen == [PATH] * 3
    assert (len(paris.requests), len(stockholm.requests)) == (1, 0)


async def test_when_every_region_fails_the_caller_gets_our_error_not_the_frameworks(host: str) -> None:
    """An error of ours passes the host's error handling as it is: envelope, trace and headers."""
    async with FakeUpstream() as paris, running(forwarding(host, gateway_over(paris))) as app:
        paris.then(FakeAnswer.json({"error": {"message": "no"}}, status=500))
        exchange = await asking(app, vetted={"region": "scaleway-par-1"})
    assert exchange.status == 503
    assert exchange.json()["error"]["code"] == "service_unavailable"
    assert exchange.json()["routing_trace"]["decision_mode"] == "unavailable"
    assert exchange.headers["x-should-retry"] == "false"
