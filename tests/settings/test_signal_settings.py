"""`[signals]`: which services are asked, how often, with which key, and what the settings refuse."""

from __future__ import annotations

import json
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from settings.whole import FIRST, KEYS, at, furnish, leaves, loaded, schema_leaves, variable, variable_text
from vetted_mw import ConfigurationError, Gateway, load_configuration
from vetted_mw.grid.services import SERVICES
from vetted_mw.grid.signal import DECLARED, Method
from vetted_mw.secret import Secret
from vetted_mw.signal_configuration import FileSource, JsonReading, JsonSource, ServiceSource, SignalConfiguration

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vetted_mw.grid.services import Service

CANARY = "sk-live-CANARY0123456789"
TOKEN = {"token": {"env": "GRID_KEY"}}
SPARE = "https://spare.example/api"
PARIS = {"scaleway-par-1": {"base_url": "https://paris.example/v1"}}
KEYLESS = [name for name, service in SERVICES.items() if not service.needs_key]
KEYED = [name for name, service in SERVICES.items() if service.needs_key]
READING = {"url": "https://own.example/now", "value": "data.value", "observed_at": "data.at"}
FIGURES = {"odre": "mix", "fingrid": "consumption", "electricity_maps": "lifecycle"}

by_service = pytest.mark.parametrize("service", SERVICES.values(), ids=list(SERVICES))


def signals_of(*, environ: Mapping[str, str] | None = None, **signals: Any) -> SignalConfiguration:
    """Return what a `[signals]` table amounts to."""
    return load_configuration(environ=KEYS | dict(environ or {}), overrides={"signals": signals}).signals


def refused(*, environ: Mapping[str, str] | None = None, **signals: Any) -> ConfigurationError:
    """Return the error that a `[signals]` table is refused with."""
    with pytest.raises(ConfigurationError) as caught:
        signals_of(environ=environ, **signals)
    return caught.value


def sources(**named: Any) -> dict[str, Any]:
    """Return the table of these sources."""
    return {"sources": named}


def asked(service: Service, **keys: Any) -> dict[str, Any]:
    """Return the table that asks one service, its key included where it needs one."""
    return sources(**{service.name: (TOKEN if service.needs_key else {}) | keys})


def one(signals: SignalConfiguration) -> ServiceSource:
    """Return the only service."""
    (found,) = signals.services
    return found


def described(**keys: Any) -> dict[str, Any]:
    """Return the table that describes one service of the operator's own, for FR; None leaves a key out."""
    reading = {name: value for name, value in (READING | keys).items() if value is not None}
    return sources(http_json={"zones": {"FR": reading}})


def reading_of(**keys: Any) -> JsonReading:
    source = signals_of(**described(**keys)).http_json
    assert source is not None
    (reading,) = source.readings
    return reading


# ---- what arrives


def test_nothing_is_asked_unless_it_is_configured() -> None:
    """Without a table of sources no grid service ever hears from the gateway."""
    assert load_configuration(environ={}).signals == SignalConfiguration()
    assert signals_of(timeout_seconds=20, refresh_seconds=600).services == ()


def documented(service: Service) -> ServiceSource:
    return ServiceSource(
        name=service.name,
        base_urls=(service.base_url,),
        max_age_minutes=service.max_age_minutes,
        refresh_seconds=service.refresh_seconds,
        key=Secret("grid-key") if service.needs_key else None,
        figure=FIGURES.get(service.name, ""),
    )


@by_service
def test_a_recorded_answer_is_read_for_the_figure_the_settings_read_by_default(service: Service) -> None:
    """`signals --from-file` without settings takes the service's own word for it: the two are one."""
    assert service.figure == FIGURES.get(service.name, "")


@pytest.mark.parametrize("name", KEYLESS)
def test_an_empty_table_turns_a_service_on(name: str, tmp_path: Path) -> None:
    """`[signals.sources.landsnet]` alone, or `{}` in a variable, asks the service as its documentation wants it."""
    assert loaded(tmp_path, {"signals": sources(**{name: {}})}).signals.services == (documented(SERVICES[name]),)
    variables = {variable(("signals", "sources", name)): "{}"}
    assert load_configuration(environ=variables).signals.services == (documented(SERVICES[name]),)


@pytest.mark.parametrize("name", KEYED)
def test_a_service_with_a_key_needs_its_token_only(name: str, tmp_path: Path) -> None:
    """Where the key is, in the file or by a variable, is all that such a service must be told."""
    assert loaded(tmp_path, {"signals": asked(SERVICES[name])}).signals.services == (documented(SERVICES[name]),)
    variables = {variable(("signals", "sources", name, "token", "env")): "GRID_KEY"}
    assert load_configuration(environ=KEYS | variables).signals.services == (documented(SERVICES[name]),)


def test_services_stand_in_the_order_of_the_default_chain() -> None:
    """In which order tables are written decides nothing."""
    tables = {name: TOKEN if name in KEYED else {} for name in reversed(list(SERVICES))}
    assert [service.name for service in signals_of(sources=tables).services] == list(SERVICES)


def service_of_first(name: str, number: int, **keys: Any) -> ServiceSource:
    source = ServiceSource(
        name=name,
        base_urls=(f"https://{name.replace('_', '-')}.example",),
        max_age_minutes=40 + number,
        refresh_seconds=10 + number,
        areas={"FR": f"F{number}a"} if SERVICES[name].has_areas else {},
        key=Secret("grid-key") if name in KEYED else None,
    )
    return msgspec.structs.replace(source, **keys)


