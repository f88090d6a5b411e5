"""What `serve` makes of the `OTEL_*` variables and the installed extras, before anything is set up."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from cli.commands import run
from vetted_mw.cli.telemetry import METRICS_PATH, TelemetryPlan, planned

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
COLLECTOR = "http://collector.example:4318"
HTTP = ("otlp_proto_http",)
SECRET = "planted-secret"


def told(environ: Mapping[str, str], *, workers: int = 1, page: bool = False) -> list[str]:
    """Return the lines of the start, without the page unless asked for."""
    return list(planned(environ, workers=workers).told(is_page_served=page))


def exporters(environ: Mapping[str, str], *, workers: int = 1) -> dict[str, tuple[str, ...]]:
    return {signal: names for signal, names in planned(environ, workers=workers).exporters.items() if names}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, {}),
        ({ENDPOINT: COLLECTOR}, {"traces": HTTP, "metrics": HTTP}),
        ({ENDPOINT: "  "}, {}),
        ({ENDPOINT: COLLECTOR, "OTEL_METRICS_EXPORTER": "none"}, {"traces": HTTP}),
        ({ENDPOINT: COLLECTOR, "OTEL_TRACES_EXPORTER": ""}, {"traces": HTTP, "metrics": HTTP}),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{COLLECTOR}/v1/traces"}, {"traces": HTTP}),
        ({"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": f"{COLLECTOR}/v1/logs"}, {"logs": HTTP}),
        ({"OTEL_TRACES_EXPORTER": "console"}, {"traces": ("console",)}),
        ({"OTEL_TRACES_EXPORTER": "console, otlp"}, {"traces": ("console", *HTTP)}),
        ({"OTEL_LOGS_EXPORTER": "otlp"}, {"logs": HTTP}),
        ({"OTEL_TRACES_EXPORTER": "None", "OTEL_EXPORTER_OTLP_HEADERS": "a=b", "OTEL_SERVICE_NAME": "x"}, {}),
        ({ENDPOINT: COLLECTOR, "OTEL_SDK_DISABLED": "True"}, {}),
    ],
    ids=[
        "nothing",
        "endpoint",
        "blank endpoint",
        "metrics none",
        "empty exporter is unset",
        "endpoint of traces",
        "endpoint of logs",
        "console",
        "two of them",
        "logs",
        "nowhere to send to",
        "disabled",
    ],
)
def test_nothing_is_exported_unless_a_variable_says_where_to(
    environ: dict[str, str], expected: dict[str, tuple[str, ...]]
) -> None:
    """An endpoint or an exporter turns a signal on, and `none` or OTEL_SDK_DISABLED off; logs only by themselves."""
    assert exporters(environ) == expected
    assert planned(environ, workers=1).is_exporting == bool(expected)


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        ({}, "off (OTEL_EXPORTER_OTLP_ENDPOINT turns it on)"),
        ({"OTEL_SDK_DISABLED": "true", ENDPOINT: COLLECTOR}, "off (OTEL_SDK_DISABLED)"),
        ({ENDPOINT: COLLECTOR}, f"traces and metrics by OTLP to {COLLECTOR}"),
        ({ENDPOINT: COLLECTOR, "OTEL_LOGS_EXPORTER": "otlp"}, f"traces, metrics and logs by OTLP to {COLLECTOR}"),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "traces by OTLP to http://localhost:4318"),
        ({ENDPOINT: "https://[2001:db8::1]/x"}, "traces and metrics by OTLP to https://[2001:db8::1]"),
        (
            {ENDPOINT: COLLECTOR, "OTEL_METRICS_EXPORTER": "console"},
            f"traces by OTLP to {COLLECTOR}, metrics by console",
        ),
        (
            {ENDPOINT: COLLECTOR, "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://other:9/v1/metrics"},
            f"traces by OTLP to {COLLECTOR}, metrics by OTLP to http://other:9",
        ),
    ],
    ids=["off", "disabled", "endpoint", "with logs", "default endpoint", "address", "two ways", "two endpoints"],
)
def test_one_line_tells_what_is_on(environ: dict[str, str], line: str) -> None:
    """Signals, how and where to; the page after them."""
    assert told(environ) == [f"telemetry: {line}"]
    if "SDK_DISABLED" not in line:
        parts = [] if line.startswith("off") else [line]
        assert told(environ, page=True) == [f"telemetry: {', '.join([*parts, f'GET {METRICS_PATH}'])}"]


def test_no_secret_is_told() -> None:
    """Headers, user, password, path and query of an endpoint stay where they are."""
    environ = {
        ENDPOINT: f"https://{SECRET}:{SECRET}@collector.example:4318/{SECRET}?key={SECRET}",
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization={SECRET}",
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"{SECRET}://x",
        "OTEL_LOGS_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": f"http://[{SECRET}",
    }
    lines = told(environ)
    assert lines[0] == "telemetry: traces by OTLP to https://collector.example:4318"
    assert SECRET not in " ".join(lines)


@pytest.mark.parametrize(
    ("environ", "workers", "fault"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkn"}, 1, "OTEL_TRACES_EXPORTER names zipkn, for which no exporter is installed"),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
            1,
            "OTEL_EXPORTER_OTLP_PROTOCOL is neither http/protobuf nor grpc",
        ),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "tcp"},
            1,
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL is neither",
        ),
        (
            {"OTEL_TRACES_EXPORTER": "otlp_proto_grpc"},
            1,
            "OTLP by grpc needs opentelemetry-exporter-otlp-proto-grpc",
        ),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", ENDPOINT: "collector:4318", "OTEL_METRICS_EXPORTER": "none"},
            1,
            f"{ENDPOINT} is no http(s) URL: traces are not exported",
        ),
        ({"OTEL_METRICS_EXPORTER": "prometheus"}, 2, "opens the same port in each worker, use GET /metrics"),
    ],
    ids=["unknown exporter", "protocol", "protocol of traces", "grpc", "no URL", "a port for each worker"],
)
def test_what_cannot_be_had_is_told_by_variable_and_left_out(environ: dict[str, str], workers: int, fault: str) -> None:
    """A slip in a variable costs its signal a line at the start, and nothing else."""
    first, second = told(environ, workers=workers)
    assert first == "telemetry: off (OTEL_EXPORTER_OTLP_ENDPOINT turns it on)"
    assert fault in second
    assert exporters(environ, workers=workers) == {}


def test_a_slip_in_one_signal_leaves_the_others() -> None:
    """Traces are exported whatever is wrong with metrics."""
    environ = {ENDPOINT: COLLECTOR, "OTEL_METRICS_EXPORTER": "otpl,console"}
    assert exporters(environ) == {"traces": HTTP, "metrics": ("console",)}


def test_what_is_wrong_with_several_signals_is_one_line() -> None:
    """One slip is told once, with every signal that it costs."""
    grpc = {ENDPOINT: COLLECTOR, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    fault = "OTLP by grpc needs opentelemetry-exporter-otlp-proto-grpc"
    assert told(grpc)[1:] == [f"telemetry: {fault}: traces and metrics are not exported"]
    with_logs = grpc | {"OTEL_LOGS_EXPORTER": "otlp,otlp"}
    assert told(with_logs)[1:] == [f"telemetry: {fault}: traces, metrics and logs are not exported"]


def test_grpc_is_told_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator's own exporter counts: its endpoint needs no scheme, and has another default."""
    monkeypatch.setattr("vetted_mw.cli.telemetry.asked.entry_points", lambda **_: ["found"])
    grpc = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    assert exporters(grpc) == {"traces": ("otlp_proto_grpc",)}
    assert told(grpc) == ["telemetry: traces by OTLP to http://localhost:4317"]
    assert told(grpc | {ENDPOINT: "collector:4317", "OTEL_METRICS_EXPORTER": "none"}) == [
        f"telemetry: traces by OTLP to {ENDPOINT}"
    ]


