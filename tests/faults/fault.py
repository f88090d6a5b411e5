"""One fault of the wall: what the upstream does, and what must come of it for JSON and for a stream."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from faults.playing import Play, Script

__all__ = ["Due", "Fault", "Stage", "after", "before", "caller", "well_all_the_same"]


class Stage(Enum):
    """When a fault shows."""

    NEVER = "the answer is whole all the same"
    BEFORE = "before anything went to the caller"
    AFTER = "after the answer had begun"
    CALLER = "it is the caller's own error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """What must come of a fault in one kind of request.

    Attributes:
        play: what the upstream does.
        stage: when it shows.
        outcome: the attempt's outcome in the trace.
        status: the attempt's status in the trace.
        code: what the caller's error says: of its own error, or of the frame that ends a broken stream.
        sent: whether the attempt counts as sent.
        logged: how many requests the upstream's log shows of the attempt.
    """

    play: Play
    stage: Stage
    outcome: str
    status: int | None
    code: str | None = None
    sent: bool = True
    logged: int = 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fault:
    """One way to fail.

    Attributes:
        name: what it is, in the words of the page.
        json: for a JSON request; None where it cannot happen to one.
        sse: for a stream; None where it cannot happen to one.
        asks: further members of the request.
        limits: limits of the regions that play it, which make it happen soon.
        settings: limits of the whole request, for the gateway that meets it.
        bare: what the upstream does at once with every connection, before it has read a request.
        scheme: of the faulty regions' addresses.
        refusing: whether they refuse connections.
        once: whether each plays it only once and is well after it.
        retry_after: seconds that the upstream asked to wait, which callers are told.
        unreadable_head: the head that was sent is none to an HTTP client, so the trace has no status.
        follow_up: whether the faulty region must answer the next request well.
        model: the model name that selects it, made from its name.
    """

    name: str
    json: Due | None = None
    sse: Due | None = None
    asks: Mapping[str, Any] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, float] = field(default_factory=dict)
    bare: Script | None = None
    scheme: str = "http"
    refusing: bool = False
    once: bool = False
    retry_after: float | None = None
    unreadable_head: bool = False
    follow_up: bool = True
    model: str = field(init=False)

    def __post_init__(self) -> None:
        model = "".join(letter if letter.isalnum() else "-" for letter in self.name).strip("-").lower()
        object.__setattr__(self, "model", model)

    def due(self, *, stream: bool) -> Due | None:
        """What must come of it in one kind of request."""
        return self.sse if stream else self.json

    def __str__(self) -> str:
        return self.model


_FRAME_CODES = {
    "upstream_cut": "upstream_stream_cut",
    "first_byte_timeout": "upstream_timeout",
    "idle_timeout": "upstream_timeout",
    "answer_timeout": "upstream_timeout",
    "upstream_error": "upstream_error",
    "invalid_response": "upstream_error",
    "saturated": "upstream_error",
}


def before(play: Play, outcome: str, status: int | None, *, sent: bool = True, logged: int = 1) -> Due:
    """A fault that shows before anything went to the caller."""
    return Due(play=play, stage=Stage.BEFORE, outcome=outcome, status=status, sent=sent, logged=logged)


def after(play: Play, outcome: str, status: int | None = 200, *, code: str | None = None) -> Due:
    """A fault that shows after the answer had begun."""
    return Due(play=play, stage=Stage.AFTER, outcome=outcome, status=status, code=code or _FRAME_CODES[outcome])


def caller(play: Play, status: int, code: str, *, logged: int = 1) -> Due:
    """The upstream refuses the caller's own request."""
    return Due(play=play, stage=Stage.CALLER, outcome="caller_error", status=status, code=code, logged=logged)


def well_all_the_same(play: Play, *, logged: int = 1) -> Due:
    """What looks odd and is a whole answer."""
    return Due(play=play, stage=Stage.NEVER, outcome="success", status=200, logged=logged)
