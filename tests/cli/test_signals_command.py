"""`vetted-mw signals`: what every source says of every zone, over the local grid service and over recorded answers."""

from __future__ import annotations

import json
import signal as signals_of_the_system
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from cli.commands import run, started
from vetted_mw.demo import grid_wire
from vetted_mw.demo.grid_service import TOKEN, Fault, GridService
from vetted_mw.demo.stage import running

if TYPE_CHECKING:
    from collections.abc import Iterator

RECORDINGS = Path(__file__).parents[2].parent / "shared" / "grid-recordings"
FRANCE = "10YFR-RTE------C"
NOON = datetime(2026, 11, 22, 12, 0, 30, tzinfo=UTC)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VETTED_CONFIG", raising=False)
    return tmp_path


@pytest.fixture
def grid() -> Iterator[tuple[GridService, str]]:
    """Serve the local grid service; yields it and its origin."""
    service = GridService()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        with running(service, [listener]):
            yield service, f"http://127.0.0.1:{listener.getsockname()[1]}"


def settings(folder: Path, origin: str, *, refresh_seconds: float = 3600.0) -> None:
    """Write settings that take every signal from the grid service."""
    (folder / "token").write_text(TOKEN)
    sources = "".join(
        f'[signals.sources.{name}]\nbase_url = "{url}"\n' + ('token = { file = "token" }\n' if name == "entsoe" else "")
        for name, url in GridService().base_urls(origin).items()
    )
    (folder / "vetted.toml").write_text(f"[signals]\nrefresh_seconds = {refresh_seconds}\n{sources}")


def document(folder: Path) -> Path:
    """Write a recorded ENTSO-E answer for France, of half an hour before noon."""
    file = folder / "answer.xml"
    made = grid_wire.entsoe(FRANCE, NOON)
    assert made is not None
    file.write_bytes(made)
    return file


# ---- asking


