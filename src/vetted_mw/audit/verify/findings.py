"""What verifying finds, one value per line of its report. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeAlias

__all__ = ["Code", "Finding", "Place", "Severity", "Tell", "counted", "note", "problem", "shown", "shown_path"]

_SHOWN_CHARACTERS = 80
_PATH_CHARACTERS = 300


class Severity(StrEnum):
    """Whether a finding speaks against the evidence."""

    PROBLEM = "problem"
    NOTE = "note"


class Code(StrEnum):
    """What a finding is about; `docs/audit.md` says what each means."""

    SIGNATURE = "signature"
    NO_KEY = "no_key"
    UNKNOWN_KEY = "unknown_key"
    KEY_PERIOD = "key_period"
    KEYS = "keys"
    UNSIGNED = "unsigned"
    CANONICAL = "canonical"
    FIELDS = "fields"
    COLUMNS = "columns"
    SCHEMA = "schema"
    GAP = "gap"
    DUPLICATE = "duplicate"
    ORDER = "order"
    HEAD = "head"
    CHECKPOINT = "checkpoint"
    DIGEST = "digest"
    FIGURE = "figure"
    INVARIANT = "invariant"
    BINDING = "binding"
    REFERENCE = "reference"
    PARTS = "parts"
    MANIFEST = "manifest"
    UNREADABLE = "unreadable"
    TOO_LARGE = "too_large"
    SKIPPED = "skipped"
    NO_RECEIPT = "no_receipt"
    CONTRADICTION = "contradiction"
    MISSING_ROW = "missing_row"
    NOT_KEPT = "not_kept"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where something was found.

    Attributes:
        file: as the reader named it; a member of a pack after a `!`.
        line: its line there, from 1; None where lines do not count.
        ledger_id: the ledger it belongs to.
        seq: its number in that ledger.
        query_id: the receipt's id.
    """

    file: str
    line: int | None = None
    ledger_id: str | None = None
    seq: int | None = None
    query_id: str | None = None

    def __str__(self) -> str:
        parts = [shown_path(self.file)]
        if self.line is not None:
            parts.append(f"line {self.line}")
        if self.ledger_id is not None:
            parts.append(f"ledger {shown(self.ledger_id)}")
        if self.seq is not None:
            parts.append(f"seq {self.seq}")
        elif self.query_id is not None:
            parts.append(f"receipt {shown(self.query_id)}")
        return ", ".join(parts)

    def of(self, *, ledger_id: str | None = None, seq: int | None = None, query_id: str | None = None) -> Place:
        """Return the place of one receipt in the same file."""
        return replace(self, ledger_id=ledger_id, seq=seq, query_id=query_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing an auditor should know.

    Attributes:
        severity: a problem, or a note.
        code: what it is about.
        place: where.
        text: what, in words; nothing in it can steer a terminal.
        count: how many of the same this one stands for.
    """

    severity: Severity
    code: Code
    place: Place
    text: str
    count: int = 1


Tell: TypeAlias = Callable[[Finding], None]
"""Takes a finding as it is made; may be called millions of times."""


def problem(code: Code, place: Place, text: str, *, count: int = 1) -> Finding:
    """Return a finding that speaks against the evidence."""
    return Finding(severity=Severity.PROBLEM, code=code, place=place, text=text, count=count)


def note(code: Code, place: Place, text: str, *, count: int = 1) -> Finding:
    """Return a finding that is worth knowing."""
    return Finding(severity=Severity.NOTE, code=code, place=place, text=text, count=count)


def counted(number: int, noun: str) -> str:
    """Write a number with its noun, `1 receipt`, `2 receipts`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def shown(text: object) -> str:
    """Write what stood in a file so that it stays on its line: short, and without characters that steer a terminal."""
    told = str(text)
    return _steerless(told if len(told) <= _SHOWN_CHARACTERS else told[:_SHOWN_CHARACTERS] + "...")


def shown_path(path: object) -> str:
    """Write a path in the same way; of one that is very long the end, which tells one file from another."""
    told = str(path)
    return _steerless(told if len(told) <= _PATH_CHARACTERS else "..." + told[-_PATH_CHARACTERS:])


def _steerless(told: str) -> str:
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "backslashreplace").decode() for char in told
    )
