"""What the tests of the frameworks share: one upstream or two, a gateway, an app around it, and handlers that call."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

from asgi_lifespan import LifespanManager
from openai import AsyncOpenAI

from frameworks.hosts import PATH, Reply
from support import HELLO, configured
from vetted_mw import Gateway
from vetted_mw.testing import Exchange, asgi_exchange

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from starlette.types import ASGIApp

    from frameworks.hosts import Answer
    from vetted_mw.testing import FakeUpstream

__all__ = [
    "asked",
    "asking",
    "by_sdk",
    "chunks_of",
    "events",
    "gateway_over",
    "members_of",
    "never",
    "running",
    "until",
]

CODES = ("scaleway-par-1", "ovh-gra-1", "atnorth-sto-1")


def gateway_over(*upstreams: FakeUpstream, **overrides: Any) -> Gateway:
    """Return a closed gateway over `scaleway-par-1`, `ovh-gra-1`, `atnorth-sto-1`, as many as there are upstreams."""
    bases = {code: upstream.base_url for code, upstream in zip(CODES, upstreams, strict=False)}
    table = overrides.pop("table", {})
    options = overrides.pop("options", {})
    return Gateway(
        configured({code: {"base_url": url, **table} for code, url in bases.items()}, **overrides), **options
    )


@contextlib.asynccontextmanager
async def running(app: ASGIApp) -> AsyncIterator[ASGIApp]:
    """Run an app's lifespan around the block, as a server does.

    The app itself is yielded: `manager.app` gives all requests one `state`, in which Litestar caches each one's headers.
    """
    async with LifespanManager(app, startup_timeout=20, shutdown_timeout=20):
        yield app


def asked(*, stream: bool = False, vetted: Mapping[str, object] | None = None, **members: object) -> dict[str, object]:
    """Return a chat completion's body."""
    body: dict[str, object] = {"model": "m", "messages": HELLO, **members}
    if stream:
        body["stream"] = True
    return body if vetted is None else {**body, "vetted": dict(vetted)}


async def asking(app: ASGIApp, *, path: str = PATH, headers: Mapping[str, str] | None = None, **body: Any) -> Exchange:
    """Ask an app for a chat completion, as messages."""
    return await asgi_exchange(app, path=path, headers=(headers or {}).items(), json=asked(**body))


def events(exchange: Exchange) -> list[str]:
    """Return the data of each event of a stream."""
    text = exchange.body.decode()
    return [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]


def chunks_of(exchange: Exchange) -> list[dict[str, Any]]:
    """Return the decoded chunks of a stream, `[DONE]` left out."""
    return [json.loads(data) for data in events(exchange) if data != "[DONE]"]


def members_of(exchange: Exchange) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Return receipt and trace of an answer, whole or streamed; they stand once."""
    if exchange.headers["content-type"].startswith("text/event-stream"):
        bearing = [chunk for chunk in chunks_of(exchange) if "routing_trace" in chunk]
    else:
        bearing = [exchange.json()]
    assert len(bearing) == 1
    return bearing[0]["receipt"], bearing[0]["routing_trace"]


def by_sdk(gateway: Gateway, *, system: str = "Be brief.") -> Answer:
    """Return a handler that builds the prompt and calls the model with OpenAI's SDK, through the gateway's client."""
    client = AsyncOpenAI(base_url="http://vetted/v1", api_key="placeholder", http_client=gateway.http_client)

    async def answer(raw: bytes) -> Reply:
        body = json.loads(raw)
        call: dict[str, Any] = {
            "model": body["model"],
            "messages": [{"role": "system", "content": system}, *body["messages"]],
        }
        if body.get("stream"):
            return Reply(content=relayed(client, call), media_type="text/event-stream")
        answered = await client.chat.completions.create(**call)
        return Reply(content=answered.model_dump_json(exclude_unset=True).encode())

    return answer


async def relayed(client: AsyncOpenAI, call: Mapping[str, Any]) -> AsyncIterator[bytes]:
    """Relay an SDK stream chunk by chunk, as handlers do."""
    async for chunk in await client.chat.completions.create(**call, stream=True):
        yield f"data: {chunk.model_dump_json(exclude_unset=True)}\n\n".encode()
    yield b"data: [DONE]\n\n"


async def never(_raw: bytes) -> Reply:
    """Stand where a handler must not run."""
    raise AssertionError("the app's handler was run")


async def until(holds: Callable[[], object]) -> None:
    """Wait for what tells itself by no event, within a generous limit."""
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 (no event tells it)
            await asyncio.sleep(0.005)
