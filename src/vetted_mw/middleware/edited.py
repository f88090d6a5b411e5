"""Add receipt and trace to what a handler answers: a chat-completion JSON or stream; anything else passes unchanged."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from vetted_mw.asgi.sending import JSON
from vetted_mw.chat.response import (
    MalformedAnswerError,
    add_members,
    error_envelope,
    has_choices,
    read_answer,
    retry_headers,
)
from vetted_mw.chat.sse import (
    AnswerStream,
    FrameSplitter,
    error_frame,
    is_chat_chunk,
)
from vetted_mw.chat.transcript import Transcript
from vetted_mw.errors import InternalError, UpstreamCutError, UpstreamFailedError
from vetted_mw.proxy.headers import header_value

if TYPE_CHECKING:
    from starlette.types import Message, Send

    from vetted_mw.chat.response import Answer, UpstreamMessage
    from vetted_mw.configuration import Configuration
    from vetted_mw.errors import AnswerError
    from vetted_mw.in_app.route import Route
    from vetted_mw.proxy.headers import Headers

__all__ = ["EditedSend"]

_LOG = logging.getLogger("vetted_mw")


class EditedSend:
    """A `send` for the handler. The route ends with the last part of its answer, whatever kind of answer it is."""

    def __init__(self, send: Send, route: Route, configuration: Configuration) -> None:
        self._send = send
        self._route = route
        self._configuration = configuration
        self._editor: _Json | _Stream | None = None

    @property
    def error(self) -> AnswerError | None:
        """What the caller was told in place of the handler's answer, or at its end; None while all is well."""
        return None if self._editor is None else self._editor.error

    async def __call__(self, message: Message) -> None:
        """Take one message of the handler."""
        if message["type"] == "http.response.start":
            await self._started(message)
        elif message["type"] == "http.response.body":
            await self._body(message)
        else:
            if isinstance(self._editor, _Json):
                await self._editor.release()
            await self._send(message)

    async def failed(self) -> None:
        """End a stream whose handler raised, as honestly as one of ours: with an error event, never quietly."""
        if isinstance(self._editor, _Stream):
            await self._editor.failed()

    async def _body(self, message: Message) -> None:
        data, more = message.get("body", b""), message.get("more_body", False)
        if not more:
            await self._route.aclose()
        if self._editor is None:
            await self._send(message)
        else:
            await self._editor.body(data, more=more)

    async def _started(self, start: Message) -> None:
        headers: Headers = list(start.get("headers", ()))
        start = {**start, "headers": headers}
        kind = (header_value(headers, b"content-type") or b"").lower().split(b";")[0].strip()
        is_plain = header_value(headers, b"content-encoding") is None
        if is_plain and kind == b"application/json":
            self._editor = _Json(self._send, start, self._route, self._configuration)
        elif is_plain and kind == b"text/event-stream":
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
        self.error: AnswerError | None = None

    async def body(self, data: bytes, *, more: bool) -> None:
        """Take a part of the body; the route has ended when `more` is false."""
        if self._start is None:
            await self._send({"type": "http.response.body", "body": data, "more_body": more})
            return
        self._held += data
        if not more:
            await self._whole(self._start)
        elif len(self._held) > self._max_bytes:
            await self.release()

    async def release(self) -> None:
        """Let what is held go as it came: the answer is too long, or is not sent as a body at all."""
        start, self._start = self._start, None
        if start is None:
            return
        await self._send({**start, "headers": start["headers"] + self._route.headers_told()})
        if self._held:
            await self._send({"type": "http.response.body", "body": bytes(self._held), "more_body": True})

    async def _whole(self, start: Message) -> None:
        self._start = None
        content = bytes(self._held)
        headers = [pair for pair in start["headers"] if pair[0].lower() != b"content-length"]
        status = start["status"]
        answer = _chat_completion(content)
        if answer is not None:
            error = await self._route.account.seal(answer.transcript_digest(self._route.account.nonce))
            if error is None:
                content = self._edited(content, answer)
            else:  # the operator wants no answer without a receipt that is kept
                self.error = error
                status, headers = error.status, [JSON, *retry_headers(error)]
                content = error_envelope(error, trace=self._route.members()["routing_trace"])
        headers += [*self._route.headers_told(), (b"content-length", str(len(content)).encode())]
        await self._send({**start, "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": content, "more_body": False})

    def _edited(self, content: bytes, answer: Answer) -> bytes:
        edited = add_members(content, self._route.members(), names=answer.names)
        if edited.replaced:
            _LOG.warning(
                "the handler's answer had a member of ours; it was replaced", extra={"members": edited.replaced}
            )
        return edited.body


