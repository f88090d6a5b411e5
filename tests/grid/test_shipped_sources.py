"""The configured services as sources: which zones each is asked for, on which terms, and with how many requests."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from grid.samples import NOW
from vetted_mw import Gateway, load_configuration
from vetted_mw.grid.absence import NoSignal
from vetted_mw.grid.services import DEFAULT_CHAIN, SERVICES
from vetted_mw.grid.sources.fetching import Answer
from vetted_mw.grid.sources.polled import PolledSource
from vetted_mw.grid.sources.shipped import parsers_of, sources_of, terms_of
from vetted_mw.testing import ManualClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from vetted_mw.grid.sources.fetching import Get
    from vetted_mw.grid.sources.request import Request
    from vetted_mw.grid.sources.terms import Terms
    from vetted_mw.signal_configuration import SignalConfiguration

pytestmark = pytest.mark.anyio

ZONES = ("FR", "SE_3", "IS", "DE_LU", "FI")
KEYS = {"KEY": "k"}
TOKEN = {"token": {"env": "KEY"}}
ALL: dict[str, Any] = {
    "file": {"path": "/nowhere/signals.toml"},
    "http_json": {"zones": {"FR": {"url": "http://127.0.0.1/own", "value": "v", "observed_at": "t"}}},
    "energinet": {},
    "electricity_maps": TOKEN,
    "fingrid": TOKEN,
    "energy_charts": {},
    "statnett": {},
    "odre": {},
    "landsnet": {},
    "entsoe": TOKEN,
}
"""Every source, in no order."""
_OWN = {"value": "v", "observed_at": "t"}


def configured(sources: Mapping[str, Any], **signals: Any) -> SignalConfiguration:
    return load_configuration(environ=KEYS, overrides={"signals": {"sources": sources} | signals}).signals


class Asking:
    """A session that writes down every URL and answers that there is nothing."""

    def __init__(self) -> None:
        self.urls: list[str] = []

    @contextlib.asynccontextmanager
    async def __call__(self) -> AsyncIterator[Get]:
        yield self._get

    async def _get(self, request: Request) -> Answer:
        self.urls.append(request.url)
        return Answer(status=204, body=b"")


async def asked(
    sources: Mapping[str, Any], zones: tuple[str, ...] = ZONES, **signals: Any
) -> tuple[list[str], list[str]]:
    """Refresh the configured sources once without any pause; returns the URLs asked and the zones told of."""
    session = Asking()
    zones_told: list[str] = []
    for source in sources_of(configured(sources, **signals), zones, session=session, now=lambda: NOW):
        assert isinstance(source, PolledSource)
        for line in source._lines:
            line._sleep = _no_time
        told = await source.readings()
        assert all(isinstance(one, NoSignal) for one in told)
        zones_told += [one.zone for one in told]
    return session.urls, zones_told


async def _no_time(_seconds: float) -> None:
    return None


def queried(url: str, name: str) -> str:
    return parse_qs(urlsplit(url).query)[name][0]


def terms(name: str, zone: str, sources: Mapping[str, Any] | None = None, **signals: Any) -> Terms:
    found = configured(sources or {name: ALL[name]}, **signals)
    (service,) = [one for one in found.services if one.name == name]
    on = terms_of(service, zone, found)
    assert on is not None
    return on


# ---- which sources, in which order


def test_sources_stand_in_the_order_of_the_default_chain() -> None:
    """Mixes under our one factor set first, the operator's own and the file last, however the settings list them."""
    found = [source.name for source in sources_of(configured(ALL), ZONES, session=Asking(), now=lambda: NOW)]
    assert tuple(found) == DEFAULT_CHAIN
    assert found[:3] == ["entsoe", "landsnet", "odre"]
    assert found[-2:] == ["http_json", "file"]


def test_a_zone_without_a_chain_takes_them_in_that_order() -> None:
    """And sources of the application's own come after them."""
    configuration = load_configuration(environ=KEYS, overrides={"signals": {"sources": ALL}})
    assert Gateway(configuration).board.chain("FR") == DEFAULT_CHAIN


