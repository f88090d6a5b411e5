"""An attempt at a stream: opened until it shows content, then read part by part to its honest end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from vetted_mw.chat.sse import AnswerStream
from vetted_mw.chat.transcript import Transcript
from vetted_mw.deadlines import Limit, WaitLimit
from vetted_mw.proxy.attempt import accepted, encoding_of, invalid
from vetted_mw.proxy.decoding import DecodingError, StreamDecoder, is_identity
from vetted_mw.proxy.headers import header_value
from vetted_mw.proxy.outcome import AttemptFailedError, Fault
from vetted_mw.proxy.own.answer import Answer
from vetted_mw.routing.decision import AttemptOutcome

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from vetted_mw.proxy.attempt import Call
    from vetted_mw.proxy.transport import Response

__all__ = ["StreamedAnswer", "open_stream"]

_NO_PIECES: Iterator[bytes] = iter(())


async def open_stream(call: Call) -> StreamedAnswer:
    """Open a stream and read on until its first content-bearing event, within `first_byte_seconds`.

    Raises:
        AttemptFailedError: no content came; the connection is closed by then.
    """
    loop = call.loop
    adds_usage = call.ask_usage and not call.request.include_usage
    status = None
    try:
        with Limit(min(call.deadline, loop.time() + call.limits.first_byte_seconds), loop):
            response = await accepted(call, include_usage=adds_usage)
            status = response.status
            try:
                streamed = StreamedAnswer(call, response)
                await streamed.read_head()
            except BaseException:
                await response.aclose()
                raise
    except TimeoutError:
        raise AttemptFailedError(Fault(outcome=AttemptOutcome.FIRST_BYTE_TIMEOUT, status=status)) from None
    return streamed


class StreamedAnswer:
    """A stream that has shown content: nothing of it was sent yet, and no other upstream may follow.

    Attributes:
        status: the upstream's.
        headers: the upstream's; once the first part was asked for only the one that tells what the answer took.
        stream: what was read of it so far.
        fault: how it ended when it did not end well; None while it runs and after a clean end.
        is_behind: whether something of it may not have reached the caller: whoever asks for the next part has sent the
            last one.
    """

    # A stream can last for minutes: it keeps nothing of the request, and little of the answer's head.
    __slots__ = (
        "_deadline",
        "_decoder",
        "_ended",
        "_energy_header",
        "_head",
        "_held_for",
        "_hold_until",
        "_limits",
        "_loop",
        "_pieces",
        "_response",
        "fault",
        "headers",
        "is_behind",
        "status",
        "stream",
    )

    def __init__(self, call: Call, response: Response) -> None:
        content_type = (header_value(response.headers, b"content-type") or b"").lower()
        if not content_type.startswith(b"text/event-stream"):
            raise invalid(response)
        self.status = response.status
        self.headers = response.headers
        self.fault: Fault | None = None
        self.is_behind = True
        self.stream = AnswerStream(
            choices=call.request.choices,
            include_usage=call.request.include_usage,
            max_frame_bytes=call.limits.max_frame_bytes,
            placement=call.placement,
            transcript=None if call.nonce is None else Transcript(call.nonce),
        )
        self._limits = call.limits
        self._deadline = call.deadline
        self._loop = call.loop
        energy = call.upstream.measured_energy
        self._energy_header = energy.header.encode("latin-1") if energy is not None and energy.header else b""
        self._response = response
        encoding = encoding_of(response)
        self._decoder = None if is_identity(encoding) else StreamDecoder(encoding)
        self._pieces: Iterator[bytes] = _NO_PIECES
        self._head = b""
        self._ended = False
        self._hold_until = 0.0
        self._held_for = -1

    async def read_head(self) -> None:
        """Read until the stream is committed; raises `AttemptFailedError` when it ends or errs before.

        What errs in the very read that committed it has sent nothing yet, and may still fail over.
        """
        while not self.stream.committed:
            self._head += self._taken(await self._read())
            if self.fault is not None:
                raise AttemptFailedError(self.fault)
            if self._ended or self.stream.done:
                self._head += self.stream.flush_held()
                return
            await asyncio.sleep(0)  # the limit on all this is kept by the event loop

    async def next_part(self) -> bytes | None:
        """Return the next bytes for the caller, None at the end; `fault` then says whether it was a good one."""
        self.is_behind = False
        part = await self._next_part()
        self.is_behind = part is not None
        return part

    async def pass_on(self, deliver: Callable[[bytes], Awaitable[None]]) -> None:
        """Hand on what comes as long as the answer runs; `next_part` goes on after it, and knows how it stands.

        Here nearly every part passes, and most of its cost would be the calls between the two ends.

        Args:
            deliver: sends a part to the caller. What it raises is raised here.
        """
        if self._head or self._decoder is not None or not self.stream.runs:
            return
        stream, response, now = self.stream, self._response, self._loop.time
        deadline, idle_seconds = self._deadline, self._limits.idle_seconds
        limit = WaitLimit(min(deadline, now() + idle_seconds), self._loop)
        self.is_behind = False
        seen, runs = -1, True
        try:
            with limit:
                while runs:
                    if stream.frames != seen:  # any frame is a sign of life, also one that is not for the caller
                        seen, idle_until = stream.frames, now() + idle_seconds
                        limit.at = min(deadline, idle_until)
                        if limit.has_slept:
                            limit.wake()
                    limit.is_waiting = True
                    data = await response.read()
                    part = stream.feed(data) if data else stream.ended_by_upstream()
                    runs = stream.runs
                    if not runs:
                        self._take_stock(is_at_end=not data)
                    if part:
                        limit.is_waiting = False
                        self.is_behind = True
                        await deliver(part)
                        self.is_behind = False
                    else:
                        await asyncio.sleep(0)
        except TimeoutError:
            if self.is_behind:  # whoever delivers said so
                raise
            self._end_at_limit()
        except AttemptFailedError as error:
            self._end(None if self._is_whole_despite(error.fault) else error.fault)

    async def _next_part(self) -> bytes | None:
        if self._head:
            head, self._head = self._head, b""
            self._let_go_of_headers()
            return head
        seen, idle_until = -1, 0.0
        while not self._ended:
            if self.stream.frames != seen:  # any frame is a sign of life, also one that is not for the caller
                seen, idle_until = self.stream.frames, self._loop.time() + self._limits.idle_seconds
            try:
                with Limit(self._until(idle_until), self._loop):
                    part = self._taken(await self._read())
                    if not part:
                        await asyncio.sleep(0)  # frames that are not for the caller hold nobody up, and meet the limits
            except TimeoutError:
                self._end_at_limit()
                return None
            except AttemptFailedError as error:
                self._end(None if self._is_whole_despite(error.fault) else error.fault)
                return None
            if part:
                return part
        return None

    async def aclose(self) -> None:
        """Close the upstream's connection or give it back."""
        await self._response.aclose()

    def _let_go_of_headers(self) -> None:
        self.headers = [pair for pair in self.headers if pair[0] == self._energy_header]
        if isinstance(self._response, Answer):  # what another transport gave us is not ours to change
            self._response.headers = self.headers

    def _read(self) -> Awaitable[bytes]:
        """Read the next bytes of the stream, decoded; `b""` at the upstream's end."""
        return self._response.read() if self._decoder is None else self._decoded(self._decoder)

    async def _decoded(self, decoder: StreamDecoder) -> bytes:
        piece = b""
        try:
            while not piece:  # some of the pieces are empty
                if (found := next(self._pieces, None)) is not None:
                    piece = found
                elif data := await self._response.read():
                    self._pieces = decoder.pieces(data)
                else:
                    break
        except DecodingError:
            raise invalid(self._response) from None
        return piece

    def _taken(self, data: bytes) -> bytes:
        """Feed what came (nothing: the upstream's end) and note how the stream stands after it."""
        part = self.stream.feed(data) if data else self.stream.ended_by_upstream()
        if not self.stream.runs:
            self._take_stock(is_at_end=not data)
        return part

    def _take_stock(self, *, is_at_end: bool) -> None:
        """Note how a stream stands that does not run: it may have ended, well or not."""
        stream = self.stream
        if stream.error is not None:
            self._end(Fault(outcome=AttemptOutcome.UPSTREAM_ERROR, status=self.status))
        elif stream.broken:
            self._end(Fault(outcome=AttemptOutcome.INVALID_RESPONSE, status=self.status))
        elif is_at_end or (stream.done and not stream.complete):
            self._end(None if stream.complete else Fault(outcome=AttemptOutcome.UPSTREAM_CUT, status=self.status))
        # After a good `[DONE]` the upstream's end is still read, within the hold: else no connection would serve twice.

    def _is_whole_despite(self, fault: Fault) -> bool:
        """Whether the answer was whole when the connection broke: only its end, or the usage, is missing."""
        return self.stream.complete and (self.stream.done or fault.outcome is AttemptOutcome.UPSTREAM_CUT)

    def _until(self, idle_until: float) -> float:
        if self.stream.runs or not (self.stream.finished or self.stream.done):
            return min(self._deadline, idle_until)
        if self._held_for != self.stream.bearing:  # an answer that goes on after its finish reason has not ended
            self._held_for = self.stream.bearing
            self._hold_until = self._loop.time() + self._limits.finish_hold_seconds
        return min(self._deadline, self._hold_until)

    def _end_at_limit(self) -> None:
        if self._ended:
            return
        over = self._loop.time() >= self._deadline
        outcome = AttemptOutcome.ANSWER_TIMEOUT if over else AttemptOutcome.IDLE_TIMEOUT
        # After the finish reason the answer is whole: what the hold waited for was only the usage and the end.
        self._end(None if self.stream.complete else Fault(outcome=outcome, status=self.status))

    def _end(self, fault: Fault | None) -> None:
        self._ended = True
        self.fault = fault
