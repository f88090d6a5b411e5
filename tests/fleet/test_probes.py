"""Health probes: a GET and never a completion, over the same pool as the requests."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.wall import LIMIT, Caller, RawUpstream, content, payload, role, told, until
from support import configured
from vetted_mw import Gateway, VettedProxy
from vetted_mw.configuration import Upstream
from vetted_mw.fleet.fleet import Fleet, Health, RegionState
from vetted_mw.fleet.probes import Fetched, Probes, model_names
from vetted_mw.testing import FakeAnswer, FakeUpstream, ManualClock, asgi_exchange

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

pytestmark = pytest.mark.anyio

REGION = "scaleway-par-1"


@contextlib.asynccontextmanager
async def _probing(base_url: str, **table: Any) -> AsyncIterator[Gateway]:
    """A gateway whose own probes come late, so that those a test makes are the ones that count."""
    configuration = configured({REGION: {"base_url": base_url, "health_path": "/health", **table}})
    async with Gateway(configuration, jitter=lambda: 0.999) as gateway:
        yield gateway


def _state(gateway: Gateway) -> RegionState:
    state = gateway.fleet.state(REGION)
    assert state is not None
    return state


class ScriptedFetch:
    """Answers probes by path; writes down what was asked.

    Args:
        answers: path -> (status, body); None cannot be reached.
        round_trip_seconds: what each answer says it took.
    """

    def __init__(self, answers: Mapping[str, tuple[int, bytes] | None], *, round_trip_seconds: float = 0.02) -> None:
        self.answers = dict(answers)
        self.round_trip_seconds = round_trip_seconds
        self.hanging: set[str] = set()
        self.asked: list[tuple[str, str, bool]] = []
        self.contexts: list[int] = []
        self.came = asyncio.Event()

    async def __call__(self, upstream: Upstream, path: str, *, from_origin: bool) -> Fetched | None:
        self.asked.append((upstream.region, path, from_origin))
        self.contexts.append(len(contextvars.copy_context()))
        self.came.set()
        if path in self.hanging:
            await asyncio.get_running_loop().create_future()
        answer = self.answers[path]
        if answer is None:
            return None
        return Fetched(status=answer[0], body=answer[1], round_trip_seconds=self.round_trip_seconds)

    def count(self, path: str) -> int:
        return sum(asked == path for _region, asked, _origin in self.asked)


def _made(fetch: ScriptedFetch, *, interval_seconds: float = 5.0, **settings: Any) -> tuple[Fleet, Probes]:
    upstreams = {"a": Upstream(region="a", base_url="https://model.example/v1", **settings)}
    fleet = Fleet(upstreams, monotonic=ManualClock().monotonic, jitter=lambda: 0.0)
    return fleet, Probes(fleet, upstreams, fetch=fetch, jitter=lambda: 0.0, interval_seconds=interval_seconds)


# ---- what is asked


async def test_an_idle_gateway_sends_no_completion() -> None:
    """Probes and model lists are GETs: with no request from anyone, no POST ever leaves."""
    table = {"models": "discover", "metrics_path": "/metrics"}
    async with FakeUpstream() as upstream, _probing(upstream.base_url, **table) as gateway:
        for _ in range(5):
            await gateway.probe(REGION)
        await until(lambda: len(upstream.others) >= 15)
        assert upstream.requests == []
        assert {(one.method, one.path, one.body) for one in upstream.others} == {
            ("GET", "/health", b""),
            ("GET", "/v1/models", b""),
            ("GET", "/metrics", b""),
        }


async def test_probes_begin_by_themselves_go_on_and_end_with_the_gateway() -> None:
    """Opening waits for no probe; each upstream is asked again and again until the close."""
    fetch = ScriptedFetch({"/health": (200, b"")})
    fleet, probes = _made(fetch, interval_seconds=0.001)
    await probes.open()
    assert fetch.asked == []
    await until(lambda: len(fetch.asked) >= 3)
    await probes.aclose()
    asked = len(fetch.asked)
    state = fleet.state("a")
    assert state is not None
    assert state.health is Health.HEALTHY
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(fetch.asked) == asked
    await probes.aclose()


async def test_probes_run_in_an_empty_context() -> None:
    """What is current where the gateway is opened, a request's span say, is not current in a probe."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("of_the_opener", default="")
    variable.set("mine")
    fetch = ScriptedFetch({"/health": (200, b"")})
    _fleet, probes = _made(fetch)
    await probes.open()
    await asyncio.wait_for(fetch.came.wait(), LIMIT)
    await probes.aclose()
    assert fetch.contexts == [0]


