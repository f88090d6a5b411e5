"""The dashboard's document: what Grafana needs to import it, and what a reader needs to understand it."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest

from dashboards.boards import EXAMPLES, Expression, dashboard, expressions, filled, panels

BOARD = dashboard()
PANELS = list(panels(BOARD))
EXPRESSIONS = expressions(BOARD)
OWN_VARIABLES = {"__rate_interval": "1m"}
COLUMNS = 24


def title(panel: dict[str, Any]) -> str:
    """Name a panel in a test's id."""
    return str(panel["title"])


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    """Whether two rectangles share a cell."""
    return (
        one["x"] < other["x"] + other["w"]
        and other["x"] < one["x"] + one["w"]
        and one["y"] < other["y"] + other["h"]
        and other["y"] < one["y"] + one["h"]
    )


def test_no_two_panels_overlap_and_none_leaves_the_grid() -> None:
    """Every panel, rows included, has a rectangle of its own within Grafana's 24 columns."""
    places = {panel["title"]: panel["gridPos"] for panel in BOARD["panels"]}
    assert len(places) == len(BOARD["panels"])
    assert [name for name, at in places.items() if at["x"] < 0 or at["w"] < 1 or at["x"] + at["w"] > COLUMNS] == []
    pairs = itertools.combinations(places.items(), 2)
    assert [(one, other) for (one, at), (other, there) in pairs if overlap(at, there)] == []


def test_rows_leave_no_holes() -> None:
    """Below each row of panels the next begins at once: the highest bottom so far is where the next top is."""
    bottom = 0
    for top, row in itertools.groupby(BOARD["panels"], key=lambda panel: panel["gridPos"]["y"]):
        assert top == bottom
        bottom = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in row)


def test_ids_are_unique() -> None:
    """Grafana addresses panels by id."""
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(set(ids)) == len(ids)


def test_no_data_source_is_named() -> None:
    """Whoever imports it chooses their own Prometheus: every panel, query and variable follows the one variable."""
    named = re.findall(r'"uid": "([^"]*)"', (EXAMPLES / "grafana" / "vetted-mw.json").read_text(encoding="utf-8"))
    assert set(named) == {"${datasource}", BOARD["uid"]}
    assert named.count(BOARD["uid"]) == 1
    kinds = {variable["name"]: variable["type"] for variable in BOARD["templating"]["list"]}
    assert kinds == {"datasource": "datasource", "job": "query", "vetted_region": "query"}
    assert BOARD["id"] is None


@pytest.mark.parametrize("panel", PANELS, ids=title)
def test_each_panel_says_what_it_shows(panel: dict[str, Any]) -> None:
    """A description of a sentence, and a unit on every axis that has one."""
    assert panel["description"].endswith(".")
    assert panel["datasource"]["uid"] == "${datasource}"
    assert panel["fieldConfig"]["defaults"].get("unit") or panel["type"] == "state-timeline"


@pytest.mark.parametrize("expression", EXPRESSIONS, ids=lambda one: one.name)
def test_expressions_use_the_dashboards_own_variables(expression: Expression) -> None:
    """Each follows the chosen job, and nothing in it is a variable that the dashboard does not define."""
    variables = {variable["name"]: "x" for variable in BOARD["templating"]["list"]} | OWN_VARIABLES
    assert 'job=~"x"' in filled(expression.text, variables)
    assert expression.legend


@pytest.mark.parametrize("expression", EXPRESSIONS, ids=lambda one: one.name)
def test_tokens_of_other_instrumentations_are_not_counted_in(expression: Expression) -> None:
    """A GenAI name is shared with every OpenAI instrumentation: each selector of one asks for our scope."""
    selectors = re.findall(r"(gen_ai_\w+)(\{[^}]*\})?", re.sub(r"gen_ai_\w+=", "", expression.text))
    assert [name for name, labels in selectors if 'otel_scope_name="vetted_mw"' not in labels] == []


@pytest.mark.parametrize("expression", EXPRESSIONS, ids=lambda one: one.name)
def test_both_names_of_the_genai_metrics_are_asked_for(expression: Expression) -> None:
    """Whichever semantic conventions the gateway was told to follow, the panel has its data."""
    assert ("gen_ai_client_inference_" in expression.text) == ("gen_ai_client_" in expression.text)


def test_every_panel_the_operator_needs_is_there() -> None:
    """Requests, latency, overhead, regions, decisions, climate figures, signals, health and load each have one."""
    text = "\n".join(expression.text for expression in EXPRESSIONS)
    wanted = [
        "vetted_requests_total",
        "vetted_attempts_total",
        "vetted_failovers_total",
        "vetted_energy_joules_total",
        "vetted_emissions_grams_total",
        "vetted_water_mL_total",
        "vetted_receipts_total",
        "vetted_overhead_duration_seconds_bucket",
        "vetted_grid_carbon_intensity_grams_per_kWh",
        "vetted_grid_age_seconds",
        "vetted_regions_healthy",
        "vetted_inflight",
        "gen_ai_client_operation_duration_seconds_bucket",
        "gen_ai_client_operation_time_to_first_chunk_seconds_bucket",
        "gen_ai_client_token_usage_sum",
    ]
    assert [name for name in wanted if name not in text] == []
