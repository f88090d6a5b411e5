"""Nothing that a caller or an upstream wrote is in any span, metric, log line or error: searched for in the raw bytes.

Each place that can be written to gets a word of its own, so that a leak says where it came from. What is exempt is
named in `EXEMPT` with its reason; everything else must be found nowhere.
"""

from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING

import pytest

from support import configured
from telemetry.canaries import Canaries
from telemetry.planted import REQUEST_PLACES, answer, answer_headers, chunk, fault, listened, request, spoken
from telemetry.spans import GRAVELINES, PARIS
from vetted_mw.errors import ConfigurationError
from vetted_mw.testing import FakeAnswer, FakeUpstream, chat_frames, sse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

pytestmark = pytest.mark.anyio


@pytest.fixture
def canaries() -> Canaries:
    return Canaries()


# ---- what an upstream makes of a request


ANSWERS: Mapping[str, Callable[[Canaries], Sequence[FakeAnswer]]] = {
    "an answer": lambda c: [FakeAnswer.json(answer(c), headers=answer_headers(c))],
    "an answer nobody counted": lambda c: [FakeAnswer.json(answer(c, usage=None))],
    "usage of another kind": lambda c: [FakeAnswer.json(answer(c, usage={"prompt_tokens": c["usage value"]}))],
    "usage that is a text": lambda c: [FakeAnswer.json(answer(c, usage=c["usage value"]))],
    "members of ours": lambda c: [FakeAnswer.json(answer(c, receipt=c["receipt"], routing_trace=c["trace"]))],
    "odd choices": lambda c: [FakeAnswer.json(answer(c, choices=[c["choice"], {"finish_reason": {"a": c["reason"]}}]))],
    "an id that is an object": lambda c: [FakeAnswer.json(answer(c, id={"a": c["odd id"]}, model=[c["odd model"]]))],
    "the caller's fault": lambda c: [FakeAnswer.json(fault(c, "4xx"), status=400, headers=answer_headers(c))],
    "an unprocessable request": lambda c: [FakeAnswer.json(fault(c, "4xx"), status=422)],
    "a key that was refused": lambda c: [FakeAnswer.json(fault(c, "401"), status=401)] * 2,
    "too busy": lambda c: (
        [FakeAnswer.json(fault(c, "429"), status=429, headers=[("retry-after", c["retry after"])])] * 2
    ),
    "the upstream's fault": lambda c: [
        FakeAnswer.json(fault(c, "5xx"), status=500),
        FakeAnswer.json(fault(c, "5xx"), status=503),
    ],
    "a page": lambda c: [FakeAnswer.json(f"<html>{c['page']}".encode())] * 2,
    "a page of a fault": lambda c: [FakeAnswer.json(f"<html>{c['page']}".encode(), status=502)] * 2,
    "malformed JSON": lambda c: [FakeAnswer.json(f'{{"choices": "{c["malformed answer"]}'.encode())] * 2,
    "an error within a 200": lambda c: [FakeAnswer.json(fault(c, "200"))] * 2,
    "a redirect": lambda c: [FakeAnswer(status=302, headers=[("location", f"http://127.0.0.1:1/{c['location']}")])] * 2,
    "an encoding": lambda c: (
        [FakeAnswer(headers=[("content-encoding", c["encoding"])], body=(c["coded"].encode(),))] * 2
    ),
    "a cut answer": lambda c: (
        [FakeAnswer(headers=[("content-length", "900")], body=(json.dumps(answer(c)).encode()[:400],), ending="cut")]
        * 2
    ),
}
STREAMS: Mapping[str, Callable[[Canaries], Sequence[FakeAnswer]]] = {
    "a stream": lambda c: [FakeAnswer.stream([*spoken(c), chunk(c), *chat_frames()[-2:]], headers=answer_headers(c))],
    "a stream with odd usage": lambda c: [
        FakeAnswer.stream(
            [*spoken(c), sse({"choices": [], "usage": {c["usage key"]: c["usage value"]}}), b"data: [DONE]\n\n"]
        )
    ],
    "a stream with members of ours": lambda c: [
        FakeAnswer.stream([*spoken(c), sse({"choices": [], "receipt": c["receipt"], "routing_trace": c["trace"]})])
    ],
    "an error event": lambda c: [FakeAnswer.stream([*spoken(c), sse(fault(c, "event"))])],
    "an error event first": lambda c: [FakeAnswer.stream([sse(fault(c, "event"))])] * 2,
    "a named event": lambda c: [
        FakeAnswer.stream([f"event: {c['event name']}\nid: {c['event id']}\n: {c['comment']}\n".encode(), *spoken(c)])
    ],
    "a frame that is none": lambda c: [FakeAnswer.stream([*spoken(c), f"data: {c['frame']}\n\n".encode()])],
    "a stream that is cut": lambda c: [FakeAnswer.stream(spoken(c), ending="cut")],
    "JSON in place of a stream": lambda c: [FakeAnswer.json(answer(c))] * 2,
    "a fault in place of a stream": lambda c: [FakeAnswer.json(fault(c, "5xx"), status=500)] * 2,
    "the caller's fault": lambda c: [FakeAnswer.json(fault(c, "4xx"), status=400)],
}
CASES = [(what, False, script) for what, script in ANSWERS.items()] + [
    (what, True, script) for what, script in STREAMS.items()
]


