"""The gateway owns what lives: who opens it, who closes it, and what it keeps going when a part of it fails."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from streams.wall import FIRST, SECOND, gateway_over, nowhere, payload, told
from support import configured
from vetted_mw import Gateway, VettedProxy
from vetted_mw.errors import ConfigurationError
from vetted_mw.testing import FakeUpstream, ManualClock, StaticSignals, asgi_exchange, chat_completion

if TYPE_CHECKING:
    from pathlib import Path

    from vetted_mw.configuration import Configuration, Upstream
    from vetted_mw.proxy.headers import Headers
    from vetted_mw.proxy.transport import Response, UpstreamRequest

pytestmark = pytest.mark.anyio


@dataclass(slots=True)
class MemoryResponse:
    """An answer without a socket."""

    status: int
    headers: Headers
    body: bytes

    async def read(self) -> bytes:
        body, self.body = self.body, b""
        return body

    async def aclose(self) -> None:
        return None


@dataclass(slots=True)
class MemoryTransport:
    """A `Transport` as a user would write one: a plain class, without I/O."""

    upstream: Upstream
    sent: list[UpstreamRequest] = field(default_factory=list)
    closed: int = 0

    async def send(self, request: UpstreamRequest) -> Response:
        self.sent.append(request)
        return MemoryResponse(200, [(b"content-type", b"application/json")], chat_completion(text="from memory"))

    async def aclose(self) -> None:
        self.closed += 1


class Doors:
    """Makes memory transports and remembers them."""

    def __init__(self) -> None:
        self.made: list[MemoryTransport] = []

    def __call__(self, upstream: Upstream) -> MemoryTransport:
        self.made.append(MemoryTransport(upstream))
        return self.made[-1]

    @property
    def closed(self) -> list[int]:
        return [door.closed for door in self.made]


def _configuration(**overrides: Any) -> Configuration:
    return configured({FIRST: "http://127.0.0.1:9/v1", SECOND: "http://127.0.0.1:9/v1"}, **overrides)


def _discovering(**overrides: Any) -> Configuration:
    table = {"base_url": "http://127.0.0.1:9/v1", "models": "discover"}
    return configured({FIRST: table, SECOND: table}, **overrides)


# ---- opened and closed


async def test_the_outermost_entry_opens_it_and_its_exit_closes_it() -> None:
    """Entries inside it share what is open; a later entry opens it anew, with doors of its own."""
    doors = Doors()
    gateway = Gateway(_configuration(), transport=doors)
    assert (gateway.is_open, doors.made) == (False, [])
    for times in (1, 2):
        async with gateway as entered:
            assert entered is gateway
            async with gateway:
                assert len(doors.made) == 2 * times
            assert doors.closed[-2:] == [0, 0]
        assert doors.closed == [1, 1] * times
    assert gateway.is_open is False


async def test_opening_needs_no_upstream_and_no_signal() -> None:
    """Everything may be down: it opens, and says so only when asked to serve."""

    class Broken:
        name = "broken"
        refresh_seconds = 3600.0
        is_complete = True
        is_local = True

        async def readings(self) -> Any:
            raise OSError

    async with nowhere() as none:
        configuration = configured({FIRST: {"base_url": none.base_url, "health_path": "/health"}})
        async with Gateway(configuration, signals=[Broken()]) as gateway:
            answer = told(await asgi_exchange(VettedProxy(gateway), json=payload()))
    assert (answer.status, answer.attempts) == (502, [(FIRST, "connect_error", None)])


async def test_an_entry_that_failed_is_no_entry() -> None:
    """A gateway that could not open is as it was: after the cause is mended, one entry and one exit close it."""
    doors = Doors()
    broken = [True]

    def door(upstream: Upstream) -> MemoryTransport:
        if broken:
            raise ConfigurationError("the file has gone.", field="regions.r.ca_file")
        return doors(upstream)

    gateway = Gateway(_configuration(), transport=door)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="ca_file"):
            await gateway.__aenter__()
        with pytest.raises(ConfigurationError, match="ca_file"):
            await gateway.core()
        assert gateway.is_open is False
    broken.clear()
    async with gateway:
        assert gateway.is_open is True
    assert doors.closed == [1, 1]


async def test_without_a_lifespan_the_first_requests_open_it_once(caplog: pytest.LogCaptureFixture) -> None:
    """Many first requests at once find one gateway, with one line in the log; `aclose` ends it."""
    caplog.set_level(logging.INFO, logger="vetted_mw")
    doors = Doors()
    gateway = Gateway(_configuration(), transport=doors)
    app = VettedProxy(gateway)
    answers = await asyncio.gather(*(asgi_exchange(app, json=payload()) for _ in range(20)))
    assert {answer.status for answer in answers} == {200}
    assert len(doors.made) == 2
    assert [record.message for record in caplog.records if "opens at the first request" in record.message] != []
    assert len([record for record in caplog.records if "opens" in record.message]) == 1
    await gateway.aclose()
    assert (gateway.is_open, doors.closed) == (False, [1, 1])
    await gateway.aclose()
    assert doors.closed == [1, 1]


async def test_what_it_learned_outlives_a_close() -> None:
    """Breakers, windows and lists belong to the gateway, not to one opening of it."""
    gateway = Gateway(_discovering(), transport=Doors())
    async with gateway:
        gateway.fleet.models_fetched(FIRST, ["learned"])
    async with gateway:
        state = gateway.fleet.state(FIRST)
    assert state is not None
    assert state.models == frozenset({"learned"})


async def test_a_grid_service_is_asked_at_its_own_pace_however_often_it_is_opened() -> None:
    """By the clock passed in: one whose time has not come is not asked again by a second opening, the other is."""

    class Service:
        is_complete = False
        is_local = False

        def __init__(self, name: str, refresh_seconds: float) -> None:
            self.name = name
            self.refresh_seconds = refresh_seconds
            self.calls = 0

        async def readings(self) -> Any:
            self.calls += 1
            return []

    clock = ManualClock()
    slow, quick = Service("slow", 3600.0), Service("quick", 60.0)
    gateway = Gateway(_configuration(), transport=Doors(), signals=[slow, quick], monotonic=clock.monotonic)
    for times in (1, 2, 3):
        async with asyncio.timeout(20), gateway:
            while quick.calls < times:  # noqa: ASYNC110 (what no event tells; the slow one's task began before)
                await asyncio.sleep(0)
        clock.tick(600)
    assert slow.calls == 1


async def test_a_probe_by_hand_opens_it_too() -> None:
    """`vetted-mw check` and a host's own health page need no request to come first."""
    async with FakeUpstream() as upstream:
        gateway = Gateway(configured({FIRST: {"base_url": upstream.base_url, "health_path": "/health"}}))
        await gateway.probe(FIRST)
        assert [one.path for one in upstream.others][:1] == ["/health"]
        await gateway.aclose()


