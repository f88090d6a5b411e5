"""What the tests of faults and streams share: upstreams that break, a caller that can leave, and how to read an answer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

from support import HELLO, configured
from vetted_mw import Gateway, VettedProxy
from vetted_mw.testing import Exchange, FakeUpstream, StaticSignals, _reset, chat_frames, sse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping
    from types import TracebackType

    from starlette.types import ASGIApp, Message

    from vetted_mw.testing import FakeAnswer

__all__ = [
    "FIRST",
    "LIMIT",
    "OUTSIDE",
    "SECOND",
    "Caller",
    "Faulty",
    "RawUpstream",
    "Told",
    "busy_connections",
    "content",
    "finish",
    "gateway_over",
    "nowhere",
    "payload",
    "resting",
    "role",
    "scripted",
    "told",
    "until",
]

FIRST, SECOND, OUTSIDE = "scaleway-par-1", "ovh-gra-1", "atnorth-sto-1"
"""The first two of the shipped default order, and a region the order does not name."""

LIMIT = 30.0
"""Seconds a test waits for something that must happen, on however slow a machine."""


# ---- upstreams that break


class Faulty(Protocol):
    """An upstream of any kind: where it is, and the completions that reached it."""

    @property
    def base_url(self) -> str:
        """What goes into a region's `base_url`."""
        ...

    @property
    def requests(self) -> list[Any]:
        """The completions it got."""
        ...


class RawUpstream:
    """Answers every request with the same bytes, whether or not they are HTTP, and then closes, resets or stalls.

    Args:
        parts: what it writes; a number is a pause in seconds.
        ending: what it does then.
        reads: whether it reads the request first.
        scheme: of its `base_url`.

    Attributes:
        requests: the requests it read, heads only.
        written: bytes that left its own buffer.
        accepted: set once a connection came.
        heard: set once bytes came while it stalled, a TLS handshake's first ones say.
        left: set once a client closed while it stalled.
    """

    def __init__(
        self,
        *parts: bytes | float,
        ending: Literal["close", "reset", "stall"] = "close",
        reads: bool = True,
        scheme: str = "http",
    ) -> None:
        self.requests: list[Any] = []
        self.written = 0
        self.accepted = asyncio.Event()
        self.heard = asyncio.Event()
        self.left = asyncio.Event()
        self._parts = parts
        self._ending = ending
        self._reads = reads
        self._scheme = scheme
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    @property
    def base_url(self) -> str:
        assert self._server is not None
        return f"{self._scheme}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await until(lambda: not self._writers)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        self.accepted.set()
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._answer(reader, writer)
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._reads:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = next(
                (line.split(b":")[1] for line in head.split(b"\r\n") if line.startswith(b"content-length")), b"0"
            )
            await reader.readexactly(int(length))
            self.requests.append(head)
        for part in self._parts:
            if isinstance(part, bytes):
                writer.write(part)
                await writer.drain()
                self.written += len(part)
            else:
                await asyncio.sleep(part)
        if self._ending == "reset":
            _reset(writer)
        elif self._ending == "stall":
            while await reader.read(65536):
                self.heard.set()
            self.left.set()


class _Nowhere:
    def __init__(self, port: int) -> None:
        self.base_url = f"http://127.0.0.1:{port}/v1"
        self.requests: list[Any] = []


@contextlib.asynccontextmanager
async def nowhere() -> AsyncIterator[Faulty]:
    """An address on which nobody listens, and nobody else begins to."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield _Nowhere(bound.getsockname()[1])


def scripted(*answers: FakeAnswer) -> Callable[[], FakeUpstream]:
    """Make upstreams that give `answers` and are well after them."""
    return lambda: FakeUpstream(text="from the faulty one").then(*answers)


# ---- frames


def role() -> bytes:
    """The first frame of a stream, which bears no content yet."""
    return chat_frames()[0]


def content(text: str = "Hel") -> bytes:
    """A frame with content."""
    return _frame({"content": text}, None)


def finish() -> bytes:
    """The finish chunk."""
    return _frame({}, "stop")


def _frame(delta: dict[str, str], reason: str | None) -> bytes:
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "fake"}
    return sse({**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})


# ---- a gateway over them


@contextlib.asynccontextmanager
async def gateway_over(
    upstreams: Mapping[str, Faulty | Mapping[str, Any]], *, options: Mapping[str, Any] | None = None, **overrides: Any
) -> AsyncIterator[tuple[VettedProxy, Gateway]]:
    """Open a gateway over upstreams by region (or region tables); the order is that of the mapping without `OUTSIDE`."""
    tables = {
        code: dict(upstream) if isinstance(upstream, dict) else {"base_url": upstream.base_url}  # type: ignore[union-attr]
        for code, upstream in upstreams.items()
    }
    order = [code for code in tables if code != OUTSIDE]
    overrides = {"default_order": order, **overrides}
    async with Gateway(
        configured(tables, **overrides), signals=[StaticSignals({"FR": 20.0})], **(options or {})
    ) as gateway:
        yield VettedProxy(gateway), gateway


def payload(*, stream: bool = False, **members: Any) -> dict[str, Any]:
    """A chat-completion request."""
    return {"model": "m", "messages": HELLO, **({"stream": True} if stream else {}), **members}


def busy_connections(gateway: Gateway) -> list[str]:
    """Connections that are neither idle nor closed, whatever holds them."""
    assert gateway._core is not None
    transports: list[Any] = list(gateway._core.transports.values())
    return [repr(one) for transport in transports for one in transport._busy]


async def resting(gateway: Gateway) -> bool:
    """Wait until no lease and no pooled connection is in use; False when that does not come about."""
    try:
        await until(lambda: not gateway.fleet.in_flight and not busy_connections(gateway))
    except TimeoutError:
        return False
    return True


async def until(condition: Callable[[], object]) -> None:
    """Wait for what no event tells.

    Raises:
        TimeoutError: it does not come about.
    """
    async with asyncio.timeout(LIMIT):
        while not condition():  # noqa: ASYNC110 (what no event tells)
            await asyncio.sleep(0.005)


# ---- what the caller was told


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """An answer as a careful client reads it.

    Attributes:
        status: HTTP status.
        headers: response headers.
        text: the content, of all its frames.
        complete: the answer ended as good ones do: a whole JSON answer, or `[DONE]`.
        errors: the `error` members, one for each that was sent.
        trace: `routing_trace`.
        receipt: `receipt`.
        frames: the data frames of a stream, decoded; `[DONE]` as text.
    """

    status: int
    headers: dict[str, str]
    text: str
    complete: bool
    errors: list[dict[str, Any]]
    trace: dict[str, Any]
    receipt: dict[str, Any] | None
    frames: list[Any] = field(default_factory=list)

    @property
    def attempts(self) -> list[tuple[str, str, int | None]]:
        """The trace's attempts as (region, outcome, status)."""
        return [(one["region"], one["outcome"], one["status"]) for one in self.trace["attempts"]]


