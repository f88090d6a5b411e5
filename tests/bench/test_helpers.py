"""Mock upstream and load, compiled and in Python: the same words, the same figures, and no fault of an answer missed."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec
import pytest

from bench.helpers import Helpers, built
from bench.processes import unused_port
from bench.rounds import Seen, Workload

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PYTHON = Helpers(
    upstream=(sys.executable, "-m", "bench.slow.upstream"), load=(sys.executable, "-m", "bench.slow.load"), by="Python"
)
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module", params=["compiled", "Python"])
def helpers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Helpers:
    if request.param == "Python":
        return PYTHON
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler here")
    return built(tmp_path_factory.mktemp("native"))


@pytest.fixture(scope="module")
def upstream(helpers: Helpers) -> Iterator[int]:
    port = unused_port()
    with subprocess.Popen([*helpers.upstream, str(port)]) as process:
        until = time.monotonic() + 20
        while not answers(port) and time.monotonic() < until:
            time.sleep(0.02)
        yield port
        process.kill()


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def sent(helpers: Helpers, workload: Workload, port: int, folder: Path) -> Seen:
    request = folder / "request"
    request.write_bytes(workload.request(port))
    wishes = (workload.connections, workload.seconds, workload.rate, workload.ramp)
    words = (port, request, *wishes, workload.chunks, workload.pace_ms)
    finished = subprocess.run([*helpers.load, *map(str, words)], check=True, capture_output=True, timeout=60)
    return msgspec.json.decode(finished.stdout, type=Seen)


def test_both_compile_without_a_warning_and_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler here")
    first = built(tmp_path)
    made = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}

    assert capfd.readouterr().err == ""
    assert built(tmp_path) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == made


def test_json_is_asked_for_and_answered_by_each_connection(helpers: Helpers, upstream: int, tmp_path: Path) -> None:
    seen = sent(helpers, Workload(connections=3, seconds=0), upstream, tmp_path)

    assert (seen.requests, seen.errors, seen.error) == (3, 0, "")
    assert seen.latency is not None
    assert seen.latency.p50 > 0


def test_a_large_prompt_goes_through(helpers: Helpers, upstream: int, tmp_path: Path) -> None:
    seen = sent(helpers, Workload(prompt_bytes=400_000, connections=2, seconds=0), upstream, tmp_path)

    assert (seen.requests, seen.errors) == (2, 0)


def test_a_stream_is_paced_and_every_chunk_of_it_counted(helpers: Helpers, upstream: int, tmp_path: Path) -> None:
    seen = sent(helpers, Workload(chunks=5, pace_ms=20, connections=2, seconds=0), upstream, tmp_path)

    assert (seen.requests, seen.chunks, seen.lost, seen.errors) == (2, 10, 0, 0)
    assert seen.lag is not None
    assert seen.lag.p50 > -20_000  # it was not sent at once: that would be 80 ms too early


def test_a_burst_is_whole(helpers: Helpers, upstream: int, tmp_path: Path) -> None:
    seen = sent(helpers, Workload(chunks=200, connections=2, seconds=0), upstream, tmp_path)

    assert (seen.requests, seen.chunks, seen.errors) == (2, 400, 0)


def test_an_open_loop_keeps_its_rate(helpers: Helpers, upstream: int, tmp_path: Path) -> None:
    seen = sent(helpers, Workload(connections=4, seconds=0.5, rate=20), upstream, tmp_path)

    assert (seen.requests, seen.errors) == (10, 0)


@pytest.mark.parametrize(
    ("path", "answer"), [("/health", {}), ("/v1/models", {"data": [{"id": "bench", "object": "model"}]})]
)
def test_the_mock_is_well_and_lists_its_model(helpers: Helpers, upstream: int, path: str, answer: object) -> None:
    del helpers
    with socket.create_connection(("127.0.0.1", upstream)) as caller:
        caller.sendall(f"GET {path} HTTP/1.1\r\nhost: mock\r\n\r\n".encode())
        status, _, body = caller.recv(4096).partition(b"\r\n\r\n")
    assert status.startswith(b"HTTP/1.1 200")
    told = json.loads(body)
    told.pop("object", None)
    assert told == answer


def event(number: int) -> bytes:
    return framed(b'data: {"choices":[{"delta":{"content":"@%d 1 "}}]}\n\n' % number)


def framed(text: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(text), text)


DONE, END = framed(b"data: [DONE]\n\n"), b"0\r\n\r\n"
FAULTS = {
    "a status that is not 200": b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n",
    "a stream with too few chunks": HEAD + event(0) + DONE + END,
    "a stream without [DONE]": HEAD + event(0) + event(1) + END,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_load_names_what_is_wrong_with_an_answer(helpers: Helpers, fault: str, tmp_path: Path) -> None:
    with answering(FAULTS[fault]) as port:
        seen = sent(helpers, Workload(chunks=2, connections=1, seconds=0), port, tmp_path)

    assert (seen.requests, seen.errors, seen.error) == (0, 1, fault)


def test_the_load_tells_of_a_stream_that_is_cut(helpers: Helpers, tmp_path: Path) -> None:
    with answering(HEAD + event(0)) as port:
        seen = sent(helpers, Workload(chunks=2, connections=1, seconds=0), port, tmp_path)

    assert (seen.requests, seen.errors) == (0, 1)


def test_the_load_sees_chunks_that_changed_places(helpers: Helpers, tmp_path: Path) -> None:
    with answering(HEAD + event(1) + event(0) + event(1) + DONE + END) as port:
        seen = sent(helpers, Workload(chunks=2, connections=1, seconds=0), port, tmp_path)

    assert seen.lost == 2


def test_frames_may_be_cut_anywhere(helpers: Helpers, tmp_path: Path) -> None:
    with answering(HEAD + event(0) + event(1) + DONE + END, piece=7) as port:
        seen = sent(helpers, Workload(chunks=2, connections=1, seconds=0), port, tmp_path)

    assert (seen.requests, seen.chunks, seen.errors) == (1, 2, 0)


@contextmanager
def answering(answer: bytes, *, piece: int = 1 << 20) -> Iterator[int]:
    """Answer one request with these bytes, so many at once, and close."""

    def serve() -> None:
        caller, _address = listener.accept()
        with caller:
            caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            received = b""
            while b"include_usage" not in received:
                received += caller.recv(65_536)
            for at in range(0, len(answer), piece):
                caller.sendall(answer[at : at + piece])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(timeout=20)


def test_a_request_is_about_as_long_as_its_prompt_and_its_wishes_stand_in_its_text() -> None:
    for prompt in (1_000, 32_000, 400_000):
        body = Workload(prompt_bytes=prompt, chunks=200, pace_ms=10).request(80).split(b"\r\n\r\n", 1)[1]
        content = json.loads(body)
        assert prompt <= len(body) < prompt * 1.1 + 400
        assert content["messages"][-1]["content"].endswith(" [chunks=200 pace_ms=10]")
