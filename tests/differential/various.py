"""An app that answers in every way an app can, for servers to turn into bytes."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

from vetted_mw.testing import chat_completion, chat_frames

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import Receive, Scope, Send

__all__ = ["ROUTES", "app"]

_JSON = (b"content-type", b"application/json")
_SSE = (b"content-type", b"text/event-stream")
_ERROR = json.dumps({"error": {"message": "no", "type": "t", "code": "c", "param": None}}).encode()

ROUTES: dict[str, tuple[int, Sequence[tuple[bytes, bytes]], Sequence[bytes]]] = {
    "length": (200, [_JSON, (b"content-length", b"%d" % len(chat_completion()))], [chat_completion()]),
    "no-length": (200, [_JSON], [chat_completion()]),
    "parts": (200, [_JSON], [chat_completion()[:50], b"", chat_completion()[50:]]),
    "stream": (200, [_SSE], chat_frames()),
    "long-stream": (200, [_SSE], chat_frames(words=["word "] * 60)),
    "closing": (200, [_JSON, (b"connection", b"close")], [chat_completion()]),
    "empty": (200, [_JSON, (b"content-length", b"0")], [b""]),
    "empty-no-length": (200, [_JSON], [b""]),
    "no-content": (204, [], [b""]),
    "not-modified": (304, [(b"etag", b'"a"')], [b""]),
    "created": (201, [_JSON, (b"x-a", b"1"), (b"x-a", b"2"), (b"X-Upper", b"B")], [b"{}"]),
    "moved": (307, [(b"location", b"/length")], [b""]),
    "refused": (400, [_JSON], [_ERROR]),
    "limited": (429, [_JSON, (b"retry-after", b"7")], [_ERROR]),
    "broken": (500, [_JSON], [_ERROR]),
    "full": (503, [_JSON, (b"retry-after", b"Sun, 22 Nov 2026 10:30:00 GMT")], [_ERROR]),
    "overloaded": (529, [_JSON], [_ERROR]),
    "packed": (200, [_JSON, (b"content-encoding", b"gzip")], [gzip.compress(chat_completion(), mtime=0)]),
    "large": (200, [_JSON], [chat_completion(text="wind " * 1200)]),
}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer as the path says; other scopes are refused."""
    if scope["type"] != "http":
        raise NotImplementedError
    while (await receive()).get("more_body"):
        continue
    status, headers, parts = ROUTES.get(scope["path"].strip("/"), (404, [_JSON], [_ERROR]))
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    for number, part in enumerate(parts, start=1):
        await send({"type": "http.response.body", "body": part, "more_body": number < len(parts)})
