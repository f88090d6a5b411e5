"""Receipt and trace on the wire: under either name, whole or streamed, never contradicting each other."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from support import MODEL
from vetted_mw.testing import FakeAnswer, FakeUpstream, ManualClock, StaticSignals, chat_completion, chat_frames
from wire.clients import COMPLETIONS, GRAVELINES, PARIS, STOCKHOLM, at_the_wire, chat, told_error

if TYPE_CHECKING:
    import httpx

pytestmark = pytest.mark.anyio

JSON_AND_STREAM = pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
EITHER_NAME = pytest.mark.parametrize("key", ["receipt", "vetted"])
SIGNAL_KEYS = {
    "source",
    "signal_kind",
    "gco2_per_kwh",
    "observed_at",
    "requested_at",
    "age_minutes",
    "temporal_match",
    "live_eligible",
}


def chunks_of(text: str) -> list[dict[str, Any]]:
    """The JSON data of a stream's frames, `[DONE]` left out."""
    return [json.loads(line[6:]) for line in text.split("\n\n") if line.startswith("data: {")]


def members_of(answer: httpx.Response, *, stream: bool) -> dict[str, Any]:
    """The JSON object that carries the members: the whole answer, or the one chunk of a stream."""
    if not stream:
        told: dict[str, Any] = answer.json()
        return told
    (carrier,) = (chunk for chunk in chunks_of(answer.text) if "routing_trace" in chunk)
    return carrier


# ---- where they stand


@EITHER_NAME
async def test_a_whole_answer_keeps_its_own_bytes_and_gains_two_members_at_its_end(key: str) -> None:
    """The upstream's bytes come first and untouched; `receipt_key` names the receipt and nothing else."""
    own = b'{ "id": "x",\n  "choices" : [ {"index":0,"message":{"content":"\\u00e9"}} ],"usage":null, "odd": 1.50 }'
    async with FakeUpstream() as paris, at_the_wire({PARIS: paris.base_url}, receipt_key=key) as client:
        paris.then(FakeAnswer.json(own))
        answer = await client.post(COMPLETIONS, json=chat(vetted={"boundary": "narrow"}))
    assert answer.content.startswith(own.removesuffix(b"}").rstrip())
    assert list(answer.json()) == ["id", "choices", "usage", "odd", key, "routing_trace"]
    assert answer.json()[key]["boundary"] == "narrow"


@EITHER_NAME
@pytest.mark.parametrize("asked", [False, True], ids=["usage not asked for", "usage asked for"])
async def test_a_stream_carries_both_members_on_its_finish_chunk(key: str, *, asked: bool) -> None:
    """One chunk carries both, the one with the finish reason; a usage chunk follows only if asked for, then `[DONE]`."""
    options = {"stream_options": {"include_usage": True}} if asked else {}
    async with FakeUpstream() as paris, at_the_wire({PARIS: paris.base_url}, receipt_key=key) as client:
        paris.then(FakeAnswer.stream(chat_frames(words=["Hel", "lo"])))
        answer = await client.post(COMPLETIONS, json=chat(stream=True, **options))
    chunks = chunks_of(answer.text)
    assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"]) == "Hello"
    finish = [place for place, chunk in enumerate(chunks) if chunk["choices"] and chunk["choices"][0]["finish_reason"]]
    assert [place for place, chunk in enumerate(chunks) if key in chunk] == finish
    assert list(chunks[finish[0]])[-2:] == [key, "routing_trace"]
    after = chunks[finish[0] + 1 :]
    assert [chunk.get("usage") is not None for chunk in after] == ([True] if asked else [])
    assert answer.text.endswith("\n\ndata: [DONE]\n\n")
    assert answer.text.count("[DONE]") == 1
    assert paris.requests[0].json()["stream_options"] == {"include_usage": True}


