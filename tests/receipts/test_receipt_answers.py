"""Receipts on the wire: what a caller of the gateway gets, and what it gets when there is none."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from starlette.responses import JSONResponse

from support import HELLO, configured, proxied
from vetted_mw import Gateway, VettedMiddleware
from vetted_mw.grid.signal import GridSignal, SignalKind
from vetted_mw.testing import (
    FakeAnswer,
    FakeUpstream,
    ManualClock,
    StaticSignals,
    asgi_exchange,
    chat_completion,
    chat_frames,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import Receive, Scope, Send

    from vetted_mw.receipts.coefficients import Coefficients
    from vetted_mw.receipts.figures import Figures, Inputs
    from vetted_mw.testing import Exchange

pytestmark = pytest.mark.anyio

REGION = "scaleway-par-1"


class _BrokenEngine:
    name = "broken"

    def figures(self, inputs: Inputs, coefficients: Coefficients) -> Figures:
        """Fail as a foreign engine may."""
        raise LookupError("canary in an engine's message")


class _Forecasts:
    """A source that knows tomorrow and nothing of now."""

    name = "forecasts"
    refresh_seconds = 3600.0
    is_complete = True
    is_local = True

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock

    async def readings(self) -> Sequence[GridSignal]:
        """Return one forecast for France."""
        now = self._clock.now()
        return [
            GridSignal(
                source="day_ahead_plan",
                zone="FR",
                area="FR",
                kind=SignalKind.FORECAST,
                gco2_per_kwh=7.0,
                observed_at=now,
                fetched_at=now,
                max_age_minutes=180.0,
            )
        ]


def _asked(**members: Any) -> dict[str, Any]:
    return {"model": "mistral-medium-3", "messages": HELLO} | members


def _told(exchange: Exchange) -> dict[str, Any]:
    """Return the members of a JSON answer, or those of the frame of a stream that carries them."""
    if exchange.headers["content-type"].startswith("application/json"):
        told: dict[str, Any] = exchange.json()
        return told
    frames = [frame.removeprefix(b"data: ") for frame in exchange.body.split(b"\n\n")]
    decoded = [msgspec.json.decode(frame) for frame in frames if frame.startswith(b"{")]
    return next(frame for frame in decoded if "routing_trace" in frame)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("settings", "options", "asked", "reason"),
    [
        ({}, {"energy_model": _BrokenEngine()}, {}, "engine_failed"),
        ({"receipts": {"unknown_model": "null"}}, {}, {"model": "nobody-knows"}, "unknown_model"),
        ({}, {}, {"vetted": {"tier": "telemetry"}}, "tier_unavailable"),
    ],
)
async def test_a_receipt_that_cannot_be_made_never_costs_the_answer(
    stream: bool,
    settings: dict[str, Any],
    options: dict[str, Any],
    asked: dict[str, Any],
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The completion goes out whole with a null receipt, the trace says why, and the log has one line of it."""
    with caplog.at_level(logging.WARNING, "vetted_mw"):
        async with (
            FakeUpstream(text="Bonjour") as paris,
            proxied({REGION: paris.base_url}, options=options, **settings) as app,
        ):
            exchange = await asgi_exchange(app, json=_asked(stream=stream, **asked))
    told = _told(exchange)
    assert exchange.status == 200
    assert b"Bonjour" in exchange.body
    assert told["receipt"] is None
    assert (told["routing_trace"]["receipt_error"], told["routing_trace"]["receipt_signal"]) == (reason, None)
    withheld = [record for record in caplog.records if record.msg == "a receipt was withheld"]
    assert [vars(record)["reason"] for record in withheld] == [reason]
    assert b"canary" not in exchange.body
    assert "canary" not in caplog.text


@pytest.mark.parametrize("stream", [False, True])
async def test_missing_usage_is_estimated_from_the_text_that_passed(stream: bool) -> None:
    """An upstream that counts nothing gets a proxy receipt over a quarter of the characters, rounded up."""
    async with (
        FakeUpstream(text="x" * 41, usage=None) as paris,
        proxied({REGION: paris.base_url}) as app,
    ):
        receipt = _told(await asgi_exchange(app, json=_asked(stream=stream)))["receipt"]
    assert (receipt["tier"], receipt["usage_source"]) == ("proxy", "estimated")
    assert (receipt["prompt_tokens"], receipt["completion_tokens"]) == (3, 11)  # "Hello there" and 41 times x


async def test_missing_usage_withholds_the_receipt_where_the_operator_says_so() -> None:
    """With `missing_usage = "null"` an answer that nobody counted has no receipt, and says so."""
    async with (
        FakeUpstream(usage=None) as paris,
        proxied({REGION: paris.base_url}, receipts={"missing_usage": "null"}) as app,
    ):
        told = _told(await asgi_exchange(app, json=_asked()))
    assert (told["receipt"], told["routing_trace"]["receipt_error"]) == (None, "usage_missing")


