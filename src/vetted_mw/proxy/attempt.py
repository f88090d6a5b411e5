"""One attempt: send, classify, and hand back a whole JSON answer; a stream goes on in `streamed`."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from vetted_mw.chat.request import ChatRequest, outgoing_body
from vetted_mw.chat.response import MalformedAnswerError, read_answer, upstream_message
from vetted_mw.proxy.decoding import BodyDecoder, DecodingError, TooLargeError, is_known_encoding
from vetted_mw.proxy.headers import Headers, header_value
from vetted_mw.proxy.outcome import AttemptFailedError, Fault, outcome_of_status, retry_after_seconds
from vetted_mw.proxy.transport import Response, Transport, UpstreamRequest
from vetted_mw.routing.decision import AttemptOutcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from vetted_mw.chat.response import Answer
    from vetted_mw.chat.sse import Placement
    from vetted_mw.configuration import Limits, Upstream

__all__ = ["Answered", "Call", "accepted", "encoding_of", "fetch_answer", "invalid"]

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
        nonce: what the digest of a stream's content is keyed with; None: none is made.
        on_leaving: called just before the request goes to the transport.
        on_sent: called when its first bytes leave for the upstream.
        on_head: called with the status of what came back.
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
    nonce: bytes | None = None
    on_leaving: Callable[[], None] = lambda: None
    on_sent: Callable[[], None] = lambda: None
    on_head: Callable[[int], None] = lambda _status: None
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
            response = await accepted(call, include_usage=False)
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
    if answer.is_answer:
        return answer
    # A 200 that holds an error object and no choices is an error that forgot its status.
    outcome = AttemptOutcome.UPSTREAM_ERROR if answer.is_error else AttemptOutcome.INVALID_RESPONSE
    raise AttemptFailedError(Fault(outcome=outcome, status=status))


async def accepted(call: Call, *, include_usage: bool) -> Response:
    """Send and return a 2xx response; every other answer is read as far as needed, closed and raised."""
    response = await _sent(call, include_usage=include_usage)
    resent = include_usage and response.status in _USAGE_REFUSALS
    if resent:
        # The option was ours, not the caller's: the same upstream gets the request once more without it.
        await response.aclose()
        response = await _sent(call, include_usage=False)
    call.on_head(response.status)
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
    decoder = BodyDecoder(encoding_of(response), max_bytes=max_bytes)
    parts = bytearray()
    try:
        async for data in response.chunks():
            parts += decoder.feed(data)
        decoder.finish()
    except (TooLargeError, DecodingError):
        raise invalid(response) from None
    return bytes(parts)


def encoding_of(response: Response) -> bytes:
    """Return the content encoding of an answer; raises where it is none that we can undo."""
    encoding = (header_value(response.headers, b"content-encoding") or b"").strip().lower()
    if not is_known_encoding(encoding):
        raise invalid(response)
    return encoding


def invalid(response: Response) -> AttemptFailedError:
    """Return the failure of an attempt whose answer is none."""
    return AttemptFailedError(Fault(outcome=AttemptOutcome.INVALID_RESPONSE, status=response.status))
