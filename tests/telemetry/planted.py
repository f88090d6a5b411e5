"""Words planted in everything that a caller or an upstream can write, and a gateway that is listened to meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from telemetry.callers import PATH
from telemetry.canaries import listening
from telemetry.sites import forward, site
from vetted_mw.testing import sse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from starlette.types import ASGIApp

    from telemetry.canaries import Canaries, Listening
    from telemetry.sites import Answer, Site
    from vetted_mw import Gateway

__all__ = [
    "EXEMPT",
    "REQUEST_PLACES",
    "Place",
    "answer",
    "answer_headers",
    "chunk",
    "fault",
    "headers",
    "listened",
    "request",
    "spoken",
]

EXEMPT: Mapping[str, set[str]] = {
    # gen_ai.response.id is an attribute of the contract: an id, of the upstream's making.
    "answer id": {"/v1/traces"},
    # Trace context is there to be passed on: a span carries the state of its trace, and so does what is sent upstream.
    "tracestate": {"/v1/traces"},
    # An upstream's own list of models is the operator's choice of upstream: spans and log may name it, metrics may not.
    "discovered model": {"/v1/traces", "/v1/logs", "log vetted_mw"},
    # CallerFaultError: an upstream's 4xx about the request goes to the caller it is about, and nowhere else (errors.py).
    "4xx message": {"error answer"},
    "4xx type": {"error answer"},
    "4xx code": {"error answer"},
    "4xx param": {"error answer"},
    # What the application's own handler raises goes on to the application's own error handling, here the server's.
    "handler exception": {"log uvicorn.error"},
}
"""Place -> where its word may be."""

REQUEST_PLACES = {
    "model",
    "system text",
    "prompt",
    "image url",
    "tool call id",
    "tool call name",
    "tool call arguments",
    "tool result",
    "tool name",
    "tool description",
    "tool schema",
    "schema name",
    "schema",
    "stop",
    "user",
    "metadata key",
    "metadata value",
    "identifier",
    "unknown member",
}


def request(canaries: Canaries, *, stream: bool = False, **members: Any) -> dict[str, Any]:
    """Return a chat request with a word in everything a caller can write."""
    call = {
        "id": canaries["tool call id"],
        "type": "function",
        "function": {
            "name": canaries["tool call name"],
            "arguments": json.dumps({"a": canaries["tool call arguments"]}),
        },
    }
    return {
        "model": canaries["model"],
        "messages": [
            {"role": "system", "content": canaries["system text"]},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": canaries["prompt"]},
                    {"type": "image_url", "image_url": {"url": f"https://example.eu/{canaries['image url']}.png"}},
                ],
            },
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": canaries["tool call id"], "content": canaries["tool result"]},
        ],
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": canaries["tool name"],
                    "description": canaries["tool description"],
                    "parameters": {"type": "object", "properties": {canaries["tool schema"]: {"type": "string"}}},
                },
            }
        ],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": canaries["schema name"], "schema": {"title": canaries["schema"]}},
        },
        "stop": [canaries["stop"]],
        "user": canaries["user"],
        "metadata": {canaries["metadata key"]: canaries["metadata value"]},
        "safety_identifier": canaries["identifier"],
        canaries["unknown member"]: 1,
        **({"stream": True, "stream_options": {"include_usage": True}} if stream else {}),
        **members,
    }


def headers(canaries: Canaries) -> dict[str, str]:
    """Return request headers with a word in each."""
    return {
        "authorization": f"Bearer {canaries['authorization']}",
        "x-api-key": canaries["x-api-key"],
        "cookie": f"session={canaries['cookie']}",
        "user-agent": canaries["user-agent"],
        "x-request-id": canaries["x-request-id"],
        "idempotency-key": canaries["idempotency-key"],
        "openai-organization": canaries["openai-organization"],
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "tracestate": f"vendor={canaries['tracestate']}",
        "baggage": f"user.email={canaries['baggage']}",
        "b3": canaries["b3"],
        "referer": f"https://example.eu/{canaries['referer']}",
        f"x-{canaries['header name']}": canaries["unknown header"],
        "x-forwarded-for": canaries["forwarded for"],
    }


def answer(canaries: Canaries, **members: Any) -> dict[str, Any]:
    """Return a chat completion with a word in everything an upstream can write."""
    call = {
        "id": canaries["answer call id"],
        "type": "function",
        "function": {"name": canaries["answer call name"], "arguments": canaries["answer call arguments"]},
    }
    message = {
        "role": "assistant",
        "content": canaries["completion"],
        "refusal": canaries["refusal"],
        "reasoning_content": canaries["reasoning"],
        "tool_calls": [call],
    }
    return {
        "id": canaries["answer id"],
        "object": canaries["answer object"],
        "created": 1,
        "model": canaries["answer model"],
        "choices": [{"index": 0, "message": message, "finish_reason": canaries["finish reason"]}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7, canaries["usage key"]: 1},
        "system_fingerprint": canaries["fingerprint"],
        "service_tier": canaries["service tier"],
        **members,
    }


def answer_headers(canaries: Canaries) -> list[tuple[str, str]]:
    """Return response headers of an upstream with a word in each."""
    return [
        ("x-answer", canaries["answer header"]),
        ("set-cookie", f"upstream={canaries['answer cookie']}"),
        ("server", canaries["answer server"]),
        ("x-request-id", canaries["answer request id"]),
    ]


def fault(canaries: Canaries, kind: str) -> dict[str, Any]:
    """Return an upstream's error."""
    return {"error": {part: canaries[f"{kind} {part}"] for part in ("message", "type", "code", "param")}}


