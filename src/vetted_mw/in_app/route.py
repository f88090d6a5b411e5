"""In-app mode's route: the handler's own chat call, sent where the outer request was decided to go."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING

import httpx
import msgspec

from vetted_mw.chat.request import parse_request
from vetted_mw.chat.response import error_envelope, retry_headers
from vetted_mw.chat.sse import Placement
from vetted_mw.completion.completion import Completion
from vetted_mw.completion.sealing import require_ledger
from vetted_mw.completion.told import told_headers, told_trace
from vetted_mw.errors import (
    AnswerError,
    ConflictingOptionsError,
    NoRegionAvailableError,
    RouteError,
)
from vetted_mw.in_app.account import RouteAccount
from vetted_mw.in_app.presence import Presence
from vetted_mw.in_app.report import report_of
from vetted_mw.in_app.stream import CallStream
from vetted_mw.proxy.headers import header_value, outgoing_headers, returning_headers
from vetted_mw.routing.decision import DecisionReason, RoutePolicy, Settled, as_decided, has_left, settle
from vetted_mw.routing.options import Options, parse_options
from vetted_mw.routing.refusal import refusal_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from vetted_mw.chat.request import ChatRequest
    from vetted_mw.completion.asked import Asked
    from vetted_mw.configuration import Configuration
    from vetted_mw.core import Core
    from vetted_mw.proxy.headers import Headers
    from vetted_mw.routing.decision import AttemptRecord, Decision, Rules

__all__ = ["CURRENT", "Route", "current_route"]

CURRENT: ContextVar[Route | None] = ContextVar("vetted_mw_route", default=None)


def current_route() -> Route | None:
    """Return the route of the request being answered, None outside one or after its answer ended."""
    route = CURRENT.get()
    return None if route is None or route.closed else route


class Route:
    """Where the current request's chat calls go; `scope["state"]["vetted"]` in in-app mode.

    When the caller leaves, the calls in flight are cancelled, their upstreams' connections closed, and later calls are
    refused: a handler that works on has nobody to work for.

    Args:
        core: the gateway's rooms.
        asked: the outer request, and where it may go.
        rules: the operator's as narrowed for the caller.
        overhead_ms: spent in us before the handler.
        look_out: called with what is to be called when the caller leaves, whenever a call begins.

    Attributes:
        decision: the one decision of the outer request.
        closed: True once the answer has ended; every later call is refused.
        account: what the handler used, and the receipt of its answer.
    """

    def __init__(
        self,
        core: Core,
        asked: Asked,
        *,
        rules: Rules,
        look_out: Callable[[Callable[[], None]], None],
        overhead_ms: float = 0.0,
    ) -> None:
        self.decision = asked.decision
        self.closed = False
        self._presence = Presence(lambda: look_out(self.caller_left))
        self._streams: list[CallStream] = []
        self._parting: asyncio.Task[None] | None = None
        self._overhead_ms = overhead_ms
        self._refusal: AnswerError | None = None
        self._core = core
        self._asked = asked
        self._request = asked.request
        self._options = asked.options
        self._inbound = asked.inbound
        self._rules = rules
        self.account = RouteAccount(core, asked, region=lambda: self.region)
        self._served: str | None = None
        self._first = asyncio.Lock()

    @property
    def configuration(self) -> Configuration:
        """The settings the outer request came in under; a reload meanwhile changes nothing for it."""
        return self._core.configuration

    @property
    def choices(self) -> int:
        """How many choices the outer request asked for."""
        return self._request.choices

    @property
    def region(self) -> str:
        """The region that served the first call, or the one the decision puts first."""
        return self._served or self.decision.order[0]

    @property
    def base_url(self) -> str:
        """That region's OpenAI base URL, for a handler with a client of its own."""
        return self._core.configuration.upstreams[self.region].base_url

    @property
    def headers(self) -> dict[str, str]:
        """What such a client must send along: the region's key. Never log it."""
        upstream = self._core.configuration.upstreams[self.region]
        value = header_value(outgoing_headers(self._inbound, upstream=upstream, forward=frozenset()), b"authorization")
        return {} if value is None else {"authorization": value.decode("latin-1")}

    def record(self, *, usage: Mapping[str, int], model: str | None = None) -> None:
        """Tell what a call with a client of your own used; the receipt then says `usage_source: reported`.

        Args:
            usage: `prompt_tokens`, `completion_tokens` and optionally `cached_tokens`, each >= 0.
            model: the model that ran; the outer request's when not given.

        Raises:
            RouteError: the answer has ended, or a count is missing or cannot be one.
        """
        if self.closed:
            raise RouteError("The answer has ended. Call record() before its last byte is sent.")
        self.account.reports.append(report_of(usage, model=model or self._request.model))

    @property
    def overhead_ms(self) -> float:
        """Milliseconds spent in us, before the handler and in its calls."""
        return self._overhead_ms + sum(call.overhead_ms for call in self.account.calls)

    @property
    def sent(self) -> int:
        """Requests that left for upstreams."""
        return sum(call.attempts.sent for call in self.account.calls)

    @property
    def has_left(self) -> bool:
        """Whether the caller of the outer request was seen to leave."""
        return self._presence.left

    @property
    def failure(self) -> AnswerError | None:
        """What the handler's latest call was told when it failed; None when it went well, or there was none."""
        return self._refusal or (self.account.calls[-1].failure if self.account.calls else None)

    async def send(self, body: bytes, headers: Headers) -> httpx.Response:
        """Send one chat call of the handler to this route and return the upstream's bare answer.

        An error of ours comes back as an HTTP answer in OpenAI's envelope, as it would from any server.
        """
        self._refusal = None
        try:
            return await self._sent(body, headers)
        except AnswerError as error:
            self._refusal = error
            headers = [(b"content-type", b"application/json"), *retry_headers(error)]
            return httpx.Response(error.status, headers=headers, content=error_envelope(error))

    async def _sent(self, body: bytes, headers: Headers) -> httpx.Response:
        request = parse_request(body)
        self._check_options(request, headers)
        with self._presence.needed():
            if self._served is not None:
                return await self._served_by(request, headers)
            async with self._first:  # a second call waits here until the first has shown which region serves
                return await self._served_by(request, headers)

    async def _served_by(self, request: ChatRequest, headers: Headers) -> httpx.Response:
        self._require_unanswered()
        await require_ledger(self._core)  # it may have failed since the outer request was let in
        completion = self._completion(request, headers)
        self.account.calls.append(completion)
        try:
            answer = await (self._stream(completion) if request.stream else self._json(completion))
            if request.stream:
                self._require_unanswered()
        except BaseException as error:
            if isinstance(error, Exception):
                completion.failed_by(error)
            await completion.aclose()
            raise
        finally:
            if self.closed:
                self.account.keep_late(completion)
        self._served = self._served or completion.attempts.serving
        return answer

    def _require_unanswered(self) -> None:
        """Refuse what began before the answer ended, and would send or be read after it.

        Raises:
            RouteError: the answer has ended.
        """
        if self.closed:
            raise RouteError("The answer has ended. Wait for your calls before its last byte is sent.")

    def _completion(self, request: ChatRequest, headers: Headers) -> Completion:
        decision, order = self._where(request.model)
        return Completion(
            self._core,
            msgspec.structs.replace(self._asked, request=request, decision=decision, inbound=self._with_outer(headers)),
            placement=Placement.OFF,
            order=order,
            bare=True,
        )

    def _where(self, model: str) -> tuple[Decision, tuple[str, ...] | None]:
        """Say where the next call goes: as decided (None), or where the first was served, if that still can serve."""
        if self._served is None:
            decision = self.decision
            if self.account.calls or model != self._request.model:
                decision = self._core.decide(self._options, model, self._rules)
            return decision, None
        stay = replace(self._options, region=self._served, secondary_region=None, routing=None)
        still = self._core.decide(stay, model, self._rules)
        if not still.order:
            raise self._cannot_stay(still, stay)
        return self._told_decision(), still.order

    def _cannot_stay(self, still: Decision, stay: Options) -> AnswerError:
        if self.decision.policy is RoutePolicy.PINNED or still.reason is DecisionReason.MODEL_NOT_AVAILABLE:
            return refusal_for(still, (), options=stay)
        return NoRegionAvailableError(
            "The region that served this request's first call cannot serve now.", retry_after=still.retry_after
        )

    def _with_outer(self, headers: Headers) -> Headers:
        """Give a call what is the outer request's: its key, never the SDK's placeholder."""
        kept = [(name, value) for name, value in headers if name != b"authorization"]
        key = header_value(self._inbound, b"authorization")
        return kept if key is None else [*kept, (b"authorization", key)]

    def _check_options(self, request: ChatRequest, headers: Headers) -> None:
        own = parse_options(request.vetted_members, headers, regions=self._core.configuration.regions)
        if own not in {Options(), self._options}:
            raise ConflictingOptionsError(
                "Routing options belong on the request that reaches the gateway, not on the handler's own call.",
                param="vetted",
            )

    async def _json(self, completion: Completion) -> httpx.Response:
        answered = await completion.answer()
        await completion.aclose()
        length = (b"content-length", str(len(answered.body)).encode())
        headers = [*returning_headers(answered.headers), length]
        return httpx.Response(answered.status, headers=headers, stream=httpx.ByteStream(answered.body))

    async def _stream(self, completion: Completion) -> httpx.Response:
        status, headers = await completion.open()
        stream = CallStream(completion, self._presence)
        self._streams.append(stream)
        return httpx.Response(status, headers=returning_headers(headers), stream=stream)

    # ---- what the answer tells

    def members(self) -> dict[str, bytes]:
        """Encode receipt and trace of what was observed; call it after `account.seal`."""
        receipted = self.account.receipted
        if receipted is None:
            message = "account.seal() comes before members()"
            raise RuntimeError(message)
        trace = told_trace(self._core, self._told_decision(), self.settled(), self.attempts(), receipted)
        return {self._core.configuration.receipt_key: receipted.encoded(), "routing_trace": trace}

    def attempts(self) -> Sequence[AttemptRecord]:
        """Every attempt of every call, in order."""
        return [record for call in self.account.told_calls for record in call.attempts.records]

    def settled(self) -> Settled:
        """What happened, with no region claimed that did not serve."""
        regions = {call.attempts.serving for call in self.account.told_calls if call.attempts.serving is not None}
        if self.account.reports:
            regions.add(self.region)
        attempts = self.attempts()
        if len(regions) > 1 or (not regions and (not attempts or has_left(attempts))):
            return as_decided(self.decision)
        return settle(self._told_decision(), attempts, serving=next(iter(regions), None))

    def headers_told(self) -> Headers:
        """The `x-vetted-*` headers as far as they are known now, when the handler starts its answer."""
        receipt = None if self.account.receipted is None else self.account.receipted.receipt
        return told_headers(
            self.settled(),
            sent=self.sent,
            overhead_ms=self.overhead_ms,
            receipt_id=None if receipt is None else receipt.query_id,
        )

    async def aclose(self) -> None:
        """End the route: later calls are refused, and what a handler left open is closed."""
        self.closed = True
        for call in self.account.calls:
            await call.aclose()
        if self._parting is not None:
            await asyncio.wait([self._parting])

    def caller_left(self) -> None:
        """End every call in flight: nobody waits for the answer any more."""
        if not self.closed:
            self._presence.leave()
            self._parting = asyncio.ensure_future(self._close_streams())

    async def _close_streams(self) -> None:
        for stream in self._streams:
            if not stream.is_reading:  # whoever reads is cancelled and closes it
                await stream.aclose()

    def _told_decision(self) -> Decision:
        served = [call.decision for call in self.account.told_calls if call.attempts.serving is not None]
        return served[0] if served else self.decision
