"""One request as it was let in: what both modes hand on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from vetted_mw.chat.request import ChatRequest
    from vetted_mw.proxy.headers import Headers
    from vetted_mw.routing.decision import Decision
    from vetted_mw.routing.options import Options

__all__ = ["Asked"]


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """One chat completion that was asked for.

    Attributes:
        request: what the caller asked.
        options: how it asked for it to be routed.
        decision: where it may go.
        inbound: the request's headers, lower-case names; only listed ones leave.
        caller: whose receipts these are; empty where nobody asks.
        outer: holds the span of the HTTP request that its own spans belong under; None where nobody looks.
    """

    request: ChatRequest
    options: Options
    decision: Decision
    inbound: Headers
    caller: str = ""
    outer: Context | None = None
