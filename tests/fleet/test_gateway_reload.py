"""Reload: all of a new configuration or none of it, under the requests of the old one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

import pytest

from streams.wall import FIRST, OUTSIDE, SECOND, Caller, busy_connections, content, finish, payload, role, told, until
from support import configured
from vetted_mw import Gateway, VettedMiddleware, VettedProxy
from vetted_mw.errors import ConfigurationError
from vetted_mw.fleet.breaker import BreakerState
from vetted_mw.proxy.own.transport import OwnTransport
from vetted_mw.testing import FakeAnswer, FakeUpstream, StaticSignals, asgi_exchange

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from starlette.types import Receive, Scope, Send

    from vetted_mw.configuration import Configuration, Upstream

pytestmark = pytest.mark.anyio

PATH = "/v1/chat/completions"
NOWHERE = "http://127.0.0.1:9/v1"


@contextlib.asynccontextmanager
async def _gateway(configuration: Configuration, **options: Any) -> AsyncIterator[tuple[VettedProxy, Gateway]]:
    async with Gateway(configuration, **options) as gateway:
        yield VettedProxy(gateway), gateway


def _gone(gateway: Gateway) -> bool:
    """Whether nothing of former configurations is left."""
    return len(gateway._former) == 0 and not gateway._former._closings


# ---- the swap


async def test_the_next_request_goes_by_the_new_configuration() -> None:
    """Order, upstreams, names and issuer: everything the settings say holds from the next request on."""
    async with FakeUpstream(text="one") as one, FakeUpstream(text="two") as two:
        first = configured({FIRST: one.base_url})
        second = configured({SECOND: two.base_url}, receipt_key="vetted", receipts={"issuer": "Second"})
        async with _gateway(first) as (app, gateway):
            before = await asgi_exchange(app, json=payload())
            await gateway.reload(second)
            after = await asgi_exchange(app, json=payload())
    assert before.json()["receipt"]["issuer"] == ""
    assert (before.json()["routing_trace"]["region"], before.json()["choices"][0]["message"]["content"]) == (
        FIRST,
        "one",
    )
    assert (after.json()["routing_trace"]["region"], after.json()["choices"][0]["message"]["content"]) == (
        SECOND,
        "two",
    )
    assert after.json()["vetted"]["issuer"] == "Second"


async def test_a_stream_in_flight_finishes_untouched() -> None:
    """A stream that was open at the reload ends on its own upstream, under its own names; its pool is closed after it."""
    go_on = asyncio.Event()
    async with FakeUpstream() as one, FakeUpstream(text="two") as two:
        one.then(FakeAnswer.stream([role(), content("Hel"), go_on, content("lo"), finish(), b"data: [DONE]\n\n"]))
        async with _gateway(configured({FIRST: one.base_url})) as (app, gateway):
            caller = Caller(app, payload(stream=True))
            answering = caller.start()
            await caller.content.wait()
            await gateway.reload(configured({SECOND: two.base_url}, receipt_key="vetted"))
            assert len(gateway._former) == 1
            go_on.set()
            answer = told(await answering)
            await until(lambda: _gone(gateway))
            await until(lambda: not one.open_connections)
    assert (answer.text, answer.complete, answer.errors) == ("Hello", True, [])
    assert answer.trace["region"] == FIRST
    assert answer.receipt is not None
    assert two.requests == []


async def test_a_request_in_flight_fails_over_as_its_own_configuration_says() -> None:
    """What was decided before the reload is walked to its end, and never to a region of the new configuration."""
    go_on = asyncio.Event()
    async with FakeUpstream() as one, FakeUpstream(text="two") as two, FakeUpstream(text="other") as other:
        one.then(FakeAnswer(status=500, body=[go_on], headers=(("content-length", "0"),)))
        async with _gateway(configured({FIRST: one.base_url, SECOND: two.base_url})) as (app, gateway):
            answering = asyncio.ensure_future(asgi_exchange(app, json=payload()))
            await until(lambda: one.requests)
            await gateway.reload(configured({OUTSIDE: other.base_url}))
            go_on.set()
            answer = told(await answering)
            await until(lambda: _gone(gateway))
    assert answer.trace["region"] == SECOND
    assert other.requests == []


async def test_what_was_learned_of_an_upstream_goes_on() -> None:
    """A breaker that is open stays open, and a lease taken before counts in the cap after."""
    go_on = asyncio.Event()
    async with FakeUpstream() as one, FakeUpstream(text="two") as two:
        tables: dict[str, Any] = {
            FIRST: {"base_url": one.base_url, "limits": {"max_in_flight": 1}},
            SECOND: two.base_url,
        }
        one.then(FakeAnswer.stream([role(), content(), go_on, finish()]))
        async with _gateway(configured(tables)) as (app, gateway):
            caller = Caller(app, payload(stream=True))
            answering = caller.start()
            await caller.content.wait()
            for _ in range(5):
                two.then(FakeAnswer(status=500))
                await asgi_exchange(app, json=payload(vetted={"region": SECOND}))
            await gateway.reload(configured(tables, receipts={"issuer": "x"}))
            full = told(await asgi_exchange(app, json=payload(vetted={"region": FIRST})))
            state = gateway.fleet.state(SECOND)
            assert state is not None
            assert state.breaker is BreakerState.OPEN
            assert gateway.fleet.in_flight == 1
            go_on.set()
            await answering
            assert gateway.fleet.in_flight == 0
    assert full.status == 503
    assert [c["rejected"] for c in full.trace["candidates"] if c["region"] == FIRST] == ["saturated"]


async def test_the_pool_of_an_upstream_that_stays_is_kept() -> None:
    """An idle connection serves on after a reload that did not concern its upstream; one that changed gets a new pool."""
    async with (
        FakeUpstream() as one,
        FakeUpstream() as two,
        _gateway(configured({FIRST: one.base_url})) as (app, gateway),
    ):
        await asgi_exchange(app, json=payload())
        assert one.open_connections == 1
        await gateway.reload(configured({FIRST: one.base_url, SECOND: two.base_url}))
        await asgi_exchange(app, json=payload())
        assert one.open_connections == 1
        await gateway.reload(configured({FIRST: {"base_url": one.base_url, "auth": "none"}}))
        await until(lambda: one.open_connections == 0)
        assert len(one.requests) == 2


async def test_the_operator_drains_a_region_without_dropping_what_it_answers() -> None:
    """`drained = true` and a reload: its stream ends well, and the next request goes elsewhere."""
    go_on = asyncio.Event()
    async with FakeUpstream() as one, FakeUpstream(text="two") as two:
        one.then(FakeAnswer.stream([role(), content("one"), go_on, finish()]))
        async with _gateway(configured({FIRST: one.base_url, SECOND: two.base_url})) as (app, gateway):
            caller = Caller(app, payload(stream=True))
            answering = caller.start()
            await caller.content.wait()
            drained: dict[str, Any] = {FIRST: {"base_url": one.base_url, "drained": True}, SECOND: two.base_url}
            await gateway.reload(configured(drained))
            elsewhere = told(await asgi_exchange(app, json=payload()))
            pinned = told(await asgi_exchange(app, json=payload(vetted={"region": FIRST})))
            go_on.set()
            answer = told(await answering)
    assert (answer.text, answer.complete, answer.trace["region"]) == ("one", True, FIRST)
    assert (elsewhere.trace["region"], elsewhere.trace["decision_reason"]) == (SECOND, "preferred_degraded")
    assert pinned.status == 503


async def test_request_paths_follow_the_configuration() -> None:
    """A path that is ours after a reload is answered here, and one that is not any more reaches the app again."""
    seen: list[str] = []

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        seen.append(scope["path"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async with FakeUpstream() as one, Gateway(configured({FIRST: one.base_url})) as gateway:
        middleware = VettedMiddleware(app, gateway=gateway)
        await gateway.reload(configured({FIRST: one.base_url}, paths=["/chat"]))
        ours = await asgi_exchange(middleware, method="POST", path="/chat", json=payload())
        theirs = await asgi_exchange(middleware, json=payload())
        turned_away = await asgi_exchange(VettedProxy(gateway), method="GET", path="/chat")
    assert (ours.status, theirs.status, seen) == (200, 204, [PATH])
    assert (turned_away.status, turned_away.headers["allow"]) == (405, "POST")


async def test_signals_stay_where_their_source_stays() -> None:
    """A reload that changes something else of the signals leaves a source's values on the board, with their age."""
    static = StaticSignals({"FR": 20.0}, age_minutes=7)
    async with _gateway(configured({FIRST: NOWHERE}), signals=[static]) as (_app, gateway):
        board = gateway.board
        await gateway.reload(configured({FIRST: NOWHERE}, receipts={"issuer": "x"}))
        assert gateway.board is board
        static._intensities = {}
        await gateway.reload(configured({FIRST: NOWHERE}, signals={"timeout_seconds": 3}))
        assert gateway.board is not board
        kept = gateway.board.best("FR", gateway.now())
    assert kept is None  # it is a local source: it was asked again, and has nothing any more


