"""No key of a grid service is ever shown: planted in URLs and headers, searched for in all a process lets out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import traceback
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, urlsplit

import httpx
import msgspec
import pytest
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from streams.wall import LIMIT
from vetted_mw import Gateway, load_configuration
from vetted_mw.errors import ConfigurationError
from vetted_mw.grid.sources.fetching import HttpGet
from vetted_mw.grid.sources.polled import PolledSource
from vetted_mw.grid.sources.request import Request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from vetted_mw.configuration import Configuration

pytestmark = pytest.mark.anyio

CANARY = "canary"
KEYS = {
    "ENTSOE": "canary-entsoe-0a1b",
    "FINGRID": "canary-fingrid-2c3d",
    "MAPS": "canary-maps-4e5f",
    "HEADER": "canary-header-6a7b",
    "URL": "canary/url+8c9d",
}
SERVICES = ("entsoe", "fingrid", "electricity_maps", "http_json")
LOGGERS = ("", "vetted_mw", "httpx", "httpcore", "httpcore.http11", "httpcore.connection", "httpcore.proxy", "asyncio")


# ---- what is searched


class Witness:
    """Everything a process lets out while it watches: log records of every logger, output, spans and metrics."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self.records: list[logging.LogRecord] = []
        self.spans = InMemorySpanExporter()
        self.metrics = InMemoryMetricReader()
        self._capture = capture

    def shown(self, *things: object) -> list[str]:
        """Return every text that was let out, and those of `things`."""
        texts = [text for record in self.records for text in _record(record)]
        texts += [span.to_json(indent=None) for span in self.spans.get_finished_spans()]
        texts.append(str(self.metrics.get_metrics_data()))
        texts += self._capture.readouterr()
        texts += [text for thing in things for text in _texts(thing)]
        return texts

    def leaks(self, *things: object) -> list[str]:
        """Return those that hold a key, as it is or as a URL or a repr writes it."""
        return [text for text in self.shown(*things) if CANARY in text]


def _record(record: logging.LogRecord) -> Iterator[str]:
    yield record.getMessage()
    yield logging.Formatter("%(message)s").format(record)
    yield repr(vars(record))
    yield from _texts(record.args)
    if record.exc_info is not None and record.exc_info[1] is not None:
        yield from _texts(record.exc_info[1])


def _texts(thing: object) -> Iterator[str]:
    yield repr(thing)
    yield str(thing)
    if isinstance(thing, BaseException):
        yield "".join(traceback.format_exception(thing))
        yield repr(thing.args)


@pytest.fixture
def witness(capsys: pytest.CaptureFixture[str]) -> Iterator[Witness]:
    """Watch every logger at DEBUG, and trace httpx with its real instrumentation into a real SDK."""
    found = Witness(capsys)

    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.records.append(record)

    keeping, printing = Keeping(logging.DEBUG), logging.StreamHandler()
    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(found.spans))
    meters = MeterProvider(metric_readers=[found.metrics], shutdown_on_exit=False)
    instrumentor = HTTPXClientInstrumentor()
    instrumentor.instrument(tracer_provider=provider, meter_provider=meters)
    try:
        for name in LOGGERS:
            logging.getLogger(name).setLevel(logging.DEBUG)
        logging.getLogger().addHandler(keeping)
        logging.getLogger().addHandler(printing)
        yield found
    finally:
        logging.getLogger().removeHandler(keeping)
        logging.getLogger().removeHandler(printing)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        instrumentor.uninstrument()
        provider.shutdown()
        meters.shutdown()


# ---- a service that answers as it is told

Behaviour = tuple[bytes, ...] | None
"""What it writes before it closes the connection; None to say nothing and wait."""


class Service:
    """All grid services at one loopback address.

    Attributes:
        targets: the request targets it got.
        heads: whole request heads.
    """

    def __init__(self, behave: Callable[[str], Behaviour]) -> None:
        self.targets: list[str] = []
        self.heads: list[str] = []
        self._behave = behave
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def origin(self) -> str:
        """Where it is."""
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    @contextlib.asynccontextmanager
    async def __call__(self) -> AsyncIterator[Service]:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield self
        finally:
            self._server.close()
            for writer in self._writers:
                writer.transport.abort()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            self.heads.append(head)
            self.targets.append(head.split(" ")[1])
            told = self._behave(self.targets[-1])
            if told is None:
                await reader.read()
            for part in told or ():
                writer.write(part)
                await writer.drain()
        self._writers.discard(writer)
        writer.close()


