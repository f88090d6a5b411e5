"""The local grid service: what the real ones send, and how each of its faults looks on the wire."""

from __future__ import annotations

import io
import json
import zipfile
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from vetted_mw.demo import grid_wire
from vetted_mw.demo.grid_service import SERVICES, TOKEN, Fault, GridService
from vetted_mw.testing import ManualClock

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 11, 22, 10, 31, 7, tzinfo=UTC)
FRANCE = "10YFR-RTE------C"
ASKED = {
    "entsoe": f"/entsoe/api?securityToken={TOKEN}&documentType=A75&processType=A16&in_Domain={FRANCE}",
    "landsnet": "/landsnet/generation/api/Values",
    "energy_charts": "/energy_charts/co2eq?country=fr",
}


@pytest.fixture
def service() -> GridService:
    return GridService(now=ManualClock(NOW).now)


async def sent(service: GridService, path: str, method: str = "GET") -> httpx.Response:
    transport = httpx.ASGITransport(app=service)
    async with httpx.AsyncClient(transport=transport, base_url="http://grid") as client:
        return await client.request(method, path)


@pytest.mark.parametrize(
    ("fault", "status", "body"),
    [
        (Fault.UNAVAILABLE, 503, b"<!DOCTYPE html>"),
        (Fault.HTML, 200, b"<!DOCTYPE html>"),
        (Fault.NOT_FOUND, 404, b"404 page not found"),
        (Fault.UNAUTHORIZED, 401, b"Unauthorized"),
        (Fault.RATE_LIMITED, 429, b"Too many requests"),
        (Fault.DOCTYPE, 200, b'<?xml version="1.0"?>\n<!DOCTYPE'),
    ],
)
@pytest.mark.parametrize("name", SERVICES)
async def test_a_fault_looks_as_it_does_in_the_wild(
    service: GridService, name: str, fault: Fault, status: int, body: bytes
) -> None:
    """Status and body of each, whichever service is asked."""
    service.switch(fault, name)
    answer = await sent(service, ASKED[name])
    assert answer.status_code == status
    assert answer.content.startswith(body)
    assert ("retry-after" in answer.headers) == (fault is Fault.RATE_LIMITED)


async def test_a_huge_body_is_fifty_megabytes(service: GridService) -> None:
    """Ten times what a reader takes."""
    service.switch(Fault.HUGE)
    assert len((await sent(service, ASKED["landsnet"])).content) == 50 * 1024 * 1024


@pytest.mark.parametrize(("fault", "status"), [(Fault.NO_DATA, 200), (Fault.NO_DATA_400, 400)])
async def test_no_data_is_an_acknowledgement_at_entsoe_and_nothing_elsewhere(
    service: GridService, fault: Fault, status: int
) -> None:
    """ENTSO-E says so with either status; the others send empty answers."""
    service.switch(fault)
    acknowledged = await sent(service, ASKED["entsoe"])
    assert (acknowledged.status_code, b"Acknowledgement_MarketDocument" in acknowledged.content) == (status, True)
    assert (await sent(service, ASKED["landsnet"])).json() == {}
    assert (await sent(service, ASKED["energy_charts"])).json()["co2eq"] == []


async def test_an_answer_can_be_cut_zipped_or_all_zero(service: GridService) -> None:
    """The good answer is spoilt, so that only the reader's care tells."""
    whole = (await sent(service, ASKED["entsoe"])).content
    service.switch(Fault.TRUNCATED)
    assert whole.startswith((await sent(service, ASKED["entsoe"])).content)
    service.switch(Fault.ZIP)
    with zipfile.ZipFile(io.BytesIO((await sent(service, ASKED["entsoe"])).content)) as archive:
        assert archive.read(archive.namelist()[0]) == whole
    service.switch(Fault.ZEROS)
    assert b"<quantity>0<" in (await sent(service, ASKED["entsoe"])).content
    snapshot = (await sent(service, ASKED["landsnet"])).json()
    assert {snapshot[name] for name in ("hydro", "geothermal", "oil")} == {0.0}


@pytest.mark.parametrize(("fault", "ahead"), [(Fault.OLD, timedelta(days=-3)), (Fault.FUTURE, timedelta(hours=2))])
async def test_data_can_be_of_another_time(service: GridService, fault: Fault, ahead: timedelta) -> None:
    """Three days back or two hours ahead, at all three services."""
    service.switch(fault)
    snapshot = (await sent(service, ASKED["landsnet"])).json()
    assert datetime.fromisoformat(snapshot["timestamp"]).replace(tzinfo=UTC) == NOW + ahead
    assert f"<end>{NOW + ahead:%Y-%m-%dT%H:%M}Z</end>".encode() in (await sent(service, ASKED["entsoe"])).content
    starts = (await sent(service, ASKED["energy_charts"])).json()["unix_seconds"]
    assert starts[4] == (NOW.replace(hour=0, minute=0, second=0) + ahead).timestamp()


async def test_whoever_asks_wrongly_is_refused_as_the_real_services_refuse(service: GridService) -> None:
    """No token, an area that is none, a country that is none."""
    assert (await sent(service, "/entsoe/api?securityToken=wrong")).status_code == 401
    strange = await sent(service, f"/entsoe/api?securityToken={TOKEN}&in_Domain=10YXX")
    assert (strange.status_code, b"not valid for this area" in strange.content) == (400, True)
    country = await sent(service, "/energy_charts/co2eq?country=xx")
    assert (country.status_code, country.headers["content-type"].partition(";")[0]) == (400, "text/plain")


async def test_faults_are_switched_over_http_and_requests_are_counted(service: GridService) -> None:
    """One service or all of them; what is unknown is a 404 that lists what there is."""
    told = (await sent(service, "/faults/landsnet/503", "POST")).json()
    assert told["faults"] == {"entsoe": "none", "landsnet": "503", "energy_charts": "none"}
    await sent(service, ASKED["landsnet"])
    told = (await sent(service, "/faults/all/none", "POST")).json()
    assert set(told["faults"].values()) == {"none"}
    assert told["requests"] == {"entsoe": 0, "landsnet": 1, "energy_charts": 0}
    for path in ("/faults/nobody/503", "/faults/all/unheard-of"):
        unknown = await sent(service, path, "POST")
        assert unknown.status_code == 404
        assert "entsoe" in unknown.json()["services"]
        assert "hang" in unknown.json()["faults"]
    assert (await sent(service, "/faults")).json()["requests"] == told["requests"]


def test_energy_charts_measures_the_past_and_forecasts_the_rest() -> None:
    """At most one of the two per quarter, the seam at now."""
    body = grid_wire.energy_charts("fr", NOW)
    assert body is not None
    told: dict[str, list[Any]] = json.loads(body)
    for start, measured, forecast in zip(told["unix_seconds"], told["co2eq"], told["co2eq_forecast"], strict=True):
        assert (measured is None) != (forecast is None)
        assert (measured is not None) == (start + 900 <= NOW.timestamp())