def whole_first(folder: Path) -> SignalConfiguration:
    """Return what the `[signals]` of the first whole file must amount to, key by key."""
    return SignalConfiguration(
        chains={"FR": ("file", "static")},
        file=FileSource(path=folder / "signals.toml", max_age_minutes=90.5),
        services=(
            service_of_first("entsoe", 0, base_urls=("https://entsoe.example", "https://spare.example")),
            service_of_first("landsnet", 1),
            service_of_first("odre", 2, figure="taux_co2"),
            service_of_first("statnett", 3),
            service_of_first("energy_charts", 4),
            service_of_first("fingrid", 5, figure="consumption"),
            service_of_first("electricity_maps", 6, figure="lifecycle"),
            service_of_first("energinet", 7),
        ),
        http_json=JsonSource(
            readings=(
                JsonReading(
                    zone="FR",
                    area="France",
                    url=Secret("https://own.example/intensity?zone=fr"),
                    value="data.0.intensity.actual",
                    observed_at="data.0.to",
                    estimated="data.0.estimated",
                    unit="kg_per_mwh",
                    method=Method(accounting="production", basis="lifecycle", kind="average", factor_set="own"),
                    max_age_minutes=45,
                    header="x-api-key",
                    key=Secret("grid-key"),
                ),
            ),
            refresh_seconds=70,
        ),
        timeout_seconds=20,
        proxy="http://proxy.example:3128",
        max_proxy_share={"FR": 0.3, "default": 0.4},
        min_total_mw={"FR": 15000},
        expected_types={"FR": ("B14", "B19")},
    )


def test_every_key_arrives_from_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each key of `[signals]` is the attribute of the configuration that its name promises."""
    furnish(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert loaded(tmp_path, {"signals": FIRST["signals"]}).signals == whole_first(tmp_path)


def test_every_key_arrives_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same signals without a file: one variable per key, zones and `default` included."""
    monkeypatch.chdir(tmp_path)
    keys = [("signals", *key) for key in leaves(FIRST["signals"])]
    environ = {variable(key): variable_text(at(FIRST, key)) for key in keys}
    assert load_configuration(environ=KEYS | environ).signals == whole_first(tmp_path)


def test_the_signals_of_a_configuration_cannot_be_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither an attribute nor a table of them, down to each source's."""
    furnish(tmp_path)
    monkeypatch.chdir(tmp_path)
    signals = loaded(tmp_path, {"signals": FIRST["signals"]}).signals
    assert signals.http_json is not None
    assert signals.file is not None
    for value in (signals, *signals.services, signals.http_json, *signals.http_json.readings, signals.file):
        for name in value.__struct_fields__:
            with pytest.raises(AttributeError, match="immutable"):
                setattr(value, name, None)
    bars = (signals.chains, signals.max_proxy_share, signals.min_total_mw, signals.expected_types)
    for table in (*bars, *(service.areas for service in signals.services)):
        with pytest.raises(TypeError):
            table["FR"] = None  # type: ignore[index]


def test_no_key_of_a_service_is_printed_with_the_configuration() -> None:
    """Keys in headers and keys in URLs print as stars, and so does a URL that may hold one."""
    tables = dict.fromkeys(KEYED, TOKEN) | described(url="https://own.example/{token}/now", **TOKEN)["sources"]
    printed = repr(load_configuration(environ=KEYS, overrides={"signals": {"sources": tables}}))
    assert "grid-key" not in printed
    assert "own.example" not in printed
    assert "***" in printed


# ---- the environment


def test_zones_are_found_whatever_their_case() -> None:
    """Shells write variables in capitals: zones of regions are matched, other zones are taken as they stand."""
    signals = signals_of(
        environ={
            "VETTED_SIGNALS__MAX_PROXY_SHARE__DE_LU": "0.5",
            "VETTED_SIGNALS__MAX_PROXY_SHARE__DEFAULT": "0.2",
            "vetted_signals__max_proxy_share__fr": "0.3",
            "VETTED_SIGNALS__MIN_TOTAL_MW__NO_5": "100",
            "VETTED_SIGNALS__EXPECTED_TYPES__SE_3": "B14, B19",
            "VETTED_SIGNALS__CHAINS__SE_3": "statnett",
            "VETTED_SIGNALS__SOURCES__STATNETT__AREAS__SE_3": "SE",
            "VETTED_SIGNALS__SOURCES__HTTP_JSON__ZONES__FR__URL": "https://own.example/now?key={token}",
            "VETTED_SIGNALS__SOURCES__HTTP_JSON__ZONES__FR__VALUE": "value",
            "VETTED_SIGNALS__SOURCES__HTTP_JSON__ZONES__FR__OBSERVED_AT": "at",
            "VETTED_SIGNALS__SOURCES__HTTP_JSON__ZONES__FR__TOKEN__ENV": "GRID_KEY",
        }
    )
    assert signals.max_proxy_share == {"DE_LU": 0.5, "default": 0.2, "FR": 0.3}
    assert signals.min_total_mw == {"NO_5": 100}
    assert signals.expected_types == {"SE_3": ("B14", "B19")}
    assert signals.chains == {"SE_3": ("statnett",)}
    assert one(signals).areas == {"SE_3": "SE"}
    assert signals.http_json is not None
    assert [reading.zone for reading in signals.http_json.readings] == ["FR"]
    assert signals.http_json.readings[0].url == Secret("https://own.example/now?key=grid-key")


def test_the_zone_of_a_region_of_ones_own_is_found_in_every_zone_table() -> None:
    """A zone with a dash, which no variable can hold, is meant by its folded name."""
    region = {"provider": "O", "site": "s", "country": "IT", "zone": "IT-NORD"}
    signals = load_configuration(
        environ={
            "VETTED_SIGNALS__MIN_TOTAL_MW__IT_NORD": "1",
            "VETTED_SIGNALS__SOURCES__ENERGY_CHARTS__AREAS__IT_NORD": "it",
        },
        overrides={"regions": {"our": region}},
    ).signals
    assert signals.min_total_mw == {"IT-NORD": 1}
    assert one(signals).areas == {"IT-NORD": "it"}


