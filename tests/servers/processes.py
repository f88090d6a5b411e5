"""The servers under test, each in a process of its own around the app of `gauged.py`."""

from __future__ import annotations

import contextlib
import http.client
import importlib.metadata
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streams.wall import LIMIT
from support import unused_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["SERVERS", "Kind", "Server", "eventually", "serving"]

_TESTS = Path(__file__).parent.parent
_APP = "servers.gauged:app"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A server and how it is started.

    Attributes:
        package: its distribution's name.
        arguments: after `python -m`; `{port}` is filled in.
        http2: whether callers speak HTTP/2 to it, without TLS.
    """

    package: str
    arguments: tuple[str, ...]
    http2: bool = False

    @property
    def version(self) -> str:
        """The installed version."""
        return importlib.metadata.version(self.package)


_UVICORN = ("uvicorn", _APP, "--port", "{port}", "--log-level", "warning", "--lifespan", "on")
_HYPERCORN = ("hypercorn", _APP, "--bind", "127.0.0.1:{port}", "--log-level", "WARNING")
_GRANIAN = ("granian", _APP, "--interface", "asgi", "--port", "{port}", "--no-ws", "--log-level", "warning")

SERVERS: Mapping[str, Kind] = {
    "uvicorn-httptools": Kind(package="uvicorn", arguments=(*_UVICORN, "--http", "httptools")),
    "uvicorn-h11": Kind(package="uvicorn", arguments=(*_UVICORN, "--http", "h11")),
    "hypercorn": Kind(package="hypercorn", arguments=_HYPERCORN),
    "hypercorn-h2c": Kind(package="hypercorn", arguments=_HYPERCORN, http2=True),
    "granian": Kind(package="granian", arguments=_GRANIAN),
}


@dataclass(slots=True, kw_only=True)
class Server:
    """One that runs.

    Attributes:
        kind: which.
        port: its loopback port.
        at_rest: its gauges before the first request.
    """

    kind: Kind
    port: int
    log: Path
    process: subprocess.Popen[bytes]
    at_rest: dict[str, Any] = field(default_factory=dict)

    def gauges(self) -> dict[str, Any]:
        """Ask its app for its gauges, on a connection of their own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT)
        with contextlib.closing(connection):
            connection.request("GET", "/gauges")
            gauges: dict[str, Any] = json.loads(connection.getresponse().read())
        return gauges

    def rests(self) -> None:
        """Wait until every gauge is as before the first request."""
        eventually(lambda: self.gauges() == self.at_rest, lambda: f"{self.gauges()}, at rest {self.at_rest}")

    def text(self) -> str:
        """Return its log."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def started(self) -> bool:
        """Whether it answers."""
        if self.process.poll() is not None:
            raise AssertionError(f"the server ended at once:\n{self.text()}")
        try:
            self.at_rest = self.gauges()
        except (OSError, http.client.HTTPException):
            return False
        return True


def eventually(holds: Callable[[], bool], what: Callable[[], str], *, limit: float = LIMIT) -> None:
    """Wait until `holds`, and say `what` was seen instead when that does not come about within `limit` seconds."""
    give_up = time.monotonic() + limit
    while not holds():
        if time.monotonic() > give_up:
            raise AssertionError(what())
        time.sleep(0.01)


@contextlib.contextmanager
def serving(kind: Kind, tables: Mapping[str, Any], log: Path, *, host: str = "") -> Iterator[Server]:
    """Run a server around the gateway over `tables`, with an in-app handler of the framework `host` if one is named."""
    port = unused_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VETTED_")}
    environment |= {
        "VETTED_TEST_TABLES": json.dumps(tables),
        "VETTED_TEST_HOST": host,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(_TESTS), environment.get("PYTHONPATH")))),
    }
    command = [sys.executable, "-m", *(argument.format(port=port) for argument in kind.arguments)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, env=environment)
    server = Server(kind=kind, port=port, log=log, process=process)
    try:
        eventually(server.started, lambda: f"the server does not answer:\n{server.text()}", limit=LIMIT * 4)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