@pytest.mark.parametrize(
    ("settings_", "asked"),
    [
        ({}, [("a", "/health", True)]),
        ({"health_path": "/ready"}, [("a", "/ready", True)]),
        ({"health_path": ""}, []),
        ({"discover": True}, [("a", "/health", True), ("a", "/models", False)]),
        ({"health_path": "", "discover": True}, [("a", "/models", False)]),
        ({"metrics_path": "/metrics"}, [("a", "/health", True), ("a", "/metrics", True)]),
    ],
    ids=["default", "a path of its own", "off", "discover", "discover alone", "metrics"],
)
async def test_what_is_asked_is_what_is_set(settings_: dict[str, Any], asked: list[tuple[str, str, bool]]) -> None:
    """The health path is on the origin, the model list under the base URL; an empty path turns the probe off."""
    fetch = ScriptedFetch(
        {"/health": (200, b""), "/ready": (200, b""), "/models": (200, b'{"data": []}'), "/metrics": (404, b"")}
    )
    fleet, probes = _made(fetch, **settings_)
    await probes.probe("a")
    assert fetch.asked == asked
    state = fleet.state("a")
    assert state is not None
    assert state.health is (
        Health.HEALTHY if any(path in {"/health", "/ready"} for _, path, _ in asked) else Health.UNKNOWN
    )


async def test_without_a_path_and_a_list_nothing_runs() -> None:
    """A region whose probe is off has no task."""
    fetch = ScriptedFetch({})
    _fleet, probes = _made(fetch, health_path="", interval_seconds=0.001)
    await probes.open()
    for _ in range(50):
        await asyncio.sleep(0)
    await probes.aclose()
    assert fetch.asked == []


@pytest.mark.parametrize("slow", ["/metrics", "/models", "/health"])
async def test_a_question_that_is_slow_to_be_answered_delays_no_other(slow: str) -> None:
    """A scrape that hangs leaves the health probes of the same upstream at their pace, and so for each pair."""
    answers: dict[str, tuple[int, bytes] | None] = dict.fromkeys(("/health", "/models", "/metrics"), (200, b""))
    fetch = ScriptedFetch(answers)
    fetch.hanging.add(slow)
    _fleet, probes = _made(fetch, discover=True, metrics_path="/metrics", interval_seconds=0.001)
    await probes.open()
    await until(lambda: all(fetch.count(path) >= 3 for path in answers if path != slow))
    assert fetch.count(slow) == 1
    await probes.aclose()


# ---- over a reload


def _reloaded(fleet: Fleet, fetch: ScriptedFetch, *upstreams: Upstream, jitter: float) -> Probes:
    table = {upstream.region: upstream for upstream in upstreams}
    after = Fleet(table, monotonic=lambda: 0.0, jitter=lambda: jitter, previous=fleet)
    return Probes(after, table, fetch=fetch, jitter=lambda: jitter)


