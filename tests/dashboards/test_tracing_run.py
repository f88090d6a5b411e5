"""`examples/tracing/run`, with a plain OTLP receiver and a real Prometheus, with neither, and where it cannot start."""

from __future__ import annotations

import contextlib
import itertools
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cli.commands import LIMIT_SECONDS, await_answer, clean_environ
from cli.serving import hidden
from dashboards.boards import EXAMPLES
from dashboards.prometheus import require_prometheus
from support import unused_port
from telemetry.otlp import OtlpReceiver

if TYPE_CHECKING:
    from collections.abc import Iterator

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


def test_extras_that_are_missing_are_named_and_the_rest_runs(tmp_path: Path) -> None:
    """In an environment like the demo's it says which extras it lacks and how to get them; the gateway answers anyway."""
    modules = ["opentelemetry.distro", "opentelemetry.sdk", "opentelemetry.exporter", "prometheus_client"]
    ran = run(sys.executable, FOLDER / "run.py", **hidden(tmp_path, *modules))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert said(ran, "not found") == [
        f"the extra otel in {sys.executable}: no spans are exported",
        f"the extra prometheus in {sys.executable}: the gateway has no /metrics",
    ]
    assert "pip install '.[otel]'" in ran.stdout
    assert "scripts/check makes .venv with every extra" in ran.stdout
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


@contextlib.contextmanager
def staying(folder: Path) -> Iterator[tuple[subprocess.Popen[str], int, Iterator[str]]]:
    """Run it to stay, without Phoenix, endpoint and Prometheus; yield its process, the gateway's port and its lines."""
    port = unused_port()
    environ = clean_environ() | programs(folder) | {"TMPDIR": str(folder)}
    command = [sys.executable, str(FOLDER / "run.py"), "--port", str(port)]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        try:
            yield process, port, iter(process.stdout.readline, "")
        finally:
            process.terminate()  # once more where all went well, which is nothing
        assert process.wait(timeout=LIMIT_SECONDS) == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    assert list(folder.glob("vetted-*")) == []


def test_it_stays_until_told_to_stop_and_takes_everything_with_it(tmp_path: Path) -> None:
    """What is not there is named, the rest keeps running to be looked at; then nothing of it runs on or is left."""
    with staying(tmp_path) as (process, port, lines):
        told = list(itertools.takewhile(lambda line: not line.startswith("Stop with Ctrl-C"), lines))
        assert await_answer(f"http://127.0.0.1:{port}/healthz").status_code == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=LIMIT_SECONDS) == 0
    without_spans, without_prometheus = (line for line in told if line.startswith("not found"))
    assert "phoenix (pip install arize-phoenix)" in without_spans
    assert "prometheus on the PATH (Debian: apt-get install prometheus)" in without_prometheus


def test_told_to_stop_on_the_way_it_takes_everything_with_it(tmp_path: Path) -> None:
    """SIGTERM while it is still sending: nothing runs on, and no folder is left."""
    with staying(tmp_path) as (process, _, lines):
        assert any(line.startswith("gateway ") for line in lines)
        process.terminate()
        assert process.wait(timeout=LIMIT_SECONDS) == 0


# ---- which Python


def python(file: Path, *lacking: str) -> None:
    """Make a Python that can import everything but `lacking`, and says its name where it is to run something."""
    file.parent.mkdir(parents=True, exist_ok=True)
    refusals = "".join(f' *{module}*) [ "$1" != -c ] || exit 1;;' for module in lacking)
    file.write_text(f'#!/bin/sh\ncase "$2" in{refusals} esac\n[ "$1" = -c ] || echo "$0"\n', encoding="utf-8")
    file.chmod(0o755)


def chosen(clone: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a copy of `run` in a folder that stands for the clone, `python3` being the one of its `bin`."""
    copy = clone / "examples" / "tracing" / "run"
    copy.parent.mkdir(parents=True)
    copy.write_bytes((FOLDER / "run").read_bytes())
    environ = {"PATH": f"{clone / 'bin'}:/usr/bin:/bin"} | environ
    command = ["/bin/sh", str(copy)]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("missing", ["vetted_mw", "uvicorn"])
def test_a_python_without_the_gateway_is_not_used(missing: str, tmp_path: Path) -> None:
    """`run` asks each Python whether it can, and says what to do when none can."""
    python(tmp_path / "bin" / "python3", missing)
    ran = chosen(tmp_path, PYTHON=str(tmp_path / "bin" / "python3"))
    assert ran.returncode == 1
    assert "scripts/check" in ran.stderr
    assert "PYTHON=" in ran.stderr


DISTRO, PAGE = "opentelemetry.distro", "opentelemetry.exporter.prometheus"


@pytest.mark.parametrize(
    ("pythons", "expected"),
    [
        ({".venv/bin/python": (), ".demo/bin/python": (), "bin/python3": ()}, ".venv/bin/python"),
        ({".demo/bin/python": (DISTRO, PAGE), "bin/python3": ()}, "bin/python3"),
        ({".venv/bin/python": (PAGE,), ".demo/bin/python": (), "bin/python3": ()}, ".demo/bin/python"),
        ({".demo/bin/python": (DISTRO, PAGE), "bin/python3": ("vetted_mw",)}, ".demo/bin/python"),
        ({"named": (DISTRO, PAGE), ".venv/bin/python": ()}, "named"),
        ({"named": ("uvicorn",), ".venv/bin/python": ()}, ".venv/bin/python"),
    ],
    ids=["all can", "demo without extras", "one extra", "nothing better", "named", "named and of no use"],
)
def test_the_python_with_every_extra_is_preferred(
    pythons: dict[str, tuple[str, ...]], expected: str, tmp_path: Path
) -> None:
    """The demo's environment has no extras: it is used where nothing better is there; the one that is named comes first."""
    for name, lacking in pythons.items():
        python(tmp_path / name, *lacking)
    ran = chosen(tmp_path, PYTHON=str(tmp_path / "named"))
    assert (ran.returncode, ran.stderr) == (0, "")
    assert Path(ran.stdout.strip()).resolve() == tmp_path / expected
