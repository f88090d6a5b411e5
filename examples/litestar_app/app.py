"""A Litestar app that builds the prompt itself and calls the model with the OpenAI SDK, through the gateway's route.

The handler stays as it was but for one line: `http_client=gateway.http_client`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from litestar import Litestar, Request, Response, get, post
from litestar.middleware import DefineMiddleware
from litestar.params import JSONBody  # noqa: TC002 (Litestar reads it)
from litestar.response import Stream
from openai import APIStatusError, AsyncOpenAI, AsyncStream

from vetted_mw import Gateway, VettedMiddleware

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from openai.types.chat import ChatCompletionChunk

HOUSE_STYLE = {"role": "system", "content": "Answer in one short sentence."}


@dataclass
class Chat:
    """The part of a chat-completion request this app passes on; `vetted` is the middleware's business."""

    model: str
    messages: list[dict[str, Any]]
    stream: bool = False
    max_tokens: int = 64


@get("/")
async def home() -> dict[str, str]:
    return {"chat": "/v1/chat/completions"}


def create_app() -> Litestar:
    gateway = Gateway.from_env()
    client = AsyncOpenAI(
        base_url="http://vetted/v1",
        api_key="-",
        http_client=gateway.http_client,
        max_retries=0,  # the gateway fails over by itself, and the caller's own SDK may ask again
    )

    @post(
        "/v1/chat/completions",
        status_code=200,
        middleware=[DefineMiddleware(VettedMiddleware, gateway=gateway, mode="in_app")],
    )
    async def chat(data: JSONBody[Chat]) -> Response[Any]:
        call: dict[str, Any] = {
            "model": data.model,
            "messages": [HOUSE_STYLE, *data.messages],
            "max_tokens": data.max_tokens,
        }
        if data.stream:
            stream = await client.chat.completions.create(**call, stream=True)
            return Stream(_events(stream), media_type="text/event-stream")
        answer = await client.chat.completions.create(**call)
        return Response(answer.model_dump(mode="json", exclude_unset=True))

    return Litestar([home, chat], lifespan=[gateway], exception_handlers={APIStatusError: as_it_came})


async def _events(stream: AsyncStream[ChatCompletionChunk]) -> AsyncIterator[str]:
    async for chunk in stream:
        yield f"data: {chunk.model_dump_json(exclude_unset=True)}\n\n"
    yield "data: [DONE]\n\n"


def as_it_came(_request: Request[Any, Any, Any], error: APIStatusError) -> Response[Any]:
    """Pass on what the call was told, the gateway's 503 for a pinned region that is down, say."""
    retry = {name: value for name, value in error.response.headers.items() if name in {"x-should-retry", "retry-after"}}
    return Response({"error": error.body}, status_code=error.status_code, headers=retry)
