"""An answer's receipt is signed and kept before it is sent; what was abandoned, cut or never answered is kept too."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from evidence.memory_ledger import MemoryLedger
from receipts.keys import jwks, private_pem, signer
from support import HELLO, MODEL, configured, proxied
from vetted_mw import Gateway, VettedProxy, load_configuration
from vetted_mw.configuration import SigningConfiguration
from vetted_mw.receipts.binding import opens, transcript_of_answer
from vetted_mw.receipts.jwks import parse_jwks
from vetted_mw.receipts.jws import from_b64url, reattached
from vetted_mw.receipts.signing import verify_jws
from vetted_mw.secret import Secret
from vetted_mw.testing import FakeAnswer, FakeUpstream, asgi_exchange, chat_frames

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vetted_mw.testing import Exchange

pytestmark = pytest.mark.anyio

SAID = 'Il dit "oui" à l\u2019eau\n\u2028'
PATH = "/v1/chat/completions"
KEYS = parse_jwks(json.dumps(jwks(signer())).encode())
PARIS, GRAVELINES = "scaleway-par-1", "ovh-gra-1"
both = pytest.mark.parametrize("stream", [False, True], ids=["json", "sse"])


def asked(*, stream: bool, **members: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": HELLO, "stream": stream} | members


def told(exchange: Exchange) -> dict[str, Any]:
    """Return the object that carries the members: the answer, or the stream's chunk or error frame with them."""
    if exchange.headers["content-type"].startswith("application/json"):
        return dict(exchange.json())
    frames = [line[6:] for line in exchange.body.decode().split("\n\n") if line.startswith("data: {")]
    return next(frame for frame in map(json.loads, frames) if "routing_trace" in frame)


def delivered(exchange: Exchange) -> dict[str, Any]:
    """Return what was delivered as one answer: a stream's deltas put together."""
    if exchange.headers["content-type"].startswith("application/json"):
        return dict(exchange.json())
    lines = [line[6:] for line in exchange.body.decode().split("\n\n") if line.startswith("data: {")]
    choices = [choice for frame in map(json.loads, lines) for choice in frame.get("choices", ())]
    text = "".join(choice["delta"].get("content") or "" for choice in choices)
    reason = next((choice["finish_reason"] for choice in choices if choice.get("finish_reason")), None)
    return {"choices": [{"index": 0, "message": {"content": text}, "finish_reason": reason}]}


def signed_payload(receipt: Mapping[str, Any]) -> dict[str, Any]:
    """Verify a receipt as its holder does, and return what was signed."""
    payload = {name: value for name, value in receipt.items() if name not in {"signature", "binding_nonce"}}
    verified = verify_jws(reattached(receipt["signature"], payload), KEYS)
    assert json.loads(verified.payload) == payload
    return payload


def keyed(ledger: MemoryLedger | None, *upstreams: FakeUpstream, **overrides: Any) -> Gateway:
    """Return a gateway that signs with the tests' key."""
    regions = dict(zip((PARIS, GRAVELINES), (upstream.base_url for upstream in upstreams), strict=False))
    configuration = replace(configured(regions, **overrides), signing=SigningConfiguration(key=Secret(private_pem())))
    return Gateway(configuration, ledger=ledger)


@both
async def test_a_receipt_on_the_wire_verifies_and_is_in_the_ledger(*, stream: bool) -> None:
    """What the caller holds is what was signed, number for number, and the ledger has the same signature."""
    ledger = MemoryLedger()
    async with FakeUpstream(text="Bonjour") as paris, keyed(ledger, paris) as gateway:
        exchange = await asgi_exchange(VettedProxy(gateway), path=PATH, json=asked(stream=stream))
    receipt = told(exchange)["receipt"]
    payload = signed_payload(receipt)
    assert (payload["ledger_id"], payload["seq"]) == ("memory", 1)
    assert [row.signature for row in ledger.rows] == [receipt["signature"]]
    assert msgspec.json.decode(verify_jws(ledger.rows[0].text, KEYS).payload) == payload
    assert "binding_nonce" not in ledger.rows[0].text