def test_a_key_of_a_source_from_the_environment_leaves_the_others_to_the_file(tmp_path: Path) -> None:
    """`{}` in a variable turns a service on and takes nothing away that the file says of it."""
    table = {"signals": sources(landsnet={"max_age_minutes": 10})}
    environ = {"VETTED_SIGNALS__SOURCES__LANDSNET": "{}"}
    assert one(loaded(tmp_path, table, environ=environ).signals).max_age_minutes == 10
    environ = {"VETTED_SIGNALS__SOURCES__LANDSNET__REFRESH_SECONDS": "400"}
    source = one(loaded(tmp_path, table, environ=environ).signals)
    assert (source.max_age_minutes, source.refresh_seconds) == (10, 400)


# ---- unknown keys, wrong kinds, bounds


@pytest.mark.parametrize(
    ("table", "field", "told"),
    [
        ({"refresh": 60}, "refresh", "Did you mean refresh_seconds?"),
        ({"timeout": 60}, "timeout", "Did you mean timeout_seconds?"),
        ({"max_proxy_shares": {}}, "max_proxy_shares", "Did you mean max_proxy_share?"),
        ({"expected_type": {}}, "expected_type", "Did you mean expected_types?"),
        (sources(entsoe_e=TOKEN), "sources.entsoe_e", "Did you mean entsoe?"),
        (sources(**{"energy-charts": {}}), "sources.energy-charts", "Did you mean energy_charts?"),
        (sources(electricitymaps=TOKEN), "sources.electricitymaps", "Did you mean electricity_maps?"),
        (sources(watttime={}), "sources.watttime", "Known here: entsoe, landsnet, odre"),
        (sources(entsoe={"tokn": {"env": "GRID_KEY"}}), "sources.entsoe.tokn", "Did you mean token?"),
        (sources(entsoe=TOKEN | {"backup_url": []}), "sources.entsoe.backup_url", "Did you mean backup_urls?"),
        (sources(landsnet={"figure": "mix"}), "sources.landsnet.figure", "Known here: base_url, max_age_minutes"),
        (sources(landsnet=TOKEN), "sources.landsnet.token", "Known here: base_url"),
        (sources(odre={"figures": "mix"}), "sources.odre.figures", "Did you mean figure?"),
        (sources(http_json={"url": "x"}), "sources.http_json.url", "Known here: refresh_seconds, zones"),
        (described(observed="at"), "sources.http_json.zones.FR.observed", "Did you mean observed_at?"),
        (described(token={"envv": "X"}), "sources.http_json.zones.FR.token.envv", "Did you mean env?"),
    ],
)
def test_an_unknown_key_names_itself_and_the_nearest(table: dict[str, Any], field: str, told: str) -> None:
    """At each level: the misspelt key, and the key that was meant or all there are."""
    error = refused(**table)
    assert error.field == f"signals.{field}"
    assert "unknown key (in the overrides)" in str(error)
    assert told in error.remedy


@pytest.mark.parametrize(
    ("name", "field", "told"),
    [
        ("VETTED_SIGNALS__REFRESH", "refresh", "refresh_seconds"),
        ("VETTED_SIGNALS__SOURCES__ENTSO_E__TOKEN__ENV", "sources.entso_e", "entsoe"),
        ("VETTED_SIGNALS__SOURCES__FINGRID__TOKENS", "sources.fingrid.tokens", "token"),
        ("VETTED_SIGNALS__SOURCES__HTTP_JSON__ZONES__FR__VALEU", "sources.http_json.zones.FR.valeu", "value"),
    ],
)
def test_an_unknown_variable_names_itself_and_the_nearest_key(name: str, field: str, told: str) -> None:
    """The same for variables, whose value is never repeated."""
    error = refused(environ={name: CANARY})
    assert error.field == f"signals.{field}"
    assert f"from the environment variable {name}" in str(error)
    assert f"Did you mean {told}?" in error.remedy
    assert CANARY not in str(error)


@pytest.mark.parametrize(
    ("table", "field", "remedy"),
    [
        ({"refresh_seconds": "600"}, "refresh_seconds", "Write a number"),
        ({"refresh_seconds": 0}, "refresh_seconds", "greater than 0"),
        ({"refresh_seconds": 86_401}, "refresh_seconds", "at most 86400"),
        ({"refresh_seconds": float("inf")}, "refresh_seconds", "finite"),
        ({"timeout_seconds": 0}, "timeout_seconds", "greater than 0"),
        ({"timeout_seconds": 301}, "timeout_seconds", "at most 300"),
        ({"timeout_seconds": True}, "timeout_seconds", "Write a number"),
        ({"proxy": "proxy.example:3128"}, "proxy", "http or https"),
        ({"proxy": "http://proxy.example/out"}, "proxy", "scheme, host and port"),
        ({"proxy": "http://me:secret@proxy.example"}, "proxy", "Take them out"),
        ({"max_proxy_share": 0.3}, "max_proxy_share", "table"),
        ({"max_proxy_share": {"FR": "0.3"}}, "max_proxy_share.FR", "Write a number"),
        ({"max_proxy_share": {"FR": -0.1}}, "max_proxy_share.FR", "at least 0"),
        ({"max_proxy_share": {"default": 1.1}}, "max_proxy_share.default", "at most 1"),
        ({"max_proxy_share": {"FR": float("nan")}}, "max_proxy_share.FR", "finite"),
        ({"min_total_mw": {"FR": -1}}, "min_total_mw.FR", "at least 0"),
        ({"min_total_mw": {"FR": 1_000_001}}, "min_total_mw.FR", "at most 1000000"),
        ({"expected_types": {"FR": "B14"}}, "expected_types.FR", "Write a list"),
        ({"expected_types": {"FR": ["B14", "B14"]}}, "expected_types.FR", "once"),
        ({"sources": []}, "sources", "table"),
        (sources(landsnet=True), "sources.landsnet", "an empty one is enough"),
        (sources(odre="on"), "sources.odre", "an empty one is enough"),
        (sources(entsoe=True), "sources.entsoe", "keys and values"),
        (sources(landsnet={"max_age_minutes": 0}), "sources.landsnet.max_age_minutes", "greater than 0"),
        (sources(landsnet={"max_age_minutes": 10_081}), "sources.landsnet.max_age_minutes", "at most 10080"),
        (sources(landsnet={"refresh_seconds": -1}), "sources.landsnet.refresh_seconds", "greater than 0"),
        (sources(landsnet={"base_url": "amper.landsnet.is"}), "sources.landsnet.base_url", "http or https"),
        (sources(landsnet={"base_url": "https://h.example/?a=b"}), "sources.landsnet.base_url", "End it at the path"),
        (sources(statnett={"areas": "SE"}), "sources.statnett.areas", "table"),
        (sources(statnett={"areas": {"SE": ""}}), "sources.statnett.areas.SE", "Write a text"),
        (sources(statnett={"areas": {"SE": 1}}), "sources.statnett.areas.SE", "Write a text"),
        (sources(entsoe=TOKEN | {"backup_urls": SPARE}), "sources.entsoe.backup_urls", "Write a list"),
        (sources(entsoe=TOKEN | {"backup_urls": [""]}), "sources.entsoe.backup_urls", "Write a text"),
        (sources(entsoe=TOKEN | {"backup_urls": [SPARE, f"{SPARE}/"]}), "sources.entsoe.backup_urls", "once"),
        (sources(odre={"figure": "co2"}), "sources.odre.figure", "'mix' or 'taux_co2'"),
        (sources(fingrid=TOKEN | {"figure": "mix"}), "sources.fingrid.figure", "'consumption' or 'production'"),
        (
            sources(electricity_maps=TOKEN | {"figure": "all"}),
            "sources.electricity_maps.figure",
            "'lifecycle' or 'direct'",
        ),
        (sources(http_json={}), "sources.http_json.zones", "Set it"),
        (sources(http_json={"zones": {}}), "sources.http_json.zones", "at least one"),
        (sources(file={"path": "x", "max_age_minutes": 0}), "sources.file.max_age_minutes", "greater than 0"),
    ],
)
def test_a_wrong_value_names_its_key_and_what_to_write(table: dict[str, Any], field: str, remedy: str) -> None:
    """Kind, range and shape of every key."""
    error = refused(**table)
    assert error.field == f"signals.{field}"
    assert "(in the overrides)" in str(error)
    assert remedy in error.remedy
    assert "secret" not in str(error)


