"""The table of errors, row by row, as a client on a real socket sees it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from support import MODEL, unused_port
from vetted_mw.testing import FakeAnswer, FakeUpstream
from wire.clients import COMPLETIONS, GRAVELINES, PARIS, STOCKHOLM, at_the_wire, chat, error_row, told_error

if TYPE_CHECKING:
    from pathlib import Path

    import httpx
    from starlette.types import Scope

    from vetted_mw.callers import Caller
    from wire.conftest import Gate

pytestmark = pytest.mark.anyio

JSON_AND_STREAM = pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
CUT_HEADERS = (("content-type", "text/event-stream"), ("content-length", "10"))
PINNED_ROW = (503, "region_unavailable", "service_unavailable", "vetted.region")


def malformed(*, status: int = 400, code: str = "invalid_request", param: str | None) -> Any:
    return (status, "validation_error", code, param)


# ---- refused before a decision


@pytest.mark.parametrize(
    ("body", "row"),
    [
        pytest.param(b"{not json", malformed(code="invalid_json", param=None), id="not json"),
        pytest.param(b"[]", malformed(code="invalid_json", param=None), id="no object"),
        pytest.param({"messages": []}, malformed(param="model"), id="no model"),
        pytest.param({"model": MODEL}, malformed(param="messages"), id="no messages"),
        pytest.param(chat(messages={}), malformed(param="messages"), id="messages no list"),
        pytest.param(chat(stream="true"), malformed(param="stream"), id="stream no boolean"),
        pytest.param(chat(vetted={"regoin": PARIS}), malformed(code="invalid_option", param="vetted"), id="misspelt"),
        pytest.param(
            chat(vetted={"latency_budget_ms": "1"}),
            malformed(code="invalid_option", param="vetted.latency_budget_ms"),
            id="option of a wrong type",
        ),
        pytest.param(
            chat(vetted={"tier": "proxy"}), malformed(code="invalid_option", param="vetted.tier"), id="tier proxy"
        ),
        pytest.param(
            chat(vetted={"region": PARIS, "routing": "carbon_aware"}),
            malformed(code="conflicting_options", param="vetted.routing"),
            id="pin and carbon-aware",
        ),
        pytest.param(
            chat(vetted={"secondary_region": PARIS}),
            malformed(code="conflicting_options", param="vetted.secondary_region"),
            id="secondary without region",
        ),
        pytest.param(
            chat(vetted={"region": "us-east-1"}),
            malformed(code="invalid_region", param="vetted.region"),
            id="unknown region",
        ),
    ],
)
async def test_a_malformed_request_is_a_400_that_names_the_parameter(gate: Gate, body: Any, row: Any) -> None:
    """Each malformed request gets its row of the table, no trace, no region header, and reaches no upstream."""
    sent = {"content": body} if isinstance(body, bytes) else {"json": body}
    answer = await gate.client.post(COMPLETIONS, **sent)
    assert error_row(answer) == row
    assert "routing_trace" not in answer.json()
    assert not [name for name in answer.headers if name.startswith("x-vetted-")]
    assert gate.upstream.requests == []


@pytest.mark.parametrize(
    ("policy", "options", "code", "param"),
    [
        ({"allowed_countries": ["FR"]}, {"region": STOCKHOLM}, "region_not_allowed", "vetted.region"),
        (
            {"allowed_regions": [PARIS]},
            {"region": PARIS, "secondary_region": STOCKHOLM},
            "region_not_allowed",
            "vetted.secondary_region",
        ),
        ({"carbon_aware": False}, {"routing": "carbon_aware"}, "routing_not_allowed", "vetted.routing"),
        ({"require_region": True}, {}, "region_required", "vetted.region"),
    ],
)
async def test_a_request_outside_the_operators_policy_is_a_403(
    policy: dict[str, Any], options: dict[str, Any], code: str, param: str
) -> None:
    """Policy refuses with its own code and parameter, and nothing is sent."""
    async with FakeUpstream() as upstream:
        regions = {PARIS: upstream.base_url, STOCKHOLM: upstream.base_url}
        async with at_the_wire(regions, policy=policy) as client:
            answer = await client.post(COMPLETIONS, json=chat(vetted=options))
    assert error_row(answer) == (403, "policy_error", code, param)
    assert upstream.requests == []


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer wrong"}, {"authorization": "Basic right"}])
async def test_no_key_or_a_wrong_one_is_a_401_that_names_the_scheme(headers: dict[str, str], tmp_path: Path) -> None:
    """A caller without a valid key is told how to send one, and nothing is sent."""
    key = tmp_path / "key"
    key.write_text("right")
    callers = {"team-a": {"key": {"file": str(key)}}}
    async with FakeUpstream() as paris, at_the_wire({PARIS: paris.base_url}, callers=callers) as client:
        answer = await client.post(COMPLETIONS, json=chat(), headers=headers)
        let_in = await client.post(COMPLETIONS, json=chat(), headers={"authorization": "Bearer right"})
    assert error_row(answer) == (401, "auth_error", "invalid_api_key", None)
    assert answer.headers["www-authenticate"] == "Bearer"
    assert let_in.status_code == 200
    assert len(paris.requests) == 1


async def test_a_model_no_region_lists_is_a_400_that_names_the_regions_which_do() -> None:
    """The decision was made, so its trace stands beside the error; the message names where the model is served."""
    async with FakeUpstream() as paris, FakeUpstream() as stockholm:
        regions = {
            PARIS: {"base_url": paris.base_url, "models": ["other"]},
            STOCKHOLM: {"base_url": stockholm.base_url, "models": [MODEL]},
        }
        async with at_the_wire(regions, default_order=[PARIS]) as client:
            ordered = await client.post(COMPLETIONS, json=chat())
            pinned = await client.post(COMPLETIONS, json=chat(vetted={"region": PARIS}))
            nowhere = await client.post(COMPLETIONS, json=chat(model="nobody-has-this"))
    for answer in (ordered, pinned):
        assert error_row(answer) == malformed(code="model_not_available", param="model")
        assert STOCKHOLM in told_error(answer)["message"]
        assert answer.json()["routing_trace"]["decision_reason"] == "model_not_available"
    assert error_row(nowhere) == malformed(code="model_not_available", param="model")
    assert "nobody-has-this" not in nowhere.text
    assert paris.requests == stockholm.requests == []


async def test_a_fault_of_ours_is_a_500_that_gives_nothing_away() -> None:
    """An unexpected exception inside becomes `internal_error` without its text."""

    async def identify(_scope: Scope) -> Caller | None:
        raise ValueError("canary-in-an-exception")

    async with FakeUpstream() as paris, at_the_wire({PARIS: paris.base_url}, identify=identify) as client:
        completion = await client.post(COMPLETIONS, json=chat())
        endpoint = await client.get("/v1/regions")
    for answer in (completion, endpoint):
        assert error_row(answer) == (500, "internal_error", "internal_error", None)
        assert "canary" not in answer.text
    assert paris.requests == []


# ---- a pin that cannot be served: 503, never another region


def assert_pin_failed_closed(answer: httpx.Response, other: FakeUpstream, *, sent: int) -> None:
    assert error_row(answer) == PINNED_ROW
    assert answer.headers["x-should-retry"] == "false"
    trace = answer.json()["routing_trace"]
    assert (trace["route_policy"], trace["decision_mode"]) == ("pinned", "unavailable")
    assert (trace["decision_reason"], trace["region"]) == ("pinned_region_unavailable", None)
    assert answer.headers["x-vetted-decision-mode"] == "unavailable"
    assert answer.headers["x-vetted-decision-reason"] == "pinned_region_unavailable"
    assert answer.headers["x-vetted-attempts"] == str(sent)
    assert "x-vetted-region" not in answer.headers
    assert "x-vetted-receipt-id" not in answer.headers
    assert other.requests == []


@pytest.mark.parametrize(
    ("table", "options"),
    [
        pytest.param(None, {"region": "ovh-rbx-1"}, id="not configured"),
        pytest.param({"inference": False}, {"region": STOCKHOLM}, id="not for inference"),
        pytest.param({"drained": True}, {"region": STOCKHOLM}, id="drained"),
        pytest.param({}, {"region": STOCKHOLM, "latency_budget_ms": 1}, id="over the latency budget"),
        pytest.param({"drained": True}, {"region": STOCKHOLM, "secondary_region": "ovh-rbx-1"}, id="and its secondary"),
    ],
)
async def test_a_pin_that_may_not_be_tried_is_a_503_and_nothing_is_sent(
    table: dict[str, Any] | None, options: dict[str, Any]
) -> None:
    """Whatever keeps a pinned region from being tried, the answer is the pinned 503 and no other region is asked."""
    async with FakeUpstream() as paris, FakeUpstream() as stockholm:
        regions: dict[str, Any] = {PARIS: paris.base_url}
        if table is not None:
            regions[STOCKHOLM] = {"base_url": stockholm.base_url} | table
        async with at_the_wire(regions, default_order=[PARIS]) as client:
            whole = await client.post(COMPLETIONS, json=chat(vetted=options))
            streamed = await client.post(COMPLETIONS, json=chat(vetted=options, stream=True))
    for answer in (whole, streamed):
        assert_pin_failed_closed(answer, paris, sent=0)
        assert "retry-after" not in answer.headers
    assert stockholm.requests == []


@pytest.mark.parametrize(
    ("scripted", "outcome"),
    [
        pytest.param(FakeAnswer.json({"error": {"message": "broken"}}, status=500), "upstream_error", id="500"),
        pytest.param(FakeAnswer.json({"error": {"message": "no key"}}, status=401), "upstream_error", id="our key"),
        pytest.param(FakeAnswer(delay=3600), "timeout", id="no answer"),
        pytest.param(FakeAnswer(headers=CUT_HEADERS, ending="reset"), "upstream_cut", id="reset"),
        pytest.param(FakeAnswer(body=(b"<html>",)), "invalid_response", id="a page"),
        pytest.param(FakeAnswer(status=302, headers=(("location", "/"),)), "invalid_response", id="redirect"),
    ],
)
@JSON_AND_STREAM
async def test_a_pin_whose_upstream_fails_is_a_503(scripted: FakeAnswer, outcome: str, *, stream: bool) -> None:
    """A pinned region that fails or times out is not replaced by another, and the trace shows its one attempt."""
    limits = {"answer_seconds": 0.3, "first_byte_seconds": 0.3}
    async with FakeUpstream() as paris, FakeUpstream() as stockholm:
        stockholm.then(scripted)
        regions: dict[str, Any] = {PARIS: paris.base_url, STOCKHOLM: {"base_url": stockholm.base_url, "limits": limits}}
        async with at_the_wire(regions) as client:
            answer = await client.post(COMPLETIONS, json=chat(vetted={"region": STOCKHOLM}, stream=stream))
    assert_pin_failed_closed(answer, paris, sent=1)
    (attempt,) = answer.json()["routing_trace"]["attempts"]
    assert attempt["region"] == STOCKHOLM
    assert attempt["outcome"].endswith(outcome)
    assert len(stockholm.requests) == 1


async def test_a_pin_to_a_server_that_is_not_there_is_a_503() -> None:
    """A refused connection fails closed; no request counts as sent."""
    async with FakeUpstream() as paris:
        regions = {PARIS: paris.base_url, STOCKHOLM: f"http://127.0.0.1:{unused_port()}/v1"}
        async with at_the_wire(regions) as client:
            answer = await client.post(COMPLETIONS, json=chat(vetted={"region": STOCKHOLM}))
    assert_pin_failed_closed(answer, paris, sent=0)
    assert answer.json()["routing_trace"]["attempts"][0]["outcome"] == "connect_error"


async def test_a_saturated_pin_says_when_to_come_back() -> None:
    """`Retry-After` of the pinned region reaches the caller, at once and while its window lasts, and nothing more is sent."""
    async with FakeUpstream() as paris, FakeUpstream() as stockholm:
        stockholm.then(FakeAnswer.json({}, status=429, headers=(("retry-after", "40"),)))
        async with at_the_wire({PARIS: paris.base_url, STOCKHOLM: stockholm.base_url}) as client:
            pin = chat(vetted={"region": STOCKHOLM})
            first, second = await client.post(COMPLETIONS, json=pin), await client.post(COMPLETIONS, json=pin)
    assert_pin_failed_closed(first, paris, sent=1)
    assert_pin_failed_closed(second, paris, sent=0)
    assert int(first.headers["retry-after"]) == 40
    assert 1 <= int(second.headers["retry-after"]) <= 44  # jittered by at most a tenth
    assert len(stockholm.requests) == 1


async def test_a_failing_pin_is_served_by_its_documented_secondary_only() -> None:
    """With a secondary the pin fails over to it and to nobody else; when both fail it is the pinned 503."""
    async with FakeUpstream() as paris, FakeUpstream() as stockholm, FakeUpstream() as gravelines:
        regions = {PARIS: paris.base_url, STOCKHOLM: stockholm.base_url, GRAVELINES: gravelines.base_url}
        broken = FakeAnswer.json({}, status=500)
        stockholm.then(broken, broken)
        async with at_the_wire(regions) as client:
            body = chat(vetted={"region": STOCKHOLM, "secondary_region": GRAVELINES})
            served = await client.post(COMPLETIONS, json=body)
            gravelines.then(broken)
            refused = await client.post(COMPLETIONS, json=body)
    assert served.json()["routing_trace"]["decision_reason"] == "documented_secondary"
    assert served.headers["x-vetted-region"] == GRAVELINES
    assert_pin_failed_closed(refused, paris, sent=2)


# ---- nobody is pinned


async def test_nothing_eligible_is_a_503_that_may_be_tried_again() -> None:
    """Without a pin and without an eligible region: `no_region_available`, the candidates' reasons in the trace."""
    async with FakeUpstream() as paris, at_the_wire({PARIS: {"base_url": paris.base_url, "drained": True}}) as client:
        answer = await client.post(COMPLETIONS, json=chat())
    assert error_row(answer) == (503, "region_unavailable", "no_region_available", None)
    assert "x-should-retry" not in answer.headers
    trace = answer.json()["routing_trace"]
    assert (trace["decision_mode"], trace["decision_reason"]) == ("unavailable", "no_region_available")
    assert {c["region"]: c["rejected"] for c in trace["candidates"]}[PARIS] == "degraded"
    assert paris.requests == []


