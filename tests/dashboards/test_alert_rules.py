"""The alert rules, by Prometheus' own unit tests: each fires on the trouble it is for, and on nothing that looks like it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from dashboards.boards import ALERTS, rules
from dashboards.prometheus import promtool, require_prometheus

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

RULES = rules()
COMPARISON = re.compile(r"^(?P<record>[a-z_]+:[a-z_]+:[a-z0-9_]+) (?P<comparison>>|<|==) (?P<number>[0-9.]+)$")
MINUTES = 60

SERVED = {"vetted_outcome": "served", "route_policy": "eu_preferred", "decision_mode": "preferred"}
PINNED = {"vetted_outcome": "served", "route_policy": "pinned", "decision_mode": "pinned"}
FAILED_OVER = {"vetted_outcome": "failed_over", "route_policy": "eu_preferred", "decision_mode": "failover"}
NOWHERE = {"vetted_outcome": "failed", "route_policy": "eu_preferred", "decision_mode": "unavailable"}
NO_SUCH_MODEL = NOWHERE | {"vetted_outcome": "refused"}
PINNED_503 = {"vetted_outcome": "failed", "route_policy": "pinned", "decision_mode": "unavailable"}
CUT = {"vetted_outcome": "failed", "route_policy": "eu_preferred", "decision_mode": "preferred"}


def series(name: str, values: str, labels: Mapping[str, str]) -> dict[str, str]:
    """Return one series of promtool's notation, a value a minute."""
    label = ", ".join(f'{key}="{value}"' for key, value in {"job": "gateway", **labels}.items())
    return {"series": f"{name}{{{label}}}", "values": values}


def requests(per_minute: float, labels: Mapping[str, str]) -> dict[str, str]:
    """Return a steady rate of requests for the whole hour."""
    routed = {
        f"vetted_routing_trace_{name}" if name in {"route_policy", "decision_mode"} else name: value
        for name, value in labels.items()
    }
    return series("vetted_requests_total", f"0+{per_minute:g}x{MINUTES}", routed)


def receipts(per_minute: float, outcome: str) -> dict[str, str]:
    """Return a steady rate of receipts."""
    return series("vetted_receipts_total", f"0+{per_minute:g}x{MINUTES}", {"vetted_outcome": outcome})


def gauge(name: str, values: str, **labels: str) -> dict[str, str]:
    """Return a gauge of one region, and one of a region that is well."""
    return series(name, values, {"vetted_region": "scaleway-par-1", **labels})


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One course of an hour.

    Attributes:
        alert: the alert that is looked at.
        name: what happens.
        fires: whether it fires at the hour's end.
        given: the series.
        more: further labels of the alert.
    """

    alert: str
    name: str
    fires: bool
    given: tuple[dict[str, str], ...]
    more: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        """Name it for a test's id."""
        return f"{self.alert}-{self.name}"


REGION = (("vetted_region", "scaleway-par-1"),)
AGE, HEALTH, MISSING = "vetted_grid_age_seconds", "vetted_regions_healthy", "vetted_metrics_workers_missing"
SOURCE = {"vetted_source": "file"}
CASES = [
    Case(
        alert="VettedNoRegionAvailable",
        name="one in ten",
        fires=True,
        given=(requests(54, SERVED), requests(6, NOWHERE)),
    ),
    Case(alert="VettedNoRegionAvailable", name="everything", fires=True, given=(requests(60, NOWHERE),)),
    Case(
        alert="VettedNoRegionAvailable",
        name="one in a thousand",
        fires=False,
        given=(requests(999, SERVED), requests(1, NOWHERE)),
    ),
    Case(
        alert="VettedNoRegionAvailable",
        name="a model nobody serves",
        fires=False,
        given=(requests(54, SERVED), requests(6, NO_SUCH_MODEL)),
    ),
    Case(
        alert="VettedNoRegionAvailable",
        name="only pins",
        fires=False,
        given=(requests(54, SERVED), requests(6, PINNED_503)),
    ),
    Case(
        alert="VettedNoRegionAvailable", name="cut streams", fires=False, given=(requests(54, SERVED), requests(6, CUT))
    ),
    Case(
        alert="VettedNoRegionAvailable",
        name="nobody asks",
        fires=False,
        given=(requests(0, SERVED), requests(0, NOWHERE)),
    ),
    Case(
        alert="VettedPinnedRegionUnavailable",
        name="one in ten",
        fires=True,
        given=(requests(54, PINNED), requests(6, PINNED_503)),
    ),
    Case(
        alert="VettedPinnedRegionUnavailable",
        name="among many others",
        fires=True,
        given=(requests(9000, SERVED), requests(9, PINNED), requests(1, PINNED_503)),
    ),
    Case(
        alert="VettedPinnedRegionUnavailable",
        name="pins are served",
        fires=False,
        given=(requests(54, PINNED), requests(6, NOWHERE)),
    ),
    Case(
        alert="VettedSustainedFailover",
        name="one in three",
        fires=True,
        given=(requests(40, SERVED), requests(20, FAILED_OVER)),
    ),
    Case(
        alert="VettedSustainedFailover",
        name="one in twenty",
        fires=False,
        given=(requests(57, SERVED), requests(3, FAILED_OVER)),
    ),
    Case(
        alert="VettedSustainedFailover",
        name="for five minutes, half an hour ago",
        fires=False,
        given=(
            requests(40, SERVED),
            series("vetted_requests_total", "0x25 20+20x5 120x30", {"vetted_outcome": "failed_over"}),
        ),
    ),
    Case(
        alert="VettedRegionNotHealthy",
        name="one of two processes sees it down",
        fires=True,
        more=REGION,
        given=(
            gauge(HEALTH, f"1x10 0x{MINUTES}", instance="a"),
            gauge(HEALTH, f"1x{MINUTES}", instance="b"),
        ),
    ),
    Case(
        alert="VettedRegionNotHealthy", name="healthy", fires=False, more=REGION, given=(gauge(HEALTH, f"1x{MINUTES}"),)
    ),
    Case(
        alert="VettedRegionNotHealthy",
        name="back for five minutes",
        fires=False,
        more=REGION,
        given=(gauge(HEALTH, f"0x54 1x{MINUTES}"),),
    ),
    Case(
        alert="VettedLiveSignalStale",
        name="older each minute",
        fires=True,
        more=REGION,
        given=(gauge(AGE, f"9000+60x{MINUTES}", **SOURCE),),
    ),
    Case(
        alert="VettedLiveSignalStale",
        name="of the hour",
        fires=False,
        more=REGION,
        given=(gauge(AGE, f"600+60x{MINUTES}", **SOURCE),),
    ),
    Case(
        alert="VettedLiveSignalStale",
        name="one process has a fresh one",
        fires=False,
        more=REGION,
        given=(
            gauge(AGE, f"20000x{MINUTES}", instance="a"),
            gauge(AGE, f"600x{MINUTES}", instance="b"),
        ),
    ),
    Case(
        alert="VettedReceiptsFailing",
        name="one in ten",
        fires=True,
        given=(receipts(54, "emitted"), receipts(6, "failed")),
    ),
    Case(
        alert="VettedReceiptsFailing",
        name="withheld by design",
        fires=False,
        given=(receipts(54, "emitted"), receipts(6, "withheld")),
    ),
    Case(
        alert="VettedReceiptsFailing",
        name="all emitted",
        fires=False,
        given=(receipts(60, "emitted"), receipts(0, "failed")),
    ),
    Case(alert="VettedWorkersMissing", name="one hangs", fires=True, given=(series(MISSING, f"1x{MINUTES}", {}),)),
    Case(
        alert="VettedWorkersMissing",
        name="one was restarted",
        fires=False,
        given=(series(MISSING, f"0x54 1x2 0x{MINUTES}", {}),),
    ),
]


