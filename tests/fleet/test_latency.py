"""Quantiles of measured round trips, and what a decision makes of them."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.wall import payload
from support import configured
from vetted_mw import Gateway, VettedProxy
from vetted_mw.fleet.latency import LatencyWindow, Quantiles
from vetted_mw.testing import FakeUpstream, asgi_exchange

REGION = "scaleway-par-1"
FRENCH_P95_MS = 45


def window(*milliseconds: float, at: float = 0.0) -> LatencyWindow:
    kept = LatencyWindow()
    for value in milliseconds:
        kept.add(at, value / 1000)
    return kept


def test_quantiles_are_of_those_measured_by_nearest_rank() -> None:
    """The 4th of 8 and the 8th; of 20 the 10th and the 19th; of 100 the 50th and the 95th."""
    for count, p50, p95 in ((8, 4, 8), (20, 10, 19), (100, 50, 95)):
        assert window(*range(count, 0, -1)).quantiles(0.0) == Quantiles(p50_ms=p50, p95_ms=p95)


def test_fewer_than_eight_round_trips_say_nothing() -> None:
    """Seven are None, the eighth decides."""
    kept = window(*[10.0] * 7)
    assert kept.quantiles(0.0) is None
    kept.add(0.0, 0.02)
    assert kept.quantiles(0.0) == Quantiles(p50_ms=10.0, p95_ms=20.0)


def test_round_trips_older_than_a_quarter_of_an_hour_are_forgotten() -> None:
    """Time alone takes them away: what is left is too few, then enough again."""
    kept = window(*[100.0] * 10)
    for _ in range(5):
        kept.add(600.0, 0.001)
    assert kept.quantiles(900.0) == Quantiles(p50_ms=100.0, p95_ms=100.0)
    assert kept.quantiles(900.1) is None
    for _ in range(3):
        kept.add(901.0, 0.001)
    assert kept.quantiles(901.0) == Quantiles(p50_ms=1.0, p95_ms=1.0)


def test_no_more_than_128_are_kept() -> None:
    """The oldest go first, so that a change of the network shows after as many."""
    kept = window(*[500.0] * 1000)
    for _ in range(128):
        kept.add(1.0, 0.002)
    assert kept.quantiles(1.0) == Quantiles(p50_ms=2.0, p95_ms=2.0)


@pytest.mark.parametrize("seconds", [-0.001, math.nan, math.inf])
def test_what_is_no_duration_is_no_sample(seconds: float) -> None:
    """A clock that was set back leaves no trace."""
    kept = window(*[10.0] * 7)
    kept.add(0.0, seconds)
    assert kept.quantiles(0.0) is None


def test_values_are_told_to_a_tenth_of_a_millisecond() -> None:
    """More digits would be noise."""
    assert window(*[12.3456] * 8).quantiles(0.0) == Quantiles(p50_ms=12.3, p95_ms=12.3)


@settings(max_examples=100, deadline=None)
@given(samples=st.lists(st.floats(min_value=0, max_value=60), min_size=8, max_size=300))
def test_quantiles_lie_among_the_samples_in_order(samples: list[float]) -> None:
    """Each is one of the latest 128, the median not above the 95th percentile."""
    kept = LatencyWindow()
    for seconds in samples:
        kept.add(0.0, seconds)
        kept.quantiles(0.0)
    found = kept.quantiles(0.0)
    assert found is not None
    latest = {round(seconds * 1000, 1) for seconds in samples[-128:]}
    assert found.p50_ms <= found.p95_ms
    assert {found.p50_ms, found.p95_ms} <= latest


# ---- in a decision


@pytest.mark.anyio
async def test_a_budget_is_held_against_what_was_measured_once_there_is_enough() -> None:
    """Declared until eight round trips are known, measured from then on, in the trace and in the regions' facts."""
    async with FakeUpstream() as upstream:
        configuration = configured({REGION: {"base_url": upstream.base_url, "health_path": ""}})
        async with Gateway(configuration) as gateway:
            app = VettedProxy(gateway)

            async def seen() -> tuple[int, float, tuple[Any, ...]]:
                budget = {"region": REGION, "latency_budget_ms": FRENCH_P95_MS}
                answer = await asgi_exchange(app, json=payload(vetted=budget))
                trace = answer.json()["routing_trace"]
                row = next(one for one in trace["candidates"] if one["region"] == REGION)
                facts = (await asgi_exchange(app, method="GET", path=f"/v1/regions/{REGION}")).json()
                told = tuple(facts[name] for name in ("network_p50_ms", "network_p95_ms", "network_source"))
                return answer.status, row["network_p95_ms"], told

            for _ in range(6):
                gateway.fleet.connected(REGION, 0.3)  # the seventh is the connect of the first request itself
            assert await seen() == (200, FRENCH_P95_MS, (22, FRENCH_P95_MS, "declared"))
            gateway.fleet.connected(REGION, 0.3)
            assert await seen() == (503, 300.0, (300.0, 300.0, "measured"))
