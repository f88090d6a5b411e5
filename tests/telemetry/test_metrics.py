"""What is counted of requests: every metric of the table, closed attribute sets, sums that receipts bear out."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from evidence.memory_ledger import MemoryLedger
from streams.wall import Caller, until
from support import configured, proxied, unused_port
from telemetry.recorded import Recorded
from telemetry.spans import GRAVELINES, KNOWN, PARIS, asked, told, upstream
from vetted_mw import Gateway, VettedMiddleware, VettedProxy
from vetted_mw.telemetry import names
from vetted_mw.testing import FakeAnswer, FakeUpstream, ManualClock, StaticSignals, asgi_exchange, chat_frames

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from opentelemetry.sdk.metrics.export import Metric
    from starlette.types import Receive, Scope, Send

pytestmark = pytest.mark.anyio

DECISION = (names.ROUTE_POLICY, names.DECISION_MODE)


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    """Return an SDK of this test's own."""
    made = Recorded()
    yield made
    made.shutdown()


def points(metric: Metric) -> dict[tuple[tuple[str, Any], ...], float]:
    """Return what was counted, by its attributes in alphabetical order; of a histogram how often."""
    return {
        tuple(sorted(dict(point.attributes or {}).items())): float(getattr(point, "value", getattr(point, "count", 0)))
        for point in metric.data.data_points
    }


def total(metric: Metric) -> float:
    """Return the sum of all that was counted."""
    return sum(getattr(point, "value", 0) for point in metric.data.data_points)


def outcomes(recorded: Recorded) -> dict[str, float]:
    """Return how many requests ended how."""
    found: dict[str, float] = {}
    for attributes, count in points(recorded.metrics[names.REQUESTS]).items():
        outcome = dict(attributes)[names.OUTCOME]
        found[outcome] = found.get(outcome, 0) + count
    return found


TABLE: dict[str, tuple[str, set[str]]] = {
    names.OPERATION_DURATION: (
        "s",
        {
            names.OPERATION_NAME,
            names.PROVIDER_NAME,
            names.REQUEST_MODEL,
            names.RESPONSE_MODEL,
            names.REGION,
            names.ERROR_TYPE,
        },
    ),
    names.TOKEN_USAGE: (
        "{token}",
        {
            names.OPERATION_NAME,
            names.PROVIDER_NAME,
            names.REQUEST_MODEL,
            names.RESPONSE_MODEL,
            names.REGION,
            names.TOKEN_TYPE,
        },
    ),
    names.OPERATION_TIME_TO_FIRST_CHUNK: (
        "s",
        {names.OPERATION_NAME, names.PROVIDER_NAME, names.REQUEST_MODEL, names.REGION},
    ),
    names.REQUESTS: ("{request}", {names.REGION, *DECISION, names.OUTCOME}),
    names.ATTEMPTS: ("{attempt}", {names.REGION, names.OUTCOME, names.ERROR_TYPE}),
    names.FAILOVERS: ("{failover}", {names.REGION, names.NEXT_REGION, names.ERROR_TYPE}),
    names.ENERGY: ("J", {names.REGION, names.REQUEST_MODEL, names.TIER}),
    names.EMISSIONS: ("g", {names.REGION, names.REQUEST_MODEL, names.TIER, names.GRID_TEMPORAL_MATCH}),
    names.WATER: ("mL", {names.REGION, names.REQUEST_MODEL, names.TIER}),
    names.RECEIPTS: ("{receipt}", {names.TIER, names.OUTCOME}),
    names.OVERHEAD: ("s", {names.STREAM}),
    names.CARBON_INTENSITY: ("g/kWh", {names.REGION, names.SOURCE}),
    names.SIGNAL_AGE: ("s", {names.REGION, names.SOURCE}),
    names.REGIONS_HEALTHY: ("{region}", {names.REGION}),
    names.IN_FLIGHT: ("{request}", {names.REGION}),
}


