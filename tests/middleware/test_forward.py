"""Forward mode, driven by ASGI messages over upstreams on real sockets."""

from __future__ import annotations

import pytest

from support import HELLO, proxied
from vetted_mw.testing import FakeAnswer, FakeUpstream, asgi_exchange

pytestmark = pytest.mark.anyio


async def test_a_json_completion_comes_back_with_receipt_and_trace() -> None:
    """A whole answer keeps the upstream's bytes and gains the two members at its end."""
    async with FakeUpstream() as paris, proxied({"scaleway-par-1": paris.base_url}) as app:
        exchange = await asgi_exchange(app, json={"model": "m", "messages": HELLO})
    told = exchange.json()
    assert exchange.status == 200
    assert list(told)[-2:] == ["receipt", "routing_trace"]
    assert told["routing_trace"]["region"] == told["receipt"]["region"] == "scaleway-par-1"
    assert exchange.headers["x-vetted-region"] == "scaleway-par-1"
    assert [request.json()["messages"] for request in paris.requests] == [HELLO]


async def test_a_failed_first_region_fails_over_and_the_trace_lists_both() -> None:
    """A 500 from the first region sends the request to the second, and the trace tells both attempts in order."""
    async with FakeUpstream() as first, FakeUpstream() as second:
        first.then(FakeAnswer.json({"error": {"message": "broken"}}, status=500))
        async with proxied({"scaleway-par-1": first.base_url, "ovh-gra-1": second.base_url}) as app:
            told = (await asgi_exchange(app, json={"model": "m", "messages": HELLO})).json()
    trace = told["routing_trace"]
    assert (trace["decision_mode"], trace["decision_reason"]) == ("failover", "attempt_failed")
    assert [(a["region"], a["outcome"], a["status"]) for a in trace["attempts"]] == [
        ("scaleway-par-1", "upstream_error", 500),
        ("ovh-gra-1", "success", 200),
    ]
    assert (len(first.requests), len(second.requests)) == (1, 1)
