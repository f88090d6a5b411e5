"""One attempt: send, classify, and hand back a whole JSON answer or a stream that has shown its first content."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from vetted_mw.chat.request import ChatRequest, outgoing_body
from vetted_mw.chat.response import MalformedAnswerError, read_answer, upstream_message
from vetted_mw.chat.sse import AnswerStream, Placement
from vetted_mw.proxy.decoding import BodyDecoder, DecodingError, StreamDecoder, TooLargeError, is_known_encoding
from vetted_mw.proxy.headers import Headers, header_value
from vetted_mw.proxy.outcome import AttemptFailedError, Fault, outcome_of_status, retry_after_seconds
from vetted_mw.proxy.transport import Response, Transport, UpstreamRequest
from vetted_mw.routing.decision import AttemptOutcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vetted_mw.chat.response import Answer
    from vetted_mw.configuration import Limits, Upstream

__all__ = ["Answered", "Call", "StreamedAnswer", "fetch_answer", "open_stream"]

_MAX_ERROR_BYTES = 65_536
_ERROR_SECONDS = 5.0
_USAGE_REFUSALS = frozenset({400, 422})


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One chat completion as it leaves for one upstream.

    Attributes:
        upstream: where it goes.
        transport: its door.
        request: what the caller asked.
        headers: complete, with our key and trace context.
        deadline: event-loop time at which the whole request must be over.
        ask_usage: whether `stream_options.include_usage` is added when the caller did not ask.
        placement: where the stream will carry the members.
        on_leaving: called just before the request goes to the transport.
        on_sent: called when its first bytes leave for the upstream.
        on_connected: called with the seconds a new connection took.
        on_usage_refused: called when the upstream accepts the request only without the usage option.
        now: the wall clock, for HTTP dates.
    """

    upstream: Upstream
    transport: Transport
    request: ChatRequest
    headers: Headers
    deadline: float
    ask_usage: bool
    placement: Placement
    on_leaving: Callable[[], None] = lambda: None
    on_sent: Callable[[], None] = lambda: None
    on_connected: Callable[[float], None] = lambda _seconds: None
    on_usage_refused: Callable[[], None] = lambda: None
    now: Callable[[], datetime] = field(default=_utc_now)

    @property
    def limits(self) -> Limits:
        """The limits of this upstream."""
        return self.upstream.limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A whole JSON answer, as the upstream sent it."""

    status: int
    headers: Headers
    body: bytes
    answer: Answer


async def fetch_answer(call: Call) -> Answered:
    """Get a whole JSON answer within `answer_seconds`.

    Raises:
        AttemptFailedError: anything else; the connection is closed by then.
    """
    loop = asyncio.get_running_loop()
    status = None
    try:
        async with asyncio.timeout_at(min(call.deadline, loop.time() + call.limits.answer_seconds)):
            response = await _accepted(call, include_usage=False)
            status = response.status
            try:
                body = await _whole_body(response, max_bytes=call.limits.max_response_bytes)
            finally:
                await response.aclose()
    except TimeoutError:
        raise AttemptFailedError(Fault(outcome=AttemptOutcome.ANSWER_TIMEOUT, status=status)) from None
    return Answered(status=response.status, headers=response.headers, body=body, answer=_checked(body, response.status))


def _checked(body: bytes, status: int) -> Answer:
    try:
        answer = read_answer(body)
    except MalformedAnswerError:
        raise AttemptFailedError(Fault(outcome=AttemptOutcome.INVALID_RESPONSE, status=status)) from None
    if answer.has_choices:
        return answer
    # A 200 that holds an error object and no choices is an error that forgot its status.
    outcome = AttemptOutcome.UPSTREAM_ERROR if answer.is_error else AttemptOutcome.INVALID_RESPONSE
    raise AttemptFailedError(Fault(outcome=outcome, status=status))


async def _accepted(call: Call, *, include_usage: bool) -> Response:
    """Send and return a 2xx response; every other answer is read as far as needed, closed and raised."""
    response = await _sent(call, include_usage=include_usage)
    resent = include_usage and response.status in _USAGE_REFUSALS
    if resent:
        # The option was ours, not the caller's: the same upstream gets the request once more without it.
        await response.aclose()
        response = await _sent(call, include_usage=False)
    try:
        fault = await _fault_of(call, response)
    except BaseException:
        await response.aclose()
        raise
    if fault is not None:
        await response.aclose()
        raise AttemptFailedError(fault)
    if resent:
        call.on_usage_refused()
    return response


async def _sent(call: Call, *, include_usage: bool) -> Response:
    body = outgoing_body(
        call.request,
        upstream_model=call.upstream.upstream_names.get(call.request.model),
        include_usage=include_usage,
    )
    call.on_leaving()
    return await call.transport.send(
        UpstreamRequest(
            method="POST",
            path="/chat/completions",
            headers=call.headers,
            body=body,
            on_sent=call.on_sent,
            on_connected=call.on_connected,
        )
    )


async def _fault_of(call: Call, response: Response) -> Fault | None:
    retry_after = retry_after_seconds(response.headers, now=call.now())
    outcome = outcome_of_status(
        response.status,
        auth=call.upstream.auth,
        has_retry_after=header_value(response.headers, b"retry-after") is not None,
    )
    if outcome is AttemptOutcome.SUCCESS:
        return None
    message = None
    if outcome is AttemptOutcome.CALLER_ERROR:
        message = upstream_message(response.status, await _error_body(response))
    return Fault(outcome=outcome, status=response.status, retry_after=retry_after, message=message)


async def _error_body(response: Response) -> bytes:
    try:
        async with asyncio.timeout(_ERROR_SECONDS):
            return await _whole_body(response, max_bytes=_MAX_ERROR_BYTES)
    except (AttemptFailedError, TimeoutError):
        return b""  # its status says enough; the words of a broken error body are not worth an attempt


async def _whole_body(response: Response, *, max_bytes: int) -> bytes:
    decoder = BodyDecoder(_encoding(response), max_bytes=max_bytes)
    parts = bytearray()
    try:
        async for data in response.chunks():
            parts += decoder.feed(data)
        decoder.finish()
    except (TooLargeError, DecodingError):
        raise _invalid(response) from None
    return bytes(parts)


def _encoding(response: Response) -> bytes:
    encoding = (header_value(response.headers, b"content-encoding") or b"").strip().lower()
    if not is_known_encoding(encoding):
        raise _invalid(response)
    return encoding


def _invalid(response: Response) -> AttemptFailedError:
    return AttemptFailedError(Fault(outcome=AttemptOutcome.INVALID_RESPONSE, status=response.status))


async def open_stream(call: Call) -> StreamedAnswer:
    """Open a stream and read on until its first content-bearing event, within `first_byte_seconds`.

    Raises:
        AttemptFailedError: no content came; the connection is closed by then.
    """
    loop = asyncio.get_running_loop()
    adds_usage = call.ask_usage and not call.request.include_usage
    status = None
    try:
        async with asyncio.timeout_at(min(call.deadline, loop.time() + call.limits.first_byte_seconds)):
            response = await _accepted(call, include_usage=adds_usage)
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
        headers: the upstream's.
        stream: what was read of it so far.
        fault: how it ended when it did not end well; None while it runs and after a clean end.
    """

    def __init__(self, call: Call, response: Response) -> None:
        content_type = (header_value(response.headers, b"content-type") or b"").lower()
        if not content_type.startswith(b"text/event-stream"):
            raise _invalid(response)
        self.status = response.status
        self.headers = response.headers
        self.fault: Fault | None = None
        self.stream = AnswerStream(
            choices=call.request.choices,
            include_usage=call.request.include_usage,
            max_frame_bytes=call.limits.max_frame_bytes,
            placement=call.placement,
        )
        self._call = call
        self._response = response
        self._decoder = StreamDecoder(_encoding(response))
        self._chunks = response.chunks()
        self._pieces: Iterator[bytes] = iter(())
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
        if self._head:
            head, self._head = self._head, b""
            return head
        loop = asyncio.get_running_loop()
        seen, idle_until = -1, 0.0
        while not self._ended:
            if self.stream.frames != seen:  # any frame is a sign of life, also one that is not for the caller
                seen, idle_until = self.stream.frames, loop.time() + self._call.limits.idle_seconds
            try:
                async with asyncio.timeout_at(self._until(idle_until)):
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
        close = getattr(self._chunks, "aclose", None)
        if close is not None:  # a generator left half-way is ended here, not by the collector in a task of its own
            with contextlib.suppress(RuntimeError):  # somebody still reads: the closed connection ends that
                await close()

    async def _read(self) -> bytes | None:
        """Return the next bytes of the stream, decoded; None at the upstream's end."""
        try:
            while (piece := next(self._pieces, None)) is None:
                data = await anext(self._chunks, None)
                if data is None:
                    return None
                self._pieces = self._decoder.pieces(data)
        except DecodingError:
            raise _invalid(self._response) from None
        return piece

    def _taken(self, data: bytes | None) -> bytes:
        """Feed what came (None: the upstream's end) and note how the stream stands after it."""
        part = self.stream.ended_by_upstream() if data is None else self.stream.feed(data)
        if self.stream.error is not None:
            self._end(Fault(outcome=AttemptOutcome.UPSTREAM_ERROR, status=self.status))
        elif self.stream.broken:
            self._end(Fault(outcome=AttemptOutcome.INVALID_RESPONSE, status=self.status))
        elif data is None or (self.stream.done and not self.stream.complete):
            self._end(None if self.stream.complete else Fault(outcome=AttemptOutcome.UPSTREAM_CUT, status=self.status))
        # After a good `[DONE]` the upstream's end is still read, within the hold: else no connection would serve twice.
        return part

    def _is_whole_despite(self, fault: Fault) -> bool:
        """Whether the answer was whole when the connection broke: only its end, or the usage, is missing."""
        return self.stream.complete and (self.stream.done or fault.outcome is AttemptOutcome.UPSTREAM_CUT)

    def _until(self, idle_until: float) -> float:
        if not self.stream.finished and not self.stream.done:
            return min(self._call.deadline, idle_until)
        if self._held_for != self.stream.bearing:  # an answer that goes on after its finish reason has not ended
            self._held_for = self.stream.bearing
            self._hold_until = asyncio.get_running_loop().time() + self._call.limits.finish_hold_seconds
        return min(self._call.deadline, self._hold_until)

    def _end_at_limit(self) -> None:
        if self._ended:
            return
        over = asyncio.get_running_loop().time() >= self._call.deadline
        outcome = AttemptOutcome.ANSWER_TIMEOUT if over else AttemptOutcome.IDLE_TIMEOUT
        # After the finish reason the answer is whole: what the hold waited for was only the usage and the end.
        self._end(None if self.stream.complete else Fault(outcome=outcome, status=self.status))

    def _end(self, fault: Fault | None) -> None:
        self._ended = True
        self.fault = fault
