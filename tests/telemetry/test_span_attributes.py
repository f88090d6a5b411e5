"""What spans say: the contract's attribute names, the answer's own values, and names from closed sets only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Sampler, SamplingResult

from receipts.making import made, observed
from support import proxied
from telemetry.spans import GRAVELINES, KNOWN, PARIS, asked, at, told, upstream
from vetted_mw.chat.counts import Usage
from vetted_mw.chat.request import parse_request
from vetted_mw.chat.response import Answer
from vetted_mw.routing.values import DecisionMode, DecisionReason, RoutePolicy
from vetted_mw.telemetry import names
from vetted_mw.telemetry.attributes import (
    answer_attributes,
    decision_attributes,
    receipt_attributes,
    request_attributes,
    server_attributes,
)
from vetted_mw.testing import FakeAnswer, FakeUpstream, ManualClock, StaticSignals, asgi_exchange, chat_completion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.trace import Link, SpanKind, TraceState
    from opentelemetry.util.types import Attributes

    from telemetry.spans import Spans

pytestmark = pytest.mark.anyio

SIGNAL = {"source", "signal_kind", "gco2_per_kwh", "age_minutes", "temporal_match", "live_eligible"}
RECEIPT = {
    "query_id",
    "tier",
    "gco2e",
    "gco2e_ci90_lo",
    "gco2e_ci90_hi",
    "ml_water",
    "ml_water_ci90_lo",
    "ml_water_ci90_hi",
    "energy_wh",
    "methodology_version",
    "route_taken",
    "grid_zone",
    "grid_intensity_gco2_per_kwh",
    "grid_intensity_source",
    "grid_intensity_age_minutes",
    "grid_temporal_match",
}
DECISION = {f"vetted.routing_trace.{name}" for name in ("route_policy", "decision_mode", "decision_reason")}
OPERATIONAL = {f"vetted.routing_trace.operational_signal.{name}" for name in SIGNAL}
USED = {f"vetted.routing_trace.receipt_signal.{name}" for name in SIGNAL}
CHAT = {
    "gen_ai.operation.name",
    "gen_ai.provider.name",
    "gen_ai.request.model",
    "gen_ai.request.stream",
    "gen_ai.request.max_tokens",
    "gen_ai.request.temperature",
    "gen_ai.request.top_p",
    "gen_ai.response.id",
    "gen_ai.response.model",
    "gen_ai.response.finish_reasons",
    "gen_ai.response.time_to_first_chunk",
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.output_tokens",
    "server.address",
    "server.port",
    "error.type",
    "vetted.region",
    "vetted.country",
    "cloud.region",
    "vetted.attempt_count",
    "vetted.failover",
    "vetted.receipt.placement",
    "vetted.stream.outcome",
    *(f"vetted.receipt.{name}" for name in RECEIPT),
    *DECISION,
    *OPERATIONAL,
    *USED,
}
ATTEMPT = {
    "http.request.method",
    "server.address",
    "server.port",
    "url.scheme",
    "http.response.status_code",
    "error.type",
    "vetted.region",
    "vetted.country",
    "vetted.attempt.index",
}
ROUTE = {"vetted.candidates", "vetted.region", "error.type", *DECISION, *OPERATIONAL}


def _attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def _carbon_aware(*, stream: bool, **members: Any) -> tuple[dict[str, Any], ManualClock]:
    """Send one carbon-aware request over two regions with a live signal; returns the members of its answer."""
    clock = ManualClock()
    signals = StaticSignals({"FR": 21.5, "IS": 28.0}, now=clock.now, age_minutes=30, name="live")
    options = {"now": clock.now, "monotonic": clock.monotonic}
    async with FakeUpstream(model=KNOWN) as paris, FakeUpstream(model=KNOWN) as iceland:
        urls = {PARIS: upstream(paris.base_url), "atnorth-isl-1": upstream(iceland.base_url)}
        async with proxied(urls, signals=[signals], options=options) as app:
            request = asked(stream=stream, vetted={"routing": "carbon_aware"}, **members)
            return told(await asgi_exchange(app, json=request)), clock


@pytest.mark.parametrize("stream", [False, True])
async def test_an_attribute_under_vetted_is_the_answers_member_of_that_path(spans: Spans, stream: bool) -> None:
    """A reader goes from span to body and back with no glossary: name and value are the answer's."""
    answer, _clock = await _carbon_aware(stream=stream)
    attributes = _attributes(spans.chat())
    paths = {name.removeprefix("vetted."): value for name, value in attributes.items() if name.startswith("vetted.")}
    own = {"region", "country", "attempt_count", "failover", "receipt.placement", "stream.outcome"}
    compared = {path: value for path, value in paths.items() if path not in own}
    assert compared == {path: at(answer, path) for path in compared}
    assert set(attributes) >= {f"vetted.receipt.{name}" for name in RECEIPT} | DECISION | OPERATIONAL | USED
    assert attributes["vetted.region"] == answer["routing_trace"]["region"]