def test_nothing_is_asked_that_is_not_configured() -> None:
    """Without sources there are none."""
    assert sources_of(configured({}), ZONES, session=Asking(), now=lambda: NOW) == []


# ---- which zones, with how many requests


@pytest.mark.parametrize(
    ("name", "zones", "requests"),
    [
        ("entsoe", ["FR", "SE_3", "DE_LU", "FI"], 4),
        ("landsnet", ["IS"], 1),
        ("odre", ["FR"], 1),
        ("statnett", ["SE_3", "FI"], 1),
        ("energy_charts", ["FR", "SE_3", "DE_LU", "FI"], 4),
        ("fingrid", ["FI"], 1),
        ("electricity_maps", ["FR", "SE_3", "IS", "DE_LU", "FI"], 5),
        ("energinet", [], 0),
    ],
)
async def test_a_service_is_asked_for_the_zones_it_knows(name: str, zones: list[str], requests: int) -> None:
    """Of the catalogue's zones, each once; one it has nothing for is neither asked nor told of."""
    urls, told = await asked({name: ALL[name]})
    assert (told, len(urls)) == (zones, requests)
    assert all(url.startswith(SERVICES[name].base_url) for url in urls)


@pytest.mark.parametrize(
    ("name", "zones", "requests"),
    [
        ("entsoe", ("DE", "DE_LU"), 1),
        ("energy_charts", ("SE_1", "SE_2", "SE_3", "SE_4", "NO_1", "NO_5"), 2),
        ("energinet", ("DK_1", "DK_2"), 1),
        ("statnett", ("SE_3", "FI", "NO_1", "DK_1", "EE"), 1),
        ("electricity_maps", ("SE_3", "SE_4"), 2),
    ],
)
async def test_zones_that_one_answer_tells_are_asked_for_together(
    name: str, zones: tuple[str, ...], requests: int
) -> None:
    """One request for all of them, and each told of."""
    urls, told = await asked({name: ALL[name]}, zones)
    assert (sorted(told), len(urls)) == (sorted(zones), requests)


async def test_a_zone_of_several_regions_is_asked_for_once() -> None:
    """And a region without a zone not at all."""
    urls, told = await asked({"entsoe": TOKEN}, ("FR", "", "FR", "FR"))
    assert (told, len(urls)) == (["FR"], 1)


async def test_a_zone_no_service_knows_is_not_asked_for() -> None:
    """Unknown is none, never a neighbour."""
    assert await asked({"entsoe": TOKEN, "energy_charts": {}}, ("XX", "IS")) == ([], [])


async def test_a_chain_closes_its_zone_to_every_other_source() -> None:
    """What could never decide is not asked for; zones without a chain are as before."""
    chains = {"FR": ["odre"], "SE_3": ["energy_charts", "entsoe"]}
    sources = {name: ALL[name] for name in ("entsoe", "odre", "energy_charts")}
    _urls, told = await asked(sources, chains=chains)
    assert told == ["SE_3", "DE_LU", "FI", "FR", "SE_3", "DE_LU", "FI"]


@pytest.mark.parametrize(("chains", "requests"), [({}, 1), ({"FR": ["http_json"]}, 1), ({"FR": ["odre"]}, 0)])
async def test_a_chain_closes_its_zone_to_described_services_too(chains: dict[str, Any], requests: int) -> None:
    """A service of the operator's own is asked as any other."""
    sources = {"http_json": ALL["http_json"], "odre": {}}
    urls, _told = await asked(sources, chains=chains)
    assert len([url for url in urls if url.endswith("/own")]) == requests


