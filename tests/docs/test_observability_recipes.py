"""The recipes of docs/observability.md, pasted and started as the page says, with an OTLP receiver where they send."""

from __future__ import annotations

import importlib.metadata
import re
import shlex
import sysconfig
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import httpx
import pytest

from real.processes import Process
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
SERVICE_ADDRESS = "http://127.0.0.1:4318"
TRACES = ("4bf92f3577b34da6a3ce929d0e0e4736", "4bf92f3577b34da6a3ce929d0e0e4737")
CALLER = "00f067aa0ba902b7"
BROKEN = FakeAnswer.json({"error": {"message": "broken"}}, status=500)


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


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as made:
        yield made


def write_app(folder: Path, app: str, regions: Mapping[str, FakeUpstream]) -> None:
    """Write an app beside the settings of its gateway; the servers are probed."""
    tables = [f'[regions.{code}]\nbase_url = "{one.base_url}"\nmodels = ["{KNOWN}"]\n' for code, one in regions.items()]
    (folder / "vetted.toml").write_text(f"default_order = {[*regions]}\n" + "".join(tables), encoding="utf-8")
    (folder / "app.py").write_text(app, encoding="utf-8")


def ask(process: Process, *, trace: str, stream: bool) -> httpx.Response:
    headers = {"traceparent": f"00-{trace}-{CALLER}-01", "baggage": "user.email=canary"}
    url = f"{process.base_url}/chat/completions"
    return httpx.post(url, json=asked(stream=stream), headers=headers, trust_env=False, timeout=60)


def rendered(spans: list[ReceivedSpan], parent: str, margin: str = "") -> list[str]:
    """Return kind and name of what hangs under a span, in the order it began."""
    children = sorted((span for span in spans if span.parent_id == parent), key=lambda span: span.start_ns)
    return [
        line
        for span in children
        for line in (f"{margin}{span.kind} {span.name}", *rendered(spans, span.span_id, margin + "  "))
    ]


@pytest.mark.parametrize("recipe", RECIPES)
async def test_a_recipe_gives_the_pages_tree(receiver: OtlpReceiver, tmp_path: Path, recipe: str) -> None:
    """Each framework's recipe, under the page's own command, sends the tree the page shows, and no baggage goes on."""
    async with FakeUpstream(model=KNOWN) as paris, FakeUpstream(model=KNOWN) as gravelines:
        write_app(tmp_path, RECIPES[recipe], {PARIS: paris, GRAVELINES: gravelines})
        paris.then(BROKEN, BROKEN)
        await anyio.to_thread.run_sync(serve_twice, Pasted(INSTRUMENT, tmp_path, receiver), receiver)
        heads = [dict(request.headers) for request in (*paris.requests, *gravelines.requests)]
        probed = [request.path for request in paris.others]
    for trace in TRACES:
        spans = [span for span in receiver.spans if span.trace_id == trace]
        assert without_path(rendered(spans, CALLER)) == without_path(TREE.splitlines())
        assert [span.scope for span in spans if span.kind == "SERVER"] != ["vetted_mw"]
    assert {head["traceparent"].split("-")[1] for head in heads} == set(TRACES)
    assert [head.get("baggage") for head in heads] == [None] * 4
    assert "/health" in probed
    assert [span.name for span in receiver.spans if span.name == "GET" and span.kind == "CLIENT"] == []


def without_path(tree: list[str]) -> list[str]:
    """Return a tree without the path in its first line, which hosts tell or do not."""
    return [tree[0].removesuffix(" /v1/chat/completions"), *tree[1:]]


def serve_twice(process: Process, receiver: OtlpReceiver) -> None:
    """Ask for a JSON answer and for a stream, and end the process, so that nothing comes after."""
    with process:
        for trace, stream in zip(TRACES, (False, True), strict=True):
            assert ask(process, trace=trace, stream=stream).status_code == 200
        receiver.wait_for(lambda: set(TRACES) <= complete(receiver))
        receiver.wait_for(lambda: len(durations(receiver)) > 0)
    shown = {trace for one in durations(receiver) for trace in one.exemplars}
    assert shown & set(TRACES), "an exemplar leads from the histogram to a trace"


def complete(receiver: OtlpReceiver) -> set[str]:
    """Return the traces of which the two outermost spans have come: all others end before."""
    spans = receiver.spans
    return {one.trace_id for one in spans if one.kind == "SERVER"} & {
        one.trace_id for one in spans if one.name == f"chat {KNOWN}"
    }


def durations(receiver: OtlpReceiver) -> list[Point]:
    """Return the points of our histogram of durations."""
    return [one for one in receiver.points if one.metric == "gen_ai.client.operation.duration"]


@pytest.mark.parametrize(("app", "scope"), [("FastAPI", "fastapi"), ("Starlette", "vetted_mw")])
async def test_without_an_instrumentation_there_is_one_server_span(
    receiver: OtlpReceiver, tmp_path: Path, app: str, scope: str
) -> None:
    """The README's own apps under the same command have the same tree; the first span is FastAPI's own, or else ours."""
    async with FakeUpstream(model=KNOWN) as paris:
        write_app(tmp_path, BARE[app], {PARIS: paris})
        await anyio.to_thread.run_sync(serve_twice, Pasted(INSTRUMENT, tmp_path, receiver), receiver)
    for trace in TRACES:
        spans = [span for span in receiver.spans if span.trace_id == trace]
        assert without_path(rendered(spans, CALLER)) == without_path(TREE.splitlines()[:5])
        assert [span.scope for span in spans if span.kind == "SERVER"] == [scope]


async def test_a_flush_at_the_end_of_the_lifespan_sends_what_is_left(receiver: OtlpReceiver, tmp_path: Path) -> None:
    """With batches an hour apart the page's flush is what sends spans and metrics of an app that is told to stop."""

    def ended() -> None:
        with Pasted(INSTRUMENT, tmp_path, receiver, pace="3600000") as process:
            assert ask(process, trace=TRACES[0], stream=False).status_code == 200
            assert receiver.exports == ()

    async with FakeUpstream(model=KNOWN) as paris:
        write_app(tmp_path, FLUSHED, {PARIS: paris})
        await anyio.to_thread.run_sync(ended)
    assert complete(receiver) == {TRACES[0]}
    assert len(durations(receiver)) == 1


async def test_each_worker_has_series_of_its_own(receiver: OtlpReceiver, tmp_path: Path) -> None:
    """Two workers under the page's command are two `service.instance.id`, so that none overwrites the other's series."""

    def instances() -> set[Any]:
        return {one.resource["service.instance.id"] for one in receiver.points if one.metric == "vetted.inflight"}

    def both() -> None:
        with Pasted(INSTRUMENT, tmp_path, receiver, options=("--workers", "2")):
            receiver.wait_for(lambda: len(instances()) == 2)

    async with FakeUpstream(model=KNOWN) as paris:
        write_app(tmp_path, RECIPES["Litestar"], {PARIS: paris})
        await anyio.to_thread.run_sync(both)
    assert {one.resource["service.name"] for one in receiver.points} == {"my-app"}


async def test_serve_sends_what_it_is_told_to_send(receiver: OtlpReceiver, tmp_path: Path) -> None:
    """`vetted-mw serve` with the one variable the page names exports traces and metrics."""
    async with FakeUpstream(model=KNOWN) as paris:
        write_app(tmp_path, "", {PARIS: paris})
        await anyio.to_thread.run_sync(serve_twice, Pasted(SERVE, tmp_path, receiver), receiver)
    for trace in TRACES:
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
