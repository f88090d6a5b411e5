"""The exact span tree of each kind of request in forward mode, as an OTLP receiver gets it from a real SDK."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from streams.wall import content, role
from support import unused_port
from telemetry.sites import site
from telemetry.spans import GRAVELINES, PARIS, asked, upstream
from telemetry.trees import drawn
from vetted_mw.testing import FakeAnswer, FakeUpstream, chat_completion

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

BROKEN = FakeAnswer.json({"error": {"message": "broken"}}, status=500)
BUSY = FakeAnswer.json({"error": {"message": "busy"}}, status=429)
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
both = pytest.mark.parametrize("stream", [False, True], ids=["json", "sse"])

JSON_TREE = drawn("""
    POST /v1/chat/completions SERVER UNSET status=200
      chat mistral-medium-3 CLIENT UNSET region=scaleway-par-1 attempts=1 receipt=json_body
        ! vetted.receipt.emitted
        vetted.route INTERNAL UNSET region=scaleway-par-1
        vetted.attempt CLIENT UNSET status=200 region=scaleway-par-1
""")
SSE_TREE = drawn("""
    POST /v1/chat/completions SERVER UNSET status=200
      chat mistral-medium-3 CLIENT UNSET region=scaleway-par-1 attempts=1 outcome=completed receipt=sse_chunk
        ! vetted.first_chunk
        ! vetted.receipt.emitted
        vetted.route INTERNAL UNSET region=scaleway-par-1
        vetted.attempt CLIENT UNSET status=200 region=scaleway-par-1
""")


@pytest.mark.parametrize(("stream", "tree"), [(False, JSON_TREE), (True, SSE_TREE)], ids=["json", "sse"])
async def test_an_answer_is_a_server_span_over_one_operation_over_its_decision_and_its_attempt(
    stream: bool, tree: str
) -> None:
    """Four spans, nested, each ended once; the root has no parent."""
    async with FakeUpstream() as paris, site({PARIS: upstream(paris.base_url)}) as place:
        assert (await place.ask(asked(stream=stream))).status == 200
        assert await place.tree() == tree
        assert [span.parent_id for span in place.sdk.receiver.spans if span.kind == "SERVER"] == [""]


async def test_the_server_span_says_what_was_asked_for_and_nothing_of_who_asked() -> None:
    """Method, route, scheme, path and status are all there is; a query string is not."""
    async with FakeUpstream() as paris, site({PARIS: upstream(paris.base_url)}) as place:
        await place.ask(asked(), path="/v1/chat/completions?key=canary")
        await place.tree()
        (server,) = [span for span in place.sdk.receiver.spans if span.kind == "SERVER"]
    assert server.attributes == {
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "url.scheme": "http",
        "url.path": "/v1/chat/completions",
        "http.response.status_code": 200,
    }
    assert (server.scope, server.events, server.links) == ("vetted_mw", (), 0)


@pytest.mark.parametrize(("stream", "tree"), [(False, JSON_TREE), (True, SSE_TREE)], ids=["json", "sse"])
async def test_a_callers_trace_is_continued(stream: bool, tree: str) -> None:
    """With a `traceparent` the same tree hangs under the caller's span, in its trace, with its state."""
    headers = [("traceparent", f"00-{TRACE}-{SPAN}-01"), ("tracestate", "vendor=kept")]
    async with FakeUpstream() as paris, site({PARIS: upstream(paris.base_url)}) as place:
        place.remote.append(SPAN)
        await place.ask(asked(stream=stream), headers=headers)
        assert await place.tree() == tree
        spans = place.sdk.receiver.spans
    assert {(span.trace_id, span.trace_state) for span in spans} == {(TRACE, "vendor=kept")}
    assert [span.parent_id for span in spans if span.kind == "SERVER"] == [SPAN]


async def test_two_requests_are_two_trees() -> None:
    """What one request leaves behind in the server's context is no parent of the next."""
    async with FakeUpstream() as paris, site({PARIS: upstream(paris.base_url)}) as place:
        await place.ask(asked())
        await place.ask(asked(stream=True))
        assert await place.tree() == JSON_TREE + SSE_TREE
        assert len({span.trace_id for span in place.sdk.receiver.spans}) == 2


# ---- failover


