"""Every fenced block of README and docs is run, parsed or held against the real thing; one that nobody runs is a failure."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import pytest
from asgi_lifespan import LifespanManager

from receipts.keys import private_pem
from support import served, unused_port
from vetted_mw import Gateway, VettedProxy, load_configuration
from vetted_mw.demo.grid_service import TOKEN
from vetted_mw.demo.model_server import DEMO_MODEL
from vetted_mw.demo.stage import Stage, stage
from vetted_mw.grid.sources.file import parse_readings
from vetted_mw.receipts.receipt import Receipt
from vetted_mw.routing.trace import Trace
from vetted_mw.testing import asgi_exchange

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "CONTRIBUTING.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
KEYS = {"SCALEWAY_API_KEY": "not-a-real-key", "ENTSOE_TOKEN": TOKEN, "GRID_KEY": "not-a-real-key"}
DEMO_URL = "http://127.0.0.1:8080"
RUN_WHOLE = {"docs/audit.md", "docs/observability.md", "docs/signing.md"}
"""Pages whose blocks build on one another: a test of their own runs each from top to bottom."""


@dataclass(frozen=True)
class Snippet:
    """One fenced block."""

    page: str
    number: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.number}:{self.language}"


def _snippets() -> list[Snippet]:
    return [
        Snippet(page, number, language, text)
        for page in PAGES
        if page not in RUN_WHOLE
        for number, (language, text) in enumerate(FENCE.findall((ROOT / page).read_text(encoding="utf-8")), start=1)
    ]


SNIPPETS = _snippets()


def _of(language: str, *, holds: str = "", lacks: str = "\0") -> list[Snippet]:
    return [one for one in SNIPPETS if one.language == language and holds in one.text and lacks not in one.text]


def _first(language: str, holds: str) -> str:
    return _of(language, holds=holds)[0].text


@pytest.fixture(scope="module")
def place() -> Iterator[Stage]:
    with stage() as made:
        yield made


@pytest.fixture(scope="module")
def gateway_url(place: Stage) -> Iterator[str]:
    with served(VettedProxy(Gateway(load_configuration(place.settings, environ={})))) as url:
        yield url


@pytest.fixture
def readme_folder(tmp_path: Path) -> Path:
    """Return a folder with the README's own settings."""
    (tmp_path / "vetted.toml").write_text(_first("toml", "our-site-1"), encoding="utf-8")
    return tmp_path


@pytest.fixture
def readme_environ(place: Stage) -> dict[str, str]:
    """Return an environment with the README's keys, in which its grid services are the demo's: nothing leaves here."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("VETTED_")}
    services = place.grid.base_urls(place.grid_origin)
    prefix = "VETTED_SIGNALS__SOURCES__"
    return environ | KEYS | {f"{prefix}{name.upper()}__BASE_URL": services[name] for name in ("entsoe", "landsnet")}


def test_every_block_is_of_a_kind_that_some_test_here_runs() -> None:
    """A block in a language that nothing below runs would be a snippet nobody checks."""
    assert {one.language for one in SNIPPETS} <= {"toml", "json", "python", "sh"}
    assert {"toml", "json", "python", "sh"} <= {one.language for one in SNIPPETS if one.page == "README.md"}


@pytest.mark.parametrize("snippet", _of("toml", lacks="[[reading]]"), ids=str)
def test_a_settings_block_is_a_configuration_the_gateway_takes(snippet: Snippet, tmp_path: Path) -> None:
    """Pasted into vetted.toml, a block starts a gateway."""
    file = tmp_path / "vetted.toml"
    file.write_text(snippet.text, encoding="utf-8")
    (tmp_path / "signing-key.pem").touch(0o600)
    (tmp_path / "signing-key.pem").write_text(private_pem())
    configuration = load_configuration(file, environ=KEYS)
    has_sources = configuration.signals.services or configuration.signals.http_json
    is_evidence = configuration.signing.key or configuration.ledger.path
    assert configuration.upstreams or has_sources or configuration.signals.chains or is_evidence


@pytest.mark.parametrize("snippet", _of("toml", holds="[[reading]]"), ids=str)
def test_a_readings_block_is_a_file_the_source_takes(snippet: Snippet) -> None:
    """Pasted into signals.toml, a block gives signals."""
    assert parse_readings(snippet.text.encode(), datetime.now(UTC), max_age_minutes=180)


@pytest.mark.parametrize("snippet", _of("json"), ids=str)
def test_a_json_block_shows_only_members_that_exist(snippet: Snippet) -> None:
    """An answer shown in the docs has no member that real answers lack."""
    shown = json.loads(snippet.text)
    assert set(shown) <= {"choices", "receipt", "routing_trace"}
    assert set(shown["receipt"]) <= set(Receipt.__struct_fields__)
    assert set(shown["routing_trace"]) <= set(Trace.__struct_fields__)


@pytest.mark.anyio
@pytest.mark.parametrize("snippet", _of("python", holds="\napp = "), ids=str)
async def test_an_app_block_serves_chat_completions(
    snippet: Snippet, place: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Pasted as it stands, an app answers with receipt and trace."""
    monkeypatch.setenv("VETTED_CONFIG", str(place.settings))
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / f"pasted_{snippet.number}.py").write_text(snippet.text, encoding="utf-8")
    app = importlib.import_module(f"pasted_{snippet.number}").app
    async with LifespanManager(app) as manager:
        exchange = await asgi_exchange(
            manager.app, json={"model": DEMO_MODEL, "messages": [{"role": "user", "content": "Hi"}]}
        )
    told = exchange.json()
    assert exchange.status == 200
    assert told["receipt"]["issuer"] == "demo"
    assert told["routing_trace"]["region"] == told["receipt"]["region"]


