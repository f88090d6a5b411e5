"""What stands beside a receipt in an answer and is not signed, held against what is. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

from vetted_mw.audit.verify.findings import shown
from vetted_mw.chat.counts import Usage, read_usage
from vetted_mw.chat.sse import AnswerStream
from vetted_mw.instants import parse_rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Fault", "answer_faults", "stream_faults", "trace_faults"]

_TOLERANCE = 1e-5
_SECONDS = 0.001
_MANY = 1_000_000
_SIGNAL = {
    "source": "grid_intensity_source",
    "gco2_per_kwh": "grid_intensity_gco2_per_kwh",
    "observed_at": "grid_intensity_observed_at",
    "requested_at": "grid_intensity_requested_at",
    "age_minutes": "grid_intensity_age_minutes",
    "temporal_match": "grid_temporal_match",
}
_INSTANTS = ("observed_at", "requested_at")
_COMPARISON = {"region": "default_region", "gco2e": "default_region_gco2e"}


class Fault(NamedTuple):
    """Something that is told otherwise than the signed receipt has it.

    Attributes:
        text: what, in words.
        is_sure: False where an honest answer may be so.
    """

    text: str
    is_sure: bool = True


def trace_faults(trace: object, receipt: Mapping[str, Any]) -> Iterator[Fault]:
    """Say what `routing_trace` tells otherwise than the signed receipt; what it leaves out is no fault.

    Args:
        trace: as it stands in the answer.
        receipt: the receipt beside it.
    """
    if isinstance(trace, Mapping):
        yield from map(Fault, _trace_faults(trace, receipt))


def _trace_faults(trace: Mapping[str, Any], receipt: Mapping[str, Any]) -> Iterator[str]:
    if "region" in trace and trace["region"] != receipt.get("region"):
        yield _told("routing_trace.region", trace["region"], "region", receipt)
    if "receipt_error" in trace:
        yield f"routing_trace.receipt_error is {shown(trace['receipt_error'])}, and there is a receipt"
    yield from _part_faults(trace, "receipt_signal", _SIGNAL, receipt)
    if trace.get("default_region") is None and "default_region" in trace:
        if receipt.get("default_region") is not None:
            yield _told("routing_trace.default_region", None, "default_region", receipt)
        return
    yield from _part_faults(trace, "default_region", _COMPARISON, receipt)
    yield from _difference_faults(trace.get("default_region"), receipt)


def answer_faults(answer: Mapping[str, Any], receipt: Mapping[str, Any]) -> Iterator[Fault]:
    """Say which of the upstream's own members are not those that the signed receipt names.

    An answer with another id than the upstream gave is an application's own, which may name and count as it likes; or
    somebody edited it. Nothing signed tells which.
    """
    usage = read_usage(answer.get("usage"))
    return _upstream_faults(model=answer.get("model"), id_=answer.get("id"), usage=usage, receipt=receipt)


def stream_faults(stream: bytes, receipt: Mapping[str, Any]) -> Iterator[Fault]:
    """Say the same of a saved stream, read as the gateway read it."""
    reader = AnswerStream(choices=_MANY, include_usage=True, max_frame_bytes=len(stream) + 1)
    reader.feed(stream)
    return _upstream_faults(model=reader.model, id_=reader.id, usage=reader.usage, receipt=receipt)


def _upstream_faults(*, model: object, id_: object, usage: Usage | None, receipt: Mapping[str, Any]) -> Iterator[Fault]:
    if receipt.get("usage_source") == "reported" or receipt.get("calls") != 1:
        return  # the answer is the application's own, made of calls that its receipt adds up
    # What an upstream calls by an endless name is null in the receipt.
    if isinstance(id_, str) and id_ and receipt.get("upstream_response_id") not in {id_, None}:
        what = "an application's own answer, or an edited one; its model and usage were not compared"
        yield Fault(f"{_told('id', id_, 'upstream_response_id', receipt)}: {what}", is_sure=False)
        return
    if isinstance(model, str) and model and receipt.get("upstream_model") not in {model, None}:
        yield Fault(_told("model", model, "upstream_model", receipt))
    if usage is None or receipt.get("usage_source") != "upstream":
        return
    counts = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "cached_tokens": usage.cached_tokens,
    }
    for name, count in counts.items():
        if count and count != receipt.get(name):  # what an upstream counts as 0 and is none was estimated
            yield Fault(_told(f"usage: {name}", count, name, receipt))


def _part_faults(
    trace: Mapping[str, Any], part: str, names: Mapping[str, str], receipt: Mapping[str, Any]
) -> Iterator[str]:
    if part not in trace:
        return
    told = trace[part]
    if not isinstance(told, Mapping):
        yield f"routing_trace.{part} is {shown(told)}, and the receipt has its figures"
        return
    for name, field in names.items():
        if name in told and not _is_same(name, told[name], receipt.get(field)):
            yield _told(f"routing_trace.{part}.{name}", told[name], field, receipt)


def _difference_faults(comparison: object, receipt: Mapping[str, Any]) -> Iterator[str]:
    if not isinstance(comparison, Mapping) or "lower_by_gco2e" not in comparison:
        return
    there, here, told = receipt.get("default_region_gco2e"), receipt.get("gco2e"), comparison["lower_by_gco2e"]
    if _is_number(there) and _is_number(here):
        difference = there - here
        allowed = _TOLERANCE * max(abs(there), abs(here))
        if not _is_number(told) or abs(told - difference) > allowed:
            yield (
                f"routing_trace.default_region.lower_by_gco2e is {shown(told)}, and the signed receipt gives "
                f"{difference:.6g}"
            )


def _is_same(name: str, told: object, signed: object) -> bool:
    if _is_number(told) and _is_number(signed):
        return math.isclose(told, signed, rel_tol=_TOLERANCE, abs_tol=1e-12)
    if name in _INSTANTS and isinstance(told, str) and isinstance(signed, str):
        try:
            return abs((parse_rfc3339(told) - parse_rfc3339(signed)).total_seconds()) <= _SECONDS
        except ValueError:
            return False
    return told == signed


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _told(name: str, told: object, field: str, receipt: Mapping[str, Any]) -> str:
    return f"{name} is {shown(told)}, and {field} in the signed receipt is {shown(receipt.get(field))}"