@pytest.mark.parametrize("stream", [False, True])
async def test_spans_have_the_contracts_attributes_and_no_others(spans: Spans, stream: bool) -> None:
    """Every attribute name of every span is one of the contract's."""
    await _carbon_aware(stream=stream, max_tokens=9, temperature=0.5, top_p=0.9)
    attributes = [_attributes(span) for span in (spans.chat(), spans.route(), *spans.attempts())]
    for found, known in zip(attributes, (CHAT, ROUTE, ATTEMPT), strict=True):
        assert set(found) <= known
    streamed = {"gen_ai.request.stream", "gen_ai.response.time_to_first_chunk", "vetted.stream.outcome"}
    assert CHAT - set(attributes[0]) == {"error.type"} | (set() if stream else streamed)
    assert ROUTE - set(attributes[1]) == {"error.type"}
    assert ATTEMPT - set(attributes[2]) == {"error.type"}


async def test_no_attribute_name_is_also_a_namespace(spans: Spans) -> None:
    """A name that is a prefix of others would be lost in a backend that nests them."""
    await _carbon_aware(stream=True)
    for span in spans.all:
        found = set(_attributes(span))
        assert [name for name in found if any(other.startswith(f"{name}.") for other in found)] == []


@pytest.mark.parametrize("stream", [False, True])
async def test_exactly_one_span_speaks_of_generative_ai(spans: Spans, stream: bool) -> None:
    """Tokens are told once per request, so that no dashboard counts them twice."""
    async with FakeUpstream(model=KNOWN) as paris, FakeUpstream(model=KNOWN, usage=(100, 7)) as gravelines:
        paris.then(FakeAnswer.json({"error": {"message": "broken"}}, status=503))
        urls = {PARIS: upstream(paris.base_url), GRAVELINES: upstream(gravelines.base_url)}
        async with proxied(urls) as app:
            await asgi_exchange(app, json=asked(stream=stream))
    speaking = [span.name for span in spans.all if any(name.startswith("gen_ai.") for name in _attributes(span))]
    assert speaking == [f"chat {KNOWN}"]
    chat = _attributes(spans.chat())
    assert (chat["gen_ai.usage.input_tokens"], chat["gen_ai.usage.output_tokens"]) == (100, 7)


@pytest.mark.parametrize("stream", [False, True])
async def test_the_chat_span_tells_request_and_answer_in_genai_words(spans: Spans, stream: bool) -> None:
    """Operation, provider, model, numbers of the request, id, finish reason, server and place are the real ones."""
    async with FakeUpstream(model=KNOWN) as paris:
        urls = {PARIS: upstream(paris.base_url, gen_ai_provider="mistral_ai")}
        async with proxied(urls) as app:
            await asgi_exchange(app, json=asked(stream=stream, max_completion_tokens=12, temperature=1, top_p=0.25))
        port = int(paris.base_url.split(":")[-1].split("/")[0])
    told_of = _attributes(spans.chat())
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "mistral_ai",
        "gen_ai.request.model": KNOWN,
        "gen_ai.request.max_tokens": 12,
        "gen_ai.request.temperature": 1.0,
        "gen_ai.request.top_p": 0.25,
        "gen_ai.response.id": "chatcmpl-fake",
        "gen_ai.response.model": KNOWN,
        "gen_ai.response.finish_reasons": ("stop",),
        "server.address": "127.0.0.1",
        "server.port": port,
        "vetted.region": PARIS,
        "vetted.country": "FR",
        "cloud.region": "fr-par-1",
        "vetted.attempt_count": 1,
        "vetted.failover": False,
        "vetted.receipt.placement": "sse_chunk" if stream else "json_body",
    }
    assert {name: told_of[name] for name in expected} == expected
    assert told_of.get("gen_ai.request.stream") is (True if stream else None)
    assert told_of.get("vetted.stream.outcome") == ("completed" if stream else None)