async def test_every_metric_of_the_table_is_there_with_its_unit_and_its_attributes(recorded: Recorded) -> None:
    """Requests of every kind make exactly the metrics that are promised, and no attribute beside those promised."""
    clock = ManualClock()
    options = {**recorded.providers, "now": clock.now, "monotonic": clock.monotonic}
    signals = StaticSignals({"FR": 21.5}, now=clock.now, age_minutes=30, name="live")
    async with FakeUpstream(model=KNOWN) as paris, FakeUpstream(model=KNOWN) as gravelines:
        paris.then(FakeAnswer.json({"error": {"message": "broken"}}, status=500))
        urls = {PARIS: upstream(paris.base_url), GRAVELINES: upstream(gravelines.base_url)}
        async with proxied(urls, signals=[signals], options=options) as app:
            for stream in (False, True):
                await asgi_exchange(app, json=asked(stream=stream))
            await asgi_exchange(app, json=asked(model="unheard-of", vetted={"region": PARIS}))
            await asgi_exchange(app, json={"model": 1})
            found = recorded.metrics
    assert set(found) == set(TABLE)
    for name, (unit, attributes) in TABLE.items():
        assert found[name].unit == unit
        told = {key for point in found[name].data.data_points for key in dict(point.attributes or {})}
        assert told <= attributes, name


async def test_seconds_and_tokens_fall_into_the_conventions_buckets(recorded: Recorded) -> None:
    """Histograms ask for the boundaries of the semantic conventions, so that dashboards' quantiles mean something."""
    async with FakeUpstream(model=KNOWN) as paris:
        async with proxied({PARIS: upstream(paris.base_url)}, options=recorded.providers) as app:
            await asgi_exchange(app, json=asked(stream=True))
        found = recorded.metrics
    first = {name: metric.data.data_points[0] for name, metric in found.items()}
    bounds = {name: list(one.explicit_bounds) for name, one in first.items() if hasattr(one, "explicit_bounds")}
    seconds = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]
    assert bounds == {
        names.OPERATION_DURATION: seconds,
        names.OPERATION_TIME_TO_FIRST_CHUNK: seconds,
        names.TOKEN_USAGE: [4**power for power in range(14)],
        names.OVERHEAD: [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25],
    }


async def _served(app: VettedProxy, paris: FakeUpstream, gravelines: FakeUpstream) -> None:
    await asgi_exchange(app, json=asked())


async def _failed_over(app: VettedProxy, paris: FakeUpstream, gravelines: FakeUpstream) -> None:
    paris.then(FakeAnswer.json({"error": {"message": "broken"}}, status=500))
    await asgi_exchange(app, json=asked(stream=True))


async def _degraded(app: VettedProxy, paris: FakeUpstream, gravelines: FakeUpstream) -> None:
    await asgi_exchange(app, json=asked(vetted={"routing": "carbon_aware"}))


async def _malformed(app: VettedProxy, paris: FakeUpstream, gravelines: FakeUpstream) -> None:
    await asgi_exchange(app, json={"messages": []})


async def _caller_fault(app: VettedProxy, paris: FakeUpstream, gravelines: FakeUpstream) -> None:
    paris.then(FakeAnswer.json({"error": {"message": "too long"}}, status=422))
    await asgi_exchange(app, json=asked())


async def _pinned_nowhere(app: VettedProxy, paris: FakeUpstream, gravelines: FakeUpstream) -> None:
    await asgi_exchange(app, json=asked(vetted={"region": "atnorth-isl-1"}))


async def _all_failed(app: VettedProxy, paris: FakeUpstream, gravelines: FakeUpstream) -> None:
    for one in (paris, gravelines):
        one.then(FakeAnswer.json({"error": {"message": "broken"}}, status=500))
    await asgi_exchange(app, json=asked())


async def _cut(app: VettedProxy, paris: FakeUpstream, gravelines: FakeUpstream) -> None:
    paris.then(FakeAnswer.stream(chat_frames(words=("Hel", "lo"))[:3], ending="cut"))
    await asgi_exchange(app, json=asked(stream=True))


ENDS = {
    "served": _served,
    "failed_over": _failed_over,
    "served_degraded": _degraded,
    "refused": _malformed,
    "refused by an upstream": _caller_fault,
    "failed for want of a region": _pinned_nowhere,
    "failed": _all_failed,
    "failed in a stream": _cut,
}


@pytest.mark.parametrize("end", ENDS)
async def test_a_request_is_counted_once_by_how_it_ended(recorded: Recorded, end: str) -> None:
    """Every request is one point of `vetted.requests`, by the word for what its caller got."""
    async with FakeUpstream(model=KNOWN) as paris, FakeUpstream(model=KNOWN) as gravelines:
        urls = {PARIS: upstream(paris.base_url), GRAVELINES: upstream(gravelines.base_url)}
        async with proxied(urls, options=recorded.providers) as app:
            await ENDS[end](app, paris, gravelines)
            assert outcomes(recorded) == {end.split(maxsplit=1)[0]: 1}


