"""What every request pays for in our own code, piece by piece, each of them in a loop between two marks.

`counted.counting` runs this file under valgrind, which notes at every mark how many instructions were executed since
the last. A mark is a call of getppid(2), which nothing else here makes.
"""

from __future__ import annotations

import functools
import gc
import itertools
import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from receipts.making import REQUESTED_AT, maker, observed
from vetted_mw.chat.answer import read_answer
from vetted_mw.chat.request import parse_request
from vetted_mw.chat.response import add_members
from vetted_mw.chat.sse import AnswerStream
from vetted_mw.configuration import Upstream
from vetted_mw.fleet.fleet import Fleet
from vetted_mw.grid.board import SignalBoard
from vetted_mw.planning import Planner
from vetted_mw.routing.decision import as_decided, settle
from vetted_mw.routing.options import Options, Routing
from vetted_mw.routing.regions import Region
from vetted_mw.routing.served_trace import encode_served
from vetted_mw.routing.trace import build_trace, encode_trace
from vetted_mw.routing.values import AttemptOutcome, AttemptRecord, Rules
from vetted_mw.testing import chat_completion, chat_frames

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vetted_mw.routing.decided import Decision

__all__ = ["COUNTED", "main"]

_WARM = 20
"""Turns before the first mark: the interpreter has specialised its code by then, and what is kept is kept."""

_MODEL = "mistral-medium-3"
_MONOTONIC = 1000.0
_MEMBERS = {
    "sustainability_receipt": b'{"gco2e":0.0031,"query_id":"7d4a1c52-2f0e-4c1b-9d0b-3c1f6a5f7e11"}',
    "routing_trace": b'{"route_policy":"eu_preferred","decision_mode":"preferred"}',
}


COUNTED: Mapping[str, int] = {
    "request 1 KB": 200,
    "request 32 KB": 50,
    "answer 1 KB": 200,
    "answer 32 KB": 50,
    "stream 20 chunks": 20,
    "stream 200 chunks": 5,
    "decision 8 regions": 200,
    "decision 100 regions": 200,
    "decision 1000 regions": 200,
    "carbon-aware decision 8 regions": 200,
    "carbon-aware decision 100 regions": 200,
    "carbon-aware decision 1000 regions": 200,
    "new plan 8 regions": 20,
    "new plan 100 regions": 10,
    "new plan 1000 regions": 5,
    "receipt": 50,
    "trace 8 regions": 50,
    "trace of an answer served at once": 200,
}
"""Every piece, in order, and how many turns of it are counted."""


def main() -> None:
    """Do every piece so many times between two marks."""
    works = _works({regions: Deciding(regions) for regions in (8, 100, 1000)})
    for name in COUNTED:
        _turned(works[name], min(_WARM, COUNTED[name]))
    gc.collect()
    gc.disable()  # when it runs depends on what was made before, and it costs as much as many turns
    for name, turns in COUNTED.items():
        os.getppid()
        _turned(works[name], turns)
        os.getppid()


def _turned(work: Callable[[], object], turns: int) -> None:
    for _turn in range(turns):
        work()


def _works(deciding: Mapping[int, Deciding]) -> dict[str, Callable[[], object]]:
    """Return what does each piece once.

    Args:
        deciding: by the number of regions.
    """
    plain, by_carbon = Options(), Options(routing=Routing.CARBON_AWARE)
    return {
        **{f"request {size} KB": _request(size) for size in (1, 32)},
        **{f"answer {size} KB": _answer(size) for size in (1, 32)},
        **{f"stream {chunks} chunks": _stream(chunks) for chunks in (20, 200)},
        **{f"decision {number} regions": functools.partial(one.planned, plain) for number, one in deciding.items()},
        **{
            f"carbon-aware decision {number} regions": functools.partial(one.planned, by_carbon)
            for number, one in deciding.items()
        },
        **{f"new plan {number} regions": functools.partial(one.anew, by_carbon) for number, one in deciding.items()},
        "receipt": _receipt(),
        "trace 8 regions": functools.partial(_trace, deciding[8]),
        "trace of an answer served at once": functools.partial(_served_trace, deciding[8]),
    }


def _text(size: int) -> str:
    return ("Wie grün ist der Strom in Paris? " * (size * 32))[: size * 1000]


def _request(size: int) -> Callable[[], object]:
    body = json.dumps(
        {
            "model": _MODEL,
            "messages": [{"role": "user", "content": _text(size)[:-160]}],
            "temperature": 0.2,
            "max_tokens": 400,
            "vetted": {"routing": "carbon_aware", "latency_budget_ms": 200},
        },
        ensure_ascii=False,
    ).encode()
    return functools.partial(parse_request, body)


def _answer(size: int) -> Callable[[], object]:
    body = chat_completion(text=_text(size)[:-250], model=_MODEL, usage=(24, 78))

    def work() -> object:
        read_answer(body)
        return add_members(body, _MEMBERS)

    return work


def _stream(chunks: int) -> Callable[[], object]:
    frames = chat_frames(words=[f" word-{number}" for number in range(chunks)], model=_MODEL)

    def work() -> int:
        stream = AnswerStream(choices=1, include_usage=False, max_frame_bytes=1 << 20)
        given = sum(len(stream.feed(frame)) for frame in frames)
        return given + len(stream.close(_MEMBERS))

    return work


class Deciding:
    """What decides over so many regions, each with an upstream that is well, and no live signal."""

    def __init__(self, regions: int) -> None:
        self._regions = {f"region-{number}": _region(f"region-{number}") for number in range(regions)}
        upstreams = {code: Upstream(region=code, base_url=f"https://{code}.example/v1") for code in self._regions}
        self._fleet = Fleet(upstreams, monotonic=lambda: _MONOTONIC, jitter=lambda: 0.0)
        self._board = SignalBoard([], chains={}, now=lambda: REQUESTED_AT)
        self._planner = Planner(self._regions, self._fleet, self._board)
        self._numbers = itertools.count(1)
        self._rules = Rules(default_order=tuple(self._regions))

    def planned(self, options: Options) -> Decision:
        """Decide as for a request that is like others before it."""
        return self._planner.decide(options, _MODEL, self._rules, REQUESTED_AT, monotonic=_MONOTONIC)

    def anew(self, options: Options) -> Decision:
        """Decide as for the first request of a kind: no other had the same rules."""
        rules = replace(self._rules, tie_band_ratio=float(next(self._numbers)))
        return self._planner.decide(options, _MODEL, rules, REQUESTED_AT, monotonic=_MONOTONIC)


def _region(code: str) -> Region:
    return Region(
        code=code, provider="Example", site=code, location="Paris", country="FR", zone="FR", network_p95_ms=10.0
    )


def _receipt() -> Callable[[], object]:
    makes, seen, tokens = maker(), observed(), itertools.count(20)

    def work() -> bytes:
        return makes.written(msgspec.structs.replace(seen, completion_tokens=next(tokens))).text

    return work


def _trace(deciding: Deciding) -> bytes:
    decision = deciding.planned(Options())
    return encode_trace(build_trace(decision, as_decided(decision), _ATTEMPTS, receipt_signal=None))


def _served_trace(deciding: Deciding) -> bytes:
    decision = deciding.planned(Options())
    assert decision.plan is not None
    settled = settle(decision, _ATTEMPTS, serving="region-0")
    return encode_served(decision, decision.plan, settled, _ATTEMPTS[0], signal=b"null", compared=b"null")


_ATTEMPTS = [AttemptRecord(region="region-0", outcome=AttemptOutcome.SUCCESS, status=200, duration_ms=212.5)]

if __name__ == "__main__":
    main()
