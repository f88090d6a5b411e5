"""Measure how long after its caller has left an upstream sees its connection closed; prints a table in Markdown.

    PYTHONPATH=tests python -m servers.measured [REPEATS]

The times are one machine's and prove nothing of another's; the order of events is what the tests hold.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from servers.phases import PHASES, left_in, placed
from servers.processes import SERVERS, serving

if TYPE_CHECKING:
    from servers.leaving import How
    from servers.phases import Phase, Place
    from servers.processes import Server


def _cell(place: Place, server: Server, phase: Phase, how: How, repeats: int) -> str:
    taken = []
    for _ in range(repeats):
        milliseconds = left_in(place, server, phase, how)
        server.rests()
        if milliseconds is not None:
            taken.append(milliseconds)
    return f"{statistics.median(taken):.1f} / {max(taken):.1f}" if taken else "-"


def main(repeats: int) -> None:
    """Print one line for each phase and one column for each server: median / longest, in milliseconds."""
    seen = [phase for phase in PHASES if not phase.in_body and phase.name != "TCP connect"]
    rows = [["phase", "caller"], *([str(phase), how] for phase in seen for how in ("close", "reset"))]
    with placed() as place, tempfile.TemporaryDirectory() as folder:
        for name, kind in SERVERS.items():
            with serving(kind, place.tables, Path(folder, name)) as server:
                rows[0].append(f"{name} {kind.version}")
                for row, (phase, how) in zip(rows[1:], ((p, h) for p in seen for h in _HOWS), strict=True):
                    row.append(_cell(place, server, phase, how, repeats))
    for number, row in enumerate(rows):
        print("| " + " | ".join(row) + " |")  # noqa: T201 (it is what this is for)
        if number == 0:
            print("|" + "---|" * len(row))  # noqa: T201


_HOWS: tuple[How, ...] = ("close", "reset")

if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
