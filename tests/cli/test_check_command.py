"""`vetted-mw check`: would these settings start, and if not, which key is at fault."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from cli.commands import finished, run
from receipts.keys import private_pem, signer
from receipts.ledgers import made_receipt, write_ledger

if TYPE_CHECKING:
    from pathlib import Path

GOOD = """\
[regions.scaleway-par-1]
base_url = "https://paris.example/v1"

[regions.ovh-gra-1]
base_url = "https://gra.example/v1"

[callers.team-a]
key = { env = "TEAM_KEY" }

[signing]
key = { env = "SIGNING_KEY" }
"""


READING = """\
[[reading]]
zone = "{zone}"
gco2_per_kwh = 21.9
kind = "measured"
observed_at = "{at}"
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VETTED_CONFIG", raising=False)
    monkeypatch.setenv("TEAM_KEY", "team-key")
    monkeypatch.setenv("SIGNING_KEY", private_pem())
    file = tmp_path / "vetted.toml"
    file.write_text(GOOD)
    return file


def test_good_settings_are_told_with_what_they_amount_to(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """File, upstreams, order and callers, so that the operator sees whether it is what was meant."""
    ran = run(capsys, "check", file)
    assert (ran.code, ran.err) == (0, "")
    first, *facts = ran.out.splitlines()
    assert first == f"ok: {file}"
    assert [fact.split(maxsplit=1) for fact in facts[:1]] == [["upstreams", "scaleway-par-1, ovh-gra-1"]]
    assert "scaleway-par-1, scaleway-par-2, ovh-gra-1" in facts[1]
    assert facts[2].split() == ["callers", "team-a"]
    assert facts[3].split(maxsplit=1) == [
        "sources",
        "none, so carbon-aware requests run in the default order and say so",
    ]
    assert [fact.split(maxsplit=2)[:2] for fact in facts[4:]] == [
        ["signing", "key"],
        ["ledger", "none:"],
        ["telemetry", "GET"],
    ]
    assert facts[4].endswith(signer().kid)
    assert "team-key" not in ran.out
    assert private_pem().splitlines()[1] not in ran.out


def test_good_settings_as_json(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same for scripts."""
    ran = run(capsys, "check", file, "--json")
    assert ran.code == 0
    assert ran.json() == {
        "ok": True,
        "file": str(file),
        "upstreams": ["scaleway-par-1", "ovh-gra-1"],
        "default_order": ["scaleway-par-1", "scaleway-par-2", "ovh-gra-1"],
        "callers": ["team-a"],
        "sources": [],
        "signing_key": signer().kid,
        "ledger": None,
        "telemetry": "GET /metrics",
        "warnings": [],
    }


def test_every_source_is_told_with_its_pace(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """How often each is asked is what is in force: its own word, else all services', lifted to what each allows."""
    file.with_name("signals.toml").write_text(READING.format(zone="FR", at="2026-11-25T04:50:00Z"))
    parts = ["[signals]\nrefresh_seconds = 100\n", ENTSOE, "refresh_seconds = 900\n", LANDSNET, OWN, SIGNALS_FILE]
    file.write_text(GOOD + "".join(parts))
    ran = run(capsys, "check", file)
    told = next(line for line in ran.out.splitlines() if line.startswith("sources"))
    assert told == "sources        entsoe every 900 s, landsnet every 300 s, http_json every 100 s, file every 1 s"
    assert run(capsys, "check", file, "--json").json()["sources"] == [
        {"name": "entsoe", "refresh_seconds": 900, "max_age_minutes": 180},
        {"name": "landsnet", "refresh_seconds": 300, "max_age_minutes": 30},
        {"name": "http_json", "refresh_seconds": 100, "max_age_minutes": 180},
        {"name": "file", "refresh_seconds": 1, "max_age_minutes": 180},
    ]


def test_the_age_told_of_described_services_is_the_shortest(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each of their zones has a limit of its own: the one that runs out first is told."""
    france = OWN.replace("zones.IS", "zones.FR") + "max_age_minutes = 20\n"
    file.write_text(GOOD + france + OWN + "max_age_minutes = 30\n")
    (pace,) = run(capsys, "check", file, "--json").json()["sources"]
    assert pace == {"name": "http_json", "refresh_seconds": 900, "max_age_minutes": 20}


@pytest.mark.parametrize(("workers", "is_warned_of"), [(1, False), (2, True), (4, True)])
def test_workers_that_together_ask_a_service_too_often_are_warned_of(
    file: Path, capsys: pytest.CaptureFixture[str], workers: int, is_warned_of: bool
) -> None:
    """Each worker asks for itself: Landsnet's five minutes are over with two of them, ENTSO-E's limit is far."""
    (file.parent / "token").write_text("key")
    sources = '[signals.sources.landsnet]\n[signals.sources.entsoe]\ntoken = { file = "token" }\n'
    file.write_text(f"{GOOD}{sources}[server]\nworkers = {workers}\n")
    told = [one for one in run(capsys, "check", file, "--json").json()["warnings"] if "together ask" in one]
    assert bool(told) is is_warned_of
    if is_warned_of:
        (warning,) = told
        assert warning == (
            f"server.workers = {workers} together ask landsnet every {300 / workers:g} s, and it may be asked every "
            f"300 s: set signals.sources.landsnet.refresh_seconds to {300 * workers} or more"
        )


def test_a_service_asked_more_rarely_than_its_values_live_is_warned_of(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Statnett's values live for 15 minutes: asked every half hour, they decide half of the time."""
    file.write_text(GOOD + "[signals.sources.statnett]\nrefresh_seconds = 1800\n")
    ran = run(capsys, "check", file, "--json")
    assert [one["name"] for one in ran.json()["sources"]] == ["statnett"]
    assert any(
        warning == "signals.sources.statnett is asked every 30 minutes and its values live for 15: "
        "between two refreshes they are stale"
        for warning in ran.json()["warnings"]
    )


@pytest.mark.parametrize(("minutes", "is_warned_of"), [(20, True), (29, True), (30, False)])
def test_described_services_asked_more_rarely_than_their_values_live_are_warned_of(
    file: Path, capsys: pytest.CaptureFixture[str], minutes: int, is_warned_of: bool
) -> None:
    """By the zone whose values live shortest: asked every half hour, they are stale in between."""
    france = OWN.replace("zones.IS", "zones.FR") + f"max_age_minutes = {minutes}\n"
    parts = [GOOD, "[signals.sources.http_json]\nrefresh_seconds = 1800\n", france, OWN]
    file.write_text("".join(parts))
    told = (
        f"signals.sources.http_json is asked every 30 minutes and its values live for {minutes}: "
        "between two refreshes they are stale"
    )
    assert (told in run(capsys, "check", file, "--json").json()["warnings"]) is is_warned_of


def test_a_region_of_the_operators_order_without_a_server_is_warned_of(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It starts, and the region would never serve: said, with exit code 0."""
    file.write_text('default_order = ["ovh-gra-1", "atnorth-sto-1"]\n' + GOOD)
    ran = run(capsys, "check", file)
    assert ran.code == 0
    assert "warning        atnorth-sto-1 is in default_order and has no base_url" in ran.out


def test_a_drained_region_is_warned_of(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It starts, and nobody forgets which region was taken out of service."""
    file.write_text(GOOD.replace('gra.example/v1"', 'gra.example/v1"\ndrained = true'))
    ran = run(capsys, "check", file)
    assert ran.code == 0
    assert [line for line in ran.out.splitlines() if line.startswith("warning")] == [
        "warning        ovh-gra-1 is drained: it takes no requests"
    ]


UNSIGNED = "receipts are not signed: set signing.key (vetted-mw keys new makes one)"
OPEN_LEDGER = "ledger.path is set without signing.key: whoever can write that file can change it unseen"


@pytest.mark.parametrize(
    ("is_signed", "ledger", "warnings"),
    [
        (True, "", []),
        (True, '[ledger]\npath = "receipts.sqlite3"\n', []),
        (False, "", [UNSIGNED]),
        (False, '[ledger]\npath = "receipts.sqlite3"\n', [UNSIGNED, OPEN_LEDGER]),
        (True, '[ledger]\ndurability = "full"\n', ["ledger.durability does nothing without ledger.path"]),
    ],
)
def test_receipts_that_are_less_evidence_than_they_look_are_warned_of(
    is_signed: bool, ledger: str, warnings: list[str], file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a key, in an open ledger, or with a promise that needs one: it starts, and is said."""
    file.write_text((GOOD if is_signed else GOOD.partition("[signing]")[0]) + ledger)
    told = run(capsys, "check", file, "--json").json()
    assert told["warnings"] == warnings
    assert told["signing_key"] == (signer().kid if is_signed else None)
    assert told["ledger"] == (str(file.parent / "receipts.sqlite3") if "path" in ledger else None)
    if not is_signed:
        assert "signing key    none: receipts are not signed" in run(capsys, "check", file).out


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("letter.txt", "another file, not a ledger"),
        ("other.sqlite3", "another file, not a ledger"),
        ("newer.sqlite3", "a newer release"),
        ("cut.sqlite3", "damaged"),
        (".", "is a folder"),
        ("nowhere/receipts.sqlite3", "folder that does not exist"),
        ("/dev/full", "no file that can be kept"),
        ("stray", "no file that can be kept"),
    ],
)
def test_a_ledger_path_that_is_something_else_is_refused(
    path: str, told: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the gateway could not write to is found before it starts, and nothing is written to it."""
    _made_beside(file)
    before = {one: one.read_bytes() for one in file.parent.iterdir() if one.is_file()}
    file.write_text(f'{GOOD}[ledger]\npath = "{path}"\n')
    ran = run(capsys, "check", file)
    assert (ran.code, "ledger.path" in ran.out, told in ran.out) == (1, True, True), ran.out
    assert (f"({file.parent / path})" in ran.out) == ("folder" not in told)
    after = {one: one.read_bytes() for one in file.parent.iterdir() if one.is_file() and one != file}
    assert after == {one: data for one, data in before.items() if one != file}


@pytest.mark.parametrize("path", ["new.sqlite3", "receipts.sqlite3", "empty.sqlite3"])
def test_a_ledger_that_is_one_or_can_become_one_is_taken(
    path: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not there yet, one of ours, or an empty file that the gateway makes one of; and no file is made by looking."""
    _made_beside(file)
    file.write_text(f'{GOOD}[ledger]\npath = "{path}"\n')
    names = sorted(one.name for one in file.parent.iterdir())
    ran = run(capsys, "check", file)
    assert ran.code == 0, ran.out
    assert "cannot be written" not in ran.out
    assert sorted(one.name for one in file.parent.iterdir()) == names


def test_a_ledger_that_cannot_be_written_is_warned_of(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever checks may be another user than the gateway's: a warning, no refusal."""
    file.write_text(f'{GOOD}[ledger]\npath = "receipts.sqlite3"\n')
    monkeypatch.setattr("os.access", lambda *_asked: False)
    ran = run(capsys, "check", file)
    assert (ran.code, "ledger.path cannot be written by the user" in ran.out) == (0, True)


def _made_beside(file: Path) -> None:
    """Make files that a ledger path may name by mistake."""
    folder = file.parent
    (folder / "letter.txt").write_text("a letter")
    (folder / "empty.sqlite3").touch()
    (folder / "stray").symlink_to("nowhere.sqlite3")
    for name in ("receipts", "newer", "cut"):
        write_ledger(folder / f"{name}.sqlite3", [made_receipt() for _ in range(20)])
    with closing(sqlite3.connect(folder / "other.sqlite3")) as other, other:
        other.execute("CREATE TABLE letters (text TEXT)")
    with closing(sqlite3.connect(folder / "newer.sqlite3")) as newer, newer:
        newer.execute("PRAGMA user_version = 99")
    (folder / "cut.sqlite3").write_bytes((folder / "cut.sqlite3").read_bytes()[:5_000])


def test_an_early_commit_that_comes_late_is_warned_of(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A stream that has shown nothing by `first_byte_seconds` has failed: a first attempt there never commits early."""
    file.write_text(GOOD + "[limits]\ncommit_after_seconds = 5\n[regions.ovh-gra-1.limits]\nfirst_byte_seconds = 5\n")
    ran = run(capsys, "check", file)
    assert ran.code == 0
    assert [line for line in ran.out.splitlines() if line.startswith("warning")] == [
        "warning        limits.commit_after_seconds (5) is late for ovh-gra-1: its first_byte_seconds are over by then"
    ]


@pytest.mark.parametrize(
    ("readings", "told"),
    [
        (None, "cannot be read (FileNotFoundError)"),
        ("[[reading]]\n", "reading 1 lacks zone"),
        (READING.format(zone="DE", at="2026-11-25T04:50:00"), "observed_at with an offset"),
        (READING.format(zone="DE", at="2026-11-25T04:50:00Z"), "no region is in zone DE"),
        ("#" * 1_048_577, "larger than 1 MiB"),
        (READING.format(zone="FR", at="2026-11-25T04:50:00Z"), None),
    ],
    ids=["gone", "no zone", "no offset", "stray", "huge", "good"],
)
def test_the_signals_file_is_looked_at_too(
    readings: str | None, told: str | None, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that is missing, broken, or about a zone nobody is in is warned of: it would be silence in production."""
    file.write_text(GOOD + '[signals.sources.file]\npath = "signals.toml"\n')
    if readings is not None:
        file.with_name("signals.toml").write_text(readings)
    ran = run(capsys, "check", file, "--json")
    assert ran.code == 0
    warnings = ran.json()["warnings"]
    assert warnings == [] if told is None else told in warnings[0]


ICELAND = """
[regions.atnorth-isl-1]
base_url = "https://isl.example/v1"
"""
ENTSOE = """
[signals.sources.entsoe]
token = { env = "TEAM_KEY" }
"""
LANDSNET = "[signals.sources.landsnet]\n"
STATNETT = "[signals.sources.statnett]\n"
ODRE = "[signals.sources.odre]\n"
ENERGY_CHARTS = "[signals.sources.energy_charts]\n"
OWN = """
[signals.sources.http_json.zones.IS]
url = "https://own.example/now"
value = "value"
observed_at = "at"
"""
STRANGE = "which these settings do not configure: only an application that brings it as a source of its own can start"
SIGNALS_FILE = """
[signals.sources.file]
path = "signals.toml"
"""


OWN_AS_OURS = OWN + 'method = "production/lifecycle/average/ar5_v1"\n'


def warnings_of(file: Path, capsys: pytest.CaptureFixture[str], *parts: str, own_sources: bool = False) -> list[str]:
    """Return the warnings about these settings, in which two regions of France are reached."""
    file.write_text(GOOD + "".join(parts))
    ran = run(capsys, "check", file, "--json", *(["--own-sources"] if own_sources else []))
    assert ran.code == 0
    found: list[str] = ran.json()["warnings"]
    return found


@pytest.mark.parametrize(
    "parts",
    [
        [ENTSOE, '[signals.chains]\nFR = ["entsoe"]\n'],
        [ENTSOE, SIGNALS_FILE, '[signals.chains]\nFR = ["entsoe", "file"]\n'],
        [ICELAND, OWN_AS_OURS, ENTSOE, '[signals.chains]\nIS = ["http_json"]\n'],
    ],
)
def test_a_chain_of_configured_sources_is_good(
    parts: list[str], file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each source the settings can configure is known in a chain once it is configured."""
    file.with_name("signals.toml").write_text(READING.format(zone="FR", at="2026-11-25T04:50:00Z"))
    assert warnings_of(file, capsys, *parts) == []


@pytest.mark.parametrize(
    ("parts", "names", "entry", "remedy"),
    [
        ([ENTSOE], ["entsoe", "odre"], 2, "Add its table, [signals.sources.odre], or take it out. Configured: entsoe."),
        ([ENTSOE], ["http_json"], 1, "Add its table, [signals.sources.http_json]"),
        ([ENTSOE], ["entsoe", "file", "own"], 2, "Add its table, [signals.sources.file]"),
        ([ENTSOE], ["entso-e"], 1, "Did you mean entsoe? Configured: entsoe."),
        ([ENTSOE, LANDSNET], ["landsnet_live"], 1, "Did you mean landsnet? Configured: entsoe, landsnet."),
        ([ENTSOE], ["entsoe", "rte_mix_derived_live"], 2, "Did you mean odre?"),
        ([ENTSOE], ["zzz"], 1, "Configured: entsoe."),
        ([], ["entsoe"], 1, "Configured: none."),
    ],
)
def test_a_chain_of_a_source_that_is_not_configured_is_refused(
    parts: list[str],
    names: list[str],
    entry: int,
    remedy: str,
    file: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As `serve` does: the chain, which of its entries, and what was meant; the entry itself may be anything."""
    chain = "[signals.chains]\nFR = [" + ", ".join(f'"{name}"' for name in names) + "]\n"
    file.write_text(GOOD + "".join(parts) + chain)
    ran = run(capsys, "check", file)
    assert (ran.code, ran.err) == (1, "")
    assert ran.out.startswith(f"not usable: signals.chains.FR: its entry {entry} is no configured source.")
    assert remedy in ran.out
    told = run(capsys, "check", file, "--json").json()
    assert (told["ok"], told["field"]) == (False, "signals.chains.FR")
    assert remedy in told["remedy"]


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ([ENTSOE, '[signals.chains]\nFR = ["entsoe", "own"]\n'], "signals.chains.FR names own"),
        ([ENTSOE, '[signals.chains]\nFR = ["file", "entsoe", "own"]\n'], "signals.chains.FR names file, own"),
        (['[signals.chains]\nFR = ["entsoe"]\n'], "signals.chains.FR names entsoe"),
    ],
)
def test_a_chain_may_name_what_an_application_brings(
    parts: list[str], told: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With `--own-sources` such a chain starts, and is still told: it may be a slip."""
    assert warnings_of(file, capsys, *parts, own_sources=True) == [f"{told}, {STRANGE}"]


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ([ENTSOE, LANDSNET, '[signals.chains]\nFR = ["landsnet", "entsoe"]\n'], "take it out"),
        ([ENTSOE, STATNETT, '[signals.chains]\nFR = ["statnett", "entsoe"]\n'], "signals.sources.statnett.areas.FR"),
        ([ENTSOE, OWN, '[signals.chains]\nFR = ["entsoe", "http_json"]\n'], "signals.sources.http_json.zones.FR"),
        ([ENTSOE, STATNETT, 'areas = { FR = "FR" }\n[signals.chains]\nFR = ["statnett", "entsoe"]\n'], None),
        ([ENTSOE, STATNETT, '[signals.chains]\nSE_3 = ["statnett", "entsoe"]\n'], None),
    ],
)
def test_a_source_that_has_nothing_for_its_chains_zone_is_warned_of(
    parts: list[str], told: str | None, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would be asked for nothing: said, with the key that would change it, where there is one."""
    found = warnings_of(file, capsys, *parts)
    if told is None:
        assert found == []
        return
    (warning,) = found
    assert warning.startswith("signals.chains.FR names ")
    assert ", which has nothing for FR: take it out" in warning
    assert warning.endswith(told)


@pytest.mark.parametrize(
    ("parts", "is_silent"),
    [
        ([], False),
        ([ENTSOE], True),
        ([ENTSOE, LANDSNET], False),
        ([ENTSOE, OWN], False),
        ([ENTSOE, LANDSNET, '[signals.chains]\nIS = ["entsoe"]\n'], True),
        ([ENTSOE, 'areas = { IS = "10Y1001A1001A958" }\n'], False),
        ([ENTSOE, SIGNALS_FILE], True),
    ],
)
def test_a_served_zone_that_no_source_knows_is_warned_of(
    parts: list[str], is_silent: bool, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once any source is configured, a region whose zone none has anything for is told: carbon-aware passes it by."""
    file.with_name("signals.toml").write_text(READING.format(zone="FR", at="2026-11-25T04:50:00Z"))
    told = [one for one in warnings_of(file, capsys, ICELAND, *parts) if one.startswith("no signal source")]
    assert len(told) == is_silent
    assert all("has anything for zone IS (atnorth-isl-1): carbon-aware routing cannot choose it" in one for one in told)


def test_a_zone_of_an_applications_own_source_is_not_called_silent(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What such a source has for the zone, the settings cannot know."""
    chain = '[signals.chains]\nIS = ["an-applications-own"]\n'
    (warning,) = warnings_of(file, capsys, ICELAND, ENTSOE, chain, own_sources=True)
    assert warning.startswith("signals.chains.IS names an-applications-own, ")


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ([ENTSOE, LANDSNET], None),
        ([ODRE, LANDSNET], None),
        ([ENERGY_CHARTS], None),
        ([ENTSOE, OWN_AS_OURS], None),
        (
            [ENERGY_CHARTS, LANDSNET],
            "IS (landsnet) by production/lifecycle/average/ar5_v1",
        ),
        (
            [LANDSNET, ODRE, 'figure = "taux_co2"\n'],
            "FR (odre) by production/direct/average/rte; IS (landsnet) by production/lifecycle/average/ar5_v1",
        ),
        (
            [ENTSOE, OWN],
            "FR (entsoe) by production/lifecycle/average/ar5_v1; IS (http_json) by declared",
        ),
        (
            [LANDSNET, SIGNALS_FILE],
            "FR (file) by declared; IS (landsnet) by production/lifecycle/average/ar5_v1",
        ),
        (
            [ENERGY_CHARTS, ENTSOE, LANDSNET, '[signals.chains]\nFR = ["energy_charts", "entsoe"]\n'],
            (
                "FR (energy_charts) by unknown/unknown/average/energy_charts; "
                "IS (landsnet) by production/lifecycle/average/ar5_v1"
            ),
        ),
        ([ENERGY_CHARTS, ENTSOE, LANDSNET], None),
        ([ENTSOE, STATNETT, 'areas = { IS = "IS" }\n'], None),
        (
            [ENTSOE, ENTSOE.replace("entsoe", "electricity_maps"), 'figure = "direct"\n'],
            "IS (electricity_maps) by consumption/direct/average/electricity_maps",
        ),
        (
            [ENTSOE, '[signals.sources.energinet]\nareas = { IS = "DK1" }\n'],
            "IS (energinet) by consumption/unknown/average/energinet",
        ),
    ],
)
def test_served_zones_whose_values_cannot_compete_are_told(
    parts: list[str], told: str | None, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line names the zones, the first source of each and its method; mixes share our factors and say nothing."""
    file.with_name("signals.toml").write_text(READING.format(zone="FR", at="2026-11-25T04:50:00Z"))
    lines = [one for one in warnings_of(file, capsys, ICELAND, *parts) if one.startswith("zones take their values")]
    if told is None:
        assert lines == []
        return
    (line,) = lines
    assert "by different methods, which are never ranked against each other: FR (" in line
    assert line.endswith(told)


@pytest.mark.parametrize("figure", ["consumption", "production"])
def test_zones_that_no_server_is_in_are_not_compared(
    figure: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Finland is measured otherwise and nobody serves there: nothing will be ranked; with a server it is told."""
    fingrid = f'[signals.sources.fingrid]\ntoken = {{ env = "TEAM_KEY" }}\nfigure = "{figure}"\n'
    chain = '[signals.chains]\nFI = ["fingrid"]\n'
    assert warnings_of(file, capsys, ENTSOE, fingrid, chain) == []
    helsinki = '[regions.hetzner-hel-1]\nbase_url = "https://hel.example/v1"\n'
    (warning,) = warnings_of(file, capsys, ENTSOE, fingrid, chain, helsinki)
    assert warning.endswith(f"; FI (fingrid) by {figure}/direct/average/fingrid")


def test_regions_of_one_silent_zone_are_told_together(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One warning per zone names all its servers; a region without a zone has no signal by the operator's choice."""
    own = '[regions.own]\nprovider = "O"\nsite = "s"\ncountry = "FR"\nbase_url = "https://own.example/v1"\n'
    (warning,) = warnings_of(file, capsys, own, LANDSNET)
    assert warning.startswith("no signal source has anything for zone FR (scaleway-par-1, ovh-gra-1): ")


def test_a_file_that_cannot_be_read_is_not_called_silent(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is wrong with the file is told once; what it may hold is not guessed at."""
    (warning,) = warnings_of(file, capsys, SIGNALS_FILE)
    assert "cannot be read (FileNotFoundError)" in warning


@pytest.mark.parametrize(
    ("part", "place"),
    [
        ('[signals.chains]\nfr = ["entsoe"]\n', "signals.chains names"),
        ("[signals.max_proxy_share]\ndefault = 0.2\nfr = 0.3\n", "signals.max_proxy_share names"),
        ("[signals.min_total_mw]\nfr = 1\n", "signals.min_total_mw names"),
        ('[signals.expected_types]\nfr = ["B14"]\n', "signals.expected_types names"),
        ('areas = { fr = "10YFR-RTE------C" }\n', "signals.sources.entsoe.areas names"),
        (OWN.replace("zones.IS", "zones.fr"), "signals.sources.http_json.zones names"),
    ],
)
def test_a_zone_that_nobody_is_in_is_warned_of(
    part: str, place: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A zone written otherwise than the regions' is no error, since a region may follow, and would do nothing."""
    found = warnings_of(file, capsys, ENTSOE, part)
    (stray,) = [one for one in found if one.startswith("no region is in zone fr, ")]
    assert f"which {place}; zones: DE_LU, FI, FR, IS, SE_3" in stray


def test_the_file_is_found_as_every_command_finds_it(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By its name, by --config, by VETTED_CONFIG, or as ./vetted.toml."""
    other = file.with_name("other.toml")
    other.write_text(GOOD)
    assert run(capsys, "check").out.startswith(f"ok: {file}")
    assert run(capsys, "check", "other.toml").out.startswith(f"ok: {other}")
    assert run(capsys, "check", "--config", "other.toml").out.startswith(f"ok: {other}")
    assert finished(file.parent, "check", environ={"VETTED_CONFIG": "other.toml"}).out.startswith(f"ok: {other}")


def test_settings_of_the_environment_alone_are_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No file is needed, and nobody who may call is told openly."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VETTED_CONFIG", raising=False)
    monkeypatch.setenv("VETTED_REGIONS__SCALEWAY_PAR_1__BASE_URL", "https://paris.example/v1")
    ran = run(capsys, "check")
    assert ran.code == 0
    assert "ok: settings from the environment" in ran.out
    assert "none: whoever reaches the gateway may use it" in ran.out


@pytest.mark.parametrize(
    ("text", "field", "remedy"),
    [
        (GOOD.replace("base_url", "base_ulr", 1), "regions.scaleway-par-1.base_ulr", "Did you mean base_url?"),
        (GOOD.replace("https://paris", "https://me:secret@paris"), "regions.scaleway-par-1.base_url", "Take them out"),
        (GOOD.replace("TEAM_KEY", "NO_SUCH_KEY"), "callers.team-a.key.env", "Export"),
        (GOOD.replace("SIGNING_KEY", "TEAM_KEY"), "signing.key", "vetted-mw keys new"),
        (GOOD + '[ledger]\npath = "nowhere/receipts.sqlite3"\n', "ledger.path", "Create the folder"),
        (GOOD + '[ledger]\npolicy = "fail_closed"\n', "ledger.policy", "ledger.path"),
        ("", "regions", "base_url"),
        (GOOD.partition("[callers")[0] + '[server]\nhost = "0.0.0.0"\n', "server.host", "[callers]"),
        ("oops", "", "Correct the syntax"),
    ],
)
def test_bad_settings_name_key_and_remedy_and_are_exit_code_1(
    text: str, field: str, remedy: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What would not start is told on standard output, readable and as JSON, and no value with it."""
    file.write_text(text)
    ran = run(capsys, "check", file)
    assert (ran.code, ran.err) == (1, "")
    assert ran.out.startswith(f"not usable: {field}")
    assert remedy in ran.out
    assert "secret" not in ran.out
    as_json = run(capsys, "check", file, "--json")
    told = as_json.json()
    assert as_json.code == 1
    assert (told["ok"], told["field"]) == (False, field)
    assert remedy in told["remedy"]
    assert told["message"] in ran.out


def test_an_engine_that_is_not_installed_is_told(file: Path) -> None:
    """EcoLogits is an extra: settings that name it would not start without it."""
    file.write_text(GOOD + '[receipts]\nengine = "ecologits"\n')
    hidden = "import sys; sys.modules['ecologits'] = None; from vetted_mw.cli import main; sys.exit(main(['check']))"
    ran = finished(file.parent, python=("-c", hidden))
    assert (ran.code, ran.err) == (1, "")
    assert ran.out.startswith("not usable: receipts.engine: ")
    assert "pip install '.[ecologits]'" in ran.out


def test_an_open_host_passes_with_the_operators_word(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What `serve --open` would start, `check --open` calls good; so are callers."""
    file.write_text(GOOD.partition("[callers")[0] + '[server]\nhost = "0.0.0.0"\n')
    assert run(capsys, "check", file).code == 1
    assert run(capsys, "check", file, "--open").code == 0
    file.write_text(GOOD + '[server]\nhost = "0.0.0.0"\n')
    assert run(capsys, "check", file).code == 0
