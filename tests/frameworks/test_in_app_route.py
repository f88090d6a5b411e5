"""The route of an in-app request: where its calls go, what they may not do, and what a handler may report."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from openai import AsyncOpenAI
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from frameworks.hosts import PATH
from frameworks.place import CODES, asked, asking, chunks_of, events, gateway_over, members_of, until
from support import HELLO, configured
from vetted_mw import ConfigurationError, Gateway, RouteError, VettedMiddleware, current_route
from vetted_mw.testing import (
    FakeAnswer,
    FakeUpstream,
    ManualClock,
    StaticSignals,
    asgi_exchange,
    chat_completion,
    chat_frames,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    import httpx
    from starlette.types import ASGIApp, Receive, Scope, Send

    from vetted_mw.in_app.route import Route

pytestmark = pytest.mark.anyio

URL = "http://vetted/v1/chat/completions"


def around(gateway: Gateway, handle: Callable[[Route], Awaitable[bytes | None]]) -> ASGIApp:
    """Build a bare ASGI app whose handler gets its route; what it returns is the JSON answer, a chat completion if None."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        body = await handle(scope["state"]["vetted"])
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": chat_completion() if body is None else body})

    return VettedMiddleware(app, gateway=gateway, mode="in_app")


async def called(gateway: Gateway, *, headers: Mapping[str, str] | None = None, **body: Any) -> httpx.Response:
    """Make one call of a handler."""
    answered: httpx.Response = await gateway.http_client.post(URL, json=asked(**body), headers=headers)
    return answered


# ---- which calls have a route


async def test_the_scopes_state_and_current_route_hold_the_same_route() -> None:
    """`scope["state"]["vetted"]` is `current_route()` while the handler runs, and there is none before or after."""
    seen: list[object] = []

    async def handle(route: Route) -> None:
        seen.extend([route is current_route(), route.region, route.decision.order])

    assert current_route() is None
    async with FakeUpstream() as paris, gateway_over(paris) as gateway:
        await asking(around(gateway, handle))
    assert seen == [True, "scaleway-par-1", ("scaleway-par-1",)]
    assert current_route() is None


async def test_outside_a_request_the_client_raises_and_sends_nothing() -> None:
    """Without a request being answered there is nowhere to send to: `RouteError`."""
    async with FakeUpstream() as paris, gateway_over(paris) as gateway:
        with pytest.raises(RouteError, match="No request is being answered"):
            await called(gateway)
    assert paris.requests == []


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("GET", URL),
        ("POST", "http://vetted/v1/embeddings"),
        ("POST", "http://vetted/v1/chat/completions/"),
        ("POST", "http://vetted/v1/chat/completions?region=ovh-gra-1"),
        ("POST", "https://vetted/v1/chat/completions"),
        ("POST", "http://vetted:8080/v1/chat/completions"),
        ("POST", "http://vetted.example/v1/chat/completions"),
        ("POST", "https://api.example.com/v1/chat/completions"),
    ],
)
async def test_any_other_url_or_method_raises_and_sends_nothing(method: str, url: str) -> None:
    """The client is for one thing only; whatever else it is asked to do, nothing leaves."""

    async def handle(_route: Route) -> None:
        with pytest.raises(RouteError, match="http://vetted/v1"):
            await gateway.http_client.request(method, url, json=asked())

    async with FakeUpstream() as paris, gateway_over(paris) as gateway:
        exchange = await asking(around(gateway, handle))
    assert exchange.status == 200
    assert (paris.requests, paris.others) == ([], [])


async def test_a_task_that_outlives_its_request_has_no_route() -> None:
    """A task a handler started keeps its context, but the route in it is closed with the answer."""
    tasks: list[asyncio.Task[httpx.Response]] = []
    answered = asyncio.Event()

    async def late() -> httpx.Response:
        await answered.wait()
        return await called(gateway)

    async def handle(_route: Route) -> None:
        tasks.append(asyncio.create_task(late()))

    async with FakeUpstream() as paris, gateway_over(paris) as gateway:
        await asking(around(gateway, handle))
        answered.set()
        with pytest.raises(RouteError):
            await tasks[0]
    assert paris.requests == []