def test_every_source_is_shown_with_what_its_value_is_of_and_whether_it_decides(
    folder: Path, grid: tuple[GridService, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """First in the chain decides, the next stands by, a forecast never does; a country's value says so."""
    settings(folder, grid[1])
    ran = run(capsys, "signals")
    lines = {tuple(line.split()[:2]): line for line in ran.out.splitlines()}
    assert ran.code == 0
    assert lines["SE_3", "entsoe_derived_live"].endswith("yes")
    assert lines["SE_3", "energy_charts_live"].endswith("yes, as backup")
    assert lines["SE_3", "energy_charts_live"].split()[2] == "SE"
    assert lines["SE_3", "energy_charts_forecast"].endswith("no: not_measured")
    assert lines["IS", "landsnet_live"].endswith("yes")
    assert lines["DE_LU", "entsoe_derived_live"].split()[2] == "DE"
    assert "production/lifecycle/average/ar5_v1" in lines["FR", "entsoe_derived_live"]
    assert [lines[name, "answering"].split()[0] for name in ("entsoe", "landsnet", "energy_charts")]


def test_one_zone_alone_can_be_asked_for(
    folder: Path, grid: tuple[GridService, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """`--zone FR` shows France and nothing else; a zone without a region names those there are."""
    settings(folder, grid[1])
    told = run(capsys, "signals", "--zone", "FR", "--json").json()
    assert list(told["zones"]) == ["FR"]
    wrong = run(capsys, "signals", "--zone", "PL")
    assert wrong.code == 2
    assert "Zones of your regions: FR, SE_3, IS, DE_LU, FI" in wrong.err


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault.HTML, "html_page"),
        (Fault.UNAUTHORIZED, "unauthorized (HTTP 401)"),
        (Fault.NOT_FOUND, "outage (HTTP 404)"),
    ],
    ids=["html", "401", "404"],
)
def test_a_source_that_fails_is_shown_with_its_reason(
    folder: Path, grid: tuple[GridService, str], capsys: pytest.CaptureFixture[str], fault: Fault, reason: str
) -> None:
    """The zone's row says what came instead of a value, the source's row that it fails; the command is no failure."""
    grid[0].switch(fault, "entsoe")
    settings(folder, grid[1])
    ran = run(capsys, "signals", "--zone", "FR")
    lines = ran.out.splitlines()
    row = next(line for line in lines if "entsoe_derived_live" in line)
    assert ran.code == 0
    assert f"no: {reason} since 20" in row
    assert any(line.split()[:2] == ["entsoe", "failing"] for line in lines)
    assert any(line.split()[1:2] == ["energy_charts_live"] and line.endswith("yes") for line in lines)


def test_the_same_is_told_in_json(
    folder: Path, grid: tuple[GridService, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Everything an auditor asks about: area, interval, ages, method, mix, factor set, digest of the body."""
    settings(folder, grid[1])
    told = run(capsys, "signals", "--json").json()
    row = told["zones"]["FR"][0]
    assert (row["source"], row["of_zone"], row["live_eligible"], row["ineligible_reason"]) == (
        "entsoe_derived_live",
        True,
        True,
        None,
    )
    assert row["observed_at"] > row["interval_start"]
    assert row["mix"].keys() == {"B04", "B11", "B12", "B14", "B19"}
    assert (row["factor_set"], len(row["raw_ref"])) == ("ar5_v1", 64)
    assert [source["source"] for source in told["sources"]] == ["entsoe", "landsnet", "energy_charts"]
    assert {source["state"] for source in told["sources"]} == {"answering"}


def test_without_any_source_the_command_says_what_to_add(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A fresh installation has no source: what to paste stands there."""
    ran = run(capsys, "signals")
    assert ran.code == 0
    assert "[signals.sources.energy_charts]" in ran.out
    (folder / "vetted.toml").write_text(ran.out.partition("\n\n")[2])
    from vetted_mw import load_configuration

    configuration = load_configuration(folder / "vetted.toml", environ={})
    assert [source.name for source in configuration.signals.services] == ["landsnet", "energy_charts"]


def test_a_zone_nobody_has_answered_for_is_shown_as_such(
    folder: Path, grid: tuple[GridService, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Landsnet alone knows nothing of France: the table does not pass over it in silence."""
    (folder / "vetted.toml").write_text(f'[signals.sources.landsnet]\nbase_url = "{grid[1]}/landsnet"\n')
    ran = run(capsys, "signals")
    assert any(
        line.startswith("FR ") and line.endswith("no: no configured source has it") for line in ran.out.splitlines()
    )


def test_a_value_that_competes_with_no_other_says_so(
    folder: Path, grid: tuple[GridService, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Without any key Iceland's method is another: its value is live, cannot decide, and the table tells why."""
    urls = GridService().base_urls(grid[1])
    sources = "".join(
        f'[signals.sources.{name}]\nbase_url = "{urls[name]}"\n' for name in ("energy_charts", "landsnet")
    )
    (folder / "vetted.toml").write_text(sources)
    ran = run(capsys, "signals")
    iceland = next(line for line in ran.out.splitlines() if line.startswith("IS "))
    assert iceland.endswith("no: method_mismatch")
    assert "Compared with each other: FR, SE_3 (unknown/unknown/average/energy_charts)." in ran.out
    assert "Not with them: IS (method_mismatch)." in ran.out
    assert "method_mismatch: Values of another method" in ran.out
    told = run(capsys, "signals", "--json").json()
    assert told["competing"]["method_mismatch"] == ["IS"]


def test_with_no_value_that_may_decide_the_exit_code_is_1_and_the_consequence_is_told(
    folder: Path, grid: tuple[GridService, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """For scripts that watch over it, and for people: what a reason means stands below the table."""
    grid[0].switch(Fault.UNAVAILABLE)
    settings(folder, grid[1])
    ran = run(capsys, "signals")
    assert ran.code == 1
    assert "No value may decide: carbon-aware requests run in the default order" in ran.out
    assert "outage: The service is not there now" in ran.out


def test_a_zone_misspelt_gets_the_nearest(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """SE3 is written SE_3 here."""
    assert "Did you mean SE_3?" in run(capsys, "signals", "--zone", "SE3").err


def test_watching_prints_a_line_a_change(folder: Path, grid: tuple[GridService, str]) -> None:
    """The whole once, then what has become of it, with the time."""
    settings(folder, grid[1], refresh_seconds=0.5)
    with started(folder, "signals", "--watch", "--zone", "IS") as running_command:
        running_command.line_with("landsnet_live")
        httpx.post(f"{grid[1]}/faults/landsnet/404", trust_env=False)
        line = running_command.line_with("nothing new: outage (HTTP 404) since 20")
        state = running_command.line_with(" landsnet: failing")
        code = running_command.stopped_by(signals_of_the_system.SIGINT)
    assert " IS landsnet_live: " in line
    assert "gCO2e/kWh, may decide: yes; " in line
    assert state.endswith("outage")
    assert code == 130


def test_watching_prints_when_something_changes_and_ends_with_ctrl_c(
    folder: Path, grid: tuple[GridService, str]
) -> None:
    """`--watch --json` prints a line a change: first live, then with the reason once the service breaks."""
    settings(folder, grid[1], refresh_seconds=0.5)
    with started(folder, "signals", "--watch", "--json", "--zone", "IS") as running_command:
        first = json.loads(running_command.line_with('"zones"'))
        httpx.post(f"{grid[1]}/faults/landsnet/404", trust_env=False)
        broken = json.loads(running_command.line_with('"outage"'))
        code = running_command.stopped_by(signals_of_the_system.SIGINT)
    assert first["zones"]["IS"][0]["no_signal"] is None
    assert broken["zones"]["IS"][0]["no_signal"]["reason"] == "outage"
    assert broken["zones"]["IS"][0]["live_eligible"]
    assert code == 130


def test_regions_and_explain_use_what_the_services_say(
    folder: Path, grid: tuple[GridService, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """`regions` shows live values, `explain` decides on them."""
    settings(folder, grid[1])
    with (folder / "vetted.toml").open("a") as file:
        file.write('[regions.scaleway-par-1]\nbase_url = "http://127.0.0.1:9/v1"\n')
    rows = run(capsys, "regions", "--no-probe").rows()
    assert rows["atnorth-sto-1"][6] == "entsoe_derived_live"
    assert rows["atnorth-isl-1"][6] == "landsnet_live"
    told = run(capsys, "explain", "--model", "any", "--routing", "carbon_aware", "--json").json()
    assert told["routing_trace"]["decision_reason"] == "only_live_candidate"


# ---- recorded answers


def test_a_recorded_answer_is_read_by_the_real_parser(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Interval, value, mix with factors, factor set with digest, share of stand-ins, and whether it might decide."""
    file = document(folder)
    arguments = ("signals", "--from-file", file, "--source", "entsoe", "--zone", "FR", "--at", "2026-11-22T12:01:00Z")
    ran = run(capsys, *arguments)
    assert ran.code == 0
    assert "interval     2026-11-22T11:59:00Z to 2026-11-22T12:00:00Z, 1 min" in ran.out
    assert "B14 Nuclear 40000 MW x 12" in ran.out
    assert "factor set   ar5_v1, sha-256:" in ran.out
    assert "may decide   yes (1 min old at 2026-11-22T12:01:00Z, limit 180 min)" in ran.out
    told = run(capsys, *arguments, "--json").json()
    mix, factors = told["mix"], told["factors"]
    recomputed = sum(mix[code] * factors[code] for code in mix) / sum(mix.values())
    assert told["gco2_per_kwh"] == pytest.approx(recomputed, rel=1e-4)


def test_an_old_recording_is_shown_with_its_age_and_does_not_decide(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Read a day later, the same value is stale; it is shown all the same."""
    file = document(folder)
    ran = run(
        capsys, "signals", "--from-file", file, "--source", "entsoe", "--zone", "FR", "--at", "2026-11-23T12:00:00Z"
    )
    assert ran.code == 0
    assert "may decide   no: stale (24.0 h old" in ran.out


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<html>We will be back</html>", "html_page"),
        (b"404 page not found", "not_understood"),
        (grid_wire.acknowledgement("No matching data found for Data item X"), "no_data"),
        (b"", "not_understood"),
        (b" " * 6_000_000, "too_large"),
    ],
    ids=["html", "text", "acknowledgement", "empty", "huge"],
)
def test_a_recording_that_gives_no_signal_says_why_and_exits_1(
    folder: Path, capsys: pytest.CaptureFixture[str], content: bytes, reason: str
) -> None:
    """The typed reason and a sentence, in text and in JSON."""
    (folder / "answer").write_bytes(content)
    arguments = ("signals", "--from-file", "answer", "--source", "entsoe", "--zone", "FR")
    ran = run(capsys, *arguments)
    assert ran.code == 1
    assert f"no signal    {reason}: " in ran.out
    told = run(capsys, *arguments, "--json").json()
    assert (told["source"], told["no_signal"]["reason"]) == ("entsoe_derived_live", reason)


def test_measured_and_forecast_of_one_answer_are_shown_apart(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Energy-Charts gives both: two blocks, of which only the measured one may ever decide."""
    body = grid_wire.energy_charts("fr", NOON)
    assert body is not None
    (folder / "fr.json").write_bytes(body)
    at = ("--at", "2026-11-22T12:01:00Z")
    ran = run(capsys, "signals", "--from-file", "fr.json", "--source", "energy_charts", "--zone", "FR", *at)
    measured, forecast = ran.out.split("\n\n")
    assert "may decide   yes" in measured
    assert "may decide   no: not_measured" in forecast


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--from-file", "answer.xml"), "--source entsoe --zone SE_4"),
        (("--from-file", "none.xml", "--source", "entsoe", "--zone", "FR"), "cannot be read"),
        (("--from-file", "answer.xml", "--source", "entsoe", "--zone", "IS"), "entsoe has nothing for that zone"),
        (("--from-file", "answer.xml", "--source", "entsoe", "--zone", "FR", "--at", "noon"), "is no instant"),
        (("--source", "entsoe"), "go with --from-file"),
        (
            ("--from-file", "answer.xml", "--source", "entsoe", "--zone", "FR", "--watch"),
            "--watch and --from-file exclude each other",
        ),
        (("--from-file", "answer.xml", "--source", "nobody", "--zone", "FR"), "invalid choice"),
    ],
    ids=["no source", "no file", "no zone", "no instant", "no recording", "watched", "unknown"],
)
def test_a_wrong_call_says_what_is_missing(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], told: str
) -> None:
    """Exit code 2 and a line with the remedy, never a traceback."""
    document(folder)
    ran = run(capsys, "signals", *arguments)
    assert ran.code == 2
    assert told in ran.err


def test_a_description_can_be_tried_on_a_recorded_answer(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever describes a service of their own reads one saved answer by it before trusting it."""
    (folder / "own.toml").write_text(
        '[signals.sources.http_json.zones.FR]\nurl = "https://grid.example.eu/fr"\n'
        'value = "data.-1.kg"\nobserved_at = "data.-1.to"\nunit = "kg_per_kwh"\n'
    )
    (folder / "answer.json").write_text('{"data": [{"kg": 9, "to": ""}, {"kg": 0.0215, "to": "2026-11-22T12:00:00Z"}]}')
    arguments = ("signals", "--from-file", "answer.json", "--source", "http_json", "--zone", "FR", "--json")
    ran = run(capsys, *arguments, "--config", "own.toml")
    assert (ran.code, ran.json()["gco2_per_kwh"], ran.json()["method"]) == (0, 21.5, "declared")
    undescribed = run(capsys, *arguments)
    assert undescribed.code == 2
    assert "[signals.sources.http_json.zones.FR]" in undescribed.err


SHORT = "[signals.sources.entsoe]\nmax_age_minutes = 7\ntoken = { env = 'GRID_KEY' }\n"
AT = ("--at", "2026-11-22T12:01:00Z")
OF_FRANCE = ("signals", "--from-file", "answer.xml", "--source", "entsoe", "--zone", "FR", *AT)


@pytest.mark.parametrize("place", ["vetted.toml", "VETTED_CONFIG", "--config", "the environment"])
def test_a_recorded_answer_is_read_by_the_settings_every_command_uses(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    """What a file or a variable says of the source holds for its recorded answers too."""
    document(folder)
    monkeypatch.setenv("GRID_KEY", "it-is-there")
    if place == "the environment":
        monkeypatch.setenv("VETTED_SIGNALS__SOURCES__ENTSOE__MAX_AGE_MINUTES", "7")
        monkeypatch.setenv("VETTED_SIGNALS__SOURCES__ENTSOE__TOKEN__ENV", "GRID_KEY")
    else:
        (folder / ("vetted.toml" if place == "vetted.toml" else "other.toml")).write_text(SHORT)
    if place == "VETTED_CONFIG":
        monkeypatch.setenv("VETTED_CONFIG", "other.toml")
    ran = run(capsys, *OF_FRANCE, *(["--config", "other.toml"] if place == "--config" else []))
    assert (ran.code, ran.err) == (0, "")
    assert "limit 7 min)" in ran.out


def test_settings_that_cannot_be_used_do_not_keep_an_answer_from_being_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An auditor has none of the operator's keys: the shipped defaults read it, and one line says so."""
    monkeypatch.delenv("GRID_KEY", raising=False)
    document(folder)
    (folder / "vetted.toml").write_text(SHORT)
    ran = run(capsys, *OF_FRANCE, "--json")
    (line,) = ran.err.splitlines()
    assert line.startswith("vetted-mw: the settings cannot be used, so the shipped defaults are: ")
    assert "signals.sources.entsoe.token.env" in line
    assert (ran.code, ran.json()["max_age_minutes"]) == (0, 180)
    named = run(capsys, *OF_FRANCE, "--config", "vetted.toml")
    assert (named.code, named.out) == (2, "")
    assert "signals.sources.entsoe.token.env" in named.err


def test_an_answer_that_is_too_large_bears_the_label_its_signals_would(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """RTE's own figure is another source than the mix, and says so even when nothing can be read."""
    (folder / "vetted.toml").write_text('[signals.sources.odre]\nfigure = "taux_co2"\n')
    (folder / "answer.json").write_bytes(b" " * 6_000_000)
    ran = run(capsys, "signals", "--from-file", "answer.json", "--source", "odre", "--zone", "FR")
    assert ran.code == 1
    assert ran.out.startswith("source       rte_eco2mix_direct\n")


def test_factors_are_told_only_of_a_value_that_they_made(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A service that says it uses our factor set gives no mix: nothing can be recomputed, so nothing is promised."""
    (folder / "vetted.toml").write_text(
        '[signals.sources.http_json.zones.FR]\nurl = "https://grid.example.eu/fr"\nvalue = "g"\nobserved_at = "to"\n'
        'method = "production/lifecycle/average/ar5_v1"\n'
    )
    (folder / "answer.json").write_text('{"g": 21.5, "to": "2026-11-22T12:00:00Z"}')
    arguments = ("signals", "--from-file", "answer.json", "--source", "http_json", "--zone", "FR")
    told = run(capsys, *arguments, "--json").json()
    assert (told["factor_set"], told["mix"]) == ("ar5_v1", None)
    assert not {"factor_set_digest", "factors"} & set(told)
    ran = run(capsys, *arguments)
    assert ran.code == 0
    assert "factor set" not in ran.out


def test_a_fuel_that_is_not_known_is_told_as_such(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A code of tomorrow gets the factor of "other" and no borrowed name."""
    document(folder)
    file = folder / "answer.xml"
    file.write_bytes(file.read_bytes().replace(b">B04<", b">B77<"))
    (folder / "vetted.toml").write_text("[signals.expected_types]\nFR = []\n")
    ran = run(capsys, *OF_FRANCE)
    assert ran.code == 0
    assert "B77 unknown " in ran.out


@pytest.mark.skipif(not RECORDINGS.exists(), reason="the recordings are not on this machine")
@pytest.mark.parametrize(
    ("file", "source", "zone", "value"),
    [
        ("entsoe/SE-SE4_production.xml", "entsoe", "SE_4", 61.8),
        ("entsoe/NO-NO5_production-negatives.xml", "entsoe", "NO_5", 24.5),
        ("landsnet/production.json", "landsnet", "IS", 28.08),
        ("rte/FR_eco2mix-national-tr_v1_search.json", "odre", "FR", 21.9),
    ],
)
def test_the_recordings_give_the_values_an_independent_calculation_gives(
    capsys: pytest.CaptureFixture[str], file: str, source: str, zone: str, value: float
) -> None:
    """Real answers of the services, read from the command line."""
    ran = run(capsys, "signals", "--from-file", RECORDINGS / file, "--source", source, "--zone", zone, "--json")
    assert ran.code == 0
    assert ran.json()["gco2_per_kwh"] == pytest.approx(value, abs=0.05)
