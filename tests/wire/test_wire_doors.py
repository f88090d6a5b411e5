"""Who may come in: keys, the host application's own word, form posts of other sites, hosts open to the world."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from support import MODEL, configured, proxied
from vetted_mw import ConfigurationError, Gateway, VettedMiddleware, VettedProxy
from vetted_mw.callers import ANYONE, Caller, narrowed
from vetted_mw.cli import main
from vetted_mw.settings import forbid_open_host
from vetted_mw.testing import FakeUpstream, StaticSignals, asgi_exchange
from wire.clients import COMPLETIONS, PARIS, STOCKHOLM, at_the_wire, chat, error_row, raw_connection, request_head

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from starlette.types import Receive, Scope, Send

    from vetted_mw.asgi.door import Identify

pytestmark = pytest.mark.anyio

NO_ENTRY = (401, "auth_error", "invalid_api_key", None)


@pytest.fixture
def callers(tmp_path: Path) -> Mapping[str, Any]:
    """Two callers, the second of whom may use Sweden only."""
    for name in ("one", "two"):
        (tmp_path / name).write_text(f"key-of-{name}\n")
    return {
        "one": {"key": {"file": str(tmp_path / "one")}},
        "two": {"key": {"file": str(tmp_path / "two")}, "allowed_countries": ["SE"]},
    }


def admitting(caller: Caller | None) -> Identify:
    async def identify(_scope: Scope) -> Caller | None:
        return caller

    return identify


def status_and_code(exchange: Any) -> tuple[int, str]:
    return exchange.status, exchange.json()["error"]["code"]


# ---- keys


@pytest.mark.parametrize("framing", ["content-length: 1000", "transfer-encoding: chunked"])
@pytest.mark.parametrize("path", [COMPLETIONS, "/v1/vetted/explain"])
@pytest.mark.parametrize("key", [(), ("authorization: Bearer wrong",)], ids=["no key", "wrong key"])
async def test_a_missing_or_wrong_key_is_answered_before_the_body_is_read(
    callers: Mapping[str, Any], key: tuple[str, ...], path: str, framing: str
) -> None:
    """The 401 comes to a caller that has sent nothing but its head, and no `100 Continue` invites the rest."""
    async with (
        FakeUpstream() as paris,
        at_the_wire({PARIS: paris.base_url, STOCKHOLM: paris.base_url}, callers=callers) as client,
        raw_connection(client) as connection,
    ):
        await connection.send(request_head(framing, "expect: 100-continue", *key, path=path))
        answer = await connection.answer()
    assert error_row(answer) == NO_ENTRY
    assert answer.header("www-authenticate") == "Bearer"
    assert answer.header("connection") == "close"
    assert paris.requests == []


async def test_a_caller_the_application_does_not_know_is_answered_before_the_body_is_read() -> None:
    """`identify` returning None is a 401, also to a caller that has sent only its head."""
    async with (
        FakeUpstream() as paris,
        at_the_wire({PARIS: paris.base_url}, identify=admitting(None)) as client,
        raw_connection(client) as connection,
    ):
        await connection.send(request_head("content-length: 1000"))
        answer = await connection.answer()
    assert error_row(answer) == NO_ENTRY
    assert paris.requests == []


@pytest.mark.parametrize(
    "sent",
    ["Bearer key-of-on", "Bearer key-of-one2", "key-of-one", "Bearer", "Bearer ", "Token key-of-one", "Bearer clé", ""],
)
async def test_only_a_whole_key_opens(callers: Mapping[str, Any], sent: str) -> None:
    """A part of a key, another scheme and bytes that are no ASCII are all the same 401."""
    async with proxied({PARIS: "http://127.0.0.1:9/v1", STOCKHOLM: "http://127.0.0.1:9/v1"}, callers=callers) as app:
        exchange = await asgi_exchange(app, json=chat(), headers=[("authorization", sent)])
    assert status_and_code(exchange) == (401, "invalid_api_key")


async def test_every_callers_key_opens_and_none_leaves(callers: Mapping[str, Any], tmp_path: Path) -> None:
    """Each configured key lets its caller in under its own policy, the scheme in any case; upstreams see our key only."""
    (tmp_path / "ours").write_text("key-of-the-region")
    own = {"api_key": {"file": str(tmp_path / "ours")}}
    async with FakeUpstream() as paris, FakeUpstream() as stockholm:
        regions = {PARIS: {"base_url": paris.base_url} | own, STOCKHOLM: {"base_url": stockholm.base_url} | own}
        async with at_the_wire(regions, callers=callers) as client:
            one = await client.post(COMPLETIONS, json=chat(), headers={"authorization": "Bearer key-of-one"})
            two = await client.post(COMPLETIONS, json=chat(), headers={"authorization": "bEARER  key-of-two"})
            out = await client.post(
                COMPLETIONS,
                json=chat(vetted={"region": PARIS}),
                headers={"authorization": "Bearer key-of-two"},
            )
    assert (one.headers["x-vetted-region"], two.headers["x-vetted-region"]) == (PARIS, STOCKHOLM)
    assert two.headers["x-vetted-decision-reason"] == "preferred_not_allowed"
    assert error_row(out) == (403, "policy_error", "region_not_allowed", "vetted.region")
    assert len(paris.requests) == len(stockholm.requests) == 1
    for request in (*paris.requests, *stockholm.requests):
        assert request.header("authorization") == "Bearer key-of-the-region"
        assert "key-of-one" not in str(request.headers)
        assert "key-of-two" not in str(request.headers)


def test_passing_keys_through_together_with_callers_is_refused_at_start(callers: Mapping[str, Any]) -> None:
    """A gateway key can never leave for an upstream, so the two settings exclude each other."""
    table = {"base_url": "http://127.0.0.1:9/v1", "auth": "passthrough"}
    with pytest.raises(ConfigurationError, match="passthrough"):
        configured({PARIS: table, STOCKHOLM: "http://127.0.0.1:9/v1"}, callers=callers)


# ---- the host application's own word


@pytest.mark.parametrize(
    ("caller", "options", "expected"),
    [
        (Caller(name="a", allowed_regions=frozenset({STOCKHOLM})), {"region": PARIS}, (403, "region_not_allowed")),
        (Caller(name="a", allowed_countries=frozenset({"SE"})), {"region": PARIS}, (403, "region_not_allowed")),
        (Caller(name="a", allowed_regions=frozenset()), {}, (403, "region_not_allowed")),
        (Caller(name="a", require_region=True), {}, (403, "region_required")),
        (Caller(name="a", carbon_aware=False), {"routing": "carbon_aware"}, (403, "routing_not_allowed")),
    ],
)
async def test_an_identified_caller_is_held_to_its_own_policy(
    caller: Caller, options: dict[str, Any], expected: tuple[int, str]
) -> None:
    """What `identify` says of a caller narrows the operator's policy, and nothing is sent outside it."""
    async with FakeUpstream() as upstream:
        configuration = configured({PARIS: upstream.base_url, STOCKHOLM: upstream.base_url})
        async with Gateway(configuration) as gateway:
            app = VettedProxy(gateway, identify=admitting(caller))
            exchange = await asgi_exchange(app, json=chat(vetted=options))
    assert status_and_code(exchange) == expected
    assert upstream.requests == []


