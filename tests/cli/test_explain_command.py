"""`vetted-mw explain`: the decision a request would get, without calling an upstream."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from cli.commands import Ran, run, run_beside
from vetted_mw.instants import rfc3339
from vetted_mw.testing import FakeUpstream

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

UPSTREAMS = ("scaleway-par-1", "scaleway-par-2", "atnorth-sto-1", "atnorth-isl-1")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VETTED_CONFIG", raising=False)
    write(tmp_path)
    now = rfc3339(datetime.now(UTC))
    values = {"FR": 30.0, "SE_3": 20.0, "IS": 25.0}
    (tmp_path / "signals.toml").write_text(
        "".join(
            f'[[reading]]\nzone = "{zone}"\ngco2_per_kwh = {value}\nkind = "measured"\nobserved_at = "{now}"\n'
            for zone, value in values.items()
        )
    )
    return tmp_path


def write(folder: Path, more: str = "", **urls: str) -> None:
    regions = "".join(
        f'[regions.{code}]\nbase_url = "{urls.get(code.replace("-", "_"), "http://127.0.0.1:9/v1")}"\n'
        'models = ["listed"]\n'
        for code in UPSTREAMS
    )
    (folder / "vetted.toml").write_text(f'{regions}[signals.sources.file]\npath = "signals.toml"\n{more}')


def told(ran: Ran) -> dict[str, str]:
    """Return the lines above the table by their first word."""
    head = ran.out.split("\n\n")[0]
    return {word: rest for word, _, rest in (line.partition(" ") for line in head.splitlines())}


def explain(capsys: pytest.CaptureFixture[str], *options: object, model: str = "listed") -> Ran:
    return run(capsys, "explain", "--model", model, *options)


def test_the_default_is_the_operators_order(capsys: pytest.CaptureFixture[str]) -> None:
    """Policy, decision, order and a verdict for each region, numbered as they would be tried."""
    ran = explain(capsys)
    rows = ran.rows()
    assert ran.code == 0
    assert told(ran)["policy"].strip() == "eu_preferred"
    assert told(ran)["decision"].strip() == "preferred: preferred_available"
    assert told(ran)["order"].strip() == "scaleway-par-1, scaleway-par-2"
    assert rows["scaleway-par-1"][:3] == ["1", "scaleway-par-1", "eligible"]
    assert rows["scaleway-par-2"][:3] == ["2", "scaleway-par-2", "eligible"]
    assert rows["atnorth-isl-1"][:3] == ["-", "atnorth-isl-1", "outside_policy"]
    assert rows["ovh-gra-1"][:3] == ["-", "ovh-gra-1", "not_configured"]
    assert "No upstream was called" in ran.out


def test_a_pin_is_that_region_and_its_secondary(capsys: pytest.CaptureFixture[str]) -> None:
    """Only what was named is tried."""
    ran = explain(capsys, "--region", "atnorth-isl-1", "--secondary-region", "scaleway-par-1")
    assert told(ran)["policy"].strip() == "pinned"
    assert told(ran)["order"].strip() == "atnorth-isl-1, scaleway-par-1"


def test_carbon_aware_shows_the_signal_that_decided(capsys: pytest.CaptureFixture[str]) -> None:
    """The lowest live value, its source and age; the others ranked behind it."""
    ran = explain(capsys, "--routing", "carbon_aware")
    assert told(ran)["decision"].strip() == "live: lowest_live_intensity"
    assert told(ran)["order"].strip().split(", ")[:2] == ["atnorth-sto-1", "atnorth-isl-1"]
    assert "20 gCO2e/kWh, file, " in told(ran)["signal"]
    assert ran.rows()["atnorth-sto-1"][:4] == ["1", "atnorth-sto-1", "eligible", "20"]


def test_a_latency_budget_rules_regions_out(capsys: pytest.CaptureFixture[str]) -> None:
    """The verdict names the check that failed."""
    ran = explain(capsys, "--routing", "carbon_aware", "--latency-budget-ms", "60")
    assert ran.rows()["atnorth-sto-1"][2] == "latency_budget"
    assert told(ran)["order"].strip().startswith("scaleway-par-1")


@pytest.mark.parametrize(
    ("options", "model", "code"),
    [
        (("--region", "ovh-gra-1"), "listed", "service_unavailable"),
        ((), "unlisted", "model_not_available"),
        (("--latency-budget-ms", "1"), "listed", "no_region_available"),
    ],
)
def test_a_request_nobody_would_serve_is_exit_code_1(
    options: tuple[str, ...], model: str, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The answer the caller would get stands beside the verdicts."""
    ran = explain(capsys, *options, model=model)
    assert ran.code == 1
    assert told(ran)["order"].strip().startswith("none")
    assert told(ran)["answer"].strip().startswith(f"{code}: ")
    as_json = explain(capsys, *options, "--json", model=model)
    assert as_json.code == 1
    assert (as_json.json()["order"], as_json.json()["error"]["code"]) == ([], code)


def test_policy_that_forbids_the_request_is_exit_code_1(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the operator's policy turns away is told with the wire's code, readable and as JSON."""
    write(folder, "[policy]\ncarbon_aware = false\n")
    ran = explain(capsys, "--routing", "carbon_aware")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("vetted-mw: routing_not_allowed: ")
    as_json = explain(capsys, "--routing", "carbon_aware", "--json")
    assert (as_json.code, as_json.json()["error"]["code"]) == (1, "routing_not_allowed")


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--region", "scaleway-par-9"), "invalid_region"),
        (("--region", "scaleway-par-1", "--routing", "carbon_aware"), "conflicting_options"),
        (("--secondary-region", "scaleway-par-1"), "conflicting_options"),
        (("--latency-budget-ms", "0"), "invalid_option"),
    ],
)
def test_a_request_that_cannot_be_made_is_exit_code_2(
    options: tuple[str, ...], code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same mistakes get the same answers as on the wire."""
    ran = explain(capsys, *options)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"vetted-mw: {code}: ")
    as_json = explain(capsys, *options, "--json")
    assert (as_json.code, as_json.json()["error"]["code"]) == (2, code)


def test_json_is_the_trace_and_the_order(capsys: pytest.CaptureFixture[str]) -> None:
    """For scripts: what `POST /v1/vetted/explain` answers."""
    answer: dict[str, Any] = explain(capsys, "--region", "scaleway-par-2", "--json").json()
    assert answer["order"] == ["scaleway-par-2"]
    assert answer["routing_trace"]["decision_reason"] == "pinned_region_available"
    assert answer["routing_trace"]["attempts"] == []
    assert answer["routing_trace"]["receipt_signal"] is None


async def test_nothing_is_sent_to_any_upstream(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither a completion nor a probe nor a question for its models."""
    async with FakeUpstream() as paris:
        write(folder, '[regions.ovh-gra-1]\nbase_url = "https://gra.example/v1"\n', scaleway_par_1=paris.base_url)
        ran = await run_beside(capsys, "explain", "--model", "listed")
        assert (paris.requests, paris.others, paris.open_connections) == ([], [], 0)
    assert ran.code == 0
