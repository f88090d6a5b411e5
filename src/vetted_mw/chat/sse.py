"""One upstream stream of chat chunks: bytes in, the bytes that may go to the caller out. No await, no clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vetted_mw.chat.chunk import (
    SMALL_BYTES,
    MalformedChunkError,
    delta_of,
    is_chat_chunk,
    read_chunk,
    read_plain_chunk,
)
from vetted_mw.chat.counts import read_usage, text_length
from vetted_mw.chat.ending import Placement, empty_chunk, error_frame, good_end
from vetted_mw.chat.finishing import MAX_CHOICES, Finishing
from vetted_mw.chat.frames import BOM, FrameSplitter, event_and_data, one_line
from vetted_mw.chat.mould import mould_of
from vetted_mw.chat.response import read_error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vetted_mw.chat.chunk import Chunk, PlainChoice, PlainDelta
    from vetted_mw.chat.counts import Usage
    from vetted_mw.chat.mould import Mould
    from vetted_mw.chat.response import UpstreamMessage
    from vetted_mw.chat.transcript import Transcript

__all__ = [
    "AnswerStream",
    "FrameSplitter",
    "Placement",
    "error_frame",
    "is_chat_chunk",
]

_DONE = b"[DONE]"
_QUOTE = 0x22  # as numbers: CPython 3.11 looks for one ten times faster than for bytes of length one
_BACKSLASH = 0x5C
_MOST_APART = 8
"""After so many frames in a row that are not plain the rest of what was read with them is read as a whole."""
_MOST_ODD = 63
"""So many frames pass at most before one is tried again as a plain one."""
_MOST_MOULDS = 8
"""So often a stream's frames may change in more than their text before they are read one by one."""


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
        runs: the answer has begun and nothing ends it yet, for certain; what it names (id, model) is known.
        finished: every choice has its finish reason, those asked for and those that came unasked.
        done: `[DONE]` was seen.
        error: what an error event said; nothing after it is read.
        broken: a frame was too long, or no chat chunk, or too much came before the answer began; what came before it
            was given out, and nothing after it is read.
        frames: how many whole frames were read, comments among them.
        usage: the last counts seen; None when the upstream sent none that can be right.
        id: the upstream's id.
        model: the model it names.
        completion_characters: characters it wrote.
        replaced: members of ours that the upstream's own chunk had and that gave way; known after `close`.
        telling: the JSON of the last chunk with `usage`, else of the last with a finish reason: where an upstream tells
            what the answer took.
        transcript: as given.
    """

    __slots__ = (
        "_choices",
        "_created",
        "_finish_frame",
        "_has_usage",
        "_held",
        "_include_usage",
        "_is_amid",
        "_longest_plain",
        "_max_held",
        "_mould",
        "_moulds_left",
        "_object",
        "_oddity",
        "_passes_over",
        "_placement",
        "_silent",
        "_splitter",
        "_usage_frame",
        "broken",
        "committed",
        "completion_characters",
        "done",
        "error",
        "frames",
        "id",
        "model",
        "replaced",
        "runs",
        "telling",
        "transcript",
        "usage",
    )

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
        self.runs = False
        self.done = False
        self.error: UpstreamMessage | None = None
        self.broken = False
        self.frames = 0
        self._silent = 0  # of the frames, those that bore nothing: fewer than the others
        self.usage: Usage | None = None
        self.id: str | None = None
        self.model: str | None = None
        self.completion_characters = 0
        self.replaced: tuple[str, ...] = ()
        self.telling: bytes | None = None
        self.transcript = transcript
        self._is_amid = False
        self._oddity = self._passes_over = 0
        self._longest_plain = min(SMALL_BYTES, max_frame_bytes)
        self._mould: Mould | None = None
        self._moulds_left = _MOST_MOULDS
        self._has_usage = False
        self._created: int | None = None
        self._object: str | None = None
        self._choices = Finishing(choices)
        self._max_held = max_frame_bytes
        self._include_usage = include_usage
        self._placement = Placement(placement)
        self._splitter = FrameSplitter(max_frame_bytes=max_frame_bytes)
        self._held = bytearray()
        self._finish_frame: bytes | None = None
        self._usage_frame: bytes | None = None

    @property
    def bearing(self) -> int:
        """How many of the frames bore content or a finish reason."""
        return self.frames - self._silent

    @property
    def finished(self) -> bool:
        """Whether every choice asked for, and every other one seen, has its finish reason."""
        return self._choices.are_all

    @property
    def complete(self) -> bool:
        """Whether the stream may end cleanly as it stands.

        Without `[DONE]` nothing tells that a choice that was asked for will not come.
        """
        return self._choices.are_all or (self.done and self._choices.may_end)

    @property
    def finish_reasons(self) -> tuple[str, ...]:
        """The finish reasons by choice."""
        return tuple(reason for _index, reason in sorted(self._choices.reasons.items()))

    def feed(self, data: bytes) -> bytes:
        """Return what of `data` may go to the caller now; nothing before the answer has begun."""
        mould, place = self._mould, 0
        if mould is not None:
            text = data.removeprefix(mould.head).removesuffix(mould.tail)
            if len(text) + mould.size == len(data) and self._heard(mould, text):
                return data  # what nearly every read is: one frame like the last
            place = self._alike(mould, data, 0)
        return data if place == len(data) else self._fed(data, place)

    def _fed(self, data: bytes, place: int) -> bytes:
        """Return what of `data` may go to the caller, having taken what stands before `place`."""
        place = self._run(data, place)
        if place == len(data):
            return data
        out = bytearray(data[:place])
        apart = _MOST_APART
        while place < len(data):
            # One frame at a time, since those after it may be plain; where many are not, it is not worth the while.
            end = data.find(b"\n\n", place) + 2 if apart else 0
            end = end if end > 1 else len(data)
            out += self._read(data[place:end])
            place = self._run(data, end)
            out += data[end:place]
            apart = _MOST_APART if place > end else apart - 1
        return bytes(out)

    def _alike(self, mould: Mould, data: bytes, start: int) -> int:
        """Take the chunks that differ from an earlier one in their text alone; returns where the last of them ends."""
        head, tail = mould.head, mould.tail
        while data.startswith(head, start):
            begin = start + len(head)
            end = data.find(_QUOTE, begin)
            after = end + len(tail)
            if data[end:after] != tail or not self._heard(mould, data[begin:end]):
                break
            start = after
        return start

    def _heard(self, mould: Mould, text: bytes) -> bool:
        """Take what stands in a chunk like the mould, unless it is not for certain as plain as the mould.

        What is seen here is what `_run` would see, at a third of the cost.
        """
        if _QUOTE in text or _BACKSLASH in text or mould.size + len(text) > self._longest_plain:
            return False
        try:
            said = text.decode()
        except UnicodeDecodeError:
            return False
        if not said.isprintable():
            return False
        self.frames += 1
        if said:
            self.completion_characters += len(said)
            if self.transcript is not None:
                self.transcript.written(mould.index, text)
        else:
            self._silent += 1
        return True

    def _run(self, data: bytes, start: int) -> int:
        """Take the plain chunks of a running answer, which pass as they came; returns where the last of them ends.

        What is seen here is what `_read` would see, at a fifth of the cost.
        """
        if self._passes_over:
            self._passes_over -= 1
            return start
        while self.runs and not self._is_amid and (found := one_line(data, start, self._longest_plain)) is not None:
            line, after = found
            choice = read_plain_chunk(line)
            if choice is None or choice.index not in self._choices.unfinished:
                # An upstream with a habit of its own is tried more and more rarely.
                self._oddity = min(2 * self._oddity + 1, _MOST_ODD)
                self._passes_over = self._oddity
                break
            self._oddity = 0
            self._say(choice.index, choice.delta)
            start = self._recast(data, start, after, choice)
        return start

    def _recast(self, data: bytes, start: int, after: int, choice: PlainChoice) -> int:
        """Take those after a plain chunk that are like it; returns where the last of them ends."""
        mould = self._mould
        if self._moulds_left and (mould is None or not data.startswith(mould.head, start)):
            self._moulds_left -= 1
            self._mould = mould = mould_of(data[start:after], choice)
        return after if mould is None else self._alike(mould, data, after)

    def _say(self, index: int, delta: PlainDelta) -> None:
        text, characters = delta.content, 0
        if text:
            characters = len(text)
            if self.transcript is not None:
                self.transcript.text(index, text)
        if delta.reasoning_content or delta.reasoning or delta.refusal:
            characters += sum(len(other or "") for other in (delta.reasoning_content, delta.reasoning, delta.refusal))
        self.frames += 1
        if characters:
            self.completion_characters += characters
        else:
            self._silent += 1

    def _read(self, data: bytes) -> bytes:
        self._mould = None
        out = bytearray()
        for frame in self._splitter.feed(data):
            if self._is_over():
                break
            try:
                out += self._taken(frame)
            except (_UnfitFrameError, MalformedChunkError):
                self.broken = True
        if self._splitter.overflowed and not self._is_over():
            self.broken = True
        self.runs = self._goes_on()
        self._is_amid = self._splitter.is_amid
        return bytes(out)

    def _goes_on(self) -> bool:
        """Whether a plain chunk changes nothing but what its choice has said."""
        if not self.committed or self.finished or self._is_over():
            return False
        return bool(self.id and self.model and self._object and self._created is not None)

    def ended_by_upstream(self) -> bytes:
        """Note the upstream's end; a last frame without its blank line still counts when it is whole."""
        rest = self._splitter.finish()
        self.runs = False
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
        end = good_end(
            self._placement,
            members,
            finish=self._finish_frame,
            usage=self._usage_frame if self._include_usage else None,
            empty=empty_chunk(
                id_=self.id,
                kind=self._object,
                created=self._created,
                model=self.model,
                index=self._choices.first,  # another would be one more choice to a reader
            ),
        )
        self.replaced = end.replaced
        return self.flush_held() + end.body

    def _is_over(self) -> bool:
        return self.done or self.broken or self.error is not None

    def _taken(self, frame: bytes) -> bytes:
        self.frames += 1
        self._silent += 1  # unless it turns out to bear something
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
        if bears_content:
            self._silent -= 1
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
        if len(chunk.choices or ()) > MAX_CHOICES:
            raise _UnfitFrameError
        bears_content = False
        for choice in chunk.choices or ():
            delta = choice.delta = delta_of(choice)
            self.completion_characters += text_length(delta)
            self._choices.seen(choice.index, choice.finish_reason)
            if choice.finish_reason and not self._has_usage:
                self.telling = data
            bears_content = bears_content or bool(choice.finish_reason) or _has_content(delta)
        if self._choices.are_too_many:
            raise _UnfitFrameError
        return bears_content


def _has_content(delta: Mapping[str, object] | None) -> bool:
    return any(value not in (None, "", []) for name, value in (delta or {}).items() if name != "role")