@pytest.mark.parametrize("text", ["true", "", "on"])
def test_a_service_turned_on_by_a_word_is_told_how_to(text: str) -> None:
    """`VETTED_SIGNALS__SOURCES__LANDSNET=true` is refused by name, with `{}` as the way to write it."""
    error = refused(environ={"VETTED_SIGNALS__SOURCES__LANDSNET": text})
    assert error.field == "signals.sources.landsnet"
    assert "VETTED_SIGNALS__SOURCES__LANDSNET" in str(error)
    assert "in a variable, {}" in error.remedy


# ---- keys


@pytest.mark.parametrize("name", KEYED)
def test_a_missing_token_is_told_with_the_way_to_write_it(name: str, tmp_path: Path) -> None:
    """A service that answers only with a key is refused without one: field, place and remedy."""
    with pytest.raises(ConfigurationError) as caught:
        loaded(tmp_path, {"signals": sources(**{name: {}})})
    assert caught.value.field == f"signals.sources.{name}.token"
    assert f"is missing (in {tmp_path / 'vetted.toml'})" in str(caught.value)
    assert "{ env = " in caught.value.remedy
    assert "{ file = " in caught.value.remedy


@pytest.mark.parametrize("name", [*KEYED, "http_json"])
def test_a_token_itself_is_refused_and_never_shown(name: str, tmp_path: Path) -> None:
    """A key pasted where its place belongs is refused, from every source, in a text that does not hold it."""
    table = described(header="x-api-key", token=CANARY) if name == "http_json" else sources(**{name: {"token": CANARY}})
    inner = ("http_json", "zones", "FR", "token") if name == "http_json" else (name, "token")
    key = ("signals", "sources", *inner)
    without = described(header="x-api-key") if name == "http_json" else sources(**{name: {}})
    loads: list[Callable[[], object]] = [
        lambda: load_configuration(environ={}, overrides={"signals": table}),
        lambda: loaded(tmp_path, {"signals": table}),
        lambda: loaded(tmp_path, {"signals": without}, environ={variable(key): CANARY}),
    ]
    for load in loads:
        with pytest.raises(ConfigurationError) as caught:
            load()
        told = "".join(traceback.format_exception(caught.value)) + caught.value.remedy
        assert caught.value.field == ".".join(key)
        assert "never be the key itself" in told
        assert "{ env = " in caught.value.remedy
        assert CANARY not in told


@pytest.mark.parametrize(
    ("token", "place"), [({"env": CANARY}, "env"), ({"file": CANARY}, "file")], ids=["variable", "file"]
)
def test_a_token_that_leads_nowhere_is_told_by_its_place(token: dict[str, str], place: str) -> None:
    """A variable that is not set or a file that is not there could be the key itself: neither is repeated."""
    for table, field in (
        (sources(entsoe={"token": token}), "entsoe"),
        (described(header="x-api-key", token=token), "http_json.zones.FR"),
    ):
        error = refused(**table)
        assert error.field == f"signals.sources.{field}.token.{place}"
        assert error.remedy
        assert CANARY not in str(error)


LOOPBACK = ["127.0.0.1", "127.8.9.10:8080", "[::1]", "[::1]:8080", "localhost", "LocalHost:8080"]
REACHABLE = [
    *("host.example", "10.0.0.4", "192.168.0.4", "0.0.0.0", "[::]", "[fe80::1]", "127.example", "127.0.0.1.example"),
    *("localhost.example", "localhost.localdomain", "a.localhost.example", "127.1", "2130706433"),
]


@pytest.mark.parametrize("host", LOOPBACK)
def test_a_key_may_travel_in_the_clear_on_this_machine(host: str) -> None:
    """An http address on loopback takes a key: a stand-in for tests, or an egress of one's own."""
    url = f"http://{host}/api"
    for name in KEYED:
        assert one(signals_of(**asked(SERVICES[name], base_url=url))).base_urls == (url,)
    assert one(signals_of(**sources(entsoe=TOKEN | {"backup_urls": [url]}))).base_urls[1:] == (url,)
    assert reading_of(url=url, header="x-api-key", **TOKEN).url == Secret(url)