def chunk(canaries: Canaries, **delta: Any) -> bytes:
    """Return one frame of a stream with a word in everything an upstream can write."""
    choice = {"index": 0, "delta": delta, "finish_reason": canaries["finish reason"] if not delta else None}
    return sse(
        {
            "id": canaries["answer id"],
            "object": "chat.completion.chunk",
            "created": 1,
            "model": canaries["answer model"],
            "choices": [choice],
            "system_fingerprint": canaries["fingerprint"],
        }
    )


def spoken(canaries: Canaries) -> list[bytes]:
    """Return the frames of a stream up to its last content."""
    call = {"index": 0, "id": canaries["answer call id"], "function": {"arguments": canaries["answer call arguments"]}}
    return [
        chunk(canaries, role="assistant", content=""),
        chunk(canaries, reasoning_content=canaries["reasoning"]),
        chunk(canaries, content=canaries["completion"]),
        chunk(canaries, tool_calls=[call]),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A gateway that is listened to.

    Attributes:
        site: it itself.
        ears: everything that telemetry writes.
        canaries: the words.
    """

    site: Site
    ears: Listening
    canaries: Canaries

    async def ask(self, body: Mapping[str, Any] | bytes, *, path: str = PATH, **more: str) -> Answer:
        """Send a request with a word in each header and in the query; what it is told in place of an answer is kept."""
        query = f"?key={self.canaries['query string']}"
        told = await self.site.ask(body, path=path + query, headers=(headers(self.canaries) | more).items())
        self.ears.refusals += _refusals(told)
        return told

    async def assert_silent(self) -> None:
        """Search everything that was written for every word.

        Raises:
            AssertionError: a word is where it must not be, or the search itself found nothing to search.
        """
        await self.site.rest()
        await asyncio.to_thread(self.ears.flush)
        receiver = self.site.sdk.receiver
        seen = {
            "span": "POST /v1/chat/completions" in {span.name for span in receiver.spans},
            "metric": "vetted.requests" in {point.metric for point in receiver.points},
            "log": "a chat completion ended" in {line.body for line in receiver.log_lines},
            "page": b"vetted_requests_total" in self.ears.page(),
        }
        found = self.ears.leaks(self.canaries)
        leaks = {place: where - EXEMPT.get(place, set()) for place, where in found.items()}
        told = {place: sorted(where) for place, where in leaks.items() if where}
        assert all(seen.values()), f"nothing was searched: {seen}"
        assert not told, f"words that were told: {told}"


def _refusals(told: Answer) -> list[bytes]:
    """Return head and body of an error answer, or the errors in a stream; what has been answered before is none."""
    if told.status >= 400:
        return [repr(told.headers).encode(), told.body]
    frames = told.body.split(b"\n\n") if told.headers["content-type"].startswith("text/event-stream") else []
    ended = [json.loads(frame.removeprefix(b"data: ")) for frame in frames if frame.startswith(b'data: {"error"')]
    return [json.dumps(frame["error"]).encode() for frame in ended]


@contextlib.asynccontextmanager
async def listened(
    upstreams: Mapping[str, str | Mapping[str, Any]],
    canaries: Canaries,
    *,
    app: Callable[[Gateway], ASGIApp] = forward,
    options: Mapping[str, Any] | None = None,
    **settings: Any,
) -> AsyncIterator[Place]:
    """Serve a gateway and listen to everything it writes."""
    with listening() as ears:
        async with site(upstreams, app=app, options=options, own=ears.sdk, **settings) as place:
            yield Place(site=place, ears=ears, canaries=canaries)
