"""The gateway's main job on embedded defaults: a loopback model server per inference region, a local grid service."""

from __future__ import annotations

import errno
import socket
import sys
import threading

from vetted_mw.demo.stage import DOWN_REGION, Stage, running, stage
from vetted_mw.demo.tour import run_tour, what_to_try
from vetted_mw.errors import ConfigurationError
from vetted_mw.gateway import Gateway
from vetted_mw.middleware import VettedProxy
from vetted_mw.settings import load_configuration

__all__ = ["DOWN_REGION", "run_demo", "stage"]


def run_demo(*, port: int, once: bool) -> int:
    """Run the demo: with `once` through the tour (exit code 0 when all was as it should be), else until stopped.

    Raises:
        ConfigurationError: the port cannot be listened on.
    """
    with (
        _listening(0 if once else port) as listener,
        stage() as place,
        running(_gateway(place), [listener], lifespan="on"),
    ):
        base_url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        if once:
            return 0 if run_tour(base_url) else 1
        print(what_to_try(base_url, grid_origin=place.grid_origin))
        print(f"The gateway's settings: {place.settings}")
        print("Stop with Ctrl-C.", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("\nstopped", file=sys.stderr)
    return 0


def _gateway(place: Stage) -> VettedProxy:
    # The demo is the same wherever it runs: the caller's own VETTED_* variables stay out of it.
    return VettedProxy(Gateway(load_configuration(place.settings, environ={})))


def _listening(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as error:
        listener.close()
        why = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
        raise ConfigurationError(
            f"port {port} of 127.0.0.1 {why}.", remedy="Choose another, as in --port 8090."
        ) from None
    listener.listen(2048)
    return listener
