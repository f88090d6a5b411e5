"""The whole way, on real sockets: a gateway over the local grid service, which is broken, killed and mended."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from support import HELLO, MODEL, configured
from vetted_mw import Gateway, VettedProxy
from vetted_mw.demo.grid import wave_of
from vetted_mw.demo.grid_service import TOKEN, Fault, GridService
from vetted_mw.demo.stage import running
from vetted_mw.grid.report import zone_facts
from vetted_mw.testing import FakeUpstream, asgi_exchange

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from vetted_mw.testing import Exchange

pytestmark = pytest.mark.anyio

LIMIT_SECONDS = 60.0
ZONES = ("FR", "SE_3", "IS", "DE_LU", "FI")
REFRESH_SECONDS = 0.2


class Shifted:
    """A wall clock that can be set ahead: what is an hour for signals is nothing for the test."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@contextmanager
def grid_on(port: int, service: GridService) -> Iterator[None]:
    """Serve the grid service on a port until the block ends; then nobody listens there."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
        with running(service, [listener]):
            yield


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def clock() -> Shifted:
    return Shifted()


@pytest.fixture
def service(clock: Shifted) -> GridService:
    return GridService(now=clock.now)


@pytest.fixture
def token(tmp_path: Path) -> Path:
    """A file with the token that the local ENTSO-E asks for."""
    file = tmp_path / "token"
    file.write_text(TOKEN)
    return file


def signals(port: int, token: Path, *names: str, **more: Any) -> dict[str, Any]:
    """Return `[signals]` for a gateway on the grid service."""
    urls = GridService().base_urls(f"http://127.0.0.1:{port}")
    sources: dict[str, dict[str, Any]] = {name: {"base_url": urls[name]} for name in names}
    if "entsoe" in sources:
        sources["entsoe"]["token"] = {"file": str(token)}
    return {"refresh_seconds": REFRESH_SECONDS, "timeout_seconds": 1.0, "sources": sources} | more


@asynccontextmanager
async def gateway_on(port: int, clock: Shifted, token: Path, *names: str, **more: Any) -> AsyncIterator[Gateway]:
    """Open a gateway over upstreams in Paris, Stockholm and Iceland that takes its signals from the grid service."""
    async with FakeUpstream() as paris, FakeUpstream() as stockholm, FakeUpstream() as iceland:
        configuration = configured(
            {
                "scaleway-par-1": paris.base_url,
                "atnorth-sto-1": stockholm.base_url,
                "atnorth-isl-1": iceland.base_url,
            },
            signals=signals(port, token, *names, **more),
        )
        async with Gateway(configuration, now=clock.now) as gateway:
            yield gateway


async def asked(gateway: Gateway, **vetted: Any) -> Exchange:
    body = {"model": MODEL, "messages": HELLO, "vetted": {"routing": "carbon_aware"} | vetted}
    return await asgi_exchange(VettedProxy(gateway), json=body)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what the gateway's own tasks bring about."""
    async with asyncio.timeout(LIMIT_SECONDS):
        while not condition():  # noqa: ASYNC110 (it changes in tasks that offer no event)
            await asyncio.sleep(0.02)


def live(gateway: Gateway, zones: tuple[str, ...] = ZONES) -> bool:
    now = gateway.now()
    readings = (gateway.board.best(zone, now) for zone in zones)
    return all(reading is not None and reading.live_eligible for reading in readings)


def refreshed(gateway: Gateway, name: str) -> Callable[[], bool]:
    """Return a condition that holds once `name` has been asked again from now on."""
    before = gateway.board.states()[name]
    return lambda: gateway.board.states()[name] != before


async def test_one_token_and_landsnet_give_all_eight_regions_a_live_value(
    port: int, clock: Shifted, service: GridService, token: Path
) -> None:
    """ENTSO-E and Landsnet are enough: every region live, all by one method, so that all compete."""
    with grid_on(port, service):
        async with gateway_on(port, clock, token, "entsoe", "landsnet") as gateway:
            await until(lambda: live(gateway))
            exchange = await asgi_exchange(VettedProxy(gateway), method="GET", path="/v1/regions")
            trace = (await asked(gateway)).json()["routing_trace"]
    told = exchange.json()["data"]
    assert len(told) == 8
    assert {region["signal"]["live_eligible"] for region in told} == {True}
    assert {row["method"] for region in told for row in region["signals"]} == {"production/lifecycle/average/ar5_v1"}
    assert {region["signal"]["source"] for region in told} == {"entsoe_derived_live", "landsnet_live"}
    assert (trace["decision_mode"], trace["method"]) == ("live", "production/lifecycle/average/ar5_v1")