async def test_described_services_at_one_host_share_a_refusal_and_others_do_not() -> None:
    """A key or a limit is of a host."""
    reading = {"value": "v", "observed_at": "t"}
    zones = {
        "FR": {"url": "http://127.0.0.1:1/fr"} | reading,
        "FI": {"url": "http://127.0.0.1:1/fi"} | reading,
        "SE_3": {"url": "http://127.0.0.1:2/se"} | reading,
    }
    (source,) = sources_of(configured({"http_json": {"zones": zones}}), ZONES, session=Asking(), now=lambda: NOW)
    assert isinstance(source, PolledSource)
    assert {one.zones[0]: one.service for one in source._questions} == {
        "FR": "127.0.0.1:1",
        "FI": "127.0.0.1:1",
        "SE_3": "127.0.0.1:2",
    }


# ---- the operator's words


async def test_the_operators_word_for_a_zone_is_what_is_asked_for() -> None:
    """Over the shipped table, and for a zone the table does not know; of ENTSO-E the value is that zone's own."""
    sources = {"entsoe": TOKEN | {"areas": {"DE_LU": "10Y1001A1001A82H", "XX": "10YXX-----------X"}}}
    urls, told = await asked(sources, ("DE_LU", "XX", "FR"))
    assert told == ["DE_LU", "XX", "FR"]
    assert [queried(url, "in_Domain") for url in urls] == ["10Y1001A1001A82H", "10YXX-----------X", "10YFR-RTE------C"]
    assert terms("entsoe", "DE_LU", sources).area == "DE_LU"
    assert terms("entsoe", "DE_LU").area == "DE"


def test_a_countrys_value_is_the_countrys_though_an_operator_names_it() -> None:
    """Who writes out `se` for a bidding zone gets the area the table would have told."""
    for areas in ({}, {"areas": {"SE_3": "se"}}):
        on = terms("energy_charts", "SE_3", {"energy_charts": areas})
        assert (on.zone, on.name, on.area) == ("SE_3", "se", "SE")


async def test_an_own_address_is_asked_without_the_services_spacing() -> None:
    """The pause between two requests is the public service's wish."""
    for base_url, spacing in (("", 1.5), ("http://127.0.0.1:1", 0.0)):
        (source,) = sources_of(
            configured({"energy_charts": {"base_url": base_url}}), ZONES, session=Asking(), now=lambda: NOW
        )
        assert isinstance(source, PolledSource)
        assert (source._pace.spacing_seconds, source._pace.ban_seconds) == (spacing, 900.0)


@pytest.mark.parametrize(
    ("sources", "least"),
    [
        ({"entsoe": TOKEN | {"base_url": "https://external-api.tp.entsoe.eu/api"}}, 60.0),
        ({"entsoe": TOKEN | {"base_url": "https://mirror.example/api"}}, 0.0),
        ({"http_json": {"zones": {"FR": _OWN | {"url": "https://API.energidataservice.dk/dataset/x"}}}}, 120.0),
        ({"http_json": {"zones": {"FR": _OWN | {"url": "https://external-api.tp.entsoe.eu/{token}"} | TOKEN}}}, 60.0),
        ({"http_json": {"zones": {"FR": _OWN | {"url": "https://own.example/now"}}}}, 0.0),
    ],
)
def test_a_known_services_least_pause_holds_at_each_of_its_hosts(sources: dict[str, Any], least: float) -> None:
    """After a failure too, and for whoever describes the service by another name."""
    (source,) = sources_of(configured(sources), ZONES, session=Asking(), now=lambda: NOW)
    assert isinstance(source, PolledSource)
    assert source.least_pause_seconds == least


@pytest.mark.parametrize(
    ("zone", "bars", "share"),
    [
        ("FR", {}, 0.25),
        ("DE_LU", {}, 0.45),
        ("FR", {"default": 0.1}, 0.1),
        ("DE_LU", {"default": 0.1}, 0.45),
        ("DE_LU", {"default": 0.1, "DE_LU": 0.6}, 0.6),
        ("FR", {"FR": 0.0, "default": 0.9}, 0.0),
        ("FR", {"DE_LU": 0.6}, 0.25),
    ],
)
def test_the_bar_for_stand_ins_is_the_nearest_that_is_set(zone: str, bars: dict[str, float], share: float) -> None:
    """The operator's for the zone, then the zone's own, then the operator's default, then ours."""
    assert terms("entsoe", zone, max_proxy_share=bars).max_proxy_share == share


