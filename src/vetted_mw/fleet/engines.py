"""Read an inference engine's queue out of its Prometheus page. Pure: bytes in, `EngineLoad` or None out.

Two gauges are wanted out of pages of up to hundreds of kilobytes, every few seconds, on the event loop. A parser of the
whole format would build every sample of every histogram to throw them away, so the wanted names are searched for and
only their lines are read.
"""

from __future__ import annotations

import re
from enum import StrEnum

import msgspec

__all__ = ["Engine", "EngineLoad", "read_engine_load"]


class Engine(StrEnum):
    """An inference engine whose metrics are known."""

    VLLM = "vllm"
    SGLANG = "sglang"
    LLAMA_CPP = "llama.cpp"
    TGI = "tgi"


class EngineLoad(msgspec.Struct, frozen=True, kw_only=True):
    """How busy an engine says it is.

    Attributes:
        engine: whose page it was.
        running: requests it computes.
        waiting: requests in its queue.
    """

    engine: Engine
    running: int
    waiting: int


_GAUGES: tuple[tuple[Engine, bytes, bytes], ...] = (
    (Engine.VLLM, b"vllm:num_requests_running", b"vllm:num_requests_waiting"),
    (Engine.SGLANG, b"sglang:num_running_reqs", b"sglang:num_queue_reqs"),
    (Engine.SGLANG, b"sglang_num_running_reqs", b"sglang_num_queue_reqs"),
    (Engine.LLAMA_CPP, b"llamacpp:requests_processing", b"llamacpp:requests_deferred"),
    (Engine.TGI, b"tgi_batch_current_size", b"tgi_queue_size"),
)
# What follows the name: labels, whose quoted values may hold anything, and the value. Possessive, so that it is linear.
_SAMPLE = re.compile(
    rb"""(?:[ \t]*+\{(?:[^"}]++|"(?:[^"\\]++|\\.)*+")*+\}[ \t]*+|[ \t]++)"""
    rb"""\+?(\d{1,20}(?:\.\d{0,20})?(?:[eE][+-]?\d{1,3})?)(?:[ \t\r].*+)?""",
    re.DOTALL,
)
_MOST_REQUESTS = 1_000_000_000.0


def read_engine_load(page: bytes) -> EngineLoad | None:
    """Return the load that a metrics page tells of; None when it has no pair of gauges that is known.

    Samples with several label sets (data-parallel engines, models) are summed; what is no count (NaN, infinite,
    negative) is passed over. An engine that shows each tensor-parallel rank as a label set of its own counts one
    request per rank. Never raises; time is linear in the page.
    """
    for engine, running_name, waiting_name in _GAUGES:
        running, waiting = _sum(page, running_name), _sum(page, waiting_name)
        if running is not None and waiting is not None:
            return EngineLoad(engine=engine, running=running, waiting=waiting)
    return None


def _sum(page: bytes, name: bytes) -> int | None:
    """Add up the samples of one gauge. Each line is looked at once: only its first hit can be its metric's name."""
    found: float | None = None
    start = 0
    while (hit := page.find(name, start)) >= 0:
        line = page.rfind(b"\n", start, hit) + 1 or start
        end = page.find(b"\n", hit)
        end = len(page) if end < 0 else end
        if not page[line:hit].strip(b" \t"):
            count = _count(page, hit + len(name), end)
            if count is not None:
                found = count if found is None else found + count
        start = end
    return None if found is None else round(min(found, _MOST_REQUESTS))


def _count(page: bytes, start: int, end: int) -> float | None:
    sample = _SAMPLE.fullmatch(page, start, end)
    count = None if sample is None else float(sample[1])
    return count if count is not None and count <= _MOST_REQUESTS else None
