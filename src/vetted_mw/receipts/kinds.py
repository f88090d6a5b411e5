"""Which receipts are alike but for what was counted: one template for each kind, the ones used last kept. Pure."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TypeAlias

    from vetted_mw.receipts.models import ModelSize
    from vetted_mw.receipts.observation import Observation
    from vetted_mw.receipts.template import Template

    Kind: TypeAlias = tuple[int | str | None, ...]

__all__ = ["Kind", "Templates", "kind_of"]

_MOST = 512


def kind_of(seen: Observation, size: ModelSize, source: str) -> Kind | None:
    """Return the kind of the receipt of one observation; None where a reading was not taken at the decision.

    That is all that a receipt of the parametric model depends on beside its tokens and its names. Sizes, regions and
    signals are told by identity: they are frozen, and the same object for as long as nothing is configured or heard
    anew. So a kind differs from every other for as long as these live.

    Args:
        seen: what was observed.
        size: of its model.
        source: who counted its tokens.
    """
    at, reading, other = seen.requested_at, seen.reading, seen.default_reading
    here = there = match = match_there = None
    if reading is not None and reading.ineligible is None:
        if reading.read_at != at:
            return None
        here, match = reading.signal, reading.temporal_match
    if other is not None and other.ineligible is None:
        if other.read_at != at:
            return None
        there, match_there = other.signal, other.temporal_match
    return (
        id(size),
        id(seen.region),
        id(seen.default_region),
        id(here),
        id(there),
        match,
        match_there,
        seen.boundary,
        source,
        at.year,  # an annual figure of no year is one of the year before
    )


class Templates:
    """The templates of one maker. Called from the event loop only."""

    __slots__ = ("_kept", "_latest")

    def __init__(self) -> None:
        self._kept: OrderedDict[Kind, tuple[Template, object]] = OrderedDict()  # the one used last is last
        self._latest: tuple[Template, object] | None = None

    def __len__(self) -> int:
        """Return how many are kept."""
        return len(self._kept)

    def get(self, kind: Kind) -> Template | None:
        """Return the template of a kind, if it is kept."""
        kept = self._kept.get(kind)
        if kept is None:
            return None
        if kept is not self._latest:
            self._kept.move_to_end(kind)
            self._latest = kept
        return kept[0]

    def keep(self, kind: Kind, template: Template, seen: Observation, size: ModelSize) -> None:
        """Keep the template of a kind, and with it what the kind is told by: while it is kept, no other has its ids.

        Args:
            kind: of its receipts.
            template: writes them.
            seen: an observation of the kind.
            size: of its model.
        """
        told_by = size, seen.region, seen.default_region, seen.reading, seen.default_reading
        self._kept[kind] = self._latest = (template, told_by)
        if len(self._kept) > _MOST:
            self._kept.popitem(last=False)