async def test_readings_of_a_file_that_is_named_no_more_are_gone(tmp_path: Path) -> None:
    """Values of a source that the new settings do not name decide nothing."""
    signals = tmp_path / "signals.toml"
    signals.write_text(
        '[[reading]]\nzone = "FR"\ngco2_per_kwh = 20\nkind = "measured"\nobserved_at = 2020-01-01T00:00:00Z\n'
    )
    sources = {"sources": {"file": {"path": str(signals)}}}
    async with _gateway(configured({FIRST: NOWHERE}, signals=sources)) as (_app, gateway):
        assert gateway.board.best("FR", gateway.now()) is not None
        await gateway.reload(configured({FIRST: NOWHERE}))
        assert gateway.board.best("FR", gateway.now()) is None


# ---- all or nothing


async def test_settings_that_cannot_be_used_change_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A typo in the file: the error names the key, the old settings serve on, and the log says both."""
    file = tmp_path / "vetted.toml"
    async with FakeUpstream(text="one") as one:
        file.write_text(f'[regions.{FIRST}]\nbase_url = "{one.base_url}"\nhealth_path = ""\n')
        async with Gateway.from_file(file, background=False) as gateway:
            before = gateway.configuration
            file.write_text(f'[regions.{FIRST}]\nbase_ulr = "{one.base_url}"\n')
            with pytest.raises(ConfigurationError, match="base_ulr"):
                await gateway.reload()
            with caplog.at_level(logging.INFO, logger="vetted_mw"):
                assert await gateway.reload_or_tell() is False
            answer = told(await asgi_exchange(VettedProxy(gateway), json=payload()))
            assert gateway.configuration is before
    assert answer.text == "one"
    told_why = [record.__dict__["why"] for record in caplog.records if "why" in record.__dict__]
    assert ["base_ulr" in why for why in told_why] == [True]


async def test_a_door_that_cannot_be_made_changes_nothing() -> None:
    """What only opening a door shows, a private authority that is gone say, is found before anything is swapped."""

    def transport(upstream: Upstream) -> OwnTransport:
        if upstream.region == SECOND:
            raise ConfigurationError("the file cannot be read", field="regions")
        return OwnTransport(upstream)

    async with (
        FakeUpstream(text="one") as one,
        _gateway(configured({FIRST: one.base_url}), transport=transport) as (app, gateway),
    ):
        before = gateway.configuration, gateway.fleet, gateway.board
        with pytest.raises(ConfigurationError):
            await gateway.reload(configured({FIRST: one.base_url, SECOND: NOWHERE}))
        answer = told(await asgi_exchange(app, json=payload()))
        assert (gateway.configuration, gateway.fleet, gateway.board) == before
    assert answer.text == "one"


async def test_a_gateway_of_a_bare_configuration_says_how_to_reload_it() -> None:
    """Built from a configuration there is no file to read again: the error names both ways out."""
    async with _gateway(configured({FIRST: NOWHERE})) as (_app, gateway):
        with pytest.raises(ConfigurationError, match=r"reload\(\)"):
            await gateway.reload()


async def test_no_setting_is_lost_by_a_reload_of_the_same_file(tmp_path: Path) -> None:
    """Reading the same file again gives the same configuration, value by value."""
    file = tmp_path / "vetted.toml"
    file.write_text(
        f'receipt_key = "vetted"\n[limits]\nattempts = 2\n[policy]\nallowed_countries = ["FR"]\n[regions.{FIRST}]\n'
        f'base_url = "{NOWHERE}"\nmodels = ["m"]\n[models.m]\nactive_params_b = 8\n[callers.a]\nkey = {{ file = "key" }}\n'
    )
    (tmp_path / "key").write_text("secret-key")
    async with Gateway.from_file(file, background=False) as gateway:
        before = gateway.configuration
        await gateway.reload()
        assert gateway.configuration == before
        assert gateway.configuration is not before


async def test_what_only_a_restart_changes_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """Host, port and workers are the server's: while the settings differ from what it runs on, each reload says so."""
    async with _gateway(configured({FIRST: NOWHERE})) as (_app, gateway):
        with caplog.at_level(logging.WARNING, logger="vetted_mw"):
            await gateway.reload(configured({FIRST: NOWHERE}, server={"port": 9000, "drain_seconds": 5}))
            await gateway.reload(configured({FIRST: NOWHERE}, server={"port": 9000}, receipts={"issuer": "x"}))
            await gateway.reload(configured({FIRST: NOWHERE}))
    told_of = [record.__dict__["settings"] for record in caplog.records if "settings" in record.__dict__]
    assert told_of == ["server.port", "server.port"]


