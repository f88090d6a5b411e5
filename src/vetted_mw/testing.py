"""For your own tests: a scripted upstream on a loopback socket, signals that stand still, a clock that ticks when told.

    async with FakeUpstream(text="Bonjour") as upstream:
        configuration = load_configuration(
            environ={}, overrides={"regions": {"scaleway-par-1": {"base_url": upstream.base_url}}}
        )
        async with Gateway(configuration, signals=[StaticSignals({"FR": 21.0})]) as gateway:
            exchange = await asgi_exchange(VettedProxy(gateway), json={"model": "any", "messages": []})
        assert exchange.json()["routing_trace"]["region"] == "scaleway-par-1"

Nothing here needs a test framework, and nothing leaves the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

import msgspec

from vetted_mw.grid.signal import DECLARED, GridSignal, Method, SignalKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import TracebackType

    from starlette.types import ASGIApp, Message

__all__ = [
    "Exchange",
    "FakeAnswer",
    "FakeUpstream",
    "ManualClock",
    "RecordedRequest",
    "StaticSignals",
    "asgi_exchange",
    "chat_completion",
    "chat_frames",
    "sse",
]

_CREATED = 1_764_000_000


class ManualClock:
    """A clock that moves only by `tick`. Pass `now=clock.now, monotonic=clock.monotonic` to a `Gateway`.

    Args:
        start: the first instant, aware.
    """

    def __init__(self, start: datetime = datetime(2026, 11, 22, 10, 30, tzinfo=UTC)) -> None:
        self._start = start
        self._elapsed = 0.0

    def now(self) -> datetime:
        """Return the instant, aware UTC."""
        return self._start + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        """Return the seconds ticked so far."""
        return self._elapsed

    def tick(self, seconds: float) -> None:
        """Let time pass."""
        self._elapsed += seconds


class StaticSignals:
    """A `SignalSource` that knows measured values by zone and never forgets them.

    Args:
        intensities: zone -> gCO2e/kWh.
        now: when the values were observed: called once per refresh.
        age_minutes: how long before `now` that was.
        max_age_minutes: their freshness limit.
        method: how they were made.
        name: the source's name in `signals.chains`; also its label in traces.
    """

    refresh_seconds = 3600.0
    is_complete = True
    is_local = True

    def __init__(
        self,
        intensities: Mapping[str, float],
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        age_minutes: float = 0.0,
        max_age_minutes: float = 180.0,
        method: Method = DECLARED,
        name: str = "static",
    ) -> None:
        self.name = name
        self._intensities = dict(intensities)
        self._now = now
        self._age = timedelta(minutes=age_minutes)
        self._max_age_minutes = max_age_minutes
        self._method = method

    async def readings(self) -> Sequence[GridSignal]:
        """Return one signal per zone."""
        now = self._now()
        return [
            GridSignal(
                source=self.name,
                zone=zone,
                area=zone,
                kind=SignalKind.MEASURED,
                gco2_per_kwh=value,
                observed_at=now - self._age,
                fetched_at=now,
                max_age_minutes=self._max_age_minutes,
                method=self._method,
            )
            for zone, value in self._intensities.items()
        ]


# ---- answers of an OpenAI-compatible server


def chat_completion(
    *, text: str = "Hello", model: str = "fake", usage: tuple[int, int] | None = (5, 2), **members: Any
) -> bytes:
    """Return a whole chat completion as JSON; `usage` is (prompt, completion) tokens, None leaves it out."""
    answer: dict[str, Any] = {
        "id": "chatcmpl-fake",
        "object": "chat.completion",
        "created": _CREATED,
        "model": model,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
    }
    if usage is not None:
        answer["usage"] = _usage(usage)
    return msgspec.json.encode(answer | members)


def chat_frames(
    *,
    words: Sequence[str] = ("Hel", "lo"),
    model: str = "fake",
    usage: tuple[int, int] | None = (5, 2),
    done: bool = True,
) -> list[bytes]:
    """Return the frames of a streamed chat completion: role, one per word, finish, usage if any, `[DONE]` if asked."""
    deltas: list[dict[str, str]] = [{"role": "assistant", "content": ""}, *({"content": word} for word in words)]
    frames = [_chunk(model, choices=[{"index": 0, "delta": delta, "finish_reason": None}]) for delta in deltas]
    frames.append(_chunk(model, choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}]))
    if usage is not None:
        frames.append(_chunk(model, choices=[], usage=_usage(usage)))
    return [*frames, b"data: [DONE]\n\n"] if done else frames


def sse(data: object) -> bytes:
    """Return one SSE frame with `data` as JSON."""
    return b"data: " + msgspec.json.encode(data) + b"\n\n"


def _chunk(model: str, **members: Any) -> bytes:
    return sse(
        {"id": "chatcmpl-fake", "object": "chat.completion.chunk", "created": _CREATED, "model": model, **members}
    )


def _usage(usage: tuple[int, int]) -> dict[str, int]:
    return {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}


# ---- the scripted upstream


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeAnswer:
    """One scripted answer.

    Attributes:
        status: HTTP status.
        headers: further headers; a `content-length` or `transfer-encoding` here replaces the right one.
        body: the parts of the body; a number is a pause in seconds, an event is waited for.
        chunked: whether parts are sent as they come in chunks, or as one body with its length.
        ending: after the body `close` properly, `cut` the connection in the middle, `reset` it, or `stall` for ever.
        delay: seconds before the first byte.
    """

    status: int = 200
    headers: Sequence[tuple[str, str]] = ()
    body: Sequence[bytes | float | asyncio.Event] = ()
    chunked: bool = False
    ending: str = "close"
    delay: float = 0.0

    @classmethod
    def json(cls, content: object, *, status: int = 200, headers: Sequence[tuple[str, str]] = ()) -> FakeAnswer:
        """Return an answer with a JSON body; bytes are sent as they are."""
        body = content if isinstance(content, bytes) else msgspec.json.encode(content)
        return cls(status=status, headers=(("content-type", "application/json"), *headers), body=(body,))

    @classmethod
    def stream(
        cls,
        frames: Iterable[bytes | float | asyncio.Event],
        *,
        ending: str = "close",
        headers: Sequence[tuple[str, str]] = (),
    ) -> FakeAnswer:
        """Return an SSE answer."""
        return cls(
            headers=(("content-type", "text/event-stream"), *headers), body=tuple(frames), chunked=True, ending=ending
        )


@dataclass(slots=True, kw_only=True)
class RecordedRequest:
    """A request as it arrived.

    Attributes:
        method: `POST`.
        path: as on the request line.
        headers: in order, names in lower case.
        body: its bytes.
        left: set when the client closed the connection before the answer's end.
    """

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes
    left: asyncio.Event = field(default_factory=asyncio.Event)

    def json(self) -> Any:
        """Return the decoded body."""
        return msgspec.json.decode(self.body)

    def header(self, name: str) -> str | None:
        """Return the first value of a header, or None."""
        return next((value for key, value in self.headers if key == name), None)


class FakeUpstream:
    """An OpenAI-compatible server on a real loopback socket that does as it is told and writes down what it got.

    Without a script every chat completion is answered with `text`, streamed or whole as the request asks; `/health` and
    `/v1/models` answer too. `then()` scripts what the next completions get, in order.

    Args:
        text: what it says.
        model: the model it serves and names.
        usage: (prompt, completion) tokens it counts; None counts none.
        health: status of `/health`.

    Attributes:
        requests: the chat completions it got, in order.
        others: everything else it got.
        metrics: the text of its `/metrics`; empty: it has none, and answers 404.
    """

    def __init__(
        self, *, text: str = "Hello", model: str = "fake", usage: tuple[int, int] | None = (5, 2), health: int = 200
    ) -> None:
        self.requests: list[RecordedRequest] = []
        self.others: list[RecordedRequest] = []
        self.health = health
        self.metrics = ""
        self._text = text
        self._model = model
        self._usage = usage
        self._script: deque[FakeAnswer] = deque()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._port = 0

    @property
    def base_url(self) -> str:
        """What goes into a region's `base_url`."""
        return f"http://127.0.0.1:{self._port}/v1"

    @property
    def open_connections(self) -> int:
        """Connections that clients hold open now."""
        return len(self._writers)

    def then(self, *answers: FakeAnswer) -> Self:
        """Script the answers of the next chat completions, in order; the unscripted answer follows them."""
        self._script.extend(answers)
        return self

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; on the same port again after `stop`."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and reset every connection."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        while self._writers:  # noqa: ASYNC110 (each handler ends by itself once it sees its connection gone)
            await asyncio.sleep(0.005)
        await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while await self._serve_one(reader, writer):
                    continue
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        request = await _read_request(reader)
        answer = self._answer_to(request)
        sending = asyncio.ensure_future(_send(writer, answer))
        watching = asyncio.ensure_future(_left(reader, writer))
        try:
            await asyncio.wait({sending, watching}, return_when=asyncio.FIRST_COMPLETED)
            if not sending.done() or isinstance(sending.exception(), ConnectionError):
                request.left.set()
                return False
            return sending.result()
        finally:
            sending.cancel()
            watching.cancel()
            await asyncio.gather(sending, watching, return_exceptions=True)

    def _answer_to(self, request: RecordedRequest) -> FakeAnswer:
        if request.method == "POST":
            self.requests.append(request)
            return self._script.popleft() if self._script else self._unscripted(request)
        self.others.append(request)
        if request.path == "/v1/models":
            return FakeAnswer.json({"object": "list", "data": [{"id": self._model, "object": "model"}]})
        if request.path == "/health":
            return FakeAnswer.json({"status": "ok"}, status=self.health)
        if request.path == "/metrics" and self.metrics:
            return FakeAnswer(headers=(("content-type", "text/plain; version=0.0.4"),), body=(self.metrics.encode(),))
        return FakeAnswer.json({"error": {"message": "no such path"}}, status=404)

    def _unscripted(self, request: RecordedRequest) -> FakeAnswer:
        asked = request.json()
        if not asked.get("stream"):
            return FakeAnswer.json(chat_completion(text=self._text, model=self._model, usage=self._usage))
        wants_usage = (asked.get("stream_options") or {}).get("include_usage")
        usage = self._usage if wants_usage else None
        return FakeAnswer.stream(chat_frames(words=self._text.split(" "), model=self._model, usage=usage))