@pytest.mark.parametrize(
    ("stream", "script"),
    [case[1:] for case in CASES],
    ids=[f"{'sse' if stream else 'json'}: {what}" for what, stream, _script in CASES],
)
async def test_whatever_an_upstream_makes_of_a_request_nothing_is_told(
    stream: bool, script: Callable[[Canaries], Sequence[FakeAnswer]], canaries: Canaries, tmp_path: Path
) -> None:
    """Request, headers, keys, paths, answers and faults leave no word in spans, metrics, logs or errors."""
    key = tmp_path / "key"
    key.write_text(canaries["region key"], encoding="utf-8")
    async with FakeUpstream() as paris, FakeUpstream() as gravelines:
        first, *rest = script(canaries)
        paris.then(first)
        gravelines.then(*rest)
        path = f"/{canaries['base url path']}/v1"
        table = {"base_url": paris.base_url.replace("/v1", path), "api_key": {"file": str(key)}}
        async with listened({PARIS: table, GRAVELINES: {"base_url": gravelines.base_url}}, canaries) as place:
            told = await place.ask(request(canaries, stream=stream))
            await place.assert_silent()
    (asked,) = paris.requests
    assert canaries.found_in(asked.body) == REQUEST_PLACES
    assert canaries.found_in(f"{asked.path} {asked.headers}") >= {
        "base url path",
        "region key",
        "tracestate",
        "user-agent",
    }
    assert told.status in {200, 400, 422, 429, 502, 503}


async def test_a_model_that_only_an_upstream_lists_is_on_no_metric(canaries: Canaries) -> None:
    """Spans and log may name what an upstream says it serves; a series is made by the configuration alone."""
    name = canaries["discovered model"]
    async with FakeUpstream(model=name) as paris:
        table = {"base_url": paris.base_url, "models": "discover"}
        async with listened({PARIS: table}, canaries) as place:
            await place.ask(b"")  # the gateway is open
            loop = place.site.gateway._loop
            assert loop is not None
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(place.site.gateway.probe(PARIS), loop))
            assert (await place.ask(request(canaries, model=name))).status == 200
            await place.assert_silent()
            assert f"chat {name}" in {span.name for span in place.site.sdk.receiver.spans}


# ---- settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("base_url", "https://{word}:{word}@example.eu/v1"),
        ("base_url", "https://example.eu/v1?key={word}"),
        ("proxy", "http://user:{word}@127.0.0.1:3128"),
    ],
)
def test_a_secret_in_an_address_is_refused_without_being_repeated(name: str, value: str, canaries: Canaries) -> None:
    """An address that holds a credential cannot be configured, so no span can ever hold it; the text does not tell it."""
    secret = value.replace("{word}", canaries["credential"])
    table = {"base_url": "https://example.eu/v1"} | {name: secret}
    with pytest.raises(ConfigurationError) as refused:
        configured({PARIS: table})
    assert canaries.found_in(str(refused.value)) == set()
    assert "holds" in str(refused.value)


def test_the_search_finds_what_it_is_to_find(canaries: Canaries) -> None:
    """A word is found in either case and in base64, wherever it begins; another is not."""
    word = canaries["here"]
    assert canaries["elsewhere"] != word
    for lead in range(3):
        coded = base64.b64encode(b"x" * lead + word.encode() + b"y")
        assert canaries.found_in(b"Basic " + coded) == {"here"}
    assert canaries.found_in(f"a {word.upper()} b") == {"here"}
    assert canaries.found_in("nothing") == set()