async def test_a_caller_who_left_is_counted_as_one(recorded: Recorded) -> None:
    """A stream whose caller is gone is a `client_disconnect`, of the request and of the attempt, and no error."""
    async with FakeUpstream(model=KNOWN) as paris:
        paris.then(FakeAnswer.stream(chat_frames()[:2], ending="stall"))
        async with Gateway(configured({PARIS: upstream(paris.base_url)}), **recorded.providers) as gateway:
            caller = Caller(VettedProxy(gateway), asked(stream=True))
            answering = caller.start()
            await until(lambda: len(caller.sent) > 1)
            caller.leave()
            await answering
            assert outcomes(recorded) == {"client_disconnect": 1}
            (attempt,) = points(recorded.metrics[names.ATTEMPTS])
    assert dict(attempt) == {names.REGION: PARIS, names.OUTCOME: "client_disconnect"}


async def test_attempts_and_failovers_tell_from_where_to_where_and_why(recorded: Recorded) -> None:
    """A region that failed and the one that took over are counted apart, at the moment they end."""
    async with FakeUpstream(model=KNOWN) as gravelines:
        urls = {PARIS: upstream(f"http://127.0.0.1:{unused_port()}/v1"), GRAVELINES: upstream(gravelines.base_url)}
        async with proxied(urls, options=recorded.providers) as app:
            await asgi_exchange(app, json=asked())
            found = recorded.metrics
    attempts = [dict(point) for point in points(found[names.ATTEMPTS])]
    assert attempts == [
        {names.REGION: PARIS, names.OUTCOME: "connect_error", names.ERROR_TYPE: "connect_error"},
        {names.REGION: GRAVELINES, names.OUTCOME: "success"},
    ]
    (failover,) = points(found[names.FAILOVERS])
    assert dict(failover) == {names.REGION: PARIS, names.NEXT_REGION: GRAVELINES, names.ERROR_TYPE: "connect_error"}


async def test_no_caller_makes_a_series(recorded: Recorded) -> None:
    """Model names that no configuration has are one series, whether the caller or the upstream made them up."""
    async with FakeUpstream(model="up-stream-invention") as paris:
        table = {"base_url": paris.base_url, "models": "any"}
        async with proxied({PARIS: table}, options=recorded.providers, models={KNOWN: {"active_params_b": 8}}) as app:
            for number in range(5):
                await asgi_exchange(app, json=asked(model=f"invention-{number}"))
            await asgi_exchange(app, json=asked(model=KNOWN))
            found = recorded.metrics
    for name in (names.OPERATION_DURATION, names.TOKEN_USAGE, names.ENERGY, names.EMISSIONS, names.WATER):
        models = {dict(point)[names.REQUEST_MODEL] for point in points(found[name])}
        assert models == {KNOWN, "_OTHER"}, name
    assert "invention" not in str(found)


async def test_an_upstreams_own_name_for_a_model_is_told_where_the_operator_wrote_it(recorded: Recorded) -> None:
    """A model that is asked for by one name and answers by another has both on its duration."""
    models = {KNOWN: {"upstream_names": {PARIS: "mistral-medium-2508"}}}
    async with FakeUpstream(model="mistral-medium-2508") as paris:
        async with proxied({PARIS: paris.base_url}, options=recorded.providers, models=models) as app:
            await asgi_exchange(app, json=asked())
        (point,) = points(recorded.metrics[names.OPERATION_DURATION])
    assert dict(point)[names.REQUEST_MODEL] == KNOWN
    assert dict(point)[names.RESPONSE_MODEL] == "mistral-medium-2508"


async def test_what_is_summed_is_what_the_receipts_say(recorded: Recorded) -> None:
    """Energy, emissions and water over answers of both kinds are the sums of their receipts, in J, g and mL."""
    async with FakeUpstream(model=KNOWN) as paris, FakeUpstream(model=KNOWN) as gravelines:
        urls = {PARIS: upstream(paris.base_url), GRAVELINES: upstream(gravelines.base_url)}
        async with proxied(urls, options=recorded.providers) as app:
            exchanges = [await asgi_exchange(app, json=asked(stream=stream)) for stream in (False, True, False)]
            receipts = [told(exchange)["receipt"] for exchange in exchanges]
            found = recorded.metrics
    assert total(found[names.ENERGY]) == pytest.approx(sum(one["energy_wh"] for one in receipts) * 3600)
    assert total(found[names.EMISSIONS]) == pytest.approx(sum(one["gco2e"] for one in receipts))
    assert total(found[names.WATER]) == pytest.approx(sum(one["ml_water"] for one in receipts))


