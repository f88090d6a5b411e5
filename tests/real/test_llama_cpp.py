"""The gateway as a process of its own, in front of two real llama.cpp servers that are two regions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import httpx
import pytest

from real.processes import GatewayProcess, LlamaServer, eventually
from real.talk import PROMPT, TOKENS, Grid, Told, World, ask

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.real
both = pytest.mark.parametrize("stream", [False, True], ids=["json", "sse"])

CARBON_AWARE = {"routing": "carbon_aware"}


def require_complete(told: Told, *, stream: bool) -> None:
    """A whole answer of the real model, one receipt and one trace that agree with each other and with the headers."""
    assert told.status == 200
    assert len(told.text.split()) == TOKENS
    assert told.receipt is not None
    assert told.receipt["region"] == told.trace["region"] == told.headers["x-vetted-region"]
    assert told.receipt["completion_status"] == "complete"
    assert told.attempts[-1] == (told.trace["region"], "success")
    assert told.receipt["query_id"] == told.headers["x-vetted-receipt-id"]
    assert told.headers["x-vetted-decision-reason"] == told.trace["decision_reason"]
    if stream:
        assert told.frames[-1] == "[DONE]"
        finish = next(json.loads(frame) for frame in told.frames if "routing_trace" in frame)
        assert finish["choices"][0]["finish_reason"] == "length"


@both
def test_a_request_without_options_is_served_by_the_first_region_of_the_order(world: World, stream: bool) -> None:
    """The default order's first server computes the answer, and no other server sees it."""
    with world.computing(scaleway_par_1=1):
        told = ask(world.gateway, stream=stream)
    require_complete(told, stream=stream)
    assert told.decision == ("preferred", "preferred_available", "scaleway-par-1")
    assert told.attempts == [("scaleway-par-1", "success")]


@both
def test_a_pin_is_served_by_that_region_and_no_other(world: World, stream: bool) -> None:
    """A pinned region's own server computes the answer."""
    with world.computing(atnorth_sto_1=1):
        told = ask(world.gateway, stream=stream, vetted={"region": "atnorth-sto-1"})
    require_complete(told, stream=stream)
    assert told.decision == ("pinned", "pinned_region_available", "atnorth-sto-1")


@both
def test_a_pin_to_a_region_whose_server_is_down_is_503_and_nothing_is_sent_elsewhere(
    world: World, stream: bool
) -> None:
    """A pin fails closed: an error that tells clients not to repeat it, one attempt, no completion anywhere."""
    with world.computing():
        told = ask(world.gateway, stream=stream, vetted={"region": "ovh-gra-1"})
    assert told.status == 503
    assert told.headers["x-should-retry"] == "false"
    assert told.error is not None
    assert (told.error["type"], told.error["code"], told.error["param"]) == (
        "region_unavailable",
        "service_unavailable",
        "vetted.region",
    )
    assert told.decision == ("unavailable", "pinned_region_unavailable", None)
    assert told.attempts == [("ovh-gra-1", "connect_error")]


@both
def test_carbon_aware_goes_to_the_lowest_fresh_signal_and_the_receipt_uses_it(world: World, stream: bool) -> None:
    """The zone with the lowest fresh reading serves; decision and receipt name that reading."""
    world.set_grid({"FR": 60.0, "SE_3": 30.0})
    with world.computing(atnorth_sto_1=1):
        told = ask(world.gateway, stream=stream, vetted=CARBON_AWARE)
    require_complete(told, stream=stream)
    assert told.decision == ("live", "lowest_live_intensity", "atnorth-sto-1")
    assert told.trace["operational_signal"]["gco2_per_kwh"] == 30.0
    assert told.trace["operational_signal"]["live_eligible"] is True
    assert told.trace["receipt_signal"] == told.trace["operational_signal"]
    assert told.receipt is not None
    assert told.receipt["grid_intensity_gco2_per_kwh"] == 30.0


