"""A ledger or an energy model of the operator's own that breaks its contract costs nobody an answer that is paid for."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from evidence.memory_ledger import MemoryLedger
from receipts.keys import signer as key
from receipts.making import observed
from support import HELLO, configured
from vetted_mw import Gateway, VettedProxy
from vetted_mw.completion import sealing
from vetted_mw.configuration import LedgerConfiguration
from vetted_mw.receipts.figures import Figures, Inputs, Interval
from vetted_mw.receipts.parametric import ParametricModel
from vetted_mw.testing import FakeAnswer, FakeUpstream, asgi_exchange

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vetted_mw.receipts.coefficients import Coefficients
    from vetted_mw.receipts.jws import Signer
    from vetted_mw.receipts.sealed import Entry, Sealed
    from vetted_mw.testing import Exchange

pytestmark = pytest.mark.anyio

PARIS, SECOND = "scaleway-par-1", "scaleway-par-2"
MODEL = "mistral-medium-3"
CUT = FakeAnswer(
    headers=(("content-type", "application/json"), ("content-length", "100")), body=(b'{"choices":',), ending="cut"
)
both = pytest.mark.parametrize("stream", [False, True], ids=["json", "sse"])
BROKEN: dict[str, Callable[[Sequence[Entry]], Any]] = {
    "none of them": lambda _: [],
    "nothing": lambda _: None,
    "no receipts": lambda entries: [None] * len(entries),
}
unkept = pytest.mark.parametrize("kept", BROKEN.values(), ids=BROKEN)


class ForeignLedger(MemoryLedger):
    """Answers `keep` as it likes, or never; `keep_later` may raise."""

    def __init__(self, *, kept: Callable[[Sequence[Entry]], Any] | None = None, fails_later: bool = False) -> None:
        super().__init__()
        self._answer = kept
        self._fails_later = fails_later

    async def keep(self, entries: Sequence[Entry], signer: Signer | None) -> Sequence[Sealed]:
        if self._answer is not None:
            return self._answer(entries)  # type: ignore[no-any-return]
        return await super().keep(entries, signer)

    def keep_later(self, entries: Sequence[Entry], signer: Signer | None) -> None:
        if self._fails_later:
            raise RuntimeError("a caller's words")
        super().keep_later(entries, signer)


class OwnModel:
    """The parametric model under a name of the operator's own, with Wh of its own if any."""

    def __init__(self, *, name: object = "ours", wh: float | None = None) -> None:
        self._name = name
        self._wh = wh

    @property
    def name(self) -> str:
        return self._name  # type: ignore[return-value]

    def figures(self, inputs: Inputs, coefficients: Coefficients) -> Figures:
        figures = ParametricModel().figures(inputs, coefficients)
        if self._wh is None:
            return figures
        return replace(figures, energy_wh=Interval(value=self._wh, low=self._wh / 2, high=self._wh * 2, sigma=0.4))


async def ask(gateway: Gateway, *, stream: bool = False, **members: Any) -> Exchange:
    body = {"model": MODEL, "messages": HELLO, "stream": stream, **members}
    return await asgi_exchange(VettedProxy(gateway), json=body)


def told(exchange: Exchange) -> dict[str, Any]:
    """Return the object that carries the trace."""
    if exchange.headers["content-type"].startswith("application/json"):
        return dict(exchange.json())
    lines = [line[6:] for line in exchange.body.decode().split("\n\n") if line.startswith("data: {")]
    return next(frame for frame in map(json.loads, lines) if "routing_trace" in frame)


@both
@unkept
async def test_a_ledger_that_keeps_something_else_is_unavailable(
    *, stream: bool, kept: Callable[[Sequence[Entry]], Any]
) -> None:
    """What is not one sealed receipt for each entry counts as not kept: the answer and its receipt go out."""
    async with FakeUpstream(text="Bonjour") as paris:
        gateway = Gateway(configured({PARIS: paris.base_url}), ledger=ForeignLedger(kept=kept))
        async with gateway:
            exchange = await ask(gateway, stream=stream)
    assert exchange.status == 200
    assert exchange.complete
    assert b"Bonjour" in exchange.body
    assert told(exchange)["routing_trace"]["ledger"] == "unavailable"
    assert "seq" not in told(exchange)["receipt"]