async def test_settings_come_from_a_file_or_from_the_place_they_are_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`from_file` takes a path of either kind, `from_env` the variable; both pass on what the constructor takes."""
    path = tmp_path / "vetted.toml"
    path.write_text(f'[regions.{FIRST}]\nbase_url = "http://127.0.0.1:9/v1"\nhealth_path = ""\n')
    monkeypatch.setenv("VETTED_CONFIG", str(path))
    doors = Doors()
    made = [Gateway.from_file(path, transport=doors), Gateway.from_file(str(path)), Gateway.from_env(transport=doors)]
    for gateway in made:
        assert list(gateway.configuration.upstreams) == [FIRST]
    async with made[0], made[2]:
        assert len(doors.made) == 2


# ---- what a user may put in


async def test_a_transport_of_the_users_own_serves() -> None:
    """A plain class with the two methods is a transport; it gets the whole request and is closed once."""
    doors = Doors()
    async with Gateway(_configuration(), transport=doors) as gateway:
        answer = told(await asgi_exchange(VettedProxy(gateway), json=payload()))
    assert (answer.text, answer.attempts) == ("from memory", [(FIRST, "success", 200)])
    assert [(one.method, one.path, one.from_origin) for one in doors.made[0].sent] == [
        ("POST", "/chat/completions", False)
    ]
    assert doors.closed == [1, 1]


async def test_clock_and_ids_are_the_ones_passed_in() -> None:
    """With clock and id generator given, two gateways tell the same times and ids."""

    async def once() -> dict[str, Any]:
        clock = ManualClock()
        given: dict[str, Any] = {"now": clock.now, "monotonic": clock.monotonic, "new_id": lambda: "id-1"}
        async with Gateway(
            _configuration(), transport=Doors(), signals=[StaticSignals({"FR": 20.0}, now=clock.now)], **given
        ) as gateway:
            answer = told(await asgi_exchange(VettedProxy(gateway), json=payload(vetted={"routing": "carbon_aware"})))
        assert answer.receipt is not None
        assert answer.receipt["query_id"] == answer.headers["x-vetted-receipt-id"] == "id-1"
        assert answer.trace["operational_signal"]["requested_at"] == "2026-11-22T10:30:00Z"
        keyed = {"binding_nonce", "response_digest"}  # fresh for every answer
        receipt = {name: value for name, value in answer.receipt.items() if name not in keyed}
        return {"receipt": receipt, "trace": answer.trace}

    assert await once() == await once()


@pytest.mark.parametrize("stream", [False, True], ids=["json", "sse"])
async def test_an_energy_model_that_fails_costs_the_receipt_and_never_the_answer(
    stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer goes out with `receipt: null` and says why; the log names the error's type and no more."""

    class Failing:
        def __getattr__(self, name: str) -> Any:
            raise LookupError("with the prompt in it")

    options = {"energy_model": Failing()}
    async with (
        FakeUpstream(text="Hello") as upstream,
        gateway_over({FIRST: upstream}, options=options) as (app, _gateway),
    ):
        answer = told(await asgi_exchange(app, json=payload(stream=stream)))
    assert (answer.status, answer.complete, answer.text) == (200, True, "Hello")
    assert answer.receipt is None
    assert (answer.trace["receipt_error"], answer.trace["receipt_signal"]) == ("engine_failed", None)
    assert "with the prompt" not in caplog.text