def answer(status: int, body: bytes, *headers: str, length: int | None = None) -> Behaviour:
    lines = [f"HTTP/1.1 {status} Scripted", *headers, f"content-length: {len(body) if length is None else length}"]
    return (("\r\n".join([*lines, "connection: close"]) + "\r\n\r\n").encode("latin-1"), body)


def _well(target: str) -> Behaviour:
    """Answer each service's question with a document of now."""
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    parts = urlsplit(target)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    if "in_Domain" in query:
        return answer(200, _document(query["in_Domain"], now), "content-type: application/xml")
    stamp = {"startTime": f"{now:%Y-%m-%dT%H:%M:%SZ}", "endTime": f"{now:%Y-%m-%dT%H:%M:%SZ}"}
    hour = f"{now - timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}"
    maps = {"zone": query.get("zone"), "carbonIntensity": 20, "datetime": hour, "isEstimated": False}
    return answer(200, msgspec.json.encode(stamp | maps | {"value": 30.0, "at": stamp["endTime"]}))


def _document(domain: str, now: datetime) -> bytes:
    """Return a generation document of one past hour that every zone's bar lets by."""
    end = now.replace(minute=0)
    series = "".join(
        f"<TimeSeries><inBiddingZone_Domain.mRID>{domain}</inBiddingZone_Domain.mRID>"
        "<quantity_Measure_Unit.name>MAW</quantity_Measure_Unit.name><curveType>A01</curveType>"
        f"<MktPSRType><psrType>{code}</psrType></MktPSRType><Period><timeInterval>"
        f"<start>{end - timedelta(hours=1):%Y-%m-%dT%H:%MZ}</start><end>{end:%Y-%m-%dT%H:%MZ}</end></timeInterval>"
        "<resolution>PT60M</resolution><Point><position>1</position><quantity>9000</quantity></Point></Period>"
        "</TimeSeries>"
        for code in ("B02", "B04", "B05", "B14", "B19")
    )
    head = "<type>A75</type><process.processType>A16</process.processType>"
    return f"<GL_MarketDocument>{head}{series}</GL_MarketDocument>".encode()


def _acknowledged(target: str) -> Behaviour:
    text = f"<code>999</code><text>{quote(target, safe='/?=&:')} is not valid</text>"
    body = f"<Acknowledgement_MarketDocument><Reason>{text}</Reason></Acknowledgement_MarketDocument>"
    return answer(400, body.encode())


BEHAVIOURS: dict[str, Callable[[str], Behaviour]] = {
    "a document": _well,
    "a refusal that repeats the query": lambda target: answer(401, f"no such key in {target}".encode()),
    "an acknowledgement that repeats the query": _acknowledged,
    "not found": lambda target: answer(404, b"404 page not found", f"x-asked: {target}"),
    "too many": lambda target: answer(429, target.encode(), "retry-after: 5"),
    "an error": lambda target: answer(500, f"cannot GET {target}".encode(), f"x-asked: {target}"),
    "a page": lambda target: answer(200, f"<!doctype html><title>{target}</title>".encode()),
    "words that are no document": lambda target: answer(200, target.encode()),
    "a redirect to itself": lambda target: answer(302, b"", f"location: http://127.0.0.1:1{target}", f"link: {target}"),
    "a cookie": lambda target: answer(503, b"", f"set-cookie: asked={target}"),
    "half an answer": lambda target: answer(200, target.encode(), length=10_000),
    "a broken head": lambda target: (f"HTTP/1.1 200 OK\r\nno header {target}\r\n\r\n".encode(),),
    "a broken status line": lambda target: (f"cannot GET {target}\r\n\r\n".encode(),),
    "a broken chunk": lambda target: (f"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{target}\r\n".encode(),),
    "nothing": lambda _target: (),
    "a hang": lambda _target: None,
}
HANGS = {"a hang"}


def configured(origin: str, **signals: Any) -> Configuration:
    """Return a configuration of every service that takes a key, all at `origin`."""
    sources = {
        "entsoe": {"base_url": f"{origin}/api", "token": {"env": "ENTSOE"}},
        "fingrid": {"base_url": origin, "token": {"env": "FINGRID"}},
        "electricity_maps": {"base_url": origin, "token": {"env": "MAPS"}},
        "http_json": {
            "zones": {
                "FR": {
                    "url": f"{origin}/own",
                    "value": "value",
                    "observed_at": "at",
                    "header": "x-own-key",
                    "token": {"env": "HEADER"},
                },
                "SE_3": {
                    "url": f"{origin}/own/{{token}}/now?key={{token}}",
                    "value": "value",
                    "observed_at": "at",
                    "token": {"env": "URL"},
                },
            }
        },
    }
    overrides = {"signals": {"timeout_seconds": LIMIT, "sources": sources} | signals}
    return load_configuration(environ=KEYS, overrides=overrides)


