"""The gateway's own small API: models, regions, explain, health, and what is turned away there."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest

from support import MODEL, configured
from vetted_mw import Gateway, VettedProxy
from vetted_mw.callers import Caller
from vetted_mw.routing.regions import load_catalogue
from vetted_mw.testing import FakeAnswer, FakeUpstream, ManualClock, StaticSignals, asgi_exchange
from wire.clients import (
    COMPLETIONS,
    GRAVELINES,
    PARIS,
    STOCKHOLM,
    at_the_wire,
    chat,
    error_row,
    raw_connection,
    request_head,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import httpx
    from starlette.types import Scope

pytestmark = pytest.mark.anyio

NOWHERE = "http://127.0.0.1:9/v1"
EXPLAIN = "/v1/vetted/explain"
FOR_CALLERS = ["/v1/models", "/v1/regions", f"/v1/regions/{PARIS}"]
OPEN = ["/healthz", "/readyz"]


# ---- models


async def test_models_are_the_union_over_the_regions_with_the_regions_of_each() -> None:
    """Each model stands once, in OpenAI's list shape, and says which regions serve it."""
    regions: dict[str, dict[str, Any]] = {
        PARIS: {"base_url": NOWHERE, "models": ["b-model", "a-model"]},
        STOCKHOLM: {"base_url": NOWHERE, "models": ["b-model"]},
        GRAVELINES: {"base_url": NOWHERE, "models": "any"},
    }
    async with at_the_wire(regions) as client:
        answer = await client.get("/v1/models")
    assert answer.status_code == 200
    told = answer.json()
    assert told["object"] == "list"
    assert [(model["id"], model["object"], set(model["regions"])) for model in told["data"]] == [
        ("a-model", "model", {PARIS}),
        ("b-model", "model", {PARIS, STOCKHOLM}),
    ]
    assert {type(model["created"]) for model in told["data"]} == {int}
    assert {type(model["owned_by"]) for model in told["data"]} == {str}


async def test_a_discovered_list_joins_the_union() -> None:
    """What an upstream lists of itself is shown once it was fetched."""
    async with (
        FakeUpstream(model="found-there") as paris,
        at_the_wire({PARIS: {"base_url": paris.base_url, "models": "discover"}}) as client,
        asyncio.timeout(20),
    ):
        while not (models := (await client.get("/v1/models")).json()["data"]):
            continue
    assert [model["id"] for model in models] == ["found-there"]


# ---- regions


async def test_regions_tell_facts_signal_health_and_load_of_the_whole_catalogue() -> None:
    """Every region of the catalogue is listed in its order, each with what is known of it and nothing secret."""
    clock = ManualClock()
    signals = StaticSignals({"FR": 21.5}, now=clock.now, age_minutes=10)
    async with FakeUpstream() as paris:
        paris.then(FakeAnswer(headers=(("content-length", "10"),), ending="stall"))
        options = {"now": clock.now, "monotonic": clock.monotonic}
        table = {"base_url": paris.base_url, "models": [MODEL]}
        async with at_the_wire({PARIS: table}, signals=[signals], options=options) as client:
            held = asyncio.ensure_future(client.post(COMPLETIONS, json=chat()))
            async with asyncio.timeout(20):
                while not paris.requests:  # noqa: ASYNC110 (the upstream tells no event)
                    await asyncio.sleep(0)
            listed = (await client.get("/v1/regions")).json()
            one = (await client.get(f"/v1/regions/{PARIS}")).json()
            held.cancel()
            await asyncio.gather(held, return_exceptions=True)
    assert listed["object"] == "list"
    assert [region["code"] for region in listed["data"]] == list(load_catalogue())
    assert one == listed["data"][0]
    assert (one["country"], one["zone"], one["provider"], one["site"]) == ("FR", "FR", "Scaleway", "fr-par-1")
    assert (one["configured"], one["inference"], one["in_flight"], one["models"]) == (True, True, 1, [MODEL])
    assert one["health"] == {
        "probe": "unknown",
        "probe_status": None,
        "breaker": "closed",
        "degraded": False,
        "saturated": False,
    }
    assert one["signal"]["gco2_per_kwh"] == 21.5
    assert (one["signal"]["age_minutes"], one["signal"]["live_eligible"]) == (10.0, True)
    assert one["annual"]["gco2_per_kwh"] == 58
    assert (one["network_p50_ms"], one["network_p95_ms"], one["network_source"]) == (22, 45, "declared")
    assert one["queue"] is None
    rbx = next(region for region in listed["data"] if region["code"] == "ovh-rbx-1")
    assert (rbx["configured"], rbx["health"], rbx["models"], rbx["in_flight"]) == (False, None, None, 0)
    assert rbx["queue"] is None
    assert paris.base_url not in json.dumps(listed)