async def test_after_a_reload_what_is_new_is_asked_at_once_and_the_rest_when_its_time_has_come() -> None:
    """A server, a health path or a list that the old file did not have does not wait; the others are not asked anew."""
    fetch = ScriptedFetch(dict.fromkeys(("/health", "/live", "/models"), (200, b"")))
    fleet, probes = _made(fetch)
    await probes.probe("a")
    fetch.asked.clear()
    known = Upstream(region="a", base_url="https://model.example/v1")
    for upstreams, expected in (
        ([known], []),
        ([known, Upstream(region="b", base_url="https://b.example/v1")], [("b", "/health", True)]),
        ([Upstream(region="a", base_url="https://other.example/v1")], [("a", "/health", True)]),
        ([Upstream(region="a", base_url=known.base_url, health_path="/live")], [("a", "/live", True)]),
        ([Upstream(region="a", base_url=known.base_url, discover=True)], [("a", "/models", False)]),
    ):
        after = _reloaded(fleet, fetch, *upstreams, jitter=0.5)
        await after.open()
        for _ in range(20):
            await asyncio.sleep(0)
        assert fetch.asked == expected
        await after.aclose()
        fetch.asked.clear()


async def test_probes_of_many_upstreams_do_not_all_fire_in_one_instant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each waits for a time of its own, after a probe and after a reload."""
    waits: list[float] = []
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        if seconds > 1:  # those of `until` are shorter
            waits.append(seconds)
        await sleep(seconds)

    monkeypatch.setattr("asyncio.sleep", note)
    draws = iter(range(1000))
    upstreams = {code: Upstream(region=code, base_url=f"https://{code}.example/v1") for code in "abcdef"}
    fleet: Fleet | None = None
    for _ in range(2):
        fleet = Fleet(upstreams, monotonic=lambda: 0.0, jitter=lambda: 0.0, previous=fleet)
        fetch = ScriptedFetch({"/health": (200, b"")})
        probes = Probes(fleet, upstreams, fetch=fetch, jitter=lambda: next(draws) / 100)
        await probes.open()
        await until(lambda: len(waits) == len(upstreams))
        assert len(set(waits)) == len(upstreams)
        assert all(0.75 * 5 <= seconds <= 1.25 * 5 for seconds in waits)
        await probes.aclose()
        waits.clear()


@pytest.mark.parametrize("auth", ["region", "none", "passthrough"])
async def test_a_probe_carries_the_regions_own_key_and_nobody_elses(auth: str, tmp_path: Any) -> None:
    """Some servers list their models to who has a key; where the key is the caller's, the probe has none."""
    key = tmp_path / "key"
    key.write_text("sk-region")
    table: dict[str, Any] = {"auth": auth} | ({"api_key": {"file": str(key)}} if auth == "region" else {})
    async with FakeUpstream() as upstream, _probing(upstream.base_url, **table) as gateway:
        await gateway.probe(REGION)
    expected = "Bearer sk-region" if auth == "region" else None
    assert {one.header("authorization") for one in upstream.others} == {expected}
    assert {one.header("accept-encoding") for one in upstream.others} == {"identity"}


# ---- what it means


@pytest.mark.parametrize("status", [200, 204, 301, 401, 403, 404, 405, 429, 500, 501])
async def test_a_server_that_answers_lives_whatever_it_thinks_of_the_path(status: int) -> None:
    """404 and 500 are what some healthy servers say there."""
    fetch = ScriptedFetch({"/health": (status, b"")})
    fleet, probes = _made(fetch)
    for _ in range(3):
        await probes.probe("a")
    state = fleet.state("a")
    assert state is not None
    assert (state.health, state.degraded) == (Health.HEALTHY, False)


@pytest.mark.parametrize("found", [None, (502, b""), (503, b""), (504, b"")], ids=["unreachable", "502", "503", "504"])
async def test_two_probes_that_find_nobody_degrade_the_region(found: tuple[int, bytes] | None) -> None:
    """Unreachable, or a gateway in front that says so: the second time it counts, and a good one mends it."""
    fetch = ScriptedFetch({"/health": found})
    fleet, probes = _made(fetch)
    seen = []
    for answer in (found, found, (200, b"")):
        fetch.answers["/health"] = answer
        await probes.probe("a")
        state = fleet.state("a")
        assert state is not None
        seen.append(state.degraded)
    assert seen == [False, True, False]