@pytest.mark.parametrize("host", REACHABLE)
def test_a_key_never_travels_in_the_clear_to_another_machine(host: str) -> None:
    """Neither to an http address nor to one that merely begins like loopback, whichever setting names it."""
    url = f"http://{host}/api"
    tables = {f"{name}.base_url": asked(SERVICES[name], base_url=url) for name in KEYED}
    tables["entsoe.backup_urls"] = sources(entsoe=TOKEN | {"backup_urls": [SPARE, url]})
    tables["http_json.zones.FR.url"] = described(url=url, header="x-api-key", **TOKEN)
    for field, table in tables.items():
        error = refused(**table)
        assert error.field == f"signals.sources.{field}"
        assert "in the clear" in str(error)
        assert "https" in error.remedy
    assert refused(**described(url=f"{url}/{{token}}", **TOKEN)).field == "signals.sources.http_json.zones.FR.url"


def test_a_proxy_elsewhere_takes_the_loopback_exception_away() -> None:
    """Through an egress proxy even loopback's address leaves this machine, and the key would with it."""
    for table in (
        asked(SERVICES["entsoe"], base_url="http://localhost:1"),
        described(url="http://[::1]/{token}", **TOKEN),
    ):
        error = refused(proxy="http://proxy.example:3128", **table)
        assert error.field in {"signals.sources.entsoe.base_url", "signals.sources.http_json.zones.FR.url"}
        assert "signals.proxy" in error.remedy
        assert signals_of(proxy="http://127.0.0.1:3128", **table).proxy
    assert signals_of(proxy="http://proxy.example:3128", **asked(SERVICES["entsoe"])).services


@pytest.mark.parametrize("name", KEYLESS)
def test_a_service_without_a_key_may_be_reached_over_http(name: str) -> None:
    """Where no key travels, a mirror inside the network needs no certificate."""
    assert one(signals_of(**asked(SERVICES[name], base_url="http://10.0.0.4/"))).base_urls == ("http://10.0.0.4",)
    assert reading_of(url="http://10.0.0.4/now").key is None


def test_a_base_url_is_kept_without_its_last_slash_and_empty_means_the_services_own() -> None:
    """The address is the service's unless another is given; backups follow it in their order."""
    source = one(
        signals_of(**sources(entsoe=TOKEN | {"base_url": "", "backup_urls": [f"{SPARE}/", "https://b.example"]}))
    )
    assert source.base_urls == (SERVICES["entsoe"].base_url, SPARE, "https://b.example")
    assert one(signals_of(**sources(odre={"base_url": "https://mirror.example/odre/"}))).base_urls == (
        "https://mirror.example/odre",
    )


# ---- how often


@by_service
def test_below_a_services_own_floor_is_refused_at_its_own_address(service: Service) -> None:
    """What the service asks of its callers is kept, however its address is written, as a backup too."""
    least = service.least_refresh_seconds
    host = service.base_url.partition("//")[2].partition("/")[0].upper()
    written: list[dict[str, Any]] = [
        {},
        {"base_url": f"{service.base_url}/"},
        {"base_url": f"https://{host}:443/elsewhere"},
        {"base_url": f"https://{host}."},
    ]
    written += [{"base_url": f"https://{other.upper()}/api"} for other in service.other_hosts]
    if service.name == "entsoe":
        written.append({"base_url": SPARE, "backup_urls": [service.base_url]})
        written.append({"base_url": SPARE, "backup_urls": ["https://external-api.tp.entsoe.eu/api"]})
    for keys in written:
        error = refused(**asked(service, refresh_seconds=least - 0.5, **keys))
        assert error.field == f"signals.sources.{service.name}.refresh_seconds"
        assert f"at least {least:g}" in error.remedy
        assert one(signals_of(**asked(service, refresh_seconds=least, **keys))).refresh_seconds == least


@by_service
def test_another_address_may_be_asked_as_often_as_its_owner_likes(service: Service) -> None:
    """The floor is the service's, not a mirror's."""
    keys = {"base_url": "https://mirror.example", "refresh_seconds": 0.5}
    assert one(signals_of(**asked(service, **keys))).refresh_seconds == 0.5


@hypothesis_settings(max_examples=50, deadline=None)
@given(seconds=st.floats(min_value=1e-3, max_value=86_400), service=st.sampled_from(list(SERVICES.values())))
def test_refresh_seconds_for_all_is_lifted_to_each_services_floor(seconds: float, service: Service) -> None:
    """One value for all services is theirs, never below a floor, and left alone at another address and over a table."""
    floor = service.least_refresh_seconds
    everywhere = one(signals_of(refresh_seconds=seconds, **asked(service)))
    elsewhere = one(signals_of(refresh_seconds=seconds, **asked(service, base_url="https://mirror.example")))
    own = one(signals_of(refresh_seconds=seconds, **asked(service, refresh_seconds=floor + 1)))
    assert everywhere.refresh_seconds == max(seconds, floor)
    assert elsewhere.refresh_seconds == seconds
    assert own.refresh_seconds == floor + 1


def test_a_described_service_is_asked_as_often_as_it_says_else_as_all_else_every_quarter_of_an_hour() -> None:
    """`http_json` has no documentation of its own to follow."""
    own = {"http_json": described()["sources"]["http_json"] | {"refresh_seconds": 30}}
    for signals, seconds in (
        (signals_of(**described()), 900),
        (signals_of(refresh_seconds=120, **described()), 120),
        (signals_of(refresh_seconds=120, sources=own), 30),
    ):
        assert signals.http_json is not None
        assert signals.http_json.refresh_seconds == seconds


