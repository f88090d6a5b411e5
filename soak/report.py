"""What a soak found: what is still held, how memory went, and the table of it all."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from soak.callers import Tally

__all__ = ["MOST_BYTES_PER_REQUEST", "MOST_OBJECTS_PER_REQUEST", "Memory", "Report", "held"]

MOST_BYTES_PER_REQUEST = 100.0
"""Resident growth after warm-up that counts as flat, beside what the allocator keeps: 1 MB in 10,000 requests."""

MOST_OBJECTS_PER_REQUEST = 0.05
"""Growth of objects the collector knows of: one leaked object in twenty requests is a leak."""

_SLACK_BYTES = 4_000_000
_SLACK_OBJECTS = 1_000
_MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """One reading while nothing is under way.

    Attributes:
        requests: sent by then.
        rss: resident bytes.
        objects: that the collector knows of, after a collection.
    """

    requests: int
    rss: int
    objects: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The whole result.

    Attributes:
        tally: what the callers saw.
        held: gauge -> what is still held at the end; every one must be 0.
        memory: readings after warm-up, between and at the end.
        seconds: how long it ran.
        title: what was run.
    """

    tally: Tally
    held: Mapping[str, int]
    memory: Sequence[Memory]
    seconds: float
    title: str

    @property
    def leaks(self) -> list[str]:
        """Gauges that are not zero."""
        return [name for name, count in self.held.items() if count]

    @property
    def grows(self) -> bool:
        """Whether memory grew beyond the bound between the end of the warm-up and the end."""
        first, last = self.memory[0], self.memory[-1]
        requests = last.requests - first.requests
        return (
            last.rss - first.rss > MOST_BYTES_PER_REQUEST * requests + _SLACK_BYTES
            or last.objects - first.objects > MOST_OBJECTS_PER_REQUEST * requests + _SLACK_OBJECTS
        )

    def table(self) -> str:
        """Return it as text."""
        tally = self.tally
        lines = [
            self.title,
            f"{tally.requests} requests in {self.seconds:.0f} s, {tally.requests / self.seconds:.0f}/s",
        ]
        for title, counts in (
            ("answers read whole", tally.endings),
            ("callers who left", tally.aborts),
            ("broken promises", tally.wrongs),
            ("held at the end", self.held),
        ):
            lines += ["", f"{title:<44} {sum(counts.values()):>9}"]
            lines += [f"  {name:<42} {count:>9}" for name, count in sorted(counts.items())]
        return "\n".join([*lines, *tally.examples, "", *self._memory_lines()])

    def _memory_lines(self) -> list[str]:
        first, middle, last = self.memory[0], self.memory[len(self.memory) // 2], self.memory[-1]
        per = max(1, last.requests - first.requests) / 10_000
        return [
            f"{'memory':<24} {'warmed up':>10} {'middle':>10} {'end':>10} {'per 10^4':>10}",
            f"  {'after requests':<22} {first.requests:>10} {middle.requests:>10} {last.requests:>10}",
            _row("resident, MiB", [one.rss / _MIB for one in (first, middle, last)], per, digits=1),
            _row("objects", [one.objects for one in (first, middle, last)], per, digits=0),
            f"memory is {'NOT flat' if self.grows else 'flat'}",
        ]


def _row(name: str, values: Sequence[float], per: float, *, digits: int) -> str:
    shown = " ".join(f"{value:>10.{digits}f}" for value in (*values, (values[-1] - values[0]) / per))
    return f"  {name:<22} {shown}"


def held(now: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, int]:
    """Return what is held beyond what was held before the first request."""
    return {
        "requests": now["requests"],
        "former configurations": now["former"],
        "leases": now["leases"],
        "upstream connections in use": now["slots"],
        "tasks": (Counter(now["tasks"]) - Counter(before["tasks"])).total(),
        "spans": now["spans"],
        # An idle upstream connection is kept on purpose, and is counted beside.
        "descriptors": max(0, (now["descriptors"] - now["idle"]) - (before["descriptors"] - before["idle"])),
        "threads": (Counter(now["threads"]) - Counter(before["threads"])).total(),
    }
