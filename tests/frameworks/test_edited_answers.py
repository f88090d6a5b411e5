"""What becomes of a handler's answer on its way out: members on chat completions, every other byte as it came."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frameworks.place import asked, asking, chunks_of, events, members_of
from support import configured, unused_port
from vetted_mw import Gateway, VettedMiddleware
from vetted_mw.testing import Exchange, asgi_exchange, chat_completion, chat_frames, sse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

pytestmark = pytest.mark.anyio

JSON = (b"content-type", b"application/json")
SSE = (b"content-type", b"text/event-stream")


@contextlib.asynccontextmanager
async def idle_gateway(**overrides: Any) -> AsyncIterator[Gateway]:
    """Open a gateway whose one region is never called."""
    upstreams = {"scaleway-par-1": f"http://127.0.0.1:{unused_port()}/v1"}
    async with Gateway(configured(upstreams, **overrides)) as gateway:
        yield gateway


def sending(*messages: Message, headers: Iterable[tuple[bytes, bytes]] = (SSE,)) -> ASGIApp:
    """Return an app that sends its start with `headers`, then `messages`."""

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for message in messages:
            await send(message)

    return app


def bodies(parts: Sequence[bytes]) -> list[Message]:
    """Return body messages of `parts`, and the empty last one."""
    messages = [{"type": "http.response.body", "body": part, "more_body": True} for part in parts]
    return [*messages, {"type": "http.response.body", "body": b"", "more_body": False}]


async def edited(gateway: Gateway, app: ASGIApp, **body: Any) -> Exchange:
    """Ask an app behind the in-app middleware."""
    return await asking(VettedMiddleware(app, gateway=gateway, mode="in_app"), **body)


def split(data: bytes, places: Iterable[int]) -> list[bytes]:
    """Cut `data` at `places`."""
    cuts = sorted({place % (len(data) + 1) for place in places})
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


# ---- whole answers


async def test_a_json_completion_sent_in_parts_is_edited_as_a_whole() -> None:
    """The members stand at the end of the handler's own bytes, and the length is right."""
    raw = chat_completion(text="Bonjour")
    async with idle_gateway() as gateway:
        app = sending(*bodies([raw[:9], raw[9:10], raw[10:]]), headers=[JSON, (b"content-length", b"%d" % len(raw))])
        exchange = await edited(gateway, app)
    assert exchange.body.startswith(raw[:-1])
    assert list(exchange.json())[-2:] == ["receipt", "routing_trace"]
    assert exchange.headers["content-length"] == str(len(exchange.body))


@pytest.mark.parametrize("kind", [b"Application/JSON; charset=utf-8", b"application/json;x=y"])
async def test_the_media_type_counts_not_its_case_or_parameters(kind: bytes) -> None:
    """`application/json` in any spelling is JSON; headers may come as an iterator that can be read once."""
    async with idle_gateway() as gateway:
        app = sending(*bodies([chat_completion()]), headers=iter([(b"Content-Type", kind)]))
        exchange = await edited(gateway, app)
    assert "routing_trace" in exchange.json()
    assert exchange.headers["Content-Type"] == kind.decode()


async def test_a_json_answer_over_the_limit_passes_as_it_is_sent() -> None:
    """Nothing is held without bound: past `max_response_bytes` the answer goes out unedited, byte for byte."""
    parts = [b'{"choices": [], "long": "', b"x" * 700, b"y" * 700, b'"}']
    async with idle_gateway(limits={"max_response_bytes": 1024}) as gateway:
        exchange = await edited(gateway, sending(*bodies(parts), headers=[JSON]))
    assert exchange.body == b"".join(parts)
    assert exchange.headers["x-vetted-decision-mode"] == "preferred"


@pytest.mark.parametrize("kind", [JSON, SSE], ids=["json", "sse"])
async def test_an_answer_the_app_has_compressed_passes_unchanged(kind: tuple[bytes, bytes]) -> None:
    """What a compressing middleware inside ours has encoded is not ours to open."""
    raw = gzip.compress(chat_completion())
    async with idle_gateway() as gateway:
        app = sending(*bodies([raw]), headers=[kind, (b"content-encoding", b"gzip")])
        exchange = await edited(gateway, app)
    assert exchange.body == raw
    assert exchange.headers["x-vetted-decision-mode"] == "preferred"