@both
async def test_a_receipt_is_signed_without_a_ledger(*, stream: bool) -> None:
    """A key alone signs; nothing then claims a place in a ledger."""
    async with FakeUpstream() as paris, keyed(None, paris) as gateway:
        exchange = await asgi_exchange(VettedProxy(gateway), path=PATH, json=asked(stream=stream))
    payload = signed_payload(told(exchange)["receipt"])
    assert "seq" not in payload
    assert "ledger_id" not in payload
    assert "ledger" not in told(exchange)["routing_trace"]


@both
async def test_a_receipt_without_a_key_does_not_look_signed(*, stream: bool) -> None:
    """No key, no signature: nothing stands in its place."""
    async with FakeUpstream() as paris, proxied({PARIS: paris.base_url}) as app:
        exchange = await asgi_exchange(app, path=PATH, json=asked(stream=stream))
    receipt = told(exchange)["receipt"]
    assert "signature" not in receipt
    assert receipt["response_digest"].startswith("hmac-sha-256:")


@both
async def test_the_nonce_opens_the_digest_of_what_was_delivered(*, stream: bool) -> None:
    """The caller can show what content its receipt is for; with another word in it, it cannot."""
    scripted = [FakeAnswer.stream(chat_frames(words=[SAID[:9], SAID[9:]]))] if stream else []
    async with FakeUpstream(text=SAID).then(*scripted) as paris, keyed(None, paris) as gateway:
        exchange = await asgi_exchange(VettedProxy(gateway), path=PATH, json=asked(stream=stream))
    receipt, answer = told(exchange)["receipt"], delivered(exchange)
    transcript = transcript_of_answer(answer)
    assert transcript[0]["content"] == SAID
    assert opens(receipt["response_digest"], from_b64url(receipt["binding_nonce"]), transcript)
    transcript[0]["content"] += "!"
    assert not opens(receipt["response_digest"], from_b64url(receipt["binding_nonce"]), transcript)


@both
async def test_the_answers_end_waits_for_the_ledger(*, stream: bool) -> None:
    """No receipt is with a caller that is not in the ledger yet."""
    ledger = MemoryLedger()
    ledger.gate = asyncio.Event()
    async with FakeUpstream() as paris, keyed(ledger, paris) as gateway:
        app = VettedProxy(gateway)
        task = asyncio.create_task(asgi_exchange(app, path=PATH, json=asked(stream=stream)))
        await ledger.waiting.wait()
        for _turn in range(20):
            await asyncio.sleep(0)
        assert not task.done()
        ledger.gate.set()
        exchange = await task
    assert told(exchange)["receipt"]["seq"] == 1


@both
async def test_an_attempt_that_was_given_up_is_kept_beside_the_answer(*, stream: bool) -> None:
    """Energy was spent on it: it stands in the ledger with an id of its own that leads to the answer's receipt."""
    ledger = MemoryLedger()
    cut = FakeAnswer(
        headers=(("content-type", "application/json"), ("content-length", "999")), body=(b"{",), ending="cut"
    )
    async with FakeUpstream().then(cut) as paris, FakeUpstream() as gravelines:
        gateway = keyed(ledger, paris, gravelines, models={MODEL: {"active_params_b": 8, "total_params_b": 8}})
        async with gateway:
            exchange = await asgi_exchange(VettedProxy(gateway), path=PATH, json=asked(stream=stream))
    receipt = told(exchange)["receipt"]
    spent, own = ledger.receipts
    assert own.query_id == receipt["query_id"]
    assert own.request_id is msgspec.UNSET
    assert (spent.region, spent.completion_status, spent.tier) == (PARIS, "abandoned", "proxy")
    assert (spent.request_id, spent.completion_tokens, spent.usage_source) == (own.query_id, 0, "estimated")
    assert spent.query_id != own.query_id
    assert spent.response_digest is None
    attempt = told(exchange)["routing_trace"]["attempts"][0]
    assert spent.energy_wh == pytest.approx(attempt["estimated_energy_wh"], rel=1e-5)
    assert ledger.batches == [2]


