"""Turn request, answer, trace and receipt into span attributes: numbers, closed words, known names and ids. Pure."""

from __future__ import annotations

import functools
import re
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from vetted_mw.routing.trace import told_signal
from vetted_mw.telemetry import names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.util.types import AttributeValue

    from vetted_mw.chat.request import ChatRequest
    from vetted_mw.chat.response import Answer
    from vetted_mw.chat.sse import AnswerStream
    from vetted_mw.configuration import Upstream
    from vetted_mw.grid.signal import SignalReading
    from vetted_mw.receipts.receipt import Receipt
    from vetted_mw.routing.regions import Region
    from vetted_mw.routing.values import DecisionMode, DecisionReason, RoutePolicy

__all__ = [
    "answer_attributes",
    "attempt_attributes",
    "decision_attributes",
    "receipt_attributes",
    "request_attributes",
    "server_attributes",
    "server_span_attributes",
    "signal_attributes",
]

_ID = re.compile(r"[A-Za-z0-9._:/-]{1,200}")
"""What an upstream gives as its id and does not look like one may be anybody's words."""
_RECEIPT_FIELDS = tuple((names.RECEIPT_PREFIX + field, field) for field in names.RECEIPT_FIELDS)


def request_attributes(request: ChatRequest) -> dict[str, AttributeValue]:
    """Return `gen_ai.request.*`: the numbers of the request, and that it wants a stream; absent ones are left out."""
    found: dict[str, AttributeValue] = {names.REQUEST_STREAM: True} if request.stream else {}
    numbers = {
        names.REQUEST_MAX_TOKENS: request.max_tokens,
        names.REQUEST_TEMPERATURE: request.temperature,
        names.REQUEST_TOP_P: request.top_p,
    }
    return found | {name: value for name, value in numbers.items() if value is not None}


def answer_attributes(answer: Answer | AnswerStream, *, model: str) -> dict[str, AttributeValue]:
    """Return `gen_ai.response.*` and `gen_ai.usage.*`; counts the upstream did not give are left out, never guessed.

    Args:
        answer: what was read of it.
        model: the name the upstream gave the model, already clamped to known ones.
    """
    found: dict[str, AttributeValue] = {names.RESPONSE_MODEL: model}
    if answer.id is not None and _ID.fullmatch(answer.id):
        found[names.RESPONSE_ID] = answer.id
    if answer.finish_reasons:
        found[names.RESPONSE_FINISH_REASONS] = [
            reason if reason in names.FINISH_REASONS else names.OTHER for reason in answer.finish_reasons
        ]
    if answer.usage is not None:
        found[names.INPUT_TOKENS] = answer.usage.prompt_tokens
        found[names.OUTPUT_TOKENS] = answer.usage.completion_tokens
    return found


@functools.lru_cache(maxsize=1024)
def server_attributes(base_url: str) -> Mapping[str, AttributeValue]:
    """Return address and port of an upstream; never its path or query."""
    url = urlsplit(base_url)
    port = url.port or (443 if url.scheme == "https" else 80)
    return MappingProxyType({names.SERVER_ADDRESS: url.hostname or "", names.SERVER_PORT: port})


def server_span_attributes(*, path: str, scheme: str) -> dict[str, AttributeValue]:
    """Return what is known of an HTTP request when its span starts: the configured path and the scheme."""
    return {
        names.HTTP_METHOD: "POST",
        names.HTTP_ROUTE: path,
        names.URL_PATH: path,
        names.URL_SCHEME: "https" if scheme == "https" else "http",
    }


def attempt_attributes(upstream: Upstream, region: Region, *, index: int) -> dict[str, AttributeValue]:
    """Return what is known of one try when it starts: where it goes, and the how-many-eth it is."""
    resent = {names.HTTP_RESEND_COUNT: index} if index else {}
    return {
        names.HTTP_METHOD: "POST",
        **resent,
        **server_attributes(upstream.base_url),
        names.URL_SCHEME: urlsplit(upstream.base_url).scheme,
        names.REGION: region.code,
        names.COUNTRY: region.country,
        names.ATTEMPT_INDEX: index,
    }


def receipt_attributes(receipt: Receipt) -> dict[str, AttributeValue]:
    """Return `vetted.receipt.*` for the fields dashboards show; the attribute's name is the field's path."""
    return {name: getattr(receipt, field) for name, field in _RECEIPT_FIELDS}


def decision_attributes(
    policy: RoutePolicy, mode: DecisionMode, reason: DecisionReason, operational: SignalReading | None
) -> dict[str, AttributeValue]:
    """Return `vetted.routing_trace.*` for what was decided, and the signal it was decided by."""
    found: dict[str, AttributeValue] = {
        names.ROUTE_POLICY: policy.value,
        names.DECISION_MODE: mode.value,
        names.DECISION_REASON: reason.value,
    }
    return found if operational is None else found | signal_attributes(names.OPERATIONAL_SIGNAL, operational)


def signal_attributes(member: str, reading: SignalReading) -> dict[str, AttributeValue]:
    """Return a signal's part of `vetted.routing_trace.*`, as the trace tells it.

    Args:
        member: of the trace.
        reading: what that member tells.
    """
    told = told_signal(reading)
    return {f"{names.TRACE_PREFIX}{member}.{field}": getattr(told, field) for field in names.SIGNAL_FIELDS}