async def test_an_sdk_client_closed_after_each_request_does_not_close_the_gateways() -> None:
    """`async with AsyncOpenAI(http_client=gateway.http_client)` in a handler works for the second request too."""

    async def handle(_route: Route) -> bytes:
        async with AsyncOpenAI(base_url="http://vetted/v1", api_key="-", http_client=gateway.http_client) as client:
            answer = await client.chat.completions.create(model="m", messages=[])
        return answer.model_dump_json().encode()

    async with FakeUpstream() as paris, gateway_over(paris) as gateway:
        app = around(gateway, handle)
        answers = [await asking(app) for _ in range(2)]
    assert [members_of(exchange)[1]["region"] for exchange in answers] == ["scaleway-par-1"] * 2


# ---- what a call may not do


@pytest.mark.parametrize(
    ("outer", "inner", "headers"),
    [
        ({}, {"region": "ovh-gra-1"}, {}),
        ({"region": "scaleway-par-1"}, {"region": "ovh-gra-1"}, {}),
        ({"region": "scaleway-par-1"}, {"routing": "default"}, {}),
        ({}, None, {"x-vetted-region": "ovh-gra-1"}),
        ({"region": "scaleway-par-1"}, None, {"x-vetted-region": "ovh-gra-1"}),
    ],
)
async def test_options_on_the_handlers_own_call_that_differ_are_an_error_and_nothing_is_sent(
    outer: dict[str, object], inner: dict[str, object] | None, headers: dict[str, str]
) -> None:
    """Where a call goes was decided with the outer request: other options, in body or header, are 400 for the handler."""
    answers: list[httpx.Response] = []

    async def handle(_route: Route) -> None:
        answers.append(await called(gateway, vetted=inner, headers=headers))

    async with FakeUpstream() as paris, FakeUpstream() as gravelines, gateway_over(paris, gravelines) as gateway:
        exchange = await asking(around(gateway, handle), vetted=outer)
    assert [(answer.status_code, answer.json()["error"]["code"]) for answer in answers] == [
        (400, "conflicting_options")
    ]
    assert members_of(exchange)[1]["receipt_error"] == "no_observed_call"
    assert (paris.requests, gravelines.requests) == ([], [])


@pytest.mark.parametrize("inner", [{"regoin": "ovh-gra-1"}, {"region": "nowhere"}])
async def test_a_malformed_option_on_the_handlers_own_call_is_an_error_too(inner: dict[str, object]) -> None:
    """A typo in the handler's own call never becomes "no pin"."""
    statuses: list[int] = []

    async def handle(_route: Route) -> None:
        statuses.append((await called(gateway, vetted=inner)).status_code)

    async with FakeUpstream() as paris, gateway_over(paris) as gateway:
        await asking(around(gateway, handle))
    assert (statuses, paris.requests) == ([400], [])


async def test_a_handler_may_send_on_the_whole_body_it_got() -> None:
    """The outer request's own options on the call are no conflict, and do not reach the upstream."""

    async def handle(_route: Route) -> bytes:
        headers = {"x-vetted-region": "ovh-gra-1"}
        return (await called(gateway, vetted={"region": "ovh-gra-1"}, headers=headers)).content

    async with FakeUpstream() as paris, FakeUpstream() as gravelines, gateway_over(paris, gravelines) as gateway:
        exchange = await asking(around(gateway, handle), vetted={"region": "ovh-gra-1"})
    assert members_of(exchange)[1]["region"] == "ovh-gra-1"
    assert gravelines.requests[0].json() == {"model": "m", "messages": HELLO}
    assert not [name for name, _value in gravelines.requests[0].headers if "vetted" in name]


# ---- where later calls go


