"""The gateway on a real socket, and clients that speak to it, down to single bytes."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import msgspec

from support import HELLO, MODEL, configured, served
from vetted_mw import Gateway, VettedProxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from starlette.types import ASGIApp

    from vetted_mw.asgi.door import Identify
    from vetted_mw.grid.source import SignalSource

PARIS = "scaleway-par-1"
GRAVELINES = "ovh-gra-1"
STOCKHOLM = "atnorth-sto-1"
COMPLETIONS = "/v1/chat/completions"

stopping: list[asyncio.Future[bool | None]] = []
"""Servers on their way down; a module waits for its own at its end."""


def chat(**members: Any) -> dict[str, Any]:
    """Return a chat completion's body; members given replace or join the usual ones."""
    return {"model": MODEL, "messages": HELLO} | members


@contextlib.asynccontextmanager
async def at_the_wire(
    upstreams: Mapping[str, str | Mapping[str, Any]],
    *,
    signals: Sequence[SignalSource] = (),
    options: Mapping[str, Any] | None = None,
    identify: Identify | None = None,
    **overrides: Any,
) -> AsyncIterator[httpx.AsyncClient]:
    """Serve the stand-alone gateway over `upstreams` by uvicorn and yield a client of it."""
    gateway = Gateway(configured(upstreams, **overrides), signals=signals, **(options or {}))
    async with at_the_door_of(VettedProxy(gateway, identify=identify)) as client:
        yield client


@contextlib.asynccontextmanager
async def at_the_door_of(app: ASGIApp, *, lifespan: str = "on") -> AsyncIterator[httpx.AsyncClient]:
    """Serve any app by uvicorn and yield a client of it. The server stops while the next test runs."""
    serving = served(app, lifespan=lifespan)
    origin = serving.__enter__()
    try:
        async with client_of(origin) as client:
            yield client
    finally:
        stopping.append(asyncio.get_running_loop().run_in_executor(None, serving.__exit__, None, None, None))


def client_of(origin: str) -> httpx.AsyncClient:
    """Return a client that ignores the environment."""
    return httpx.AsyncClient(base_url=origin, trust_env=False, timeout=30)


# ---- byte by byte


@dataclass(frozen=True, slots=True, kw_only=True)
class RawAnswer:
    """An answer as its bytes said it."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the first value of a header, or None."""
        return next((value for key, value in self.headers if key == name), None)

    def json(self) -> Any:
        """Return the decoded body."""
        return msgspec.json.decode(self.body)


class RawClient:
    """One TCP connection to the gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *parts: bytes) -> None:
        """Send bytes as they are, each part on its own."""
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()

    async def send_until_refused(self, part: bytes, *, times: int) -> int:
        """Send `part` again and again until the server closes; returns how often it went out."""
        for count in range(times):
            try:
                await self.send(part)
            except ConnectionError:
                return count
        return times

    async def answer(self) -> RawAnswer:
        """Read one answer: as long as its `content-length` says, else to the end."""
        async with asyncio.timeout(20):
            lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = [
                (name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines[1:] if line)
            ]
            length = next((int(value) for name, value in headers if name == "content-length"), None)
            body = await (self.reader.read() if length is None else self.reader.readexactly(length))
        return RawAnswer(status=int(lines[0].split(" ")[1]), headers=headers, body=body)

    async def rest(self) -> bytes:
        """Read until the server closes; a reset counts as closing."""
        async with asyncio.timeout(20):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""


@contextlib.asynccontextmanager
async def raw_connection(client: httpx.AsyncClient) -> AsyncIterator[RawClient]:
    """Open one TCP connection to the server `client` speaks to."""
    reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
    try:
        yield RawClient(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def request_head(*lines: str, method: str = "POST", path: str = COMPLETIONS) -> bytes:
    """Write a request's head; a `content-type` of JSON is there unless a line says otherwise."""
    kind = [] if any(line.lower().startswith("content-type:") for line in lines) else ["content-type: application/json"]
    return "\r\n".join([f"{method} {path} HTTP/1.1", "host: gateway", *kind, *lines, "", ""]).encode("latin-1")


# ---- what every error looks like


def told_error(answer: httpx.Response | RawAnswer) -> dict[str, Any]:
    """Return `error` of an answer after checking that it is OpenAI's envelope: always JSON, four members, a string code."""
    headers = dict(answer.headers)
    assert headers["content-type"] == "application/json"
    told: dict[str, Any] = answer.json()
    assert told.keys() <= {"error", "routing_trace"}
    error: dict[str, Any] = told["error"]
    assert error.keys() == {"message", "type", "code", "param"}
    assert isinstance(error["code"], str)
    assert isinstance(error["message"], str)
    assert error["message"]
    return error


def error_row(answer: httpx.Response | RawAnswer) -> tuple[int, str, str, str | None]:
    """Return status, type, code and param: one row of the contract's table."""
    status = answer.status_code if isinstance(answer, httpx.Response) else answer.status
    error = told_error(answer)
    return status, error["type"], error["code"], error["param"]
