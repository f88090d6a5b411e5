"""Write findings down as they come, one a line, or as one JSON document; what repeats without end is counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol, TextIO

import msgspec

from vetted_mw.audit.verify.findings import Code, Finding, Severity, counted, shown_path
from vetted_mw.audit.verify.seen import Counts, Source, lines_about

__all__ = ["JsonTeller", "Outcome", "Teller", "TextTeller"]

_MOST_ALIKE = 1_000
"""Findings of one code and file that are written out; gaps are always all named."""
_OF_LEDGERS = (
    "the newest rows removed together with their head, an older one put back: only a checkpoint kept elsewhere does",
    "that another ledger file, or another ledger_id in this one, ever existed",
    "receipts that were never kept: a gateway that may go on without its ledger (fail_open) counts them in its heads",
    "which caller a row belongs to: no signature covers that column",
)
_OF_ANSWERS = (
    "why it ran there, or what else the upstream said: routing_trace and the answer's other members are not signed",
)
_OF_ALL = (
    "that a figure is right: it follows from the receipt's fields by the stated method, which is an estimate",
    "that this model ran, or that the tokens were counted truly: the issuer says so",
)


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What a run came to, beside its findings.

    Attributes:
        counts: how much was checked.
        refused: what was named and cannot hold receipts, and why.
        sources: who issued what, file by file.
        has_packed_keys: whether a pack was checked with the keys it brought.
    """

    counts: Counts = field(default_factory=Counts)
    refused: list[str] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    has_packed_keys: bool = False

    def cannot_show(self) -> list[str]:
        """Return what no check of what was given can tell, however it ends."""
        kinds = {source.kind for source in self.sources}
        has_rows = any(source.counts.ledgers for source in self.sources) or not kinds.isdisjoint(_ROWS)
        has_answers = any(source.seen.content for source in self.sources) or not kinds.isdisjoint(_ANSWERS)
        return [*(_OF_LEDGERS if has_rows else ()), *(_OF_ANSWERS if has_answers else ()), *_OF_ALL]

    def doubt(self) -> str:
        """Say what keeps a run without problems from naming an issuer; empty when nothing does."""
        if self.has_packed_keys:
            return "consistent, issuer not known: keys came with the pack; give --jwks"
        if self.counts.unsigned and not self.counts.verified:
            return "consistent, issuer not known: nothing is signed"
        return ""


_ROWS = ("ledger", "pack")
_ANSWERS = ("document", "stream")


class Teller(Protocol):
    """Takes findings, then the end. One per run."""

    def tell(self, finding: Finding) -> None:
        """Write one finding."""
        ...

    def conclude(self, outcome: Outcome) -> None:
        """Write the summary."""
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
        self._keys = 0

    def takes(self, finding: Finding) -> bool:
        self.severities[finding.severity] += 1
        self._keys += finding.code is Code.KEYS and finding.severity is Severity.PROBLEM
        if finding.code is Code.GAP:
            return True
        kind = (finding.place.file, finding.code)
        self._alike[kind] += 1
        return self._alike[kind] <= _MOST_ALIKE

    def doubts(self, outcome: Outcome) -> bool:
        """Whether more speaks against the evidence than that nobody vouched for its keys."""
        others = self.severities[Severity.PROBLEM] - self._keys
        return bool(others or outcome.refused)

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
            self._out.write(f"{finding.severity:<7}  {finding.code:<13}  {finding.place}: {finding.text}\n")

    def conclude(self, outcome: Outcome) -> None:
        """Write who issued what was read, the summary, and what no check can show."""
        counts, notes = outcome.counts, self._limited.severities[Severity.NOTE]
        checked = f"checked {counted(counts.receipts, 'receipt')}"
        checked += f" of {counted(counts.ledgers, 'ledger')}" if counts.ledgers else ""
        signed = f"{counts.verified:,} signed and verified, {counts.unsigned:,} unsigned"
        found = f"{counted(self.problems, 'problem')}, {counted(notes, 'note')}"
        told = [
            *(
                f"         {code:<13}  {shown_path(file)}: and {count:,} more"
                for file, code, count in self._limited.more()
            ),
            *(f"refused  {'':<13}  {reason}" for reason in outcome.refused),
        ]
        has_told = bool(told or self.problems or notes)
        doubt = "" if self._limited.doubts(outcome) else outcome.doubt()
        lines = [
            *told,
            *([""] if has_told else []),
            *lines_about(outcome.sources),
            f"{checked}, {signed}, {counts.unchecked:,} signed without a key at hand: {found}",
            *([doubt] if doubt else []),
            "what this cannot show:",
            *(f"  - {one}" for one in outcome.cannot_show()),
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

    def conclude(self, outcome: Outcome) -> None:
        """Write the rest of the document."""
        if self._separator != ",":
            self._out.write(self._separator)
        counts = outcome.counts
        summary = {
            "receipts": counts.receipts,
            "ledgers": counts.ledgers,
            "verified": counts.verified,
            "unsigned": counts.unsigned,
            "without_key": counts.unchecked,
            "problems": self.problems,
            "notes": self._limited.severities[Severity.NOTE],
            "issuer_known": bool(counts.verified) and not outcome.has_packed_keys,
        }
        rest = {
            "more": [{"file": file, "code": code, "count": count} for file, code, count in self._limited.more()],
            "refused": outcome.refused,
            "sources": [source.as_json() for source in outcome.sources],
            "summary": summary,
            "cannot_show": outcome.cannot_show(),
        }
        self._out.write("]," + msgspec.json.encode(rest).decode()[1:] + "\n")

    def _write(self, text: str) -> None:
        self._out.write(self._separator + text)
        self._separator = ","


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