@EITHER_NAME
@JSON_AND_STREAM
async def test_members_an_upstream_made_up_give_way_to_ours(
    key: str, caplog: pytest.LogCaptureFixture, *, stream: bool
) -> None:
    """An answer that already has such members does not get past us with them, and the log names them."""
    made_up: dict[str, Any] = {key: {"gco2e": 0}, "routing_trace": {"region": "mars"}}
    frames = chat_frames()
    finish = json.loads(frames[-3][6:]) | made_up
    frames[-3] = b"data: " + json.dumps(finish).encode() + b"\n\n"
    scripted = FakeAnswer.stream(frames) if stream else FakeAnswer.json(chat_completion(**made_up))
    async with FakeUpstream() as paris, at_the_wire({PARIS: paris.base_url}, receipt_key=key) as client:
        paris.then(scripted)
        with caplog.at_level(logging.WARNING, logger="vetted_mw"):
            answer = await client.post(COMPLETIONS, json=chat(stream=stream))
    told = members_of(answer, stream=stream)
    assert told["routing_trace"]["region"] == told[key]["region"] == PARIS
    assert "mars" not in answer.text
    assert answer.text.count('"routing_trace"') == 1
    assert [record for record in caplog.records if "replaced" in record.getMessage()]


@EITHER_NAME
async def test_a_stream_that_breaks_after_commit_ends_with_an_error_beside_both_members(key: str) -> None:
    """One frame with `error`, receipt and trace and no `choices`, and no `[DONE]`: nobody takes the cut for an end."""
    async with FakeUpstream() as paris, at_the_wire({PARIS: paris.base_url}, receipt_key=key) as client:
        paris.then(FakeAnswer.stream(chat_frames(words=["Hel", "lo"])[:2], ending="cut"))
        answer = await client.post(COMPLETIONS, json=chat(stream=True))
    last = chunks_of(answer.text)[-1]
    assert list(last) == ["error", key, "routing_trace"]
    assert (last["error"]["type"], last["error"]["code"]) == ("inference_error", "upstream_stream_cut")
    assert last[key]["completion_status"] == "upstream_error"
    assert last["routing_trace"]["attempts"][-1]["outcome"] == "upstream_cut"
    assert "[DONE]" not in answer.text
    assert answer.headers["x-vetted-receipt-id"] == last[key]["query_id"]


@EITHER_NAME
@JSON_AND_STREAM
async def test_an_error_answer_carries_no_receipt_under_either_name(key: str, *, stream: bool) -> None:
    """Beside `error` stands the trace and nothing else."""
    async with FakeUpstream() as paris, at_the_wire({PARIS: paris.base_url}, receipt_key=key) as client:
        paris.then(FakeAnswer.json({}, status=500))
        answer = await client.post(COMPLETIONS, json=chat(stream=stream))
    assert told_error(answer)["code"] == "upstream_error"
    assert list(answer.json()) == ["error", "routing_trace"]