@pytest.mark.anyio
@pytest.mark.parametrize("snippet", _of("python", holds="client = OpenAI("), ids=str)
async def test_a_client_block_runs_against_the_demo(snippet: Snippet, gateway_url: str) -> None:
    """Pasted beside a running demo, a client block prints what it promises."""

    def run() -> str:
        printed = io.StringIO()
        code = snippet.text.replace(DEMO_URL, gateway_url)
        names: dict[str, Any] = {"__name__": "snippet"}
        with contextlib.redirect_stdout(printed):
            exec(compile(code, str(snippet), "exec"), names)  # noqa: S102 (the point of this test)
        names["client"].close()
        return printed.getvalue()

    assert re.fullmatch(r"atnorth-isl-1 [0-9.e-]+ g CO2e\n", await anyio.to_thread.run_sync(run))


@pytest.mark.anyio
@pytest.mark.parametrize("snippet", _of("python", holds="async def readings("), ids=str)
async def test_a_source_block_gives_the_gateway_its_signals(snippet: Snippet) -> None:
    """Pasted as it stands, a source of one's own is on the board when the gateway is open."""
    names: dict[str, Any] = {"__name__": "snippet"}
    exec(compile(snippet.text, str(snippet), "exec"), names)  # noqa: S102 (the point of this test)
    own = next(value() for value in names.values() if isinstance(value, type) and hasattr(value, "readings"))
    async with Gateway(load_configuration(environ={}), signals=[own]) as gateway:
        reading = gateway.board.best("FR", gateway.now())
    assert reading is not None
    assert (reading.signal.gco2_per_kwh, reading.live_eligible) == (21.9, True)


def _commands(kind: str) -> list[tuple[Snippet, str]]:
    """Return the commands of all shell blocks that start with `kind`, continued lines joined, comments dropped."""
    return [(one, command) for one in _of("sh") for command in _split(one.text) if command.startswith(kind)]


def _split(text: str) -> list[str]:
    joined = text.replace("\\\n", " ")
    return [line.split("  #")[0].strip() for line in joined.splitlines() if line.strip() and not line.startswith("#")]


def test_every_command_of_every_shell_block_is_run_below() -> None:
    """A command that no test here runs would be a promise nobody keeps."""
    run = (
        "curl ",
        "vetted-mw check",
        "vetted-mw regions",
        "vetted-mw signals",
        "vetted-mw explain",
        "vetted-mw serve",
        "vetted-mw keys",
        "vetted-mw receipts",  # in the tests of the pages that name it
        "vetted-mw methodology",  # the same
        "scripts/",
        "sqlite3",  # the same
    )
    assert [command for one in _of("sh") for command in _split(one.text) if not command.startswith(run)] == []