@both
async def test_a_failover_is_one_operation_over_two_attempts(stream: bool) -> None:
    """The failed attempt is an error with its status, the operation and its request are none."""
    outcome, placed = (" outcome=completed", "sse_chunk") if stream else ("", "json_body")
    first_chunk = "\n            ! vetted.first_chunk" if stream else ""
    async with FakeUpstream() as paris, FakeUpstream() as gravelines:
        paris.then(BROKEN)
        urls = {PARIS: upstream(paris.base_url), GRAVELINES: upstream(gravelines.base_url)}
        async with site(urls) as place:
            assert (await place.ask(asked(stream=stream))).status == 200
            tree = await place.tree()
    assert tree == drawn(f"""
        POST /v1/chat/completions SERVER UNSET status=200
          chat mistral-medium-3 CLIENT UNSET region=ovh-gra-1 attempts=2{outcome} receipt={placed}{first_chunk}
            ! vetted.receipt.emitted
            vetted.route INTERNAL UNSET region=scaleway-par-1
            vetted.attempt CLIENT ERROR error=upstream_error status=500 region=scaleway-par-1
            vetted.attempt CLIENT UNSET status=200 resend=1 region=ovh-gra-1
    """)


async def test_a_region_that_cannot_be_reached_is_failed_over_as_well() -> None:
    """A refused connection has no status, and is not counted as a request that left."""
    async with FakeUpstream() as gravelines:
        urls = {PARIS: upstream(f"http://127.0.0.1:{unused_port()}/v1"), GRAVELINES: upstream(gravelines.base_url)}
        async with site(urls) as place:
            await place.ask(asked())
            tree = await place.tree()
    assert tree == drawn("""
        POST /v1/chat/completions SERVER UNSET status=200
          chat mistral-medium-3 CLIENT UNSET region=ovh-gra-1 attempts=1 receipt=json_body
            ! vetted.receipt.emitted
            vetted.route INTERNAL UNSET region=scaleway-par-1
            vetted.attempt CLIENT ERROR error=connect_error region=scaleway-par-1
            vetted.attempt CLIENT UNSET status=200 resend=1 region=ovh-gra-1
    """)


# ---- nobody serves


@both
async def test_a_pin_on_a_region_where_nothing_listens_is_one_failed_attempt(stream: bool) -> None:
    """Pinned means pinned: one attempt, an error all the way up."""
    async with FakeUpstream() as gravelines:
        urls = {PARIS: upstream(f"http://127.0.0.1:{unused_port()}/v1"), GRAVELINES: upstream(gravelines.base_url)}
        async with site(urls) as place:
            assert (await place.ask(asked(stream=stream, vetted={"region": PARIS}))).status == 503
            tree = await place.tree()
    assert tree == drawn("""
        POST /v1/chat/completions SERVER ERROR error=service_unavailable status=503
          chat mistral-medium-3 CLIENT ERROR error=service_unavailable attempts=0 receipt=none
            vetted.route INTERNAL UNSET region=scaleway-par-1
              ! vetted.candidate.rejected region=ovh-gra-1 reason=outside_policy
            vetted.attempt CLIENT ERROR error=connect_error region=scaleway-par-1
    """)


@both
async def test_a_pin_on_a_drained_region_is_a_failed_decision_and_no_attempt(stream: bool) -> None:
    """The decision finds no region and says why; nothing is sent."""
    async with FakeUpstream() as paris, FakeUpstream() as gravelines:
        urls = {PARIS: upstream(paris.base_url, drained=True), GRAVELINES: upstream(gravelines.base_url)}
        async with site(urls) as place:
            assert (await place.ask(asked(stream=stream, vetted={"region": PARIS}))).status == 503
            tree = await place.tree()
    assert tree == drawn("""
        POST /v1/chat/completions SERVER ERROR error=service_unavailable status=503
          chat mistral-medium-3 CLIENT ERROR error=service_unavailable attempts=0 receipt=none
            vetted.route INTERNAL ERROR error=no_region_available
              ! vetted.candidate.rejected region=scaleway-par-1 reason=degraded
              ! vetted.candidate.rejected region=ovh-gra-1 reason=outside_policy
    """)


@both
async def test_saturated_everywhere_is_the_callers_429_and_no_error_of_the_server(stream: bool) -> None:
    """Both attempts and the operation failed; a 4xx leaves the server span unset."""
    async with FakeUpstream() as paris, FakeUpstream() as gravelines:
        paris.then(BUSY)
        gravelines.then(BUSY)
        urls = {PARIS: upstream(paris.base_url), GRAVELINES: upstream(gravelines.base_url)}
        async with site(urls) as place:
            assert (await place.ask(asked(stream=stream))).status == 429
            tree = await place.tree()
    assert tree == drawn("""
        POST /v1/chat/completions SERVER UNSET status=429
          chat mistral-medium-3 CLIENT ERROR error=all_regions_saturated attempts=2 receipt=none
            vetted.route INTERNAL UNSET region=scaleway-par-1
            vetted.attempt CLIENT ERROR error=saturated status=429 region=scaleway-par-1
            vetted.attempt CLIENT ERROR error=saturated status=429 resend=1 region=ovh-gra-1
    """)


