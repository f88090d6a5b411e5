"""What it costs to import the package, beside what it is built on: fresh processes in turn, their CPU counted."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["import_milliseconds"]

_PACKAGE = "from vetted_mw import Gateway, VettedMiddleware, VettedProxy"
_DEPENDENCIES = (
    "import starlette.applications, starlette.requests, starlette.responses, starlette.routing, httpx, "
    "pydantic_settings, cachetools, opentelemetry.metrics, opentelemetry.propagate, opentelemetry.trace, msgspec"
)


def import_milliseconds(*, times: int) -> dict[str, list[float]]:
    """Return the CPU of importing what an application uses of the package, and of its fixed dependencies alone.

    An interpreter that imports nothing is deducted.
    `httptools` is counted among them where it is installed.
    """
    dependencies = _DEPENDENCIES + "\ntry:\n    import httptools\nexcept ImportError:\n    pass"
    codes = {"package": _PACKAGE, "dependencies": dependencies, "nothing": "pass"}
    spent: dict[str, list[float]] = {name: [] for name in codes}
    for turn in range(times + 1):
        for name in codes if turn % 2 == 0 else reversed(codes):
            milliseconds = _cpu_of([sys.executable, "-c", codes[name]]) * 1000
            if turn:  # the first finds files that are in no cache
                spent[name].append(milliseconds)
    nothing = statistics.median(spent.pop("nothing"))
    return {name: [one - nothing for one in each] for name, each in spent.items()}


def _cpu_of(command: Sequence[str]) -> float:
    process = subprocess.Popen(command)  # noqa: S603
    _pid, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command[-1]!r} failed")
    return usage.ru_utime + usage.ru_stime