async def test_an_unknown_region_is_a_404() -> None:
    """A code the catalogue does not hold is not found, in OpenAI's envelope; case counts."""
    async with at_the_wire({PARIS: NOWHERE}) as client:
        answers = [await client.get(f"/v1/regions/{code}") for code in ("us-east-1", PARIS.upper(), "%20", "a%2Fb")]
    assert {error_row(answer) for answer in answers} == {(404, "validation_error", "not_found", None)}


# ---- explain


async def test_explain_tells_the_decision_and_sends_nothing() -> None:
    """The order and the trace a request would get, for each way to ask, without a call to any upstream."""
    clock = ManualClock()
    signals = StaticSignals({"FR": 50.0, "SE_3": 20.0}, now=clock.now)
    async with FakeUpstream() as upstream:
        regions = {PARIS: upstream.base_url, GRAVELINES: upstream.base_url, STOCKHOLM: upstream.base_url}
        options = {"now": clock.now, "monotonic": clock.monotonic}
        async with at_the_wire(
            regions, signals=[signals], options=options, default_order=[PARIS, GRAVELINES]
        ) as client:
            plain = (await client.post(EXPLAIN, json=chat())).json()
            live = (await client.post(EXPLAIN, json=chat(vetted={"routing": "carbon_aware"}))).json()
            pinned = (await client.post(EXPLAIN, json=chat(), headers={"x-vetted-region": STOCKHOLM})).json()
            closed = await client.post(EXPLAIN, json=chat(vetted={"region": "atnorth-isl-1"}, stream=True))
    assert plain["order"] == [PARIS, GRAVELINES]
    assert plain["routing_trace"]["decision_reason"] == "preferred_available"
    assert live["order"][0] == STOCKHOLM
    assert live["routing_trace"]["operational_signal"]["gco2_per_kwh"] == 20.0
    assert live["routing_trace"]["receipt_signal"] is None
    assert live["routing_trace"]["attempts"] == []
    assert (pinned["order"], pinned["routing_trace"]["decision_mode"]) == ([STOCKHOLM], "pinned")
    assert closed.status_code == 200
    assert (closed.json()["order"], closed.json()["error"]["code"]) == ([], "service_unavailable")
    assert closed.json()["routing_trace"]["decision_reason"] == "pinned_region_unavailable"
    assert upstream.requests == upstream.others == []


