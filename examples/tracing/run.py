"""Run the gateway with its telemetry on, without containers, send it a few requests, and say what arrived where.

Started by `run`, which finds a Python for it. Model servers and grid are the demo's. What is not installed is named and
left out.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx

from vetted_mw.demo import DOWN_REGION, stage
from vetted_mw.demo.model_server import DEMO_MODEL
from vetted_mw.demo.tour import await_signals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

RULES = Path(__file__).parent.parent / "grafana" / "alerts.yml"
ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
LIMIT_SECONDS = 60.0
PHOENIX_LIMIT_SECONDS = 180.0  # it prepares its database at the first start

REQUESTS: Sequence[tuple[str, dict[str, Any]]] = (
    ("the default order", {}),
    ("streamed", {"stream": True}),
    ("the lowest live grid intensity", {"vetted": {"routing": "carbon_aware"}}),
    ("pinned to Iceland", {"vetted": {"region": "atnorth-isl-1"}}),
    ("pinned to a region that is down", {"vetted": {"region": DOWN_REGION}}),
    ("a region that does not exist", {"vetted": {"region": "nowhere-1"}}),
)


class NotStartedError(Exception):
    """A program could not be started; its own last words are in the text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """Where something goes, and how to tell that it got there.

    Attributes:
        what: spans or metrics.
        place: for the reader to open.
        count: what is there of these traces by name, nothing until all has come; None where that cannot be asked.
    """

    what: str
    place: str
    count: Callable[[Sequence[str]], Mapping[str, float]] | None


def say(text: str) -> None:
    """Tell the reader a line."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def answers(url: str) -> bool:
    """Whether somebody answers a GET there, and well."""
    try:
        return httpx.get(url, trust_env=False, timeout=5).is_success
    except httpx.TransportError:
        return False


def listens(url: str) -> bool:
    """Whether somebody takes connections there, whatever they speak."""
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)), 5).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def running(
    command: Sequence[str], environment: Mapping[str, str], *, ready: str, log: Path, limit: float
) -> Iterator[None]:
    """Run a program until the end of the block, from when `ready` answers.

    Raises:
        NotStartedError: its port is taken, it ended at once, or it never answered.
    """
    if listens(ready):
        raise NotStartedError(f"{ready}: that port is taken. Choose another: run --help")
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 (our own command lines)
            command, env=dict(environment), stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        give_up = time.monotonic() + limit
        while not answers(ready):
            if process.poll() is not None or time.monotonic() > give_up:
                words = log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
                raise NotStartedError("\n".join([f"{Path(command[0]).name} does not answer at {ready}:", *words]))
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def is_installed(module: str) -> bool:
    """Whether this Python has a module."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package it would be in
        return False


def say_missing(extra: str, consequence: str) -> None:
    """Tell which extra this Python lacks, what that costs, and how to get it."""
    say(f"not found    the extra {extra} in {sys.executable}: {consequence}")
    say(f"             scripts/check makes .venv with every extra; elsewhere: pip install '.[{extra}]' in the clone")


# ---- where spans go


def phoenix_count(origin: str, traces: Sequence[str]) -> Mapping[str, float]:
    """Count the spans Phoenix shows by name and the kind it takes them for, once each trace has its outermost."""
    answer = httpx.get(f"{origin}/v1/projects/default/spans", params={"limit": 200}, trust_env=False, timeout=10)
    spans = answer.json()["data"] if answer.is_success else []
    mine = [span for span in spans if span["context"]["trace_id"] in traces]
    if {span["context"]["trace_id"] for span in mine if span["name"].startswith("POST ")} != set(traces):
        return {}
    return Counter(f"{span['name']} ({span['span_kind']})" for span in mine)


@contextlib.contextmanager
def spans_to(arguments: argparse.Namespace, folder: Path, environment: dict[str, str]) -> Iterator[Arrival | None]:
    """Open what receives spans, and point `environment` at it: what the caller named, else Phoenix."""
    given = next((os.environ[name] for name in ENDPOINTS if os.environ.get(name)), None)
    if not is_installed("opentelemetry.distro"):
        say_missing("otel", "no spans are exported")
        yield None
    elif given:
        parts = urlsplit(given)
        place = (
            f"{parts.scheme}://{parts.hostname}:{parts.port}" if parts.port else f"{parts.scheme}://{parts.hostname}"
        )
        if not listens(given):
            raise NotStartedError(f"nobody listens at {place}, where the spans are to go")
        yield Arrival(what="spans", place=place, count=None)
    elif shutil.which("phoenix"):
        origin = f"http://127.0.0.1:{arguments.phoenix_port}"
        own = {
            "PHOENIX_WORKING_DIR": str(folder),
            "PHOENIX_HOST": "127.0.0.1",
            "PHOENIX_PORT": str(arguments.phoenix_port),
            "PHOENIX_GRPC_PORT": str(arguments.phoenix_grpc_port),
            "PHOENIX_TELEMETRY_ENABLED": "false",
            "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
        }
        say("starting     Phoenix, which takes a while")
        command = ["phoenix", "serve"]
        with running(command, os.environ | own, ready=origin, log=folder / "phoenix.log", limit=PHOENIX_LIMIT_SECONDS):
            environment |= {"OTEL_EXPORTER_OTLP_ENDPOINT": origin, "OTEL_METRICS_EXPORTER": "none"}
            yield Arrival(what="spans", place=origin, count=lambda traces: phoenix_count(origin, traces))
    else:
        say("not found    phoenix (pip install arize-phoenix), and OTEL_EXPORTER_OTLP_ENDPOINT is not set: no spans")
        yield None