@pytest.mark.parametrize("has_ledger", [True, False])
async def test_what_was_given_up_is_summed_whether_a_ledger_keeps_it_or_not(
    recorded: Recorded, has_ledger: bool
) -> None:
    """A stream that its caller left, and an attempt that was cut before content, used electricity all the same."""
    ledger = MemoryLedger()
    options: Mapping[str, Any] = {**recorded.providers, **({"ledger": ledger} if has_ledger else {})}
    async with FakeUpstream(model=KNOWN) as paris, FakeUpstream(model=KNOWN) as gravelines:
        paris.then(FakeAnswer.stream([], ending="cut"))
        gravelines.then(FakeAnswer.stream(chat_frames()[:2], ending="stall"))
        urls = {PARIS: upstream(paris.base_url), GRAVELINES: upstream(gravelines.base_url)}
        async with Gateway(configured(urls), **options) as gateway:
            caller = Caller(VettedProxy(gateway), asked(stream=True))
            answering = caller.start()
            await until(lambda: len(caller.sent) > 1)
            caller.leave()
            await answering
            found = recorded.metrics
    regions = {dict(point)[names.REGION] for point in points(found[names.ENERGY])}
    assert regions == {PARIS, GRAVELINES}
    assert names.RECEIPTS not in found  # nobody was told one
    if has_ledger:
        assert total(found[names.ENERGY]) == pytest.approx(sum(one.energy_wh for one in ledger.receipts) * 3600)


RECEIPTS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, str]]] = {
    "emitted": ({}, {}, {names.OUTCOME: "emitted", names.TIER: "parametric"}),
    "withheld": ({}, {"vetted": {"tier": "telemetry"}}, {names.OUTCOME: "withheld"}),
    "failed": ({"energy_model": "broken"}, {}, {names.OUTCOME: "failed"}),
}