def _everything(gateway: Gateway) -> list[object]:
    """Return what a program could print of a gateway and its signals."""
    now = datetime.now(UTC)
    board = gateway.board
    sources = [source for source in board._sources.values() if isinstance(source, PolledSource)]
    assert [source.name for source in sources] == list(SERVICES)
    questions = [(source, question) for source in sources for question in source._questions]
    zones = ("FR", "SE_3", "FI", "DE_LU", "IS")
    return [
        gateway,
        gateway.configuration,
        *gateway.configuration.signals.services,
        board,
        board.states(),
        board.all_readings(now),
        *(board.absences_for(zone) for zone in zones),
        *(board.readings_for(zone, now) for zone in zones),
        *sources,
        *(vars(source) for source in sources),
        *(question for _source, question in questions),
        *(question.request(source._base_urls[0], now) for source, question in questions),
    ]


# ---- the search itself finds


async def test_the_search_finds_a_key_wherever_it_is_shown(witness: Witness) -> None:
    """Messages, arguments, extra fields, exceptions, output, spans: the same search that below finds nothing."""
    assert witness.leaks() == []
    ways: list[Callable[[], object]] = [
        lambda: logging.getLogger("vetted_mw").info("asked canary"),
        lambda: logging.getLogger("vetted_mw.deep").debug("asked %s", "canary"),
        lambda: logging.getLogger("vetted_mw").info("asked", extra={"url": "canary"}),
        lambda: logging.getLogger("elsewhere").info("asked", exc_info=ValueError("canary")),
        lambda: print("canary"),  # noqa: T201
    ]
    for show in ways:
        witness.records.clear()
        show()
        assert witness.leaks() != []
    witness.records.clear()
    assert witness.leaks() == []
    assert witness.leaks(Request(url="http://h", accept=CANARY)) != []
    assert witness.leaks(ValueError(CANARY)) != []


async def test_without_our_care_the_libraries_show_the_key(witness: Witness) -> None:
    """httpx's client logs the URL, its instrumentation puts it into a span, httpcore logs a redirect's target."""
    async with asyncio.timeout(LIMIT), Service(BEHAVIOURS["a redirect to itself"])() as service:
        url = f"{service.origin}/api?securityToken={KEYS['ENTSOE']}"
        async with httpx.AsyncClient(trust_env=False) as client:
            await client.get(url)
    shown_by = {record.name for record in witness.records if CANARY in record.getMessage()}
    assert shown_by == {"httpx", "httpcore.http11"}
    (span,) = witness.spans.get_finished_spans()
    assert CANARY in span.to_json(indent=None)
    assert len(witness.leaks()) > 2


# ---- a gateway over services that take keys


@pytest.mark.parametrize("what", BEHAVIOURS)
async def test_no_key_is_shown_whatever_a_service_answers(what: str, witness: Witness) -> None:
    """Not in a log at DEBUG, in output, in a span or metric, nor in the text of anything the gateway holds."""
    signals: dict[str, Any] = {"timeout_seconds": 0.1} if what in HANGS else {}
    async with asyncio.timeout(4 * LIMIT), Service(BEHAVIOURS[what])() as service:
        gateway = Gateway(configured(service.origin, **signals))
        async with gateway:
            for _ in range(2):
                await gateway.board.refresh_all()
            assert witness.leaks(*_everything(gateway)) == []
        got = "".join(service.heads)
    if what not in {*HANGS, "too many"}:  # after which nothing more is asked
        assert {name for name, key in KEYS.items() if quote(key, safe="") in got} == set(KEYS)  # they did pass by
    assert witness.spans.get_finished_spans() == ()
    has_signals = bool(gateway.board.all_readings(datetime.now(UTC)))
    assert has_signals is (what == "a document")
    assert all(bool(state.error) is not has_signals for state in gateway.board.states().values())


async def test_every_service_gave_its_signals(witness: Witness) -> None:
    """The documents of these tests are read, so that the search above has signals to search."""
    async with asyncio.timeout(LIMIT), Service(_well)() as service:
        gateway = Gateway(configured(service.origin))
        await gateway.board.refresh_all()
    now = gateway.now()
    zones = {one.signal.zone for one in gateway.board.all_readings(now)}
    found = {(name, zone) for zone in zones for name, _reading in gateway.board.rows_for(zone, now)}
    assert {name for name, _zone in found} == set(SERVICES)
    assert {zone for name, zone in found if name == "entsoe"} == {"FR", "SE_3", "DE_LU", "FI"}


