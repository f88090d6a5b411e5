"""Read the gateway's own log for what no healthy gateway writes."""

from __future__ import annotations

__all__ = ["defects_in", "reloads_in"]

_BAD = ("a request failed inside the gateway", "Traceback", "never retrieved", "was destroyed but it is pending")
_AFTER = 20


def defects_in(log: str) -> tuple[int, list[str]]:
    """Return how many lines tell of a defect, and the first of them with what follows it."""
    lines = log.splitlines()
    bad = [number for number, line in enumerate(lines) if any(words in line for words in _BAD)]
    return len(bad), lines[bad[0] : bad[0] + _AFTER] if bad else []


def reloads_in(log: str) -> int:
    """Count the reloads of the settings."""
    return log.count("the settings were reloaded")
