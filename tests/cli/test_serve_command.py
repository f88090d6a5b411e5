"""`vetted-mw serve`: a process that starts, answers, says what is wrong in one line, and stops when told to."""

from __future__ import annotations

import os
import resource
import signal
import socket
import threading
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import httpx
import pytest
import uvicorn
import uvloop
from uvicorn.importer import import_from_string

from cli.commands import LIMIT_SECONDS, Running, await_answer, finished, run, started
from support import HELLO, unused_port
from vetted_mw.cli.forwarded import ServerConfig
from vetted_mw.cli.heads import BoundedHeads
from vetted_mw.cli.serve import _raise_descriptor_limit, run_server
from vetted_mw.testing import FakeAnswer, FakeUpstream, chat_frames

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.anyio

PARIS = '[regions.scaleway-par-1]\nbase_url = "{url}"\n'
NOWHERE = "http://127.0.0.1:9/v1"
BODY: dict[str, Any] = {"model": "m", "messages": HELLO}


def settings(folder: Path, url: str = NOWHERE, more: str = "", *, name: str = "vetted.toml") -> None:
    (folder / name).write_text(PARIS.format(url=url) + more)


def origin(serving: Running) -> str:
    """Return where a started gateway says it listens, once it does."""
    url = serving.line_with("serving ").rpartition(" on ")[2]
    assert await_answer(f"{url}/healthz").status_code == 200
    return url


async def test_it_starts_says_where_and_answers(tmp_path: Path) -> None:
    """The process names each region's upstream, the order and its own address, and routes a completion."""
    async with FakeUpstream(text="Bonjour") as paris:
        settings(tmp_path, paris.base_url)
        with started(tmp_path, "serve", "--port", 0) as serving:
            url = await anyio.to_thread.run_sync(origin, serving)
            async with httpx.AsyncClient(trust_env=False, timeout=LIMIT_SECONDS) as client:
                answer = await client.post(f"{url}/v1/chat/completions", json=BODY)
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"] == "Bonjour"
    assert answer.json()["routing_trace"]["region"] == "scaleway-par-1"
    assert f"region scaleway-par-1 (Paris, FR) -> {paris.base_url}" in serving.lines
    assert serving.line_with("default order: scaleway-par-1")
    assert "/v1/chat/completions" in serving.line_with("serving ")


def test_the_server_is_the_fast_one_and_logs_no_request_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP is read by httptools, with bounds on heads, the loop is uvloop, and idle connections outlive a balancer's."""
    made: list[uvicorn.Config] = []

    class Recorded:
        started = True

        def __init__(self, config: uvicorn.Config) -> None:
            made.append(config)

        def run(self) -> None:
            """End at once."""

    monkeypatch.setattr(uvicorn, "Server", Recorded)
    run_server(host="127.0.0.1", port=0, workers=1)
    (config,) = made
    assert import_from_string(config.http) is BoundedHeads
    assert config.get_loop_factory() is uvloop.new_event_loop
    assert not config.access_log
    assert config.timeout_keep_alive > 60
    assert isinstance(config, ServerConfig)
    assert config.proxy_headers
    assert config.interface == "asgi3"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_in_order_when_told_to(number: int, tmp_path: Path) -> None:
    """SIGTERM and Ctrl-C alike end it with exit code 0 and no traceback."""
    settings(tmp_path)
    with started(tmp_path, "serve", "--port", 0) as serving:
        origin(serving)
        assert serving.stopped_by(number) == 0
    assert [line for line in serving.lines if "Traceback" in line] == []


async def test_a_stream_in_flight_is_finished_before_it_stops(tmp_path: Path) -> None:
    """Told to stop in the middle of an answer, it drains: the caller gets the rest, then the process ends."""
    first, *rest = chat_frames(words=("one", "two"))
    async with FakeUpstream() as paris:
        paris.then(FakeAnswer.stream([first, rest[0], 0.5, *rest[1:]]))
        settings(tmp_path, paris.base_url)
        with started(tmp_path, "serve", "--port", 0) as serving:
            url = await anyio.to_thread.run_sync(origin, serving)
            lines: list[str] = []
            async with (
                httpx.AsyncClient(trust_env=False, timeout=LIMIT_SECONDS) as client,
                client.stream("POST", f"{url}/v1/chat/completions", json=BODY | {"stream": True}) as answer,
            ):
                async for line in answer.aiter_lines():
                    if not lines:
                        serving.process.send_signal(signal.SIGTERM)
                    lines.append(line)
            assert "data: [DONE]" in lines
            code = await anyio.to_thread.run_sync(lambda: serving.process.wait(timeout=LIMIT_SECONDS))
    assert code == 0


def test_workers_find_the_file_that_was_named(tmp_path: Path) -> None:
    """Each worker is a process of its own and serves the settings of --config, relative to where it was started."""
    settings(tmp_path, more='[receipts]\nissuer = "x"\n', name="named.toml")
    with started(tmp_path, "serve", "--config", "named.toml", "--port", 0, "--workers", 2) as serving:
        url = origin(serving)
        regions = await_answer(f"{url}/v1/regions").json()["data"]
        assert [row["code"] for row in regions if row["configured"]] == ["scaleway-par-1"]
        assert serving.stopped_by(signal.SIGTERM) == 0


def test_settings_of_the_environment_alone_serve(tmp_path: Path) -> None:
    """No file is needed where the environment names an upstream."""
    environ = {"VETTED_REGIONS__SCALEWAY_PAR_1__BASE_URL": NOWHERE, "VETTED_SERVER__PORT": "0"}
    with started(tmp_path, "serve", environ=environ) as serving:
        regions = await_answer(f"{origin(serving)}/v1/regions").json()["data"]
        assert serving.stopped_by(signal.SIGTERM) == 0
    assert [row["code"] for row in regions if row["configured"]] == ["scaleway-par-1"]