class _BrokenModel:
    """An energy model that cannot."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError


@pytest.mark.parametrize("end", RECEIPTS)
async def test_receipts_are_counted_by_what_became_of_them(recorded: Recorded, end: str) -> None:
    """A receipt is emitted, withheld by rule, or failed; the last is what an alert is for."""
    model, members, expected = RECEIPTS[end]
    options = {**recorded.providers, **({"energy_model": _BrokenModel()} if model else {})}
    async with (
        FakeUpstream(model=KNOWN) as paris,
        proxied({PARIS: upstream(paris.base_url)}, options=options) as app,
    ):
        await asgi_exchange(app, json=asked(**members))
        (point,) = points(recorded.metrics[names.RECEIPTS])
    assert dict(point) == expected


async def test_missing_usage_is_no_point(recorded: Recorded) -> None:
    """Tokens that the upstream did not count are not made up: there is a duration and no token."""
    body = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}]}
    async with FakeUpstream(model=KNOWN) as paris:
        paris.then(FakeAnswer.json(body))
        async with proxied({PARIS: upstream(paris.base_url)}, options=recorded.providers) as app:
            await asgi_exchange(app, json=asked())
            found = recorded.metrics
    assert names.TOKEN_USAGE not in found
    assert names.OPERATION_DURATION in found


async def test_only_vetted_metrics_where_another_instrumentation_reports_the_tokens(recorded: Recorded) -> None:
    """`telemetry.metrics = "vetted"` leaves every `gen_ai.*` metric out, and all of ours in."""
    async with FakeUpstream(model=KNOWN) as paris:
        urls = {PARIS: upstream(paris.base_url)}
        async with proxied(urls, options=recorded.providers, telemetry={"metrics": "vetted"}) as app:
            await asgi_exchange(app, json=asked(stream=True))
            found = recorded.metrics
    assert not [name for name in found if name.startswith("gen_ai")]
    assert {names.REQUESTS, names.ATTEMPTS, names.ENERGY, names.RECEIPTS, names.OVERHEAD} <= set(found)


@pytest.mark.parametrize("has_usage", [True, False])
async def test_the_switch_of_the_conventions_gives_their_latest_names(recorded: Recorded, has_usage: bool) -> None:
    """`gen_ai_latest_experimental` renames the GenAI metrics and no other; there a missing count is a zero, as they say."""
    from vetted_mw import load_configuration

    body = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}]}
    async with FakeUpstream(model=KNOWN) as paris:
        if not has_usage:
            paris.then(FakeAnswer.json(body))
        configuration = load_configuration(
            environ={"OTEL_SEMCONV_STABILITY_OPT_IN": "http, gen_ai_latest_experimental"},
            overrides={"regions": {PARIS: upstream(paris.base_url, health_path="")}, "default_order": [PARIS]},
        )
        async with Gateway(configuration, **recorded.providers) as gateway:
            await asgi_exchange(VettedProxy(gateway), json=asked())
            found = recorded.metrics
    latest = {names.LATEST_DURATION, names.LATEST_USED_INPUT, names.LATEST_USED_OUTPUT}
    latest |= {names.LATEST_OPERATION_INPUT, names.LATEST_OPERATION_OUTPUT} if has_usage else set()
    assert {name for name in found if name.startswith("gen_ai")} == latest
    (point,) = points(found[names.LATEST_USED_INPUT])
    assert dict(point)[names.TOKEN_MODALITY] == "unknown"
    assert total(found[names.LATEST_USED_INPUT]) == (5 if has_usage else 0)


async def test_points_know_the_trace_they_came_from(recorded: Recorded) -> None:
    """An exemplar of a duration leads to its `chat` span, and one of a request too."""
    async with (
        FakeUpstream(model=KNOWN) as paris,
        proxied({PARIS: upstream(paris.base_url)}, options=recorded.providers) as app,
    ):
        await asgi_exchange(app, json=asked())
        found = recorded.metrics
    chat = recorded.spans.chat().context
    for name in (names.OPERATION_DURATION, names.TOKEN_USAGE, names.REQUESTS, names.OVERHEAD, names.ATTEMPTS):
        exemplars = [one for point in found[name].data.data_points for one in point.exemplars]
        assert exemplars, name
        assert {(one.trace_id, one.span_id) for one in exemplars} == {(chat.trace_id, chat.span_id)}


@pytest.mark.parametrize("calls", [0, 1, 2])
async def test_in_app_mode_counts_requests_once_and_every_call(recorded: Recorded, calls: int) -> None:
    """The outer request is one request and one receipt; each call of the handler is one operation and its energy."""
    async with (
        FakeUpstream(model=KNOWN) as paris,
        Gateway(configured({PARIS: upstream(paris.base_url)}), **recorded.providers) as gateway,
    ):

        async def handler(scope: Scope, receive: Receive, send: Send) -> None:
            from starlette.responses import JSONResponse

            for _ in range(calls):
                await gateway.http_client.post("http://vetted/v1/chat/completions", json=asked())
            await JSONResponse({"choices": []})(scope, receive, send)

        app = VettedMiddleware(handler, gateway=gateway, mode="in_app")
        exchange = await asgi_exchange(app, json=asked())
        found = recorded.metrics
    assert outcomes(recorded) == {"served": 1}
    assert sum(points(found[names.RECEIPTS]).values()) == 1
    durations = points(found[names.OPERATION_DURATION]) if calls else {}
    assert sum(durations.values()) == calls
    if calls:
        receipt = exchange.json()["receipt"]
        assert receipt["calls"] == calls
        assert total(found[names.ENERGY]) == pytest.approx(receipt["energy_wh"] * 3600, rel=1e-4)
        assert total(found[names.EMISSIONS]) == pytest.approx(receipt["gco2e"], rel=1e-4)


async def test_what_a_handler_reports_is_counted_too(recorded: Recorded) -> None:
    """A handler with a client of its own says what it used, and its energy is in the sums."""
    async with (
        FakeUpstream(model=KNOWN) as paris,
        Gateway(configured({PARIS: upstream(paris.base_url)}), **recorded.providers) as gateway,
    ):

        async def handler(scope: Scope, receive: Receive, send: Send) -> None:
            from starlette.responses import JSONResponse

            route = scope["state"]["vetted"]
            route.record(usage={"prompt_tokens": 100, "completion_tokens": 50}, model=KNOWN)
            await JSONResponse({"choices": []})(scope, receive, send)

        app = VettedMiddleware(handler, gateway=gateway, mode="in_app")
        exchange = await asgi_exchange(app, json=asked())
        found = recorded.metrics
    assert total(found[names.ENERGY]) == pytest.approx(exchange.json()["receipt"]["energy_wh"] * 3600)


class _Wreck:
    """A meter whose every instrument raises."""

    def __getattr__(self, name: str) -> Any:
        def made(*_args: Any, **_options: Any) -> Any:
            return _RaisingInstrument()

        return made


class _RaisingInstrument:
    def add(self, *_args: Any, **_options: Any) -> None:
        """Fail."""
        raise RuntimeError(CANARY)

    def record(self, *_args: Any, **_options: Any) -> None:
        """Fail."""
        raise RuntimeError(CANARY)


CANARY = "canary-in-an-sdk"


class _WreckedProvider:
    def get_meter(self, *_args: Any, **_options: Any) -> Any:
        """Return such a meter."""
        return _Wreck()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_broken_meter_costs_metrics_and_no_answer(stream: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Failover, answer, receipt and trace are what they are without metrics; the log says so without the text."""
    async with FakeUpstream(model=KNOWN) as paris, FakeUpstream(model=KNOWN) as gravelines:
        paris.then(FakeAnswer.json({"error": {"message": "broken"}}, status=500))
        urls = {PARIS: upstream(paris.base_url), GRAVELINES: upstream(gravelines.base_url)}
        async with proxied(urls, options={"meter_provider": _WreckedProvider()}) as app:
            answer = told(await asgi_exchange(app, json=asked(stream=stream)))
    assert answer["receipt"]["region"] == answer["routing_trace"]["region"] == GRAVELINES
    assert "telemetry could not be recorded" in caplog.messages
    assert CANARY not in caplog.text


