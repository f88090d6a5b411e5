"""One upstream stream of chat chunks: bytes in, the bytes that may go to the caller out. No await, no clock."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from vetted_mw.chat.chunk import MalformedChunkError, delta_of, read_chunk
from vetted_mw.chat.counts import read_usage, text_length
from vetted_mw.chat.frames import BOM, FrameSplitter, event_and_data
from vetted_mw.chat.members import joined
from vetted_mw.chat.response import add_members, error_envelope, read_error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vetted_mw.chat.chunk import Chunk
    from vetted_mw.chat.counts import Usage
    from vetted_mw.chat.response import UpstreamMessage
    from vetted_mw.chat.transcript import Transcript
    from vetted_mw.errors import AnswerError

__all__ = [
    "AnswerStream",
    "FrameSplitter",
    "Placement",
    "error_frame",
    "is_chat_chunk",
]

_DONE = b"[DONE]"
_DONE_FRAME = b"data: [DONE]\n\n"
_MAX_CHOICES = 1024
"""More choices than any server gives; beyond it what is kept of them would grow as the upstream likes."""


class Placement(StrEnum):
    """Where a stream carries receipt and trace."""

    FINISH_CHUNK = "finish_chunk"
    USAGE_CHUNK = "usage_chunk"
    COMMENT = "comment"
    OFF = "off"


class _UnfitFrameError(ValueError):
    """A frame that no answer has. Content-free."""


class AnswerStream:
    """What was read of one stream.

    Args:
        choices: how many the request asked for.
        include_usage: whether the caller asked for the usage chunk; else it is taken out.
        max_frame_bytes: the longest frame taken, and the most that is held before the answer has begun.
        placement: where the members go.
        transcript: takes what the stream says, for the digest of what was delivered; None: nobody wants it.

    Attributes:
        committed: content, or a finish reason, was seen: the answer has begun.
        finished: every choice has its finish reason, those asked for and those that came unasked.
        done: `[DONE]` was seen.
        error: what an error event said; nothing after it is read.
        broken: a frame was too long, or no chat chunk, or too much came before the answer began; what came before it
            was given out, and nothing after it is read.
        frames: how many whole frames were read, comments among them.
        bearing: how many of them bore content or a finish reason.
        usage: the last counts seen; None when the upstream sent none that can be right.
        id: the upstream's id.
        model: the model it names.
        completion_characters: characters it wrote.
        replaced: members of ours that the upstream's own chunk had and that gave way; known after `close`.
        telling: the JSON of the last chunk with `usage`, else of the last with a finish reason: where an upstream tells
            what the answer took.
        transcript: as given.
    """

    def __init__(
        self,
        *,
        choices: int,
        include_usage: bool,
        max_frame_bytes: int,
        placement: Placement | str = Placement.FINISH_CHUNK,
        transcript: Transcript | None = None,
    ) -> None:
        self.committed = False
        self.done = False
        self.error: UpstreamMessage | None = None
        self.broken = False
        self.frames = 0
        self.bearing = 0
        self.usage: Usage | None = None
        self.id: str | None = None
        self.model: str | None = None
        self.completion_characters = 0
        self.replaced: tuple[str, ...] = ()
        self.telling: bytes | None = None
        self.transcript = transcript
        self._has_usage = False
        self._created: int | None = None
        self._object: str | None = None
        self._choices = choices
        self._max_held = max_frame_bytes
        self._include_usage = include_usage
        self._placement = Placement(placement)
        self._splitter = FrameSplitter(max_frame_bytes=max_frame_bytes)
        self._held = bytearray()
        self._finish_frame: bytes | None = None
        self._usage_frame: bytes | None = None
        self._unfinished: set[int] = set()
        self._reasons: dict[int, str] = {}

    @property
    def finished(self) -> bool:
        """Whether every choice asked for, and every other one seen, has its finish reason."""
        return len(self._reasons) >= self._choices and not self._unfinished

    @property
    def complete(self) -> bool:
        """Whether the stream may end cleanly as it stands.

        `[DONE]` ends a single answer well without a finish reason, once there was one; of several, each one seen must
        have its finish reason. Without `[DONE]` nothing tells that a choice that was asked for will not come.
        """
        if self.finished or not self.done:
            return self.finished
        is_single = self._choices == 1 and not self._reasons and len(self._unfinished) == 1
        return is_single or (bool(self._reasons) and not self._unfinished)

    @property
    def finish_reasons(self) -> tuple[str, ...]:
        """The finish reasons by choice."""
        return tuple(self._reasons[index] for index in sorted(self._reasons))

    def feed(self, data: bytes) -> bytes:
        """Return what of `data` may go to the caller now; nothing before the answer has begun."""
        out = bytearray()
        for frame in self._splitter.feed(data):
            if self._is_over():
                return bytes(out)
            try:
                out += self._taken(frame)
            except (_UnfitFrameError, MalformedChunkError):
                self.broken = True
        if self._splitter.overflowed and not self._is_over():
            self.broken = True
        return bytes(out)

    def ended_by_upstream(self) -> bytes:
        """Note the upstream's end; a last frame without its blank line still counts when it is whole."""
        rest = self._splitter.finish()
        if self._is_over() or not rest.strip():
            return b""
        try:
            return self._taken(rest.rstrip(b"\r\n") + b"\n\n")
        except (_UnfitFrameError, MalformedChunkError):
            return b""  # a frame cut in two: `complete` tells whether the answer was whole without it

    def flush_held(self) -> bytes:
        """Begin the answer now and return what was held before it, the finish chunk excepted."""
        self.committed = True
        held = bytes(self._held)
        self._held.clear()
        return held

    def give_back(self) -> bytes:
        """Return everything that is held, as it came: the stream turned out not to be one of chat chunks."""
        return self.flush_held() + (self._finish_frame or b"") + (self._usage_frame or b"")

    def close(self, members: Mapping[str, bytes]) -> bytes:
        """Return the end of the stream: finish chunk with the members, the usage chunk if asked for, `[DONE]`."""
        usage = self._usage_frame if self._include_usage else None
        finish = self._finish_frame
        comment = b""
        if members and self._placement is Placement.COMMENT:
            comment = b": " + joined(members.items()) + b"\n\n"
        elif members and self._placement is Placement.USAGE_CHUNK and usage is not None:
            usage = self._with_members(usage, members)
        elif members and self._placement is not Placement.OFF:
            finish = self._with_members(finish or self._empty_chunk(), members)
        return self.flush_held() + (finish or b"") + (usage or b"") + comment + _DONE_FRAME

    def _with_members(self, frame: bytes, members: Mapping[str, bytes]) -> bytes:
        _event, data = event_and_data(frame)
        edited = add_members((data or b"{}").replace(b"\n", b" "), members)
        self.replaced = edited.replaced
        return b"data: " + edited.body + b"\n\n"

    def _is_over(self) -> bool:
        return self.done or self.broken or self.error is not None

    def _taken(self, frame: bytes) -> bytes:
        self.frames += 1
        event, data = event_and_data(frame)
        if data is None:
            return self._passed(frame)
        if event == b"error":
            self.error = read_error(data)
            return b""
        if data == _DONE:
            self.done = True
            return b""
        if not data:
            return self._passed(frame)  # no event to an SSE reader
        chunk = read_chunk(data)
        if chunk.is_error:
            self.error = read_error(data)
            return b""
        bears_content = self._noted(chunk, data)
        self.bearing += bears_content
        out = self._placed(frame, chunk, bears_content=bears_content)
        if self.transcript is not None and chunk.choices:
            self.transcript.take(chunk.choices, waits=bears_content and self.finished)
        return out

    def _placed(self, frame: bytes, chunk: Chunk, *, bears_content: bool) -> bytes:
        if not chunk.choices and chunk.has_usage:
            self._usage_frame = frame.removeprefix(BOM)  # it leaves later, and a mark inside a stream hides its frame
            return b""
        if self.finished and bears_content:
            earlier, self._finish_frame = self._finish_frame, frame.removeprefix(BOM)
            return self.flush_held() + (earlier or b"")
        if bears_content and not self.committed:
            return self.flush_held() + frame
        return self._passed(frame)

    def _passed(self, frame: bytes) -> bytes:
        if self.committed:
            return frame
        if len(self._held) + len(frame) > self._max_held:
            raise _UnfitFrameError
        self._held += frame
        return b""

    def _noted(self, chunk: Chunk, data: bytes) -> bool:
        """Take in what a chunk says; returns whether it bears content or a finish reason."""
        self.id = self.id or chunk.id
        self.model = self.model or chunk.model
        self._object = self._object or chunk.kind
        self._created = chunk.created if self._created is None else self._created
        if chunk.has_usage:
            self.usage = read_usage(chunk.read_usage()) or self.usage
            self.telling, self._has_usage = data, True
        if len(chunk.choices or ()) > _MAX_CHOICES:
            raise _UnfitFrameError
        bears_content = False
        for choice in chunk.choices or ():
            delta = choice.delta = delta_of(choice)
            self.completion_characters += text_length(delta)
            if choice.finish_reason:
                self._reasons[choice.index] = choice.finish_reason
                self._unfinished.discard(choice.index)
                self.telling = self.telling if self._has_usage else data
            elif choice.index not in self._reasons:
                self._unfinished.add(choice.index)
            bears_content = bears_content or bool(choice.finish_reason) or _has_content(delta)
        if len(self._reasons) + len(self._unfinished) > _MAX_CHOICES:
            raise _UnfitFrameError
        return bears_content

    def _empty_chunk(self) -> bytes:
        index = min(self._unfinished | self._reasons.keys(), default=0)  # another would be one more choice to a reader
        chunk = {
            "id": self.id or "",
            "object": self._object or "chat.completion.chunk",
            "created": self._created or 0,
            "model": self.model or "",
            "choices": [{"index": index, "delta": {}, "finish_reason": None}],
        }
        return b"data: " + msgspec.json.encode(chunk) + b"\n\n"


def error_frame(error: AnswerError, *, members: Mapping[str, bytes]) -> bytes:
    """Write the one honest end of a stream that failed: an error beside the members, and no `choices`."""
    return b"data: " + error_envelope(error, extra=members) + b"\n\n"


def is_chat_chunk(frame: bytes) -> bool | None:
    """Whether a frame's data is a chat chunk; None when the frame has no data to tell by."""
    _event, data = event_and_data(frame)
    if data is None or not data:
        return None
    try:
        return read_chunk(data).choices is not None
    except MalformedChunkError:
        return False


def _has_content(delta: Mapping[str, object] | None) -> bool:
    return any(value not in (None, "", []) for name, value in (delta or {}).items() if name != "role")
