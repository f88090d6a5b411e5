"""The live state of every upstream, with one owner: what may be leased, what is saturated, what answers."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING

from vetted_mw.fleet.member import Member, is_same_server
from vetted_mw.fleet.state import Changes, Health, QueueState, RegionState, ScrapeProblem, Standing
from vetted_mw.fleet.view import Lease, RegionView

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from vetted_mw.configuration import Upstream
    from vetted_mw.fleet.engines import EngineLoad

__all__ = ["Fleet", "Health", "Lease", "QueueState", "RegionState", "ScrapeProblem", "Standing"]


class Fleet:
    """What is known of each upstream of one configuration. Called from the event loop only; nothing here waits.

    It is a view: limits, lists and draining are this configuration's own, what was learned of a server belongs to the
    server. So a fleet over `previous` goes on with the breakers, leases, windows, latencies and lists of every server
    that both configurations name, while requests that began under the old one keep its caps; a lease of either counts
    in both.

    Args:
        upstreams: code -> upstream.
        monotonic: seconds that never go back.
        jitter: a number in [0, 1) that spreads the ends of saturation windows.
        previous: the fleet of the configuration before this one; None for a fresh start.
    """

    def __init__(
        self,
        upstreams: Mapping[str, Upstream],
        *,
        monotonic: Callable[[], float],
        jitter: Callable[[], float],
        previous: Fleet | None = None,
    ) -> None:
        known: Mapping[str, RegionView] = {} if previous is None else previous._regions  # noqa: SLF001 (its own kind)
        self._changes: Changes = Changes() if previous is None else previous._changes  # noqa: SLF001
        self._monotonic = monotonic
        self._regions: Mapping[str, RegionView] = {
            code: RegionView(upstream, _member(upstream, known.get(code), jitter, self._changes), monotonic)
            for code, upstream in upstreams.items()
        }
        self._standings: Mapping[str, Standing] = {}
        self._listed: frozenset[str] = frozenset()
        self._seen = -1
        self._hold_until = -math.inf

    def standings(self, now: float) -> Mapping[str, Standing]:
        """Return what a decision looks at of every region that has an upstream, code -> standing.

        It is the same object for as long as nothing of it has changed: then what was decided by it still holds.

        Args:
            now: the instant, on the monotonic clock.
        """
        if self._seen != self._changes.count or now >= self._hold_until:
            self._look_again(now)
        return self._standings

    def _look_again(self, now: float) -> None:
        """Look at the regions of which something may have changed, and at no other: there may be a thousand."""
        self._seen = self._changes.count
        changed: dict[str, Standing] = {}
        for code, region in self._regions.items():
            if region.is_due(now) and (standing := region.looked_at(now)) != self._standings.get(code):
                changed[code] = standing
        if changed:
            self._standings = MappingProxyType({**self._standings, **changed})
            self._listed = frozenset().union(*(one.models for one in self._standings.values() if one.models))
        self._hold_until = min((region.holds_until for region in self._regions.values()), default=math.inf)

    def state(self, region: str) -> RegionState | None:
        """Freeze what is known of `region` now; None when it has no upstream."""
        known = self._regions.get(region)
        return None if known is None else known.state()

    def lists(self, model: str) -> bool:
        """Whether the list of some upstream holds `model`."""
        self.standings(self._monotonic())
        return model in self._listed

    def glance(self, region: str) -> tuple[bool, int]:
        """Say whether `region` could be sent a request, as far as is known, and how many attempts are under way there.

        For collectors of metrics: unlike everything else here it may be called from any thread, and changes nothing.
        """
        return self._regions[region].glance()

    def lease(self, region: str) -> Lease | None:
        """Take the right to one attempt at `region`, or None when it admits none now, or has no upstream."""
        known = self._regions.get(region)
        return None if known is None else known.lease()

    def takes_usage_option(self, region: str) -> bool:
        """Whether `stream_options.include_usage` may be added for `region`."""
        known = self._regions[region]
        return known.upstream.stream_usage != "rejected" and not known.member.refused_usage

    def usage_option_refused(self, region: str) -> None:
        """Remember that `region` answered well only without the option."""
        self._regions[region].member.refused_usage = True

    def connected(self, region: str, seconds: float) -> None:
        """Note the time of one connect to `region`, or of a probe's round trip; one that failed is not noted."""
        self._regions[region].member.connected(self._monotonic(), seconds)

    def asked(self, region: str, question: str) -> float:
        """Note that a probe asks `question` of `region` now, and return the instant."""
        now = self._monotonic()
        self._regions[region].member.asked[question] = now
        return now

    def seconds_since_asked(self, region: str, question: str) -> float | None:
        """Seconds since a probe of any configuration last asked `question` of `region`; None when none did."""
        at = self._regions[region].member.asked.get(question)
        return None if at is None else self._monotonic() - at

    def probed(self, region: str, *, alive: bool, status: int | None = None) -> None:
        """Note what a health probe of `region` found; `status` is what it answered, None when it did not."""
        known = self._regions[region]
        known.member.probed(alive=alive, status=status)
        known.tell_service()

    def models_fetched(self, region: str, models: Iterable[str]) -> None:
        """Note the list `region` gave of itself; it counts where the settings ask for it. Until then an older stays."""
        self._regions[region].member.models_fetched(frozenset(models))

    def load_read(self, region: str, load: EngineLoad, *, asked_at: float, good_seconds: float) -> None:
        """Note what the engine of `region` says of its load; it counts until the question is `good_seconds` old."""
        known = self._regions[region]
        known.member.load_read(load, asked_at=asked_at, good_seconds=good_seconds)
        known.tell_scrape(None)

    def load_unread(self, region: str, problem: ScrapeProblem) -> None:
        """Note that the metrics of `region` could not be used; what was read before stays until it is stale."""
        self._regions[region].tell_scrape(problem)

    @property
    def in_flight(self) -> int:
        """Leases held in all regions of this view, those taken under other configurations included."""
        return sum(region.member.in_flight for region in self._regions.values())


def _member(upstream: Upstream, known: RegionView | None, jitter: Callable[[], float], changes: Changes) -> Member:
    if known is not None and is_same_server(known.upstream, upstream):
        return known.member
    return Member(jitter, changes)