async def test_later_calls_stay_on_the_region_that_served_the_first() -> None:
    """After a failover the second call goes where the first was served, although the first region answers again."""

    async def handle(route: Route) -> bytes:
        assert route.region == "scaleway-par-1"
        await called(gateway)
        assert route.region == "ovh-gra-1"
        return (await called(gateway)).content

    async with FakeUpstream() as paris, FakeUpstream() as gravelines, gateway_over(paris, gravelines) as gateway:
        paris.then(FakeAnswer.json({}, status=500))
        exchange = await asking(around(gateway, handle))
    receipt, told = members_of(exchange)
    assert (len(paris.requests), len(gravelines.requests)) == (1, 2)
    assert [attempt["region"] for attempt in told["attempts"]] == ["scaleway-par-1", "ovh-gra-1", "ovh-gra-1"]
    assert receipt is not None
    assert (receipt["calls"], receipt["region"], told["region"]) == (2, "ovh-gra-1", "ovh-gra-1")


async def test_a_later_call_does_not_fail_over_when_its_region_fails() -> None:
    """A second call whose region now fails is an error for the handler, not an answer from elsewhere."""
    statuses: list[int] = []

    async def handle(_route: Route) -> bytes:
        first = await called(gateway)
        statuses.append((await called(gateway)).status_code)
        return first.content

    async with FakeUpstream() as paris, FakeUpstream() as gravelines, gateway_over(paris, gravelines) as gateway:
        paris.then(FakeAnswer.json(chat_completion()), FakeAnswer.json({}, status=500))
        exchange = await asking(around(gateway, handle))
    receipt, told = members_of(exchange)
    assert statuses == [502]
    assert (len(paris.requests), len(gravelines.requests)) == (2, 0)
    assert receipt is not None
    assert (receipt["calls"], told["region"]) == (1, "scaleway-par-1")
    assert [attempt["outcome"] for attempt in told["attempts"]] == ["success", "upstream_error"]


async def test_a_pin_holds_for_every_call() -> None:
    """Two calls of a pinned request both go to the pin; when it fails the handler gets 503, and no other is asked."""
    statuses: list[tuple[int, str]] = []

    async def handle(_route: Route) -> None:
        await called(gateway)
        failed = await called(gateway)
        statuses.append((failed.status_code, failed.json()["error"]["code"]))
        assert failed.headers["x-should-retry"] == "false"

    async with FakeUpstream() as paris, FakeUpstream() as gravelines, gateway_over(paris, gravelines) as gateway:
        gravelines.then(FakeAnswer.json(chat_completion()), FakeAnswer.json({}, status=500))
        await asking(around(gateway, handle), vetted={"region": "ovh-gra-1"})
    assert statuses == [(503, "service_unavailable")]
    assert (len(paris.requests), len(gravelines.requests)) == (0, 2)


async def test_a_later_call_stays_although_signals_would_now_choose_another_region() -> None:
    """Signals that went stale between two calls change nothing for the second: its region is the request's region."""
    clock = ManualClock()
    signals = StaticSignals({"FR": 60.0, "SE_3": 20.0}, now=clock.now, max_age_minutes=10)
    options = {"signals": [signals], "now": clock.now, "monotonic": clock.monotonic}

    async def handle(_route: Route) -> bytes:
        await called(gateway)
        clock.tick(3600)
        return (await called(gateway)).content

    async with FakeUpstream() as paris, FakeUpstream() as gravelines, FakeUpstream() as stockholm:
        upstreams = (paris, gravelines, stockholm)
        async with gateway_over(*upstreams, options=options, default_order=list(CODES[:2])) as gateway:
            exchange = await asking(around(gateway, handle), vetted={"routing": "carbon_aware"})
    receipt, told = members_of(exchange)
    assert [len(upstream.requests) for upstream in upstreams] == [0, 0, 2]
    assert (told["decision_mode"], told["region"]) == ("live", "atnorth-sto-1")
    assert receipt is not None
    assert (receipt["calls"], receipt["grid_intensity_gco2_per_kwh"]) == (2, 20.0)
    requested = {told["operational_signal"]["requested_at"], receipt["grid_intensity_requested_at"]}
    assert requested == {"2026-11-22T10:30:00Z"}