@pytest.mark.parametrize("kind", [set, list, tuple])
async def test_an_application_may_tell_a_callers_regions_by_any_collection(kind: type[Any]) -> None:
    """`identify` is an application's own: what it allows counts, whatever holds it."""
    async with FakeUpstream() as upstream:
        configuration = configured({PARIS: upstream.base_url, STOCKHOLM: upstream.base_url})
        caller = Caller(name="a", allowed_regions=kind([PARIS]), allowed_countries=kind(["FR"]))
        async with Gateway(configuration) as gateway:
            app = VettedProxy(gateway, identify=admitting(caller))
            inside = await asgi_exchange(app, json=chat(vetted={"region": PARIS}))
            outside = await asgi_exchange(app, json=chat(vetted={"region": STOCKHOLM}))
    assert (inside.status, status_and_code(outside)) == (200, (403, "region_not_allowed"))


def test_anyone_is_held_to_the_operators_policy_alone() -> None:
    """A caller of whom nothing is known narrows nothing and widens nothing."""
    rules = configured({PARIS: "http://127.0.0.1:9/v1"}, policy={"allowed_countries": ["FR"]}).rules
    assert narrowed(rules, ANYONE) == rules


async def test_an_identified_caller_can_never_widen_the_operators_policy() -> None:
    """A caller allowed in Sweden gets nothing where the operator allows France only."""
    async with FakeUpstream() as upstream:
        configuration = configured(
            {PARIS: upstream.base_url, STOCKHOLM: upstream.base_url}, policy={"allowed_countries": ["FR"]}
        )
        caller = Caller(name="a", allowed_countries=frozenset({"SE"}))
        async with Gateway(configuration) as gateway:
            app = VettedProxy(gateway, identify=admitting(caller))
            pinned = await asgi_exchange(app, json=chat(vetted={"region": STOCKHOLM}))
            plain = await asgi_exchange(app, json=chat())
    assert status_and_code(pinned) == status_and_code(plain) == (403, "region_not_allowed")
    assert upstream.requests == []