@pytest.fixture(autouse=True)
def _prometheus() -> None:
    require_prometheus()


def unit_test(case: Case) -> dict[str, Any]:
    """Return promtool's document: the series ALERTS holds the alert at the hour's end, firing or not at all."""
    severity = next(rule.table["labels"]["severity"] for rule in RULES if rule.name == case.alert)
    labels = {"alertname": case.alert, "alertstate": "firing", "job": "gateway", "severity": severity} | dict(case.more)
    told = "ALERTS{" + ", ".join(f'{name}="{value}"' for name, value in labels.items()) + "}"
    return {
        "rule_files": [str(ALERTS)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": list(case.given),
                "promql_expr_test": [
                    {
                        "expr": f'ALERTS{{alertname="{case.alert}", alertstate="firing"}}',
                        "eval_time": f"{MINUTES - 1}m",
                        "exp_samples": [{"labels": told, "value": 1}] if case.fires else [],
                    }
                ],
            }
        ],
    }


def test_prometheus_takes_the_rules() -> None:
    """`promtool check rules` finds nothing to say, templates of the annotations included."""
    checked = promtool("check", "rules", ALERTS)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"SUCCESS: {len(RULES)} rules found" in checked.stdout


@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_fires_when_it_should_and_only_then(case: Case, tmp_path: Path) -> None:
    """After an hour of this course the alert fires, or does not."""
    document = tmp_path / "unit.json"
    document.write_text(json.dumps(unit_test(case)), encoding="utf-8")
    ran = promtool("test", "rules", document)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("fires", [True, False], ids=["firing", "silent"])
def test_each_alert_has_a_case_of_either_kind(fires: bool) -> None:
    """No alert is left that was never seen to fire, or never seen to keep still."""
    alerts = [rule.name for rule in RULES if rule.is_alert]
    assert sorted({case.alert for case in CASES if case.fires is fires}) == sorted(alerts)


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.is_alert], ids=lambda rule: rule.name)
def test_each_alert_compares_a_recorded_series_and_says_what_to_do(rule: Any) -> None:
    """The left side is recorded in the same file, so that it can be looked at by itself; the text is for who is woken."""
    compared = COMPARISON.match(rule.text)
    assert compared is not None
    assert compared["record"] in {other.name for other in RULES if not other.is_alert}
    assert rule.table["for"]
    assert rule.table["labels"]["severity"] in {"critical", "warning"}
    assert set(rule.table["annotations"]) == {"summary", "description"}
    assert rule.table["annotations"]["summary"].startswith("{{ $labels.job }}: ")
    assert len(rule.table["annotations"]["description"]) > 80


def test_no_recorded_series_is_left_over() -> None:
    """Each is what one alert compares."""
    used = {found["record"] for rule in RULES if rule.is_alert and (found := COMPARISON.match(rule.text))}
    assert {rule.name for rule in RULES if not rule.is_alert} == used


def test_the_readme_has_each_alert() -> None:
    """Whoever is woken finds the alert's name in the table, with its severity."""
    text = (ALERTS.parent / "README.md").read_text(encoding="utf-8")
    table = dict(re.findall(r"^\| `(Vetted\w+)` \| (\w+) \|", text, re.MULTILINE))
    assert table == {rule.name: rule.table["labels"]["severity"] for rule in RULES if rule.is_alert}
