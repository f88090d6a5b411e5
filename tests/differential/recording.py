"""Record what real servers answer, byte for byte: `PYTHONPATH=tests python -m differential.recording` writes the file anew.

The servers: llama.cpp over a tiny model, the demo's model server, the scripted upstream of `vetted_mw.testing`, and one
small app on uvicorn (both parsers), hypercorn and granian.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from differential.recorded import PAGE, Recorded, written
from differential.various import ROUTES
from real.processes import LlamaServer
from real.tiny_model import write_tiny_model
from support import unused_port
from vetted_mw.demo.model_server import DEMO_MODEL, ModelServers
from vetted_mw.demo.stage import running
from vetted_mw.routing.regions import load_catalogue
from vetted_mw.testing import FakeUpstream

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["main"]

_SILENCE_SECONDS = 0.4
_TESTS = Path(__file__).parents[1]
_APP = "differential.various:app"
_SERVERS = {
    "uvicorn httptools": ("uvicorn", _APP, "--http", "httptools", "--log-level", "critical", "--port"),
    "uvicorn h11": ("uvicorn", _APP, "--http", "h11", "--log-level", "critical", "--port"),
    "hypercorn": ("hypercorn", _APP, "--log-level", "CRITICAL", "--bind"),
    "granian": ("granian", _APP, "--interface", "asgi", "--no-ws", "--log-level", "critical", "--port"),
}
_ASKED = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 6}
_COMPLETIONS: dict[str, tuple[str, str, object]] = {
    "a completion": ("POST", "/v1/chat/completions", _ASKED),
    "a stream": ("POST", "/v1/chat/completions", _ASKED | {"stream": True}),
    "a stream with usage": (
        "POST",
        "/v1/chat/completions",
        _ASKED | {"stream": True, "stream_options": {"include_usage": True}},
    ),
    "no messages": ("POST", "/v1/chat/completions", {"model": "m"}),
    "no JSON": ("POST", "/v1/chat/completions", None),
    "health": ("GET", "/health", None),
    "models": ("GET", "/v1/models", None),
    "metrics": ("GET", "/metrics", None),
    "nowhere": ("GET", "/nowhere", None),
}
_NOT_ASKED = {("FakeUpstream", "no JSON")}  # it is for tests that send JSON


def main() -> None:
    """Record everything and write the file."""
    made = [*_by_apps(), *_by_demo(), *asyncio.run(_by_fake()), *_by_llama()]
    PAGE.write_text(written(made), encoding="utf-8")


def _by_apps() -> Iterator[Recorded]:
    for name, command in _SERVERS.items():
        with _running(command) as port:
            for route in ROUTES:
                yield _recorded(name, route, port, "POST", f"/{route}", {"route": route})


def _by_demo() -> Iterator[Recorded]:
    region = next(iter(load_catalogue().values()))
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        bound.listen()
        port = bound.getsockname()[1]
        with running(ModelServers({port: region}, word_seconds=0.0), [bound]):
            yield from _completions("the demo's model server", port, DEMO_MODEL)


async def _by_fake() -> list[Recorded]:
    async with FakeUpstream() as upstream:
        port = int(upstream.base_url.removesuffix("/v1").rpartition(":")[2])
        return await asyncio.to_thread(list, _completions("FakeUpstream", port, "fake"))


def _by_llama() -> Iterator[Recorded]:
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder, "tiny.gguf")
        write_tiny_model(model)
        with LlamaServer(model, Path(folder, "log")) as server:
            yield from _completions("llama.cpp", server.port, "tiny")


def _completions(server: str, port: int, model: str) -> Iterator[Recorded]:
    for name, (method, path, members) in _COMPLETIONS.items():
        asked = members if members is None else {"model": model} | dict(members)  # type: ignore[call-overload]
        if (server, name) not in _NOT_ASKED:
            yield _recorded(server, name, port, method, path, asked)


def _recorded(server: str, name: str, port: int, method: str, path: str, members: object) -> Recorded:
    body = b"" if method == "GET" else b"{" if members is None else json.dumps(members).encode()
    head = f"{method} {path} HTTP/1.1\r\nhost: upstream.example\r\ncontent-type: application/json\r\n"
    length = "" if method == "GET" else f"content-length: {len(body)}\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall((head + length + "\r\n").encode() + body)
        connection.settimeout(_SILENCE_SECONDS)
        got, is_closed = b"", False
        with contextlib.suppress(TimeoutError):
            while data := connection.recv(65536):
                got += data
            is_closed = True
    return Recorded(server=server, name=name, answer=got, is_closed=is_closed)


@contextlib.contextmanager
def _running(command: tuple[str, ...]) -> Iterator[int]:
    port = unused_port()
    address = f"127.0.0.1:{port}" if command[-1] == "--bind" else str(port)
    environment = os.environ | {"PYTHONPATH": str(_TESTS)}
    process = subprocess.Popen([sys.executable, "-m", *command, address], env=environment)
    try:
        give_up = time.monotonic() + 60
        while not _listens(port):
            if time.monotonic() > give_up:
                raise TimeoutError(command)
            time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()