@pytest.mark.parametrize(
    ("vetted", "code"), [({}, "no_region_available"), ({"region": "scaleway-par-1"}, "service_unavailable")]
)
async def test_a_later_call_whose_region_can_no_longer_serve_is_refused(vetted: dict[str, object], code: str) -> None:
    """When the first call's region has become saturated, the second is 503 for the handler, sent nowhere."""
    told: list[tuple[int, str]] = []

    async def handle(_route: Route) -> None:
        await called(gateway)
        for _ in range(2):
            refused = await called(gateway)
            told.append((refused.status_code, refused.json()["error"]["code"]))

    full = FakeAnswer.json({}, status=429, headers=[("retry-after", "600")])
    async with FakeUpstream() as paris, FakeUpstream() as gravelines, gateway_over(paris, gravelines) as gateway:
        paris.then(FakeAnswer.json(chat_completion()), full)
        await asking(around(gateway, handle), vetted=vetted)
    assert told[1] == (503, code)
    assert (len(paris.requests), len(gravelines.requests)) == (2, 0)


async def test_a_later_call_of_a_model_its_region_does_not_have_names_who_has_it() -> None:
    """The second call's model is looked for where the first was served, and nowhere else."""
    told: list[httpx.Response] = []

    async def handle(_route: Route) -> None:
        await called(gateway)
        told.append(await called(gateway, model="another"))

    async with FakeUpstream() as paris, FakeUpstream() as gravelines:
        regions = {
            "scaleway-par-1": {"base_url": paris.base_url, "models": ["m"]},
            "ovh-gra-1": {"base_url": gravelines.base_url, "models": ["m", "another"]},
        }
        async with Gateway(configured(regions)) as gateway:
            await asking(around(gateway, handle))
    error = told[0].json()["error"]
    assert (told[0].status_code, error["code"]) == (400, "model_not_available")
    assert "ovh-gra-1" in error["message"]
    assert gravelines.requests == []


async def test_a_first_call_of_another_model_is_decided_for_that_model() -> None:
    """A handler that maps the model's name gets a region that serves the name it uses."""

    async def handle(_route: Route) -> bytes:
        return (await called(gateway, model="mapped")).content

    async with FakeUpstream() as paris, FakeUpstream() as gravelines:
        regions = {
            "scaleway-par-1": {"base_url": paris.base_url, "models": ["m"]},
            "ovh-gra-1": {"base_url": gravelines.base_url, "models": ["mapped"]},
        }
        async with Gateway(configured(regions)) as gateway:
            exchange = await asking(around(gateway, handle))
    receipt, told = members_of(exchange)
    assert receipt is not None
    assert (receipt["model"], receipt["region"], told["region"]) == ("mapped", "ovh-gra-1", "ovh-gra-1")
    assert told["decision_reason"] == "preferred_model_unavailable"


async def test_calls_made_at_once_wait_until_the_first_has_shown_which_region_serves() -> None:
    """Three parallel calls end in one region, the one that served the first of them."""

    async def handle(_route: Route) -> bytes:
        answers = await asyncio.gather(*(called(gateway) for _ in range(3)))
        return answers[0].content

    async with FakeUpstream() as paris, FakeUpstream() as gravelines, gateway_over(paris, gravelines) as gateway:
        paris.then(FakeAnswer.json({}, status=500))
        exchange = await asking(around(gateway, handle))
    receipt, _trace = members_of(exchange)
    assert (len(paris.requests), len(gravelines.requests)) == (1, 3)
    assert receipt is not None
    assert receipt["calls"] == 3


async def test_a_call_repeated_after_every_region_failed_is_decided_anew() -> None:
    """A handler that tries again after a failure gets a fresh decision; the trace lists every attempt."""

    async def handle(_route: Route) -> bytes:
        assert (await called(gateway)).status_code == 502
        return (await called(gateway)).content

    async with FakeUpstream() as paris, gateway_over(paris) as gateway:
        paris.then(FakeAnswer.json({}, status=500))
        exchange = await asking(around(gateway, handle))
    receipt, told = members_of(exchange)
    assert [attempt["outcome"] for attempt in told["attempts"]] == ["upstream_error", "success"]
    assert receipt is not None
    assert (receipt["calls"], exchange.headers["x-vetted-attempts"]) == (1, "2")


