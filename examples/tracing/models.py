"""Stand-ins for `compose.yaml`: the demo's model servers and its grid service, on fixed ports of every address."""

from __future__ import annotations

import contextlib
import socket
import threading

from vetted_mw.demo.grid_service import GridService
from vetted_mw.demo.model_server import ModelServers
from vetted_mw.demo.stage import running
from vetted_mw.routing.regions import load_catalogue

PORTS = {"scaleway-par-1": 8911, "atnorth-sto-1": 8912, "atnorth-isl-1": 8913}
GRID_PORT = 8920


def listening(port: int) -> socket.socket:
    """Listen where the other containers can reach it."""
    return socket.create_server(("0.0.0.0", port))  # noqa: S104 (a container's own network, no port of it published)


def main() -> None:
    """Serve until stopped."""
    catalogue = load_catalogue()
    servers = ModelServers({port: catalogue[code] for code, port in PORTS.items()})
    with (
        contextlib.suppress(KeyboardInterrupt),
        running(servers, [listening(port) for port in PORTS.values()]),
        running(GridService(), [listening(GRID_PORT)]),
    ):
        print("model servers and grid service are listening", flush=True)  # noqa: T201
        threading.Event().wait()


if __name__ == "__main__":
    main()