async def test_all_regions_saturated_is_a_429_with_retry_after_whether_sent_or_not() -> None:
    """First every region answers 429, then every region is inside its window: both are `all_regions_saturated`."""
    busy = FakeAnswer.json({}, status=429, headers=(("retry-after", "30"),))
    async with FakeUpstream() as first, FakeUpstream() as second:
        first.then(busy)
        second.then(busy)
        async with at_the_wire({PARIS: first.base_url, GRAVELINES: second.base_url}) as client:
            tried = await client.post(COMPLETIONS, json=chat())
            untried = await client.post(COMPLETIONS, json=chat())
    for answer in (tried, untried):
        assert error_row(answer) == (429, "rate_limit_error", "all_regions_saturated", None)
        assert 1 <= int(answer.headers["retry-after"]) <= 33
        assert answer.json()["routing_trace"]["decision_reason"] == "all_regions_saturated"
    assert (len(first.requests), len(second.requests)) == (1, 1)


async def test_a_full_region_is_a_429_with_retry_after() -> None:
    """A region at its in-flight cap admits nobody; the caller learns when to try again although nobody can know."""
    async with FakeUpstream() as paris:
        paris.then(FakeAnswer(headers=(("content-length", "10"),), ending="stall"))
        regions = {PARIS: {"base_url": paris.base_url, "limits": {"max_in_flight": 1}}}
        async with at_the_wire(regions) as client:
            held = asyncio.ensure_future(client.post(COMPLETIONS, json=chat()))
            async with asyncio.timeout(20):
                while not paris.requests:  # noqa: ASYNC110 (the upstream tells no event)
                    await asyncio.sleep(0)
                answer = await client.post(COMPLETIONS, json=chat())
            held.cancel()
            await asyncio.gather(held, return_exceptions=True)
    assert error_row(answer) == (429, "rate_limit_error", "all_regions_saturated", None)
    assert int(answer.headers["retry-after"]) >= 1
    assert len(paris.requests) == 1


