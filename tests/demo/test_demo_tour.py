"""The demo's stage and tour: what is printed to paste works, and the tour tells whether all of it is as it should be."""

from __future__ import annotations

import shlex
import socket
import sys
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from support import configured, served, unused_port
from vetted_mw import Gateway, VettedProxy, load_configuration
from vetted_mw.demo import DOWN_REGION, run_demo
from vetted_mw.demo.stage import Stage, running, stage
from vetted_mw.demo.tour import await_signals, run_tour, what_to_try

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import Receive, Scope, Send

LIMIT_SECONDS = 60.0


@pytest.fixture(scope="module")
def place() -> Iterator[Stage]:
    with stage() as made:
        yield made


@pytest.fixture(scope="module")
def base_url(place: Stage) -> Iterator[str]:
    with served(VettedProxy(Gateway(load_configuration(place.settings, environ={})))) as origin:
        with httpx.Client(trust_env=False, timeout=LIMIT_SECONDS) as client:
            assert await_signals(client, f"{origin}/v1")
        yield f"{origin}/v1"


def commands(text: str) -> list[list[str]]:
    """Return the curl commands of a text, as a shell would split them."""
    lines = text.replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.strip().startswith("curl ")]


def sent(command: list[str]) -> httpx.Response:
    """Send what a curl command would."""
    url = next(word for word in command if word.startswith("http"))
    body = command[command.index("-d") + 1] if "-d" in command else None
    with httpx.Client(trust_env=False, timeout=LIMIT_SECONDS) as client:
        if body is None:
            return client.post(url) if "POST" in command else client.get(url)
        assert command[command.index("-H") + 1] == "content-type: application/json"
        return client.post(url, content=body, headers={"content-type": "application/json"})


def test_every_command_to_paste_does_what_is_said_above_it(base_url: str, place: Stage) -> None:
    """A default, a pin, a pin to a region that is down, carbon-aware, a stream, the regions, breaking the grid."""
    pasted = commands(what_to_try(base_url, grid_origin=place.grid_origin))
    default, pin, down, carbon_aware, stream, regions, broken, mended = (sent(command) for command in pasted)
    assert default.json()["routing_trace"]["decision_mode"] == "preferred"
    assert pin.json()["routing_trace"]["region"] == "atnorth-isl-1"
    assert (down.status_code, down.json()["error"]["code"]) == (503, "service_unavailable")
    assert carbon_aware.json()["routing_trace"]["decision_mode"] == "live"
    assert stream.text.endswith("data: [DONE]\n\n")
    assert '"receipt"' in stream.text
    assert len(regions.json()["data"]) == 8
    assert {region["signal"]["live_eligible"] for region in regions.json()["data"]} == {True}
    assert set(broken.json()["faults"].values()) == {"503"}
    assert set(mended.json()["faults"].values()) == {"none"}
    assert {answer.json()["receipt"]["issuer"] for answer in (default, pin, carbon_aware)} == {"demo"}


def test_the_sdk_code_to_paste_runs(
    base_url: str, place: Stage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Python at the end is pasted as it stands."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    code = what_to_try(base_url, grid_origin=place.grid_origin).partition(
        "# OpenAI's SDK, in Python (scripts/demo has it: .demo/bin/python)\n"
    )[2]
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 (our own text)
    names["client"].close()
    assert "g CO2e in" in capsys.readouterr().out