@pytest.mark.parametrize(
    ("snippet", "command"),
    [pair for pair in _commands("curl ") if " > " not in pair[1]],  # those into files: in the test of their section
    ids=str,
)
def test_a_curl_command_gets_an_answer_with_both_members(snippet: Snippet, command: str, gateway_url: str) -> None:
    """Pasted beside a running demo, a curl command gets a routed answer."""
    if shutil.which("curl") is None:
        assert not os.environ.get("CI"), "CI must bring curl"
        pytest.skip("curl is not installed")
    arguments = shlex.split(command.replace(DEMO_URL, gateway_url))
    done = subprocess.run([*arguments, "--noproxy", "*"], capture_output=True, check=True, timeout=60)
    told = json.loads(done.stdout)
    assert told["receipt"]["region"] == told["routing_trace"]["region"], snippet


@pytest.mark.parametrize(
    ("snippet", "command"),
    [pair for kind in ("check", "regions", "signals", "explain") for pair in _commands(f"vetted-mw {kind}")],
    ids=str,
)
def test_a_command_line_works_on_the_readmes_own_settings(
    snippet: Snippet, command: str, readme_folder: Path, readme_environ: dict[str, str]
) -> None:
    """Each command succeeds in a folder that holds the README's settings."""
    arguments = [sys.executable, "-m", "vetted_mw", *shlex.split(command)[1:]]
    if "regions" in command:
        arguments.append("--no-probe")  # the README's upstreams are not on this machine
    done = subprocess.run(
        arguments, cwd=readme_folder, env=readme_environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, (snippet, done.stderr)
    assert ("entsoe_derived_live" if "signals" in command else "our-site-1") in done.stdout


@pytest.mark.parametrize(("snippet", "command"), _commands("vetted-mw keys"), ids=str)
def test_a_keys_command_works_in_an_empty_folder(snippet: Snippet, command: str, tmp_path: Path) -> None:
    """Each command says what it made or found."""
    arguments = [sys.executable, "-m", "vetted_mw", *shlex.split(command)[1:]]
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, (snippet, done.stderr)
    assert "kid" in done.stdout


@pytest.mark.parametrize(("snippet", "command"), _commands("vetted-mw serve"), ids=str)
def test_the_serve_command_starts_on_the_readmes_own_settings(
    snippet: Snippet, command: str, readme_folder: Path, readme_environ: dict[str, str]
) -> None:
    """`serve` says where each region's requests go, and stops when told to."""
    arguments = [sys.executable, "-m", "vetted_mw", *shlex.split(command)[1:], "--port", str(unused_port())]
    server = subprocess.Popen(arguments, cwd=readme_folder, env=readme_environ, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    told = ""
    try:
        while "default order" not in told:
            line = server.stderr.readline()
            assert line, (snippet, told)
            told += line
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(timeout=60)
        server.stderr.close()
    assert "our-site-1" in told


def test_every_script_the_docs_name_is_there_and_executable() -> None:
    """A script named in the docs exists and can be run."""
    text = "".join((ROOT / page).read_text(encoding="utf-8") for page in PAGES)
    named = set(re.findall(r"scripts/(\w+)", text))
    assert {"demo", "test"} <= named
    assert [name for name in sorted(named) if not os.access(ROOT / "scripts" / name, os.X_OK)] == []


def test_every_relative_link_of_the_docs_leads_somewhere() -> None:
    """A link inside the repository has a target."""
    broken = [
        (page, target)
        for page in PAGES
        for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text(encoding="utf-8"))
        if not ((ROOT / page).parent / target).exists()
    ]
    assert broken == []


def test_the_demo_script_runs_its_tour_once_with_the_environment_it_made() -> None:
    """`scripts/demo --once` exits 0 and prints receipts issued by the demo."""
    if not (ROOT / ".demo" / ".made").exists():
        assert not os.environ.get("CI"), "CI runs scripts/demo before the tests"
        pytest.skip("scripts/demo has made no environment yet; `vetted-mw demo --once` is tested in tests/demo")
    done = subprocess.run(
        ["scripts/demo", "--once"], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "issuer" in done.stdout
    assert "pinned_region_unavailable" in done.stdout