async def test_a_closed_gateway_opens_with_what_was_reloaded() -> None:
    """A reload before the first request holds for it."""
    async with FakeUpstream(text="two") as two:
        gateway = Gateway(configured({FIRST: NOWHERE}))
        await gateway.reload(configured({SECOND: two.base_url}))
        async with gateway:
            answer = told(await asgi_exchange(VettedProxy(gateway), json=payload()))
    assert answer.trace["region"] == SECOND


async def test_closing_closes_what_former_configurations_left() -> None:
    """A stream of an old configuration is open while the gateway closes: its connection is closed as well."""
    async with FakeUpstream() as one, FakeUpstream() as two:
        one.then(FakeAnswer.stream([role(), content()], ending="stall"))
        async with _gateway(configured({FIRST: one.base_url})) as (app, gateway):
            caller = Caller(app, payload(stream=True))
            answering = caller.start()
            await caller.content.wait()
            await gateway.reload(configured({SECOND: two.base_url}))
        await until(lambda: not one.open_connections)
        answer = told(await answering)
    assert answer.complete is False
    assert len(answer.errors) == 1


async def test_reloads_under_load_lose_no_request() -> None:
    """A hundred requests while the settings are reloaded over and over: each is answered whole, and nothing is left."""
    async with FakeUpstream(text="one") as one, FakeUpstream(text="two") as two:
        choices = [configured({FIRST: one.base_url}), configured({SECOND: {"base_url": two.base_url, "auth": "none"}})]
        async with _gateway(choices[0]) as (app, gateway):
            stop = asyncio.Event()

            async def reloading() -> int:
                count = 0
                while not stop.is_set():
                    count += 1
                    await gateway.reload(choices[count % 2])
                    await asyncio.sleep(0)
                return count

            task = asyncio.ensure_future(reloading())
            answers = []
            for _ in range(10):
                answers += await asyncio.gather(
                    *(asgi_exchange(app, json=payload(stream=bool(n % 2))) for n in range(10))
                )
            stop.set()
            assert await task > 1
            await until(lambda: _gone(gateway))
            assert gateway.in_flight == gateway.fleet.in_flight == 0
            assert busy_connections(gateway) == []
    assert [one.complete for one in map(told, answers)] == [True] * 100
