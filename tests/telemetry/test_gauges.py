"""What collectors see of regions between requests: signal, age, health, load; of open gateways only."""

from __future__ import annotations

import gc
import threading
from typing import TYPE_CHECKING

import pytest

from streams.wall import Caller, until
from support import configured, proxied
from telemetry.recorded import Recorded
from telemetry.spans import GRAVELINES, KNOWN, PARIS, asked, upstream
from vetted_mw import Gateway, VettedProxy
from vetted_mw.telemetry import names
from vetted_mw.telemetry.gauges import RegionGlance, Watch
from vetted_mw.testing import FakeAnswer, FakeUpstream, ManualClock, StaticSignals, asgi_exchange, chat_frames

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.anyio


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    """Return an SDK of this test's own."""
    made = Recorded()
    yield made
    made.shutdown()


def seen(recorded: Recorded, name: str) -> dict[str, float]:
    """Return what a gauge shows now, by region."""
    metric = recorded.metrics.get(name)
    found = [] if metric is None else metric.data.data_points
    return {str(dict(point.attributes or {})[names.REGION]): point.value for point in found}  # type: ignore[union-attr]


async def test_a_measured_signal_is_shown_with_its_growing_age(recorded: Recorded) -> None:
    """Value, source and age of what decides; it ages between two looks, and stays after it has become too old."""
    clock = ManualClock()
    signals = StaticSignals({"FR": 21.5}, now=clock.now, age_minutes=30, name="live")
    options = {**recorded.providers, "now": clock.now, "monotonic": clock.monotonic}
    async with FakeUpstream() as paris, proxied({PARIS: paris.base_url}, signals=[signals], options=options):
        (point,) = recorded.metrics[names.CARBON_INTENSITY].data.data_points
        assert dict(point.attributes or {}) == {names.REGION: PARIS, names.SOURCE: "live"}
        assert point.value == 21.5  # type: ignore[union-attr]
        assert seen(recorded, names.SIGNAL_AGE) == {PARIS: 30 * 60}
        clock.tick(86_400)
        assert seen(recorded, names.SIGNAL_AGE) == {PARIS: 30 * 60 + 86_400}
        assert seen(recorded, names.CARBON_INTENSITY) == {PARIS: 21.5}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
async def test_a_value_that_cannot_be_is_not_shown(recorded: Recorded, value: float) -> None:
    """A number that decides nothing is no measurement for a dashboard either."""
    clock = ManualClock()
    signals = StaticSignals({"FR": value}, now=clock.now, age_minutes=30, name="live")
    options = {**recorded.providers, "now": clock.now, "monotonic": clock.monotonic}
    async with FakeUpstream() as paris, proxied({PARIS: paris.base_url}, signals=[signals], options=options):
        assert seen(recorded, names.CARBON_INTENSITY) == {}
        assert seen(recorded, names.SIGNAL_AGE) == {}


async def test_a_region_without_a_signal_has_no_value(recorded: Recorded) -> None:
    """Nothing is shown for a zone that nobody measures: no zero, no annual mean."""
    async with FakeUpstream() as paris, proxied({PARIS: paris.base_url}, options=recorded.providers):
        assert seen(recorded, names.CARBON_INTENSITY) == {}
        assert seen(recorded, names.REGIONS_HEALTHY) == {PARIS: 1}


async def test_a_region_is_healthy_until_its_breaker_opens_or_it_is_drained(recorded: Recorded) -> None:
    """What would not be sent a request is 0, what would is 1."""
    async with FakeUpstream() as paris, FakeUpstream() as gravelines:
        urls = {PARIS: upstream(paris.base_url), GRAVELINES: upstream(gravelines.base_url, drained=True)}
        async with proxied(urls, options=recorded.providers) as app:
            assert seen(recorded, names.REGIONS_HEALTHY) == {PARIS: 1, GRAVELINES: 0}
            for _ in range(5):
                paris.then(FakeAnswer.json({"error": {"message": "broken"}}, status=500))
                await asgi_exchange(app, json=asked())
            assert seen(recorded, names.REGIONS_HEALTHY) == {PARIS: 0, GRAVELINES: 0}


