"""The trace compares each request with the default region: attributional, and only where the methods are the same."""

from __future__ import annotations

from typing import Any

import pytest

from support import HELLO, MODEL, proxied
from vetted_mw.grid.signal import Method
from vetted_mw.testing import FakeUpstream, StaticSignals, asgi_exchange

pytestmark = pytest.mark.anyio

PARIS, STOCKHOLM = "scaleway-par-1", "atnorth-sto-1"


async def told(signals: list[StaticSignals], **vetted: Any) -> dict[str, Any]:
    """Return the answer to one request over a default region in Paris and another in Stockholm."""
    async with FakeUpstream() as paris, FakeUpstream() as stockholm:
        upstreams = {PARIS: paris.base_url, STOCKHOLM: stockholm.base_url}
        async with proxied(upstreams, signals=signals) as app:
            body = {"model": MODEL, "messages": HELLO, "vetted": vetted}
            return dict((await asgi_exchange(app, json=body)).json())


async def test_a_cleaner_region_is_told_with_what_it_is_lower_by() -> None:
    """The same request in the default region, with its interval, labelled for what it is."""
    answer = await told([StaticSignals({"FR": 60.0, "SE": 20.0, "SE_3": 20.0})], region=STOCKHOLM)
    found, receipt = answer["routing_trace"]["default_region"], answer["receipt"]
    assert found["region"] == PARIS
    assert found["comparison"] == "attributional"
    assert found["gco2e_ci90_lo"] < found["gco2e"] < found["gco2e_ci90_hi"]
    assert found["lower_by_gco2e"] == pytest.approx(found["gco2e"] - receipt["gco2e"], rel=1e-5)
    assert found["lower_by_gco2e"] > 0
    assert receipt["default_region"] == PARIS
    assert receipt["default_region_grid_gco2_per_kwh"] == 60.0
    assert receipt["default_region_pue"] == 1.46
    assert receipt["default_region_gco2e"] == found["gco2e"]


async def test_a_dirtier_region_is_told_as_a_negative_number() -> None:
    """A request that was worse off where it ran says so."""
    answer = await told([StaticSignals({"FR": 20.0, "SE": 300.0, "SE_3": 300.0})], region=STOCKHOLM)
    assert answer["routing_trace"]["default_region"]["lower_by_gco2e"] < 0


async def test_the_default_region_compared_with_itself_is_no_lower() -> None:
    """Served by default, the two are the same numbers."""
    answer = await told([StaticSignals({"FR": 60.0, "SE": 20.0, "SE_3": 20.0})], region=PARIS)
    found = answer["routing_trace"]["default_region"]
    assert (found["gco2e"], found["lower_by_gco2e"]) == (answer["receipt"]["gco2e"], 0)


async def test_signals_of_different_methods_are_not_compared() -> None:
    """A lifecycle figure and one of another basis do not subtract: the member is null, and so are the receipt's fields."""
    direct = Method(basis="direct", accounting="production", factor_set="other")
    signals = [
        StaticSignals({"FR": 60.0}, name="one", method=direct),
        StaticSignals({"SE": 20.0, "SE_3": 20.0}, name="two"),
    ]
    answer = await told(signals, region=STOCKHOLM)
    assert answer["receipt"]["grid_intensity_source"] == "two"
    assert answer["routing_trace"]["default_region"] is None
    fields = ("default_region", "default_region_grid_gco2_per_kwh", "default_region_pue", "default_region_gco2e")
    assert [answer["receipt"][name] for name in fields] == [None] * 4


async def test_a_live_signal_is_not_compared_with_an_annual_figure() -> None:
    """Kinds differ, so nothing is told of how they compare."""
    answer = await told([StaticSignals({"SE": 20.0, "SE_3": 20.0})], region=STOCKHOLM)
    assert answer["receipt"]["grid_temporal_match"] != "annual_fallback"
    assert answer["routing_trace"]["default_region"] is None


async def test_two_annual_figures_of_one_table_are_compared() -> None:
    """The declared averages of the shipped table stand for the same kind of thing."""
    answer = await told([], region=STOCKHOLM)
    assert answer["receipt"]["grid_intensity_source"] == "annual_declared"
    assert answer["routing_trace"]["default_region"]["region"] == PARIS


async def test_an_error_answer_compares_nothing() -> None:
    """Without a receipt there is nothing to compare, and no member that says so."""
    async with proxied({PARIS: "http://127.0.0.1:9/v1"}) as app:
        exchange = await asgi_exchange(app, json={"model": MODEL, "messages": HELLO})
    assert exchange.status >= 500
    assert "default_region" not in exchange.json()["routing_trace"]
