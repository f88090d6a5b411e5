"""Faults of streams that began before there was content: what would have failed over is told instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

from faults.fault import Due, Fault, after, well_all_the_same
from faults.playing import JSON, Ending, Gate, Script, answer, well
from faults.refusals import ERROR, SOON, waits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from faults.playing import Asked, Play

__all__ = ["BEGUN_EARLY"]

_EARLY: Mapping[str, float] = {"commit_after_seconds": 5.0}


def _then(play: Play) -> Play:
    """Wait until the caller's answer has begun, then play."""

    def later(asked: Asked) -> Script:
        script = play(asked)
        return Script(parts=[Gate.BEGIN, *script.parts], ending=script.ending)

    return later


def _early(name: str, due: Due, **limits: float) -> Fault:
    return Fault(name=f"begun early, then {name}", sse=due, settings=_EARLY, limits=limits)


def _says(status: int, *headers: tuple[str, str]) -> Play:
    return _then(lambda _asked: answer(status, ERROR, *headers))


BEGUN_EARLY = [
    _early("whole", well_all_the_same(_then(well))),
    _early("500", after(_says(500, JSON), "upstream_error", 500)),
    _early("429", after(_says(429, *waits("7")), "saturated", 429)),
    _early("404", after(_says(404, JSON), "caller_error", 404, code="500")),
    _early("an HTML page", after(_says(200, ("content-type", "text/html")), "invalid_response", 200)),
    _early("reset", after(_then(lambda _: Script(parts=[], ending=Ending.RESET)), "upstream_cut", None)),
    _early(
        "silence",
        after(_then(lambda _: Script(parts=[], ending=Ending.SILENCE)), "first_byte_timeout", None),
        first_byte_seconds=SOON,
    ),
]