async def test_what_is_under_way_is_counted_while_it_is(recorded: Recorded) -> None:
    """A stream is one attempt in flight at its region until it ends."""
    async with FakeUpstream(model=KNOWN) as paris:
        paris.then(FakeAnswer.stream(chat_frames()[:2], ending="stall"))
        async with Gateway(configured({PARIS: upstream(paris.base_url)}), **recorded.providers) as gateway:
            caller = Caller(VettedProxy(gateway), asked(stream=True))
            answering = caller.start()
            await until(lambda: len(caller.sent) > 1)
            assert seen(recorded, names.IN_FLIGHT) == {PARIS: 1}
            caller.leave()
            await answering
            assert seen(recorded, names.IN_FLIGHT) == {PARIS: 0}


async def test_only_open_gateways_are_looked_at(recorded: Recorded) -> None:
    """Two gateways on one provider are both seen; a closed one and a forgotten one are not, nor kept alive."""
    async with FakeUpstream() as paris:
        first = Gateway(configured({PARIS: paris.base_url}), **recorded.providers)
        second = Gateway(configured({GRAVELINES: paris.base_url}), **recorded.providers)
        assert seen(recorded, names.REGIONS_HEALTHY) == {}
        async with first:
            async with second:
                assert seen(recorded, names.REGIONS_HEALTHY) == {PARIS: 1, GRAVELINES: 1}
            assert seen(recorded, names.REGIONS_HEALTHY) == {PARIS: 1}
        assert seen(recorded, names.REGIONS_HEALTHY) == {}


async def test_a_reload_shows_the_regions_there_are_now(recorded: Recorded) -> None:
    """After the settings have changed a gauge shows what requests see."""
    async with (
        FakeUpstream() as paris,
        Gateway(configured({PARIS: paris.base_url}), **recorded.providers) as gateway,
    ):
        await gateway.reload(configured({GRAVELINES: paris.base_url}))
        assert seen(recorded, names.REGIONS_HEALTHY) == {GRAVELINES: 1}


async def test_collecting_in_another_thread_sees_the_same(recorded: Recorded) -> None:
    """Readers of an SDK collect in threads of their own; they are given the same values."""
    found: list[dict[str, float]] = []
    async with FakeUpstream() as paris, proxied({PARIS: paris.base_url}, options=recorded.providers):
        thread = threading.Thread(target=lambda: found.append(seen(recorded, names.REGIONS_HEALTHY)))
        thread.start()
        thread.join(20)
    assert found == [{PARIS: 1}]


class _Seen:
    """A gateway that tells one region, or fails."""

    def __init__(self, region: str, error: Exception | None = None) -> None:
        self._region = region
        self._error = error

    def glances(self) -> list[RegionGlance]:
        """Tell it."""
        if self._error is not None:
            raise self._error
        return [RegionGlance(region=self._region, is_healthy=True, in_flight=0, signal=None)]


def test_one_gateway_that_cannot_be_read_hides_no_other(caplog: pytest.LogCaptureFixture) -> None:
    """The others are told, the log says that one was not, and no word of why."""
    watch = Watch()
    broken, whole = _Seen("a", RuntimeError("canary")), _Seen("b")
    for one in (broken, whole, whole):
        watch.add(one)
    assert [glance.region for glance in watch.glances()] == ["b"]
    assert caplog.messages == ["a gauge could not be read"]
    assert "canary" not in str([vars(record) for record in caplog.records])


def test_a_watch_keeps_no_gateway_alive() -> None:
    """One that nobody closed and nobody holds is gone from the gauges as from memory."""
    watch = Watch()
    watch.add(_Seen("a"))
    gc.collect()
    assert list(watch.glances()) == []
