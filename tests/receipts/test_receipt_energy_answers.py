"""Measured energy, engines and the comparison on the wire, through the gateway."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from support import HELLO, proxied
from vetted_mw.testing import Exchange, FakeAnswer, FakeUpstream, asgi_exchange, chat_completion, chat_frames, sse

pytestmark = pytest.mark.anyio

REGION, OTHER = "scaleway-par-1", "scaleway-par-2"
USAGE = {"prompt_tokens": 24, "completion_tokens": 78, "total_tokens": 102}
HEADER = {"header": "X-Energy-Joules", "unit": "J", "scope": "gpu"}
PATH = {"json_path": "usage.energy.wh", "unit": "Wh", "scope": "node"}
BOTH = pytest.mark.parametrize("stream", [False, True])


def _completion(told: dict[str, Any]) -> dict[str, Any]:
    whole: dict[str, Any] = msgspec.json.decode(chat_completion(usage=None))
    return whole | {"usage": USAGE | told}


def _answer(told: dict[str, Any], *, stream: bool, headers: tuple[tuple[str, str], ...] = ()) -> FakeAnswer:
    """Return an upstream's answer whose usage holds `told` beside the counts."""
    if not stream:
        return FakeAnswer.json(_completion(told), headers=headers)
    frames = chat_frames(usage=None, done=False)
    last = sse({"id": "c", "object": "chat.completion.chunk", "model": "fake", "choices": [], "usage": USAGE | told})
    return FakeAnswer.stream([*frames, last, b"data: [DONE]\n\n"], headers=headers)


def _told(exchange: Exchange) -> dict[str, Any]:
    if exchange.headers["content-type"].startswith("application/json"):
        told: dict[str, Any] = exchange.json()
        return told
    frames = [frame.removeprefix(b"data: ") for frame in exchange.body.split(b"\n\n")]
    decoded = [msgspec.json.decode(frame) for frame in frames if frame.startswith(b"{")]
    return next(frame for frame in decoded if "routing_trace" in frame)


def _asked(**members: Any) -> dict[str, Any]:
    return {"model": "mistral-medium-3", "messages": HELLO} | members


async def _exchange(where: dict[str, Any], answer: FakeAnswer, **members: Any) -> Exchange:
    async with (
        FakeUpstream().then(answer) as paris,
        proxied({REGION: paris.base_url}, receipts={"measured_energy": where}) as app,
    ):
        return await asgi_exchange(app, json=_asked(**members))


@BOTH
async def test_energy_told_in_a_header_is_charged(stream: bool) -> None:
    """The accelerators' joules of a header make a telemetry receipt, streamed or not."""
    answer = _answer({}, stream=stream, headers=(("x-energy-joules", "180"),))
    receipt = _told(await _exchange(HEADER, answer, stream=stream))["receipt"]
    assert (receipt["tier"], receipt["energy_source"], receipt["accelerator_wh"]) == ("telemetry", "upstream_gpu", 0.05)
    assert receipt["energy_wh"] == pytest.approx(0.05 * 1.29 * 1.12 * 1.46, rel=1e-5)


@BOTH
async def test_energy_told_in_the_answer_is_charged(stream: bool) -> None:
    """The server's watt-hours beside the usage make a telemetry receipt, streamed or not."""
    answer = _answer({"energy": {"wh": 0.06}}, stream=stream)
    receipt = _told(await _exchange(PATH, answer, stream=stream))["receipt"]
    assert (receipt["tier"], receipt["energy_source"], receipt["accelerator_wh"]) == (
        "telemetry",
        "upstream_node",
        None,
    )
    assert receipt["energy_wh"] == pytest.approx(0.06 * 1.46, rel=1e-5)