# ---- what leaves, what comes back


async def test_a_region_with_a_key_gets_its_own_and_a_client_of_ones_own_is_told_it() -> None:
    """With `auth = "region"` the region's key leaves, not the SDK's placeholder and not the caller's Authorization."""
    told: list[Mapping[str, str]] = []

    async def handle(route: Route) -> bytes:
        told.append(route.headers)
        return (await called(gateway, headers={"authorization": "Bearer placeholder"})).content

    async with FakeUpstream() as paris:
        from vetted_mw import load_configuration

        region = {"base_url": paris.base_url, "health_path": "", "api_key": {"env": "REGION_KEY"}}
        configuration = load_configuration(
            environ={"REGION_KEY": "secret"}, overrides={"regions": {"scaleway-par-1": region}}
        )
        async with Gateway(configuration) as gateway:
            await asking(around(gateway, handle), headers={"authorization": "Bearer the-callers"})
    assert [request.header("authorization") for request in paris.requests] == ["Bearer secret"]
    assert told == [{"authorization": "Bearer secret"}]


async def test_a_region_without_a_key_tells_a_client_of_ones_own_to_send_none() -> None:
    """`route.headers` is empty where nothing is to be sent."""
    told: list[Mapping[str, str]] = []

    async def handle(route: Route) -> None:
        told.append(route.headers)

    async with FakeUpstream() as paris, gateway_over(paris) as gateway:
        await asking(around(gateway, handle), headers={"authorization": "Bearer the-callers"})
    assert told == [{}]


@pytest.mark.parametrize(
    ("inner", "expected"),
    [({}, "00-11111111111111111111111111111111"), ({"traceparent": f"00-{'2' * 32}-{'3' * 16}-01"}, f"00-{'2' * 32}")],
    ids=["the outer request's", "the handler's own"],
)
async def test_the_outer_requests_trace_goes_on_to_the_upstream(inner: dict[str, str], expected: str) -> None:
    """A call belongs to the caller's trace unless the handler says otherwise; the upstream sees it."""
    outer = {"traceparent": f"00-{'1' * 32}-{'4' * 16}-01"}

    async def handle(_route: Route) -> bytes:
        return (await called(gateway, headers=inner)).content

    async with FakeUpstream() as paris, gateway_over(paris) as gateway:
        await asking(around(gateway, handle), headers=outer)
    assert str(paris.requests[0].header("traceparent")).startswith(expected)


async def test_each_call_is_one_span_of_its_own_ended_once(caplog: pytest.LogCaptureFixture) -> None:
    """Two calls are two `chat` spans in the caller's trace, each ended with its own call, a stream's too."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    ended: list[int] = []

    async def handle(_route: Route) -> None:
        for stream in (False, True):
            await called(gateway, stream=stream)
            ended.append(sum(span.name.startswith("chat ") for span in exporter.get_finished_spans()))

    async with FakeUpstream() as paris, gateway_over(paris, options={"tracer_provider": provider}) as gateway:
        await asking(around(gateway, handle), headers={"traceparent": f"00-{'1' * 32}-{'4' * 16}-01"})
    spans = [span for span in exporter.get_finished_spans() if span.name.startswith("chat ")]
    provider.shutdown()
    assert ended == [1, 2]
    assert len(spans) == 2
    contexts = [span.get_span_context() for span in spans]
    assert {context.trace_id for context in contexts if context is not None} == {int("1" * 32, 16)}
    assert not [record for record in caplog.records if "ended span" in record.message]


async def test_the_handler_gets_the_upstreams_bare_answer() -> None:
    """Body and harmless headers are the upstream's own; no member of ours, no cookie, no spoofed header is among them."""
    answers: list[httpx.Response] = []
    raw = chat_completion(text="Bonjour", system_fingerprint="fp")
    headers = [("x-request-id", "up-1"), ("set-cookie", "a=b"), ("x-vetted-region", "mars")]

    async def handle(_route: Route) -> bytes:
        answers.append(await called(gateway))
        return answers[0].content

    async with FakeUpstream() as paris, gateway_over(paris) as gateway:
        paris.then(FakeAnswer.json(raw, headers=headers))
        exchange = await asking(around(gateway, handle))
    assert answers[0].content == raw
    assert answers[0].headers["x-request-id"] == "up-1"
    assert "set-cookie" not in answers[0].headers
    assert "x-vetted-region" not in answers[0].headers
    assert exchange.body.startswith(raw[:-1])
    assert exchange.headers["x-vetted-region"] == "scaleway-par-1"


