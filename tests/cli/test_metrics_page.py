"""`GET /metrics` of a running `vetted-mw serve`: one worker's page, and one page of several workers."""

from __future__ import annotations

import os
import signal
import stat
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as text_families

from cli.commands import LIMIT_SECONDS
from cli.serving import BODY, asked, completed, serving, write_settings
from streams.wall import until
from telemetry.otlp import OtlpReceiver
from vetted_mw.testing import FakeUpstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

    from prometheus_client.core import Metric

    from cli.commands import Running

pytestmark = pytest.mark.anyio

OPENMETRICS = "application/openmetrics-text;version=1.0.0;q=0.9,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"


async def scraped(url: str, accept: str = OPENMETRICS) -> dict[str, Metric]:
    """Return the page's families by name, read as strictly as its format allows."""
    answer = await asked(f"{url}/metrics", headers={"accept": accept})
    assert answer.status_code == 200
    is_open = answer.headers["content-type"].startswith("application/openmetrics-text")
    families = list((openmetrics_families if is_open else text_families)(answer.text))
    names = [family.name for family in families]
    assert len(set(names)) == len(names)
    return {family.name: family for family in families}


def total(families: Mapping[str, Metric], name: str = "vetted_requests") -> float:
    found = families.get(name)
    samples = () if found is None else found.samples
    return sum(sample.value for sample in samples if sample.name in {name, f"{name}_total"})


def workers_of(families: Mapping[str, Metric]) -> list[str]:
    return sorted(sample.labels["worker"] for sample in families["target"].samples)


async def scraped_until(url: str, holds: Callable[[dict[str, Metric]], bool]) -> dict[str, Metric]:
    """Scrape until the page is as wanted."""
    give_up = time.monotonic() + LIMIT_SECONDS
    while not holds(families := await scraped(url)):
        assert time.monotonic() < give_up, families
        await anyio.sleep(0.05)
    return families


async def counted(url: str, requests: float) -> dict[str, Metric]:
    """Scrape until so many requests are there: one is counted when its answer has gone out, not before."""
    return await scraped_until(url, lambda families: total(families) == requests)


async def whole(url: str, workers: int) -> dict[str, Metric]:
    """Scrape until all workers are there."""
    return await scraped_until(url, lambda families: total(families, "vetted_metrics_workers") == workers)


def processes_of(running: Running) -> list[int]:
    """Return the process ids of the workers."""
    pid = running.process.pid
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [child for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


@contextmanager
def halted(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Run the module's tests on one loop, so that they can share servers."""
    return "asyncio"


@pytest.fixture(scope="module")
async def alone(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Running, str]]:
    """Start one worker that asks its callers for a key, and let it answer three."""
    folder = tmp_path_factory.mktemp("alone")
    async with FakeUpstream() as paris:
        write_settings(folder, paris.base_url, '[callers.team]\nkey = { env = "TEAM_KEY" }')
        async with serving(folder, environ={"TEAM_KEY": "k"}) as (process, url):
            for _ in range(3):
                await completed(url, key="k")
            await counted(url, 3)
            yield process, url


@pytest.mark.parametrize("accept", [OPENMETRICS, "", "text/plain", "application/openmetrics-text;version=x"])
async def test_one_worker_tells_what_it_counted(accept: str, alone: tuple[Running, str]) -> None:
    """Whoever asks gets the metrics, in the format asked for, of the scope that dashboards filter by."""
    process, url = alone
    families = await scraped(url, accept)
    answer = await asked(f"{url}/metrics/", headers={"accept": accept})
    is_open = accept == OPENMETRICS
    assert answer.headers["content-type"].startswith("application/openmetrics-text" if is_open else "text/plain")
    assert total(families) == 3
    (requests,) = families["vetted_requests"].samples
    assert requests.labels["otel_scope_name"] == "vetted_mw"
    assert [one for family in families.values() for one in family.samples if "worker" in one.labels] == []
    assert [total(families, f"vetted_metrics_workers{end}") for end in ("", "_missing")] == [1, 0]
    assert families["gen_ai_client_operation_duration_seconds"].type == "histogram"
    assert process.line_with("GET /metrics")


async def test_other_methods_are_refused_as_elsewhere(alone: tuple[Running, str]) -> None:
    """HEAD has the headers alone; anything that would write is 405 with what is allowed."""
    _, url = alone
    head = await asked(f"{url}/metrics", "HEAD")
    posted = await asked(f"{url}/metrics", "POST", content=b"x" * 100_000)
    health = await asked(f"{url}/healthz", "POST")
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["content-length"]) > 0
    assert posted.status_code == 405
    assert (posted.json(), posted.headers["allow"]) == (health.json(), health.headers["allow"])


@pytest.mark.parametrize("pushed", [True, False], ids=["metrics pushed too", "metrics exporter none"])
async def test_page_and_export_go_together(pushed: bool, tmp_path: Path) -> None:
    """One provider and two readers: both see every request, and the page is there when nothing is pushed."""
    with OtlpReceiver() as receiver:
        async with FakeUpstream() as paris:
            write_settings(tmp_path, paris.base_url)
            environ = receiver.environment | ({} if pushed else {"OTEL_METRICS_EXPORTER": "none"})
            async with serving(tmp_path, environ=environ) as (_, url):
                for _ in range(3):
                    await completed(url)
                families = await counted(url, 3)
        pushed_requests = [point.value for point in receiver.latest_points if point.metric == "vetted.requests"]
        assert len([span for span in receiver.spans if span.kind == "SERVER"]) == 3
    assert families["vetted_requests"].type == "counter"
    assert pushed_requests == ([3] if pushed else [])


