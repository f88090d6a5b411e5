"""The ledgers met in one file: the numbers of each, its newest row, and what its head says of that. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vetted_mw.audit.verify.findings import Code, problem
from vetted_mw.audit.verify.series import Met, Series

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vetted_mw.audit.verify.findings import Place, Tell

__all__ = ["Track", "Tracks", "digest_of"]

_MOST_LEDGERS = 100_000


@dataclass(slots=True)
class Track:
    """One ledger as far as it was met.

    Attributes:
        series: its numbers.
        digest: of the newest row's text.
    """

    series: Series = field(default_factory=Series)
    digest: str = ""


class Tracks:
    """Follows every ledger of a file, whose rows come in the order in which they were committed."""

    def __init__(self) -> None:
        self._tracks: dict[str, Track] = {}
        self._is_full = False

    def __len__(self) -> int:
        return len(self._tracks)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tracks)

    def get(self, ledger_id: str) -> Track | None:
        """Return what was met of a ledger."""
        return self._tracks.get(ledger_id)

    def meet(self, members: Mapping[str, Any], text: str, place: Place, tell: Tell) -> None:
        """Take the next row and tell if it stands where it should not."""
        track, seq = self._track(members.get("ledger_id"), place, tell), members.get("seq")
        if track is None or not isinstance(seq, int):
            return
        before = track.series.newest
        met = track.series.meet(seq)
        if met is Met.NEXT:
            track.digest = digest_of(text)
        elif met is Met.LATE:
            tell(problem(Code.ORDER, place, f"seq {seq} stands after seq {before}: rows were put in another order"))
        elif met is Met.TWICE:
            tell(problem(Code.DUPLICATE, place, f"seq {seq} is there twice"))
        for gap in track.series.overflow():
            tell(problem(Code.GAP, place.of(ledger_id=members["ledger_id"]), str(gap)))

    def meet_edge(self, members: Mapping[str, Any], text: str, place: Place, tell: Tell) -> None:
        """Take a row that stands apart from the others, and so in no order with them."""
        track, seq = self._tracks.get(str(members.get("ledger_id"))), members.get("seq")
        if track is None or not isinstance(seq, int):
            tell(problem(Code.MANIFEST, place, "is the neighbour of no receipt in this pack"))
            return
        met = track.series.meet(seq)
        if met is Met.NEXT:
            track.digest = digest_of(text)
        elif met is Met.TWICE:
            tell(problem(Code.DUPLICATE, place, f"seq {seq} is there twice"))

    def tell_gaps(self, place: Place, tell: Tell, *, begin: Mapping[str, int] | None = None) -> None:
        """Tell each number that is missing.

        Args:
            place: the file.
            tell: takes what is found.
            begin: by ledger, the number from which on the file claims to hold all; 1 where it says nothing.
        """
        for ledger_id, track in self._tracks.items():
            start = 1 if begin is None else begin.get(ledger_id, 1)
            for gap in track.series.gaps():
                if gap.last >= start:
                    tell(problem(Code.GAP, place.of(ledger_id=ledger_id), str(gap)))

    def _track(self, ledger_id: object, place: Place, tell: Tell) -> Track | None:
        if not isinstance(ledger_id, str):
            return None
        track = self._tracks.get(ledger_id)
        if track is None and len(self._tracks) >= _MOST_LEDGERS:
            if not self._is_full:
                what = f"more than {_MOST_LEDGERS:,} ledgers in one file: the numbers of further ones are not followed"
                tell(problem(Code.TOO_LARGE, place, what))
            self._is_full = True
        elif track is None:
            track = self._tracks[ledger_id] = Track()
        return track


def digest_of(text: str) -> str:
    """Return the digest of a row as its head tells it."""
    return "sha-256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
