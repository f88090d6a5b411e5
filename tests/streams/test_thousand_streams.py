"""A thousand streams at once through the gateway as `serve` runs it, in a process of its own, on default settings."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from streams.wall import LIMIT
from support import unused_port
from vetted_mw.demo.model_server import DEMO_MODEL, ModelServers
from vetted_mw.demo.stage import running
from vetted_mw.routing.regions import load_catalogue

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.anyio

STREAMS = 1000
REGIONS = ("scaleway-par-1", "scaleway-par-2", "ovh-gra-1", "atnorth-sto-1")
PROMPT = "Tell me where you are"
NEEDED_FILES = 3 * STREAMS + 200  # here: the clients and the model servers; in the gateway two a stream


@pytest.fixture
def many_files() -> Iterator[None]:
    """Raise the limit of open files as far as it goes; the gateway's process inherits it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < NEEDED_FILES:
        pytest.skip(f"needs {NEEDED_FILES} open files, the hard limit is {hard}")
    wanted = NEEDED_FILES if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def model_ports() -> Iterator[dict[str, int]]:
    """Run one embedded model server per region."""
    catalogue = load_catalogue()
    with contextlib.ExitStack() as stack:
        ports = {}
        listeners = []
        for code in REGIONS:
            listener = stack.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            listener.listen(2048)
            ports[code] = listener.getsockname()[1]
            listeners.append(listener)
        servers = ModelServers({port: catalogue[code] for code, port in ports.items()})
        with running(servers, listeners):
            yield ports


@contextlib.contextmanager
def _served_by_a_process(ports: dict[str, int], folder: Path) -> Iterator[int]:
    settings = folder / "vetted.toml"
    settings.write_text(
        "\n".join(f'[regions.{code}]\nbase_url = "http://127.0.0.1:{port}/v1"' for code, port in ports.items())
    )
    port = unused_port()
    # Neither settings of the caller's nor a tracer: the process runs as an operator's would.
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("VETTED_", "COVERAGE_"))}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "vetted_mw", "serve", "--config", str(settings), "--port", str(port)],
            stdout=log,
            stderr=log,
            env=environ,
            cwd=folder,
        )
    try:
        _await_answer(process, f"http://127.0.0.1:{port}/healthz")
        yield port
    finally:
        process.terminate()
        process.wait(timeout=LIMIT)


def _await_answer(process: subprocess.Popen[bytes], url: str) -> None:
    give_up = time.monotonic() + LIMIT
    while True:
        assert process.poll() is None
        assert time.monotonic() < give_up
        with contextlib.suppress(urllib.error.URLError), urllib.request.urlopen(url):  # noqa: S310 (loopback)
            return
        time.sleep(0.05)


def _request(number: int) -> bytes:
    """Every other request names its region; the rest take the default, whose first region so carries most."""
    body: dict[str, Any] = {"model": DEMO_MODEL, "messages": [{"role": "user", "content": PROMPT}], "stream": True}
    if number % 2:
        body["vetted"] = {"region": REGIONS[number // 2 % len(REGIONS)]}
    data = json.dumps(body).encode()
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\n"
        b"connection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(data), data)
    )


def _region(number: int) -> str:
    return REGIONS[number // 2 % len(REGIONS)] if number % 2 else REGIONS[0]


async def _streamed(port: int, number: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(_request(number))
    answer = await reader.read()
    writer.close()
    return answer


def _frames(answer: bytes) -> list[bytes]:
    """Undo chunked transfer coding, whose end must be there, and return the data of each frame."""
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert rest.endswith(b"0\r\n\r\n")
    body = bytearray()
    while (size := int((line := rest.partition(b"\r\n"))[0], 16)) > 0:
        body += line[2][:size]
        rest = line[2][size + 2 :]
    frames = bytes(body).split(b"\n\n")
    assert frames.pop() == b""
    return [frame.removeprefix(b"data: ") for frame in frames]


def _expected_text(region: str) -> str:
    place = load_catalogue()[region]
    return (
        f"Hello from {place.location}. This answer was made by the embedded server of {region}, "
        f"in grid zone {place.zone}, for a prompt of {len(PROMPT.split())} words."
    )


@pytest.mark.usefixtures("many_files")
async def test_a_thousand_streams_at_once_all_come_whole(model_ports: dict[str, int], tmp_path: Path) -> None:
    """Every stream's text is what its region says, word by word, and ends with the members and `[DONE]`."""
    with _served_by_a_process(model_ports, tmp_path) as port:
        started = time.perf_counter()
        answers = await asyncio.gather(*(_streamed(port, number) for number in range(STREAMS)))
        seconds = time.perf_counter() - started
    print(f"\n{STREAMS} streams at once: {seconds:.1f} s")  # noqa: T201 (-s shows it)
    for number, answer in enumerate(answers):
        region = _region(number)
        *chunks, last, done = _frames(answer)
        assert done == b"[DONE]"
        finish = json.loads(last)
        assert finish["choices"][0]["finish_reason"] == "stop"
        assert finish["routing_trace"]["region"] == finish["receipt"]["region"] == region
        assert [one["outcome"] for one in finish["routing_trace"]["attempts"]] == ["success"]
        words = [json.loads(chunk)["choices"][0]["delta"]["content"] for chunk in chunks]
        assert "".join(words) == _expected_text(region)
        assert finish["receipt"]["completion_tokens"] == len(words) - 1  # the role frame apart
