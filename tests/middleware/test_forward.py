"""Forward mode, driven by ASGI messages over upstreams on real sockets."""

from __future__ import annotations

import asyncio
import gc
import warnings
from typing import TYPE_CHECKING

import msgspec
import pytest

from support import HELLO, configured, proxied
from vetted_mw import Caller, Gateway, VettedProxy, load_configuration
from vetted_mw.testing import FakeAnswer, FakeUpstream, asgi_exchange

if TYPE_CHECKING:
    from starlette.types import Message, Scope

pytestmark = pytest.mark.anyio


async def test_a_json_completion_comes_back_with_receipt_and_trace() -> None:
    """A whole answer keeps the upstream's bytes and gains the two members at its end."""
    async with FakeUpstream() as paris, proxied({"scaleway-par-1": paris.base_url}) as app:
        exchange = await asgi_exchange(app, json={"model": "m", "messages": HELLO})
    told = exchange.json()
    assert exchange.status == 200
    assert list(told)[-2:] == ["receipt", "routing_trace"]
    assert told["routing_trace"]["region"] == told["receipt"]["region"] == "scaleway-par-1"
    assert exchange.headers["x-vetted-region"] == "scaleway-par-1"
    assert [request.json()["messages"] for request in paris.requests] == [HELLO]


async def test_a_failed_first_region_fails_over_and_the_trace_lists_both() -> None:
    """A 500 from the first region sends the request to the second, and the trace tells both attempts in order."""
    async with FakeUpstream() as first, FakeUpstream() as second:
        first.then(FakeAnswer.json({"error": {"message": "broken"}}, status=500))
        async with proxied({"scaleway-par-1": first.base_url, "ovh-gra-1": second.base_url}) as app:
            told = (await asgi_exchange(app, json={"model": "m", "messages": HELLO})).json()
    trace = told["routing_trace"]
    assert (trace["decision_mode"], trace["decision_reason"]) == ("failover", "attempt_failed")
    assert [(a["region"], a["outcome"], a["status"]) for a in trace["attempts"]] == [
        ("scaleway-par-1", "upstream_error", 500),
        ("ovh-gra-1", "success", 200),
    ]
    assert (len(first.requests), len(second.requests)) == (1, 1)


async def test_a_region_that_discovers_its_models_serves_the_names_requests_use_for_them() -> None:
    """A name that the settings map to one of the region's own names counts as listed once the list is fetched."""
    async with FakeUpstream(model="mistral-medium-2508") as paris:
        region = {"base_url": paris.base_url, "models": "discover"}
        names = {"mistral-medium-3": {"upstream_names": {"scaleway-par-1": "mistral-medium-2508"}}}
        async with Gateway(configured({"scaleway-par-1": region}, models=names)) as gateway:
            await gateway.probe("scaleway-par-1")
            app = VettedProxy(gateway)
            known = await asgi_exchange(app, json={"model": "mistral-medium-3", "messages": HELLO})
            unknown = await asgi_exchange(app, json={"model": "another", "messages": HELLO})
    assert (known.status, unknown.status) == (200, 400)
    assert [request.json()["model"] for request in paris.requests] == ["mistral-medium-2508"]


async def test_the_model_list_leaves_out_what_will_never_serve_this_caller() -> None:
    """Models of gateway-only regions, and of regions outside the caller's policy, are not offered."""
    upstreams = {
        code: {"base_url": "http://127.0.0.1:9/v1", "models": [f"model-of-{code}"]}
        for code in ("scaleway-par-1", "atnorth-sto-1", "hetzner-fsn-1")
    }
    caller = Caller(name="french", allowed_countries=frozenset({"FR"}))

    async def identify(_scope: Scope) -> Caller:
        return caller

    settings = configured(upstreams, default_order=["scaleway-par-1"])
    async with Gateway(settings) as gateway:
        offered = await asgi_exchange(VettedProxy(gateway), method="GET", path="/v1/models")
        narrowed = await asgi_exchange(VettedProxy(gateway, identify=identify), method="GET", path="/v1/models")
    assert [row["id"] for row in offered.json()["data"]] == ["model-of-atnorth-sto-1", "model-of-scaleway-par-1"]
    assert [row["id"] for row in narrowed.json()["data"]] == ["model-of-scaleway-par-1"]


@pytest.mark.parametrize(
    ("receipts", "vetted", "promised"),
    [
        ({}, {}, True),
        ({"unknown_model": "null"}, {}, False),
        ({"missing_usage": "null"}, {}, False),
        ({}, {"tier": "telemetry"}, False),
    ],
)
async def test_a_streams_headers_name_a_receipt_only_where_there_will_be_one(
    receipts: dict[str, str], vetted: dict[str, str], *, promised: bool
) -> None:
    """The receipt's id goes out before the receipt is made, so it is left out where settings may withhold it."""
    async with FakeUpstream() as paris, proxied({"scaleway-par-1": paris.base_url}, receipts=receipts) as app:
        asked = {"model": "unheard-of", "messages": HELLO, "stream": True, "vetted": vetted}
        exchange = await asgi_exchange(app, json=asked)
    assert ("x-vetted-receipt-id" in exchange.headers) is promised