def test_the_tour_shows_every_stop_and_finds_all_as_it_should_be(
    base_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Heading, command, status, answer, decision and receipt of each stop, without anything a reader must guess at."""
    assert run_tour(base_url)
    out = capsys.readouterr().out
    headings = [line for line in out.splitlines() if line[:2] in {f"{number}." for number in range(1, 7)}]
    assert headings == [
        *("1. The default order", "2. A pin", "3. A pin to a region that is down", "4. Carbon-aware", "5. Streaming"),
        "6. OpenAI's SDK",
    ]
    assert "None" not in out
    assert "e-0" not in out  # 0.0000772, not 7.72e-05
    assert out.count("HTTP 200") == 4
    assert out.count("HTTP 503") == 1
    issuers = [line.split()[-1] for line in out.splitlines() if "issuer" in line]
    assert issuers == ["demo"] * 4
    assert "pinned_region_unavailable" in out
    assert "not_configured: hetzner-fsn-1, hetzner-hel-1" in out
    assert "All of it as it should be." in out


def test_the_commands_of_the_tour_are_those_to_paste(
    base_url: str, place: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the tour shows itself doing is what the demo offers."""
    run_tour(base_url)
    shown = commands(capsys.readouterr().out)
    assert shown == commands(what_to_try(base_url, grid_origin=place.grid_origin))[: len(shown)]
    assert len(shown) == 5


def test_the_tour_tells_which_stop_is_not_as_it_should_be(
    place: Stage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over a gateway without live signals, carbon-aware cannot be `live`: the tour names those stops and fails."""
    nobody = f"http://127.0.0.1:{unused_port()}"
    sources = {"entsoe": {"base_url": nobody}, "landsnet": {"base_url": nobody}}
    dark = load_configuration(place.settings, environ={}, overrides={"signals": {"sources": sources}})
    monkeypatch.setattr("vetted_mw.demo.tour._SIGNALS_SECONDS", 0.5)
    with served(VettedProxy(Gateway(dark))) as origin:
        assert not run_tour(f"{origin}/v1")
    out = capsys.readouterr().out
    assert "Not as it should be: Carbon-aware, Streaming." in out
    assert "no signal" in out
    assert "has not answered yet" in out


def test_the_tour_survives_a_gateway_that_refuses_everything(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers without receipt and trace, streams that are no streams: told as such, without a traceback."""
    monkeypatch.setattr("vetted_mw.demo.tour._SIGNALS_SECONDS", 0.5)
    refusing = configured({"scaleway-par-1": {"base_url": "http://127.0.0.1:9/v1", "models": ["other"]}})
    with served(VettedProxy(Gateway(refusing))) as origin:
        assert not run_tour(f"{origin}/v1")
    out = capsys.readouterr().out
    assert (out.count("HTTP 400"), out.count("HTTP 503")) == (3, 2)
    assert "model_not_available" in out
    assert "Streaming, OpenAI's SDK." in out


def test_without_openai_the_last_stop_is_left_out(
    base_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK is no dependency of ours: where it is not installed the tour says so and is good all the same."""
    monkeypatch.setitem(sys.modules, "openai", None)
    assert run_tour(base_url)
    assert "not installed" in capsys.readouterr().out


def test_the_region_that_is_down_refuses_connections_and_keeps_its_port(place: Stage) -> None:
    """Its port is taken and nobody listens, so that no other program can come to answer for it."""
    url = load_configuration(place.settings, environ={}).upstreams[DOWN_REGION].base_url
    address = ("127.0.0.1", int(url.rpartition(":")[2].partition("/")[0]))
    with socket.socket() as client, pytest.raises(ConnectionRefusedError):
        client.connect(address)
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(address)


def test_a_stage_leaves_nothing_behind() -> None:
    """Folder, servers and the grid service are gone when it ends."""
    with stage() as made:
        upstreams = load_configuration(made.settings, environ={}).upstreams
        assert httpx.get(f"{made.grid_origin}/faults", trust_env=False).status_code == 200
    assert not made.settings.parent.exists()
    for upstream in upstreams.values():
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{upstream.base_url}/models", trust_env=False)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{made.grid_origin}/faults", trust_env=False)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # uvicorn leaves by SystemExit
def test_a_server_that_cannot_start_is_told_at_once() -> None:
    """An app whose start fails ends the wait: nobody waits for a server that will never answer."""

    async def failing(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "not today"})

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with pytest.raises(RuntimeError, match="did not start"), running(failing, [listener], lifespan="on"):
            pass


def test_the_demo_once_is_the_tour_over_its_own_stage(capsys: pytest.CaptureFixture[str]) -> None:
    """`once` needs nothing from outside and returns 0 when all is as it should be."""
    assert run_demo(port=0, once=True) == 0
    assert "All of it as it should be." in capsys.readouterr().out