async def test_a_failing_probe_takes_the_region_out_of_the_decision_and_a_good_one_brings_it_back() -> None:
    """On real sockets: the server stops, two probes later the region is degraded; it starts, one probe later it serves."""
    async with FakeUpstream() as first, FakeUpstream() as second:
        tables: dict[str, Any] = {
            REGION: {"base_url": first.base_url, "health_path": "/health"},
            "ovh-gra-1": second.base_url,
        }
        async with Gateway(configured(tables), jitter=lambda: 0.999) as gateway:
            app = VettedProxy(gateway)
            await first.stop()
            for _ in range(2):
                await gateway.probe(REGION)
            answer = told(await asgi_exchange(app, json=payload()))
            assert answer.trace["decision_reason"] == "preferred_degraded"
            assert [region for region, _outcome, _status in answer.attempts] == ["ovh-gra-1"]
            await first.start()
            await gateway.probe(REGION)
            assert told(await asgi_exchange(app, json=payload())).attempts == [(REGION, "success", 200)]


async def test_a_full_region_is_not_taken_for_a_dead_one() -> None:
    """With every lease taken a probe still gets through: a region at its cap is saturated, not failing."""
    async with FakeUpstream() as upstream, asyncio.timeout(LIMIT):
        upstream.then(FakeAnswer.stream([role(), content()], ending="stall"))
        async with _probing(upstream.base_url, limits={"max_in_flight": 1}) as gateway:
            caller = Caller(VettedProxy(gateway), payload(stream=True))
            answering = caller.start()
            await caller.content.wait()
            for _ in range(3):
                await gateway.probe(REGION)
            state = _state(gateway)
            assert (state.saturated, state.health, state.degraded) == (True, Health.HEALTHY, False)
            caller.leave()
            await answering


async def test_a_drained_region_is_probed_and_stays_drained() -> None:
    """Draining is the operator's word; a healthy server does not overrule it."""
    async with FakeUpstream() as upstream, _probing(upstream.base_url, drained=True) as gateway:
        await gateway.probe(REGION)
        assert (_state(gateway).health, _state(gateway).degraded) == (Health.DRAINED, True)
        answer = told(await asgi_exchange(VettedProxy(gateway), json=payload()))
    assert (answer.status, answer.errors[0]["code"]) == (503, "no_region_available")
    assert upstream.requests == []