@by_service
def test_a_known_services_floor_holds_for_a_description_of_it(service: Service) -> None:
    """Whoever describes a service we know by another name asks it no more often, whichever of its hosts it is."""
    least = service.least_refresh_seconds
    hosts = [service.base_url.partition("//")[2].partition("/")[0], *service.other_hosts]
    for host in hosts:
        zones = {"FR": READING, "SE_3": READING | {"url": f"https://{host.upper()}/v1?zone=SE"}}
        asked_too_often = sources(http_json={"zones": zones, "refresh_seconds": least - 0.5})
        error = refused(**asked_too_often)
        assert error.field == "signals.sources.http_json.refresh_seconds"
        assert f"at least {least:g}" in error.remedy
        for table, seconds in (
            (sources(http_json={"zones": zones, "refresh_seconds": least}), least),
            ({"refresh_seconds": 2} | sources(http_json={"zones": zones}), least),
            (sources(http_json={"zones": zones}), 900),
        ):
            source = signals_of(**table).http_json
            assert source is not None
            assert source.refresh_seconds == seconds


def test_a_described_service_is_asked_once_a_second_at_most() -> None:
    """Wherever it is: a smaller number is refused, and lifted where it is meant for all services."""
    table = described()["sources"]["http_json"]
    error = refused(sources={"http_json": table | {"refresh_seconds": 0.5}})
    assert error.field == "signals.sources.http_json.refresh_seconds"
    assert "at least 1" in error.remedy
    for source in (
        signals_of(refresh_seconds=0.5, **described()).http_json,
        signals_of(sources={"http_json": table | {"refresh_seconds": 1}}).http_json,
    ):
        assert source is not None
        assert source.refresh_seconds == 1


# ---- zones and types


@pytest.mark.parametrize("zone", ["", "a b", "FR/1", "FR.1", "-FR", "x" * 33, "Ø"])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("chains", ["file"]),
        ("max_proxy_share", 0.3),
        ("min_total_mw", 1),
        ("expected_types", ["B14"]),
        ("sources.statnett.areas", "SE"),
        ("sources.http_json.zones", READING),
    ],
)
def test_a_name_that_is_no_zone_is_refused(field: str, value: Any, zone: str) -> None:
    """Every table by zone holds zones, written as regions write theirs."""
    table: dict[str, Any] = {zone: value}
    for name in reversed(field.split(".")):
        table = {name: table}
    error = refused(**table)
    assert error.field == f"signals.{field}"
    assert "not a grid zone" in str(error)
    assert "DE_LU" in error.remedy


@pytest.mark.parametrize("name", ["chains", "min_total_mw", "expected_types"])
def test_only_max_proxy_share_has_a_default(name: str) -> None:
    """A default where none is read would be a zone nobody is in; a capital in it would be another."""
    value: Any = 1.0 if name == "min_total_mw" else ["B14"]
    for table, field in (
        ({name: {"default": value}}, name),
        ({"max_proxy_share": {"Default": 0.2}}, "max_proxy_share"),
    ):
        error = refused(**table)
        assert error.field == f"signals.{field}"
        assert "max_proxy_share takes a default" in error.remedy
    assert signals_of(max_proxy_share={"default": 0.0}).max_proxy_share == {"default": 0.0}


@pytest.mark.parametrize(
    "name", ["nuclear", "b14", "B1", "B014", "14", "", "B\u0661\u0664", "B14 ", "B99", "B10", "B25", "B21"]
)
def test_only_types_that_are_counted_can_be_expected(name: str) -> None:
    """A type that no sum ever holds would leave every interval incomplete, and the zone without a signal for good."""
    error = refused(expected_types={"FR": ["B19", name]})
    assert error.field == "signals.expected_types.FR"
    assert "entry 2 is not a generation type" in str(error)
    assert "B14" in error.remedy


def test_no_expected_types_is_a_choice_too() -> None:
    """An empty list, in a file or a variable, expects nothing of the zone, whatever the shipped table says."""
    assert signals_of(expected_types={"FR": []}).expected_types == {"FR": ()}
    assert signals_of(environ={"VETTED_SIGNALS__EXPECTED_TYPES__FR": ""}).expected_types == {"FR": ()}


@pytest.mark.parametrize("name", [name for name, service in SERVICES.items() if not service.has_areas])
def test_a_service_of_one_place_has_no_areas(name: str) -> None:
    """A word for another place would be sent nowhere: the key is not known there."""
    error = refused(**asked(SERVICES[name], areas={"FR": "FR"}))
    assert error.field == f"signals.sources.{name}.areas"
    assert "unknown key" in str(error)


@pytest.mark.parametrize("name", [name for name, service in SERVICES.items() if service.has_areas])
def test_a_service_of_many_places_takes_further_ones(name: str) -> None:
    """Its own word for a zone that the shipped table does not have."""
    assert one(signals_of(**asked(SERVICES[name], areas={"PT": "there"}))).areas == {"PT": "there"}


# ---- services of the operator's own


def test_a_described_service_needs_three_words_only() -> None:
    """Where to ask, where the value stands and where its time: the rest is what most services do."""
    assert reading_of() == JsonReading(
        zone="FR",
        area="FR",
        url=Secret("https://own.example/now"),
        value="data.value",
        observed_at="data.at",
        estimated="",
        unit="g_per_kwh",
        method=DECLARED,
        max_age_minutes=180.0,
    )


@pytest.mark.parametrize("name", list(READING))
def test_each_of_the_three_words_is_asked_for(name: str) -> None:
    """A description that lacks one cannot be used."""
    error = refused(**described(**{name: None}))
    assert error.field == f"signals.sources.http_json.zones.FR.{name}"
    assert "is missing" in str(error)