async def test_the_global_provider_is_used_whenever_it_is_set() -> None:
    """A gateway made before the SDK was set up reports to it afterwards: its instruments are made once, as proxies."""
    script = """
import asyncio
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from support import configured
from vetted_mw import Gateway, VettedProxy
from vetted_mw.testing import FakeUpstream, asgi_exchange

async def main():
    async with FakeUpstream() as paris:
        first, second = (Gateway(configured({region: paris.base_url})) for region in ("scaleway-par-1", "ovh-gra-1"))
        reader = InMemoryMetricReader()
        metrics.set_meter_provider(MeterProvider([reader]))
        for gateway in (first, second):
            async with gateway:
                await asgi_exchange(VettedProxy(gateway), json={"model": "m", "messages": [{"role": "user", "content": "x"}]})
        async with first, second:
            data = reader.get_metrics_data()
    found = {m.name: m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics}
    print(sum(p.value for p in found["vetted.requests"].data.data_points))
    print(sorted(dict(p.attributes)["vetted.region"] for p in found["vetted.inflight"].data.data_points))

asyncio.run(main())
"""
    import subprocess
    import sys
    from pathlib import Path

    tests = str(Path(__file__).parents[1])
    ran = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", script], cwd=tests, capture_output=True, text=True, check=False
    )
    assert ran.stdout.splitlines() == ["2", "['ovh-gra-1', 'scaleway-par-1']"], ran.stderr
    assert "already" not in ran.stderr  # what an SDK says of an instrument that is made twice


async def test_a_caller_who_left_is_no_outage(recorded: Recorded) -> None:
    """Nothing was exhausted where nobody waited: the decision is told as it was made."""
    async with FakeUpstream(model=KNOWN) as paris:
        paris.then(FakeAnswer(delay=600))
        async with Gateway(configured({PARIS: upstream(paris.base_url)}), **recorded.providers) as gateway:
            caller = Caller(VettedProxy(gateway), asked())
            answering = caller.start()
            await until(lambda: paris.requests)
            caller.leave()
            await answering
            (point,) = points(recorded.metrics[names.REQUESTS])
    assert dict(point) == {
        names.OUTCOME: "client_disconnect",
        names.ROUTE_POLICY: "eu_preferred",
        names.DECISION_MODE: "preferred",
    }


async def test_a_handler_whose_call_found_nobody_is_an_outage(recorded: Recorded) -> None:
    """In-app too the mode is `unavailable` where every region failed, so that the same alert sees it."""
    async with FakeUpstream(model=KNOWN) as paris:
        paris.then(FakeAnswer.json({"error": {"message": "broken"}}, status=500))
        async with Gateway(configured({PARIS: upstream(paris.base_url)}), **recorded.providers) as gateway:

            async def handler(scope: Scope, receive: Receive, send: Send) -> None:
                from starlette.responses import Response

                answer = await gateway.http_client.post("http://vetted/v1/chat/completions", json=asked())
                await Response(answer.content, answer.status_code)(scope, receive, send)

            app = VettedMiddleware(handler, gateway=gateway, mode="in_app")
            assert (await asgi_exchange(app, json=asked())).status >= 500
            (point,) = points(recorded.metrics[names.REQUESTS])
    assert dict(point)[names.DECISION_MODE] == "unavailable"
    assert dict(point)[names.OUTCOME] == "failed"
