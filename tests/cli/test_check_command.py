"""`vetted-mw check`: would these settings start, and if not, which key is at fault."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cli.commands import finished, run

if TYPE_CHECKING:
    from pathlib import Path

GOOD = """\
[regions.scaleway-par-1]
base_url = "https://paris.example/v1"

[regions.ovh-gra-1]
base_url = "https://gra.example/v1"

[callers.team-a]
key = { env = "TEAM_KEY" }
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
    assert "team-key" not in ran.out


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
        "warnings": [],
    }


def test_a_region_of_the_operators_order_without_a_server_is_warned_of(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It starts, and the region would never serve: said, with exit code 0."""
    file.write_text('default_order = ["ovh-gra-1", "atnorth-sto-1"]\n' + GOOD)
    ran = run(capsys, "check", file)
    assert ran.code == 0
    assert "warning        atnorth-sto-1 is in default_order and has no base_url" in ran.out


@pytest.mark.parametrize(
    ("readings", "told"),
    [
        (None, "cannot be read (FileNotFoundError)"),
        ("[[reading]]\n", "reading 1 lacks zone"),
        (READING.format(zone="DE", at="2026-11-25T04:50:00"), "observed_at with an offset"),
        (READING.format(zone="DE", at="2026-11-25T04:50:00Z"), "no region is in zone DE"),
        (READING.format(zone="FR", at="2026-11-25T04:50:00Z"), None),
    ],
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


def test_an_open_host_passes_with_the_operators_word(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What `serve --open` would start, `check --open` calls good; so are callers."""
    file.write_text(GOOD.partition("[callers")[0] + '[server]\nhost = "0.0.0.0"\n')
    assert run(capsys, "check", file).code == 1
    assert run(capsys, "check", file, "--open").code == 0
    file.write_text(GOOD + '[server]\nhost = "0.0.0.0"\n')
    assert run(capsys, "check", file).code == 0
