"""Every expression of the dashboard and of the rules, asked of a real Prometheus that scraped a loaded gateway."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from dashboards.boards import dashboard, expressions, filled, rate_interval, rules, selectors
from dashboards.prometheus import has_data
from dashboards.watching import LATEST, PUBLISHED, SCRAPE_SECONDS
from real.processes import eventually
from vetted_mw.routing.values import AttemptOutcome, DecisionMode, RoutePolicy
from vetted_mw.telemetry.ended import ReceiptOutcome, RequestOutcome

if TYPE_CHECKING:
    from dashboards.boards import Expression, Rule
    from dashboards.watching import Watch

EXPRESSIONS = expressions(dashboard())
RULES = rules()
STEP_SECONDS = 15.0
"""Grafana's step for a quarter of an hour on a panel of this width."""


def on(job: str, text: str) -> str:
    """Return an expression as Grafana sends it, for one job and all its regions."""
    interval = rate_interval(scrape_seconds=SCRAPE_SECONDS, step_seconds=STEP_SECONDS)
    return filled(text, {"job": job, "vetted_region": ".*", "__rate_interval": interval})


@pytest.mark.parametrize("job", [PUBLISHED, LATEST])
@pytest.mark.parametrize("expression", EXPRESSIONS, ids=lambda one: one.name)
def test_every_expression_of_the_dashboard_has_data(watch: Watch, expression: Expression, job: str) -> None:
    """Each query returns a number, and each label its legend shows is on a series, with either names of GenAI metrics."""
    samples = watch.data_of(on(job, expression.text), job)
    for label in expression.legend_labels:
        assert any(sample.labels.get(label) for sample in samples), label


@pytest.mark.parametrize("rule", [rule for rule in RULES if not rule.is_alert], ids=lambda rule: rule.name)
def test_every_recorded_series_has_data(watch: Watch, rule: Rule) -> None:
    """What an alert compares is there while the gateway works, so that a silent alert means that all is well."""
    watch.data_of(f'{rule.name}{{job="{PUBLISHED}"}}', PUBLISHED)


def test_prometheus_evaluates_every_rule(watch: Watch) -> None:
    """Each rule is evaluated, none of them with an error."""

    def evaluated() -> bool:
        return all(rule["health"] == "ok" for rule in watch.prometheus.rules())

    eventually("every rule was evaluated", evaluated)
    assert sorted(rule["name"] for rule in watch.prometheus.rules()) == sorted(rule.name for rule in RULES)


def test_a_region_that_is_down_raises_its_alert(watch: Watch) -> None:
    """The region behind which nobody listens is pending at once, and the others are not."""

    def pending() -> set[str]:
        alerts = watch.prometheus.query(f'ALERTS{{alertname="VettedRegionNotHealthy", job="{PUBLISHED}"}}')
        return {sample.labels["vetted_region"] for sample in alerts}

    eventually("the alert is pending", lambda: pending() == {"ovh-rbx-1"})


TEXTS = {one.name: one.text for one in EXPRESSIONS} | {rule.name: rule.text for rule in RULES}
SELECTORS = list(dict.fromkeys(found for text in TEXTS.values() for found in selectors(text)))


@pytest.mark.parametrize("selector", SELECTORS, ids=str)
def test_every_part_of_an_expression_has_data(watch: Watch, selector: str) -> None:
    """Each selector by itself finds series, on the gateway whose names it asks for."""
    job = LATEST if selector.startswith("gen_ai_client_inference_") else PUBLISHED
    watch.data_of(on(job, selector), job)


BROKEN = {
    "a metric's name": ("Requests A", "vetted_requests_total", "vetted_request_total"),
    "a metric's unit": ("Emissions by region A", "vetted_emissions_grams_total", "vetted_emissions_g_total"),
    "a label's name": ("Share of requests by decision A", "vetted_routing_trace_decision_mode", "vetted_decision_mode"),
    "a label's value": ("Latency A", 'otel_scope_name="vetted_mw"', 'otel_scope_name="vetted-mw"'),
    "a job": ("In flight A", 'job=~"$job"', 'job=~"another"'),
}


@pytest.mark.parametrize("fault", BROKEN, ids=str)
def test_a_broken_expression_is_noticed(watch: Watch, fault: str) -> None:
    """Spelt wrong in one place, an expression that has data has none."""
    name, right, wrong = BROKEN[fault]
    (expression,) = [one for one in EXPRESSIONS if one.name == name]
    assert right in expression.text
    watch.data_of(on(PUBLISHED, expression.text), PUBLISHED)
    samples = watch.prometheus.query(on(PUBLISHED, expression.text.replace(right, wrong)))
    assert not has_data(samples)


def test_nothing_divided_by_nothing_is_no_data(watch: Watch) -> None:
    """A query that answers NaN shows nothing in Grafana, and counts as nothing here."""
    samples = watch.prometheus.query("vector(0) / vector(0)")
    assert len(samples) == 1
    assert not has_data(samples)


def test_every_outcome_there_is_was_seen(watch: Watch) -> None:
    """The load went through every way a request can end and every mode, so that no panel was checked on half of them."""
    seen = {
        label: {sample.labels[label] for sample in watch.data_of(f"group by ({label}) ({selector})", PUBLISHED)}
        for label, selector in {
            "vetted_outcome": f'vetted_requests_total{{job="{PUBLISHED}"}}',
            "vetted_routing_trace_decision_mode": (
                f'vetted_requests_total{{job="{PUBLISHED}", vetted_routing_trace_decision_mode!=""}}'
            ),
            "vetted_routing_trace_route_policy": (
                f'vetted_requests_total{{job="{PUBLISHED}", vetted_routing_trace_route_policy!=""}}'
            ),
        }.items()
    }
    assert seen == {
        "vetted_outcome": set(RequestOutcome),
        "vetted_routing_trace_decision_mode": set(DecisionMode),
        "vetted_routing_trace_route_policy": set(RoutePolicy),
    }
    receipts = watch.data_of(f'group by (vetted_outcome) (vetted_receipts_total{{job="{PUBLISHED}"}})', PUBLISHED)
    assert {sample.labels["vetted_outcome"] for sample in receipts} == set(ReceiptOutcome)


WORDS = {
    "vetted_outcome": {*RequestOutcome, *ReceiptOutcome, *AttemptOutcome},
    "vetted_routing_trace_decision_mode": set(DecisionMode),
    "vetted_routing_trace_route_policy": set(RoutePolicy),
    "gen_ai_token_type": {"input", "output"},
    "otel_scope_name": {"vetted_mw"},
}


@pytest.mark.parametrize("name", TEXTS, ids=str)
def test_labels_are_compared_with_words_that_exist(name: str) -> None:
    """A value that no release ever wrote would make a part of a panel, or of an alert, empty for ever."""
    for label, values in re.findall(r'(\w+)(?:=|!=|=~|!~)"([^"$]+)"', TEXTS[name]):
        assert set(values.split("|")) <= WORDS[label], label