def _chat_completion(content: bytes) -> Answer | None:
    """Read an answer that has a list of choices, be it empty; None for any other body."""
    try:
        answer = read_answer(content)
    except MalformedAnswerError:
        return None
    return answer if answer.is_answer or has_choices(content) else None


class _Stream:
    """Edits a stream of chat chunks; a stream of anything else passes as it is."""

    def __init__(self, send: Send, route: Route, configuration: Configuration) -> None:
        self._send = send
        self._route = route
        self._splitter = FrameSplitter(max_frame_bytes=configuration.limits.max_frame_bytes)
        self._unsplit = bytearray()
        self._is_chat: bool | None = None
        self._ended = False
        self._closed = False
        self.error: AnswerError | None = None
        self._transcript = Transcript(route.account.nonce)
        self._stream = AnswerStream(
            choices=route.choices,
            include_usage=True,  # the handler decides what its caller sees
            max_frame_bytes=configuration.limits.max_frame_bytes,
            placement=configuration.sse_placement,
            transcript=self._transcript,
        )

    async def body(self, data: bytes, *, more: bool) -> None:
        """Take a part of the body; the route has ended when `more` is false."""
        part = self._taken(data, more=more)
        if self._is_chat and not self._ended and (self._is_over or not more):
            self._ended = True
            await self._route.aclose()
            part += await self._end()
        self._closed = not more
        if part or not more:
            await self._send({"type": "http.response.body", "body": part, "more_body": more})

    async def failed(self) -> None:
        """End the stream with an error event, unless its answer has ended or is no chat completion."""
        if self._closed or self._ended or self._is_chat is False:
            return
        self._ended = self._closed = True
        await self._route.aclose()
        error = self._route.failure or InternalError("The application failed before its answer was complete.")
        with contextlib.suppress(OSError):  # the caller has left
            end = await self._broken_off(error)
            await self._send({"type": "http.response.body", "body": end, "more_body": False})

    @property
    def _is_over(self) -> bool:
        return self._stream.done or self._stream.error is not None

    def _taken(self, data: bytes, *, more: bool) -> bytes:
        if self._is_chat is False:
            return data
        if self._ended:
            return b""
        self._unsplit += data
        frames = self._splitter.feed(data)
        if self._splitter.overflowed:
            return self._given_up(bytes(self._unsplit))
        if not more:
            frames.append(self._splitter.finish())
        del self._unsplit[: sum(map(len, frames))]
        return self._read(frames) + (b"" if more else self._stream.ended_by_upstream())

    def _read(self, frames: list[bytes]) -> bytes:
        """Return what may go out; the first frame with data tells what kind of stream it is."""
        out = b""
        for number, frame in enumerate(frames):
            if self._is_chat is None:
                self._is_chat = is_chat_chunk(frame)
            if self._is_chat is None:
                out += frame
                continue
            out += self._stream.feed(frame) if self._is_chat else b""
            if self._stream.broken:
                _LOG.warning("the handler's stream stopped being chat chunks; it passes as it is, without a receipt")
                self._is_chat = False
            if not self._is_chat:
                return out + self._given_up(b"".join(frames[number:]) + self._unsplit)
        return out

    def _given_up(self, rest: bytes) -> bytes:
        self._is_chat = False
        return self._stream.give_back() + rest

    async def _end(self) -> bytes:
        error = self._error() or await self._route.account.seal(self._transcript.digest())
        return self._stream.close(self._route.members()) if error is None else await self._broken_off(error)

    def _error(self) -> AnswerError | None:
        if self._stream.error is not None:
            return _handlers_own(self._stream.error)
        if self._stream.complete:
            return None
        return self._route.failure or UpstreamCutError("The answer ended before it was complete. Send it again.")

    async def _broken_off(self, error: AnswerError) -> bytes:
        self.error = error
        await self._route.account.seal(self._transcript.digest(whole=False))
        return self._stream.flush_held() + error_frame(error, members=self._route.members())


def _handlers_own(told: UpstreamMessage) -> AnswerError:
    """Return an error event of the handler as one of ours: its words, and a type and code where it gave none."""
    error = UpstreamFailedError(told.message or "The application reported an error in its stream.", param=told.param)
    error.type = told.type or error.type
    error.code = told.code or error.code
    return error
