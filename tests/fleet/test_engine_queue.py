"""The queue of a region's engine: scraped in the background, believed while it is fresh, told where it cannot be read."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from streams.wall import payload, told, until
from support import configured
from vetted_mw import Gateway, VettedProxy
from vetted_mw.configuration import Upstream
from vetted_mw.fleet.engines import Engine
from vetted_mw.fleet.fleet import Fleet, RegionState
from vetted_mw.fleet.probes import Fetched, Probes
from vetted_mw.routing.decision import AttemptOutcome
from vetted_mw.testing import FakeUpstream, ManualClock, asgi_exchange

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.anyio

REGION, OTHER = "scaleway-par-1", "ovh-gra-1"
INTERVAL = 5.0


def page(waiting: int) -> bytes:
    return b"vllm:num_requests_running 2\nvllm:num_requests_waiting %d\n" % waiting


class Scraped:
    """A fleet of one region, its probes and its clock; `answer` is what the next scrape finds."""

    def __init__(self, *, max_queue: int = 3, drained: bool = False) -> None:
        self.clock = ManualClock()
        self.answer: tuple[int, bytes] | None = (200, page(0))
        self.takes = 0.0
        upstream = Upstream(
            region="a",
            base_url="https://model.example/v1",
            health_path="",
            metrics_path="/metrics",
            max_queue=max_queue,
        )
        self.fleet = Fleet({"a": upstream}, monotonic=self.clock.monotonic, jitter=lambda: 0.0)
        self._probes = Probes(
            self.fleet, {"a": upstream}, fetch=self._fetch, jitter=lambda: 0.0, interval_seconds=INTERVAL
        )

    async def _fetch(self, upstream: Upstream, path: str, *, from_origin: bool) -> Fetched | None:
        assert (upstream.region, path, from_origin) == ("a", "/metrics", True)
        self.clock.tick(self.takes)
        if self.answer is None:
            return None
        status, body = self.answer
        return Fetched(status=status, body=body, round_trip_seconds=0.0)

    async def scrape(self, answer: tuple[int, bytes] | None) -> RegionState:
        self.answer = answer
        await self._probes.probe("a")
        return self.state

    @property
    def state(self) -> RegionState:
        state = self.fleet.state("a")
        assert state is not None
        return state


@pytest.mark.parametrize(
    ("max_queue", "waiting", "saturated"), [(3, 2, False), (3, 3, True), (3, 4, True), (1, 0, False), (0, 99, False)]
)
async def test_a_queue_as_long_as_the_setting_saturates_a_region(max_queue: int, waiting: int, saturated: bool) -> None:
    """From that length on, not above it; 0 ignores the queue, which is told all the same."""
    state = await Scraped(max_queue=max_queue).scrape((200, page(waiting)))
    assert (state.saturated, state.degraded, state.retry_after) == (saturated, False, None)
    assert state.queue is not None
    assert (state.queue.engine, state.queue.running, state.queue.waiting) == (Engine.VLLM, 2, waiting)


async def test_a_shorter_queue_frees_the_region_again() -> None:
    """The latest reading decides."""
    scraped = Scraped()
    assert (await scraped.scrape((200, page(9)))).saturated
    assert not (await scraped.scrape((200, page(1)))).saturated


async def test_before_the_first_reading_nothing_is_full() -> None:
    """An unknown queue speaks against nobody."""
    state = Scraped().state
    assert (state.saturated, state.queue) == (False, None)


@pytest.mark.parametrize(
    "answer",
    [None, (404, page(9)), (500, b""), (200, b""), (200, b"<html>"), (200, b"\xff" * 1000)],
    ids=["unreachable", "404", "500", "empty", "HTML", "no text"],
)
async def test_a_reading_is_believed_for_three_intervals_whatever_fails_meanwhile(
    answer: tuple[int, bytes] | None,
) -> None:
    """Scrapes that fail leave the old value to go stale; stale is ignored, and told as such."""
    scraped = Scraped()
    await scraped.scrape((200, page(9)))
    for _ in range(3):
        scraped.clock.tick(INTERVAL)
        state = await scraped.scrape(answer)
        assert state.saturated
    assert state.queue is not None
    assert (state.queue.age_seconds, state.queue.stale) == (3 * INTERVAL, False)
    scraped.clock.tick(0.1)
    state = scraped.state
    assert state.queue is not None
    assert (state.saturated, state.queue.stale, state.queue.waiting) == (False, True, 9)
    assert (await scraped.scrape((200, page(9)))).saturated


async def test_a_reading_is_as_old_as_its_question() -> None:
    """What took long to come was true when it was asked for, at best."""
    scraped = Scraped()
    scraped.clock.tick(100)
    scraped.takes = 4.0
    state = await scraped.scrape((200, page(1)))
    assert state.queue is not None
    assert state.queue.age_seconds == 4.0


async def test_leases_do_not_change_a_reading() -> None:
    """What was sent since the scrape is counted as leases, and not a second time."""
    scraped = Scraped(max_queue=3)
    await scraped.scrape((200, page(2)))
    leases = [scraped.fleet.lease("a") for _ in range(5)]
    assert (scraped.state.saturated, scraped.state.in_flight) == (False, 5)
    for lease in leases:
        assert lease is not None
        lease.release(AttemptOutcome.SUCCESS)
    assert scraped.state.queue is not None
    assert scraped.state.queue.waiting == 2


# ---- the log


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[tuple[int, str]]]:
    caplog.set_level(logging.INFO, "vetted_mw")
    return lambda: [(one.levelno, one.getMessage()) for one in caplog.records]


async def test_metrics_that_fail_and_recover_are_told_once_each(lines: Callable[[], list[tuple[int, str]]]) -> None:
    """One line when they cannot be read, whatever the reasons, one when they can again; none for each scrape."""
    scraped = Scraped()
    for answer in ((200, page(1)), None, (404, b""), None, (200, page(1)), (200, page(1))):
        await scraped.scrape(answer)
    (first, message), second = lines()
    assert first == logging.WARNING
    assert "cannot be read" in message
    assert "metrics_path" in message
    assert second == (logging.INFO, "the metrics of a region's engine are read again")


async def test_a_page_without_a_known_queue_is_told_once_with_the_remedy(
    lines: Callable[[], list[tuple[int, str]]],
) -> None:
    """The operator learns that `max_queue` does nothing, and what to set."""
    scraped = Scraped()
    for _ in range(5):
        await scraped.scrape((200, b"my_queue_length 5\n"))
    ((level, message),) = lines()
    assert level == logging.WARNING
    assert "set metrics_path" in message
    assert "vLLM, SGLang, llama.cpp or TGI" in message


# ---- through the gateway


async def test_a_region_whose_engine_queues_is_passed_over_and_the_facts_say_why() -> None:
    """On real sockets: a request goes on to the next region, and comes back when the queue is short again."""
    async with FakeUpstream() as first, FakeUpstream() as second:
        tables: dict[str, Any] = {
            REGION: {"base_url": first.base_url, "metrics_path": "/metrics", "max_queue": 2},
            OTHER: second.base_url,
        }
        async with Gateway(configured(tables), background=False) as gateway:
            app = VettedProxy(gateway)

            async def served() -> tuple[str, str]:
                answer = told(await asgi_exchange(app, json=payload()))
                return answer.trace["decision_reason"], answer.attempts[-1][0]

            async def facts() -> dict[str, Any]:
                return dict((await asgi_exchange(app, method="GET", path=f"/v1/regions/{REGION}")).json())

            assert (await facts())["queue"] is None
            first.metrics = page(2).decode()
            await gateway.probe(REGION)
            assert await served() == ("preferred_saturated", OTHER)
            told_facts = await facts()
            assert told_facts["health"]["saturated"] is True
            assert told_facts["queue"].pop("age_seconds") >= 0
            assert told_facts["queue"] == {"engine": "vllm", "running": 2, "waiting": 2, "stale": False}
            first.metrics = page(1).decode()
            await gateway.probe(REGION)
            assert await served() == ("preferred_available", REGION)


async def test_an_open_gateway_scrapes_by_itself() -> None:
    """Nobody has to ask for it."""
    async with FakeUpstream() as upstream:
        upstream.metrics = page(7).decode()
        table = {"base_url": upstream.base_url, "metrics_path": "/metrics", "max_queue": 7}
        async with Gateway(configured({REGION: table})) as gateway:

            def is_full() -> bool:
                state = gateway.fleet.state(REGION)
                return state is not None and state.saturated

            await until(is_full)
