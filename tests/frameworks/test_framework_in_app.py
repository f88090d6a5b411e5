"""In-app mode in Starlette, FastAPI and Litestar: the app's own handler makes the call, the answer tells what was seen."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import openai
import pytest
from openai import AsyncOpenAI

from frameworks.hosts import HOSTS, PATH, PREFIX, Reply, Spec, TeapotError
from frameworks.place import asked, asking, by_sdk, chunks_of, events, gateway_over, members_of, never, running
from support import HELLO
from vetted_mw import Caller, RouteError, current_route
from vetted_mw.testing import FakeAnswer, FakeUpstream, asgi_exchange, chat_completion, chat_frames

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from starlette.types import ASGIApp, Scope

    from frameworks.hosts import Answer
    from vetted_mw import Gateway

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("host", HOSTS)]
both = pytest.mark.parametrize("stream", [False, True], ids=["json", "sse"])


def in_app(host: str, gateway: Gateway, answer: Answer, **options: Any) -> ASGIApp:
    """Build the host's app around a handler that answers chat completions itself."""
    build, _mount = HOSTS[host]
    return build(Spec(gateway=gateway, answer=answer, **options))


def sdk(gateway: Gateway) -> AsyncOpenAI:
    """Return an SDK client as handlers make it, that does not repeat what failed."""
    return AsyncOpenAI(
        base_url="http://vetted/v1", api_key="placeholder", max_retries=0, http_client=gateway.http_client
    )


async def frames_of(frames: list[bytes]) -> AsyncIterator[bytes]:
    """Yield frames one by one, giving the loop a turn between them."""
    for frame in frames:
        await asyncio.sleep(0)
        yield frame


def canned(*, stream: bool) -> Reply:
    """Return a chat completion that no model made."""
    if stream:
        return Reply(content=frames_of(chat_frames()), media_type="text/event-stream")
    return Reply(content=chat_completion())


# ---- one call


async def test_a_json_answer_of_the_handlers_own_call_gains_receipt_and_trace(host: str) -> None:
    """The handler's prompt reaches the decided region without `vetted`, and its answer tells what was observed."""
    async with FakeUpstream(text="Bonjour") as paris, FakeUpstream() as gravelines:
        gateway = gateway_over(paris, gravelines)
        async with running(in_app(host, gateway, by_sdk(gateway))) as app:
            exchange = await asking(app, vetted={"region": "scaleway-par-1"})
    receipt, trace = members_of(exchange)
    assert exchange.json()["choices"][0]["message"]["content"] == "Bonjour"
    assert receipt is not None
    assert (receipt["calls"], receipt["usage_source"], receipt["region"]) == (1, "upstream", "scaleway-par-1")
    assert (trace["route_policy"], trace["decision_mode"], trace["region"]) == ("pinned", "pinned", "scaleway-par-1")
    assert [(attempt["region"], attempt["outcome"]) for attempt in trace["attempts"]] == [("scaleway-par-1", "success")]
    assert exchange.headers["x-vetted-region"] == "scaleway-par-1"
    assert exchange.headers["x-vetted-receipt-id"] == receipt["query_id"]
    assert exchange.headers["x-vetted-attempts"] == "1"
    assert exchange.headers["content-length"] == str(len(exchange.body))
    sent = paris.requests[0].json()
    assert sent["messages"] == [{"role": "system", "content": "Be brief."}, *HELLO]
    assert "vetted" not in sent
    assert gravelines.requests == []


async def test_a_stream_of_the_handlers_own_call_gains_the_members_on_its_finish_chunk(host: str) -> None:
    """Every delta the handler relays comes through; the finish chunk has the members, and [DONE] comes once."""
    async with FakeUpstream(text="Bon jour") as paris:
        gateway = gateway_over(paris)
        async with running(in_app(host, gateway, by_sdk(gateway))) as app:
            exchange = await asking(app, stream=True)
    receipt, trace = members_of(exchange)
    assert receipt is not None
    assert (receipt["region"], receipt["completion_status"]) == ("scaleway-par-1", "complete")
    assert (receipt["prompt_tokens"], receipt["completion_tokens"], receipt["usage_source"]) == (5, 2, "upstream")
    assert trace["decision_reason"] == "preferred_available"
    chunks = chunks_of(exchange)
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks) == "Bonjour"
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks if "receipt" in chunk] == ["stop"]
    assert events(exchange).count("[DONE]") == 1
    assert events(exchange)[-1] == "[DONE]"
    assert exchange.headers["x-vetted-decision-mode"] == "preferred"