# ---- what they say of each other


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One way to an answer.

    Attributes:
        name: for the reader.
        options: the request's `vetted`.
        signals: zone -> intensity.
        age_minutes: how old those are.
        broken: regions that fail their first request.
        expected: mode, reason, serving region.
        operational: whether a live signal chose the serving region.
        match: the receipt signal's `temporal_match`.
    """

    name: str
    options: dict[str, Any]
    expected: tuple[str, str, str]
    operational: bool
    match: str
    signals: dict[str, float]
    age_minutes: float = 10.0
    broken: tuple[str, ...] = ()


LIVE = {"FR": 50.0, "SE_3": 20.0}
SCENES = [
    Scene(
        name="default, with signals",
        options={},
        signals=LIVE,
        expected=("preferred", "preferred_available", PARIS),
        operational=False,
        match="live_window",
    ),
    Scene(
        name="default, without signals",
        options={},
        signals={},
        expected=("preferred", "preferred_available", PARIS),
        operational=False,
        match="annual_fallback",
    ),
    Scene(
        name="pinned",
        options={"region": STOCKHOLM},
        signals=LIVE,
        age_minutes=100.0,
        expected=("pinned", "pinned_region_available", STOCKHOLM),
        operational=False,
        match="fresh",
    ),
    Scene(
        name="lowest carbon",
        options={"routing": "carbon_aware"},
        signals=LIVE,
        expected=("live", "lowest_live_intensity", STOCKHOLM),
        operational=True,
        match="live_window",
    ),
    Scene(
        name="only one live",
        options={"routing": "carbon_aware"},
        signals={"SE_3": 20.0},
        age_minutes=100.0,
        expected=("live", "only_live_candidate", STOCKHOLM),
        operational=True,
        match="fresh",
    ),
    Scene(
        name="lowest carbon, failed over to the next",
        options={"routing": "carbon_aware"},
        signals=LIVE,
        broken=(STOCKHOLM,),
        expected=("failover", "attempt_failed", PARIS),
        operational=True,
        match="live_window",
    ),
    Scene(
        name="lowest carbon, live candidates exhausted",
        options={"routing": "carbon_aware"},
        signals={"SE_3": 20.0},
        broken=(STOCKHOLM,),
        expected=("failover", "live_candidates_exhausted", PARIS),
        operational=False,
        match="annual_fallback",
    ),
    Scene(
        name="lowest carbon, all stale",
        options={"routing": "carbon_aware"},
        signals=LIVE,
        age_minutes=1000.0,
        expected=("degraded", "degraded_no_operational_live_signal", PARIS),
        operational=False,
        match="annual_fallback",
    ),
]


@EITHER_NAME
@JSON_AND_STREAM
@pytest.mark.parametrize("scene", SCENES, ids=[scene.name for scene in SCENES])
async def test_receipt_and_trace_never_contradict_each_other(key: str, scene: Scene, *, stream: bool) -> None:
    """Region, signal, live-eligibility, mode and instant of both members, and of the headers, are one story."""
    clock = ManualClock()
    signals = StaticSignals(scene.signals, now=clock.now, age_minutes=scene.age_minutes)
    async with FakeUpstream() as paris, FakeUpstream() as stockholm:
        upstreams = {PARIS: paris, STOCKHOLM: stockholm}
        for region in scene.broken:
            upstreams[region].then(FakeAnswer.json({}, status=500))
        urls = {region: upstream.base_url for region, upstream in upstreams.items()}
        options = {"now": clock.now, "monotonic": clock.monotonic}
        async with at_the_wire(urls, signals=[signals], options=options, receipt_key=key) as client:
            answer = await client.post(COMPLETIONS, json=chat(stream=stream, vetted=scene.options))
    told = members_of(answer, stream=stream)
    receipt, trace = told[key], told["routing_trace"]
    mode, reason, region = scene.expected
    assert (trace["decision_mode"], trace["decision_reason"], trace["region"]) == (mode, reason, region)
    assert receipt["region"] == answer.headers["x-vetted-region"] == region
    assert answer.headers["x-vetted-decision-mode"] == mode
    assert answer.headers["x-vetted-decision-reason"] == reason
    assert len(upstreams[region].requests) == 1

    signal = trace["receipt_signal"]
    assert signal.keys() == SIGNAL_KEYS
    assert {
        "grid_intensity_source": signal["source"],
        "grid_intensity_gco2_per_kwh": signal["gco2_per_kwh"],
        "grid_intensity_observed_at": signal["observed_at"],
        "grid_intensity_requested_at": signal["requested_at"],
        "grid_intensity_age_minutes": signal["age_minutes"],
        "grid_temporal_match": signal["temporal_match"],
    }.items() <= receipt.items()
    assert signal["temporal_match"] == scene.match
    assert signal["live_eligible"] == (scene.match != "annual_fallback")
    assert signal["signal_kind"] == ("fallback" if scene.match == "annual_fallback" else "measured")
    assert signal["requested_at"] == "2026-11-22T10:30:00Z"

    assert trace["operational_signal"] == (signal if scene.operational else None)

    attempts = [(one["region"], one["outcome"]) for one in trace["attempts"]]
    assert attempts == [*((broken, "upstream_error") for broken in scene.broken), (region, "success")]
    (candidate,) = (one for one in trace["candidates"] if one["region"] == region)
    live_tail = reason == "live_candidates_exhausted"
    assert candidate["eligible"] is not live_tail
    assert candidate["rejected"] == ("no_live_signal" if live_tail else None)


# ---- shorter


@JSON_AND_STREAM
async def test_a_short_trace_leaves_candidates_and_attempts_out_and_nothing_else(*, stream: bool) -> None:
    """`trace_detail = "short"` holds for answers and errors alike."""
    async with (
        FakeUpstream() as paris,
        at_the_wire({PARIS: paris.base_url}, signals=[StaticSignals(LIVE)], trace_detail="short") as client,
    ):
        body = chat(stream=stream, vetted={"routing": "carbon_aware"})
        served = await client.post(COMPLETIONS, json=body)
        paris.then(FakeAnswer.json({}, status=500))
        refused = await client.post(COMPLETIONS, json=body)
    always = {
        "route_policy",
        "decision_mode",
        "decision_reason",
        "region",
        "operational_signal",
        "receipt_signal",
        "method",
    }
    assert members_of(served, stream=stream)["routing_trace"].keys() == always | {"default_region"}
    assert refused.json()["routing_trace"].keys() == always


# ---- elsewhere in a stream


def text_of(answer: httpx.Response) -> str:
    return "".join(
        choice["delta"].get("content") or "" for chunk in chunks_of(answer.text) for choice in chunk["choices"]
    )


async def streamed(placement: str, *, asked: bool) -> httpx.Response:
    """A stream of "Hello", the members placed as the settings say."""
    options = {"stream_options": {"include_usage": True}} if asked else {}
    async with FakeUpstream() as paris, at_the_wire({PARIS: paris.base_url}, sse_placement=placement) as client:
        paris.then(FakeAnswer.stream(chat_frames(words=["Hel", "lo"])))
        answer = await client.post(COMPLETIONS, json=chat(stream=True, **options))
    assert text_of(answer) == "Hello"
    assert answer.text.endswith("data: [DONE]\n\n")
    return answer


async def test_members_can_stand_on_the_usage_chunk() -> None:
    """`usage_chunk` puts them on the chunk a caller asked for; the finish chunk stays the upstream's own."""
    chunks = chunks_of((await streamed("usage_chunk", asked=True)).text)
    assert [place for place, chunk in enumerate(chunks) if "receipt" in chunk] == [len(chunks) - 1]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == 7


