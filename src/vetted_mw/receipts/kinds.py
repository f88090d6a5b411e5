"""Which receipts are alike but for what was counted: one template for each kind, the ones used last kept. Pure."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Hashable

    from vetted_mw.grid.signal import GridSignal, SignalReading
    from vetted_mw.receipts.models import ModelSize
    from vetted_mw.receipts.observation import Observation
    from vetted_mw.receipts.template import Template
    from vetted_mw.routing.regions import Region

__all__ = ["Kind", "Templates", "kind_of"]

_MOST = 512


class Kind(msgspec.Struct, frozen=True):
    """All that a receipt of the parametric model depends on beside its tokens and its names, by identity.

    Sizes, regions and signals are frozen, and the same object for as long as nothing is configured or heard anew.

    Attributes:
        key: tells it from every other, for as long as `members` live.
        members: whose identities it is made of.
    """

    key: Hashable
    members: tuple[ModelSize | Region | GridSignal | None, ...]


def kind_of(seen: Observation, size: ModelSize, source: str) -> Kind | None:
    """Return the kind of the receipt of one observation; None where a reading was not taken at the decision.

    Args:
        seen: what was observed.
        size: of its model.
        source: who counted its tokens.
    """
    reading, other = _live(seen.reading), _live(seen.default_reading)
    here = there = None
    match = match_there = None
    if reading is not None:
        if reading.read_at != seen.requested_at:
            return None
        here, match = reading.signal, reading.temporal_match
    if other is not None:
        if other.read_at != seen.requested_at:
            return None
        there, match_there = other.signal, other.temporal_match
    members = (size, seen.region, seen.default_region, here, there)
    year = seen.requested_at.year  # an annual figure of no year is one of the year before
    ids = (id(size), id(seen.region), id(seen.default_region), id(here), id(there))
    return Kind((ids, match, match_there, seen.boundary, source, year), members)


class Templates:
    """The templates of one maker. Called from the event loop only."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, tuple[Kind, Template]] = OrderedDict()  # the one used last is last

    def __len__(self) -> int:
        """Return how many are kept."""
        return len(self._kept)

    def get(self, kind: Kind) -> Template | None:
        """Return the template of a kind, if it is kept."""
        kept = self._kept.get(kind.key)
        if kept is None:
            return None
        self._kept.move_to_end(kind.key)
        return kept[1]

    def keep(self, kind: Kind, template: Template) -> None:
        """Keep the template of a kind, and with it what the kind is told by: while it is kept, no other has its ids."""
        self._kept[kind.key] = (kind, template)
        if len(self._kept) > _MOST:
            self._kept.popitem(last=False)


def _live(reading: SignalReading | None) -> SignalReading | None:
    return None if reading is None or reading.ineligible is not None else reading
