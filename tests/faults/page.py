"""The table of docs/resilience.md, written from what the fault wall measures. Run as a module it writes the page anew."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from faults.course import Measured, measured
from faults.policies import Policy
from faults.stage import GROUPS

if TYPE_CHECKING:
    from faults.fault import Fault

__all__ = ["PAGE", "committed", "table", "written"]

PAGE = Path(__file__).parents[2] / "docs" / "resilience.md"
BEGIN = "<!-- measured by the fault wall: scripts/resilience writes what stands between these lines -->"
END = "<!-- end of what was measured -->"
_HEAD = """\
| what the upstream does | `outcome` | JSON | stream | breaker |
|---|---|---|---|---|"""
_LIKE_DEFAULT = (Policy.SECONDARY, Policy.CARBON_AWARE)


def table() -> str:
    """Measure every fault and tell each in a row."""
    parts = [f"### {title}\n\n{_HEAD}\n" + "".join(map(_row, faults)) for title, faults in GROUPS.items()]
    return "\n".join(parts)


def committed(page: str) -> str:
    """Return the table a page holds."""
    return page.partition(BEGIN)[2].partition(END)[0].strip() + "\n"


def written(page: str, told: str) -> str:
    """Return a page with the table in its place."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{told}\n{END}{rest.partition(END)[2]}"


def _row(fault: Fault) -> str:
    kinds = [_cases(fault, stream=stream) for stream in (False, True)]
    happening = [cases for cases in kinds if cases]
    cells = [
        fault.name,
        _in_each([_outcome(cases) for cases in happening]),
        *_in_columns([_told(cases) if cases else "" for cases in kinds]),
        _in_each([_breaker(cases[Policy.PINNED]) for cases in happening]),
    ]
    return f"| {' | '.join(cells)} |\n"


def _in_columns(told: list[str]) -> list[str]:
    return [told[0], "the same"] if told[0] == told[1] else told


def _cases(fault: Fault, *, stream: bool) -> dict[Policy, Measured]:
    cases = measured(fault).cases
    return {policy: cases[stream, policy] for policy in Policy if (stream, policy) in cases}


def _in_each(told: list[str]) -> str:
    """Tell what holds for JSON and for streams: once where it is the same, or where only one of them can happen."""
    return " / ".join(dict.fromkeys(told))


def _outcome(cases: dict[Policy, Measured]) -> str:
    (outcome,) = {case.told.attempts[0][1] for case in cases.values()}
    return f"`{outcome}`"


def _told(cases: dict[Policy, Measured]) -> str:
    """Tell what callers get. The page says once what a pin gets in place of the next region; here that is required."""
    told = {policy: _got(seen) for policy, seen in cases.items()}
    by_default = told[Policy.DEFAULT]
    if by_default != "next":
        _require(set(told.values()) == {by_default})
        return by_default
    _require(told[Policy.PINNED] == "503 `service_unavailable`" and all(told[one] == "next" for one in _LIKE_DEFAULT))
    return f"next, else {told[Policy.EVERYWHERE]}"


def _require(holds: bool) -> None:
    """Refuse to write a table whose legend would not be true."""
    if not holds:
        raise AssertionError("the policies differ in a way the page has no words for")


def _got(seen: Measured) -> str:
    told = seen.told
    if told.complete:
        return "whole" if len(told.attempts) == 1 else "next"
    code = told.errors[0]["code"]
    return f"error frame `{code}`" if told.status == 200 else f"{told.status} `{code}`"


def _breaker(seen: Measured) -> str:
    if seen.saturated:
        return "pause"
    return "counts" if seen.breaker == "open" else "-"


def _write() -> None:
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), table()), encoding="utf-8")


if __name__ == "__main__":
    _write()