class _NotingSampler(Sampler):
    """Samples nothing and notes what it could have decided by."""

    def __init__(self) -> None:
        self.seen: dict[str, dict[str, Any]] = {}

    def should_sample(  # noqa: PLR0917 (the SDK's signature)
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Drop the span."""
        self.seen[name] = dict(attributes or {})
        return ALWAYS_OFF.should_sample(parent_context, trace_id, name)

    def get_description(self) -> str:
        """Return a name."""
        return "noting"


async def test_samplers_see_operation_provider_and_model_at_the_start(spans: Spans, provider: TracerProvider) -> None:
    """What a sampler may decide by is there when the span starts."""
    sampler = _NotingSampler()
    provider.sampler = sampler
    async with (
        FakeUpstream() as paris,
        proxied({PARIS: upstream(paris.base_url, gen_ai_provider="mistral_ai")}) as app,
    ):
        await asgi_exchange(app, json=asked())
    assert sampler.seen[f"chat {KNOWN}"] == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "mistral_ai",
        "gen_ai.request.model": KNOWN,
    }


@pytest.mark.parametrize("stream", [False, True])
async def test_the_stages_of_a_request_are_events(spans: Spans, stream: bool) -> None:
    """The first chunk and the receipt are events of the chat span, in that order."""
    await _carbon_aware(stream=stream)
    happened = [event.name for event in spans.chat().events]
    assert happened == [*(["vetted.first_chunk"] if stream else []), "vetted.receipt.emitted"]


async def test_a_withheld_receipt_is_an_event_with_its_reason(spans: Spans) -> None:
    """Why there is no receipt is told by its closed word, and no receipt field is an attribute."""
    async with FakeUpstream() as paris, proxied({PARIS: upstream(paris.base_url)}) as app:
        await asgi_exchange(app, json=asked(vetted={"tier": "telemetry"}))
    (event,) = spans.chat().events
    assert (event.name, dict(event.attributes or {})) == (
        "vetted.receipt.failed",
        {"vetted.reason": "tier_unavailable"},
    )
    fields = [name for name in _attributes(spans.chat()) if name.startswith("vetted.receipt.")]
    assert fields == ["vetted.receipt.placement"]
    assert _attributes(spans.chat())["vetted.receipt.placement"] == "none"


async def test_a_receipt_that_is_not_placed_says_so(spans: Spans) -> None:
    """With the placement turned off the stream carries no receipt, and the span does not claim one was sent."""
    async with FakeUpstream() as paris, proxied({PARIS: upstream(paris.base_url)}, sse_placement="off") as app:
        await asgi_exchange(app, json=asked(stream=True))
    assert _attributes(spans.chat())["vetted.receipt.placement"] == "none"


async def test_the_route_span_tells_the_decision(spans: Spans) -> None:
    """Order, chosen region, policy, mode, reason and signal are attributes of the decision's own span."""
    answer, _clock = await _carbon_aware(stream=False)
    route = _attributes(spans.route())
    assert route["vetted.candidates"] == (PARIS, "atnorth-isl-1")
    assert route["vetted.region"] == PARIS
    assert {name: route[name] for name in DECISION | OPERATIONAL} == {
        name: at(answer, name.removeprefix("vetted.")) for name in DECISION | OPERATIONAL
    }


async def test_each_rejected_region_of_the_operators_is_an_event(spans: Spans) -> None:
    """Why a configured region is no candidate is told; the rest of the shipped catalogue never could be one."""
    async with FakeUpstream(model=KNOWN) as paris:
        urls = {PARIS: upstream(paris.base_url), GRAVELINES: upstream(paris.base_url, drained=True)}
        async with proxied(urls) as app:
            answer = told(await asgi_exchange(app, json=asked()))
    rejected = [(event.name, dict(event.attributes or {})) for event in spans.route().events]
    assert rejected == [
        ("vetted.candidate.rejected", {"vetted.region": GRAVELINES, "vetted.reason": "degraded"}),
    ]
    assert len([one for one in answer["routing_trace"]["candidates"] if not one["eligible"]]) > 1


async def test_a_large_catalogue_does_not_flood_the_route_span(spans: Spans) -> None:
    """At most sixteen rejections are events."""
    async with FakeUpstream() as paris:
        own = {"provider": "Own", "site": "s", "country": "FR", "drained": True}
        regions = {f"own-{number}": upstream(paris.base_url, **own) for number in range(30)}
        async with proxied({PARIS: upstream(paris.base_url)}, regions=regions) as app:
            await asgi_exchange(app, json=asked())
    assert len(spans.route().events) == 16


# ---- names that callers and upstreams choose


@pytest.mark.parametrize(
    ("model", "models", "shown"),
    [
        ("house-model", "any", "house-model"),
        ("listed", ["listed", KNOWN], "listed"),
        ("whatever-a-caller-writes", "any", "_OTHER"),
    ],
)
async def test_only_names_of_the_configuration_are_told(spans: Spans, model: str, models: Any, shown: str) -> None:
    """A model name that neither settings nor an upstream's list hold is `_OTHER`, in the span's name too."""
    async with FakeUpstream(model=model) as paris:
        settings: dict[str, Any] = {"models": {"house-model": {"active_params_b": 3.0}}}
        async with proxied({PARIS: {"base_url": paris.base_url, "models": models}}, **settings) as app:
            exchange = await asgi_exchange(app, json=asked(model=model))
    assert exchange.status == 200
    assert spans.chat().name == f"chat {shown}"
    assert _attributes(spans.chat())["gen_ai.request.model"] == shown
    assert _attributes(spans.chat())["gen_ai.response.model"] == shown  # the upstream repeats what it was sent


async def test_the_upstreams_own_name_for_a_model_is_told(spans: Spans) -> None:
    """A name the operator configured for an upstream is known, so the answer's model may be shown."""
    async with FakeUpstream(model="mistral-medium-2508") as paris:
        models = {KNOWN: {"active_params_b": 128.0, "upstream_names": {PARIS: "mistral-medium-2508"}}}
        async with proxied({PARIS: upstream(paris.base_url)}, models=models) as app:
            await asgi_exchange(app, json=asked())
    assert _attributes(spans.chat())["gen_ai.response.model"] == "mistral-medium-2508"


async def test_a_finish_reason_of_an_upstreams_own_making_is_clamped(spans: Spans) -> None:
    """Finish reasons come from a closed set; an upstream's own word for one is `_OTHER`."""
    answer = msgspec.json.decode(chat_completion(model=KNOWN))
    answer["choices"].append({"index": 1, "message": {"content": "x"}, "finish_reason": "the model wrote this"})
    async with FakeUpstream() as paris, proxied({PARIS: upstream(paris.base_url)}) as app:
        paris.then(FakeAnswer.json(answer))
        await asgi_exchange(app, json=asked(n=2))
    assert _attributes(spans.chat())["gen_ai.response.finish_reasons"] == ("stop", "_OTHER")


# ---- the pure functions


def test_receipt_attributes_are_the_listed_fields_alone() -> None:
    """The fields dashboards show are taken as they are; everything else stays in the body."""
    receipt = made()
    fields = msgspec.to_builtins(receipt)
    assert receipt_attributes(receipt) == {f"vetted.receipt.{name}": fields[name] for name in RECEIPT}
    assert observed().model not in receipt_attributes(receipt).values()


def test_a_decision_without_a_signal_has_its_three_words() -> None:
    """A signal that took no part gives no attribute."""
    found = decision_attributes(RoutePolicy.LOWEST_CARBON, DecisionMode.DEGRADED, DecisionReason.ATTEMPT_FAILED, None)
    assert found == {
        "vetted.routing_trace.route_policy": "lowest_carbon",
        "vetted.routing_trace.decision_mode": "degraded",
        "vetted.routing_trace.decision_reason": "attempt_failed",
    }


@pytest.mark.parametrize(
    ("url", "address", "port"),
    [
        ("https://api.example.eu/v1?key=canary", "api.example.eu", 443),
        ("http://10.0.0.4/v1", "10.0.0.4", 80),
        ("http://[::1]:8000/v1", "::1", 8000),
    ],
)
def test_server_attributes_are_host_and_port_alone(url: str, address: str, port: int) -> None:
    """Of an upstream's URL neither path nor query is told; the port is there even where the scheme implies it."""
    assert server_attributes(url) == {"server.address": address, "server.port": port}


def test_request_attributes_are_numbers_and_absent_ones_are_left_out() -> None:
    """Of a request only its numbers are told, zeros included, and that it streams."""
    bare = parse_request(b'{"model":"m","messages":[],"stop":"canary","user":"canary"}')
    assert request_attributes(bare) == {}
    full = parse_request(b'{"model":"m","messages":[],"stream":true,"max_tokens":5,"temperature":0,"top_p":1}')
    assert request_attributes(full) == {
        names.REQUEST_STREAM: True,
        names.REQUEST_MAX_TOKENS: 5,
        names.REQUEST_TEMPERATURE: 0.0,
        names.REQUEST_TOP_P: 1.0,
    }


def test_answer_attributes_never_guess_a_count() -> None:
    """Tokens that nobody counted are no attribute, nor is an id that does not look like one."""
    uncounted = Answer(
        id=None, model=None, usage=None, finish_reasons=(), completion_characters=400, is_answer=True, is_error=False
    )
    assert answer_attributes(uncounted, model="_OTHER") == {"gen_ai.response.model": "_OTHER"}
    counted = Answer(
        id="chatcmpl-9:a/b_c.d",
        model="m",
        usage=Usage(prompt_tokens=3, completion_tokens=0),
        finish_reasons=("length",),
        completion_characters=0,
        is_answer=True,
        is_error=False,
    )
    for words in ("i" * 201, "words of a prompt", "", "\n"):
        assert "gen_ai.response.id" not in answer_attributes(msgspec.structs.replace(counted, id=words), model="m")
    assert answer_attributes(counted, model="m") == {
        "gen_ai.response.model": "m",
        "gen_ai.response.id": "chatcmpl-9:a/b_c.d",
        "gen_ai.response.finish_reasons": ["length"],
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.output_tokens": 0,
    }


async def test_a_fault_of_the_callers_own_names_the_region_that_found_it(spans: Spans) -> None:
    """The region answered, with a 4xx: it is where the request ran, though it served nothing."""
    async with FakeUpstream() as paris, proxied({PARIS: upstream(paris.base_url)}) as app:
        paris.then(FakeAnswer.json({"error": {"message": "too long"}}, status=422))
        exchange = await asgi_exchange(app, json=asked())
    chat = _attributes(spans.chat())
    assert exchange.json()["routing_trace"]["region"] == chat["vetted.region"] == PARIS
    assert (chat["vetted.country"], chat["cloud.region"], chat["server.address"]) == ("FR", "fr-par-1", "127.0.0.1")
    assert "gen_ai.response.model" not in chat


async def test_where_none_answered_the_last_that_was_asked_is_named(spans: Spans) -> None:
    """No region is claimed; address and port are those of the last try."""
    async with FakeUpstream() as paris, FakeUpstream() as gravelines:
        for one in (paris, gravelines):
            one.then(FakeAnswer.json({"error": {"message": "broken"}}, status=500))
        urls = {PARIS: upstream(paris.base_url), GRAVELINES: upstream(gravelines.base_url)}
        async with proxied(urls) as app:
            await asgi_exchange(app, json=asked())
    chat = _attributes(spans.chat())
    assert "vetted.region" not in chat
    assert chat["server.port"] == int(gravelines.base_url.rsplit(":", 1)[1].split("/")[0])


async def test_another_region_than_the_first_is_a_failover_also_where_the_first_was_not_tried(spans: Spans) -> None:
    """A region that is out already costs no attempt; that another serves is told all the same."""
    async with FakeUpstream() as paris, FakeUpstream() as gravelines:
        urls = {PARIS: upstream(paris.base_url, drained=True), GRAVELINES: upstream(gravelines.base_url)}
        async with proxied(urls) as app:
            await asgi_exchange(app, json=asked())
    chat = _attributes(spans.chat())
    assert (chat["vetted.failover"], chat["vetted.attempt_count"]) == (True, 1)
    assert chat["vetted.routing_trace.decision_mode"] == "failover"