async def test_a_file_sent_by_its_path_goes_out_after_its_start() -> None:
    """An ASGI extension's message in place of a body is passed on, and the start that was held goes before it."""
    pathsend = {"type": "http.response.pathsend", "path": "answer.json"}
    async with idle_gateway() as gateway:
        exchange = await edited(gateway, sending(pathsend, headers=[JSON]))
    assert [message["type"] for message in exchange.messages] == ["http.response.start", "http.response.pathsend"]


async def test_trailers_after_a_whole_answer_pass() -> None:
    """What an app sends after its edited body goes out after it."""
    trailers = {"type": "http.response.trailers", "headers": []}
    last = {"type": "http.response.body", "body": chat_completion()}
    async with idle_gateway() as gateway:
        exchange = await edited(gateway, sending(last, trailers, headers=[JSON]))
    assert "receipt" in exchange.json()
    assert exchange.messages[-1] == trailers


async def test_messages_before_the_start_pass() -> None:
    """Early hints and the like are none of our business."""
    hint = {"type": "http.response.early_hint", "links": []}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(hint)
        await sending(*bodies([chat_completion()]), headers=[JSON])(scope, receive, send)

    async with idle_gateway() as gateway:
        exchange = await edited(gateway, app)
    assert exchange.messages[0] == hint
    assert "receipt" in exchange.json()


async def test_an_app_that_answers_nothing_is_left_to_its_server() -> None:
    """A handler that returns without a word is the server's to judge; we add no answer of our own."""

    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        return

    async with idle_gateway() as gateway:
        exchange = await edited(gateway, app)
    assert exchange.messages == ()


# ---- streams: every split, every byte


class Bench:
    """One gateway on a loop of its own, for many examples."""

    def __init__(self, runner: asyncio.Runner, gateway: Gateway) -> None:
        self._runner = runner
        self._gateway = gateway

    def stream(self, parts: Sequence[bytes], **body: Any) -> Exchange:
        """Return what a caller gets of a handler that streams `parts`."""
        return self._runner.run(edited(self._gateway, sending(*bodies(parts)), stream=True, **body))


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with asyncio.Runner() as runner:
        opened = idle_gateway(limits={"max_frame_bytes": 4096})
        gateway = runner.run(opened.__aenter__())
        yield Bench(runner, gateway)
        runner.run(opened.__aexit__(None, None, None))


ENDS = st.sampled_from([b"\n\n", b"\r\n\r\n", b"\r\r"])
LINES = st.sampled_from(
    [b"data: 1", b"data: {}", b'data: {"step": 2}', b"data: [DONE]", b"data: plain words", b"data:[]"]
)
OTHER_FRAMES = st.builds(lambda line, end: line + end, st.one_of(LINES, st.sampled_from([b": ping", b"id: 7"])), ENDS)
PLACES = st.lists(st.integers(0, 10_000), max_size=12)


@settings(max_examples=150, deadline=None)
@given(
    frames=st.lists(OTHER_FRAMES, max_size=6), tail=st.sampled_from([b"", b"data: half", b"\n", b": x"]), places=PLACES
)
def test_a_stream_of_other_events_is_the_same_bytes_however_it_is_split(
    bench: Bench, frames: list[bytes], tail: bytes, places: list[int]
) -> None:
    """An event stream without chat chunks comes out as it went in."""
    raw = b"".join(frames) + tail
    exchange = bench.stream(split(raw, places))
    assert exchange.body == raw
    assert exchange.complete