async def _read_request(reader: asyncio.StreamReader) -> RecordedRequest:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _version = head[0].split(" ")
    headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in head[1:] if line)]
    length = int(next((value for name, value in headers if name == "content-length"), "0"))
    return RecordedRequest(method=method, path=path, headers=headers, body=await reader.readexactly(length))


async def _left(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Return when the connection is gone; looked at, never read: the next request's bytes are not ours to take."""
    while not reader.at_eof() and reader.exception() is None and not writer.is_closing():  # noqa: ASYNC110 (a stream tells its end by no event)
        await asyncio.sleep(0.005)


async def _send(writer: asyncio.StreamWriter, answer: FakeAnswer) -> bool:
    """Send one answer; returns whether the connection may be used again."""
    await asyncio.sleep(answer.delay)
    writer.write(_head(answer))
    for part in answer.body:
        if isinstance(part, (int, float)):
            await writer.drain()
            await asyncio.sleep(part)
        elif isinstance(part, asyncio.Event):
            await writer.drain()
            await part.wait()
        else:
            writer.write(b"%x\r\n%s\r\n" % (len(part), part) if answer.chunked and part else part)
    await writer.drain()
    if answer.ending == "stall":
        await asyncio.Event().wait()
    if answer.ending == "reset":
        _reset(writer)
    if answer.ending != "close":
        return False
    if answer.chunked:
        writer.write(b"0\r\n\r\n")
        await writer.drain()
    return not any(name.lower() == "connection" and value.lower() == "close" for name, value in answer.headers)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Reset a connection; a mere abort says goodbye politely as long as nothing is unread."""
    bound: socket.socket = writer.get_extra_info("socket")
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _head(answer: FakeAnswer) -> bytes:
    given = {name.lower() for name, _value in answer.headers}
    headers = list(answer.headers)
    if not given & {"content-length", "transfer-encoding"}:
        length = str(sum(len(part) for part in answer.body if isinstance(part, bytes)))
        headers.append(("transfer-encoding", "chunked") if answer.chunked else ("content-length", length))
    lines = [f"HTTP/1.1 {answer.status} Scripted", *(f"{name}: {value}" for name, value in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


# ---- an ASGI app, driven by messages


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """What an ASGI app answered.

    Attributes:
        messages: everything it sent, in order.
    """

    messages: Sequence[Message]

    @property
    def status(self) -> int:
        """The answer's status."""
        return int(self._start()["status"])

    @property
    def headers(self) -> dict[str, str]:
        """The answer's headers; of repeated ones the last."""
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in self._start()["headers"]}

    @property
    def body(self) -> bytes:
        """The whole body."""
        return b"".join(
            message.get("body", b"") for message in self.messages if message["type"] == "http.response.body"
        )

    @property
    def complete(self) -> bool:
        """Whether the app ended its answer."""
        return bool(self.messages) and not self.messages[-1].get("more_body", False)

    def json(self) -> Any:
        """Return the decoded body."""
        return msgspec.json.decode(self.body)

    def _start(self) -> Message:
        return next(message for message in self.messages if message["type"] == "http.response.start")


