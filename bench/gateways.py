"""The gateways under test: each started on the measured core, in front of the same upstream, as its users would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.processes import cores, cpu_seconds, running, tree, unused_port
from bench.rounds import MODEL

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import ExitStack
    from pathlib import Path

    from bench.peers import Peer

__all__ = [
    "Gateway",
    "Ours",
    "direct",
    "evidence",
    "start_litellm",
    "start_nginx",
    "start_ours",
    "start_vllm_router",
    "tracing",
]

_REGION = "scaleway-par-1"
_OPEN_AT_ONCE = 16_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """One that is running.

    Attributes:
        port: where it listens.
        pid: of its first process; 0: it is the upstream itself, whose CPU is not looked at.
        stream_port: where streams go, where that differs.
        start_ms: CPU from its start until it listened.
    """

    port: int
    pid: int = 0
    stream_port: int = 0
    start_ms: float = 0.0


def direct(upstream: int) -> Gateway:
    """Return the upstream as a gateway of its own: what the load costs with nothing between."""
    return Gateway(port=upstream)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ours:
    """How `vetted-mw serve` is to run.

    Attributes:
        name: of its files.
        settings: further tables.
        transport: `own` or `httpx`; empty: the package's default.
        workers: processes.
        logs: with its line for each request.
        variables: of its environment; as they are here there is no SDK.
    """

    name: str = "ours"
    settings: str = ""
    transport: str = ""
    workers: int = 1
    logs: bool = False
    variables: Mapping[str, str] = field(default_factory=lambda: {"OTEL_SDK_DISABLED": "true"})


def start_ours(stack: ExitStack, folder: Path, upstream: int, ours: Ours) -> Gateway:
    """Start `vetted-mw serve` until `stack` is left; settings and what it says are in `folder`."""
    port, settings = unused_port(), folder / f"{ours.name}.toml"
    settings.write_text(
        (f'transport = "{ours.transport}"\n' if ours.transport else "")
        + f"[limits]\nmax_in_flight = {_OPEN_AT_ONCE}\n"
        + f'[regions.{_REGION}]\nbase_url = "http://127.0.0.1:{upstream}/v1"\n'
        + f"[models.{MODEL}]\nactive_params_b = 70\ntotal_params_b = 70\n"
        + ours.settings,
        encoding="utf-8",
    )
    command = (
        *(sys.executable, "-m", "vetted_mw" if ours.logs else "bench.quiet", "serve"),
        *("--config", str(settings), "--port", str(port), "--workers", str(ours.workers)),
    )
    log = folder / f"{ours.name}.log"
    pid = stack.enter_context(running(command, port, on=cores()[1], log=log, environment=ours.variables))
    return Gateway(port=port, pid=pid, start_ms=_spent_ms(pid))


def evidence(folder: Path) -> str:
    """Return the settings of signing and ledger, the key made."""
    key = folder / "key.pem"
    if not key.exists():
        made = [sys.executable, "-m", "vetted_mw", "keys", "new", "--out", str(key)]
        subprocess.run(made, check=True, capture_output=True)  # noqa: S603
    return '[signing]\nkey = { file = "key.pem" }\n[ledger]\npath = "ledger.sqlite3"\n'


def tracing(receiver: int) -> dict[str, str]:
    """Return the variables of a live SDK: every request traced, spans and metrics sent to `receiver`."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{receiver}",
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_TRACES_SAMPLER": "always_on",
    }


_NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr crit; worker_rlimit_nofile {files}; {user}
events {{ worker_connections {connections}; }}
http {{
    access_log off; keepalive_requests 100000000; client_max_body_size 64m; client_body_buffer_size 1m;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    upstream model {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 100000000; }}
    proxy_http_version 1.1; proxy_set_header Connection "";
    server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ proxy_pass http://model; }} }}
    server {{ listen 127.0.0.1:{stream} backlog=4096; location / {{ proxy_pass http://model; proxy_buffering off; }} }}
}}
"""


def start_nginx(stack: ExitStack, folder: Path, upstream: int, peer: Peer) -> Gateway:
    """Start nginx: one worker, kept upstream connections, bodies in memory, no access log, streams not buffered."""
    port, stream = unused_port(), unused_port()
    files = os.sysconf("SC_OPEN_MAX")
    (folder / "nginx.conf").write_text(
        _NGINX.format(
            folder=folder,
            files=files,
            connections=min(files, 2 * _OPEN_AT_ONCE),
            user="user root;" if os.geteuid() == 0 else "",
            upstream=upstream,
            port=port,
            stream=stream,
        ),
        encoding="utf-8",
    )
    libraries = {} if peer.libraries is None else {"LD_LIBRARY_PATH": str(peer.libraries)}
    command = (*peer.command, "-p", str(folder), "-c", str(folder / "nginx.conf"))
    log = folder / "nginx.log"
    pid = stack.enter_context(running(command, port, on=cores()[1], log=log, environment=libraries))
    return Gateway(port=port, pid=pid, stream_port=stream, start_ms=_spent_ms(pid))


def start_litellm(stack: ExitStack, folder: Path, upstream: int, peer: Peer) -> Gateway:
    """Start LiteLLM's proxy: one worker, no database, no key."""
    port = unused_port()
    model = {"model": f"openai/{MODEL}", "api_base": f"http://127.0.0.1:{upstream}/v1", "api_key": "unused"}
    configuration = {"model_list": [{"model_name": MODEL, "litellm_params": model}]}
    (folder / "litellm.yaml").write_text(json.dumps(configuration), encoding="utf-8")  # which is YAML, too
    command = (
        *(*peer.command, "--config", str(folder / "litellm.yaml"), "--host", "127.0.0.1", "--port", str(port)),
        *("--num_workers", "1", "--telemetry", "False"),
    )
    variables = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it is fetched, at each start
        "LITELLM_LOG": "ERROR",
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",  # ours has no callers here, either
    }
    pid = stack.enter_context(running(command, port, on=cores()[1], log=folder / "litellm.log", environment=variables))
    return Gateway(port=port, pid=pid, start_ms=_spent_ms(pid))


def start_vllm_router(stack: ExitStack, folder: Path, upstream: int, peer: Peer) -> Gateway:
    """Start the vLLM project's router in front of one worker."""
    port, prometheus = unused_port(), unused_port()
    command = (
        *(*peer.command, "--worker-urls", f"http://127.0.0.1:{upstream}", "--policy", "round_robin"),
        *("--host", "127.0.0.1", "--port", str(port), "--log-level", "error"),
        *("--prometheus-host", "127.0.0.1", "--prometheus-port", str(prometheus)),
    )
    pid = stack.enter_context(running(command, port, on=cores()[1], log=folder / "vllm-router.log"))
    return Gateway(port=port, pid=pid, start_ms=_spent_ms(pid))


def _spent_ms(pid: int) -> float:
    return cpu_seconds(tree(pid)) * 1000