def test_the_command_line_wins_over_the_settings(tmp_path: Path) -> None:
    """--host and --port are the nearest hand."""
    port = unused_port()
    settings(tmp_path, more='[server]\nhost = "0.0.0.0"\nport = 1\n')
    with started(tmp_path, "serve", "--host", "localhost", "--port", port) as serving:
        assert origin(serving) == f"http://localhost:{port}"


# ---- what keeps it from starting


@pytest.mark.parametrize("more", ["", '[server]\nhost = "0.0.0.0"\n'])
def test_it_refuses_an_open_door(more: str, tmp_path: Path) -> None:
    """Reachable from elsewhere without callers: refused, with the three ways out."""
    settings(tmp_path, more=more)
    ran = finished(tmp_path, "serve", "--port", 0, *(() if more else ("--host", "0.0.0.0")))
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("vetted-mw: server.host: ")
    assert [way for way in ("[callers]", "127.0.0.1", "--open") if way not in ran.err] == []


def test_the_operators_word_or_callers_open_the_door(tmp_path: Path) -> None:
    """With --open, or with callers, it binds every address; without a caller's key nobody gets in then."""
    settings(tmp_path)
    with started(tmp_path, "serve", "--host", "0.0.0.0", "--port", 0, "--open") as serving:
        url = serving.line_with("serving ").rpartition(" on ")[2].replace("0.0.0.0", "127.0.0.1")
        assert await_answer(f"{url}/v1/regions").status_code == 200
    settings(tmp_path, more='[callers.team]\nkey = { env = "TEAM_KEY" }\n')
    with started(tmp_path, "serve", "--host", "0.0.0.0", "--port", 0, environ={"TEAM_KEY": "key"}) as serving:
        url = serving.line_with("serving ").rpartition(" on ")[2].replace("0.0.0.0", "127.0.0.1")
        assert await_answer(f"{url}/v1/regions").status_code == 401


def test_it_refuses_to_start_without_an_upstream(tmp_path: Path) -> None:
    """Nothing configured: what is missing, and the demo as a way to look around."""
    ran = finished(tmp_path, "serve")
    assert ran.code == 2
    assert "no settings file was found" in ran.err
    assert "vetted-mw demo" in ran.err
    assert "Traceback" not in ran.err


def test_it_refuses_a_chain_that_names_no_source(tmp_path: Path) -> None:
    """What only the gateway can find wrong is one line too, naming the key."""
    settings(tmp_path, more='[signals.chains]\nFR = ["flie"]\n')
    ran = finished(tmp_path, "serve", "--port", 0)
    assert ran.code == 2
    assert ran.err.startswith("vetted-mw: signals.chains.FR: ")
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.1"])
def test_an_address_that_cannot_be_bound_is_told_before_anything_starts(host: str, tmp_path: Path) -> None:
    """A taken port, an address of another machine: one line that names both, and no traceback."""
    settings(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ran = finished(tmp_path, "serve", "--open", "--host", host, "--port", port)
    assert (ran.code, ran.out) == (2, "")
    (line,) = ran.err.splitlines()
    assert f"port {port} of {host} cannot be bound" in line


@pytest.mark.parametrize("command", ["serve", "demo"])
def test_without_the_server_extra_it_says_what_to_install(command: str, tmp_path: Path) -> None:
    """uvicorn is an extra: every other command works without it, and these two name the extra."""
    settings(tmp_path)
    # Found nowhere, as if it had never been installed.
    hidden = (
        "import importlib.util as u, sys; found = u.find_spec; "
        "u.find_spec = lambda name, *rest: None if name == 'uvicorn' else found(name, *rest); "
        "sys.modules['uvicorn'] = None; from vetted_mw.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    ran = finished(tmp_path, command, python=("-c", hidden))
    assert (ran.code, ran.out) == (2, "")
    assert "pip install '.[server]' in the clone" in ran.err
    assert finished(tmp_path, "check", python=("-c", hidden)).code == 0


# ---- the same inside this process


@pytest.fixture
def calm(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put back what `serve` sets for its whole process."""
    monkeypatch.setenv("VETTED_CONFIG", "")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    handler, limits = signal.getsignal(signal.SIGTERM), resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    signal.signal(signal.SIGTERM, handler)
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_it_raises_the_limit_of_open_files_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], calm: None
) -> None:
    """The soft limit becomes the hard one, so that connections do not run out before the caps do."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    soft = 256
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    settings(tmp_path)
    port = unused_port()

    def stop_when_it_answers() -> None:
        await_answer(f"http://127.0.0.1:{port}/healthz")
        os.kill(os.getpid(), signal.SIGTERM)

    stopping = threading.Thread(target=stop_when_it_answers)
    stopping.start()
    ran = run(capsys, "serve", "--config", tmp_path / "vetted.toml", "--port", port)
    stopping.join()
    assert ran.code == 0
    assert f"raised the limit of open files from {soft} to {hard}" in ran.err
    assert f"on http://127.0.0.1:{port}" in ran.err
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)


def test_a_limit_that_cannot_be_raised_is_no_reason_to_stop(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Some systems name a hard limit they do not grant: it is said, and serving goes on."""

    def refused(_which: int, _limits: tuple[int, int]) -> None:
        raise ValueError

    monkeypatch.setattr(resource, "getrlimit", lambda _which: (256, 512))
    monkeypatch.setattr(resource, "setrlimit", refused)
    _raise_descriptor_limit()
    assert "stays at 256" in capsys.readouterr().err
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (512, 512))
    _raise_descriptor_limit()
    assert capsys.readouterr().err == ""