def test_one_identity_for_all_workers_is_told() -> None:
    """A service.instance.id for several workers makes one series of theirs: said, as it cannot be mended here."""
    environ = {ENDPOINT: COLLECTOR, "OTEL_RESOURCE_ATTRIBUTES": "a=b, service.instance.id = one"}
    assert len(told(environ)) == 1
    assert "service.instance.id" in told(environ, workers=2)[1]


# ---- extras


@pytest.fixture
def without_otel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.distro", None)


@pytest.mark.usefixtures("without_otel")
@pytest.mark.parametrize(
    "variable",
    [ENDPOINT, "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_TRACES_EXPORTER", "OTEL_CONFIG_FILE"],
)
def test_what_is_asked_for_without_the_extra_is_told_with_the_remedy(variable: str) -> None:
    """The line names the variable that asks and the extra that is missing."""
    off, fault = told({variable: COLLECTOR})
    assert off == f"telemetry: off (the extra otel and {ENDPOINT} turn it on)"
    assert variable in fault
    assert ".[otel]" in fault


@pytest.mark.usefixtures("without_otel")
def test_without_the_extra_and_unasked_one_line_is_enough() -> None:
    """Nothing is missing that anybody wanted; `none` wants nothing."""
    assert len(told({})) == 1
    assert len(told({"OTEL_TRACES_EXPORTER": "none"})) == 1