async def asgi_exchange(
    app: ASGIApp,
    *,
    method: str = "POST",
    path: str = "/v1/chat/completions",
    headers: Iterable[tuple[str, str]] = (),
    json: object = None,
    body: bytes | Sequence[bytes] = b"",
    scope: Mapping[str, Any] | None = None,
) -> Exchange:
    """Send one HTTP request to an ASGI app as messages and return what it answered.

    Args:
        app: the app.
        method: HTTP method.
        path: the path, unescaped.
        headers: request headers.
        json: the body as an object; sets `content-type`.
        body: or the body as bytes, several parts as several messages.
        scope: further members of the scope.
    """
    listed = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    parts = [body] if isinstance(body, bytes) else list(body)
    if json is not None:
        parts = [msgspec.json.encode(json)]
        listed.append((b"content-type", b"application/json"))
    incoming: deque[Message] = deque(
        {"type": "http.request", "body": part, "more_body": number < len(parts)}
        for number, part in enumerate(parts, start=1)
    )
    sent: list[Message] = []
    ended = asyncio.Event()

    async def receive() -> Message:
        if incoming:
            return incoming.popleft()
        await ended.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            ended.set()  # servers say so too once the answer is out, and some hosts wait for it

    try:
        await app(_scope(method, path, listed) | dict(scope or {}), receive, send)
    finally:
        ended.set()
    return Exchange(messages=tuple(sent))


def _scope(method: str, path: str, headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode("ascii", "replace"),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8080),
        "state": {},
    }
