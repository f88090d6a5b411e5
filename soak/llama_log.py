"""Read what a llama.cpp server computed out of its own log, request by request.

Nothing of a request stands in the log but its sampling parameters (from verbosity 4 on). `mirostat_tau`, which changes
nothing while mirostat is off, therefore carries the request's number.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["FIRST_NUMBER", "MARK", "Computed", "computed"]

MARK = "mirostat_tau"
FIRST_NUMBER = 1_000
"""Numbers below are not ours: the parameter's default is 5."""

_BEGUN = re.compile(r"srv +init: initializing")
_NUMBER = re.compile(r"mirostat_ent = (\d+)\.000")
_LAUNCHED = re.compile(r"launch_slot_: id +\d+ \| task (\d+) \| processing task")
_TOKENS = re.compile(r"print_timing: id +\d+ \| task (\d+) \| +eval time = .* / +(\d+) tokens")


@dataclass(slots=True)
class Computed:
    """What one server computed.

    Attributes:
        started: request number -> how often it began to compute it.
        tokens: request number -> tokens it wrote, for each time it came to the end.
    """

    started: Counter[int] = field(default_factory=Counter)
    tokens: dict[int, list[int]] = field(default_factory=dict)


def computed(lines: Iterable[str]) -> Computed:
    """Read a log; a server begun anew in it counts its tasks from zero again."""
    found = Computed()
    number: int | None = None
    running: dict[str, int] = {}
    for line in lines:
        if _BEGUN.search(line):
            running.clear()
        elif seen := _NUMBER.search(line):
            number = int(seen[1])
        elif (seen := _LAUNCHED.search(line)) and number is not None:
            if number >= FIRST_NUMBER:
                running[seen[1]] = number
                found.started[number] += 1
            number = None
        elif (seen := _TOKENS.search(line)) and seen[1] in running:
            found.tokens.setdefault(running.pop(seen[1]), []).append(int(seen[2]))
    return found