@pytest.mark.parametrize(
    ("first", "last", "row"),
    [
        pytest.param("500", "500", (502, "inference_error", "upstream_error", None), id="last a 500"),
        pytest.param("stall", "500", (502, "inference_error", "upstream_error", None), id="timeout, then a 500"),
        pytest.param("500", "stall", (504, "inference_error", "upstream_timeout", None), id="last a timeout"),
        pytest.param("500", "page", (502, "inference_error", "upstream_invalid_response", None), id="last a page"),
        pytest.param("500", "busy", (502, "inference_error", "upstream_error", None), id="last a 429"),
    ],
)
@JSON_AND_STREAM
async def test_when_every_attempt_failed_the_last_one_sent_names_the_error(
    first: str, last: str, row: Any, *, stream: bool
) -> None:
    """Attempts that failed give 502 or 504 by the last one that was sent; both stand in the trace."""
    answers = {
        "500": FakeAnswer.json({}, status=500),
        "busy": FakeAnswer.json({}, status=429),
        "page": FakeAnswer(headers=(("content-type", "text/html"),), body=(b"<html>",)),
        "stall": FakeAnswer(delay=3600),
    }
    async with FakeUpstream() as paris, FakeUpstream() as gravelines:
        paris.then(answers[first])
        gravelines.then(answers[last])
        limits = {"answer_seconds": 0.3, "first_byte_seconds": 0.3}
        async with at_the_wire({PARIS: paris.base_url, GRAVELINES: gravelines.base_url}, limits=limits) as client:
            answer = await client.post(COMPLETIONS, json=chat(stream=stream))
    assert error_row(answer) == row
    trace = answer.json()["routing_trace"]
    assert (trace["decision_mode"], trace["decision_reason"]) == ("unavailable", "attempts_exhausted")
    assert [attempt["region"] for attempt in trace["attempts"]] == [PARIS, GRAVELINES]
    assert answer.headers["x-vetted-attempts"] == "2"


