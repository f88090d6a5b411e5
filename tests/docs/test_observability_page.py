"""docs/observability.md names every span, event, attribute, metric and log field there is, and none that there is not."""

from __future__ import annotations

import logging
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import MeterProvider, NoOpMeter
from prometheus_client import CollectorRegistry

from support import configured
from telemetry.recorded import Recorded
from telemetry.spans import GRAVELINES, KNOWN, PARIS, asked, upstream
from vetted_mw import Gateway, VettedProxy, load_configuration
from vetted_mw.telemetry import names
from vetted_mw.telemetry.ended import ReceiptOutcome, RequestOutcome
from vetted_mw.telemetry.instruments import instruments_for
from vetted_mw.testing import FakeAnswer, FakeUpstream, StaticSignals, asgi_exchange, chat_completion, chat_frames

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PAGE = (Path(__file__).parents[2] / "docs" / "observability.md").read_text(encoding="utf-8")
NAME = re.compile(r"`((?:vetted|gen_ai|http|server|url|error|cloud)\.[a-z0-9_.{},]+)`")
SPANS = {"POST {path}": "POST /v1/chat/completions", "chat {model}": f"chat {KNOWN}"}
"""Headings of spans whose name varies -> the name they have here."""
MESSAGE = "a chat completion ended"
SIGNALS = ("operational_signal", "receipt_signal")


def expanded(name: str) -> list[str]:
    """Return what a name with `{a,b}` in it stands for."""
    found = re.fullmatch(r"(.*)\{([^{}]*)\}(.*)", name)
    if found is None:
        return [name]
    return [one for word in found[2].split(",") for one in expanded(found[1] + word + found[3])]


def named(text: str) -> set[str]:
    """Return every attribute, event and metric that a piece of the page names."""
    return {one for name in NAME.findall(text) for one in expanded(name)}