@both
def test_carbon_aware_on_stale_signals_serves_the_default_order_and_says_it_is_degraded(
    world: World, stream: bool
) -> None:
    """A reading over its age limit never decides: the default order serves, openly degraded, with an annual receipt."""
    world.set_grid({"FR": 60.0, "SE_3": 30.0}, age_minutes=181)
    with world.computing(scaleway_par_1=1):
        told = ask(world.gateway, stream=stream, vetted=CARBON_AWARE)
    require_complete(told, stream=stream)
    assert told.decision == ("degraded", "degraded_no_operational_live_signal", "scaleway-par-1")
    assert told.trace["operational_signal"] is None
    assert told.trace["receipt_signal"]["temporal_match"] == "annual_fallback"
    assert told.receipt is not None
    assert told.receipt["grid_temporal_match"] == "annual_fallback"


@both
def test_a_value_changed_in_the_signals_file_changes_the_next_decision(world: World, stream: bool) -> None:
    """The file is watched: once another zone is lowest there, the running gateway sends the next request to it."""
    world.set_grid({"FR": 60.0, "SE_3": 30.0})
    with world.computing(atnorth_sto_1=1):
        before = ask(world.gateway, stream=stream, vetted=CARBON_AWARE)
    world.set_grid({"FR": 20.0, "SE_3": 30.0})
    with world.computing(scaleway_par_1=1):
        after = ask(world.gateway, stream=stream, vetted=CARBON_AWARE)
    assert before.decision == ("live", "lowest_live_intensity", "atnorth-sto-1")
    assert after.decision == ("live", "lowest_live_intensity", "scaleway-par-1")
    assert after.trace["operational_signal"]["gco2_per_kwh"] == 20.0


@both
def test_the_receipt_counts_the_tokens_llama_cpp_counted(world: World, stream: bool) -> None:
    """Prompt, cached and completion tokens of the receipt are the server's own, whether or not its cache had some."""
    prompt = [{"role": "user", "content": f"Which power runs in the {'stream' if stream else 'whole'} north?"}]
    with world.computing(scaleway_par_1=2):
        answers = [ask(world.gateway, stream=stream, prompt=prompt) for _ in range(2)]
    for told in answers:
        assert told.usage is not None
        assert told.receipt is not None
        assert (told.receipt["prompt_tokens"], told.receipt["cached_tokens"], told.receipt["completion_tokens"]) == (
            told.usage["prompt_tokens"],
            told.usage["prompt_tokens_details"]["cached_tokens"],
            told.usage["completion_tokens"],
        )
        assert told.receipt["usage_source"] == "upstream"
        assert (told.receipt["model"], told.receipt["upstream_model"]) == ("tiny", "tiny")
    assert answers[1].receipt is not None
    assert answers[1].receipt["cached_tokens"] > 0


@both
def test_llama_cpps_own_complaint_reaches_the_caller_in_openais_envelope(world: World, stream: bool) -> None:
    """A prompt over the context is the caller's own fault: the server's status, its code as a string, no second region."""
    prompt = [{"role": "user", "content": "clean power " * 3000}]
    with world.computing(scaleway_par_1=1):
        told = ask(world.gateway, stream=stream, prompt=prompt)
    assert told.status == 400
    assert told.error is not None
    assert (told.error["code"], told.error["type"]) == ("400", "exceed_context_size_error")
    assert "context" in told.error["message"]
    assert told.attempts == [("scaleway-par-1", "caller_error")]
    assert told.receipt is None


