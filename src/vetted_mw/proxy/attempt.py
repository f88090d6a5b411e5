"""One attempt: send a completion to one upstream and hand back a whole JSON answer; a stream goes on in `streamed`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vetted_mw.chat.request import ChatRequest, outgoing_body
from vetted_mw.chat.response import MalformedAnswerError, read_answer, upstream_message
from vetted_mw.deadlines import Limit
from vetted_mw.proxy.decoding import BodyDecoder, DecodingError, TooLargeError, is_identity, is_known_encoding
from vetted_mw.proxy.headers import Headers, header_value
from vetted_mw.proxy.outcome import AttemptFailedError, Fault, is_success, outcome_of_status, retry_after_seconds
from vetted_mw.proxy.transport import Response, Transport, UpstreamRequest
from vetted_mw.routing.decision import AttemptOutcome

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from datetime import datetime

    from vetted_mw.chat.response import Answer
    from vetted_mw.chat.sse import Placement
    from vetted_mw.configuration import Limits, Upstream

__all__ = ["Answered", "Call", "accepted", "encoding_of", "fetch_answer", "invalid"]

_MAX_ERROR_BYTES = 65_536
_ERROR_SECONDS = 5.0
_USAGE_REFUSALS = frozenset({400, 422})


class Call(msgspec.Struct, kw_only=True, eq=False):
    """One chat completion on its way to one upstream, and how far it has come.

    Whoever sends it hears of more by the methods `on_...`: they are called by its transport and its task, from the
    event loop only, and return at once.

    Attributes:
        upstream: where it goes.
        transport: its door.
        request: what the caller asked.
        deadline: event-loop time at which the whole request must be over.
        loop: the event loop it is sent in.
        now: returns the instant on the wall clock, for HTTP dates.
        ask_usage: whether `stream_options.include_usage` is added when the caller did not ask.
        placement: where the stream will carry the members.
        nonce: what the digest of a stream's content is keyed with; None: none is made.
        headers: complete, with our key and trace context.
        status: of what came back; None before.
        is_sent: whether its first bytes have left for the upstream.
    """

    upstream: Upstream
    transport: Transport
    request: ChatRequest
    deadline: float
    loop: asyncio.AbstractEventLoop
    now: Callable[[], datetime]
    ask_usage: bool
    placement: Placement
    nonce: bytes | None = None
    headers: Headers = []
    status: int | None = None
    is_sent: bool = False

    @property
    def limits(self) -> Limits:
        """The limits of this upstream."""
        return self.upstream.limits

    def on_leaving(self) -> None:
        """Hear that the request goes to the transport now."""

    def on_sent(self) -> None:
        """Note that its first bytes leave for the upstream."""
        self.is_sent = True

    def on_connected(self, seconds: float) -> None:
        """Hear how many seconds a new connection took."""

    def on_usage_refused(self) -> None:
        """Hear that the upstream accepts the request only without the usage option."""


class Answered(msgspec.Struct, frozen=True, kw_only=True):
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
    limits, loop = call.upstream.limits, call.loop
    status = None
    try:
        with Limit(min(call.deadline, loop.time() + limits.answer_seconds), loop):
            response = await call.transport.send(_leaving(call, include_usage=False))
            status = call.status = response.status
            try:
                if not is_success(status):
                    raise AttemptFailedError(await _fault_of(call, response))
                body = await _whole_body(response, max_bytes=limits.max_response_bytes)
            finally:
                await response.aclose()
    except TimeoutError:
        raise AttemptFailedError(Fault(outcome=AttemptOutcome.ANSWER_TIMEOUT, status=status)) from None
    return Answered(status=status, headers=response.headers, body=body, answer=_checked(body, status))


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
    response = await call.transport.send(_leaving(call, include_usage=include_usage))
    resent = include_usage and response.status in _USAGE_REFUSALS
    if resent:
        # The option was ours, not the caller's: the same upstream gets the request once more without it.
        await response.aclose()
        response = await call.transport.send(_leaving(call, include_usage=False))
    call.status = response.status
    if not is_success(response.status):
        try:
            fault = await _fault_of(call, response)
        finally:
            await response.aclose()
        raise AttemptFailedError(fault)
    if resent:
        call.on_usage_refused()
    return response


def _leaving(call: Call, *, include_usage: bool) -> UpstreamRequest:
    """Write the request, which goes to the transport now."""
    upstream, request = call.upstream, call.request
    body = outgoing_body(
        request, upstream_model=upstream.upstream_names.get(request.model), include_usage=include_usage
    )
    call.on_leaving()
    return UpstreamRequest(
        method="POST",
        path="/chat/completions",
        headers=call.headers,
        body=body,
        on_sent=call.on_sent,
        on_connected=call.on_connected,
        loop=call.loop,
    )


async def _fault_of(call: Call, response: Response) -> Fault:
    retry_after = retry_after_seconds(response.headers, now=call.now())
    outcome = outcome_of_status(
        response.status,
        auth=call.upstream.auth,
        has_retry_after=header_value(response.headers, b"retry-after") is not None,
    )
    message = None
    if outcome is AttemptOutcome.CALLER_ERROR:
        message = upstream_message(response.status, await _error_body(response, call.loop))
    return Fault(outcome=outcome, status=response.status, retry_after=retry_after, message=message)


async def _error_body(response: Response, loop: asyncio.AbstractEventLoop) -> bytes:
    try:
        with Limit(loop.time() + _ERROR_SECONDS, loop):
            return await _whole_body(response, max_bytes=_MAX_ERROR_BYTES)
    except (AttemptFailedError, TimeoutError):
        return b""  # its status says enough; the words of a broken error body are not worth an attempt


async def _whole_body(response: Response, *, max_bytes: int) -> bytes:
    encoding = encoding_of(response)
    decoder = None if not encoding or is_identity(encoding) else BodyDecoder(encoding, max_bytes=max_bytes)
    parts: list[bytes] = []
    left = max_bytes
    try:
        while data := await response.read():
            parts.append(data if decoder is None else decoder.feed(data))
            left -= len(parts[-1])
            if left < 0:
                raise TooLargeError  # noqa: TRY301 (as the decoder does, without a call for each part)
        if decoder is not None:
            decoder.finish()
    except (TooLargeError, DecodingError):
        raise invalid(response) from None
    return parts[0] if len(parts) == 1 else b"".join(parts)


def encoding_of(response: Response) -> bytes:
    """Return the content encoding of an answer; raises where it is none that we can undo."""
    encoding = header_value(response.headers, b"content-encoding")
    if encoding is None:
        return b""
    encoding = encoding.strip().lower()
    if not is_known_encoding(encoding):
        raise invalid(response)
    return encoding


def invalid(response: Response) -> AttemptFailedError:
    """Return the failure of an attempt whose answer is none."""
    return AttemptFailedError(Fault(outcome=AttemptOutcome.INVALID_RESPONSE, status=response.status))