def section(heading: str) -> str:
    """Return what stands under a heading, up to the next of its level or above."""
    level = len(heading.partition(" ")[0])
    found = re.search(rf"^{re.escape(heading)}\n(.*?)(?=^#{{1,{level}}} |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, heading
    return found[1]


def rows(text: str) -> list[list[str]]:
    """Return the cells of a text's tables, heads and rules left out."""
    lines = [line for line in text.splitlines() if line.startswith(("| ", "|---"))]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    heads = {number - 1 for number, row in enumerate(cells) if row[0].startswith("---")}
    return [row for number, row in enumerate(cells) if number not in heads and not row[0].startswith("---")]


def code_names() -> set[str]:
    """Return every name of the names module, the families of receipt and trace spelt out."""
    constants = {
        value for name, value in vars(names).items() if name.isupper() and isinstance(value, str) and "." in value
    }
    prefixes = {names.TRACE_PREFIX, names.RECEIPT_PREFIX}
    signals = {f"{names.TRACE_PREFIX}{signal}.{field}" for signal in SIGNALS for field in names.SIGNAL_FIELDS}
    receipt = {names.RECEIPT_PREFIX + field for field in names.RECEIPT_FIELDS}
    return (constants - prefixes - {names.SCHEMA_URL}) | signals | receipt


def test_the_page_and_the_code_know_the_same_names() -> None:
    """Whatever can be told is on the page, and what is on the page can be told."""
    assert sorted(code_names() - named(PAGE)) == []
    assert sorted(named(PAGE) - code_names() - {"vetted.toml"}) == []


# ---- what is really emitted


class Told:
    """What many kinds of requests told, seen from outside.

    Attributes:
        spans: span name -> the attributes it had.
        events: span name -> the events it had.
        metrics: metric -> the attributes of its points.
        families: of the Prometheus page.
        logged: the fields of the lines, those that every record has left out.
    """

    def __init__(self, recorded: Recorded, registry: CollectorRegistry, lines: Iterable[logging.LogRecord]) -> None:
        self.spans: dict[str, set[str]] = {}
        self.events: dict[str, set[str]] = {}
        for span in recorded.spans.all:
            self.spans.setdefault(span.name, set()).update(span.attributes or {})
            self.events.setdefault(span.name, set()).update(event.name for event in span.events)
        self.metrics = {
            name: {key for point in metric.data.data_points for key in point.attributes or {}}
            for name, metric in recorded.metrics.items()
        }
        self.families = {family.name: family.type for family in registry.collect()}
        plain = vars(logging.makeLogRecord({})).keys() | {"asctime", "message", "taskName"}
        self.logged = {field for line in lines if line.msg == MESSAGE for field in vars(line)} - plain


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def told(anyio_backend: str) -> Told:
    """Return what requests of every kind told."""
    registry, lines = CollectorRegistry(), _Lines()
    recorded = Recorded(PrometheusMetricReader(registry=registry))
    async with FakeUpstream(model=KNOWN) as paris, FakeUpstream(model=KNOWN) as gravelines:
        regions = {PARIS: upstream(paris.base_url), GRAVELINES: upstream(gravelines.base_url)}
        signals = [StaticSignals({"FR": 21.0})]
        configuration = configured(regions, receipts={"missing_usage": "null"})
        async with Gateway(configuration, signals=signals, **recorded.providers) as gateway:
            with lines:
                await _asked_for_everything(VettedProxy(gateway), paris)
            found = Told(recorded, registry, lines.records)
    recorded.shutdown()
    return found


class _Lines(logging.Handler):
    """Keeps what our logger says within its block, from INFO on."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self._logger = logging.getLogger("vetted_mw")
        self._level = self._logger.level

    def __enter__(self) -> None:
        self._logger.addHandler(self)
        self._logger.setLevel(logging.INFO)

    def __exit__(self, *_: object) -> None:
        self._logger.setLevel(self._level)
        self._logger.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


async def _asked_for_everything(app: VettedProxy, paris: FakeUpstream) -> None:
    carbon_aware = {"routing": "carbon_aware"}
    broken = FakeAnswer.json({"error": {"message": "broken"}}, status=500)
    uncounted = FakeAnswer.json(chat_completion(model=KNOWN, usage=None))
    for answers, body in [
        ([], asked(max_tokens=3, temperature=0.5, top_p=0.9, vetted=carbon_aware)),
        ([broken], asked(stream=True)),
        ([uncounted], asked()),
        ([FakeAnswer.stream(chat_frames(model=KNOWN)[:2], ending="cut")], asked(stream=True)),
        ([FakeAnswer.json({"error": {"message": "too long"}}, status=422)], asked()),
        ([broken], asked(vetted={"region": PARIS})),
        ([], asked(vetted={"region": "atnorth-sto-1"})),
        ([], {"model": 1}),
    ]:
        paris.then(*answers)
        await asgi_exchange(app, json=body)


SPAN_HEADINGS = re.findall(r"^### `(.+)`$", section("## Spans"), re.MULTILINE)


def test_every_span_has_a_section_and_every_section_a_span(told: Told) -> None:
    """A reader who meets a span finds what it means."""
    assert {SPANS.get(heading, heading) for heading in SPAN_HEADINGS} == set(told.spans)


@pytest.mark.parametrize("heading", SPAN_HEADINGS)
def test_a_spans_table_is_what_the_span_says(told: Told, heading: str) -> None:
    """The attributes and events of a span are those of its tables: not one more, not one fewer."""
    span = SPANS.get(heading, heading)
    table = rows(section(f"### `{heading}`"))
    listed = {name for row in table for name in named(row[0])}
    assert sorted(told.spans[span] - listed) == []
    assert sorted(listed - told.spans[span] - told.events[span]) == []
    assert sorted(told.events[span] - listed) == []


METRIC_ROWS = [row for row in rows(section("## Metrics")) if len(row) == 4]


def test_a_metrics_attributes_are_those_of_its_row(told: Told) -> None:
    """The attributes of each metric are those of its row: not one more, not one fewer."""
    listed: dict[str, set[str]] = {}
    for row in METRIC_ROWS:
        (metric,) = named(row[0])
        listed[metric] = named(row[3]) | (listed["vetted.energy"] if row[3].startswith("as energy") else set())
    assert {metric: sorted(keys) for metric, keys in told.metrics.items()} == {
        metric: sorted(keys) for metric, keys in listed.items()
    }


def test_a_metrics_prometheus_name_is_that_of_its_row(told: Told) -> None:
    """Whoever scrapes finds the names of the table, and no others of ours."""
    listed = {row[2].strip("`").removesuffix("_total") for row in METRIC_ROWS}
    assert {name for name in told.families if name != "target"} == listed


# ---- the rest of the tables


class _Created(NoOpMeter):
    """Writes down what is created: kind, name, unit."""

    def __init__(self) -> None:
        super().__init__("vetted_mw")
        self.made: list[tuple[str, str, str]] = []

    def __getattribute__(self, attribute: str) -> Any:
        found = super().__getattribute__(attribute)
        if not attribute.startswith("create_"):
            return found

        def noted(name: str, *arguments: Any, **named_arguments: Any) -> Any:
            made = found(name, *arguments, **named_arguments)
            unit = next(one for one in arguments if isinstance(one, str))
            self.made.append((attribute.removeprefix("create_").removeprefix("observable_"), name, unit))
            return made

        return noted


class _Provider(MeterProvider):
    def __init__(self) -> None:
        self.meter = _Created()

    def get_meter(self, name: str, *_: Any, **__: Any) -> Any:
        return self.meter


def _created(*, latest_genai: bool) -> list[tuple[str, str, str]]:
    provider = _Provider()
    instruments_for(provider, latest_genai=latest_genai)
    return sorted(provider.meter.made)


def test_instrument_and_unit_are_those_of_the_row() -> None:
    """Kind and unit of each metric are as the table says."""
    kinds = {"up-down counter": "up_down_counter"}
    listed = []
    for row in METRIC_ROWS:
        kind, _, unit = row[1].rpartition(", ")
        listed.append((kinds.get(kind, kind), row[0].strip("`"), unit.strip("`")))
    assert sorted(listed) == _created(latest_genai=False)


def test_the_latest_names_are_those_of_the_page() -> None:
    """The table of unreleased names has each of them, beside the name it stands for."""
    both = [named(" ".join(row)) for row in rows(section("## Names of the GenAI conventions"))]
    latest = {name for name in set().union(*both) if ".inference." in name}
    published = {name for _, name, _ in _created(latest_genai=False) if name.startswith("gen_ai.")}
    assert latest == {name for _, name, _ in _created(latest_genai=True) if name.startswith("gen_ai.")}
    assert set().union(*both) - latest - {"gen_ai.token.modality"} == published


def test_the_log_lines_fields_are_those_of_the_page(told: Told) -> None:
    """The page lists the fields of the one line per request: not one more, not one fewer."""
    listed = re.search(r"known: (.*?)\.\n", section("## The log line"), re.DOTALL)
    assert listed is not None
    assert sorted(told.logged) == sorted(re.findall(r"`(\w+)`", listed[1]))
    assert f"message `{MESSAGE}`" in section("## The log line")


def test_every_outcome_is_explained() -> None:
    """A reader can look up how a request or a receipt ended."""
    explained = [row[0].strip("`") for row in rows(section("### How a request ended"))]
    assert set(explained) == {outcome.value for outcome in RequestOutcome}
    (receipts,) = [row[3] for row in METRIC_ROWS if row[0] == "`vetted.receipts`"]
    assert {outcome.value for outcome in ReceiptOutcome} == set(re.findall(r"`(\w+)`", receipts))


def test_the_settings_are_those_there_are() -> None:
    """Each setting of `[telemetry]` is on the page with its default, and the page's own block is one that is taken."""
    table: Mapping[str, str] = {row[0].strip("`"): row[1].strip("`") for row in rows(section("## Turn it on"))}
    telemetry = load_configuration(environ={}, overrides={"telemetry": table}).telemetry
    assert telemetry == load_configuration(environ={}).telemetry
    assert set(table) == {"propagate", "metrics"}
    (block,) = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert not load_configuration(environ={}, overrides=tomllib.loads(block)).telemetry.genai_metrics
