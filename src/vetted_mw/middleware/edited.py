"""Add receipt and trace to what a handler answers: a chat-completion JSON or stream; anything else passes unchanged."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from vetted_mw.chat.response import add_members, has_choices
from vetted_mw.chat.sse import AnswerStream, FrameSplitter, FrameTooLargeError, MalformedFrameError, is_chat_chunk
from vetted_mw.proxy.headers import header_value

if TYPE_CHECKING:
    from starlette.types import Message, Send

    from vetted_mw.configuration import Configuration
    from vetted_mw.in_app import Route
    from vetted_mw.proxy.headers import Headers

__all__ = ["EditedSend"]

_LOG = logging.getLogger("vetted_mw")


class EditedSend:
    """A `send` for the handler. It holds the head of the answer until it knows what kind of answer it is."""

    def __init__(self, send: Send, route: Route, configuration: Configuration) -> None:
        self._send = send
        self._route = route
        self._configuration = configuration
        self._start: Message | None = None
        self._editor: _Json | _Stream | None = None

    async def __call__(self, message: Message) -> None:
        """Take one message of the handler."""
        if message["type"] == "http.response.start":
            await self._started(message)
        elif message["type"] == "http.response.body" and self._editor is not None:
            await self._editor.body(message.get("body", b""), more=message.get("more_body", False))
        else:
            await self._send(message)

    async def _started(self, start: Message) -> None:
        headers: Headers = list(start.get("headers", ()))
        kind = (header_value(headers, b"content-type") or b"").lower()
        is_plain = header_value(headers, b"content-encoding") is None
        if is_plain and kind.startswith(b"application/json"):
            self._editor = _Json(self._send, start, self._route, self._configuration)
        elif is_plain and kind.startswith(b"text/event-stream"):
            self._editor = _Stream(self._send, self._route, self._configuration)
            kept = [pair for pair in headers if pair[0].lower() != b"content-length"]
            await self._send({**start, "headers": kept + self._route.headers_told()})
        else:
            await self._send({**start, "headers": headers + self._route.headers_told()})


class _Json:
    """Holds a JSON answer until it is whole, up to the limit of one answer."""

    def __init__(self, send: Send, start: Message, route: Route, configuration: Configuration) -> None:
        self._send = send
        self._start: Message | None = start
        self._route = route
        self._max_bytes = configuration.limits.max_response_bytes
        self._held = bytearray()

    async def body(self, data: bytes, *, more: bool) -> None:
        """Take a part of the body."""
        start = self._start
        if start is None:
            await self._send({"type": "http.response.body", "body": data, "more_body": more})
            return
        self._held += data
        if more and len(self._held) <= self._max_bytes:
            return
        self._start = None
        content = bytes(self._held) if more else await self._edited(bytes(self._held))
        headers = [pair for pair in start.get("headers", ()) if more or pair[0].lower() != b"content-length"]
        headers += self._route.headers_told()
        if not more:
            headers.append((b"content-length", str(len(content)).encode()))
        await self._send({**start, "headers": headers})
        await self._send({"type": "http.response.body", "body": content, "more_body": more})

    async def _edited(self, content: bytes) -> bytes:
        await self._route.aclose()
        return add_members(content, self._route.members()).body if has_choices(content) else content


class _Stream:
    """Edits a stream of chat chunks; a stream of anything else passes as it is."""

    def __init__(self, send: Send, route: Route, configuration: Configuration) -> None:
        self._send = send
        self._route = route
        self._first = FrameSplitter(max_frame_bytes=configuration.limits.max_frame_bytes)
        self._sniffed = b""
        self._is_chat: bool | None = None
        self._ended = False
        self._stream = AnswerStream(
            choices=route.choices,
            include_usage=True,  # the handler decides what its caller sees
            max_frame_bytes=configuration.limits.max_frame_bytes,
            placement=configuration.sse_placement,
        )

    async def body(self, data: bytes, *, more: bool) -> None:
        """Take a part of the body."""
        try:
            part = await self._edited(data, more=more)
        except (FrameTooLargeError, MalformedFrameError):
            _LOG.warning("the handler's stream stopped being chat chunks; it passes as it is, without a receipt")
            part = self._stream.flush_held() + data
            self._is_chat = False
        if part or not more:
            await self._send({"type": "http.response.body", "body": part, "more_body": more})

    async def _edited(self, data: bytes, *, more: bool) -> bytes:
        if self._is_chat is None:
            data = self._sniff(data, more=more)
        if not self._is_chat:
            return data
        if self._ended:
            return b""
        part = self._stream.feed(data)
        if not more:
            part += self._stream.ended_by_upstream()
        if self._stream.done or not more:
            self._ended = True
            await self._route.aclose()
            part += self._closing()
        return part

    def _closing(self) -> bytes:
        if self._stream.complete and self._stream.error is None:
            return self._stream.close(self._route.members())
        return self._stream.flush_held()  # a cut answer gets no clean end from us

    def _sniff(self, data: bytes, *, more: bool) -> bytes:
        """Decide by the first data frame; until it is whole nothing goes out."""
        self._sniffed += data
        frames = self._first.feed(data)
        if not more:
            frames.append(self._first.finish())
        for frame in frames:
            verdict = is_chat_chunk(frame)
            if verdict is not None:
                self._is_chat = verdict
                break
        if self._is_chat is None and more:
            return b""
        held, self._sniffed = self._sniffed, b""
        return held