@pytest.mark.parametrize(
    ("url", "key", "kept"),
    [
        ("https://own.example/now?key={token}", "a b&c=d", None),
        ("https://own.example/now?key={token}", "a&b=c/d?e#f%", "https://own.example/now?key=a%26b%3Dc%2Fd%3Fe%23f%25"),
        ("https://own.example/{token}/now?again={token}", "k", "https://own.example/k/now?again=k"),
        ("https://own.example?key={token}", "k", "https://own.example?key=k"),
    ],
)
def test_a_key_in_a_url_takes_its_place_as_one_word_of_it(url: str, key: str, kept: str | None) -> None:
    """Whatever a key is made of, it changes neither the host, nor the path, nor the query around it."""
    table = described(url=url, token={"env": "OWN_KEY"})
    if kept is None:
        assert refused(environ={"OWN_KEY": key}, **table).field.endswith("zones.FR.token")
        return
    source = signals_of(environ={"OWN_KEY": key}, **table).http_json
    assert source is not None
    assert source.readings[0].url == Secret(kept)
    assert (source.readings[0].header, source.readings[0].key) == ("", None)


@pytest.mark.parametrize(
    ("keys", "told", "remedy"),
    [
        (TOKEN, "not one place for it", "{token}"),
        (TOKEN | {"header": "x-api-key", "url": "https://own.example/{token}"}, "not one place for it", "header"),
        ({"header": "x-api-key"}, "no token", "Set token = { env = "),
        ({"url": "https://own.example/now?key={token}"}, "no token", "Set token = { env = "),
    ],
    ids=["token without place", "both places", "header without token", "place without token"],
)
def test_a_token_and_its_place_belong_together(keys: dict[str, Any], told: str, remedy: str) -> None:
    """One key goes to exactly one place, and no place stays empty."""
    error = refused(**described(**keys))
    assert error.field == "signals.sources.http_json.zones.FR"
    assert told in str(error)
    assert remedy in error.remedy


@pytest.mark.parametrize(
    ("keys", "field", "remedy"),
    [
        ({"method": "lifecycle"}, "method", "accounting/basis/kind/factor-set"),
        ({"method": "made/lifecycle/average/own"}, "method", "or declared"),
        ({"method": "production/lifecycle/average/"}, "method", "or declared"),
        ({"method": ""}, "method", "or declared"),
        ({"unit": "g"}, "unit", "'g_per_kwh', 'kg_per_kwh', 'kg_per_mwh', 't_per_mwh' or 'lb_per_mwh'"),
        ({"value": ""}, "value", "data.0.intensity.actual"),
        ({"value": ".a"}, "value", "data.0.intensity.actual"),
        ({"value": "a..b"}, "value", "dots between them"),
        ({"value": "a."}, "value", "dots between them"),
        ({"value": "a\nb"}, "value", "dots between them"),
        ({"value": ".".join("a" * 17)}, "value", "dots between them"),
        ({"value": 0}, "value", "Write a text"),
        ({"value": "data[0].intensity"}, "value", "data.0.intensity.actual"),
        ({"value": "$.data.value"}, "value", "without $ and brackets: data.0."),
        ({"observed_at": "$['at']"}, "observed_at", "without $ and brackets"),
        ({"estimated": "data]"}, "estimated", "without $ and brackets"),
        ({"observed_at": " at"}, "observed_at", "dots between them"),
        ({"estimated": "a..b"}, "estimated", "dots between them"),
        ({"estimated": True}, "estimated", "Write a text"),
        ({"url": "own.example/now"}, "url", "http or https"),
        ({"url": ""}, "url", "http or https"),
        ({"url": "https://own.example/a b"}, "url", "http or https"),
        ({"url": "https://own.example/now?a=ü"}, "url", "%-encoded"),
        ({"url": "https://own.example/now?a=b#c"}, "url", "%-encoded"),
        ({"url": f"https://me:{CANARY}@own.example/now"}, "url", "token"),
        ({"url": f"https://own.example/now?key={{{CANARY}}}"}, "url", "{token}"),
        ({"url": "https://own.example/{Token}/now"}, "url", "{token}"),
        (TOKEN | {"url": "https://{token}.own.example/now"}, "url", "path or the query"),
        (TOKEN | {"url": "https://{token}@own.example/now"}, "url", "Take them out"),
        ({"area": "x" * 65}, "area", "FR, SE_3 or DE_LU"),
        ({"max_age_minutes": 0}, "max_age_minutes", "greater than 0"),
        (TOKEN | {"header": "x key"}, "header", "x-api-key"),
        (TOKEN | {"header": "x-key\r\nx-other"}, "header", "x-api-key"),
    ],
)
def test_a_wrong_description_names_its_key_and_what_to_write(keys: dict[str, Any], field: str, remedy: str) -> None:
    """Method, unit, places, addresses: each fault is told at its key, and no address is repeated."""
    error = refused(**described(**keys))
    assert error.field == f"signals.sources.http_json.zones.FR.{field}"
    assert remedy in error.remedy
    assert CANARY not in "".join(traceback.format_exception(error))


KEY_NAMES = [
    *("key", "apikey", "api_key", "token", "securityToken", "access_token", "password", "secret"),
    *("API-Key", "KEY", "Access-Token", "accessToken", "auth_token", "client_secret", "api%5Fkey"),
]


@pytest.mark.parametrize("name", KEY_NAMES)
@pytest.mark.parametrize("text", [CANARY, f"{CANARY}{{token}}", f"{{token}}{CANARY}", f"%41{CANARY}", ""])
def test_a_key_pasted_into_a_url_is_refused_with_its_place(name: str, text: str) -> None:
    """A query name that means a key takes `{token}` and nothing else, and the key is not repeated."""
    for query in (f"{name}={text}", f"zone=FR&{name}={text}", f"{name}={{token}}&{name}={text}"):
        error = refused(**described(url=f"https://own.example/now?{query}", **TOKEN))
        assert error.field == "signals.sources.http_json.zones.FR.url"
        assert "holds a key" in str(error)
        assert "Write {token} in its place, and token = { env = " in error.remedy
        assert CANARY not in "".join(traceback.format_exception(error)) + error.remedy