@pytest.mark.parametrize("hidden", ["opentelemetry.exporter.prometheus", "opentelemetry.exporter"])
def test_without_the_extra_there_is_no_page(hidden: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page is there with the extra `prometheus`, and only then."""
    assert planned({}, workers=2).has_page
    monkeypatch.delitem(sys.modules, "opentelemetry.exporter.prometheus", raising=False)  # another test's, perhaps
    monkeypatch.setitem(sys.modules, hidden, None)
    assert not planned({}, workers=2).has_page


def test_several_workers_have_no_page_where_there_are_no_unix_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """One worker's numbers would pass for all: better no page."""
    monkeypatch.setattr(sys, "platform", "win32")
    assert planned({}, workers=1).has_page
    assert not planned({}, workers=2).has_page


def test_a_configuration_file_says_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_CONFIG_FILE wins over the other variables, where the package that reads it is installed."""
    environ = {"OTEL_CONFIG_FILE": "otel.yaml", ENDPOINT: COLLECTOR}
    assert "OTEL_CONFIG_FILE is set, and nothing is exported" in told(environ)[1]
    monkeypatch.setattr("vetted_mw.cli.telemetry.plan._is_installed", lambda _: True)
    plan = planned(environ, workers=1)
    assert plan == TelemetryPlan(is_by_file=True, has_page=True)
    assert plan.is_exporting
    assert list(plan.told()) == ["telemetry: as OTEL_CONFIG_FILE says, GET /metrics"]


# ---- the path


@pytest.mark.parametrize(("path", "warns"), [("/metrics", True), ("/metrics/", True), ("/v1/chat/completions", False)])
def test_check_warns_where_the_settings_take_the_path(
    path: str, warns: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Completions at /metrics leave scrapers nothing to scrape, and `check` says so."""
    settings = tmp_path / "vetted.toml"
    settings.write_text(f'paths = ["{path}"]\n[regions.scaleway-par-1]\nbase_url = "https://paris.example/v1"\n')
    ran = run(capsys, "check", settings)
    assert ran.code == 0
    assert ("paths has /metrics" in ran.out) == warns


# ---- told by other commands


def test_check_tells_what_serve_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is on is a line of `check`, each fault a warning, and neither makes settings unusable."""
    settings = tmp_path / "vetted.toml"
    settings.write_text('[regions.scaleway-par-1]\nbase_url = "https://paris.example/v1"\n')
    monkeypatch.setenv(ENDPOINT, COLLECTOR)
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "otpl")
    fault = "OTEL_METRICS_EXPORTER names otpl, for which no exporter is installed: metrics are not exported"
    ran = run(capsys, "check", settings)
    assert ran.code == 0
    assert f"telemetry      traces by OTLP to {COLLECTOR}, GET {METRICS_PATH}\n" in ran.out
    assert f"warning        {fault}\n" in ran.out
    ran = run(capsys, "check", settings, "--json")
    assert ran.code == 0
    assert ran.json()["telemetry"] == f"traces by OTLP to {COLLECTOR}, GET {METRICS_PATH}"
    assert fault in ran.json()["warnings"]


def test_the_help_of_serve_names_both_ways_out(capsys: pytest.CaptureFixture[str]) -> None:
    """Who looks for tracing in the options finds where it is asked for instead."""
    ran = run(capsys, "serve", "--help")
    assert "OTEL_*" in ran.out
    assert f"GET {METRICS_PATH}" in ran.out