async def test_a_request_that_is_at_fault_is_an_error_of_its_operation_only() -> None:
    """An upstream's 4xx about the request ends the walk; the server span stays unset."""
    async with FakeUpstream() as paris, site({PARIS: upstream(paris.base_url)}) as place:
        paris.then(FakeAnswer.json({"error": {"message": "too long"}}, status=422))
        assert (await place.ask(asked())).status == 422
        tree = await place.tree()
    assert tree == drawn("""
        POST /v1/chat/completions SERVER UNSET status=422
          chat mistral-medium-3 CLIENT ERROR error=422 region=scaleway-par-1 attempts=1 receipt=none
            vetted.route INTERNAL UNSET region=scaleway-par-1
            vetted.attempt CLIENT ERROR error=caller_error status=422 region=scaleway-par-1
    """)


@pytest.mark.parametrize(
    ("what", "status"),
    [("no key", 401), ("no JSON", 400), ("outside the policy", 403), ("a form of another site", 403)],
)
async def test_what_is_turned_away_at_the_door_is_a_server_span_alone(what: str, status: int, tmp_path: Path) -> None:
    """Without a decision there is no operation, and a 4xx is no error of the server."""
    key = tmp_path / "key"
    key.write_text("right", encoding="utf-8")
    headers = {"authorization": "Bearer wrong" if what == "no key" else "Bearer right"}
    if what == "a form of another site":
        headers |= {"origin": "https://elsewhere.eu", "content-type": "text/plain"}
    body: Any = b"{" if what == "no JSON" else asked(vetted={"region": GRAVELINES})
    async with FakeUpstream() as paris:
        settings: dict[str, Any] = {
            "callers": {"team": {"key": {"file": str(key)}}},
            "policy": {"allowed_regions": [PARIS]},
        }
        async with site({PARIS: upstream(paris.base_url)}, **settings) as place:
            assert (await place.ask(body, headers=headers.items())).status == status
            tree = await place.tree()
    assert tree == f"POST /v1/chat/completions SERVER UNSET status={status}\n"


# ---- what breaks on the way


@pytest.mark.parametrize(
    ("ending", "outcome", "attempt", "chat"),
    [
        ("cut", "upstream_cut", "upstream_cut", "upstream_stream_cut"),
        ("reset", "upstream_cut", "upstream_cut", "upstream_stream_cut"),
        ("stall", "idle_timeout", "idle_timeout", "upstream_timeout"),
    ],
)
async def test_a_stream_that_breaks_is_an_error_below_a_200(ending: str, outcome: str, attempt: str, chat: str) -> None:
    """Attempt and operation failed; the response had begun with 200, and its server span says that."""
    async with FakeUpstream() as paris:
        paris.then(FakeAnswer.stream([role(), content()], ending=ending))
        async with site({PARIS: upstream(paris.base_url)}, limits={"idle_seconds": 0.3}) as place:
            assert (await place.ask(asked(stream=True))).status == 200
            tree = await place.tree()
    assert tree == drawn(f"""
        POST /v1/chat/completions SERVER UNSET status=200
          chat mistral-medium-3 CLIENT ERROR error={chat} region=scaleway-par-1 attempts=1 outcome={outcome} receipt=sse_chunk
            ! vetted.first_chunk
            ! vetted.receipt.emitted
            vetted.route INTERNAL UNSET region=scaleway-par-1
            vetted.attempt CLIENT ERROR error={attempt} status=200 region=scaleway-par-1
    """)


async def test_a_json_answer_that_is_cut_is_a_failed_attempt() -> None:
    """Nothing has gone out yet, so another region would be next; without one the caller gets 502."""
    whole = chat_completion()
    headers = (("content-type", "application/json"), ("content-length", str(len(whole))))
    async with FakeUpstream() as paris:
        paris.then(FakeAnswer(headers=headers, body=(whole[:30],), ending="cut"))
        async with site({PARIS: upstream(paris.base_url)}) as place:
            assert (await place.ask(asked())).status == 502
            tree = await place.tree()
    assert tree == drawn("""
        POST /v1/chat/completions SERVER ERROR error=upstream_error status=502
          chat mistral-medium-3 CLIENT ERROR error=upstream_error attempts=1 receipt=none
            vetted.route INTERNAL UNSET region=scaleway-par-1
            vetted.attempt CLIENT ERROR error=upstream_cut status=200 region=scaleway-par-1
    """)
