"""`vetted-mw serve` with the SDK set up from `OTEL_*`: what arrives at a collector, and what a broken one cannot do."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio
import pytest

from cli.commands import LIMIT_SECONDS
from cli.serving import asked, completed, hidden, serving, write_settings
from streams.wall import until
from support import unused_port
from telemetry.otlp import OtlpReceiver
from vetted_mw.testing import FakeUpstream

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

pytestmark = pytest.mark.anyio

LATE = {"OTEL_BSP_SCHEDULE_DELAY": "600000", "OTEL_BLRP_SCHEDULE_DELAY": "600000", "OTEL_METRIC_EXPORT_INTERVAL": "6e5"}
SECRET = "planted-secret"
ENDED = "a chat completion ended"


async def counting(url: str) -> None:
    """Scrape until requests are counted: that comes when an answer has gone out."""
    give_up = time.monotonic() + LIMIT_SECONDS
    while "vetted_requests_total" not in (await asked(f"{url}/metrics")).text:
        assert time.monotonic() < give_up
        await anyio.sleep(0.05)


@pytest.mark.parametrize("workers", [1, 2])
async def test_what_is_left_is_sent_at_the_end(workers: int, tmp_path: Path) -> None:
    """Every worker sends its spans, metrics and log records when it is told to stop, however late they were due."""
    with OtlpReceiver() as receiver:
        async with FakeUpstream() as paris:
            write_settings(tmp_path, paris.base_url)
            environ = receiver.environment | LATE
            async with serving(tmp_path, workers=workers, environ=environ) as (process, url):
                await until(lambda: sum("the gateway is open" in line for line in process.lines) == workers)
                for _ in range(4):
                    await completed(url)
                assert receiver.exports == ()
        receiver.wait_for(lambda: len([span for span in receiver.spans if span.name == "chat _OTHER"]) == 4)
        requests = [point for point in receiver.latest_points if point.metric == "vetted.requests"]
        assert sum(point.value for point in requests) == 4
        chats = {(span.trace_id, span.span_id) for span in receiver.spans if span.name == "chat _OTHER"}
        ended = [line for line in receiver.log_lines if line.body == ENDED]
        resources = {tuple(sorted(line.resource.items())) for line in receiver.log_lines}  # the idle one's as well
    assert process.line_with(f"telemetry: traces, metrics and logs by OTLP to {receiver.endpoint}")
    assert {line.trace_id for line in ended} == {trace for trace, _ in chats}
    assert {(line.severity, line.scope) for line in ended} == {("INFO", "vetted_mw")}
    assert [line for line in ended if "trace_id" in line.attributes] == []
    assert {line.attributes["outcome"] for line in ended} == {"served"}
    assert len(resources) == workers
    assert {dict(one)["service.name"] for one in resources} == {"vetted-mw"}
    assert len({dict(one)["service.instance.id"] for one in resources}) == workers


async def test_the_operators_own_identity_wins(tmp_path: Path) -> None:
    """OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say who it is; what they leave out is ours."""
    with OtlpReceiver() as receiver:
        async with FakeUpstream() as paris:
            write_settings(tmp_path, paris.base_url)
            own = {
                "OTEL_SERVICE_NAME": "chat-gateway",
                "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test,service.instance.id=one",
            }
            async with serving(tmp_path, environ=receiver.environment | own) as (_, url):
                await completed(url)
                receiver.wait_for(lambda: receiver.spans and receiver.points and receiver.log_lines)
    expected = {
        "service.name": "chat-gateway",
        "service.instance.id": "one",
        "service.version": receiver.spans[0].resource["service.version"],
        "deployment.environment.name": "test",
    }
    for resource in (receiver.spans[0].resource, receiver.points[0].resource, receiver.log_lines[0].resource):
        assert {name: value for name, value in resource.items() if not name.startswith("telemetry.sdk.")} == expected


async def test_samplers_are_the_sdks(tmp_path: Path) -> None:
    """OTEL_TRACES_SAMPLER=always_off: no span leaves, every metric does."""
    with OtlpReceiver() as receiver:
        async with FakeUpstream() as paris:
            write_settings(tmp_path, paris.base_url)
            environ = receiver.environment | {"OTEL_TRACES_SAMPLER": "always_off"}
            async with serving(tmp_path, environ=environ) as (_, url):
                await completed(url)
        assert receiver.spans == []
        assert "vetted.requests" in {point.metric for point in receiver.points}


async def test_an_sdk_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    """Under `opentelemetry-instrument` and its like the SDK is set up already: nothing is exported twice."""
    with OtlpReceiver() as receiver:
        async with FakeUpstream() as paris:
            write_settings(tmp_path, paris.base_url)
            (tmp_path / "sitecustomize.py").write_text(
                "from opentelemetry import trace\n"
                "from opentelemetry.sdk.trace import TracerProvider\n"
                "trace.set_tracer_provider(TracerProvider())\n"
            )
            environ = receiver.environment | {"PYTHONPATH": str(tmp_path)}
            async with serving(tmp_path, environ=environ) as (process, url):
                await completed(url)
                await counting(url)
    assert process.line_with("the SDK was set up before serve could")
    assert receiver.exports == ()


async def test_a_configuration_file_is_handed_to_its_package(tmp_path: Path) -> None:
    """OTEL_CONFIG_FILE says everything: the package that reads such files does the set-up, and the page is there too."""
    package = tmp_path / "opentelemetry" / "configuration"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "def load_config_file(path): return path\ndef configure_sdk(read): print('configured by', read, flush=True)\n"
    )
    write_settings(tmp_path, "http://127.0.0.1:9/v1")
    environ = {"OTEL_CONFIG_FILE": "otel.yaml", "PYTHONPATH": str(tmp_path)}
    async with serving(tmp_path, environ=environ) as (process, url):
        page = await asked(f"{url}/metrics")
    assert process.line_with("telemetry: as OTEL_CONFIG_FILE says, GET /metrics")
    assert process.line_with("configured by otel.yaml")
    assert page.status_code == 200


# ---- what goes wrong


async def outlived(folder: Path, environ: Mapping[str, str]) -> list[str]:
    """Serve five completions with a collector that takes nothing, stop, and return what was said."""
    folder.mkdir()
    async with FakeUpstream() as paris:
        write_settings(folder, paris.base_url)
        async with serving(folder, environ=environ) as (process, url):
            for _ in range(5):
                await completed(url)
    return process.lines


async def test_a_collector_that_is_down_costs_no_answer_and_no_end(tmp_path: Path) -> None:
    """Whether none listens, or it refuses or hangs: answers come as ever; told to stop, it gives up, says so, and ends.

    The three are run beside each other, since each gives up in its own time. The SDK is ended once.
    """
    said: dict[str, list[str]] = {}
    with OtlpReceiver() as refusing, OtlpReceiver() as hanging:
        refusing.refuse()
        hanging.hang()
        nobody = refusing.environment | {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{unused_port()}"}
        collectors = {"nobody": nobody, "refusing": refusing.environment, "hanging": hanging.environment}

        async def outlive(name: str) -> None:
            said[name] = await outlived(tmp_path / name, collectors[name])

        async with anyio.create_task_group() as beside:
            for name in collectors:
                beside.start_soon(outlive, name)
        assert [*refusing.spans, *hanging.spans] == []
        assert refusing.refused
    for lines in said.values():
        assert any("telemetry was not all sent before the end" in line for line in lines)
        assert [line for line in lines if "called once" in line] == []


async def test_without_the_extras_it_serves_and_says_what_is_missing(tmp_path: Path) -> None:
    """OTEL_* asks, nothing is installed: a line with the remedy, in the worker's log too, completions, and no page."""
    modules = ["opentelemetry.distro", "opentelemetry.sdk", "opentelemetry.exporter", "prometheus_client"]
    with OtlpReceiver() as receiver:
        async with FakeUpstream() as paris:
            write_settings(tmp_path, paris.base_url)
            environ = receiver.environment | hidden(tmp_path, *modules)
            async with serving(tmp_path, environ=environ) as (process, url):
                await completed(url)
                page = await asked(f"{url}/metrics")
        assert receiver.exports == ()
    assert "pip install '.[otel]'" in process.line_with("telemetry: OTEL_EXPORTER_OTLP_ENDPOINT asks for export")
    (logged,) = [line for line in process.lines if "telemetry that is asked for cannot be had" in line]
    assert " WARNING vetted_mw: " in logged
    assert "reason=OTEL_EXPORTER_OTLP_ENDPOINT asks for export" in logged
    assert (page.status_code, page.json()["error"]["code"]) == (404, "not_found")