@both
async def test_a_call_fails_over_as_forwarded_ones_do_and_the_trace_tells_both_attempts(
    host: str, stream: bool
) -> None:
    """The first region's failure costs the handler nothing: the second serves its call, and the answer says so."""
    async with FakeUpstream() as paris, FakeUpstream(text="Bonjour") as gravelines:
        gateway = gateway_over(paris, gravelines)
        paris.then(FakeAnswer.json({"error": {"message": "broken"}}, status=500))
        async with running(in_app(host, gateway, by_sdk(gateway))) as app:
            exchange = await asking(app, stream=stream)
    receipt, trace = members_of(exchange)
    assert receipt is not None
    assert receipt["region"] == trace["region"] == "ovh-gra-1"
    assert (trace["decision_mode"], trace["decision_reason"]) == ("failover", "attempt_failed")
    assert [(a["region"], a["outcome"]) for a in trace["attempts"]] == [
        ("scaleway-par-1", "upstream_error"),
        ("ovh-gra-1", "success"),
    ]


# ---- no call, several calls, a call elsewhere


@both
async def test_a_handler_that_makes_no_call_gets_no_receipt_and_claims_no_region(host: str, stream: bool) -> None:
    """Where nothing was observed, the receipt is null and says why, and neither trace nor headers name a region."""

    async def answer(_raw: bytes) -> Reply:
        return canned(stream=stream)

    async with FakeUpstream() as paris, running(in_app(host, gateway_over(paris), answer)) as app:
        exchange = await asking(app, stream=stream)
    receipt, trace = members_of(exchange)
    assert receipt is None
    assert (trace["receipt_error"], trace["region"], trace["attempts"]) == ("no_observed_call", None, [])
    assert trace["receipt_signal"] is None
    assert "x-vetted-region" not in exchange.headers
    assert "x-vetted-receipt-id" not in exchange.headers
    assert paris.requests == []


async def test_two_calls_of_one_model_in_one_region_are_one_receipt_over_their_sum(host: str) -> None:
    """Tokens are added up, `calls` says two, and the trace lists both attempts."""
    async with FakeUpstream(usage=(7, 3)) as paris:
        gateway = gateway_over(paris)
        paris.then(FakeAnswer.json(chat_completion(usage=(100, 20))))

        async def answer(_raw: bytes) -> Reply:
            client = sdk(gateway)
            await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "first"}])
            second = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "second"}])
            return Reply(content=second.model_dump_json().encode())

        async with running(in_app(host, gateway, answer)) as app:
            exchange = await asking(app)
    receipt, trace = members_of(exchange)
    assert receipt is not None
    assert (receipt["calls"], receipt["prompt_tokens"], receipt["completion_tokens"]) == (2, 107, 23)
    assert (receipt["model"], receipt["usage_source"]) == ("m", "upstream")
    assert [attempt["outcome"] for attempt in trace["attempts"]] == ["success", "success"]
    assert exchange.headers["x-vetted-attempts"] == "2"


@both
async def test_two_calls_of_two_models_have_no_one_receipt(host: str, stream: bool) -> None:
    """Figures of two models cannot be one: the receipt is null with `several_calls`."""
    async with FakeUpstream() as paris:
        gateway = gateway_over(paris)

        async def answer(_raw: bytes) -> Reply:
            client = sdk(gateway)
            for model in ("m", "another"):
                await client.chat.completions.create(model=model, messages=[{"role": "user", "content": "?"}])
            return canned(stream=stream)

        async with running(in_app(host, gateway, answer)) as app:
            exchange = await asking(app, stream=stream)
    receipt, trace = members_of(exchange)
    assert receipt is None
    assert trace["receipt_error"] == "several_calls"
    assert [request.json()["model"] for request in paris.requests] == ["m", "another"]


