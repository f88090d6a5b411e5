"""What one request of a soak asks, when its caller leaves and how each region treats it: all from seed and number."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["MODEL", "REGIONS", "ZONES", "Abort", "Fault", "Plan", "fault_of", "number_of", "plan_of", "words_of"]

MODEL = "soak-model"
REGIONS = ("scaleway-par-1", "ovh-gra-1", "atnorth-sto-1")
ZONES = {"FR": 60.0, "SE_3": 30.0}
"""Signals: carbon-aware requests go to Stockholm first."""

_MARK = "soak request "
_SPELL = 500
_SPELL_ROUND = 12
_BAD_SHARE = 0.7


class Fault(StrEnum):
    """How a region treats one request."""

    WELL = "well"
    SLOW = "slow"
    NO_DONE = "no_done"
    ERROR_500 = "error_500"
    ERROR_503 = "error_503"
    SATURATED = "saturated"
    CALLER_ERROR = "caller_error"
    HTML = "html"
    ERROR_EVENT = "error_event"
    RESET_BEFORE = "reset_before"
    RESET_WITHIN = "reset_within"
    CUT_WITHIN = "cut_within"
    ENDS_EARLY = "ends_early"
    STALL_BEFORE = "stall_before"
    STALL_WITHIN = "stall_within"


_SHARES = {
    Fault.WELL: 824,
    Fault.SLOW: 80,
    Fault.NO_DONE: 10,
    Fault.ERROR_500: 10,
    Fault.ERROR_503: 5,
    Fault.SATURATED: 1,
    Fault.CALLER_ERROR: 10,
    Fault.HTML: 5,
    Fault.ERROR_EVENT: 5,
    Fault.RESET_BEFORE: 12,
    Fault.RESET_WITHIN: 12,
    Fault.CUT_WITHIN: 10,
    Fault.ENDS_EARLY: 10,
    Fault.STALL_BEFORE: 3,
    Fault.STALL_WITHIN: 3,
}
_BAD = (Fault.ERROR_500, Fault.RESET_BEFORE, Fault.CUT_WITHIN)


class Abort(StrEnum):
    """When a caller leaves."""

    BODY = "sending the body"
    WAITING = "before the answer"
    WITHIN = "within the answer"
    END = "at its end"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One request.

    Attributes:
        number: which one it is; every word of a true answer holds it.
        stream: whether a stream is asked for.
        vetted: the routing options.
        allowed: regions that may see it, whatever happens.
        body: what is sent.
        abort: when the caller leaves; None for one who stays.
        instant: a number in [0, 1) that places the abort: share of the body sent, of the wait, or of what is read.
        resets: whether it leaves by a reset and not by an orderly close.
    """

    number: int
    stream: bool
    vetted: dict[str, str]
    allowed: frozenset[str]
    body: bytes
    abort: Abort | None
    instant: float
    resets: bool


def plan_of(seed: int, number: int, *, abort_share: float) -> Plan:
    """Return request `number` of the soak with `seed`; the same ones always give the same."""
    dice = random.Random(f"{seed}/{number}")  # noqa: S311 (repeatable on purpose)
    stream = dice.random() < 0.5  # noqa: PLR2004
    vetted, allowed = _options(dice)
    padding = dice.choices((40, 1_000, 6_000, 200_000), weights=(50, 35, 14, 1))[0]
    members: dict[str, object] = {
        "model": MODEL,
        "messages": [{"role": "user", "content": f"{_MARK}{number} {'word ' * (padding // 5)}"}],
        "stream": stream,
    }
    if stream and dice.random() < 0.3:  # noqa: PLR2004
        members["stream_options"] = {"include_usage": True}
    if vetted:
        members["vetted"] = vetted
    leaves = dice.random() < abort_share
    return Plan(
        number=number,
        stream=stream,
        vetted=vetted,
        allowed=allowed,
        body=json.dumps(members).encode(),
        abort=dice.choice(list(Abort)) if leaves else None,
        instant=dice.random(),
        resets=dice.random() < 0.5,  # noqa: PLR2004
    )


def _options(dice: random.Random) -> tuple[dict[str, str], frozenset[str]]:
    kind = dice.choices(("default", "pinned", "secondary", "carbon"), weights=(35, 30, 5, 30))[0]
    if kind == "default":
        return {}, frozenset(REGIONS)
    if kind == "carbon":
        return {"routing": "carbon_aware"}, frozenset(REGIONS)
    first, second = dice.sample(REGIONS, 2)
    if kind == "pinned":
        return {"region": first}, frozenset({first})
    return {"region": first, "secondary_region": second}, frozenset({first, second})


def number_of(body: bytes) -> int:
    """Read the number out of a request's body, as an upstream does."""
    start = body.index(_MARK.encode()) + len(_MARK)
    return int(body[start : body.index(b" ", start)])


def fault_of(seed: int, number: int, region: str) -> Fault:
    """Return how `region` treats request `number`: mostly well, with bad spells that open its breaker."""
    dice = random.Random(f"{seed}/{number}/{region}")  # noqa: S311
    spell = number // _SPELL % _SPELL_ROUND
    if spell == 3 + 4 * REGIONS.index(region) and dice.random() < _BAD_SHARE:
        return dice.choice(_BAD)
    return dice.choices(list(_SHARES), weights=list(_SHARES.values()))[0]


def words_of(number: int, region: str) -> list[str]:
    """Return the words of the whole true answer of `region` to request `number`."""
    return [f"{region}/{number}/{index} " for index in range(3 + number * 7 % 30)]
