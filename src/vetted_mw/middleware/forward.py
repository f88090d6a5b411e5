"""Forward mode: serve a chat completion through the chosen upstream; the wrapped app never sees it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from vetted_mw.asgi.intake import UntilCallerLeaves
from vetted_mw.chat.response import add_members
from vetted_mw.completion import Completion
from vetted_mw.middleware.responder import Responder
from vetted_mw.proxy.headers import returning_headers

if TYPE_CHECKING:
    from vetted_mw.core import Core
    from vetted_mw.proxy.headers import Headers

__all__ = ["ForwardResponder"]

_LOG = logging.getLogger("vetted_mw")
_STREAM_HEADERS: Headers = [(b"cache-control", b"no-transform"), (b"x-accel-buffering", b"no")]


class ForwardResponder(Responder):
    """Answers one chat completion itself."""

    _core: Core | None = None
    _completion: Completion | None = None

    async def serve(self, core: Core) -> None:
        """Decide, forward, and send what came with receipt and trace."""
        _body, request, options, _rules, decision = await self.taken_in(core)
        self._core = core
        self._completion = completion = Completion(
            core,
            request=request,
            options=options,
            decision=decision,
            inbound=self.scope["headers"],
            placement=core.configuration.sse_placement,
        )
        try:
            async with UntilCallerLeaves(self.receive):
                await (self._stream(completion) if request.stream else self._json(completion))
        finally:
            await completion.aclose()

    def told(self) -> tuple[Headers, bytes | None]:
        """Return headers and trace once a decision was made."""
        completion = self._completion
        if completion is None:
            return [], None
        return self._headers(completion, receipt=False), completion.trace()

    async def _json(self, completion: Completion) -> None:
        answered = await completion.answer()
        edited = add_members(answered.body, completion.members())
        if edited.replaced:
            _LOG.warning(
                "the upstream's answer had a member of ours; it was replaced", extra={"members": edited.replaced}
            )
        has_receipt = completion.receipted().receipt is not None
        headers = returning_headers(answered.headers) + self._headers(completion, receipt=has_receipt)
        await self.sender.whole(answered.status, headers, edited.body)

    async def _stream(self, completion: Completion) -> None:
        streamed = await completion.open()
        returned = [pair for pair in returning_headers(streamed.headers) if pair[0] != b"cache-control"]
        await self.sender.start(
            streamed.status, [*returned, *_STREAM_HEADERS, *self._headers(completion, receipt=True)]
        )
        while (part := await completion.next_part()) is not None:
            await self.sender.body(part, more=True)
        await self.sender.body(b"", more=False)

    def _headers(self, completion: Completion, *, receipt: bool) -> Headers:
        if self._core is None:
            return []
        attempts = completion.attempts
        overhead = self.overhead_ms(self._core, until=attempts.last_sent, waited=attempts.waited)
        return completion.headers(overhead_ms=overhead, receipt=receipt)