async def test_paths_of_the_settings_come_first(tmp_path: Path) -> None:
    """Completions at /metrics: served there, other methods turned away as on every such path, and no page is told."""
    async with FakeUpstream() as paris:
        write_settings(tmp_path, paris.base_url, 'paths = ["/metrics"]')
        async with serving(tmp_path) as (process, url):
            completion = await asked(f"{url}/metrics", "POST", json=BODY)
            page = await asked(f"{url}/metrics")
    assert completion.json()["routing_trace"]["region"] == "scaleway-par-1"
    assert (page.status_code, page.headers["allow"]) == (405, "POST")
    assert [line for line in process.lines if "GET /metrics" in line] == []


# ---- several workers


@pytest.fixture(scope="module")
async def pair(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Running, str, Path]]:
    """Start two workers, which meet in a folder of their parent's; nothing of it is left at their end."""
    folder = tmp_path_factory.mktemp("pair")
    async with FakeUpstream() as paris:
        write_settings(folder, paris.base_url)
        async with serving(folder, workers=2, environ={"TMPDIR": str(folder)}) as (process, url):
            yield process, url, folder
    assert list(folder.glob("vetted-mw-*")) == []


async def test_whichever_worker_answers_the_page_is_of_all(pair: tuple[Running, str, Path]) -> None:
    """Every scrape sums to every request, each series with its worker and each name under one type."""
    _, url, folder = pair
    before = total(await whole(url, 2))
    for _ in range(12):
        await completed(url)
    await counted(url, before + 12)
    pages = [await scraped(url, accept) for accept in (OPENMETRICS, "text/plain") for _ in range(4)]
    texts = [(await asked(f"{url}/metrics")).text for _ in range(3)]
    (meeting,) = folder.glob("vetted-mw-*")
    assert stat.S_IMODE(meeting.stat().st_mode) == 0o700
    assert {total(page) for page in pages} == {before + 12}
    assert {total(page, "vetted_metrics_workers_missing") for page in pages} == {0}
    assert [workers_of(page) for page in pages[:4]] == [["0", "1"]] * 4
    for page in pages:
        told = [one.labels for name, family in page.items() if "metrics_workers" not in name for one in family.samples]
        assert [labels for labels in told if labels.get("worker") not in {"0", "1"}] == []
    for text in texts:
        types = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
        assert len(types) == len(set(types))


async def test_scrapes_at_once_do_not_mix(pair: tuple[Running, str, Path]) -> None:
    """Many scrapers at the same time each get a whole page."""
    _, url, _ = pair
    before = total(await whole(url, 2))
    for _ in range(4):
        await completed(url)
    await counted(url, before + 4)
    pages: list[dict[str, Metric]] = []

    async def scrape() -> None:
        pages.append(await scraped(url))

    async with anyio.create_task_group() as scrapers:
        for _ in range(24):
            scrapers.start_soon(scrape)
    assert [(total(page), workers_of(page)) for page in pages] == [(before + 4, ["0", "1"])] * 24


async def test_a_hung_worker_is_left_out_and_told(pair: tuple[Running, str, Path]) -> None:
    """A worker that does not answer costs the page its part alone, is counted and logged; it comes back."""
    process, url, _ = pair
    await whole(url, 2)
    said = len(process.lines)
    with halted(processes_of(process)[0]):
        pages = [await scraped(url) for _ in range(2)]
    await whole(url, 2)
    assert {total(page, "vetted_metrics_workers") for page in pages} == {1}
    assert {total(page, "vetted_metrics_workers_missing") for page in pages} == {1}
    ((left,), other) = (workers_of(page) for page in pages)
    assert other == [left]
    line = f"workers are missing from the metrics page workers=[{1 - int(left)}]"
    await until(lambda: any(one.endswith(line) for one in process.lines[said:]))


async def test_a_worker_that_is_started_anew_takes_its_predecessors_number(pair: tuple[Running, str, Path]) -> None:
    """Killed and replaced: the same two workers' series again, one of them from zero, as after any restart."""
    process, url, _ = pair
    before = await whole(url, 2)
    victim, other = processes_of(process)
    os.kill(victim, signal.SIGKILL)

    def is_replaced(families: Mapping[str, Metric]) -> bool:
        return workers_of(families) == ["0", "1"] and instances(families) != instances(before)

    after = await scraped_until(url, is_replaced)
    assert other in processes_of(process)
    assert len(instances(before) & instances(after)) == 1


def instances(families: Mapping[str, Metric]) -> set[tuple[str, str]]:
    return {(one.labels["worker"], one.labels["service_instance_id"]) for one in families["target"].samples}


async def test_workers_that_cannot_meet_have_no_page(tmp_path: Path) -> None:
    """Where no socket can be made, 501 with the way out: never the numbers of one worker for those of all."""
    deep = tmp_path / ("deep" * 30)
    deep.mkdir()
    async with FakeUpstream() as paris:
        write_settings(tmp_path, paris.base_url)
        async with serving(tmp_path, workers=2, environ={"TMPDIR": str(deep)}) as (process, url):
            apart = "the workers' metrics cannot be brought together"
            await until(lambda: sum(apart in line for line in process.lines) == 2)  # none is stopped while it starts
            await completed(url)
            page = await asked(f"{url}/metrics")
    assert (page.status_code, page.json()["error"]["code"]) == (501, "metrics_unavailable")
    assert "OTLP" in page.json()["error"]["message"]