@pytest.mark.parametrize("bars", [{}, {"FR": 0.5}, {"default": 0.5}])
def test_the_bar_holds_for_described_services_too(bars: dict[str, float]) -> None:
    """Though they tell no mix, their signals carry it."""
    (source,) = sources_of(
        configured({"http_json": ALL["http_json"]}, max_proxy_share=bars), ZONES, session=Asking(), now=lambda: NOW
    )
    assert isinstance(source, PolledSource)
    (found,) = source._questions[0].parse(b'{"v": 30.0, "t": "2026-11-22T10:15:00Z"}', NOW)
    assert not isinstance(found, NoSignal)
    assert (found.max_proxy_share, found.source, found.gco2_per_kwh) == (0.5 if bars else 0.25, "http_json", 30.0)


def test_a_zones_least_total_and_expected_types_are_the_operators_or_the_tables() -> None:
    """Zero and an empty list are words too: they turn the check off."""
    plain = terms("entsoe", "FR")
    assert (plain.min_total_mw, plain.expected_types) == (20000.0, ("B04", "B14"))
    changed = terms("entsoe", "FR", min_total_mw={"FR": 0.0}, expected_types={"FR": []})
    assert (changed.min_total_mw, changed.expected_types) == (0.0, ())
    other = terms("entsoe", "FR", min_total_mw={"FI": 1.0}, expected_types={"FI": ["B14"]})
    assert (other.min_total_mw, other.expected_types) == (20000.0, ("B04", "B14"))
    unknown = terms("entsoe", "XX", {"entsoe": TOKEN | {"areas": {"XX": "10YXX"}}}, min_total_mw={"XX": 5.0})
    assert (unknown.min_total_mw, unknown.expected_types) == (5.0, ())


def test_terms_name_the_services_label_and_its_freshness() -> None:
    """The operator's limit, else the service's; RTE's own figure has a label of its own."""
    assert (terms("landsnet", "IS").source, terms("landsnet", "IS").max_age_minutes) == ("landsnet_live", 30.0)
    assert terms("landsnet", "IS", {"landsnet": {"max_age_minutes": 7.0}}).max_age_minutes == 7.0
    assert terms("odre", "FR").source == "rte_mix_derived_live"
    assert terms("odre", "FR", {"odre": {"figure": "taux_co2"}}).source == "rte_eco2mix_direct"
    assert terms("statnett", "SE_3").area == "SE"


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_reads_and_asks_by_its_own_module(name: str) -> None:
    """A body that is nothing gives a reason under the service's label for every value it would hold."""
    zone = {"landsnet": "IS", "fingrid": "FI", "energinet": "DK_1", "statnett": "FI"}.get(name, "FR")
    found = configured({name: ALL[name]})
    on = terms(name, zone)
    told = [parse(b"{", NOW) for parse in parsers_of(found.services[0], on)]
    assert all(isinstance(one, NoSignal) and one.zone == zone for one in told)
    labels = [one.source for one in told]
    assert labels == [on.source] if name != "energy_charts" else ["energy_charts_live", "energy_charts_forecast"]


async def test_the_question_is_of_the_instant_it_is_asked_at() -> None:
    """The window of hours moves with the clock, not with when the source was made."""
    clock, session = ManualClock(NOW), Asking()
    (source,) = sources_of(configured({"entsoe": TOKEN}), ("FR",), session=session, now=clock.now)
    await source.readings()
    clock.tick(18 * 3600)
    await source.readings()
    assert [queried(url, "periodEnd") for url in session.urls] == ["202611221045", "202611230445"]


def test_the_file_is_a_source_of_its_own() -> None:
    """Local, complete, watched."""
    (source,) = sources_of(configured({"file": ALL["file"]}), ZONES, session=Asking(), now=lambda: NOW)
    assert (source.name, source.is_local, source.is_complete) == ("file", True, True)