async def test_without_any_key_iceland_is_live_and_does_not_compete(
    port: int, clock: Shifted, service: GridService, token: Path
) -> None:
    """Energy-Charts and Landsnet: all eight regions live, Iceland by another method, and the trace says so."""
    with grid_on(port, service):
        async with gateway_on(port, clock, token, "energy_charts", "landsnet") as gateway:
            await until(lambda: live(gateway))
            trace = (await asked(gateway)).json()["routing_trace"]
    rejected = {row["region"]: row["rejected"] for row in trace["candidates"]}
    assert trace["decision_mode"] == "live"
    assert trace["method"] == "unknown/unknown/average/energy_charts"
    assert rejected["atnorth-isl-1"] == "method_mismatch"
    assert (rejected["scaleway-par-1"], rejected["atnorth-sto-1"]) == (None, None)


async def test_the_first_request_is_answered_from_what_is_known_and_says_so(
    port: int, clock: Shifted, service: GridService, token: Path
) -> None:
    """While every source still hangs, a request is served in the default order, degraded, on the annual figure."""
    service.switch(Fault.HANG)
    with grid_on(port, service):
        async with gateway_on(port, clock, token, "entsoe", "landsnet") as gateway:
            told = (await asked(gateway)).json()
    assert told["routing_trace"]["decision_mode"] == "degraded"
    assert told["routing_trace"]["decision_reason"] == "degraded_no_operational_live_signal"
    assert told["routing_trace"]["region"] == "scaleway-par-1"
    assert told["receipt"]["grid_intensity_source"] == "annual_declared"
    assert told["receipt"]["grid_temporal_match"] == "annual_fallback"


async def test_a_grid_that_dies_ages_then_degrades_and_is_live_again_within_a_refresh(
    port: int, clock: Shifted, service: GridService, token: Path
) -> None:
    """Killed: live with growing age up to the limit, then degraded with the annual figure. Restarted: live again."""
    async with gateway_on(port, clock, token, "entsoe", "landsnet") as gateway:
        with grid_on(port, service):
            await until(lambda: live(gateway))
            fresh = (await asked(gateway)).json()
        await until(lambda: gateway.board.states()["entsoe"].error == "unreachable")
        ages, modes, receipts = [], [], []
        for minutes in (30, 90, 170, 181, 400):
            clock.ahead = timedelta(minutes=minutes)
            told = (await asked(gateway)).json()
            signal = told["routing_trace"]["operational_signal"]
            ages.append(None if signal is None else signal["age_minutes"])
            modes.append(told["routing_trace"]["decision_mode"])
            receipts.append(told["receipt"]["grid_temporal_match"])
        clock.ahead = timedelta(0)
        with grid_on(port, service):
            await until(refreshed(gateway, "entsoe"))
            await until(lambda: gateway.board.states()["entsoe"].failures == 0)
            again = (await asked(gateway)).json()
    assert fresh["routing_trace"]["decision_mode"] == "live"
    assert modes == ["live", "live", "live", "degraded", "degraded"]
    grown = [age for age in ages if age is not None]
    assert len(grown) == 3
    assert grown == sorted(set(grown))
    assert grown[0] >= 30
    assert receipts == ["fresh", "fresh", "fresh", "annual_fallback", "annual_fallback"]
    assert again["routing_trace"]["decision_mode"] == "live"


FAULTS = {
    Fault.UNAVAILABLE: {"outage"},
    Fault.HTML: {"html_page"},
    Fault.NOT_FOUND: {"outage"},
    Fault.UNAUTHORIZED: {"unauthorized"},
    Fault.RATE_LIMITED: {"rate_limited"},
    Fault.NO_DATA: {"no_data", "not_understood"},
    Fault.NO_DATA_400: {"no_data", "not_understood"},
    Fault.TRUNCATED: {"not_understood"},
    Fault.HUGE: {"too_large"},
    Fault.DOCTYPE: {"forbidden_markup", "not_understood"},
    Fault.ZEROS: {"implausible", "incomplete"},
    Fault.HANG: {"timeout"},
}


@pytest.mark.parametrize(("fault", "reasons"), FAULTS.items(), ids=[fault.value for fault in FAULTS])
async def test_a_fault_keeps_the_last_good_value_and_is_visible(
    port: int,
    clock: Shifted,
    service: GridService,
    token: Path,
    fault: Fault,
    reasons: set[str],
) -> None:
    """Whatever a service does, its last value stays with its own time, the reason is told, and requests are served."""
    with grid_on(port, service):
        async with gateway_on(port, clock, token, "entsoe", "landsnet") as gateway:
            await until(lambda: live(gateway))
            service.switch(fault)
            for name in ("entsoe", "landsnet"):
                await until(refreshed(gateway, name))
            now = gateway.now()
            await until(lambda: all(zone_facts(gateway.board, zone, now)[0]["no_signal"] for zone in ZONES))
            before = {zone: gateway.board.readings_for(zone, now) for zone in ZONES}
            told = {zone: zone_facts(gateway.board, zone, now)[0] for zone in ZONES}
            exchange = await asked(gateway)
            after = {zone: gateway.board.readings_for(zone, now) for zone in ZONES}
    assert {row["no_signal"]["reason"] for row in told.values()} <= reasons
    assert before == after
    assert exchange.status == 200
    assert exchange.json()["routing_trace"]["decision_mode"] == "live"


