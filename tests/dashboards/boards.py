"""The dashboard and the rules as tests read them: every expression, with Grafana's variables filled in as Grafana would."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "ALERTS",
    "DASHBOARD",
    "EXAMPLES",
    "Expression",
    "Rule",
    "dashboard",
    "expressions",
    "filled",
    "panels",
    "rate_interval",
    "rules",
    "selectors",
    "yaml_of",
]

EXAMPLES = Path(__file__).parents[2] / "examples"
DASHBOARD = EXAMPLES / "grafana" / "vetted-mw.json"
ALERTS = EXAMPLES / "grafana" / "alerts.yml"

_LEGEND = re.compile(r"\{\{\s*(\w+)\s*\}\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """One query of a panel.

    Attributes:
        panel: the panel's title.
        reference: the query's letter in it.
        text: PromQL with Grafana's variables.
        legend: its series' name, with labels in double braces.
    """

    panel: str
    reference: str
    text: str
    legend: str

    @property
    def name(self) -> str:
        """What a test calls it."""
        return f"{self.panel} {self.reference}"

    @property
    def legend_labels(self) -> tuple[str, ...]:
        """The labels its legend shows."""
        return tuple(_LEGEND.findall(self.legend))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule of the rules file.

    Attributes:
        name: of the alert or of the recorded series.
        is_alert: which of the two it is.
        text: its expression.
        table: the rule as it stands in the file.
    """

    name: str
    is_alert: bool
    text: str
    table: Mapping[str, Any]


def dashboard() -> dict[str, Any]:
    """Return the dashboard's document."""
    board: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return board


def panels(board: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every panel that shows data, those inside collapsed rows too."""
    for panel in board["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels", ())
        else:
            yield panel


def expressions(board: Mapping[str, Any]) -> list[Expression]:
    """Return every query of the dashboard in its order."""
    return [
        Expression(panel=panel["title"], reference=target["refId"], text=target["expr"], legend=target["legendFormat"])
        for panel in panels(board)
        for target in panel["targets"]
    ]


def rate_interval(*, scrape_seconds: float, step_seconds: float) -> str:
    """Return `$__rate_interval` as Grafana works it out: four scrapes at least, and a step and a scrape at least."""
    return f"{max(step_seconds + scrape_seconds, 4 * scrape_seconds):g}s"


def filled(text: str, variables: Mapping[str, str]) -> str:
    """Put values in the place of Grafana's variables, `$name` and `${name}`.

    Raises:
        KeyError: a variable that nobody defines.
    """
    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda found: variables[found.group(1) or found.group(2)], text)


def selectors(text: str) -> list[str]:
    """Return each `name{labels}` of an expression: alternatives joined by `or` hide one another's mistakes."""
    return re.findall(r"\b\w+\{[^}]*\}", text)


def rules() -> list[Rule]:
    """Return every rule of the rules file in its order."""
    return [
        Rule(name=table.get("alert") or table["record"], is_alert="alert" in table, text=table["expr"], table=table)
        for group in yaml_of(ALERTS)["groups"]
        for table in group["rules"]
    ]


def yaml_of(path: Path) -> Any:
    """Return what a YAML file holds."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))