async def test_a_caller_without_carbon_aware_gets_the_default_where_the_operators_default_is_carbon_aware() -> None:
    """The operator's default routing is not forced on a caller that may not have it."""
    async with FakeUpstream() as upstream:
        configuration = configured(
            {PARIS: upstream.base_url, STOCKHOLM: upstream.base_url}, default_routing="carbon_aware"
        )
        async with Gateway(configuration, signals=[StaticSignals({"FR": 50.0, "SE_3": 10.0})]) as gateway:
            allowed = await asgi_exchange(VettedProxy(gateway, identify=admitting(Caller(name="a"))), json=chat())
            without = VettedProxy(gateway, identify=admitting(Caller(name="b", carbon_aware=False)))
            narrowed = await asgi_exchange(without, json=chat())
    assert allowed.json()["routing_trace"]["route_policy"] == "lowest_carbon"
    assert narrowed.json()["routing_trace"]["route_policy"] == "eu_preferred"
    assert narrowed.headers["x-vetted-region"] == PARIS


async def test_identify_sees_the_requests_own_scope() -> None:
    """The host application decides by the very scope its other middleware has filled."""
    seen: list[Scope] = []

    async def identify(scope: Scope) -> Caller | None:
        seen.append(scope)
        return Caller(name=scope["user"])

    async with FakeUpstream() as paris, Gateway(configured({PARIS: paris.base_url})) as gateway:
        app = VettedProxy(gateway, identify=identify)
        exchange = await asgi_exchange(app, json=chat(), scope={"user": "ada"})
    assert exchange.status == 200
    assert [scope["user"] for scope in seen] == ["ada"]


# ---- web pages of other sites


@pytest.mark.parametrize(
    "kind",
    [
        "content-type: application/x-www-form-urlencoded",
        "content-type: text/plain;charset=UTF-8",
        "content-type:  Multipart/Form-Data; boundary=x",
        "content-type:",
    ],
)
@pytest.mark.parametrize("path", [COMPLETIONS, "/v1/vetted/explain"])
async def test_a_form_that_another_sites_page_posts_is_refused(path: str, kind: str) -> None:
    """`Origin` together with a content type a form can send is a 403, so that no page can use a local gateway."""
    body = b'{"model":"m","messages":[]}'
    async with (
        FakeUpstream() as paris,
        at_the_wire({PARIS: paris.base_url}) as client,
        raw_connection(client) as connection,
    ):
        head = request_head("origin: https://example.org", kind, f"content-length: {len(body)}", path=path)
        await connection.send(head, body)
        answer = await connection.answer()
    assert error_row(answer) == (403, "policy_error", "cross_site_request", None)
    assert paris.requests == []


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"origin": "https://example.org", "content-type": "application/json"}, id="JSON from a page"),
        pytest.param({"content-type": "application/x-www-form-urlencoded"}, id="curl -d"),
        pytest.param({}, id="no content type"),
    ],
)
async def test_what_no_form_can_send_comes_in(headers: dict[str, str]) -> None:
    """JSON from a page needed the host's CORS consent, and a form type without `Origin` is no browser: both are served."""
    async with FakeUpstream() as paris, proxied({PARIS: paris.base_url}) as app:
        exchange = await asgi_exchange(app, body=b'{"model":"m","messages":[]}', headers=headers.items())
    assert exchange.status == 200
    assert paris.requests[0].header("content-type") == "application/json"


