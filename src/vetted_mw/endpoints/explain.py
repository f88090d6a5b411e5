"""What a request would be answered by, without sending it anywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vetted_mw.asgi.intake import read_body
from vetted_mw.chat.request import parse_request
from vetted_mw.chat.response import error_envelope
from vetted_mw.routing.decision import Settled, check_policy
from vetted_mw.routing.options import parse_options
from vetted_mw.routing.refusal import refusal_for
from vetted_mw.routing.trace import build_trace, encode_trace

if TYPE_CHECKING:
    from vetted_mw.chat.request import ChatRequest
    from vetted_mw.core import Core
    from vetted_mw.endpoints.endpoint import Asked
    from vetted_mw.routing.decision import Rules
    from vetted_mw.routing.options import Options

__all__ = ["explain", "explained"]


async def explain(asked: Asked) -> dict[str, object]:
    """Read a completion's body and headers, and tell the decision it would get.

    Raises:
        AnswerError: the request is malformed or outside policy.
        CallerLeftError: the caller went away meanwhile.
    """
    configuration = asked.core.configuration
    body = await read_body(asked.inflow, configuration.limits)
    chat = parse_request(body.content)
    options = parse_options(chat.vetted_members, asked.scope["headers"], regions=configuration.regions)
    return explained(asked.core, chat, options, asked.rules)


def explained(core: Core, chat: ChatRequest, options: Options, rules: Rules) -> dict[str, object]:
    """Return the decision a request would get, without calling an upstream.

    Raises:
        AnswerError: policy forbids the request.
    """
    check_policy(options, rules, core.configuration.regions)
    decision = core.decide(options, chat.model, rules)
    first = decision.order[0] if decision.order else None
    operational = decision.reading(first) if first is not None and first in decision.live else None
    settled = Settled(mode=decision.mode, reason=decision.reason, region=first, operational=operational)
    trace = build_trace(decision, settled, (), receipt_signal=None)
    told: dict[str, object] = {"order": list(decision.order), "routing_trace": msgspec.json.decode(encode_trace(trace))}
    if not decision.order:
        told |= msgspec.json.decode(error_envelope(refusal_for(decision, (), options=options)))
    return told