@BOTH
@pytest.mark.parametrize("told", ["much", 0, -1, 1e9, {"wh": 1}])
async def test_energy_that_cannot_be_true_is_rejected_and_said_so(stream: bool, told: Any) -> None:
    """Nonsense in the place leaves the parametric figures and a word for it."""
    receipt = _told(await _exchange(PATH, _answer({"energy": {"wh": told}}, stream=stream), stream=stream))["receipt"]
    assert (receipt["tier"], receipt["energy_source"]) == ("parametric", "parametric_rejected_upstream")
    assert receipt["energy_wh"] == pytest.approx(0.082319, rel=1e-3)


@BOTH
async def test_an_answer_that_tells_no_energy_is_parametric(stream: bool) -> None:
    """An upstream that could tell and does not is no rejection."""
    receipt = _told(await _exchange(PATH, _answer({}, stream=stream), stream=stream))["receipt"]
    assert (receipt["tier"], receipt["energy_source"]) == ("parametric", "parametric")


@BOTH
@pytest.mark.parametrize(
    ("told", "asked", "is_receipted"),
    [
        ({"energy": {"wh": 0.06}}, {"tier": "telemetry"}, True),
        ({}, {"tier": "telemetry"}, False),
        ({"energy": {"wh": -1}}, {"tier": "telemetry"}, False),
        ({"energy": {"wh": 0.06}}, {"boundary": "narrow"}, False),
        ({"energy": {"wh": 0.06}}, {"boundary": "narrow", "tier": "parametric"}, True),
        ({}, {"boundary": "narrow"}, True),
    ],
)
async def test_what_was_asked_for_is_given_or_refused(
    stream: bool, told: dict[str, Any], asked: dict[str, Any], is_receipted: bool
) -> None:
    """Tier and boundary are honoured, or the answer goes out with no receipt and the reason; no header promises one."""
    exchange = await _exchange(PATH, _answer(told, stream=stream), stream=stream, vetted=asked)
    answer = _told(exchange)
    assert exchange.status == 200
    if is_receipted:
        assert answer["receipt"]["boundary"] == asked.get("boundary", "comprehensive")
        assert answer["receipt"]["tier"] == asked.get("tier", "parametric")
    else:
        assert answer["receipt"] is None
        assert answer["routing_trace"]["receipt_error"] == "tier_unavailable"
        assert "x-vetted-receipt-id" not in exchange.headers


async def test_the_settings_choose_the_engine() -> None:
    """With `receipts.engine = "ecologits"` the figures are its own and the receipt names it."""
    async with (
        FakeUpstream().then(_answer({}, stream=False)) as paris,
        proxied({REGION: paris.base_url}, receipts={"engine": "ecologits"}) as app,
    ):
        receipt = (await asgi_exchange(app, json=_asked())).json()["receipt"]
    assert (receipt["energy_source"], receipt["tier"]) == ("ecologits", "parametric")
    assert receipt["energy_wh"] == pytest.approx(0.044557, rel=1e-3)


@BOTH
@pytest.mark.parametrize("region", [REGION, OTHER])
async def test_receipt_and_trace_tell_one_comparison(stream: bool, region: str) -> None:
    """The default region's figure is the same in receipt and trace, there and when it was the one that served."""
    async with (
        FakeUpstream().then(_answer({}, stream=stream)) as one,
        FakeUpstream().then(_answer({}, stream=stream)) as two,
        proxied({REGION: one.base_url, OTHER: two.base_url}) as app,
    ):
        told = _told(await asgi_exchange(app, json=_asked(stream=stream, vetted={"region": region})))
    receipt, trace = told["receipt"], told["routing_trace"]["default_region"]
    assert (receipt["region"], receipt["default_region"], trace["region"]) == (region, REGION, REGION)
    assert receipt["default_region_gco2e"] == trace["gco2e"]
    assert trace["gco2e_ci90_lo"] < trace["gco2e"] < trace["gco2e_ci90_hi"]
    assert (trace["gco2e"] == receipt["gco2e"]) is (region == REGION)
    assert trace["comparison"] == "attributional"