async def test_an_upstreams_complaint_about_the_call_reaches_the_handler() -> None:
    """A 4xx of the upstream keeps its status and words, in OpenAI's envelope."""
    told: list[httpx.Response] = []

    async def handle(_route: Route) -> None:
        told.append(await called(gateway))

    async with FakeUpstream() as paris, gateway_over(paris) as gateway:
        paris.then(FakeAnswer.json({"error": {"message": "too long", "code": 17}}, status=422))
        await asking(around(gateway, handle))
    assert told[0].status_code == 422
    assert told[0].json()["error"] == {"message": "too long", "type": "upstream_error", "code": "17", "param": None}


async def test_a_call_that_is_no_chat_completion_is_an_error_for_the_handler() -> None:
    """A body without messages is refused as the gateway refuses it from anyone; nothing is sent."""
    told: list[httpx.Response] = []

    async def handle(_route: Route) -> None:
        told.append(await gateway.http_client.post(URL, json={"model": "m"}))

    async with FakeUpstream() as paris, gateway_over(paris) as gateway:
        await asking(around(gateway, handle))
    assert (told[0].status_code, told[0].json()["error"]["param"]) == (400, "messages")
    assert paris.requests == []


async def test_a_handler_may_stream_its_call_and_answer_whole() -> None:
    """A streamed call whose text the handler collects is a receipt with the upstream's own counts."""

    async def handle(_route: Route) -> None:
        client = AsyncOpenAI(base_url="http://vetted/v1", api_key="-", http_client=gateway.http_client)
        stream = await client.chat.completions.create(model="m", messages=[], stream=True)
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == "Hello"

    async with FakeUpstream(usage=(9, 4)) as paris, gateway_over(paris) as gateway:
        exchange = await asking(around(gateway, handle))
    receipt, _trace = members_of(exchange)
    assert receipt is not None
    assert (receipt["prompt_tokens"], receipt["completion_tokens"], receipt["completion_status"]) == (9, 4, "complete")


async def test_a_handlers_stream_is_not_begun_early_and_gets_no_pings() -> None:
    """Both are for a caller who waits: the handler's call still fails over, and gets what the upstream said, no more."""
    seen: list[bytes] = []

    async def handle(_route: Route) -> None:
        async with gateway.http_client.stream("POST", URL, json=asked(stream=True)) as answer:
            seen.extend([part async for part in answer.aiter_bytes()])

    limits = {"commit_after_seconds": 0.01, "sse_keepalive_seconds": 0.1}
    first, second, *rest = chat_frames()
    async with FakeUpstream() as paris, FakeUpstream() as gravelines:
        paris.then(FakeAnswer(status=500, delay=0.3))
        gravelines.then(FakeAnswer.stream([first, second, 0.5, *rest]))
        async with gateway_over(paris, gravelines, limits=limits) as gateway:
            _receipt, told = members_of(await asking(around(gateway, handle)))
    assert [attempt["outcome"] for attempt in told["attempts"]] == ["upstream_error", "success"]
    assert b"[DONE]" in b"".join(seen)
    assert b": ping" not in b"".join(seen)


async def test_a_stream_the_handler_left_open_is_closed_and_told_as_abandoned_by_the_client() -> None:
    """What a handler began and did not finish is closed when its answer ends; the receipt says that it was left."""

    async def handle(_route: Route) -> None:
        request = gateway.http_client.build_request("POST", URL, json=asked(stream=True))
        response = await gateway.http_client.send(request, stream=True)
        assert response.status_code == 200

    async with FakeUpstream() as paris, gateway_over(paris) as gateway:
        paris.then(FakeAnswer.stream(chat_frames()[:2], ending="stall"))
        exchange = await asking(around(gateway, handle))
        async with asyncio.timeout(20):
            await paris.requests[0].left.wait()
        assert gateway.fleet.in_flight == 0
    receipt, told = members_of(exchange)
    assert receipt is not None
    assert receipt["completion_status"] == "client_abort"
    assert [attempt["outcome"] for attempt in told["attempts"]] == ["client_disconnect"]