@pytest.mark.parametrize(
    ("content", "headers", "status", "code"),
    [
        pytest.param(b"{", {}, 400, "invalid_json", id="no JSON"),
        pytest.param(b'{"model":"m","messages":[],"vetted":{"x":1}}', {}, 400, "invalid_option", id="unknown option"),
        pytest.param(b" " * 5000, {}, 413, "body_too_large", id="too large"),
        pytest.param(gzip.compress(b" " * 5000), {"content-encoding": "gzip"}, 413, "body_too_large", id="a bomb"),
        pytest.param(b"{}", {"content-encoding": "br"}, 415, "unsupported_encoding", id="encoding"),
        pytest.param(
            b'{"model":"m","messages":[],"vetted":{"region":"atnorth-sto-1"}}',
            {},
            403,
            "region_not_allowed",
            id="outside policy",
        ),
    ],
)
async def test_explain_is_as_strict_as_a_completion(
    content: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    """What a completion would be refused for before a decision, explain is refused for too."""
    limits = {"max_body_bytes": 4096}
    async with at_the_wire({PARIS: NOWHERE}, limits=limits, policy={"allowed_countries": ["FR"]}) as client:
        answer = await client.post(EXPLAIN, content=content, headers={"content-type": "application/json"} | headers)
    assert error_row(answer)[::2] == (status, code)


async def test_a_caller_that_leaves_while_explain_reads_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    """Half a body and a closed connection leave no error in the log."""
    async with at_the_wire({PARIS: NOWHERE}) as client:
        async with raw_connection(client) as connection:
            await connection.send(request_head("content-length: 100", path=EXPLAIN), b"{")
        assert (await client.get("/healthz")).status_code == 200
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


# ---- health


async def test_healthz_says_that_the_process_lives() -> None:
    """`/healthz` is 200 whatever the regions do."""
    async with at_the_wire({PARIS: {"base_url": NOWHERE, "drained": True}}) as client:
        answer = await client.get("/healthz")
        head = await client.head("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize(
    ("regions", "settings", "status"),
    [
        pytest.param({PARIS: {}}, {}, 200, id="one that serves"),
        pytest.param({PARIS: {"drained": True}, STOCKHOLM: {}}, {}, 200, id="one of two"),
        pytest.param({PARIS: {"drained": True}}, {}, 503, id="drained"),
        pytest.param(
            {PARIS: {"drained": True}, STOCKHOLM: {}},
            {"policy": {"allowed_countries": ["FR"]}},
            503,
            id="the other outside policy",
        ),
        pytest.param({PARIS: {"drained": True}, STOCKHOLM: {"inference": False}}, {}, 503, id="the other no inference"),
    ],
)
async def test_readyz_is_503_when_no_region_is_usable(
    regions: Mapping[str, dict[str, Any]], settings: dict[str, Any], status: int
) -> None:
    """Ready means that some region could serve: configured, for inference, allowed and not degraded."""
    tables = {code: {"base_url": NOWHERE} | table for code, table in regions.items()}
    async with at_the_wire(tables, default_order=[PARIS], **settings) as client:
        answer = await client.get("/readyz")
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"


async def test_readyz_opens_a_gateway_that_no_lifespan_has_opened() -> None:
    """A host that sends traffic only to what is ready would otherwise never send any."""
    gateway = Gateway(configured({PARIS: NOWHERE}))
    try:
        exchange = await asgi_exchange(VettedProxy(gateway), method="GET", path="/readyz")
        assert exchange.status == 200
    finally:
        await gateway.aclose()


# ---- who may ask


@pytest.fixture
def callers(tmp_path: Path) -> Mapping[str, Any]:
    (tmp_path / "key").write_text("right")
    return {"team-a": {"key": {"file": str(tmp_path / "key")}}}


async def asked(client: httpx.AsyncClient, **headers: str) -> dict[str, int]:
    """Status of every endpoint for one who asks so."""
    statuses = {path: (await client.get(path, headers=headers)).status_code for path in (*FOR_CALLERS, *OPEN)}
    return statuses | {EXPLAIN: (await client.post(EXPLAIN, json=chat(), headers=headers)).status_code}


async def test_with_callers_the_facts_are_for_callers_and_health_is_for_anyone(callers: Mapping[str, Any]) -> None:
    """Models, regions and explain want a key; probes of a load balancer do not."""
    async with at_the_wire({PARIS: NOWHERE}, callers=callers) as client:
        without, wrong = await asked(client), await asked(client, authorization="Bearer wrong")
        right = await asked(client, authorization="Bearer right")
        refused = await client.get("/v1/models")
    assert without == wrong == dict.fromkeys([*FOR_CALLERS, EXPLAIN], 401) | dict.fromkeys(OPEN, 200)
    assert set(right.values()) == {200}
    assert error_row(refused) == (401, "auth_error", "invalid_api_key", None)
    assert refused.headers["www-authenticate"] == "Bearer"


async def test_without_callers_anyone_who_reaches_the_gateway_may_ask() -> None:
    """A loopback gateway without callers answers everything."""
    async with at_the_wire({PARIS: NOWHERE}) as client:
        assert set((await asked(client)).values()) == {200}


async def test_identify_decides_for_the_endpoints_too() -> None:
    """The host application's word holds for models, regions and explain; its narrowing holds for explain."""

    async def identify(scope: Scope) -> Caller | None:
        known = dict(scope["headers"]).get(b"x-user") == b"ada"
        return Caller(name="ada", allowed_countries=frozenset({"SE"})) if known else None

    async with at_the_wire({PARIS: NOWHERE, STOCKHOLM: NOWHERE}, identify=identify) as client:
        stranger = await asked(client)
        ada = await asked(client, **{"x-user": "ada"})
        explained = (await client.post(EXPLAIN, json=chat(), headers={"x-user": "ada"})).json()
    assert stranger == dict.fromkeys([*FOR_CALLERS, EXPLAIN], 401) | dict.fromkeys(OPEN, 200)
    assert set(ada.values()) == {200}
    assert explained["order"] == [STOCKHOLM]


async def test_a_page_of_another_site_may_read_what_its_browser_lets_it() -> None:
    """Only a form post is refused by its `Origin`; a GET without content type is none."""
    async with at_the_wire({PARIS: NOWHERE}) as client:
        answer = await client.get("/v1/models", headers={"origin": "https://example.org"})
        posted = await client.post(EXPLAIN, content=b"{}", headers={"origin": "https://example.org"})
    assert answer.status_code == 200
    assert error_row(posted)[2] == "cross_site_request"


# ---- what is not there


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/v1/models", {"GET", "HEAD"}),
        ("DELETE", f"/v1/regions/{PARIS}", {"GET", "HEAD"}),
        ("PUT", "/v1/regions", {"GET", "HEAD"}),
        ("GET", EXPLAIN, {"POST"}),
        ("OPTIONS", EXPLAIN, {"POST"}),
        ("POST", "/healthz", {"GET", "HEAD"}),
        ("PATCH", "/readyz", {"GET", "HEAD"}),
        ("GET", COMPLETIONS, {"POST"}),
        ("PUT", f"{COMPLETIONS}/", {"POST"}),
    ],
)
async def test_another_method_is_a_405_that_names_the_right_one(method: str, path: str, allowed: set[str]) -> None:
    """A known path with a wrong method says which methods there are, in words and in `Allow`."""
    async with at_the_wire({PARIS: NOWHERE}) as client:
        answer = await client.request(method, path)
    assert error_row(answer) == (405, "validation_error", "method_not_allowed", None)
    assert set(answer.headers["allow"].split(", ")) == allowed


