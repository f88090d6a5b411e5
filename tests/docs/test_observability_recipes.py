"""The recipes of docs/observability.md, pasted and started as the page says, with an OTLP receiver where they send."""

from __future__ import annotations

import importlib.metadata
import re
import shlex
import sysconfig
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread
import httpx
import pytest

from real.processes import Process, eventually
from telemetry.otlp import OtlpReceiver
from telemetry.spans import GRAVELINES, KNOWN, PARIS, asked
from vetted_mw.testing import FakeAnswer, FakeUpstream

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from telemetry.otlp import Point, ReceivedSpan

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS: list[tuple[str, str]] = FENCE.findall(PAGE)
RECIPES = {text.split("\n")[0].split(":")[0].removeprefix("# "): text for kind, text in BLOCKS if kind == "python"}
FLUSHED = RECIPES.pop("Starlette, with a flush")
(TREE,) = [text for kind, text in BLOCKS if kind == "text"]
SERVE, INSTALL, INSTRUMENT = [text.replace("\\\n", " ") for kind, text in BLOCKS if kind == "sh"]
BARE = {
    name: next(text for kind, text in FENCE.findall(README) if kind == "python" and text.startswith(f"# {name}\n"))
    for name in ("FastAPI", "Starlette")
}
APPS = RECIPES | {f"{name} of the README": text for name, text in BARE.items()}
SERVICE_ADDRESS = "http://127.0.0.1:4318"
CALLER = "00f067aa0ba902b7"
BROKEN = FakeAnswer.json({"error": {"message": "broken"}}, status=500)
SIDE_BY_SIDE = """
import contextlib
import importlib

from asgi_lifespan import LifespanManager

APPS = {{str(number): importlib.import_module(f"app_{{number}}").app for number in range({count})}}


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        async with contextlib.AsyncExitStack() as opened:
            for one in APPS.values():
                await opened.enter_async_context(LifespanManager(one, startup_timeout=60, shutdown_timeout=60))
            await send({{"type": "lifespan.startup.complete"}})
            await receive()
        await send({{"type": "lifespan.shutdown.complete"}})
        return
    number = dict(scope["headers"]).get(b"x-app", b"0").decode()
    await APPS[number](scope, receive, send)
"""
"""One process for all of them: to start one takes seconds, and none does anything to the process that it is in."""