async def test_a_value_the_sdk_refuses_is_told_by_its_variable(tmp_path: Path) -> None:
    """An exporter that cannot be set up is a line in the log with the variable; all else is there, the page too."""
    with OtlpReceiver() as receiver:
        async with FakeUpstream() as paris:
            write_settings(tmp_path, paris.base_url)
            environ = receiver.environment | {"OTEL_METRIC_EXPORT_INTERVAL": "0"}
            async with serving(tmp_path, environ=environ) as (process, url):
                await completed(url)
                await counting(url)
                receiver.wait_for(lambda: receiver.spans)
        assert receiver.points == []
    line = process.line_with("telemetry could not be set up")
    assert "OTEL_METRIC_EXPORT_INTERVAL" in line


async def test_a_value_that_spoils_everything_costs_no_answer(tmp_path: Path) -> None:
    """Where neither exporters nor page can be made, completions are answered as ever, by a worker that stays."""
    async with FakeUpstream() as paris:
        write_settings(tmp_path, paris.base_url)
        environ = {"OTEL_TRACES_EXPORTER": "console", "OTEL_METRICS_EXEMPLAR_FILTER": "nonsense"}
        async with serving(tmp_path, environ=environ) as (process, url):
            await completed(url)
            page = await asked(f"{url}/metrics")
    assert page.status_code == 404
    told = [line for line in process.lines if "telemetry could not be set up" in line]
    assert [line for line in told if "variables=OTEL_METRICS_EXEMPLAR_FILTER, OTEL_TRACES_EXPORTER" in line] == told
    assert len(told) == 2