@settings(max_examples=100, deadline=None)
@given(places=PLACES, comments=st.booleans(), done=st.booleans())
def test_a_chat_stream_is_the_same_however_it_is_split(
    bench: Bench, places: list[int], comments: bool, done: bool
) -> None:
    """Every chunk keeps its bytes; the members join the finish chunk and [DONE] ends the stream, in any split."""
    frames = chat_frames(words=("Hé", "llo"), done=done)
    if comments:
        frames = [b": ping\n\n", *frames[:2], b": ping\n\n", *frames[2:]]
    exchange = bench.stream(split(b"".join(frames), places))
    role_and_words = b"".join(frames[: 3 + 2 * comments])
    assert exchange.body.startswith(role_and_words)
    *_, finish, usage = chunks_of(exchange)
    assert finish["choices"][0]["finish_reason"] == "stop"
    assert members_of(exchange)[1]["receipt_error"] == "no_observed_call"
    assert usage["usage"] == {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    assert events(exchange).count("[DONE]") == 1
    assert events(exchange)[-1] == "[DONE]"


@settings(max_examples=100, deadline=None)
@given(
    places=PLACES,
    kept=st.integers(1, 5),
    odd=st.sampled_from([b"data: not json\n\n", b"data: [1]\n\n", b"data: 7\r\n\r\n"]),
)
def test_a_stream_that_stops_being_chat_loses_nothing_however_it_is_split(
    bench: Bench, places: list[int], kept: int, odd: bytes
) -> None:
    """From the first event that cannot be a chunk everything passes as it is, what was held included."""
    raw = b"".join(chat_frames(done=False)[:kept]) + odd + b"data: more\n\n: and more\n\ntail"
    exchange = bench.stream(split(raw, places))
    assert exchange.body == raw


@settings(max_examples=50, deadline=None)
@given(places=PLACES, kept=st.integers(0, 4))
def test_a_frame_over_the_limit_passes_with_everything_around_it(bench: Bench, places: list[int], kept: int) -> None:
    """An event longer than `max_frame_bytes` is not held without bound: the stream passes as it is from there."""
    raw = b"".join(chat_frames(done=False)[:kept]) + b"data: " + b"x" * 5000 + b"\n\n" + sse({"choices": []})
    exchange = bench.stream(split(raw, [*places, 3000]))
    assert exchange.body == raw


# ---- streams: their end


async def test_each_delta_and_comment_leaves_as_it_comes() -> None:
    """A keep-alive before the first chunk and each delta after it are sent on at once, not at the stream's end."""
    _role, first, second, *rest = chat_frames()
    seen: list[bytes] = []

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [SSE]})
        for frame in (b": ping\n\n", first, second):
            await send({"type": "http.response.body", "body": frame, "more_body": True})
            assert b"".join(seen).endswith(frame)
        await send({"type": "http.response.body", "body": b"".join(rest)})

    async def listening(scope: Scope, receive: Receive, send: Send) -> None:
        async def noting(message: Message) -> None:
            seen.append(message.get("body", b""))
            await send(message)

        await VettedMiddleware(app, gateway=gateway, mode="in_app")(scope, receive, noting)

    async with idle_gateway() as gateway:
        exchange = await asgi_exchange(listening, json=asked(stream=True))
    assert members_of(exchange)[1]["receipt_error"] == "no_observed_call"


async def test_a_stream_its_handler_ends_before_its_finish_is_told_to_be_cut() -> None:
    """A handler that swallows the upstream's cut cannot make a short answer look whole."""
    async with idle_gateway() as gateway:
        exchange = await edited(gateway, sending(*bodies(chat_frames(done=False)[:3])), stream=True)
    last = chunks_of(exchange)[-1]
    assert last["error"]["code"] == "upstream_stream_cut"
    assert "choices" not in last
    assert last["routing_trace"]["receipt_error"] == "no_observed_call"
    assert "[DONE]" not in events(exchange)


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (
            {"error": {"message": "no more", "type": "mine", "code": "quota", "param": "n"}},
            {"message": "no more", "type": "mine", "code": "quota", "param": "n"},
        ),
        (
            {"error": {"message": "no more"}},
            {"message": "no more", "type": "inference_error", "code": "upstream_error", "param": None},
        ),
    ],
)
async def test_an_error_event_of_the_handler_keeps_its_words_and_gains_the_members(
    event: dict[str, object], told: dict[str, object]
) -> None:
    """The stream ends with the handler's own error beside receipt and trace; nothing follows, not even [DONE]."""
    frames = [*chat_frames(done=False)[:3], sse(event), b"data: [DONE]\n\n"]
    async with idle_gateway() as gateway:
        exchange = await edited(gateway, sending(*bodies(frames)), stream=True)
    *_, last_delta, last = chunks_of(exchange)
    assert last_delta["choices"][0]["delta"] == {"content": "lo"}
    assert last["error"] == told
    assert members_of(exchange)[1]["receipt_error"] == "no_observed_call"
    assert "[DONE]" not in events(exchange)


async def test_an_error_event_without_words_gets_some() -> None:
    """An error always tells its reader something."""
    frames = [*chat_frames(done=False)[:3], sse({"error": {}})]
    async with idle_gateway() as gateway:
        exchange = await edited(gateway, sending(*bodies(frames)), stream=True)
    assert chunks_of(exchange)[-1]["error"]["message"]


async def test_nothing_follows_done() -> None:
    """Whatever a handler sends after [DONE] is left out: clients have stopped reading, or would trip over it."""
    frames = [*chat_frames(), sse({"choices": [], "late": 1}), b": late\n\n"]
    async with idle_gateway() as gateway:
        exchange = await edited(gateway, sending(*bodies(frames)), stream=True)
    assert events(exchange)[-1] == "[DONE]"
    assert b"late" not in exchange.body