async def test_a_handler_with_a_client_of_its_own_reports_what_it_used(host: str) -> None:
    """`route.record()` makes a receipt marked `reported`, for the region and base URL the route told the handler."""
    seen: dict[str, str] = {}
    async with FakeUpstream() as paris:
        gateway = gateway_over(paris)

        async def answer(_raw: bytes) -> Reply:
            route = current_route()
            assert route is not None
            seen["region"], seen["base_url"] = route.region, route.base_url
            route.record(usage={"prompt_tokens": 11, "completion_tokens": 4, "cached_tokens": 3})
            return canned(stream=False)

        async with running(in_app(host, gateway, answer)) as app:
            exchange = await asking(app)
        base_url = paris.base_url
    receipt, trace = members_of(exchange)
    assert seen == {"region": "scaleway-par-1", "base_url": base_url}
    assert receipt is not None
    assert receipt["usage_source"] == "reported"
    assert (receipt["prompt_tokens"], receipt["cached_tokens"], receipt["completion_tokens"]) == (11, 3, 4)
    assert (receipt["model"], receipt["region"], trace["region"]) == ("m", "scaleway-par-1", "scaleway-par-1")


# ---- what the handler sees


async def test_the_handler_sees_the_callers_body_byte_for_byte(host: str) -> None:
    """The body is replayed as it came, odd white space, unknown members, `vetted` and all."""
    raw = b'{ "model":"m" ,\n"messages": [] , "vetted": {"latency_budget_ms": 50}, "x": 1.0e1}'
    seen: list[bytes] = []

    async def answer(body: bytes) -> Reply:
        seen.append(body)
        return canned(stream=False)

    async with FakeUpstream() as paris, running(in_app(host, gateway_over(paris), answer)) as app:
        parts = [raw[:20], raw[20:21], raw[21:]]
        exchange = await asgi_exchange(app, body=parts, headers=[("content-type", "application/json")])
    assert exchange.status == 200
    assert seen == [raw]


@both
async def test_with_no_region_to_go_to_the_caller_gets_our_error_and_the_handler_is_not_run(
    host: str, stream: bool
) -> None:
    """The decision comes first: a drained pin is our 503 with the trace, before the app does any work."""
    async with FakeUpstream() as paris:
        gateway = gateway_over(paris, table={"drained": True})
        async with running(in_app(host, gateway, never)) as app:
            exchange = await asking(app, stream=stream, vetted={"region": "scaleway-par-1"})
    assert exchange.status == 503
    assert exchange.json()["error"]["code"] == "service_unavailable"
    assert exchange.json()["routing_trace"]["region"] is None
    assert exchange.headers["x-vetted-decision-reason"] == "pinned_region_unavailable"
    assert exchange.headers["x-vetted-attempts"] == "0"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (asked(vetted={"region": "nowhere"}), "invalid_region"),
        (asked(vetted={"regoin": "ovh-gra-1"}), "invalid_option"),
        ({"messages": []}, "invalid_request"),
    ],
)
async def test_a_request_we_refuse_never_reaches_the_handler(host: str, body: dict[str, object], code: str) -> None:
    """A malformed request or option is our 400 in in-app mode too."""
    async with FakeUpstream() as paris, running(in_app(host, gateway_over(paris), never)) as app:
        exchange = await asgi_exchange(app, json=body)
    assert (exchange.status, exchange.json()["error"]["code"]) == (400, code)


# ---- answers that are no chat completions, and errors


NOT_CHAT: Mapping[str, tuple[bytes, str]] = {
    "json": (b'{ "answer" : 42 }', "application/json"),
    "json list": (b"[1, 2]", "application/json"),
    "json by name only": (b"{not json", "application/json"),
    "text": ("bonjour à tous".encode(), "text/plain; charset=utf-8"),
    "json lines": (b'{"choices": []}\n{"choices": []}\n', "application/jsonl"),
    "other json": (b'{"choices": []}', "application/problem+json"),
}


@pytest.mark.parametrize("what", NOT_CHAT)
async def test_an_answer_that_is_no_chat_completion_passes_unchanged_with_headers_only(host: str, what: str) -> None:
    """Other JSON and other types keep their bytes and status; only the `x-vetted-*` headers are added."""
    content, media_type = NOT_CHAT[what]

    async def answer(_raw: bytes) -> Reply:
        return Reply(content=content, media_type=media_type, status=202)

    async with FakeUpstream() as paris, running(in_app(host, gateway_over(paris), answer)) as app:
        exchange = await asking(app)
    assert (exchange.status, exchange.body) == (202, content)
    assert exchange.headers["content-type"].startswith(media_type.split(";")[0])
    assert exchange.headers["x-vetted-decision-mode"] == "preferred"
    assert "x-vetted-receipt-id" not in exchange.headers