# ---- hosts that others reach


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "2001:db8::1", "gateway.example", ""])
def test_a_host_others_reach_is_refused_without_a_lock(host: str) -> None:
    """Beyond this machine it takes callers, or the operator's word."""
    with pytest.raises(ConfigurationError, match="callers"):
        forbid_open_host(host, callers=False, is_open=False)
    forbid_open_host(host, callers=True, is_open=False)
    forbid_open_host(host, callers=False, is_open=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost", "LocalHost"])
def test_a_loopback_host_needs_no_lock(host: str) -> None:
    """Only this machine reaches it."""
    forbid_open_host(host, callers=False, is_open=False)


@pytest.mark.parametrize("named", ["on the command line", "in the settings"])
def test_serve_refuses_an_open_host_before_it_binds(
    named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`vetted-mw serve` ends with 2 and says what to do, wherever the host was named."""
    settings = tmp_path / "vetted.toml"
    server = '[server]\nhost = "0.0.0.0"\n' if named == "in the settings" else ""
    settings.write_text(
        f'default_order = ["{PARIS}"]\n{server}[regions.{PARIS}]\nbase_url = "http://127.0.0.1:9/v1"\nmodels = ["{MODEL}"]\n'
    )
    host = [] if server else ["--host", "0.0.0.0"]
    assert main(["serve", "--config", str(settings), *host]) == 2
    told = capsys.readouterr().err
    assert "server.host" in told
    assert "--open" in told


# ---- a middleware in front of which nobody stands


async def inner(scope: Scope, receive: Receive, send: Send) -> None:
    """An app that is never reached."""
    raise AssertionError(scope["type"])


@pytest.mark.parametrize(
    ("options", "auth", "warns"),
    [
        pytest.param({}, "region", 1, id="nobody asks who comes"),
        pytest.param({"identify": admitting(None)}, "region", 0, id="the application asks"),
        pytest.param({"mode": "in_app"}, "region", 0, id="its own handler stands in front"),
        pytest.param({}, "passthrough", 0, id="callers pay with their own keys"),
    ],
)
def test_a_forwarding_middleware_whose_keys_anyone_could_spend_warns_once(
    options: dict[str, Any], auth: str, warns: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The warning comes at start, once, and only where a key of ours pays and nobody is asked who comes."""
    (tmp_path / "ours").write_text("key-of-the-region")
    key = {"api_key": {"file": str(tmp_path / "ours")}} if auth == "region" else {}
    gateway = Gateway(configured({PARIS: {"base_url": "http://127.0.0.1:9/v1", "auth": auth} | key}))
    with caplog.at_level(logging.WARNING, logger="vetted_mw"):
        VettedMiddleware(inner, gateway=gateway, **options)
        VettedMiddleware(inner, gateway=gateway, **options)
    assert len([record for record in caplog.records if "authentication" in record.getMessage()]) == warns


def test_an_unknown_mode_is_refused_when_the_middleware_is_built() -> None:
    """A misspelt mode would silently be another one."""
    gateway = Gateway(configured({PARIS: "http://127.0.0.1:9/v1"}))
    with pytest.raises(ConfigurationError, match="in_app"):
        VettedMiddleware(inner, gateway=gateway, mode="inapp")  # type: ignore[arg-type]
