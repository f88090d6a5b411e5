"""`examples/tracing/run`, with a plain OTLP receiver and a real Prometheus, with neither, and where it cannot start."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from cli.commands import LIMIT_SECONDS, await_answer, clean_environ
from dashboards.boards import EXAMPLES
from dashboards.prometheus import require_prometheus
from support import unused_port
from telemetry.otlp import OtlpReceiver

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = EXAMPLES / "tracing"
REQUESTS = 6
DECIDED = 5
"""All but the one that names a region there is not."""


def run(*command: object, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command line to its end on ports of its own, without what this machine says of OpenTelemetry."""
    ports = {name: unused_port() for name in ("port", "prometheus-port", "phoenix-port", "phoenix-grpc-port")}
    arguments = [str(word) for word in (*command, "--once")]
    for name, port in ports.items():
        if f"--{name}" not in arguments:
            arguments += [f"--{name}", str(port)]
    inherited = {name: value for name, value in clean_environ().items() if not name.startswith("OTEL_")}
    return subprocess.run(
        arguments, env=inherited | environ, capture_output=True, text=True, timeout=LIMIT_SECONDS * 2, check=False
    )


def said(ran: subprocess.CompletedProcess[str], label: str) -> list[str]:
    """Return what stands behind `label` in its lines."""
    return [line[len(label) :].strip() for line in ran.stdout.splitlines() if line.startswith(f"{label} ")]


def programs(folder: Path, *names: str) -> dict[str, str]:
    """Return a PATH with nothing on it but these, each of which does nothing."""
    for name in names:
        (folder / name).write_text("#!/bin/sh\n", encoding="utf-8")
        (folder / name).chmod(0o755)
    return {"PATH": str(folder)}


def test_spans_go_where_the_environment_says_and_prometheus_scrapes() -> None:
    """Each request's trace is printed and arrives whole at the endpoint; Prometheus is asked and knows every request."""
    require_prometheus()
    with OtlpReceiver() as receiver:
        ran = run(FOLDER / "run", PYTHON=sys.executable, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        spans = receiver.spans
        assert receiver.latest_points
    traces = re.findall(r"trace ([0-9a-f]{32})$", ran.stdout, re.MULTILINE)
    assert len(set(traces)) == REQUESTS
    assert {span.trace_id for span in spans} == set(traces)
    assert [sum(span.name == name for span in spans) for name in ("POST /v1/chat/completions", "chat demo-8b")] == [
        REQUESTS,
        DECIDED,
    ]
    assert said(ran, "spans") == [f"go to {receiver.endpoint}: look there for these traces"]
    _page, scraped = said(ran, "metrics")
    assert sum(int(count) for count in re.findall(r" (\d+) [a-z_]+", scraped)) == REQUESTS
    assert said(ran, "not found") == []


def test_what_is_not_there_is_named_and_the_rest_runs(tmp_path: Path) -> None:
    """Without Phoenix, endpoint and Prometheus it says so plainly, with the remedy, and the gateway answers all the same."""
    ran = run(sys.executable, FOLDER / "run.py", **programs(tmp_path))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    without_spans, without_prometheus = said(ran, "not found")
    assert without_spans.startswith("phoenix (pip install arize-phoenix)")
    assert without_prometheus.startswith("prometheus on the PATH (Debian: apt-get install prometheus)")
    assert [line.split(" ")[0] for line in said(ran, "sent")] == ["200", "200", "200", "200", "503", "400"]


def test_a_program_that_ends_at_once_is_told(tmp_path: Path) -> None:
    """A Phoenix that does not come up is the one line that matters, and the exit code."""
    ran = run(sys.executable, FOLDER / "run.py", **programs(tmp_path, "phoenix"))
    assert ran.returncode == 1
    assert ran.stdout.splitlines()[-1].startswith("phoenix does not answer at http://127.0.0.1:")


def test_an_endpoint_where_nobody_listens_is_told(tmp_path: Path) -> None:
    """Spans that would be lost are not promised; what a URL may keep secret is not printed."""
    endpoint = f"http://me:secret@127.0.0.1:{unused_port()}"
    ran = run(sys.executable, FOLDER / "run.py", OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, **programs(tmp_path))
    assert ran.returncode == 1
    assert ran.stdout.startswith("nobody listens at http://127.0.0.1:")
    assert "secret" not in ran.stdout + ran.stderr


def test_a_taken_port_is_told(tmp_path: Path) -> None:
    """Whoever is there already is not taken for the gateway."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = run(sys.executable, FOLDER / "run.py", "--port", port, **programs(tmp_path))
    assert ran.returncode == 1
    assert ran.stdout.splitlines()[-1].startswith(f"http://127.0.0.1:{port}/readyz: that port is taken.")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_stays_until_told_to_stop_and_takes_everything_with_it(number: int, tmp_path: Path) -> None:
    """After the counts it keeps running to be looked at; then nothing of it runs on, and no folder is left."""
    port = unused_port()
    environ = clean_environ() | programs(tmp_path) | {"TMPDIR": str(tmp_path)}
    command = [sys.executable, str(FOLDER / "run.py"), "--port", str(port)]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        assert any(line.startswith("Stop with Ctrl-C") for line in iter(process.stdout.readline, ""))
        assert await_answer(f"http://127.0.0.1:{port}/healthz").status_code == 200
        process.send_signal(number)
        assert process.wait(timeout=LIMIT_SECONDS) == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    assert list(tmp_path.glob("vetted-*")) == []


@pytest.mark.parametrize("missing", ["vetted_mw", "uvicorn"])
def test_a_python_without_the_gateway_is_not_used(missing: str, tmp_path: Path) -> None:
    """`run` asks each Python whether it can, and says what to do when none can."""
    fake = tmp_path / "python"
    fake.write_text(f'#!/bin/sh\ncase "$2" in *{missing}*) exit 1;; esac\n', encoding="utf-8")
    fake.chmod(0o755)
    (tmp_path / "python3").symlink_to(fake)
    copy = tmp_path / "a" / "b" / "run"  # no environment of a clone is beside it
    copy.parent.mkdir(parents=True)
    copy.write_bytes((FOLDER / "run").read_bytes())
    copy.chmod(0o755)
    ran = subprocess.run(
        ["/bin/sh", copy],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 1
    assert "PYTHON=" in ran.stderr
