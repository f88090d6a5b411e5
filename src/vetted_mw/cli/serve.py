"""`vetted-mw serve`: the stand-alone gateway on uvicorn."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import logging
import os
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from vetted_mw.cli.heap import spare_collector
from vetted_mw.cli.logs import configure_logging
from vetted_mw.cli.orders import OrderedApp, hold_reload_orders
from vetted_mw.cli.telemetry import ObservedApp, Sdk, has_page, is_page_served, planned
from vetted_mw.cli.told import receipts_told, sources_told
from vetted_mw.errors import ConfigurationError
from vetted_mw.gateway import Gateway
from vetted_mw.middleware import VettedProxy
from vetted_mw.settings import forbid_open_host, load_configuration, require_ledger_folder, require_upstream

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from starlette.types import ASGIApp

    from vetted_mw.cli.telemetry import TelemetryPlan
    from vetted_mw.configuration import Configuration

_SERVER_SECONDS = 5
_IDLE_SECONDS = 75  # longer than clients (5) and load balancers (60) keep a connection: who is in front closes it first
_WORKER_SECONDS = 30  # a worker that is only busy is not killed, and its streams with it

__all__ = ["create_app", "interrupt_on_sigterm", "require_server", "run_server", "serve"]


def serve(arguments: argparse.Namespace) -> int:
    """Check the settings and run until told to stop.

    Raises:
        ConfigurationError: the server is not installed, the settings cannot be used, no region has an upstream, the
            door would stand open, or the address cannot be bound.
    """
    require_server()
    configuration = load_configuration(arguments.config)
    require_upstream(configuration)
    require_ledger_folder(configuration)
    host = arguments.host or configuration.server.host
    forbid_open_host(host, callers=bool(configuration.callers), is_open=arguments.open)
    Gateway(configuration)  # what only it can find wrong is said here, in a line, and not by each worker
    if configuration.source:
        # Workers are processes of their own: they find the same file the same way the operator could have named it.
        os.environ["VETTED_CONFIG"] = configuration.source
    port = _free_port(host, configuration.server.port if arguments.port is None else arguments.port)
    interrupt_on_sigterm()
    hold_reload_orders()
    workers = arguments.workers or configuration.server.workers
    _show(configuration, planned(os.environ, workers=workers), host=host, port=port)
    run_server(host=host, port=port, workers=workers, is_open=arguments.open)
    return 0


def create_app(*, host: str, is_open: bool, workers: int = 1, meeting: Path | None = None) -> ASGIApp:
    """Build the app of one worker, with the telemetry of its process.

    Args:
        host: the address it is bound to, which settings that are reloaded must suit as well.
        is_open: whether the operator said `--open`.
        workers: how many there are.
        meeting: the folder where they find each other; None: this one is alone.
    """
    configure_logging(logging.INFO)
    load = functools.partial(_checked_configuration, host=host, is_open=is_open)
    configuration = load()
    sdk = Sdk(planned(os.environ, workers=workers), workers=workers, meeting=meeting)
    spare_collector()  # before there is a gateway: what a reload replaces is not kept
    gateway = Gateway(configuration, load=load)
    app = OrderedApp(VettedProxy(gateway), gateway, hurry=sdk.hurry)
    return ObservedApp(app, gateway, sdk=sdk)


def run_server(*, host: str, port: int, workers: int, is_open: bool = False) -> None:
    """Run uvicorn on `create_app`; the gateway drains before the server ends, so the server need not wait long."""
    import uvicorn  # noqa: PLC0415 (an extra: everything but `serve` and `demo` works without it)
    from uvicorn.config import STARTUP_FAILURE  # noqa: PLC0415

    from vetted_mw.cli.forwarded import ServerConfig  # noqa: PLC0415
    from vetted_mw.cli.workers import Workers  # noqa: PLC0415

    _raise_descriptor_limit()
    with _meeting_place(workers) as meeting:
        config = ServerConfig(
            functools.partial(create_app, host=host, is_open=is_open, workers=workers, meeting=meeting),
            factory=True,
            interface="asgi3",  # the outer apps are plain functions of it, which uvicorn would take for something older
            http=_http_protocol(),
            host=host,
            port=port,
            workers=workers,
            lifespan="on",
            access_log=False,
            server_header=False,
            log_level="warning",
            timeout_keep_alive=_IDLE_SECONDS,
            timeout_graceful_shutdown=_SERVER_SECONDS,
            timeout_worker_healthcheck=_WORKER_SECONDS,
        )
        with contextlib.suppress(KeyboardInterrupt):  # how `serve` is told to stop
            if workers > 1:
                Workers(config, sockets=[config.bind_socket()]).run()
            else:
                server = uvicorn.Server(config)
                server.run()
                if not server.started:
                    sys.exit(STARTUP_FAILURE)


@contextlib.contextmanager
def _meeting_place(workers: int) -> Iterator[Path | None]:
    """Make the folder where several workers ask each other for their metrics, for their user alone; None: none can be.

    It is gone at the end.
    """
    with contextlib.ExitStack() as kept:
        place = None
        if workers > 1 and has_page():
            with contextlib.suppress(OSError):  # nowhere to write: the page will say that it cannot be one
                made = tempfile.TemporaryDirectory(prefix="vetted-mw-", ignore_cleanup_errors=True)
                place = Path(kept.enter_context(made))
        yield place


def _checked_configuration(*, host: str, is_open: bool) -> Configuration:
    """Read the settings the way `serve` did, with the same demands on them.

    Raises:
        ConfigurationError: they cannot be used, or not with this address.
    """
    configuration = load_configuration()
    require_upstream(configuration)
    require_ledger_folder(configuration)
    forbid_open_host(host, callers=bool(configuration.callers), is_open=is_open)
    return configuration


def _http_protocol() -> str:
    """Name what reads HTTP; h11, where it is all there is, has limits of its own on heads."""
    return "h11" if importlib.util.find_spec("httptools") is None else "vetted_mw.cli.heads:BoundedHeads"


def require_server() -> None:
    """Refuse a command that needs a server where none is installed.

    Raises:
        ConfigurationError: the `server` extra is not installed.
    """
    if importlib.util.find_spec("uvicorn") is None:
        raise ConfigurationError(
            "the server is not installed.", remedy="Install the extra server (pip install '.[server]' in the clone)."
        )


def interrupt_on_sigterm() -> None:
    """Let SIGTERM end the process the way Ctrl-C does: what is open is closed, and an orderly stop is exit code 0."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def _free_port(host: str, port: int) -> int:
    """Return the port to bind, one of the system's choice for 0: found here, a mistake can be told as one of settings.

    Raises:
        ConfigurationError: the address cannot be bound.
    """
    try:
        family, kind, protocol, _name, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
            return int(trial.getsockname()[1])
    except OSError as error:
        raise ConfigurationError(
            f"port {port} of {host} cannot be bound: {error.strerror}.",
            field="server",
            remedy="Stop what listens there, or choose another host or port.",
        ) from None


def _raise_descriptor_limit() -> None:
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415 (not everywhere)

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        print(f"raised the limit of open files from {soft} to {hard}", file=sys.stderr, flush=True)
    except (OSError, ValueError):  # macOS names a hard limit that it does not grant
        print(f"the limit of open files stays at {soft}", file=sys.stderr, flush=True)


def _show(configuration: Configuration, telemetry: TelemetryPlan, *, host: str, port: int) -> None:
    for code, upstream in configuration.upstreams.items():
        region = configuration.regions[code]
        print(f"region {code} ({region.location}, {region.country}) -> {upstream.base_url}", file=sys.stderr)
    print(f"default order: {', '.join(configuration.rules.default_order)}", file=sys.stderr)
    print(f"grid sources: {sources_told(configuration.signals)}", file=sys.stderr)
    print(f"receipts: {receipts_told(configuration)}", file=sys.stderr)
    for line in telemetry.told(is_page_served=is_page_served(configuration.paths)):
        print(line, file=sys.stderr)
    shown = f"[{host}]" if ":" in host else host
    print(f"serving {', '.join(configuration.paths)} on http://{shown}:{port}", file=sys.stderr, flush=True)