async def test_a_call_cancelled_by_its_handler_is_closed_at_the_upstream() -> None:
    """A handler that gives up waiting frees the upstream at once, and goes on."""

    async def handle(_route: Route) -> None:
        call = asyncio.create_task(called(gateway))
        await until(lambda: paris.requests)
        call.cancel()
        await asyncio.wait([call])
        async with asyncio.timeout(60):
            await paris.requests[0].left.wait()

    async with FakeUpstream() as paris, gateway_over(paris) as gateway:
        paris.then(FakeAnswer(ending="stall", chunked=True))
        exchange = await asking(around(gateway, handle))
        assert gateway.fleet.in_flight == 0
    assert members_of(exchange)[1]["receipt_error"] == "no_observed_call"


async def test_calls_without_usage_are_estimated_as_a_whole() -> None:
    """One counted and one uncounted call of a model are one estimate, marked so; nothing is counted as zero."""

    async def handle(_route: Route) -> None:
        await called(gateway)
        await called(gateway)

    async with FakeUpstream() as paris, gateway_over(paris) as gateway:
        paris.then(
            FakeAnswer.json(chat_completion(usage=(100, 50))),
            FakeAnswer.json(chat_completion(text="x" * 40, usage=None)),
        )
        exchange = await asking(around(gateway, handle))
    receipt, _trace = members_of(exchange)
    assert receipt is not None
    assert (receipt["usage_source"], receipt["tier"], receipt["calls"]) == ("estimated", "proxy", 2)
    # 50 counted tokens, and 40 characters at 4 to a token; 11 characters of HELLO round up.
    assert (receipt["prompt_tokens"], receipt["completion_tokens"]) == (103, 60)


# ---- record()


@pytest.mark.parametrize(
    "usage",
    [
        {},
        {"prompt_tokens": 1},
        {"completion_tokens": 1},
        {"prompt_tokens": -1, "completion_tokens": 1},
        {"prompt_tokens": 1.5, "completion_tokens": 1},
        {"prompt_tokens": "1", "completion_tokens": 1},
        {"prompt_tokens": True, "completion_tokens": 1},
        {"prompt_tokens": 1, "completion_tokens": 2**64},
        {"prompt_tokens": 1, "completion_tokens": 1, "cached_tokens": None},
        {"prompt_tokens": 1, "completion_tokens": 1, "cached_tokens": 2},
    ],
)
async def test_record_refuses_counts_that_cannot_be(usage: dict[str, Any]) -> None:
    """A report that cannot be true raises at the handler's line, and makes no receipt."""

    async def handle(route: Route) -> None:
        with pytest.raises(RouteError, match=r"record\(\)"):
            route.record(usage=usage)

    async with FakeUpstream() as paris, gateway_over(paris) as gateway:
        exchange = await asking(around(gateway, handle))
    assert members_of(exchange)[1]["receipt_error"] == "no_observed_call"


async def test_record_takes_several_reports_and_another_model() -> None:
    """Two reports of one model are summed; the model may be another one than the caller named."""

    async def handle(route: Route) -> None:
        route.record(usage={"prompt_tokens": 1, "completion_tokens": 2}, model="mine")
        route.record(usage={"prompt_tokens": 10, "completion_tokens": 20}, model="mine")

    async with FakeUpstream() as paris, gateway_over(paris) as gateway:
        exchange = await asking(around(gateway, handle))
    receipt, _trace = members_of(exchange)
    assert receipt is not None
    assert (receipt["model"], receipt["calls"], receipt["usage_source"]) == ("mine", 2, "reported")
    assert (receipt["prompt_tokens"], receipt["completion_tokens"]) == (11, 22)