async def test_with_two_choices_only_the_last_finish_chunk_has_the_members() -> None:
    """With n = 2 the first choice's finish chunk passes; the members wait for the second's."""
    choice: Callable[..., dict[str, object]] = lambda index, delta, reason=None: {  # noqa: E731
        "choices": [{"index": index, "delta": delta, "finish_reason": reason}]
    }
    frames = [sse(choice(n, {"content": f"{n}"})) for n in (0, 1)]
    frames += [sse(choice(0, {}, "stop")), sse(choice(1, {}, "length")), b"data: [DONE]\n\n"]
    async with idle_gateway() as gateway:
        exchange = await edited(gateway, sending(*bodies(frames)), stream=True, n=2)
    bearing = [chunk["choices"][0] for chunk in chunks_of(exchange) if "receipt" in chunk]
    assert [(one["index"], one["finish_reason"]) for one in bearing] == [(1, "length")]


async def test_the_placement_of_the_settings_holds_for_handlers_streams() -> None:
    """`sse_placement = "off"` leaves a handler's stream without members."""
    async with idle_gateway(sse_placement="off") as gateway:
        exchange = await edited(gateway, sending(*bodies(chat_frames())), stream=True)
    assert exchange.body == b"".join(chat_frames())


# ---- handlers that raise


class HandlerError(Exception):
    """What a handler raises."""


def breaking(frames: Sequence[bytes], *, more: bool = True, headers: Sequence[tuple[bytes, bytes]] = (SSE,)) -> ASGIApp:
    """Return an app that sends `frames` and raises."""

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": list(headers)})
        for number, frame in enumerate(frames, start=1):
            await send({"type": "http.response.body", "body": frame, "more_body": more or number < len(frames)})
        raise HandlerError

    return app


async def broken(app: ASGIApp, *, deaf: bool = False) -> list[Message]:
    """Return what went out before the handler's exception, which must come through; a deaf caller has left."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        if deaf and b"error" in message.get("body", b""):
            raise OSError("gone")
        sent.append(message)

    async def onward(scope: Scope, receive: Receive, _send: Send) -> None:
        await VettedMiddleware(app, gateway=gateway, mode="in_app")(scope, receive, send)

    async with idle_gateway() as gateway:
        with pytest.raises(HandlerError):
            await asgi_exchange(onward, json=asked(stream=True))
    return sent


@pytest.mark.parametrize(
    "frames", [chat_frames(done=False)[:3], [b": ping\n\n"], []], ids=["chunks", "comment", "none"]
)
async def test_a_handler_that_raises_in_its_stream_ends_it_with_an_error_event(frames: list[bytes]) -> None:
    """A started stream gets an error event and its end; what went wrong inside the app is not told."""
    sent = await broken(breaking(frames))
    body = b"".join(message.get("body", b"") for message in sent)
    assert body.startswith(b"".join(frames))
    last = json.loads(body.rpartition(b"data: ")[2])
    assert (last["error"]["type"], last["error"]["code"]) == ("internal_error", "internal_error")
    assert last["routing_trace"]["receipt_error"] == "no_observed_call"
    assert sent[-1]["more_body"] is False


@pytest.mark.parametrize(
    ("frames", "more"),
    [
        (chat_frames(), True),
        ([b"".join(chat_frames())], False),
        ([b"data: progress\n\n"], True),
        ([b": ping\n\n"], False),
    ],
    ids=["after [DONE]", "after its end", "other events", "after the end of other events"],
)
async def test_a_handler_that_raises_after_its_answer_or_in_other_events_adds_nothing(
    frames: list[bytes], more: bool
) -> None:
    """Only a chat stream under way is ended by us."""
    body = b"".join(message.get("body", b"") for message in await broken(breaking(frames, more=more)))
    assert b"error" not in body.replace(b"receipt_error", b"")


async def test_a_handler_that_raises_in_a_whole_answer_leaves_it_to_the_app() -> None:
    """A JSON answer that was not finished has not begun: the app's own error handling can still answer."""
    assert await broken(breaking([b'{"choices": '], headers=[JSON])) == []


async def test_a_handler_that_raises_because_its_caller_left_raises_its_own_exception() -> None:
    """The error event that nobody can get does not hide the handler's exception."""
    sent = await broken(breaking(chat_frames(done=False)[:3]), deaf=True)
    assert b"error" not in b"".join(message.get("body", b"") for message in sent)