@pytest.mark.parametrize("name", KEY_NAMES)
def test_a_keys_place_in_a_url_is_where_its_name_is(name: str) -> None:
    """What the remedy says is taken."""
    reading = reading_of(url=f"https://own.example/now?zone=FR&{name}={{token}}", **TOKEN)
    assert reading.url == Secret(f"https://own.example/now?zone=FR&{name}=grid-key")


@pytest.mark.parametrize("query", ["keyword=x", "tokens=3", "zone=key", "monkey=1", "secretary=a&zone=FR", "a=token"])
def test_a_query_that_only_looks_like_a_keys_is_taken(query: str) -> None:
    """Only the name of a parameter tells, and only the whole of it."""
    url = f"https://own.example/now?{query}"
    assert reading_of(url=url).url == Secret(url)


@pytest.mark.parametrize(
    "name",
    [
        *("host", "Content-Length", "transfer-encoding", "Connection", "te", "trailer", "upgrade", "expect"),
        *("content-type", "content-encoding", "accept-encoding", "Accept", "User-Agent", "traceparent", "baggage"),
        *("keep-alive", "http2-settings", "set-cookie", "tracestate"),
    ],
)
def test_a_header_that_carries_no_key_is_refused(name: str) -> None:
    """A key in place of a host or a length would break the request, or be sent in place of what the client says."""
    error = refused(**described(header=name, **TOKEN))
    assert error.field == "signals.sources.http_json.zones.FR.header"
    assert "carries no key" in str(error)
    assert "x-api-key" in error.remedy


@pytest.mark.parametrize("name", ["x-api-key", "auth-token", "authorization", "cookie", "ocp-apim-subscription-key"])
def test_a_header_that_carries_a_key_is_taken(name: str) -> None:
    """Services' own names, and the two that carry credentials anywhere."""
    assert reading_of(header=name, **TOKEN).header == name


def test_the_header_of_a_key_is_kept_in_lower_case() -> None:
    """Header names are compared without regard to case."""
    reading = reading_of(header="X-Api-Key", **TOKEN)
    assert (reading.header, reading.key) == ("x-api-key", Secret("grid-key"))


# ---- chains


@pytest.mark.parametrize(
    ("chain", "signals", "entry", "remedy"),
    [
        (["landsnet"], {}, 1, "Add its table, [signals.sources.landsnet], or take it out. Configured: none."),
        (["landsnet", "entsoe"], sources(landsnet={}), 2, "[signals.sources.entsoe], or take it out. Configured: land"),
        (["landsnet_live"], sources(landsnet={}), 1, "Did you mean landsnet? Configured: landsnet."),
        (["Landsnet"], sources(landsnet={}), 1, "Did you mean landsnet?"),
        (["landsnet", "http_json"], sources(landsnet={}), 2, "[signals.sources.http_json]"),
        (["file"], sources(landsnet={}), 1, "[signals.sources.file]"),
        ([CANARY], sources(landsnet={}), 1, "Configured: landsnet."),
    ],
)
def test_a_chain_of_a_source_that_is_not_configured_builds_no_gateway(
    chain: list[str], signals: dict[str, Any], entry: int, remedy: str
) -> None:
    """A source that is not there would be silence for its zone: the entry is told by number, with what was meant."""
    configuration = load_configuration(
        environ={}, overrides={"regions": PARIS, "signals": signals | {"chains": {"IS": chain}}}
    )
    with pytest.raises(ConfigurationError) as caught:
        Gateway(configuration)
    assert caught.value.field == "signals.chains.IS"
    assert f"its entry {entry} is no configured source" in str(caught.value)
    assert remedy in caught.value.remedy
    assert CANARY not in str(caught.value)


def test_a_chain_of_configured_sources_builds_a_gateway() -> None:
    """Every source that can be configured can be named in a chain by its word in the settings."""
    tables: dict[str, Any] = {name: TOKEN if name in KEYED else {} for name in SERVICES}
    tables |= {"file": {"path": "signals.toml"}} | described()["sources"]
    overrides = {"regions": PARIS, "signals": {"sources": tables, "chains": {"FR": list(tables)}}}
    gateway = Gateway(load_configuration(environ=KEYS, overrides=overrides))
    assert gateway.configuration.signals.chains == {"FR": tuple(tables)}


# ---- where it was written


def test_an_error_between_keys_says_where_they_were_written(tmp_path: Path) -> None:
    """A floor, a key in the clear and a zone that is none are found late, and still told with their place."""
    for table, environ, place in (
        (sources(landsnet={"refresh_seconds": 5}), {}, str(tmp_path / "vetted.toml")),
        ({}, {"VETTED_SIGNALS__SOURCES__LANDSNET__REFRESH_SECONDS": "5"}, "LANDSNET__REFRESH_SECONDS"),
        (asked(SERVICES["fingrid"]), {"VETTED_SIGNALS__SOURCES__FINGRID__BASE_URL": "http://h.example"}, "BASE_URL"),
        (
            sources(landsnet={"refresh_seconds": 5}),
            {"VETTED_SIGNALS__SOURCES__LANDSNET": "{}"},
            str(tmp_path / "vetted.toml"),
        ),
        ({}, {"VETTED_SIGNALS__CHAINS": json.dumps({"F R": ["file"]})}, "VETTED_SIGNALS__CHAINS"),
    ):
        with pytest.raises(ConfigurationError) as caught:
            loaded(tmp_path, {"signals": table}, environ=environ)
        assert place in str(caught.value)


# ---- the page


def test_the_readme_names_every_key_of_signals_and_each_services_numbers() -> None:
    """The settings table knows every key, and its freshness, poll and floor of a service are the ones in force."""
    page = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    rows = "\n".join(line for line in page.splitlines() if line.startswith(("| `[signals", "| of these")))
    words = {word for key in schema_leaves() if key[0] == "signals" for word in key} - {"*", "env"}
    assert sorted(word for word in words if word not in rows) == []
    for service in SERVICES.values():
        numbers = (service.max_age_minutes, service.refresh_seconds, service.least_refresh_seconds)
        assert f"`{service.name}` {'/'.join(f'{number:g}' for number in numbers)}" in rows