async def test_headers_are_sent_and_never_told(tmp_path: Path) -> None:
    """What OTEL_EXPORTER_OTLP_HEADERS holds goes to the collector alone, and what is malformed goes nowhere."""
    with OtlpReceiver() as receiver:
        async with FakeUpstream() as paris:
            write_settings(tmp_path, paris.base_url)
            headers = {"OTEL_EXPORTER_OTLP_HEADERS": f"x-key={SECRET},{SECRET}"}
            async with serving(tmp_path, environ=receiver.environment | headers) as (process, url):
                await completed(url)
                receiver.wait_for(lambda: receiver.spans and receiver.points and receiver.log_lines)
    assert {export.headers["x-key"] for export in receiver.exports} == {SECRET}
    assert process.line_with("Header format invalid!")
    assert [line for line in process.lines if SECRET in line] == []


async def test_unasked_nothing_is_exported(tmp_path: Path) -> None:
    """Without a variable that says where to, no exporter is there: the page alone."""
    async with FakeUpstream() as paris:
        write_settings(tmp_path, paris.base_url)
        environ = {"OTEL_EXPORTER_OTLP_HEADERS": "a=b", "OTEL_METRIC_EXPORT_INTERVAL": "50", "OTEL_SERVICE_NAME": "x"}
        async with serving(tmp_path, environ=environ) as (process, url):
            await completed(url)
    assert "telemetry: GET /metrics" in process.lines
    assert [line for line in process.lines if "export" in line] == []