@pytest.mark.parametrize(
    ("fault", "reason"), [(Fault.OLD, "stale"), (Fault.FUTURE, "future_dated")], ids=["old", "future"]
)
async def test_data_of_another_time_never_decides(
    port: int,
    clock: Shifted,
    service: GridService,
    token: Path,
    fault: Fault,
    reason: str,
) -> None:
    """Three days old or two hours ahead: shown with the reason, and carbon-aware degrades."""
    service.switch(fault)
    with grid_on(port, service):
        async with gateway_on(port, clock, token, "entsoe", "landsnet") as gateway:
            await until(lambda: all(gateway.board.readings_for(zone, gateway.now()) for zone in ZONES))
            rows = [zone_facts(gateway.board, zone, gateway.now())[0] for zone in ZONES]
            trace = (await asked(gateway)).json()["routing_trace"]
    assert {(row["live_eligible"], row["ineligible_reason"]) for row in rows} == {(False, reason)}
    assert (trace["decision_mode"], trace["decision_reason"]) == ("degraded", "degraded_no_operational_live_signal")


@pytest.mark.parametrize("fault", [Fault.NONE, Fault.NO_GAPS, Fault.ZIP])
async def test_every_form_of_the_same_data_gives_the_same_value(
    port: int, clock: Shifted, service: GridService, token: Path, fault: Fault
) -> None:
    """With A03 gaps, with every point written, zipped: one wave, one intensity."""
    service.switch(fault, "entsoe")
    with grid_on(port, service):
        async with gateway_on(port, clock, token, "entsoe") as gateway:
            await until(lambda: live(gateway, ("FR", "SE_3", "DE_LU", "FI")))
            reading = gateway.board.best("FR", gateway.now())
    assert reading is not None
    start = reading.signal.observed_at - timedelta(minutes=reading.signal.resolution_minutes or 0)
    assert reading.signal.gco2_per_kwh == pytest.approx(wave_of("FR").at(start), abs=0.01)


async def test_one_source_that_hangs_holds_up_no_other(
    port: int, clock: Shifted, service: GridService, token: Path
) -> None:
    """ENTSO-E hangs from the start; Iceland is live all the same, again and again."""
    service.switch(Fault.HANG, "entsoe")
    with grid_on(port, service):
        async with gateway_on(port, clock, token, "entsoe", "landsnet", timeout_seconds=LIMIT_SECONDS) as gateway:
            await until(lambda: live(gateway, ("IS",)))
            asked_once = service.requests["landsnet"]
            await until(lambda: service.requests["landsnet"] > asked_once + 1)
            assert service.requests["entsoe"] == 1
            assert not live(gateway, ("FR",))


async def test_requests_cost_no_request_to_a_source(
    port: int, clock: Shifted, service: GridService, token: Path
) -> None:
    """A thousand decisions between two refreshes ask no service once: what is known is on the board."""
    with grid_on(port, service):
        async with gateway_on(
            port, clock, token, "entsoe", "landsnet", "energy_charts", refresh_seconds=3600.0
        ) as gateway:
            await until(lambda: live(gateway))
            await until(lambda: all(state.succeeded_at for state in gateway.board.states().values()))
            before = dict(service.requests)
            exchanges = [await asked(gateway) for _ in range(200)]
            core = await gateway.core()
            for _ in range(1000):
                core.candidates(core.now())
            after = dict(service.requests)
    assert {exchange.json()["routing_trace"]["decision_mode"] for exchange in exchanges} == {"live"}
    assert before == after == {"entsoe": 4, "landsnet": 1, "energy_charts": 4}


async def test_closing_the_gateway_ends_every_source(
    port: int, clock: Shifted, service: GridService, token: Path
) -> None:
    """A source in the middle of a hanging answer is cancelled with the gateway; no task of it is left."""
    service.switch(Fault.HANG)
    with grid_on(port, service):
        async with gateway_on(port, clock, token, "entsoe", "landsnet", timeout_seconds=LIMIT_SECONDS):
            await until(lambda: service.requests["entsoe"] + service.requests["landsnet"] == 2)
            assert any("SignalBoard" in repr(task.get_coro()) for task in asyncio.all_tasks())
        assert not any("SignalBoard" in repr(task.get_coro()) for task in asyncio.all_tasks())
