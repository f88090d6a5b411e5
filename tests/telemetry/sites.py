"""A gateway on a real socket under a real SDK that exports over OTLP/HTTP to a receiver in the test."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from streams.wall import LIMIT, until
from support import configured, served
from telemetry.callers import PATH, SocketCaller
from telemetry.otlp import OtlpReceiver
from telemetry.trees import CountedSpans, complaints, rendered
from vetted_mw import Gateway, VettedMiddleware, VettedProxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence

    from opentelemetry.sdk.metrics.export import MetricReader
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["Answer", "Sdk", "Site", "forward", "in_app", "sdk", "site"]

_TELLING = ("Calling end() on an ended span", "Failed to detach context", "was created in a different Context")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a caller got.

    Attributes:
        status: HTTP status.
        headers: names in lower case.
        body: dechunked.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the decoded body."""
        return json.loads(self.body)


class _Warnings(logging.Handler):
    """Keeps what the SDK says of spans ended twice and contexts detached in the wrong place."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line, if it is one of those."""
        text = f"{record.getMessage()} {record.exc_info or ''}"
        if any(telling in text for telling in _TELLING):
            self.lines.append(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sdk:
    """An SDK of its own for one test.

    Attributes:
        receiver: where the spans go.
        tracers: the tracer provider.
        meters: the meter provider.
        points: reads its metrics.
        counted: starts and ends.
        warnings: what the SDK complained of.
    """

    receiver: OtlpReceiver
    tracers: TracerProvider
    meters: MeterProvider
    points: InMemoryMetricReader
    counted: CountedSpans
    warnings: list[str]

    def metric(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        """Return attributes and value of each point of one metric, as it stands now."""
        data = self.points.get_metrics_data()
        metrics = [
            metric
            for of_resource in ([] if data is None else data.resource_metrics)
            for of_scope in of_resource.scope_metrics
            for metric in of_scope.metrics
        ]
        found = [point for metric in metrics if metric.name == name for point in metric.data.data_points]
        return [(dict(point.attributes or {}), getattr(point, "value", None)) for point in found]


@contextlib.contextmanager
def sdk(*, readers: Callable[[OtlpReceiver], Sequence[MetricReader]] = lambda _receiver: ()) -> Iterator[Sdk]:
    """Set up an SDK and its receiver; the global providers stay as they are.

    Args:
        readers: what else is to read the metrics, given the receiver.
    """
    with OtlpReceiver() as receiver:
        counted = CountedSpans()
        tracers = TracerProvider(shutdown_on_exit=False)
        tracers.add_span_processor(counted)
        exporter = OTLPSpanExporter(endpoint=f"{receiver.endpoint}/v1/traces")
        tracers.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=50_000, schedule_delay_millis=200))
        reader = InMemoryMetricReader()
        meters = MeterProvider([reader, *readers(receiver)], shutdown_on_exit=False)
        heard = _Warnings()
        logging.getLogger().addHandler(heard)
        try:
            yield Sdk(
                receiver=receiver, tracers=tracers, meters=meters, points=reader, counted=counted, warnings=heard.lines
            )
        finally:
            logging.getLogger().removeHandler(heard)
            tracers.shutdown()
            meters.shutdown()