@pytest.mark.parametrize("usage", [(0, 0), (5, 0), (0, 2)])
async def test_a_count_of_zero_for_text_is_estimated_too(usage: tuple[int, int]) -> None:
    """A zero for text that is there counts as missing; what was counted beside it stays."""
    async with FakeUpstream(text="x" * 41, usage=usage) as paris, proxied({REGION: paris.base_url}) as app:
        receipt = _told(await asgi_exchange(app, json=_asked()))["receipt"]
    assert receipt["usage_source"] == "estimated"
    assert (receipt["prompt_tokens"], receipt["completion_tokens"]) == (usage[0] or 3, usage[1] or 11)


async def test_cached_tokens_and_the_upstreams_names_reach_the_receipt() -> None:
    """What the upstream says of itself and of its cache stands in the receipt."""
    usage = {"prompt_tokens": 100, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 64}}
    answer = msgspec.json.decode(chat_completion(model="mistral-medium-2508", usage=None)) | {"usage": usage}
    async with FakeUpstream() as paris, proxied({REGION: paris.base_url}) as app:
        paris.then(FakeAnswer.json(answer))
        receipt = _told(await asgi_exchange(app, json=_asked()))["receipt"]
    assert (receipt["prompt_tokens"], receipt["cached_tokens"], receipt["completion_tokens"]) == (100, 64, 7)
    assert (receipt["model"], receipt["upstream_model"]) == ("mistral-medium-3", "mistral-medium-2508")
    assert receipt["upstream_response_id"] == "chatcmpl-fake"
    assert receipt["usage_source"] == "upstream"


async def test_a_stream_that_was_cut_is_charged_for_what_came() -> None:
    """The error frame of a cut stream carries a receipt over the text that came, with status `upstream_error`."""
    frames = chat_frames(words=("abcd" * 10, "efgh" * 10), usage=None)[:3]
    async with FakeUpstream() as paris, proxied({REGION: paris.base_url}) as app:
        paris.then(FakeAnswer.stream(frames, ending="cut"))
        told = _told(await asgi_exchange(app, json=_asked(stream=True)))
    assert told["error"]["code"] == "upstream_stream_cut"
    receipt = told["receipt"]
    assert (receipt["completion_status"], receipt["usage_source"]) == ("upstream_error", "estimated")
    assert receipt["completion_tokens"] == 20
    assert receipt["gco2e"] > 0


@pytest.mark.parametrize("boundary", ["comprehensive", "narrow"])
async def test_a_receipt_stands_at_the_boundary_the_caller_asked_for(boundary: str) -> None:
    """The `boundary` option reaches the figures: narrow energy is the accelerators'."""
    async with FakeUpstream() as paris, proxied({REGION: paris.base_url}) as app:
        receipt = _told(await asgi_exchange(app, json=_asked(vetted={"boundary": boundary})))["receipt"]
    assert receipt["boundary"] == boundary
    assert (receipt["energy_wh"] == receipt["accelerator_wh"]) is (boundary == "narrow")


async def test_the_operators_settings_reach_the_receipt() -> None:
    """Issuer, model size, hardware and site figures of the settings are those of the receipt."""
    upstream = {"hardware": "H100", "pue": 1.3, "wue_l_per_kwh": 0.1, "annual_gco2_per_kwh": 44.0, "annual_year": 2023}
    async with (
        FakeUpstream() as paris,
        proxied(
            {REGION: {"base_url": paris.base_url} | upstream},
            receipts={"issuer": "Example Ltd"},
            models={
                "house": {"active_params_b": 3.0, "total_params_b": 30.0, "bytes_per_param": 1.0, "batch_size": 8.0}
            },
        ) as app,
    ):
        receipt = _told(await asgi_exchange(app, json=_asked(model="house")))["receipt"]
    told = {name: receipt[name] for name in ("issuer", "hardware", "pue", "wue_l_per_kwh", "pue_quality")}
    assert told == {
        "issuer": "Example Ltd",
        "hardware": "H100",
        "pue": 1.3,
        "wue_l_per_kwh": 0.1,
        "pue_quality": "assumed",
    }
    sizes = ("params_active_b", "params_total_b", "bytes_per_param", "batch_size")
    assert [receipt[name] for name in sizes] == [3, 30, 1, 8]
    assert (receipt["grid_intensity_source"], receipt["grid_intensity_gco2_per_kwh"]) == ("annual_configured", 44)
    assert receipt["grid_intensity_observed_at"] == "2024-01-01T00:00:00Z"


