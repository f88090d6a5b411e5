"""A Litestar app that builds the prompt itself and calls the model with the OpenAI SDK, through the gateway's route.

The handler stays as it was but for one line: `http_client=gateway.http_client`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from litestar import Litestar, Response, get, post
from litestar.middleware import DefineMiddleware
from litestar.response import Stream
from openai import AsyncOpenAI

from vetted_mw import Gateway, VettedMiddleware

HOUSE_STYLE = {"role": "system", "content": "Answer in one short sentence."}


@dataclass
class Chat:
    """The part of a chat-completion request this app passes on."""

    model: str
    messages: list[dict[str, Any]]
    stream: bool = False
    max_tokens: int = 64
    vetted: dict[str, Any] | None = field(default=None)  # the middleware reads it; the handler need not


@get("/")
async def home() -> dict[str, str]:
    return {"chat": "/v1/chat/completions"}


def create_app() -> Litestar:
    gateway = Gateway.from_env()
    client = AsyncOpenAI(base_url="http://vetted/v1", api_key="-", http_client=gateway.http_client)

    @post(
        "/v1/chat/completions",
        status_code=200,
        middleware=[DefineMiddleware(VettedMiddleware, gateway=gateway, mode="in_app")],
    )
    async def chat(data: Chat) -> Response[Any] | Stream:
        messages: Any = [HOUSE_STYLE, *data.messages]
        if data.stream:
            return Stream(_events(client, data.model, messages, data.max_tokens), media_type="text/event-stream")
        answer = await client.chat.completions.create(model=data.model, messages=messages, max_tokens=data.max_tokens)
        return Response(answer.model_dump(mode="json", exclude_unset=True))

    return Litestar([home, chat], lifespan=[gateway])


async def _events(client: AsyncOpenAI, model: str, messages: Any, max_tokens: int) -> AsyncIterator[str]:
    stream = await client.chat.completions.create(model=model, messages=messages, max_tokens=max_tokens, stream=True)
    async for chunk in stream:
        yield f"data: {chunk.model_dump_json(exclude_unset=True)}\n\n"
    yield "data: [DONE]\n\n"