@both
async def test_what_an_error_answer_used_is_in_the_ledger(*, stream: bool) -> None:
    """An error carries no receipt; the work behind it is kept all the same."""
    ledger = MemoryLedger()
    cut = FakeAnswer(
        headers=(("content-type", "application/json"), ("content-length", "999")), body=(b"{",), ending="cut"
    )
    async with FakeUpstream().then(cut) as paris, keyed(ledger, paris) as gateway:
        exchange = await asgi_exchange(VettedProxy(gateway), path=PATH, json=asked(stream=stream))
    assert exchange.status == 502
    assert "receipt" not in exchange.json()
    assert [(one.completion_status, one.region) for one in ledger.receipts] == [("abandoned", PARIS)]


async def test_a_stream_that_broke_tells_a_receipt_that_is_kept() -> None:
    """The error frame's receipt is for the tokens that came, signed and in the ledger."""
    ledger = MemoryLedger()
    broken = FakeAnswer.stream(chat_frames()[:2], ending="cut")
    async with FakeUpstream().then(broken) as paris, keyed(ledger, paris) as gateway:
        exchange = await asgi_exchange(VettedProxy(gateway), path=PATH, json=asked(stream=True))
    receipt = told(exchange)["receipt"]
    assert signed_payload(receipt)["completion_status"] == "upstream_error"
    assert opens(
        receipt["response_digest"], from_b64url(receipt["binding_nonce"]), transcript_of_answer(delivered(exchange))
    )
    assert [one.query_id for one in ledger.receipts] == [receipt["query_id"]]


async def test_an_answer_whose_receipt_is_withheld_is_no_row() -> None:
    """There is nothing to keep where the settings want no receipt; the trace says why."""
    ledger = MemoryLedger()
    async with FakeUpstream() as paris, keyed(ledger, paris, receipts={"unknown_model": "null"}) as gateway:
        exchange = await asgi_exchange(VettedProxy(gateway), path=PATH, json=asked(stream=False))
    assert told(exchange)["receipt"] is None
    assert told(exchange)["routing_trace"]["receipt_error"] == "unknown_model"
    assert ledger.rows == []


@both
async def test_work_whose_receipt_was_refused_is_a_row_of_its_own(*, stream: bool) -> None:
    """Measured energy was asked for and is not there: no receipt is told, and the work is in the ledger, as parametric."""
    ledger = MemoryLedger()
    async with FakeUpstream() as paris, keyed(ledger, paris) as gateway:
        body = asked(stream=stream, vetted={"tier": "telemetry"})
        exchange = await asgi_exchange(VettedProxy(gateway), path=PATH, json=body)
    assert told(exchange)["receipt"] is None
    assert told(exchange)["routing_trace"]["receipt_error"] == "tier_unavailable"
    (row,) = ledger.receipts
    assert (row.tier, row.completion_tokens, row.response_digest) == ("parametric", 2, None)
    assert row.request_id is not msgspec.UNSET
    assert row.request_id != row.query_id


async def test_rows_belong_to_the_caller_who_asked() -> None:
    """Each configured caller's receipts are kept under its name."""
    ledger = MemoryLedger()
    configuration_keys = {"callers": {"team-a": {"key": {"env": "TEAM_A"}}}}
    async with FakeUpstream() as paris:
        configuration = load_configuration(
            environ={"TEAM_A": "a-key"},
            overrides={
                "default_order": [PARIS],
                "regions": {PARIS: {"base_url": paris.base_url, "health_path": ""}},
                **configuration_keys,
            },
        )
        async with Gateway(configuration, ledger=ledger) as gateway:
            exchange = await asgi_exchange(
                VettedProxy(gateway), path=PATH, json=asked(stream=False), headers=[("authorization", "Bearer a-key")]
            )
    assert exchange.status == 200
    assert ledger.callers == ["team-a"]
    assert "team-a" not in ledger.rows[0].text
