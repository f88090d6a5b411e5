"""The demo's stage: embedded model servers, a local grid service, and the settings that put the gateway in front."""

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

from vetted_mw.demo.grid_service import TOKEN, GridService
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
_MAX_AGE_MINUTES = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What the demo runs on.

    Attributes:
        settings: the settings file of the gateway.
        grid: the local grid service, which can be broken.
        grid_origin: where it listens.
    """

    settings: Path
    grid: GridService
    grid_origin: str


@contextlib.contextmanager
def stage() -> Iterator[Stage]:
    """Start the embedded servers and the grid service; stop them at the end."""
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
        grid, grid_socket = GridService(), held.enter_context(_bound())
        grid_socket.listen(128)
        origin = f"http://127.0.0.1:{grid_socket.getsockname()[1]}"
        place = Stage(settings=Path(folder, "vetted.toml"), grid=grid, grid_origin=origin)
        token = Path(folder, "entsoe-token")
        token.write_text(TOKEN, encoding="ascii")
        place.settings.write_text(_settings(ports, grid.base_urls(origin), token), encoding="utf-8")
        with running(servers, list(sockets.values())), running(grid, [grid_socket]):
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


def _settings(ports: dict[str, int], grid: dict[str, str], token: Path) -> str:
    lines = [
        "# The demo's settings: the shipped catalogue, every inference region on an embedded server, and a local grid",
        "# service in the place of the real ones. Real sources are asked every few minutes and live for hours.",
        "[receipts]",
        'issuer = "demo"',
        "[signals]",
        f"refresh_seconds = {_SIGNAL_SECONDS:g}",
        f"timeout_seconds = {_SIGNAL_SECONDS:g}",
        "[signals.sources.entsoe]",
        f'token = {{ file = "{token.as_posix()}" }}',
        f'base_url = "{grid["entsoe"]}"',
        f"max_age_minutes = {_MAX_AGE_MINUTES:g}",
        "[signals.sources.landsnet]",
        f'base_url = "{grid["landsnet"]}"',
        f"max_age_minutes = {_MAX_AGE_MINUTES:g}",
        f'[models."{DEMO_MODEL}"]',
        "active_params_b = 8.03",
        "total_params_b = 8.03",
        "bytes_per_param = 2",
    ]
    for code, port in ports.items():
        lines += [f"[regions.{code}]", f'base_url = "http://127.0.0.1:{port}/v1"', f'models = ["{DEMO_MODEL}"]']
    return "\n".join(lines) + "\n"
