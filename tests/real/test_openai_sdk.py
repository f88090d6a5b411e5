"""OpenAI's own Python SDK against the gateway, over real sockets: what its users see of receipts, traces and errors."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import openai
import pytest
from openai import AsyncOpenAI, DefaultAsyncHttpxClient, DefaultHttpxClient, OpenAI

from support import HELLO, served
from vetted_mw import Gateway, VettedProxy, load_configuration
from vetted_mw.testing import FakeAnswer, FakeUpstream, chat_frames

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from openai.types.chat import ChatCompletionMessageParam
    from starlette.types import Receive, Scope, Send

pytestmark = [pytest.mark.anyio, pytest.mark.real]
either_key = pytest.mark.parametrize("receipt_key", ["receipt", "vetted"])

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": HELLO[0]["content"]}]


class Door:
    """Counts the requests that reach the gateway's door."""

    def __init__(self, app: Any) -> None:
        self.requests = 0
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.requests += scope["type"] == "http"
        await self._app(scope, receive, send)


class Place:
    """A gateway on a socket of its own, and SDK clients of it."""

    def __init__(self, base_url: str, door: Door) -> None:
        self.door = door
        self._base_url = base_url

    @contextlib.asynccontextmanager
    async def client(self, *, api_key: str = "-", max_retries: int = 2) -> AsyncIterator[AsyncOpenAI]:
        async with AsyncOpenAI(
            base_url=self._base_url,
            api_key=api_key,
            max_retries=max_retries,
            http_client=DefaultAsyncHttpxClient(trust_env=False),
        ) as client:
            yield client

    async def in_thread(self, use: Callable[[OpenAI], Any]) -> Any:
        """Use the sync SDK where it belongs: in a thread of its own."""

        def run() -> Any:
            http_client = DefaultHttpxClient(trust_env=False)
            with OpenAI(base_url=self._base_url, api_key="-", http_client=http_client) as client:
                return use(client)

        return await anyio.to_thread.run_sync(run)


@contextlib.asynccontextmanager
async def gateway_before(
    *upstreams: FakeUpstream,
    first: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    **overrides: Any,
) -> AsyncIterator[Place]:
    """Serve a gateway before upstreams that run here: `scaleway-par-1` with the settings of `first`, then `ovh-gra-1`."""
    codes = ("scaleway-par-1", "ovh-gra-1")
    regions: dict[str, dict[str, Any]] = {
        code: {"base_url": upstream.base_url, "health_path": ""}
        for code, upstream in zip(codes, upstreams, strict=False)
    }
    regions[codes[0]] |= first or {}
    table = {"regions": regions, "default_order": list(regions)} | overrides
    door = Door(VettedProxy(Gateway(load_configuration(environ=environ or {}, overrides=table))))
    serving = served(door)
    origin = await anyio.to_thread.run_sync(serving.__enter__)
    try:
        yield Place(f"{origin}/v1", door)
    finally:
        await anyio.to_thread.run_sync(serving.__exit__, None, None, None)


