"""Embedded model servers: one ASGI app that speaks OpenAI's wire format, a region per listening port.

The text is made up from the region's name and the prompt's length, word by word; a token is a word, and every count in
`usage` is a real count of them.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from starlette.types import Receive, Scope, Send

    from vetted_mw.routing.regions import Region

__all__ = ["DEMO_MODEL", "ModelServers"]

DEMO_MODEL = "demo-8b"
_CREATED = 1_764_000_000
_DEFAULT_MAX_TOKENS = 64
_MOST_TOKENS = 1_000_000
_MOST_CHOICES = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    words_in: int
    max_tokens: int
    choices: int
    stream: bool
    include_usage: bool


class ModelServers:
    """Answers for every region it listens for.

    Args:
        regions: listening port -> region.
        word_seconds: pause between two words of a stream.
    """

    def __init__(self, regions: Mapping[int, Region], *, word_seconds: float = 0.02) -> None:
        self._regions = dict(regions)
        self._word_seconds = word_seconds
        self._ids = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        region = self._regions[scope["server"][1]]
        place = (scope["method"], scope["path"])
        if place == ("POST", "/v1/chat/completions"):
            await self._complete(region, await _body(receive), send)
        elif place == ("GET", "/v1/models"):
            await _json(send, {"object": "list", "data": [{"id": DEMO_MODEL, "object": "model", "owned_by": "demo"}]})
        elif place == ("GET", "/health"):
            await _json(send, {"status": "ok"})
        else:
            await _json(send, _error("no such path"), status=404)

    async def _complete(self, region: Region, body: bytes, send: Send) -> None:
        try:
            asked = _asked(body)
        except ValueError as error:
            await _json(send, _error(str(error)), status=400)
            return
        text = list(_words(region, asked.words_in))
        words = text[: asked.max_tokens]
        reason = "stop" if len(words) == len(text) else "length"
        head = {"id": f"chatcmpl-demo-{next(self._ids)}", "created": _CREATED, "model": DEMO_MODEL}
        usage = {
            "prompt_tokens": asked.words_in,
            "completion_tokens": len(words) * asked.choices,
            "total_tokens": asked.words_in + len(words) * asked.choices,
        }
        if asked.stream:
            await self._stream(send, head, words, reason, usage if asked.include_usage else None, asked.choices)
            return
        message = {"role": "assistant", "content": "".join(words)}
        choices = [{"index": n, "message": message, "finish_reason": reason} for n in range(asked.choices)]
        await _json(send, {**head, "object": "chat.completion", "choices": choices, "usage": usage})

    async def _stream(
        self,
        send: Send,
        head: dict[str, object],
        words: list[str],
        reason: str,
        usage: dict[str, int] | None,
        choices: int,
    ) -> None:
        headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        chunk = {**head, "object": "chat.completion.chunk"}
        each = range(choices)
        await _frame(send, {**chunk, "choices": [_delta(n, {"role": "assistant", "content": ""}) for n in each]})
        for word in words:
            await asyncio.sleep(self._word_seconds)
            for number in each:
                await _frame(send, {**chunk, "choices": [_delta(number, {"content": word})]})
        for number in each:
            await _frame(send, {**chunk, "choices": [_delta(number, {}, finish=reason)]})
        if usage is not None:
            await _frame(send, {**chunk, "choices": [], "usage": usage})
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": False})


def _asked(body: bytes) -> _Asked:
    """Read a request.

    Raises:
        ValueError: it is none; the text says what is wrong.
    """
    try:
        request: Any = msgspec.json.decode(body)
    except msgspec.DecodeError:
        raise ValueError("the body is not JSON") from None
    messages = request.get("messages") if isinstance(request, dict) else None
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise ValueError("messages must be a list of objects")
    options = request.get("stream_options")
    limit = "max_completion_tokens" if request.get("max_completion_tokens") is not None else "max_tokens"
    return _Asked(
        words_in=sum(_count(message.get("content")) for message in messages),
        max_tokens=_whole(request, limit, default=_DEFAULT_MAX_TOKENS, most=_MOST_TOKENS),
        choices=_whole(request, "n", default=1, most=_MOST_CHOICES),
        stream=request.get("stream") is True,
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
    )


def _whole(request: dict[str, Any], name: str, *, default: int, most: int) -> int:
    value = request.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise ValueError(f"{name} must be a whole number from 1 to {most}")
    return value


def _count(content: object) -> int:
    if isinstance(content, str):
        return len(content.split())
    if isinstance(content, list):
        return sum(_count(part.get("text")) for part in content if isinstance(part, dict))
    return 0


def _words(region: Region, words_in: int) -> Iterator[str]:
    text = (
        f"Hello from {region.location}. This answer was made by the embedded server of {region.code}, "
        f"in grid zone {region.zone}, for a prompt of {words_in} words."
    )
    for index, word in enumerate(text.split()):
        yield word if index == 0 else f" {word}"


def _delta(index: int, delta: dict[str, str], *, finish: str | None = None) -> dict[str, object]:
    return {"index": index, "delta": delta, "finish_reason": finish}


def _error(message: str) -> dict[str, object]:
    return {"error": {"message": message, "type": "invalid_request_error", "code": None, "param": None}}


async def _frame(send: Send, chunk: dict[str, object]) -> None:
    body = b"data: " + msgspec.json.encode(chunk) + b"\n\n"
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _json(send: Send, content: dict[str, object], *, status: int = 200) -> None:
    body = msgspec.json.encode(content)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def _body(receive: Receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)