async def test_a_stream_of_other_events_passes_unchanged(host: str) -> None:
    """An event stream that holds no chat chunks is the app's own affair, comments, names and odd line ends included."""
    frames = [
        b": hello\n\n",
        b"event: progress\ndata: 10 %\n\n",
        b'data: {"step": 1}\r\n\r\n',
        b"data: [DONE]\n\n",
        b"tail",
    ]

    async def answer(_raw: bytes) -> Reply:
        return Reply(content=frames_of(frames), media_type="text/event-stream")

    async with FakeUpstream() as paris, running(in_app(host, gateway_over(paris), answer)) as app:
        exchange = await asking(app, stream=True)
    assert exchange.body == b"".join(frames)
    assert exchange.headers["x-vetted-decision-reason"] == "preferred_available"


async def test_what_a_handler_raises_goes_to_the_apps_own_error_handling(host: str) -> None:
    """An exception of the handler is answered by the app's exception handler, untouched by us."""

    async def answer(_raw: bytes) -> Reply:
        raise TeapotError

    async with FakeUpstream() as paris, running(in_app(host, gateway_over(paris), answer)) as app:
        exchange = await asking(app)
    assert (exchange.status, exchange.json()) == (418, {"app": "teapot"})


async def test_a_failed_call_reaches_the_handler_as_the_sdks_own_error(host: str) -> None:
    """The handler's SDK raises what it would raise for any server, and the app decides what its caller gets."""
    caught: list[openai.InternalServerError] = []
    async with FakeUpstream() as paris:
        gateway = gateway_over(paris)
        paris.then(FakeAnswer.json({"error": {"message": "broken"}}, status=500))

        async def answer(_raw: bytes) -> Reply:
            try:
                await sdk(gateway).chat.completions.create(model="m", messages=[])
            except openai.InternalServerError as error:
                caught.append(error)
            raise TeapotError

        async with running(in_app(host, gateway, answer)) as app:
            exchange = await asking(app, vetted={"region": "scaleway-par-1"})
    assert exchange.status == 418
    assert [(error.status_code, error.code) for error in caught] == [(503, "service_unavailable")]


# ---- who may come in


async def test_identify_turns_strangers_away_before_the_handler(host: str) -> None:
    """With `identify`, the handler runs for those it knows only."""

    async def identify(scope: Scope) -> Caller | None:
        return Caller(name="friend") if dict(scope["headers"]).get(b"authorization") == b"Bearer friend" else None

    ran: list[bytes] = []

    async def answer(raw: bytes) -> Reply:
        ran.append(raw)
        return canned(stream=False)

    async with FakeUpstream() as paris, running(in_app(host, gateway_over(paris), answer, identify=identify)) as app:
        stranger = await asking(app)
        friend = await asking(app, headers={"authorization": "Bearer friend"})
    assert (stranger.status, friend.status, len(ran)) == (401, 200, 1)


async def test_the_apps_own_authentication_outside_answers_strangers_itself(host: str) -> None:
    """Behind the app's authentication a stranger gets the app's 401 without our headers; a friend's call is served."""
    async with FakeUpstream() as paris:
        gateway = gateway_over(paris)
        async with running(in_app(host, gateway, by_sdk(gateway), guarded=True)) as app:
            stranger = await asking(app)
            friend = await asking(app, headers={"authorization": "Bearer friend"})
    assert stranger.status == 401
    assert not [name for name in stranger.headers if "vetted" in name]
    assert members_of(friend)[1]["region"] == "scaleway-par-1"
    assert len(paris.requests) == 1


@pytest.mark.parametrize(
    ("headers", "sent"),
    [({"authorization": "Bearer the-callers"}, "Bearer the-callers"), ({}, None)],
    ids=["a key", "no key"],
)
async def test_passthrough_sends_the_outer_requests_key_and_never_the_sdks_placeholder(
    host: str, headers: dict[str, str], sent: str | None
) -> None:
    """With `auth = "passthrough"` the upstream sees the caller's own Authorization, or none."""
    async with FakeUpstream() as paris:
        gateway = gateway_over(paris, table={"auth": "passthrough"})
        async with running(in_app(host, gateway, by_sdk(gateway))) as app:
            exchange = await asking(app, headers=headers)
    assert exchange.status == 200
    assert [request.header("authorization") for request in paris.requests] == [sent]