class Pasted(Process):
    """A shell block of the page: its exports are the environment, its last line the command, on a port of ours."""

    def __init__(
        self, block: str, folder: Path, sent_to: OtlpReceiver, *, options: tuple[str, ...] = (), pace: str = "100"
    ) -> None:
        super().__init__(folder / "process.log")
        self.folder = folder
        lines = block.strip().splitlines()
        self._words = [*shlex.split(lines[-1]), *options]
        exports = [word for line in lines if line.startswith("export ") for word in shlex.split(line)[1:]]
        page = dict(word.split("=", 1) for word in exports)
        assert page["OTEL_EXPORTER_OTLP_ENDPOINT"] == SERVICE_ADDRESS
        paces = dict.fromkeys(("OTEL_BSP_SCHEDULE_DELAY", "OTEL_METRIC_EXPORT_INTERVAL"), pace)
        self._variables = page | paces | {"OTEL_EXPORTER_OTLP_ENDPOINT": sent_to.endpoint}

    def command(self) -> list[str]:
        """The page's line, with the scripts of this environment."""
        scripts = Path(sysconfig.get_path("scripts"))
        words = [str(scripts / word) if (scripts / word).is_file() else word for word in self._words]
        return [*words, "--port", str(self.port)]

    def environment(self) -> dict[str, str]:
        """The page's variables, and no telemetry settings of this machine's."""
        plain = {name: value for name, value in super().environment().items() if not name.startswith("OTEL_")}
        return plain | self._variables | {"VETTED_CONFIG": "vetted.toml"}

    def _answers(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise AssertionError(f"it ended at once:\n{self.text()}")
        try:
            httpx.get(self.origin, trust_env=False, timeout=5)
        except httpx.TransportError:
            return False
        return True


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as made:
        yield made


def write_app(folder: Path, app: str, regions: Mapping[str, FakeUpstream]) -> None:
    """Write an app beside the settings of its gateway; the servers are probed."""
    tables = [f'[regions.{code}]\nbase_url = "{one.base_url}"\nmodels = ["{KNOWN}"]\n' for code, one in regions.items()]
    (folder / "vetted.toml").write_text(f"default_order = {[*regions]}\n" + "".join(tables), encoding="utf-8")
    (folder / "app.py").write_text(app, encoding="utf-8")


def traces_of(app: str) -> tuple[str, str]:
    """Return the traces that an app is asked in: for a JSON answer, and for a stream."""
    stem = f"4bf92f3577b34da6a3ce929d0e0e47{[*APPS].index(app):x}"
    return stem + "0", stem + "1"


def ask_twice(process: Process, app: str) -> None:
    """Ask for a JSON answer and for a stream."""
    for trace, stream in zip(traces_of(app), (False, True), strict=True):
        headers = {
            "traceparent": f"00-{trace}-{CALLER}-01",
            "baggage": "user.email=canary",
            "x-app": str([*APPS].index(app)),
        }
        url = f"{process.base_url}/chat/completions"
        answer = httpx.post(url, json=asked(stream=stream), headers=headers, trust_env=False, timeout=60)
        assert answer.status_code == 200, (app, answer.text)


def rendered(spans: list[ReceivedSpan], parent: str, margin: str = "") -> list[str]:
    """Return kind and name of what hangs under a span, in the order it began."""
    children = sorted((span for span in spans if span.parent_id == parent), key=lambda span: span.start_ns)
    return [
        line
        for span in children
        for line in (f"{margin}{span.kind} {span.name}", *rendered(spans, span.span_id, margin + "  "))
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What came of two requests to each app.

    Attributes:
        spans: every one that was sent.
        exemplars: the traces that the histogram of durations leads to.
        heads: headers of each request that reached an upstream.
        probed: paths of the requests that were nobody's.
    """

    spans: list[ReceivedSpan]
    exemplars: set[str]
    heads: list[dict[str, str]]
    probed: list[str]

    def of(self, trace: str) -> list[ReceivedSpan]:
        """Return the spans of one trace."""
        return [span for span in self.spans if span.trace_id == trace]


@pytest.fixture(scope="module")
async def seen(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """Ask each app of the page and of the README twice, all under the page's command; a recipe's first region fails."""
    folder = tmp_path_factory.mktemp("apps")
    for number, text in enumerate(APPS.values()):
        (folder / f"app_{number}.py").write_text(text, encoding="utf-8")
    with OtlpReceiver() as receiver:
        async with FakeUpstream(model=KNOWN) as paris, FakeUpstream(model=KNOWN) as gravelines:
            write_app(folder, SIDE_BY_SIDE.format(count=len(APPS)), {PARIS: paris, GRAVELINES: gravelines})
            paris.then(*[BROKEN] * (2 * len(RECIPES)))
            await anyio.to_thread.run_sync(serve, Pasted(INSTRUMENT, folder, receiver), receiver, [*APPS])
            heads = [dict(request.headers) for request in (*paris.requests, *gravelines.requests)]
            probed = [request.path for request in paris.others]
        exemplars = {trace for one in durations(receiver) for trace in one.exemplars}
        return Seen(spans=receiver.spans, exemplars=exemplars, heads=heads, probed=probed)


def serve(process: Process, receiver: OtlpReceiver, apps: list[str]) -> None:
    """Ask the apps of a process, and end it once all has come, so that nothing comes after."""
    with process:
        for app in apps:
            ask_twice(process, app)
        receiver.wait_for(lambda: {trace for app in apps for trace in traces_of(app)} <= complete(receiver))
        receiver.wait_for(lambda: len(durations(receiver)) > 0)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_gives_the_pages_tree(seen: Seen, recipe: str) -> None:
    """Each framework's recipe, under the page's own command, sends the tree the page shows, and no baggage goes on."""
    for trace in traces_of(recipe):
        spans = seen.of(trace)
        assert without_path(rendered(spans, CALLER)) == without_path(TREE.splitlines())
        assert [span.scope for span in spans if span.kind == "SERVER"] != ["vetted_mw"]
        heads = [head for head in seen.heads if head["traceparent"].split("-")[1] == trace]
        assert [head.get("baggage") for head in heads] == [None] * 2


@pytest.mark.parametrize(("app", "scope"), [("FastAPI", "fastapi"), ("Starlette", "vetted_mw")])
def test_without_an_instrumentation_there_is_one_server_span(seen: Seen, app: str, scope: str) -> None:
    """The README's own apps under the same command have the same tree; the first span is FastAPI's own, or else ours."""
    for trace in traces_of(f"{app} of the README"):
        spans = seen.of(trace)
        assert without_path(rendered(spans, CALLER)) == without_path(TREE.splitlines()[:4])
        assert [span.scope for span in spans if span.kind == "SERVER"] == [scope]


def test_the_pages_command_leads_from_metrics_to_traces_and_traces_no_probe(seen: Seen) -> None:
    """An exemplar leads from the histogram of durations to a trace, and the health probes that were made are in none."""
    assert seen.exemplars & {trace for app in APPS for trace in traces_of(app)}
    assert "/health" in seen.probed
    assert [span.name for span in seen.spans if span.name == "GET" and span.kind == "CLIENT"] == []


def without_path(tree: list[str]) -> list[str]:
    """Return a tree without the path in its first line, which hosts tell or do not."""
    return [tree[0].removesuffix(" /v1/chat/completions"), *tree[1:]]


def complete(receiver: OtlpReceiver) -> set[str]:
    """Return the traces of which the two outermost spans have come: all others end before."""
    spans = receiver.spans
    return {one.trace_id for one in spans if one.kind == "SERVER"} & {
        one.trace_id for one in spans if one.name == f"chat {KNOWN}"
    }


def durations(receiver: OtlpReceiver) -> list[Point]:
    """Return the points of our histogram of durations."""
    return [one for one in receiver.points if one.metric == "gen_ai.client.operation.duration"]


@pytest.fixture(scope="module")
async def parted(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> OtlpReceiver:
    """Return what the page's app with a flush sent, two workers and batches an hour apart, when it was told to stop."""
    folder = tmp_path_factory.mktemp("parted")
    with OtlpReceiver() as receiver:

        def ended() -> None:
            workers = ("--workers", "2")
            with Pasted(INSTRUMENT, folder, receiver, options=workers, pace="3600000") as process:
                eventually("both workers", lambda: process.text().count("Application startup complete") == 2)
                ask_twice(process, "Starlette")
                assert receiver.exports == ()

        async with FakeUpstream(model=KNOWN) as paris:
            write_app(folder, FLUSHED, {PARIS: paris})
            await anyio.to_thread.run_sync(ended)
    return receiver


def test_a_flush_at_the_end_of_the_lifespan_sends_what_is_left(parted: OtlpReceiver) -> None:
    """With batches an hour apart the page's flush is what sends spans and metrics of an app that is told to stop."""
    assert complete(parted) == set(traces_of("Starlette"))
    assert sum(one.count for one in durations(parted)) == 2


def test_each_worker_has_series_of_its_own(parted: OtlpReceiver) -> None:
    """Two workers under the page's command are two `service.instance.id`, so that none overwrites the other's series."""
    shown = [one.resource["service.instance.id"] for one in parted.points if one.metric == "vetted.inflight"]
    assert len(shown) == len(set(shown)) == 2
    assert {one.resource["service.name"] for one in parted.points} == {"my-app"}


async def test_serve_sends_what_it_is_told_to_send(receiver: OtlpReceiver, tmp_path: Path) -> None:
    """`vetted-mw serve` with the one variable the page names exports traces and metrics."""
    async with FakeUpstream(model=KNOWN) as paris:
        write_app(tmp_path, "", {PARIS: paris})
        await anyio.to_thread.run_sync(serve, Pasted(SERVE, tmp_path, receiver), receiver, ["Starlette"])
    for trace in traces_of("Starlette"):
        spans = [span for span in receiver.spans if span.trace_id == trace]
        assert rendered(spans, CALLER) == TREE.splitlines()[:4]


def test_what_the_page_installs_exists() -> None:
    """Every distribution and extra that the page names is there, in the environment that the tests run in."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    words = [word for line in (SERVE, INSTALL) for word in shlex.split(line.splitlines()[0])[2:]]
    for word in words:
        if word.startswith("."):
            assert set(word.strip(".[]").split(",")) <= set(extras)
        else:
            assert importlib.metadata.version(word)


def test_every_block_of_the_page_is_tried() -> None:
    """No block stands on the page that nobody runs: here, and the settings block in the test of the page's tables."""
    kinds = [kind for kind, _text in BLOCKS]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {"sh": 3, "python": 6, "text": 1, "toml": 1}
    assert len(RECIPES) == 5