async def test_record_after_the_answer_raises() -> None:
    """A report that comes too late for the receipt is not lost quietly."""
    routes: list[Route] = []

    async def handle(route: Route) -> None:
        routes.append(route)

    async with FakeUpstream() as paris, gateway_over(paris) as gateway:
        await asking(around(gateway, handle))
        with pytest.raises(RouteError, match="ended"):
            routes[0].record(usage={"prompt_tokens": 1, "completion_tokens": 1})


async def test_a_report_beside_an_observed_call_is_no_one_receipt() -> None:
    """What was seen and what was said are never mixed into one figure."""

    async def handle(route: Route) -> None:
        await called(gateway)
        route.record(usage={"prompt_tokens": 1, "completion_tokens": 1})

    async with FakeUpstream() as paris, gateway_over(paris) as gateway:
        exchange = await asking(around(gateway, handle))
    assert members_of(exchange)[0] is None
    assert members_of(exchange)[1]["receipt_error"] == "several_calls"


# ---- the middleware itself


async def test_the_receipts_name_and_the_traces_detail_are_the_settings() -> None:
    """`receipt_key` and `trace_detail` hold in in-app mode too."""

    async def handle(_route: Route) -> bytes:
        return (await called(gateway)).content

    async with FakeUpstream() as paris, gateway_over(paris, receipt_key="vetted", trace_detail="short") as gateway:
        told = (await asking(around(gateway, handle))).json()
    assert told["vetted"]["region"] == "scaleway-par-1"
    assert "receipt" not in told
    assert not {"candidates", "attempts"} & told["routing_trace"].keys()


async def test_a_member_of_ours_in_the_handlers_answer_gives_way_and_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A handler cannot make up a receipt: ours replaces it, with a warning."""

    async def handle(_route: Route) -> bytes:
        return chat_completion(receipt={"gco2e": 0.0}, routing_trace="mine")

    async with FakeUpstream() as paris, gateway_over(paris) as gateway:
        told = (await asking(around(gateway, handle))).json()
    assert told["receipt"] is None
    assert told["routing_trace"]["receipt_error"] == "no_observed_call"
    assert [record.message for record in caplog.records if "replaced" in record.message]


async def test_an_unknown_mode_is_refused_when_the_middleware_is_built() -> None:
    """A typo in `mode` is a configuration error that names the two modes."""
    async with FakeUpstream() as paris:
        with pytest.raises(ConfigurationError, match="'forward' or 'in_app'"):
            VettedMiddleware(asgi_exchange, gateway=gateway_over(paris), mode="inapp")  # type: ignore[arg-type]


async def test_a_gzipped_request_is_replayed_as_it_came() -> None:
    """The handler gets the very bytes of the wire, whatever their encoding; only we look inside."""
    import gzip

    seen: list[bytes] = []
    raw = gzip.compress(json.dumps(asked()).encode())

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((await receive())["body"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async with FakeUpstream() as paris, gateway_over(paris) as gateway:
        wrapped = VettedMiddleware(app, gateway=gateway, mode="in_app")
        exchange = await asgi_exchange(wrapped, path=PATH, body=raw, headers=[("content-encoding", "gzip")])
    assert (exchange.status, seen) == (204, [raw])
    assert exchange.headers["x-vetted-decision-mode"] == "preferred"


async def test_an_in_app_stream_may_ask_for_its_usage_chunk() -> None:
    """The usage chunk a handler relays comes after the finish chunk, before [DONE]."""

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        body = asked(stream=True, stream_options={"include_usage": True})
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async with gateway.http_client.stream("POST", URL, json=body) as response:
            async for part in response.aiter_bytes():
                await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async with FakeUpstream() as paris, gateway_over(paris) as gateway:
        exchange = await asking(VettedMiddleware(app, gateway=gateway, mode="in_app"), stream=True)
    *_, finish, usage = chunks_of(exchange)
    assert finish["receipt"]["completion_tokens"] == usage["usage"]["completion_tokens"] == 2
    assert usage["choices"] == []
    assert events(exchange)[-1] == "[DONE]"