async def test_without_a_usage_chunk_the_members_stand_on_the_finish_chunk() -> None:
    """No extra chunk is sent to a caller that did not ask for usage: user code reads `choices[0]` of every chunk."""
    chunks = chunks_of((await streamed("usage_chunk", asked=False)).text)
    assert all(chunk["choices"] for chunk in chunks)
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks if "receipt" in chunk] == ["stop"]


@pytest.mark.parametrize("asked", [False, True])
async def test_members_can_stand_in_a_comment(*, asked: bool) -> None:
    """`comment` keeps them out of every chunk, in one comment line before `[DONE]`."""
    answer = await streamed("comment", asked=asked)
    assert not [chunk for chunk in chunks_of(answer.text) if "receipt" in chunk or "routing_trace" in chunk]
    (comment,) = (frame for frame in answer.text.split("\n\n") if frame.startswith(":"))
    told = json.loads(comment[2:])
    assert list(told) == ["receipt", "routing_trace"]
    assert told["receipt"]["query_id"] == answer.headers["x-vetted-receipt-id"]


@pytest.mark.parametrize("asked", [False, True])
async def test_members_can_be_left_out_of_streams(*, asked: bool) -> None:
    """`off` leaves the stream as the upstream sent it; the headers still say where it ran."""
    answer = await streamed("off", asked=asked)
    frames = chat_frames(words=["Hel", "lo"])
    assert answer.content == b"".join(frames if asked else [*frames[:-2], frames[-1]])
    assert answer.headers["x-vetted-region"] == PARIS


async def test_paths_of_the_settings_are_ours_and_others_are_not() -> None:
    """`paths` replaces the default path, each with and without its trailing slash."""
    async with FakeUpstream() as paris:
        settings: dict[str, Any] = {"paths": ["/openai/chat", "/v2/chat/completions/"]}
        async with at_the_wire({PARIS: {"base_url": paris.base_url, "models": [MODEL]}}, **settings) as client:
            statuses = {
                path: (await client.post(path, json=chat())).status_code
                for path in (
                    "/openai/chat",
                    "/openai/chat/",
                    "/v2/chat/completions",
                    "/v2/chat/completions/",
                    "/openai/chat//",
                    "/openai/chat/x",
                    "/x/openai/chat",
                    "/openai/chatx",
                    COMPLETIONS,
                )
            }
    assert [path for path, status in statuses.items() if status == 200] == list(statuses)[:4]
    assert set(list(statuses.values())[4:]) == {404}
    assert {request.path for request in paris.requests} == {"/v1/chat/completions"}
    assert GRAVELINES not in str(paris.requests)