# ---- the upstream found the caller's own request at fault


@pytest.mark.parametrize(
    ("status", "body", "row", "message"),
    [
        pytest.param(
            400,
            {"error": {"message": "too long", "type": "invalid_request_error", "code": "context_length_exceeded", "param": "messages"}},
            (400, "invalid_request_error", "context_length_exceeded", "messages"),
            "too long",
            id="OpenAI's shape is kept",
        ),
        pytest.param(
            400,
            {"error": {"code": 400, "message": "exceeds", "type": "exceed_context_size_error", "n_ctx": 512}},
            (400, "exceed_context_size_error", "400", None),
            "exceeds",
            id="an integer code becomes a string",
        ),
        pytest.param(422, {"detail": "extra"}, (422, "upstream_error", "upstream_error", None), "extra", id="detail"),
        pytest.param(
            422,
            {"detail": [{"loc": ["body"], "msg": "field required"}, {"msg": "too few"}]},
            (422, "upstream_error", "upstream_error", None),
            "field required; too few",
            id="FastAPI's list",
        ),
        pytest.param(404, b"no such model", (404, "upstream_error", "upstream_error", None), "no such model", id="text"),
        pytest.param(413, b"", (413, "upstream_error", "upstream_error", None), None, id="nothing"),
        pytest.param(409, b"\xff\xfe", (409, "upstream_error", "upstream_error", None), None, id="no text"),
    ],
)  # fmt: skip
async def test_an_upstreams_4xx_keeps_status_and_words_in_our_envelope(
    status: int, body: Any, row: Any, message: str | None
) -> None:
    """A 4xx about the caller's own request is not tried elsewhere and comes back in the one shape every SDK reads."""
    scripted = (
        FakeAnswer(status=status, body=(body,)) if isinstance(body, bytes) else FakeAnswer.json(body, status=status)
    )
    async with FakeUpstream() as paris, FakeUpstream() as gravelines:
        paris.then(scripted, scripted, scripted)  # the stream may come once more, without the usage option
        async with at_the_wire({PARIS: paris.base_url, GRAVELINES: gravelines.base_url}) as client:
            answers = [await client.post(COMPLETIONS, json=chat(stream=stream)) for stream in (False, True)]
    for answer in answers:
        assert error_row(answer) == row
        assert message is None or told_error(answer)["message"] == message
        assert answer.json()["routing_trace"]["attempts"][0]["outcome"] == "caller_error"
        assert answer.headers["x-vetted-region"] == PARIS
        assert answer.headers["x-vetted-attempts"] == "1"
    assert gravelines.requests == []


@pytest.mark.parametrize(("auth", "row"), [("passthrough", (401, "auth_error", "no_key", None)), ("none", None)])
async def test_a_refused_key_is_the_callers_fault_only_where_it_was_the_callers(auth: str, row: Any) -> None:
    """A 401 comes back to the caller whose key was passed through; of our own key it is an upstream's fault."""
    async with FakeUpstream() as paris:
        paris.then(FakeAnswer.json({"error": {"message": "no", "type": "auth_error", "code": "no_key"}}, status=401))
        async with at_the_wire({PARIS: {"base_url": paris.base_url, "auth": auth}}) as client:
            answer = await client.post(COMPLETIONS, json=chat(), headers={"authorization": "Bearer mine"})
    assert error_row(answer) == (row or (502, "inference_error", "upstream_error", None))