# ---- where metrics go


def prometheus_count(origin: str, _traces: Sequence[str]) -> Mapping[str, float]:
    """Return the requests Prometheus knows of by outcome, once it knows of as many as were sent."""
    query = {"query": "sum by (vetted_outcome) (vetted_requests_total)"}
    answer = httpx.get(f"{origin}/api/v1/query", params=query, trust_env=False, timeout=10).json()
    found = {row["metric"]["vetted_outcome"]: float(row["value"][1]) for row in answer["data"]["result"]}
    return found if sum(found.values()) >= len(REQUESTS) else {}


@contextlib.contextmanager
def metrics_to(arguments: argparse.Namespace, folder: Path, gateway: str) -> Iterator[Arrival | None]:
    """Let a Prometheus scrape the gateway, where there is one."""
    if not is_installed("opentelemetry.exporter.prometheus"):
        say_missing("prometheus", "the gateway has no /metrics")
        yield None
        return
    say(f"metrics      {gateway}/metrics")
    if shutil.which("prometheus") is None:
        say("not found    prometheus on the PATH (Debian: apt-get install prometheus): nothing scrapes that page")
        yield None
        return
    settings = folder / "prometheus.yml"
    settings.write_text(
        "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
        f"rule_files: ['{RULES}']\n"
        f"scrape_configs: [{{job_name: vetted-mw, static_configs: [{{targets: ['{gateway.removeprefix('http://')}']}}]}}]\n",
        encoding="utf-8",
    )
    origin = f"http://127.0.0.1:{arguments.prometheus_port}"
    command = [
        "prometheus",
        f"--config.file={settings}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address={origin.removeprefix('http://')}",
    ]
    ready, log = f"{origin}/-/ready", folder / "prometheus.log"
    with running(command, os.environ, ready=ready, log=log, limit=LIMIT_SECONDS):
        yield Arrival(what="metrics", place=origin, count=lambda traces: prometheus_count(origin, traces))


# ---- the requests


def send(base_url: str) -> list[str]:
    """Send each request under a trace of its own; tell how it went, and return the ids of the traces."""
    traces = []
    for title, members in REQUESTS:
        trace = secrets.token_hex(16)
        headers = {"traceparent": f"00-{trace}-{secrets.token_hex(8)}-01"}
        body = {"model": DEMO_MODEL, "messages": [{"role": "user", "content": "Where does this run?"}], **members}
        answer = httpx.post(f"{base_url}/chat/completions", json=body, headers=headers, trust_env=False, timeout=60)
        region = answer.headers.get("x-vetted-region", "no region")
        say(f"sent         {answer.status_code} {title}: {region}, trace {trace}")
        traces.append(trace)
    return traces


def tell(arrival: Arrival, traces: Sequence[str]) -> bool:
    """Wait for what was sent to arrive, tell how much did, and return whether it was all."""
    if arrival.count is None:
        say(f"{arrival.what:<12} go to {arrival.place}: look there for these traces")
        return True
    give_up = time.monotonic() + LIMIT_SECONDS
    while not (found := arrival.count(traces)):
        if time.monotonic() > give_up:
            say(f"{arrival.what:<12} NOT ARRIVED at {arrival.place}")
            return False
        time.sleep(0.2)
    counts = ", ".join(f"{count:g} {name}" for name, count in sorted(found.items()))
    say(f"{arrival.what:<12} {arrival.place}: {counts}")
    return True


def main() -> int:
    """Run it; exit code 0 when all that was sent arrived."""
    parser = argparse.ArgumentParser(description="The gateway with its telemetry on, without containers.")
    parser.add_argument("--once", action="store_true", help="say what arrived, and end")
    parser.add_argument("--port", type=int, default=8080, help="of the gateway (default: 8080)")
    parser.add_argument("--prometheus-port", type=int, default=9090, help="default: 9090")
    parser.add_argument("--phoenix-port", type=int, default=6006, help="default: 6006")
    parser.add_argument("--phoenix-grpc-port", type=int, default=4317, help="default: 4317")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        with contextlib.suppress(KeyboardInterrupt):
            return run(arguments)
    except NotStartedError as error:
        say(str(error))
        return 1
    return 0


def run(arguments: argparse.Namespace) -> int:
    """Start what there is, send the requests, tell what arrived, and stay if asked to."""
    gateway = f"http://127.0.0.1:{arguments.port}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VETTED_")}
    environment.setdefault("OTEL_BSP_SCHEDULE_DELAY", "1000")  # ms
    with contextlib.ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="vetted-tracing-")))
        spans = held.enter_context(spans_to(arguments, folder, environment))
        place = held.enter_context(stage())
        serve = ["-m", "vetted_mw", "serve", "--config", str(place.settings), "--port", str(arguments.port)]
        ready, log = f"{gateway}/readyz", folder / "gateway.log"
        held.enter_context(running([sys.executable, *serve], environment, ready=ready, log=log, limit=LIMIT_SECONDS))
        say(f"gateway      {gateway}/v1")
        metrics = held.enter_context(metrics_to(arguments, folder, gateway))
        with httpx.Client(trust_env=False, timeout=30) as client:
            await_signals(client, f"{gateway}/v1")
        traces = send(f"{gateway}/v1")
        told = [tell(arrival, traces) for arrival in (spans, metrics) if arrival is not None]
        if not arguments.once:
            say("Stop with Ctrl-C.")
            threading.Event().wait()
    return 0 if all(told) else 1


if __name__ == "__main__":
    sys.exit(main())