async def test_no_key_is_shown_when_nobody_listens(witness: Witness) -> None:
    """A refused connection names an address, not a URL."""
    async with Service(_well)() as service:
        origin = service.origin
    gateway = Gateway(configured(origin))
    await gateway.board.refresh_all()
    assert {state.error for state in gateway.board.states().values()} == {"unreachable"}
    assert witness.leaks(*_everything(gateway)) == []


@pytest.mark.parametrize("what", ["a document", "a redirect to itself", "a broken head", "an error"])
async def test_no_key_is_shown_on_the_way_through_a_proxy(what: str, witness: Witness) -> None:
    """A proxy gets the whole URL of a plain request, and may repeat it."""
    async with asyncio.timeout(LIMIT), Service(BEHAVIOURS[what])() as proxy:
        gateway = Gateway(configured("http://127.0.0.1:9", proxy=proxy.origin))
        await gateway.board.refresh_all()
        assert any(target.startswith("http://127.0.0.1:9/api?securityToken=") for target in proxy.targets)
    assert witness.leaks(*_everything(gateway)) == []


async def test_no_key_is_shown_when_the_library_raises_what_nobody_expects(
    witness: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception with the URL in its text ends at the border."""

    async def broken(_transport: object, request: httpx.Request) -> httpx.Response:
        raise RuntimeError(f"cannot send {request.url} {request.headers!r}")

    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", broken)
    gateway = Gateway(configured("http://127.0.0.1:9"))
    await gateway.board.refresh_all()
    assert witness.leaks(*_everything(gateway)) == []
    assert {state.error for state in gateway.board.states().values()} == {"unreachable"}


async def test_no_key_is_in_what_a_cancelled_refresh_raises(witness: Witness) -> None:
    """Nor in what is logged of it."""
    async with asyncio.timeout(LIMIT), Service(BEHAVIOURS["a hang"])() as service:
        gateway = Gateway(configured(service.origin))
        (source, *_others) = [one for one in gateway.board._sources.values() if isinstance(one, PolledSource)]
        asking = asyncio.ensure_future(source.readings())
        while not service.targets:  # noqa: ASYNC110 (what no event tells)
            await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError) as cancelled:
            await asking
    assert witness.leaks(cancelled.value, asking) == []


def _at(origin: str, key: str) -> dict[str, Any]:
    return {"signals": {"sources": {"entsoe": {"base_url": origin, "token": {"env": key}}}}}


@pytest.mark.parametrize(
    "overrides",
    [
        _at("http://grid.example/api", "ENTSOE"),
        _at("https://grid.example/api?securityToken=canary-in-settings", "ENTSOE"),
        _at("https://canary-user:canary-password@grid.example/api", "ENTSOE"),
        _at("https://grid.example/api", "canary-as-a-name"),
        {"signals": {"sources": {"entsoe": {"token": "canary-in-settings"}}}},
        {"signals": {"sources": {"fingrid": {"token": {"env": "BLANKS"}}}}},
        {"signals": {"sources": {"http_json": {"zones": {"FR": {"url": "http://h/?k={token}"}}}}}},
    ],
)
def test_no_key_is_in_what_refuses_the_settings(overrides: dict[str, Any], witness: Witness) -> None:
    """A key pasted where its reference, or an address, belongs is not repeated."""
    with pytest.raises(ConfigurationError) as refused:
        load_configuration(environ=KEYS | {"BLANKS": "canary with blanks"}, overrides=overrides)
    error = refused.value
    assert CANARY not in f"{error} {error!r} {error.args} {error.remedy} {traceback.format_exception_only(error)}"
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None
    assert witness.leaks() == []


async def test_requests_of_others_are_logged_and_traced_as_before(witness: Witness) -> None:
    """Only what we ask the grid services is hushed: an application's own httpx keeps its lines and spans."""
    async with asyncio.timeout(LIMIT), Service(BEHAVIOURS["an error"])() as service:
        session = HttpGet(timeout_seconds=LIMIT, proxy="", user_agent="x", now=lambda: datetime.now(UTC))
        async with session() as get:
            await get(Request(url=f"{service.origin}/ours"))
            witness.records.clear()
            async with httpx.AsyncClient(trust_env=False) as client:
                await client.get(f"{service.origin}/theirs")
    assert {record.name for record in witness.records} >= {"httpx", "httpcore.http11", "httpcore.connection"}
    assert len(witness.spans.get_finished_spans()) == 1
    assert any("/theirs" in record.getMessage() for record in witness.records)
    assert not any("/ours" in text for text in witness.shown())
