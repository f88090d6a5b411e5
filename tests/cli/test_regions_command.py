"""`vetted-mw regions`: the catalogue as it stands now, over real upstreams and a file of readings."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from cli.commands import run, run_beside
from support import unused_port
from vetted_mw.instants import rfc3339
from vetted_mw.testing import FakeUpstream

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VETTED_CONFIG", raising=False)
    return tmp_path


def settings(folder: Path, upstreams: dict[str, str], more: str = "") -> None:
    regions = "".join(f'[regions.{code}]\nbase_url = "{url}"\n' for code, url in upstreams.items())
    (folder / "vetted.toml").write_text(f"{regions}{more}")


def reading(zone: str, value: float, *, minutes_ago: float, kind: str = "measured") -> str:
    observed = rfc3339(datetime.now(UTC) - timedelta(minutes=minutes_ago))
    return (
        f'[[reading]]\nzone = "{zone}"\ngco2_per_kwh = {value}\nkind = "{kind}"\n'
        f'observed_at = "{observed}"\nsource = "our_meter"\n'
    )


async def test_health_is_what_a_probe_of_our_own_found(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Healthy, failing, unreachable, drained, never probed, without an upstream: each is told in a word."""
    async with FakeUpstream() as good, FakeUpstream(health=503) as bad, FakeUpstream() as out, FakeUpstream() as mute:
        settings(
            folder,
            {
                "scaleway-par-1": good.base_url,
                "scaleway-par-2": bad.base_url,
                "ovh-gra-1": f"http://127.0.0.1:{unused_port()}/v1",
            },
            f'[regions.atnorth-sto-1]\nbase_url = "{out.base_url}"\ndrained = true\n'
            f'[regions.atnorth-isl-1]\nbase_url = "{mute.base_url}"\nhealth_path = ""\n',
        )
        ran = await run_beside(capsys, "regions")
    rows = ran.rows()
    assert ran.code == 0
    assert {code: rows[code][3:5] for code in rows if "-" in code[1:]} == {
        "scaleway-par-1": ["yes", "healthy"],
        "scaleway-par-2": ["yes", "failing (HTTP 503)"],
        "ovh-gra-1": ["yes", "failing"],
        "atnorth-sto-1": ["yes", "drained"],
        "atnorth-isl-1": ["yes", "not probed"],
        "ovh-rbx-1": ["none", "-"],
        "hetzner-fsn-1": ["gateway only", "-"],
        "hetzner-hel-1": ["gateway only", "-"],
    }
    assert [len(upstream.requests) for upstream in (good, bad, out, mute)] == [0, 0, 0, 0]


async def test_no_probe_asks_no_upstream(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --no-probe nobody is contacted."""
    async with FakeUpstream() as paris:
        settings(folder, {"scaleway-par-1": paris.base_url}, 'models = "discover"\n')
        ran = await run_beside(capsys, "regions", "--no-probe")
        assert (paris.others, paris.requests) == ([], [])
    assert ran.rows()["scaleway-par-1"][3:5] == ["yes", "not probed"]


def test_intensities_come_with_source_and_age(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A live value is told with who gave it and how old it is; one that may not decide says so; else the annual one."""
    (folder / "signals.toml").write_text(
        reading("FR", 21.9, minutes_ago=12)
        + reading("SE_3", 18.0, minutes_ago=600)
        + reading("IS", 27.5, minutes_ago=0, kind="forecast")
    )
    settings(
        folder,
        {"scaleway-par-1": "http://127.0.0.1:9/v1", "atnorth-sto-1": "http://127.0.0.1:9/v1"},
        '[signals.sources.file]\npath = "signals.toml"\n',
    )
    ran = run(capsys, "regions", "--no-probe")
    rows = ran.rows()
    assert rows["scaleway-par-1"][5:] == ["21.9", "our_meter", "12 min"]
    assert rows["ovh-rbx-1"][5:] == [
        "21.9",
        "our_meter",
        "12 min",
    ]  # no upstream there yet: its zone is known all the same
    assert rows["atnorth-sto-1"][5:] == ["18", "our_meter (stale)", "600 min"]
    assert rows["atnorth-isl-1"][5:] == ["27.5", "our_meter (forecast)", "0 min"]
    assert rows["hetzner-fsn-1"][5:] == ["380", "annual 2024 (declared)", "-"]
    assert "It never decides." in ran.out
    as_json = {row["code"]: row["signal"] for row in run(capsys, "regions", "--no-probe", "--json").json()}
    assert as_json["scaleway-par-1"]["gco2_per_kwh"] == 21.9
    assert as_json["atnorth-sto-1"]["temporal_match"] == "stale"
    assert as_json["hetzner-fsn-1"] is None


def test_every_shipped_region_is_shown_without_any_settings(capsys: pytest.CaptureFixture[str]) -> None:
    """Out of the box the catalogue is there, with what to do next."""
    ran = run(capsys, "regions")
    rows = ran.rows()
    assert rows["atnorth-isl-1"][1:3] == ["Iceland, IS", "IS"]
    assert "base_url" in ran.out
    assert "vetted-mw demo" in ran.out


def test_what_is_not_known_of_a_region_is_a_dash(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A region without zone and average has neither in the table; an average without a year is shown without."""
    own = 'provider = "O"\nsite = "s"\ncountry = "FR"\n'
    (folder / "vetted.toml").write_text(f"[regions.bare-1]\n{own}[regions.year-1]\n{own}annual_gco2_per_kwh = 33.5\n")
    rows = run(capsys, "regions").rows()
    assert rows["bare-1"][1:] == ["s, FR", "-", "none", "-", "-", "-", "-"]
    assert rows["year-1"][5:] == ["33.5", "annual (configured)", "-"]


def test_the_note_on_annual_averages_stands_only_where_one_is_shown(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where every region has a signal and one an upstream, the table needs no words."""
    zones = ("FR", "SE_3", "IS", "DE_LU", "FI")
    (folder / "signals.toml").write_text("".join(reading(zone, 20, minutes_ago=1) for zone in zones))
    settings(folder, {"scaleway-par-1": "http://127.0.0.1:9/v1"}, '[signals.sources.file]\npath = "signals.toml"\n')
    ran = run(capsys, "regions", "--no-probe")
    assert "declared" not in ran.out
    assert "No region has an upstream" not in ran.out


async def test_json_holds_the_same_facts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For scripts: one object per region, facts, health, signal and models."""
    (folder / "signals.toml").write_text(reading("FR", 21.9, minutes_ago=12))
    async with FakeUpstream(model="served") as paris:
        settings(
            folder,
            {"scaleway-par-1": paris.base_url},
            'models = "discover"\n[signals.sources.file]\npath = "signals.toml"\n',
        )
        ran = await run_beside(capsys, "regions", "--json")
    told = {row["code"]: row for row in ran.json()}
    first = told["scaleway-par-1"]
    assert len(told) == 8
    assert (first["configured"], first["health"]["probe"], first["models"]) == (True, "healthy", ["served"])
    assert (first["signal"]["gco2_per_kwh"], first["signal"]["source"]) == (21.9, "our_meter")
    assert first["signal"]["live_eligible"]
    assert told["hetzner-hel-1"]["health"] is None
    assert told["hetzner-hel-1"]["annual"]["gco2_per_kwh"] == 95