def members_of(told: Any, receipt_key: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return receipt and trace as attributes of the SDK's object, which are its extra members too."""
    receipt, trace = getattr(told, receipt_key), told.routing_trace
    assert told.model_extra[receipt_key] == receipt
    assert told.model_dump()["routing_trace"] == trace
    return receipt, trace


# ---- whole answers


@either_key
async def test_create_gives_the_members_as_attributes_of_the_completion(receipt_key: str) -> None:
    """`answer.receipt` and `answer.routing_trace` are there, whatever the settings call the receipt; usage agrees."""
    async with FakeUpstream(text="Bonjour") as paris, gateway_before(paris, receipt_key=receipt_key) as place:
        async with place.client() as client:
            answer = await client.chat.completions.create(model="m", messages=MESSAGES)
        sync = await place.in_thread(lambda client: client.chat.completions.create(model="m", messages=MESSAGES))
    for told in (answer, sync):
        receipt, trace = members_of(told, receipt_key)
        assert told.choices[0].message.content == "Bonjour"
        assert told.usage is not None
        assert (receipt["prompt_tokens"], receipt["completion_tokens"]) == (
            told.usage.prompt_tokens,
            told.usage.completion_tokens,
        )
        assert receipt["region"] == trace["region"] == "scaleway-par-1"


async def test_extra_body_carries_the_options_and_they_do_not_leave_for_the_upstream() -> None:
    """`extra_body={"vetted": ...}` pins the region, and the upstream sees an ordinary request."""
    async with (
        FakeUpstream() as paris,
        FakeUpstream() as gravelines,
        gateway_before(paris, gravelines) as place,
        place.client() as client,
    ):
        answer = await client.chat.completions.create(
            model="m", messages=MESSAGES, extra_body={"vetted": {"region": "ovh-gra-1"}}
        )
    _receipt, trace = members_of(answer, "receipt")
    assert (trace["route_policy"], trace["region"]) == ("pinned", "ovh-gra-1")
    assert paris.requests == []
    assert gravelines.requests[0].json() == {"model": "m", "messages": HELLO}


async def test_extra_headers_carry_the_options_too() -> None:
    """`extra_headers={"x-vetted-region": ...}` pins the region as the body's member would."""
    async with (
        FakeUpstream() as paris,
        FakeUpstream() as gravelines,
        gateway_before(paris, gravelines) as place,
        place.client() as client,
    ):
        answer = await client.chat.completions.create(
            model="m", messages=MESSAGES, extra_headers={"x-vetted-region": "ovh-gra-1"}
        )
    assert members_of(answer, "receipt")[1]["region"] == "ovh-gra-1"
    assert paris.requests == []


@either_key
async def test_with_raw_response_shows_the_headers_and_parses_to_the_same_members(receipt_key: str) -> None:
    """The `x-vetted-*` headers are reachable beside the parsed completion, and they agree with it."""
    async with (
        FakeUpstream() as paris,
        gateway_before(paris, receipt_key=receipt_key) as place,
        place.client() as client,
    ):
        raw = await client.chat.completions.with_raw_response.create(model="m", messages=MESSAGES)
    receipt, trace = members_of(raw.parse(), receipt_key)
    assert raw.headers["x-vetted-region"] == trace["region"]
    assert raw.headers["x-vetted-decision-mode"] == trace["decision_mode"]
    assert raw.headers["x-vetted-decision-reason"] == trace["decision_reason"]
    assert raw.headers["x-vetted-receipt-id"] == receipt["query_id"]
    assert raw.headers["x-vetted-attempts"] == "1"


async def test_the_models_of_the_regions_are_listed() -> None:
    """`client.models.list()` reads the gateway's union of models."""
    async with (
        FakeUpstream() as paris,
        gateway_before(paris, first={"models": ["m", "other"]}) as place,
        place.client() as client,
    ):
        listed = await client.models.list()
    assert [model.id for model in listed.data] == ["m", "other"]


# ---- streams


def require_streamed(chunks: list[Any], receipt_key: str, *, text: str) -> dict[str, Any]:
    """The text is whole, every chunk has choices, and the members stand on the finish chunk alone."""
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == text
    bearing = [chunk for chunk in chunks if "routing_trace" in (chunk.model_extra or {})]
    assert [chunk.choices[0].finish_reason for chunk in bearing] == ["stop"]
    assert bearing[0] is chunks[-1]
    receipt, trace = members_of(bearing[0], receipt_key)
    assert receipt["region"] == trace["region"] == "scaleway-par-1"
    assert receipt["usage_source"] == "upstream"
    return receipt


@either_key
async def test_a_stream_carries_the_members_on_its_finish_chunk(receipt_key: str) -> None:
    """Async and sync: every delta arrives, and the finish chunk, the last one, has receipt and trace as attributes."""
    async with FakeUpstream(text="Bon jour") as paris, gateway_before(paris, receipt_key=receipt_key) as place:
        async with place.client() as client:
            stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
            chunks = [chunk async for chunk in stream]
        sync = await place.in_thread(
            lambda client: list(client.chat.completions.create(model="m", messages=MESSAGES, stream=True))
        )
    require_streamed(chunks, receipt_key, text="Bonjour")
    require_streamed(sync, receipt_key, text="Bonjour")


async def test_a_stream_that_asks_for_usage_gets_its_chunk_last_and_without_members() -> None:
    """With `include_usage` the usage chunk follows the finish chunk, as OpenAI's does, and the receipt agrees with it."""
    async with FakeUpstream() as paris, gateway_before(paris) as place, place.client() as client:
        stream = await client.chat.completions.create(
            model="m", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
        *chunks, last = [chunk async for chunk in stream]
    receipt = require_streamed(chunks, "receipt", text="Hello")
    assert last.choices == []
    assert last.usage is not None
    assert "receipt" not in (last.model_extra or {})
    assert (receipt["prompt_tokens"], receipt["completion_tokens"]) == (
        last.usage.prompt_tokens,
        last.usage.completion_tokens,
    )


@either_key
async def test_the_stream_helper_shows_the_members_in_its_chunk_events(receipt_key: str) -> None:
    """`client.chat.completions.stream()` gives the members on `event.chunk`, and its final completion is whole."""

    def use(client: OpenAI) -> tuple[list[Any], Any]:
        with client.chat.completions.stream(model="m", messages=MESSAGES) as stream:
            return [event.chunk for event in stream if event.type == "chunk"], stream.get_final_completion()

    async with FakeUpstream() as paris, gateway_before(paris, receipt_key=receipt_key) as place:
        async with place.client() as client, client.chat.completions.stream(model="m", messages=MESSAGES) as stream:
            chunks = [event.chunk async for event in stream if event.type == "chunk"]
            final = await stream.get_final_completion()
        sync_chunks, sync_final = await place.in_thread(use)
    for seen, completion in ((chunks, final), (sync_chunks, sync_final)):
        require_streamed(seen, receipt_key, text="Hello")
        assert completion.choices[0].message.content == "Hello"


async def test_a_raw_streamed_response_shows_the_headers_before_the_first_chunk() -> None:
    """A stream's headers tell region, decision and receipt id at once; the finish chunk's receipt has that id."""
    async with FakeUpstream() as paris, gateway_before(paris) as place, place.client() as client:
        raw = await client.chat.completions.with_raw_response.create(model="m", messages=MESSAGES, stream=True)
        chunks = [chunk async for chunk in raw.parse()]
    receipt = require_streamed(chunks, "receipt", text="Hello")
    assert raw.headers["x-vetted-region"] == "scaleway-par-1"
    assert raw.headers["x-vetted-receipt-id"] == receipt["query_id"]


async def collect(stream: AsyncIterator[Any], into: list[Any]) -> None:
    """Read a stream to its end, keeping what came before an error."""
    async for chunk in stream:
        into.append(chunk)  # noqa: PERF401 (a comprehension would lose what came before the error)


@either_key
async def test_a_stream_cut_after_it_began_raises_api_error_after_the_text_that_came(receipt_key: str) -> None:
    """The SDK hands out the deltas that arrived and then raises, naming the cut: never a quiet, truncated success."""
    cut = FakeAnswer.stream(chat_frames(words=("Hel", "lo"), done=False)[:3], ending="cut")
    async with FakeUpstream() as paris, gateway_before(paris, receipt_key=receipt_key) as place:
        paris.then(cut, cut)
        chunks: list[Any] = []
        async with place.client() as client:
            stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
            with pytest.raises(openai.APIError, match="cut") as raised:
                await collect(stream, chunks)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello"
    assert raised.value.code == "upstream_stream_cut"
    assert raised.value.type == "inference_error"
    assert place.door.requests == len(paris.requests) == 1


# ---- errors


async def test_an_unknown_region_is_a_bad_request_error_that_names_the_parameter() -> None:
    """`BadRequestError` with code `invalid_region` and param `vetted.region`; nothing is sent."""
    async with FakeUpstream() as paris, gateway_before(paris) as place, place.client() as client:
        with pytest.raises(openai.BadRequestError, match="scaleway-par-1") as raised:
            await client.chat.completions.create(
                model="m", messages=MESSAGES, extra_body={"vetted": {"region": "scaleway-par"}}
            )
    assert (raised.value.code, raised.value.param) == ("invalid_region", "vetted.region")
    assert raised.value.type == "validation_error"
    assert (place.door.requests, paris.requests) == (1, [])


async def test_callers_are_known_by_their_api_key_which_never_leaves_for_the_upstream() -> None:
    """`AuthenticationError` for a wrong key; the right one is served with the region's key, not the caller's."""
    keys: dict[str, Any] = {
        "environ": {"TEAM_KEY": "the-teams-key", "REGION_KEY": "the-regions-key"},
        "first": {"api_key": {"env": "REGION_KEY"}},
        "callers": {"team": {"key": {"env": "TEAM_KEY"}}},
    }
    async with FakeUpstream() as paris, gateway_before(paris, **keys) as place:
        async with place.client(api_key="wrong") as client:
            with pytest.raises(openai.AuthenticationError) as raised:
                await client.chat.completions.create(model="m", messages=MESSAGES)
        async with place.client(api_key="the-teams-key") as client:
            answer = await client.chat.completions.create(model="m", messages=MESSAGES)
    assert (raised.value.type, raised.value.code) == ("auth_error", "invalid_api_key")
    assert answer.choices[0].message.content == "Hello"
    assert [request.header("authorization") for request in paris.requests] == ["Bearer the-regions-key"]


async def test_a_region_outside_policy_is_a_permission_denied_error() -> None:
    """`PermissionDeniedError` with code `region_not_allowed` for a pin the operator's policy excludes."""
    async with FakeUpstream() as paris, FakeUpstream() as gravelines:
        policy = {"allowed_regions": ["scaleway-par-1"]}
        async with gateway_before(paris, gravelines, policy=policy) as place, place.client() as client:
            with pytest.raises(openai.PermissionDeniedError) as raised:
                await client.chat.completions.create(
                    model="m", messages=MESSAGES, extra_body={"vetted": {"region": "ovh-gra-1"}}
                )
    assert (raised.value.type, raised.value.code) == ("policy_error", "region_not_allowed")
    assert place.door.requests == 1


@pytest.mark.parametrize("stream", [False, True], ids=["json", "sse"])
async def test_a_pinned_region_that_cannot_serve_is_one_request_and_an_internal_server_error(stream: bool) -> None:
    """The SDK, left to its default retries, sends a pinned 503 exactly once, and its error tells the whole story."""
    async with FakeUpstream() as paris, gateway_before(paris) as place:
        paris.then(*[FakeAnswer.json({"error": {"message": "down"}}, status=500)] * 5)
        async with place.client() as client:
            with pytest.raises(openai.InternalServerError) as raised:
                await client.chat.completions.create(
                    model="m", messages=MESSAGES, stream=stream, extra_body={"vetted": {"region": "scaleway-par-1"}}
                )
    error = raised.value
    assert (error.status_code, error.type, error.code) == (503, "region_unavailable", "service_unavailable")
    assert error.param == "vetted.region"
    assert error.response.json()["routing_trace"]["decision_reason"] == "pinned_region_unavailable"
    assert place.door.requests == len(paris.requests) == 1


async def test_saturated_regions_are_a_rate_limit_error_that_says_when_to_come_back() -> None:
    """`RateLimitError` with the soonest `Retry-After`, once every region has said that it is full."""
    full = FakeAnswer.json({"error": {"message": "full"}}, status=429, headers=[("retry-after", "7")])
    async with FakeUpstream() as paris, FakeUpstream() as gravelines, gateway_before(paris, gravelines) as place:
        paris.then(full)
        gravelines.then(full)
        async with place.client(max_retries=0) as client:
            with pytest.raises(openai.RateLimitError) as raised:
                await client.chat.completions.create(model="m", messages=MESSAGES)
    assert (raised.value.type, raised.value.code) == ("rate_limit_error", "all_regions_saturated")
    assert raised.value.response.headers["retry-after"] == "7"
    assert [attempt["outcome"] for attempt in raised.value.response.json()["routing_trace"]["attempts"]] == [
        "saturated",
        "saturated",
    ]
