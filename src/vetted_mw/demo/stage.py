"""The demo's stage: embedded model servers, moving grid signals, and the settings that put the gateway in front."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from vetted_mw.demo.grid import write_readings
from vetted_mw.demo.model_server import DEMO_MODEL, ModelServers
from vetted_mw.routing.regions import load_catalogue

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import ASGIApp

__all__ = ["DOWN_REGION", "Stage", "running", "stage"]

DOWN_REGION = "ovh-rbx-1"
"""The region whose server is not running, so that a pin can be seen to fail closed."""

_START_SECONDS = 30.0
_SIGNAL_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What the demo runs on.

    Attributes:
        settings: the settings file of the gateway.
        signals: the file of moving readings.
    """

    settings: Path
    signals: Path


@contextlib.contextmanager
def stage() -> Iterator[Stage]:
    """Start the embedded servers and signals; stop them at the end."""
    catalogue = load_catalogue()
    codes = [region.code for region in catalogue.values() if region.inference]
    with contextlib.ExitStack() as held, tempfile.TemporaryDirectory(prefix="vetted-demo-") as folder:
        sockets = {code: held.enter_context(_bound()) for code in codes}
        ports = {code: bound.getsockname()[1] for code, bound in sockets.items()}
        # Bound and never listened on: it refuses connections, and nobody else can take its port.
        sockets.pop(DOWN_REGION)
        for bound in sockets.values():
            bound.listen(2048)
        servers = ModelServers({ports[code]: catalogue[code] for code in sockets})
        place = Stage(settings=Path(folder, "vetted.toml"), signals=Path(folder, "signals.toml"))
        write_readings(place.signals)
        place.settings.write_text(_settings(ports, place.signals), encoding="utf-8")
        with running(servers, list(sockets.values())), _moving(place.signals):
            yield place


@contextlib.contextmanager
def running(app: ASGIApp, sockets: list[socket.socket], *, lifespan: str = "off") -> Iterator[None]:
    """Run `app` on uvicorn in a thread of its own, over sockets that already listen."""
    config = uvicorn.Config(
        app,
        lifespan="on" if lifespan == "on" else "off",
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=2,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": sockets}, daemon=True)
    thread.start()
    try:
        _await_start(server, thread)
        yield
    finally:
        server.should_exit = True
        thread.join(timeout=_START_SECONDS)


@contextlib.contextmanager
def _moving(path: Path) -> Iterator[None]:
    stop = threading.Event()

    def write() -> None:
        while not stop.wait(_SIGNAL_SECONDS):
            write_readings(path)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _await_start(server: uvicorn.Server, thread: threading.Thread) -> None:
    give_up = time.monotonic() + _START_SECONDS
    while not server.started:
        if not thread.is_alive() or time.monotonic() > give_up:
            raise RuntimeError("an embedded server did not start")
        time.sleep(0.01)


def _bound() -> socket.socket:
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    return bound


def _settings(ports: dict[str, int], signals: Path) -> str:
    lines = [
        "# The demo's settings: the shipped catalogue, every inference region on an embedded server.",
        "[receipts]",
        'issuer = "demo"',
        "[signals.sources.file]",
        f'path = "{signals.as_posix()}"',
        f'[models."{DEMO_MODEL}"]',
        "active_params_b = 8.03",
        "total_params_b = 8.03",
        "bytes_per_param = 2",
    ]
    for code, port in ports.items():
        lines += [f"[regions.{code}]", f'base_url = "http://127.0.0.1:{port}/v1"', f'models = ["{DEMO_MODEL}"]']
    return "\n".join(lines) + "\n"
