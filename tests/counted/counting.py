"""Count the instructions of `counted.pieces` by valgrind's callgrind: the same on a busy machine as on an idle one.

PYTHONPATH=tests python -m counted.counting          print every piece beside its budget
PYTHONPATH=tests python -m counted.counting --set    make what was counted the budget
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from counted.pieces import COUNTED

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["TOLERANCE", "budget", "count", "interpreter", "why_not_countable"]

TOLERANCE = 1.15
"""How many times its budget a piece may cost."""

_TESTS = Path(__file__).parent.parent
_BUDGET = Path(__file__).with_name("budget.toml")
_SUMMARY = re.compile(r"^summary: (\d+)", re.MULTILINE)
_LIMIT_SECONDS = 600
_HEAD = """\
# What one turn of each piece may cost, in instructions; at more than 1.15 times its figure it is too dear.
# Two runs differ by 1 % at most, two builds of one Python by up to a quarter: an interpreter built for speed needs less.
# Written anew by scripts/counted --set, on purpose.
"""


def why_not_countable() -> str | None:
    """Say what is missing here to count; None when nothing is."""
    return "valgrind is not installed" if shutil.which("valgrind") is None else None


def interpreter() -> str:
    """Name the kind of interpreter a budget holds for."""
    return f"{platform.python_implementation()} {sys.version_info.major}.{sys.version_info.minor}".lower()


def count() -> dict[str, float]:
    """Run every piece under callgrind; returns the instructions of one turn of each.

    Raises:
        RuntimeError: it did not run, or did not stop at every mark.
    """
    with tempfile.TemporaryDirectory() as folder:
        _run(Path(folder, "out"))
        # Part 1 is all before the first mark; then what is between two marks, and what is beside them, in turn.
        parts = [_instructions(Path(folder, f"out.{2 + 2 * number}")) for number in range(len(COUNTED))]
    return {name: part / turns for (name, turns), part in zip(COUNTED.items(), parts, strict=True)}


def budget() -> dict[str, int]:
    """Return the budget of this kind of interpreter by piece, in instructions; empty: it has none."""
    return _budgets().get(interpreter(), {})


def main() -> None:
    """Print what was counted; with `--set`, keep it."""
    counts, allowed = count(), budget()
    print(f"{'piece':36}{'instructions':>14}{'budget':>14}")  # noqa: T201 (it is what this is for)
    for name, cost in counts.items():
        print(f"{name:36}{cost:14,.0f}{allowed.get(name, 0):14,}")  # noqa: T201
    if "--set" in sys.argv[1:]:
        _keep(counts)


def _keep(counts: Mapping[str, float]) -> None:
    every = _budgets()
    every[interpreter()] = {name: round(cost) for name, cost in counts.items()}
    tables = [
        "\n".join([f'["{kind}"]', *(f'"{name}" = {cost}' for name, cost in every[kind].items())])
        for kind in sorted(every)
    ]
    _BUDGET.write_text(_HEAD + "\n" + "\n\n".join(tables) + "\n", encoding="utf-8")


def _budgets() -> dict[str, dict[str, int]]:
    return tomllib.loads(_BUDGET.read_text(encoding="utf-8")) if _BUDGET.exists() else {}


def _run(out: Path) -> None:
    counting = ["valgrind", "--tool=callgrind", "--dump-before=getppid", f"--callgrind-out-file={out}"]
    command = [*counting, f"--log-file={out}.log", sys.executable, "-X", "utf8", "-m", "counted.pieces"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("COV", "PYTEST", "VETTED_"))}
    path = os.pathsep.join(filter(None, [str(_TESTS), os.environ.get("PYTHONPATH")]))
    environ |= {"PYTHONHASHSEED": "0", "PYTHONPATH": path}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=_LIMIT_SECONDS)
    if done.returncode:
        raise RuntimeError(f"the pieces did not run under valgrind: {done.stderr[-2000:]}")


def _instructions(part: Path) -> int:
    found = _SUMMARY.search(part.read_text(encoding="utf-8")) if part.exists() else None
    if found is None:
        raise RuntimeError("valgrind did not stop at every mark: is there a symbol `getppid`?")
    return int(found[1])


if __name__ == "__main__":
    main()