async def test_a_model_is_named_in_telemetry_only_when_settings_or_a_region_know_it() -> None:
    """A name from a request alone could be anything, a caller's words included."""
    sizes = {"settings-model": {"active_params_b": 8.0}}
    async with Gateway(_discovering(models=sizes), transport=Doors()) as gateway:
        core = await gateway.core()
        gateway.fleet.models_fetched(SECOND, ["listed-model"])
        known = [core.known_model(name) for name in ("settings-model", "listed-model", "my secret")]
    assert known == ["settings-model", "listed-model", None]


async def test_every_region_of_the_catalogue_is_a_candidate_with_its_facts() -> None:
    """A decision sees them all, in catalogue order, those without an upstream as not configured."""
    async with Gateway(
        _configuration(), transport=Doors(), signals=[StaticSignals({"FR": 20.0}), StaticSignals({}, name="none")]
    ) as gateway:
        core = await gateway.core()
        candidates = core.candidates(core.now())
        codes = list(gateway.configuration.regions)
    assert [one.region.code for one in candidates] == codes
    assert {one.region.code for one in candidates if one.configured} == {FIRST, SECOND}
    zones = {one.region.zone for one in candidates if one.reading is not None}
    assert zones == {"FR"}


@pytest.mark.parametrize(("callers", "expected"), [(False, 1), (True, 0)])
def test_an_open_door_is_told_once(
    callers: bool, expected: int, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Whoever reaches an unlocked middleware spends the operator's keys: one warning, however often it is wrapped."""
    key = tmp_path / "key"
    key.write_text("sk-1")
    table = {"base_url": "http://127.0.0.1:9/v1", "api_key": {"file": str(key)}}
    overrides = {"callers": {"team": {"key": {"file": str(key)}}}} if callers else {}
    gateway = Gateway(configured({FIRST: table}, **overrides))
    for _ in range(3):
        VettedProxy(gateway)
    warnings = [record for record in caplog.records if "identify=" in record.message]
    assert len(warnings) == expected
    assert "sk-1" not in caplog.text


async def test_nothing_of_it_is_left_running() -> None:
    """After the last exit no task of the gateway's is alive."""
    before = asyncio.all_tasks()
    async with FakeUpstream() as upstream:
        configuration = configured({FIRST: {"base_url": upstream.base_url, "health_path": "/health"}})
        async with Gateway(configuration, signals=[StaticSignals({"FR": 1.0})]) as gateway:
            await asgi_exchange(VettedProxy(gateway), json=payload(stream=True))
            assert asyncio.all_tasks() - before
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
    left = {task for task in asyncio.all_tasks() - before if not task.done()}
    assert left == set()