async def test_a_body_of_more_members_than_any_request_has_is_refused() -> None:
    """A wide object is turned away before each of its members is walked."""
    wide = {f"member{number}": 1 for number in range(2000)}
    async with FakeUpstream() as paris, proxied({"scaleway-par-1": paris.base_url}) as app:
        exchange = await asgi_exchange(app, json={"model": "m", "messages": HELLO} | wide)
    assert (exchange.status, exchange.json()["error"]["code"]) == (400, "invalid_json")
    assert paris.requests == []


async def test_a_caller_that_stops_reading_holds_nothing_beyond_the_whole_requests_limit() -> None:
    """A send that never returns is ended at the limit; the lease and the upstream's connection are free again."""
    stuck = asyncio.Event()

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            stuck.set()
            await asyncio.Event().wait()

    body = msgspec.json.encode({"model": "m", "messages": HELLO, "stream": True})
    parts = [{"type": "http.request", "body": body, "more_body": False}]
    async with FakeUpstream() as paris:
        settings = configured({"scaleway-par-1": paris.base_url}, limits={"total_seconds": 0.05})
        async with Gateway(settings) as gateway, asyncio.timeout(60):
            app = VettedProxy(gateway)

            async def first_body_then_nothing() -> Message:
                return parts.pop() if parts else await receive()

            scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": []}
            await app(scope, first_body_then_nothing, send)
            assert stuck.is_set()
            assert gateway.fleet.in_flight == 0


async def test_a_refusal_that_nobody_takes_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some servers never return from a send to a caller that has gone: the request is over all the same."""
    monkeypatch.setattr("vetted_mw.middleware.responder.SEND_GRACE_SECONDS", 0.05)
    parts: list[Message] = [{"type": "http.request", "body": b"[]", "more_body": False}]
    sent: list[Message] = []

    async def receive() -> Message:
        if not parts:
            await asyncio.Event().wait()
        return parts.pop()

    async def send(message: Message) -> None:
        sent.append(message)
        await asyncio.Event().wait()

    async with Gateway(configured({"scaleway-par-1": "http://127.0.0.1:9/v1"})) as gateway, asyncio.timeout(60):
        scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": []}
        await VettedProxy(gateway)(scope, receive, send)
        assert (sent[0]["status"], gateway.in_flight) == (400, 0)


def test_a_gateway_whose_event_loop_was_closed_starts_anew_in_the_next_one() -> None:
    """Test clients that run each request in a loop of its own get an answer each time."""

    async def ask(base_url: str) -> int:
        return (await asgi_exchange(app, json={"model": "m", "messages": HELLO, "base": base_url})).status

    async def asked_once() -> tuple[int, int]:
        async with FakeUpstream() as paris:
            object.__setattr__(upstream, "base_url", paris.base_url)
            return await ask(paris.base_url), len(paris.requests)

    configuration = configured({"scaleway-par-1": "http://127.0.0.1:9/v1"})
    upstream = configuration.upstreams["scaleway-par-1"]
    gateway = Gateway(configuration)
    app = VettedProxy(gateway)

    async def and_closed() -> tuple[int, int]:
        answered = await asked_once()
        await gateway.aclose()
        return answered

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the first loop's connections die with it, unclosed
        first = asyncio.run(asked_once())
        second = asyncio.run(and_closed())
        gc.collect()
    assert (first, second) == ((200, 1), (200, 1))


async def test_a_middleware_without_any_upstream_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """An app that found no settings file starts, refuses every request, and its log says why."""
    async with Gateway(load_configuration(environ={}, overrides={})) as gateway:
        exchange = await asgi_exchange(VettedProxy(gateway), json={"model": "m", "messages": HELLO})
    assert (exchange.status, exchange.json()["error"]["code"]) == (503, "no_region_available")
    assert any("no region has an upstream" in record.getMessage() for record in caplog.records)


async def test_a_pin_to_a_region_without_a_server_is_told_as_lasting() -> None:
    """A 503 that no waiting cures does not say `now`."""
    async with FakeUpstream() as paris, proxied({"scaleway-par-1": paris.base_url}) as app:
        asked = {"model": "m", "messages": HELLO, "vetted": {"region": "atnorth-sto-1"}}
        exchange = await asgi_exchange(app, json=asked)
    assert exchange.status == 503
    assert "no server configured" in exchange.json()["error"]["message"]
    assert paris.requests == []