@pytest.mark.parametrize(
    "path",
    ["/", "/v1", "/v1/completions", "/v1/embeddings", "/v1/grid/health", "/v1/models//", "/v1/regions/a/b", "/docs", "/HEALTHZ"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_unknown_path_is_a_404_in_the_envelope(gate: Any, method: str, path: str) -> None:
    """The stand-alone gateway has no page that is not JSON, and no redirect."""
    answer = await gate.client.request(method, path)
    assert error_row(answer) == (404, "validation_error", "not_found", None)
    assert gate.upstream.requests == []


@pytest.mark.parametrize("path", [*FOR_CALLERS, *OPEN])
async def test_a_trailing_slash_is_the_same_endpoint(gate: Any, path: str) -> None:
    """Mounts that append a slash reach the endpoints too."""
    plain, slashed = await gate.client.get(path), await gate.client.get(f"{path}/")
    assert slashed.status_code == plain.status_code == 200
    assert slashed.json() == plain.json()


async def test_a_websocket_to_the_stand_alone_gateway_is_turned_away(gate: Any) -> None:
    """An upgrade is refused before it is accepted, and the next request is served."""
    async with raw_connection(gate.client) as connection:
        upgrade = (
            "connection: Upgrade",
            "upgrade: websocket",
            "sec-websocket-version: 13",
            "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
        )
        await connection.send(request_head(*upgrade, method="GET", path=COMPLETIONS))
        answer = await connection.answer()
    assert 400 <= answer.status < 500
    assert (await gate.client.get("/healthz")).status_code == 200
    assert gate.upstream.requests == []


async def test_a_websocket_scope_is_closed_and_nothing_else_is_sent() -> None:
    """The proxy closes a websocket wherever it is opened, without accepting it."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(dict(message))

    async with Gateway(configured({PARIS: NOWHERE})) as gateway:
        for path in (COMPLETIONS, "/v1/models", "/chat"):
            scope = {"type": "websocket", "path": path, "root_path": "", "headers": []}
            await VettedProxy(gateway)(scope, receive, send)
    assert [message["type"] for message in sent] == ["websocket.close"] * 3
