"""What verifying met in each source: who issued it, which keys verified, from when to when. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from vetted_mw.audit.verify.findings import counted, shown, shown_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vetted_mw.receipts.jwks import PublicKey

__all__ = ["Counts", "Seen", "Source", "lines_about"]

_MOST_NAMES = 100
"""Issuers and keys that are remembered of one source; honest ones have a few."""
_NAMED = 3
_MOST_SOURCES = 20
_LEAST, _MOST = 1e-9, 1e9


@dataclass(slots=True, kw_only=True)
class Counts:
    """How much was checked.

    Attributes:
        receipts: receipts read.
        ledgers: ledgers met.
        verified: signatures that verify: of receipts, not of heads.
        unsigned: receipts without a signature.
        unchecked: signatures that no key was at hand for.
        without_engine: receipts whose energy an engine made that is not installed here.
    """

    receipts: int = 0
    ledgers: int = 0
    verified: int = 0
    unsigned: int = 0
    unchecked: int = 0
    without_engine: int = 0

    def add(self, other: Counts) -> None:
        """Add what was checked elsewhere."""
        self.receipts += other.receipts
        self.ledgers += other.ledgers
        self.verified += other.verified
        self.unsigned += other.unsigned
        self.unchecked += other.unchecked
        self.without_engine += other.without_engine


@dataclass(slots=True, kw_only=True)
class Seen:
    """What the receipts of one source say of themselves.

    Attributes:
        issuers: by name, how many receipts name it.
        verified: by key id, how many signatures of it verify.
        keys: by key id, the key.
        first: the earliest `issued_at`; empty before the first receipt.
        last: the latest.
        newest: the receipt that was read last.
        content: of a receipt in an answer, what its digest says of the text.
    """

    issuers: Counter[str] = field(default_factory=Counter)
    verified: Counter[str] = field(default_factory=Counter)
    keys: dict[str, PublicKey] = field(default_factory=dict)
    first: str = ""
    last: str = ""
    newest: Mapping[str, Any] | None = None
    content: str = ""

    def meet(self, members: Mapping[str, Any], key: PublicKey | None) -> None:
        """Take a receipt, and the key that signed it where that verifies."""
        self.newest = members
        issuer, issued_at = members.get("issuer"), members.get("issued_at")
        if isinstance(issuer, str) and (issuer in self.issuers or len(self.issuers) < _MOST_NAMES):
            self.issuers[issuer] += 1
        if key is not None:
            self.verified[key.kid] += 1
            self.keys[key.kid] = key
        if isinstance(issued_at, str):
            self.first = min(self.first or issued_at, issued_at)
            self.last = max(self.last, issued_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One file or pack that receipts were read from.

    Attributes:
        file: as the reader named it.
        kind: what it is.
        counts: how much was checked of it.
        seen: what its receipts say.
    """

    file: str
    kind: str
    counts: Counts
    seen: Seen

    def as_json(self) -> dict[str, Any]:
        """Return it for scripts."""
        seen = self.seen
        return {
            "file": self.file,
            "kind": self.kind,
            "receipts": self.counts.receipts,
            "ledgers": self.counts.ledgers,
            "issuers": sorted(seen.issuers),
            "keys": [
                {"kid": kid, "verified": count, "not_after": seen.keys[kid].not_after or None}
                for kid, count in sorted(seen.verified.items())
            ],
            "first_issued_at": seen.first or None,
            "last_issued_at": seen.last or None,
            "receipt": _one(self),
        }


def lines_about(sources: list[Source]) -> list[str]:
    """Return, in a few lines, who issued what was read and by which keys that is known."""
    lines = [line for source in sources[:_MOST_SOURCES] for line in _lines(source)]
    if len(sources) > _MOST_SOURCES:
        lines.append(f"and {counted(len(sources) - _MOST_SOURCES, 'more source')}: --json names them all")
    return lines


def _lines(source: Source) -> list[str]:
    counts, seen = source.counts, source.seen
    parts = [_listed("issuer", [f'"{shown(one)}"' for one in sorted(seen.issuers)]), _signatures(source)]
    if counts.ledgers:
        parts.append(counted(counts.ledgers, "ledger"))
    if seen.first:
        parts.append(f"issued {shown(seen.first)}" + (f" to {shown(seen.last)}" if seen.last != seen.first else ""))
    lines = [f"{shown_path(source.file)}: {'; '.join(part for part in parts if part)}"]
    one = _one(source)
    if one is not None:
        told = {name: _plain(value) for name, value in one.items()}
        gco2e = f"{told['gco2e']} g CO2e ({told['gco2e_ci90_lo']} to {told['gco2e_ci90_hi']})"
        content = f"; content: {told['content']}" if one["content"] else ""
        lines.append(f"  receipt {told['query_id']}: {told['region']}, {told['model']}, {gco2e}{content}")
    return lines


def _plain(value: object) -> str:
    """Write a number without an exponent, as far as that stays short."""
    if isinstance(value, float) and _LEAST < value < _MOST:
        return format(Decimal(repr(value)), "f")
    return shown(value)


def _signatures(source: Source) -> str:
    counts, seen = source.counts, source.seen
    if not counts.verified:
        return f"{counted(counts.receipts, 'receipt')}, no signature verified"
    keys = [f"{kid} ({_state(seen.keys[kid])})" for kid in sorted(seen.verified)]
    return f"{counts.verified:,} of {counted(counts.receipts, 'receipt')} verified by {_listed('key', keys)}"


def _state(key: PublicKey) -> str:
    return f"retired {shown(key.not_after)}" if key.not_after else "current"


def _listed(noun: str, names: list[str]) -> str:
    if not names:
        return ""
    rest = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return f"{noun}{'' if len(names) == 1 else 's'} {', '.join(names[:_NAMED])}{rest}"


def _one(source: Source) -> dict[str, Any] | None:
    """Return what a person looks for first in a receipt that came alone."""
    newest = source.seen.newest
    if source.counts.receipts != 1 or newest is None:
        return None
    names = ("query_id", "region", "model", "gco2e", "gco2e_ci90_lo", "gco2e_ci90_hi")
    return {name: newest.get(name) for name in names} | {"content": source.seen.content or None}