def test_when_the_signals_file_is_gone_decisions_degrade_as_readings_age_out(
    paris: LlamaServer, stockholm: LlamaServer, tmp_path: Path
) -> None:
    """Without its file a gateway keeps the readings it has, until they are too old to decide, and then says so."""
    grid = Grid(tmp_path / "signals.toml")
    grid.write({"FR": 60.0, "SE_3": 30.0})
    servers = {"scaleway-par-1": paris, "atnorth-sto-1": stockholm}
    upstreams = {code: server.base_url for code, server in servers.items()}
    settings = grid.settings(tmp_path / "vetted.toml", upstreams, order=list(servers), max_age_minutes=0.05)
    with GatewayProcess(settings, tmp_path / "gateway.log") as gateway:
        world = World(gateway=gateway, grid=grid, servers=servers)

        def decided_live() -> bool:
            grid.write({"FR": 60.0, "SE_3": 30.0})
            return explained(gateway) == "live"

        eventually("a fresh reading decides", decided_live)
        grid.path.unlink()
        eventually("the readings age out", lambda: explained(gateway) == "degraded")
        with world.computing(scaleway_par_1=2):
            answers = {stream: ask(gateway, stream=stream, vetted=CARBON_AWARE) for stream in (False, True)}
        eventually("the log says that the source failed", lambda: "a signal source failed" in gateway.text())
    for stream, told in answers.items():
        require_complete(told, stream=stream)
        assert told.decision == ("degraded", "degraded_no_operational_live_signal", "scaleway-par-1")
        assert told.trace["operational_signal"] is None
        assert told.trace["receipt_signal"]["temporal_match"] == "annual_fallback"
        north = next(row for row in told.trace["candidates"] if row["region"] == "atnorth-sto-1")
        assert (north["gco2_per_kwh"], north["signal_age_minutes"] > 0) == (30.0, True)


def test_after_kill_9_of_the_first_server_the_second_serves_and_trace_and_receipt_tell_it(
    tiny_model: Path, stockholm: LlamaServer, tmp_path: Path
) -> None:
    """A server killed between two requests costs each next one an attempt, told as such; a pin to it fails closed."""
    grid = Grid(tmp_path / "signals.toml")
    grid.write({"FR": 60.0, "SE_3": 30.0})
    with LlamaServer(tiny_model, tmp_path / "server.log") as paris:
        servers = {"scaleway-par-1": paris, "atnorth-sto-1": stockholm}
        upstreams = {code: server.base_url for code, server in servers.items()}
        settings = grid.settings(tmp_path / "vetted.toml", upstreams, order=list(servers))
        with GatewayProcess(settings, tmp_path / "gateway.log") as gateway:
            world = World(gateway=gateway, grid=grid, servers=servers)
            with world.computing(scaleway_par_1=2):
                before = [ask(gateway, stream=stream) for stream in (False, True)]
            paris.kill()
            with world.computing(atnorth_sto_1=2):
                after = {stream: ask(gateway, stream=stream) for stream in (False, True)}
            with world.computing():
                pinned = [ask(gateway, stream=stream, vetted={"region": "scaleway-par-1"}) for stream in (False, True)]
    assert {told.decision for told in before} == {("preferred", "preferred_available", "scaleway-par-1")}
    for stream, told in after.items():
        require_complete(told, stream=stream)
        assert told.decision == ("failover", "attempt_failed", "atnorth-sto-1")
        assert [region for region, _outcome in told.attempts] == ["scaleway-par-1", "atnorth-sto-1"]
        assert told.attempts[0][1] in {"connect_error", "upstream_cut"}
        assert told.receipt is not None
        assert told.receipt["route_taken"] == "atnorth:sto-1"
    assert [told.status for told in pinned] == [503, 503]
    assert {told.decision for told in pinned} == {("unavailable", "pinned_region_unavailable", None)}


def test_a_caller_that_leaves_a_stream_stops_the_computing(world: World) -> None:
    """When the caller hangs up mid-answer, llama.cpp's own log says that the task was cancelled."""
    paris = world.servers["scaleway-par-1"]
    body = {"model": "tiny", "messages": PROMPT, "max_tokens": 2000, "stream": True}
    cancelled = paris.text().count("cancel task")
    with (
        world.computing(scaleway_par_1=1),
        httpx.stream("POST", f"{world.gateway.base_url}/chat/completions", json=body, trust_env=False) as answer,
    ):
        assert next(answer.iter_lines()).startswith("data: ")
    eventually("the cancel in llama.cpp's log", lambda: paris.text().count("cancel task") > cancelled)


def explained(gateway: GatewayProcess) -> str:
    """Return the mode a carbon-aware request would be decided in; no server is asked."""
    body = {"model": "tiny", "messages": PROMPT, "vetted": CARBON_AWARE}
    told = httpx.post(f"{gateway.base_url}/vetted/explain", json=body, trust_env=False).json()
    mode: str = told["routing_trace"]["decision_mode"]
    return mode
