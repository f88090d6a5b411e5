"""Write findings down as they come, one a line, or as one JSON document; what repeats without end is counted."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Protocol, TextIO

import msgspec

from vetted_mw.audit.findings import Code, Finding, Severity, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vetted_mw.audit.checker import Counts

__all__ = ["CANNOT_SHOW", "JsonTeller", "Teller", "TextTeller"]

_MOST_ALIKE = 1_000
"""Findings of one code and file that are written out; gaps are always all named."""
CANNOT_SHOW = (
    "the newest rows removed together with their head, an older one put back: only a checkpoint kept elsewhere does",
    "that another ledger file, or another ledger_id in this one, ever existed",
    "that a figure is right: it follows from the receipt's fields by the stated method, which is an estimate",
    "that this model ran, or that the tokens were counted truly: the issuer says so",
    "which caller a row belongs to: no signature covers that column",
)
"""What no check here can tell, however it ends."""


class Teller(Protocol):
    """Takes findings, then the end. One per run."""

    def tell(self, finding: Finding) -> None:
        """Write one finding."""
        ...

    def conclude(self, counts: Counts, refused: Sequence[str]) -> None:
        """Write the summary.

        Args:
            counts: how much was checked.
            refused: what was named and cannot hold receipts.
        """
        ...

    @property
    def problems(self) -> int:
        """How many problems were told."""
        ...


class _Limited:
    """Counts findings, and says of each whether it is still to be written."""

    def __init__(self) -> None:
        self.severities: Counter[Severity] = Counter()
        self._alike: Counter[tuple[str, Code]] = Counter()

    def takes(self, finding: Finding) -> bool:
        self.severities[finding.severity] += 1
        if finding.code is Code.GAP:
            return True
        kind = (finding.place.file, finding.code)
        self._alike[kind] += 1
        return self._alike[kind] <= _MOST_ALIKE

    def more(self) -> list[tuple[str, Code, int]]:
        """Return file, code and count of what was not written."""
        return [(file, code, count - _MOST_ALIKE) for (file, code), count in self._alike.items() if count > _MOST_ALIKE]


class TextTeller:
    """Writes lines for a person.

    Args:
        out: where to.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._limited = _Limited()

    @property
    def problems(self) -> int:
        """How many problems were told."""
        return self._limited.severities[Severity.PROBLEM]

    def tell(self, finding: Finding) -> None:
        """Write one line."""
        if self._limited.takes(finding):
            self._out.write(f"{finding.severity:<7}  {finding.code:<11}  {finding.place}: {finding.text}\n")

    def conclude(self, counts: Counts, refused: Sequence[str]) -> None:
        """Write the summary and what no check can show."""
        notes = self._limited.severities[Severity.NOTE]
        signed = f"{counts.verified:,} signed and verified, {counts.unsigned:,} unsigned"
        found = f"{counted(self.problems, 'problem')}, {counted(notes, 'note')}"
        receipts = f"{counted(counts.receipts, 'receipt')} of {counted(counts.ledgers, 'ledger')}"
        lines = [
            *(f"         {code:<11}  {shown(file)}: and {count:,} more" for file, code, count in self._limited.more()),
            *(f"refused               {reason}" for reason in refused),
            f"\nchecked {receipts}, {signed}, {counts.unchecked:,} signed without a key at hand: {found}",
            "what this cannot show:",
            *(f"  - {one}" for one in CANNOT_SHOW),
        ]
        self._out.write("\n".join(lines) + "\n")


class JsonTeller:
    """Writes one JSON document, a finding as soon as it is made.

    Args:
        out: where to.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._limited = _Limited()
        self._separator = '{"findings":['

    @property
    def problems(self) -> int:
        """How many problems were told."""
        return self._limited.severities[Severity.PROBLEM]

    def tell(self, finding: Finding) -> None:
        """Write one member of the list."""
        if self._limited.takes(finding):
            self._write(msgspec.json.encode(_as_json(finding)).decode())

    def conclude(self, counts: Counts, refused: Sequence[str]) -> None:
        """Write the rest of the document."""
        if self._separator != ",":
            self._out.write(self._separator)
        summary = {
            "receipts": counts.receipts,
            "ledgers": counts.ledgers,
            "verified": counts.verified,
            "unsigned": counts.unsigned,
            "without_key": counts.unchecked,
            "problems": self.problems,
            "notes": self._limited.severities[Severity.NOTE],
        }
        more = [{"file": file, "code": code, "count": count} for file, code, count in self._limited.more()]
        rest = {"more": more, "refused": list(refused), "summary": summary, "cannot_show": CANNOT_SHOW}
        self._out.write("]," + msgspec.json.encode(rest).decode()[1:] + "\n")

    def _write(self, text: str) -> None:
        self._out.write(self._separator + text)
        self._separator = ","


def counted(number: int, noun: str) -> str:
    """Write a number with its noun, `1 receipt`, `2 receipts`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _as_json(finding: Finding) -> dict[str, object]:
    place = finding.place
    return {
        "severity": finding.severity,
        "code": finding.code,
        "file": place.file,
        "line": place.line,
        "ledger_id": place.ledger_id,
        "seq": place.seq,
        "query_id": place.query_id,
        "text": finding.text,
        "count": finding.count,
    }