# ---- where the app lives


async def test_in_app_mode_works_without_a_lifespan(host: str) -> None:
    """The gateway opens at the first request where no lifespan did."""
    async with FakeUpstream() as paris:
        gateway = gateway_over(paris)
        try:
            exchange = await asking(in_app(host, gateway, by_sdk(gateway), lifespan=False))
        finally:
            await gateway.aclose()
    assert members_of(exchange)[1]["region"] == "scaleway-par-1"


async def test_in_app_mode_works_in_an_app_mounted_under_a_prefix(host: str) -> None:
    """The path after the prefix is the one that counts, for the middleware and for the handler."""
    _build, mount = HOSTS[host]
    async with (
        FakeUpstream() as paris,
        gateway_over(paris) as gateway,
        running(mount(in_app(host, gateway, by_sdk(gateway)))) as app,
    ):
        exchange = await asking(app, path=PREFIX + PATH)
    assert members_of(exchange)[1]["region"] == "scaleway-par-1"


async def test_the_apps_other_routes_have_no_route_of_ours(host: str) -> None:
    """Other paths and methods reach the app untouched in in-app mode too, and no route is current there."""
    async with FakeUpstream() as paris, running(in_app(host, gateway_over(paris), never)) as app:
        home = await asgi_exchange(app, method="GET", path=PATH)
        echo = await asgi_exchange(app, path="/echo", body=b"{}")
    assert (home.status, home.body, echo.body) == (200, b"home", b"{}")
    assert not [name for exchange in (home, echo) for name in exchange.headers if "vetted" in name]
    assert current_route() is None


# ---- after the answer


@pytest.mark.parametrize("kind", ["json", "sse", "text", "other sse"])
async def test_a_background_task_after_the_answer_has_no_route(host: str, kind: str) -> None:
    """Once its answer has ended a request's route is closed: the client raises, and nothing is sent."""
    outcome: list[object] = []
    async with FakeUpstream() as paris:
        gateway = gateway_over(paris)

        async def later() -> None:
            outcome.append(current_route())
            with pytest.raises(RouteError):
                await gateway.http_client.post("http://vetted/v1/chat/completions", json=asked())
            outcome.append("refused")

        async def answer(_raw: bytes) -> Reply:
            assert current_route() is not None
            if kind == "text":
                return Reply(content=b"bonjour", media_type="text/plain", afterwards=later)
            if kind == "other sse":
                content = frames_of([b"data: 1\n\n", b"data: 2\n\n"])
                return Reply(content=content, media_type="text/event-stream", afterwards=later)
            reply = canned(stream=kind == "sse")
            return Reply(content=reply.content, media_type=reply.media_type, afterwards=later)

        async with running(in_app(host, gateway, answer)) as app:
            exchange = await asking(app)
    assert exchange.complete
    assert outcome == [None, "refused"]
    assert paris.requests == []


async def test_a_stream_whose_handler_raises_ends_with_an_error_event_and_the_exception_goes_on(host: str) -> None:
    """A handler that breaks mid-stream never looks like a short answer: an error event with the members, no [DONE]."""
    async with FakeUpstream() as paris:
        gateway = gateway_over(paris)
        paris.then(FakeAnswer.stream(chat_frames(done=False)[:2], ending="cut"))
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async with running(in_app(host, gateway, by_sdk(gateway))) as app:
            with pytest.raises(Exception):  # noqa: B017 (each framework wraps it in its own way)
                await asgi_exchange(recording(app, send), json=asked(stream=True))
    body = b"".join(message.get("body", b"") for message in sent).decode()
    last = json.loads(body.strip().rpartition("data: ")[2])
    assert "Hel" in body
    assert last["error"]["code"] == "upstream_stream_cut"
    assert "choices" not in last
    assert last["receipt"]["completion_status"] == "upstream_error"
    assert last["routing_trace"]["region"] == "scaleway-par-1"
    assert "[DONE]" not in body
    assert sent[-1].get("more_body", False) is False


def recording(app: ASGIApp, send: Any) -> ASGIApp:
    """Keep what an app sends although it raises."""

    async def recorded(scope: Any, receive: Any, onward: Any) -> None:
        async def both_ways(message: Any) -> None:
            await send(message)
            await onward(message)

        await app(scope, receive, both_ways)

    return recorded