@pytest.mark.parametrize(
    "upstream",
    [
        lambda: RawUpstream(ending="reset"),
        lambda: RawUpstream(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"),
        lambda: RawUpstream(b"not HTTP\r\n\r\n"),
    ],
    ids=["reset", "cut", "no HTTP"],
)
async def test_a_probe_that_breaks_is_a_probe_that_failed(upstream: Any) -> None:
    """Whatever the server does to the probe's connection, nothing is raised and it counts as dead."""
    async with upstream() as broken, _probing(broken.base_url) as gateway:
        for _ in range(2):
            await gateway.probe(REGION)
        assert _state(gateway).health is Health.FAILING


async def test_a_probe_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes the connection and says nothing is dead after the probe's own limit."""
    monkeypatch.setattr("vetted_mw.lifecycle.probing._PROBE_SECONDS", 0.1)
    async with asyncio.timeout(LIMIT), RawUpstream(ending="stall") as silent, _probing(silent.base_url) as gateway:
        for _ in range(2):
            await gateway.probe(REGION)
        assert _state(gateway).health is Health.FAILING
        await silent.left.wait()


async def test_a_health_page_without_end_is_not_read_to_it() -> None:
    """What a probe reads is bounded; the answer counts by its status."""
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    part = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    upstream = RawUpstream(head, *[part] * 2000)
    async with asyncio.timeout(LIMIT), upstream as endless, _probing(endless.base_url) as gateway:
        await gateway.probe(REGION)
        assert _state(gateway).health is Health.HEALTHY
        assert endless.written < 2000 * len(part)


# ---- latency


@pytest.mark.parametrize(
    ("found", "is_sample"),
    [((200, b""), True), ((404, b""), True), ((503, b""), False), (None, False)],
    ids=["200", "404", "503", "unreachable"],
)
async def test_the_round_trip_of_a_health_probe_is_measured_where_it_found_somebody(
    found: tuple[int, bytes] | None, is_sample: bool
) -> None:
    """Eight of them replace the declared latency; a model list or a metrics page is the server's work, not the network."""
    pages: dict[str, tuple[int, bytes] | None] = dict.fromkeys(("/models", "/metrics"), (200, b""))
    fetch = ScriptedFetch({"/health": found} | pages)
    fleet, probes = _made(fetch, discover=True, metrics_path="/metrics")
    for count in range(1, 9):
        await probes.probe("a")
        state = fleet.state("a")
        assert state is not None
        assert state.network_p95_ms == (20.0 if is_sample and count == 8 else None)


async def test_the_gateways_own_probes_measure_their_round_trips() -> None:
    """On a real socket, with the gateway's own fetch."""
    async with FakeUpstream() as upstream, _probing(upstream.base_url) as gateway:
        for _ in range(8):
            await gateway.probe(REGION)
        measured = _state(gateway).network_p50_ms
        assert measured is not None
        assert 0 < measured < LIMIT * 1000


# ---- models


async def test_a_region_that_lists_its_models_is_asked_for_no_other() -> None:
    """With `discover` the fetched list decides; before it is fetched the region counts as serving."""
    async with FakeUpstream(model="listed") as upstream:
        async with _probing(upstream.base_url, models="discover", health_path="") as gateway:
            await until(lambda: _state(gateway).models is not None)
            app = VettedProxy(gateway)
            served = told(await asgi_exchange(app, json=payload(model="listed")))
            refused = told(await asgi_exchange(app, json=payload(model="unlisted")))
        assert served.status == 200
        assert (refused.status, refused.errors[0]["code"]) == (400, "model_not_available")
        assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    "found",
    [
        None,
        (500, b'{"data": [{"id": "new"}]}'),
        (200, b"<html>"),
        (200, b'{"data": {}}'),
        (200, b"[]"),
        (200, b'{"data": [{"id": "\xff"}]}'),
        (200, b"[" * 200_000),
        (200, b""),
    ],
    ids=["unreachable", "500", "HTML", "no list", "an array", "no UTF-8", "deep", "empty"],
)
async def test_a_list_that_cannot_be_read_leaves_the_one_before(found: tuple[int, bytes] | None) -> None:
    """A stale list stays: a bad answer is no reason to stop serving, nor for the probes to stop."""
    fetch = ScriptedFetch({"/models": (200, b'{"data": [{"id": "old"}]}')})
    fleet, probes = _made(fetch, health_path="", discover=True)
    await probes.probe("a")
    fetch.answers["/models"] = found
    await probes.probe("a")
    state = fleet.state("a")
    assert state is not None
    assert state.models == frozenset({"old"})


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (b'{"object": "list", "data": [{"id": "a", "object": "model"}, {"id": "b"}]}', ["a", "b"]),
        (b'{"data": []}', []),
        (b'{"data": [{"id": "a"}, {"id": 5}, {"name": "x"}, "b", null]}', ["a"]),
        (b'{"models": [{"name": "x"}], "data": [{"id": "a"}]}', ["a"]),
        (b'{"models": []}', None),
        (b"null", None),
    ],
)
def test_names_are_the_ids_of_the_list(body: bytes, names: list[str] | None) -> None:
    """Rows without an id are passed over; what is no list of models is None, not an empty list."""
    assert model_names(body) == names


@settings(max_examples=100, deadline=None)
@given(body=st.binary(max_size=60))
def test_no_answer_breaks_the_reader(body: bytes) -> None:
    """Any bytes give a list of names or None."""
    names = model_names(body)
    assert names is None or all(isinstance(name, str) for name in names)