class _Answering:
    """Counts the requests an app has begun and ended to answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.begun = self.ended = 0
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self.begun += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self.ended += 1


@dataclass(slots=True, kw_only=True)
class Site:
    """A gateway that is being served.

    Attributes:
        sdk: its telemetry.
        gateway: it itself; it lives in the server's loop, so only look at it.
        port: where it listens.
        callers: everyone who has asked by a socket of their own.
    """

    sdk: Sdk
    gateway: Gateway
    port: int
    app: _Answering
    asked: int = 0
    remote: list[str] = field(default_factory=list)
    callers: list[SocketCaller] = field(default_factory=list)

    async def ask(
        self, body: Mapping[str, Any] | bytes, *, headers: Iterable[tuple[str, str]] = (), path: str = PATH
    ) -> Answer:
        """Send a request, read the whole answer, and wait until the server is through with it."""
        self.asked += 1
        answer = await asyncio.to_thread(self._asked, body, dict(headers), path)
        await self.rest()
        return answer

    async def caller(
        self, body: Mapping[str, Any], *, headers: Iterable[tuple[str, str]] = (), withheld: int = 0
    ) -> SocketCaller:
        """Send a request over a socket that can be closed, and wait until the app sees it."""
        caller = SocketCaller(self.port)
        self.callers.append(caller)
        self.asked += 1
        await caller.send(body, headers=headers, withheld=withheld)
        await until(lambda: self.app.begun == self.asked)
        return caller

    async def rest(self) -> None:
        """Wait until every request that was sent has been answered to its end."""
        await until(lambda: self.app.begun == self.app.ended == self.asked)

    async def settle(self) -> None:
        """Wait as `rest` does, where some may have gone before the server read what they sent: those are not counted."""
        await asyncio.to_thread(self._asked, b"", {}, PATH)  # turned away; connections are taken in the order they came
        await until(lambda: self.app.begun == self.app.ended)
        self.asked = self.app.begun

    async def tree(self) -> str:
        """Wait until the server is through, take what it exported, and return it as a text.

        Raises:
            AssertionError: a span is open, was ended twice, is an orphan, or the SDK complained.
        """
        await self.rest()
        assert self.sdk.counted.open == 0, "a span is open though its request has ended"
        await asyncio.to_thread(self.sdk.tracers.force_flush)
        spans = self.sdk.receiver.spans
        wrong = [*complaints(spans, self.sdk.counted, remote=self.remote), *self.sdk.warnings]
        assert not wrong, wrong
        return rendered(spans)

    def _asked(self, body: Mapping[str, Any] | bytes, headers: Mapping[str, str], path: str) -> Answer:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT)
        with contextlib.closing(connection):
            connection.request("POST", path, content, {"content-type": "application/json", **headers})
            answer = connection.getresponse()
            told = {name.lower(): value for name, value in answer.getheaders()}
            try:
                whole = answer.read()
            except http.client.IncompleteRead as cut:
                whole = cut.partial
            return Answer(status=answer.status, headers=told, body=whole)


def forward(gateway: Gateway) -> ASGIApp:
    """Serve chat completions itself."""
    return VettedProxy(gateway)


def in_app(handler: Callable[[Gateway], ASGIApp]) -> Callable[[Gateway], ASGIApp]:
    """Let a handler answer, given the gateway for its calls."""
    return lambda gateway: VettedMiddleware(_with_lifespan(handler(gateway)), gateway=gateway, mode="in_app")


def _with_lifespan(handler: ASGIApp) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await handler(scope, receive, send)
            return
        for done in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{done}.complete"})

    return app


@contextlib.asynccontextmanager
async def site(
    upstreams: Mapping[str, str | Mapping[str, Any]],
    *,
    app: Callable[[Gateway], ASGIApp] = forward,
    outside: Callable[[ASGIApp, Sdk], ASGIApp] = lambda app, _sdk: app,
    options: Mapping[str, Any] | None = None,
    own: Sdk | None = None,
    **overrides: Any,
) -> AsyncIterator[Site]:
    """Serve a gateway over `upstreams`, and see that nothing comes after it was closed.

    Args:
        upstreams: regions by base URL, or by region table.
        app: what is served, given the gateway.
        outside: what stands around it: a user's own instrumentation.
        options: of the `Gateway`.
        own: an SDK that is there already.
        overrides: settings.
    """
    with sdk() if own is None else contextlib.nullcontext(own) as telemetry:
        gateway = Gateway(
            configured(upstreams, **overrides),
            tracer_provider=telemetry.tracers,
            meter_provider=telemetry.meters,
            **(options or {}),
        )
        answering = _Answering(outside(app(gateway), telemetry))
        with served(answering) as origin:
            place = Site(sdk=telemetry, gateway=gateway, port=int(origin.rsplit(":", 1)[1]), app=answering)
            try:
                yield place
            finally:
                for caller in place.callers:
                    caller.leave()
            await place.rest()
            before = telemetry.counted.started.total()
        after = telemetry.counted.started.total()
        assert (telemetry.counted.open, after) == (0, before), f"{after - before} spans came after the requests"
        assert not telemetry.warnings, telemetry.warnings