@pytest.mark.parametrize("age_minutes", [3.0, 47.123])
async def test_receipt_and_trace_name_one_signal(age_minutes: float) -> None:
    """On a live answer the trace's receipt signal, its operational signal and the receipt's grid fields agree."""
    clock = ManualClock()
    signals = StaticSignals({"FR": 21.123456789}, now=clock.now, age_minutes=age_minutes, name="rte_live")
    async with (
        FakeUpstream() as paris,
        proxied(
            {REGION: paris.base_url}, signals=[signals], options={"now": clock.now, "monotonic": clock.monotonic}
        ) as app,
    ):
        told = _told(await asgi_exchange(app, json=_asked(vetted={"routing": "carbon_aware"})))
    receipt, trace = told["receipt"], told["routing_trace"]
    assert trace["decision_mode"] == "live"
    assert trace["receipt_signal"] == trace["operational_signal"]
    assert trace["receipt_signal"] == {
        "source": "rte_live",
        "signal_kind": "measured",
        "gco2_per_kwh": 21.1235,
        "observed_at": receipt["grid_intensity_observed_at"],
        "requested_at": "2026-11-22T10:30:00Z",
        "age_minutes": round(age_minutes, 1),
        "temporal_match": "live_window" if age_minutes <= 15 else "fresh",
        "live_eligible": True,
    }
    assert _grid(receipt) == _grid_of(trace["receipt_signal"])
    assert receipt["region"] == trace["region"] == REGION


async def test_a_forecast_neither_decides_nor_backs_the_receipt() -> None:
    """Where only a forecast is known the decision is degraded and the receipt rests on the declared annual figure."""
    clock = ManualClock()
    async with (
        FakeUpstream() as paris,
        proxied(
            {REGION: paris.base_url},
            signals=[_Forecasts(clock)],
            options={"now": clock.now, "monotonic": clock.monotonic},
        ) as app,
    ):
        told = _told(await asgi_exchange(app, json=_asked(vetted={"routing": "carbon_aware"})))
    receipt, trace = told["receipt"], told["routing_trace"]
    assert (trace["decision_mode"], trace["operational_signal"]) == ("degraded", None)
    assert (receipt["grid_intensity_source"], receipt["grid_temporal_match"]) == ("annual_declared", "annual_fallback")
    assert _grid(receipt) == _grid_of(trace["receipt_signal"])
    assert trace["receipt_signal"]["live_eligible"] is False
    assert trace["receipt_signal"]["signal_kind"] == "fallback"


async def test_a_failover_moves_the_receipt_to_the_region_that_served() -> None:
    """Route, site and grid figure are those of the region that answered, not of the one that failed."""
    async with FakeUpstream() as paris, FakeUpstream() as gravelines:
        paris.then(FakeAnswer.json({"error": {"message": "broken"}}, status=500))
        async with proxied({REGION: paris.base_url, "ovh-gra-1": gravelines.base_url}) as app:
            receipt = _told(await asgi_exchange(app, json=_asked()))["receipt"]
    assert (receipt["region"], receipt["route_taken"], receipt["pue"]) == ("ovh-gra-1", "ovhcloud:gra-1", 1.28)


@pytest.mark.parametrize(
    ("usages", "source", "tokens"),
    [
        ([(5, 7), (6, 8)], "upstream", (11, 15)),
        ([(5, 7), None], "estimated", (5 + 3, 7 + 11)),
        ([(5, 7), (0, 0)], "estimated", (5 + 3, 7 + 11)),
    ],
)
async def test_a_handlers_calls_are_added_up_in_one_receipt(
    usages: list[tuple[int, int] | None], source: str, tokens: tuple[int, int]
) -> None:
    """Two calls of one handler make one receipt over the sum; one that nobody counted makes the sum an estimate."""
    async with FakeUpstream() as paris:
        paris.then(*(FakeAnswer.json(chat_completion(text="x" * 41, usage=usage)) for usage in usages))
        async with Gateway(configured({REGION: paris.base_url})) as gateway:

            async def handler(scope: Scope, receive: Receive, send: Send) -> None:
                for _ in usages:
                    answer = await gateway.http_client.post("http://vetted/v1/chat/completions", json=_asked())
                await JSONResponse(answer.json())(scope, receive, send)

            app = VettedMiddleware(handler, gateway=gateway, mode="in_app")
            receipt = _told(await asgi_exchange(app, json=_asked()))["receipt"]
    assert (receipt["calls"], receipt["usage_source"]) == (2, source)
    assert (receipt["prompt_tokens"], receipt["completion_tokens"]) == tokens


def _grid(receipt: dict[str, Any]) -> dict[str, Any]:
    return {
        "source": receipt["grid_intensity_source"],
        "gco2_per_kwh": receipt["grid_intensity_gco2_per_kwh"],
        "observed_at": receipt["grid_intensity_observed_at"],
        "requested_at": receipt["grid_intensity_requested_at"],
        "age_minutes": receipt["grid_intensity_age_minutes"],
        "temporal_match": receipt["grid_temporal_match"],
    }


def _grid_of(signal: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in signal.items() if name not in {"signal_kind", "live_eligible"}}