@both
async def test_a_ledger_that_never_answers_is_unavailable(*, stream: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits gets the answer without it, once the ledger has had the time its contract allows and more."""
    monkeypatch.setattr(sealing, "_PATIENCE_SECONDS", 0.05)
    ledger = MemoryLedger()
    ledger.gate = asyncio.Event()
    async with (
        FakeUpstream(text="Bonjour") as paris,
        Gateway(configured({PARIS: paris.base_url}), ledger=ledger) as own,
    ):
        exchange = await ask(own, stream=stream)
    assert exchange.status == 200
    assert b"Bonjour" in exchange.body
    assert told(exchange)["routing_trace"]["ledger"] == "unavailable"


async def test_a_ledger_that_never_says_whether_it_is_ready_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under `fail_closed` the request is turned away, and no upstream is called."""
    monkeypatch.setattr(sealing, "_PATIENCE_SECONDS", 0.05)

    class Silent(MemoryLedger):
        async def is_ready(self) -> bool:
            return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    async with FakeUpstream() as paris:
        configuration = configured({PARIS: paris.base_url})
        closed = replace(configuration, ledger=LedgerConfiguration(policy="fail_closed"))
        async with Gateway(closed, ledger=Silent()) as gateway:
            exchange = await ask(gateway)
        assert paris.requests == []
    assert (exchange.status, told(exchange)["error"]["code"]) == (503, "ledger_unavailable")


async def test_a_ledger_that_raises_later_changes_no_answer(caplog: pytest.LogCaptureFixture) -> None:
    """The caller is told what its upstream did; what the ledger says stays out of the log."""
    async with FakeUpstream() as paris:
        paris.then(CUT)
        async with Gateway(configured({PARIS: paris.base_url}), ledger=ForeignLedger(fails_later=True)) as gateway:
            exchange = await ask(gateway)
            assert gateway.in_flight == 0
    assert (exchange.status, told(exchange)["error"]["code"]) == (502, "upstream_error")
    assert "the ledger failed" in caplog.text
    assert "a caller's words" not in caplog.text


@both
@pytest.mark.parametrize("name", ["half \ud800 a pair", 5, None], ids=["surrogate", "number", "nothing"])
async def test_an_energy_model_without_a_name_costs_the_receipt_alone(*, stream: bool, name: object) -> None:
    """A name that cannot be written is the engine's failure: no receipt, and the whole answer."""
    ledger = MemoryLedger()
    async with FakeUpstream(text="Bonjour") as paris:
        configuration = configured({PARIS: paris.base_url})
        async with Gateway(configuration, energy_model=OwnModel(name=name), ledger=ledger) as gateway:
            exchange = await ask(gateway, stream=stream)
    assert exchange.status == 200
    assert exchange.complete
    assert b"Bonjour" in exchange.body
    assert told(exchange)["receipt"] is None
    assert told(exchange)["routing_trace"]["receipt_error"] == "engine_failed"
    assert ledger.rows == []


async def test_a_receipt_that_cannot_be_signed_costs_the_receipt_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a signer raises, the completion goes out."""

    def fails(*_: object) -> Sealed:
        raise RuntimeError("a caller's words")

    monkeypatch.setattr(sealing, "seal", fails)
    async with FakeUpstream(text="Bonjour") as paris, Gateway(configured({PARIS: paris.base_url})) as gateway:
        core = replace(await gateway.core(), signer=key())
        made = core.receipted(observed())
        signed = await sealing.sealed(core, made, beside=(), caller="")
    assert made.receipt is not None
    assert (signed.receipt, signed.error) == (None, "engine_failed")


async def test_without_key_and_ledger_no_receipt_is_written_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The canonical form is for those who sign or keep it; who does neither does not pay for it."""
    monkeypatch.setattr(sealing, "seal", None)
    async with FakeUpstream() as paris, Gateway(configured({PARIS: paris.base_url})) as gateway:
        exchange = await ask(gateway)
    assert exchange.status == 200
    assert "signature" not in told(exchange)["receipt"]


@pytest.mark.parametrize("vetted", [{}, {"boundary": "narrow"}], ids=["comprehensive", "narrow"])
@pytest.mark.parametrize("wh", [None, 1.5], ids=["parametric", "own engine"])
async def test_trace_and_ledger_tell_the_same_of_an_abandoned_attempt(vetted: dict[str, str], wh: float | None) -> None:
    """`estimated_energy_wh` is the row's `energy_wh`, whatever the boundary and whoever makes the figures."""
    ledger = MemoryLedger()
    async with FakeUpstream() as paris, FakeUpstream() as second:
        paris.then(CUT)
        configuration = configured({PARIS: paris.base_url, SECOND: second.base_url})
        async with Gateway(configuration, energy_model=OwnModel(wh=wh), ledger=ledger) as gateway:
            exchange = await ask(gateway, vetted=vetted)
    abandoned, served = ledger.receipts
    first, _last = told(exchange)["routing_trace"]["attempts"]
    assert (abandoned.completion_status, abandoned.request_id) == ("abandoned", served.query_id)
    assert served.request_id is msgspec.UNSET
    assert abandoned.energy_wh == first["estimated_energy_wh"] > 0


@pytest.mark.parametrize("wh", [float("nan"), None], ids=["no number", "raises"])
async def test_an_engine_that_fails_estimates_no_abandoned_attempt(wh: float | None) -> None:
    """The attempt is told without an estimate, and the answer of the next region goes out."""

    class Failing(OwnModel):
        def figures(self, inputs: Inputs, coefficients: Coefficients) -> Figures:
            if wh is None:
                raise RuntimeError("a caller's words")
            return super().figures(inputs, coefficients)

    async with FakeUpstream() as paris, FakeUpstream(text="Bonjour") as second:
        paris.then(CUT)
        configuration = configured({PARIS: paris.base_url, SECOND: second.base_url})
        async with Gateway(configuration, energy_model=Failing(wh=wh), ledger=MemoryLedger()) as gateway:
            exchange = await ask(gateway)
    assert b"Bonjour" in exchange.body
    first, _last = told(exchange)["routing_trace"]["attempts"]
    assert first["outcome"] == "upstream_cut"
    assert "estimated_energy_wh" not in first
    assert told(exchange)["routing_trace"]["receipt_error"] == "engine_failed"