def told(exchange: Exchange) -> Told:
    """Read an answer of either kind."""
    is_stream = exchange.headers["content-type"].startswith("text/event-stream")
    frames = _data(exchange.body) if is_stream else [json.loads(exchange.body)]
    objects = [frame for frame in frames if isinstance(frame, dict)]
    return Told(
        status=exchange.status,
        headers=exchange.headers,
        text="".join(_texts(objects)),
        complete=exchange.complete and (frames[-1:] == ["[DONE]"] if is_stream else exchange.status == 200),
        errors=[frame["error"] for frame in objects if "error" in frame],
        trace=next((frame["routing_trace"] for frame in objects if "routing_trace" in frame), {}),
        receipt=next((frame["receipt"] for frame in objects if "receipt" in frame), None),
        frames=frames if is_stream else [],
    )


def _data(body: bytes) -> list[Any]:
    lines = [line for line in body.decode().split("\n") if line.startswith("data: ")]
    return ["[DONE]" if line == "data: [DONE]" else json.loads(line[6:]) for line in lines]


def _texts(objects: Iterable[dict[str, Any]]) -> list[str]:
    choices = [choice for one in objects for choice in one.get("choices", ())]
    return [choice.get("delta", choice.get("message", {})).get("content") or "" for choice in choices]


# ---- a caller one can watch


class Caller:
    """Sends one request to an app by ASGI messages and can act while it is being answered.

    Args:
        app: the app.
        body: the request.
        spec: ASGI version of the server that is played; 2.3 tells a lost caller by `http.disconnect`, 2.4 also by an
            `OSError` from `send`.
        headers: request headers beside `content-type`.

    Attributes:
        sent: what the app sent.
        content: set once a part of the body has been sent.
    """

    def __init__(
        self,
        app: ASGIApp,
        body: Mapping[str, Any],
        *,
        spec: Literal["2.3", "2.4"] = "2.3",
        headers: Iterable[tuple[str, str]] = (),
    ) -> None:
        self.sent: list[Message] = []
        self.content = asyncio.Event()
        self._app = app
        self._spec = spec
        self._headers = [(name.encode(), value.encode()) for name, value in headers]
        self._incoming: list[Message] = [
            {"type": "http.request", "body": json.dumps(body).encode(), "more_body": False},
        ]
        self._gone = asyncio.Event()
        self._broken = False

    def leave(self) -> None:
        """Go away: the server's `receive` says so."""
        self._gone.set()

    def break_pipe(self) -> None:
        """Go away: the server's `send` raises from now on."""
        self._broken = True

    def start(self) -> asyncio.Task[Exchange]:
        """Send the request in a task of its own."""
        return asyncio.ensure_future(self.exchange())

    async def exchange(self) -> Exchange:
        """Send the request and return what was answered."""
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": self._spec},
            "http_version": "1.1",
            "method": "POST",
            "path": "/v1/chat/completions",
            "raw_path": b"/v1/chat/completions",
            "query_string": b"",
            "root_path": "",
            "scheme": "http",
            "headers": [(b"content-type", b"application/json"), *self._headers],
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 8080),
        }
        await self._app(scope, self._receive, self._send)
        return Exchange(messages=tuple(self.sent))

    async def _receive(self) -> Message:
        if self._incoming:
            return self._incoming.pop()
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if self._broken:
            raise OSError
        self.sent.append(message)
        if message.get("body"):
            self.content.set()
