"""The parts of the metrics page: families of several workers made one, and workers that ask each other."""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from support import configured, proxied
from vetted_mw import Gateway, VettedProxy
from vetted_mw.cli.serve import _meeting_place
from vetted_mw.cli.telemetry import ObservedApp, Sdk, TelemetryPlan
from vetted_mw.cli.telemetry.families import Family, Series, collected, merged, read, written
from vetted_mw.cli.telemetry.neighbours import Neighbours
from vetted_mw.cli.telemetry.page import MetricsPage, PagesApartError
from vetted_mw.testing import asgi_exchange

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from prometheus_client.core import Metric
    from starlette.types import Message, Receive, Scope, Send

pytestmark = pytest.mark.anyio

SECRET = "planted-secret"
OPENMETRICS = "application/openmetrics-text;version=1.0.0"


class Counted:
    """A collector of one counter, one gauge and one histogram."""

    def __init__(self, value: float) -> None:
        self._value = value

    def collect(self) -> Iterator[Metric]:
        counter = CounterMetricFamily("requests", "Requests", labels=["region"])
        counter.add_metric(['a\n"b\\'], self._value)
        yield counter
        gauge = GaugeMetricFamily("age_seconds", "Age", unit="seconds")
        gauge.add_metric([], float("inf"))
        yield gauge
        histogram = HistogramMetricFamily("wait_seconds", "Wait", unit="seconds", labels=["region"])
        histogram.add_metric(["a"], [("0.5", 1), ("+Inf", self._value)], sum_value=2.5)
        yield histogram


def registry(value: float) -> CollectorRegistry:
    made = CollectorRegistry()
    made.register(Counted(value))
    return made


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder with a short path: a socket's has 108 bytes."""
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


# ---- families


def family(name: str, *values: float, kind: str = "gauge") -> Family:
    return Family(name, "", kind, "", [Series(name, {"n": str(n)}, value) for n, value in enumerate(values)])


def test_what_a_worker_hands_over_arrives_as_it_was() -> None:
    """Names, units, labels of any text and values, infinite ones too."""
    families = collected(registry(3))
    assert read(written(families)) == families
    assert [one.type for one in families] == ["counter", "gauge", "histogram"]
    assert families[1].series == [Series("age_seconds", {}, float("inf"))]


@given(cut=st.integers(min_value=0, max_value=10_000))
def test_what_is_cut_off_is_never_taken_for_whole(cut: int) -> None:
    """A worker that ends while it writes leaves nothing that reads as fewer series."""
    data = written(collected(registry(3)))
    if cut >= len(data):
        return
    with pytest.raises(msgspec.DecodeError):
        read(data[:cut])


@given(values=st.dictionaries(st.integers(0, 9).map(str), st.lists(st.floats(allow_nan=False), max_size=4), max_size=4))
def test_every_series_is_there_once_under_one_name(values: dict[str, list[float]]) -> None:
    """Whatever the workers have, the page has each of their series with their number and each name once."""
    page = merged({worker: [family("x", *its), family(f"only_{worker}", 1)] for worker, its in values.items()})
    names = [one.name for one in page]
    assert len(names) == len(set(names))
    found = {
        (one.labels["worker"], one.labels["n"]): one.value for each in page if each.name == "x" for one in each.series
    }
    assert found == {(worker, str(n)): value for worker, its in values.items() for n, value in enumerate(its)}


def test_a_name_has_one_type() -> None:
    """Of two families that share a name and not a type, the second is left out: it would be read as the first."""
    page = merged({"0": [family("x", 1), family("x", 2, kind="counter")], "1": [family("x", 3, kind="counter")]})
    assert [(one.type, [each.value for each in one.series]) for one in page] == [("gauge", [1.0])]


# ---- pages


async def values(page: MetricsPage, name: str) -> dict[str, float]:
    """Return the values of one name by worker, read as strictly as can be."""
    content_type, body = await page.text(OPENMETRICS)
    assert content_type.startswith("application/openmetrics-text")
    families = text_string_to_metric_families(body.decode())  # type: ignore[no-untyped-call]
    return {
        sample.labels.get("worker", ""): sample.value
        for each in families
        for sample in each.samples
        if sample.name == name
    }


async def test_pages_meet_in_a_folder(folder: Path) -> None:
    """Each of three pages shows all three; one that has closed is missing from the others, and its number free."""
    pages = [MetricsPage(registry(10**n), folder=folder, workers=3) for n in range(3)]
    for page in pages:
        await page.open()
    whole = {"0": 1.0, "1": 10.0, "2": 100.0}
    assert [await values(page, "requests_total") for page in pages] == [whole] * 3
    await pages[1].aclose()
    assert await values(pages[0], "requests_total") == {"0": 1.0, "2": 100.0}
    assert await values(pages[0], "vetted_metrics_workers_missing") == {"": 1.0}
    successor = MetricsPage(registry(7), folder=folder, workers=3)
    await successor.open()
    assert await values(pages[2], "requests_total") == {"0": 1.0, "1": 7.0, "2": 100.0}
    for page in (pages[0], successor, pages[2]):
        await page.aclose()


async def test_who_is_missing_is_logged_when_it_changes(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One line when workers go missing, none at the next scrape, another when others do."""
    caplog.set_level(logging.WARNING, "vetted_mw")
    first, second = (MetricsPage(registry(1), folder=folder, workers=3) for _ in range(2))
    await first.open()
    for _ in range(3):
        await first.text("")
    await second.open()
    for _ in range(3):
        await first.text("")
    assert [record.__dict__["workers"] for record in caplog.records] == [[1, 2], [2]]
    await first.aclose()
    await second.aclose()


async def test_a_neighbour_that_talks_nonsense_is_missing(folder: Path) -> None:
    """What does not read as families is left out, and counted."""
    page = MetricsPage(registry(1), folder=folder, workers=2)
    await page.open()

    async def nonsense() -> bytes:
        return b"\x93nonsense"

    other = Neighbours(folder, workers=2, own=nonsense)
    await other.open()
    assert await values(page, "requests_total") == {"0": 1.0}
    assert await values(page, "vetted_metrics_workers_missing") == {"": 1.0}
    await other.aclose()
    await page.aclose()


async def test_a_page_that_cannot_meet_the_others_is_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No folder, or one that is gone: the page says that it cannot be one, and opening and closing it do no harm."""
    for folder in (None, tmp_path / "gone"):
        page = MetricsPage(registry(1), folder=folder, workers=2)
        await page.open()
        with pytest.raises(PagesApartError):
            await page.text("")
        await page.aclose()
    (record,) = [record for record in caplog.records if record.name == "vetted_mw"]
    assert record.__dict__["error"] == "FileNotFoundError"


def test_where_nothing_can_be_written_there_is_no_meeting_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """A read-only system costs several workers their page, not their start."""

    def refused(**_: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(tempfile, "TemporaryDirectory", refused)
    with _meeting_place(2) as place:
        assert place is None


def test_a_single_worker_needs_no_meeting_place() -> None:
    """Nothing is made that is not used."""
    with _meeting_place(1) as place:
        assert place is None


async def test_the_library_serves_no_page() -> None:
    """The page is the command's: an application that mounts the gateway has its own, or none."""
    async with proxied({"scaleway-par-1": "http://127.0.0.1:9/v1"}) as app:
        answer = await asgi_exchange(app, method="GET", path="/metrics")
    assert answer.status == 404


class Failing:
    """A page that cannot be made."""

    async def text(self, _accept: str) -> tuple[str, bytes]:
        raise RuntimeError(SECRET)


@pytest.mark.parametrize("version", ["", "x", "1.0.\u00e9", "1.x"])
async def test_a_version_that_is_none_gets_a_page_all_the_same(version: str) -> None:
    """Whatever stands in `Accept`, there is a page, and its content type is one."""
    content_type, body = await MetricsPage(registry(3)).text(f"application/openmetrics-text;version={version}")
    assert content_type.isascii()
    assert b"requests_total" in body


async def test_a_start_that_fails_ends_the_sdk_first() -> None:
    """The server waits for nothing after it has heard that the app did not start."""
    events: list[str] = []

    class Told(Sdk):
        async def shut_down(self, seconds: float = 0) -> None:
            events.append("ended")

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "lifespan.startup.failed"})

    async def send(message: Message) -> None:
        events.append(message["type"])

    gateway = Gateway(configured({"scaleway-par-1": "http://127.0.0.1:9/v1"}))
    never: Receive = asyncio.Event().wait  # type: ignore[assignment]
    await ObservedApp(app, gateway, sdk=Told(TelemetryPlan()))({"type": "lifespan"}, never, send)
    assert events == ["ended", "lifespan.startup.failed"]


async def test_a_page_that_fails_tells_nothing_of_why(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a collector raises is a 500 in our envelope, and only its place is logged."""
    sdk = Sdk(TelemetryPlan())
    sdk.page = cast("MetricsPage", Failing())
    gateway = Gateway(configured({"scaleway-par-1": "http://127.0.0.1:9/v1"}))
    answer = await asgi_exchange(ObservedApp(VettedProxy(gateway), gateway, sdk=sdk), method="GET", path="/metrics")
    assert (answer.status, answer.json()["error"]["code"]) == (500, "internal_error")
    assert SECRET.encode() not in answer.body
    assert SECRET not in caplog.text
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [
        "a request failed inside the gateway"
    ]


# ---- neighbours


@pytest.fixture
async def three(folder: Path) -> AsyncIterator[list[Neighbours]]:
    """Return three of four workers, each handing out its name."""

    def saying(word: bytes) -> Neighbours:
        async def own() -> bytes:
            return word

        return Neighbours(folder, workers=4, own=own)

    made = [saying(word) for word in (b"zero", b"one", b"two")]
    for one in made:
        await one.open()
    yield made
    for one in made:
        await one.aclose()


async def test_numbers_are_given_in_order_and_given_back(three: list[Neighbours], folder: Path) -> None:
    """The lowest that is free, each once; what is given back leaves no socket behind."""
    assert [one.number for one in three] == [0, 1, 2]
    assert await three[0].answers() == ({1: b"one", 2: b"two"}, frozenset({3}))
    await three[1].aclose()
    await three[1].aclose()
    assert sorted(path.name for path in folder.glob("*.socket")) == ["0.socket", "2.socket"]
    assert await three[0].answers() == ({2: b"two"}, frozenset({1, 3}))
    await three[1].open()
    assert three[1].number == 1


async def test_a_leftover_socket_is_not_waited_for(three: list[Neighbours], folder: Path) -> None:
    """A socket nobody listens on any more, as a killed worker leaves it: missing, and taken over by its successor."""
    left = await asyncio.start_unix_server(lambda _reader, _writer: None, path=folder / "left")
    os.link(folder / "left", folder / "3.socket")
    os.link(folder / "left", folder / "9.socket")
    left.close()
    answers, missing = await three[0].answers()
    assert (sorted(answers), missing) == ([1, 2], frozenset({3}))


async def test_one_beyond_the_count_is_heard(folder: Path) -> None:
    """While a worker is being replaced there is one more than there should be: its numbers count."""
    made = []
    for word in (b"zero", b"one", b"two"):

        async def own(word: bytes = word) -> bytes:
            return word

        made.append(Neighbours(folder, workers=2, own=own))
        await made[-1].open()
    assert await made[0].answers() == ({1: b"one", 2: b"two"}, frozenset())
    assert await made[2].answers() == ({0: b"zero", 1: b"one"}, frozenset())
    for one in made:
        await one.aclose()


async def test_a_neighbour_that_hangs_is_given_up(folder: Path) -> None:
    """One that never answers is missing once its time is over; the answer of the others is there."""

    async def never() -> bytes:
        await asyncio.Event().wait()
        return b""

    async def at_once() -> bytes:
        return b"here"

    hung = Neighbours(folder, workers=3, own=never)
    there, asking = (Neighbours(folder, workers=3, own=at_once, ask_seconds=0.2) for _ in range(2))
    for one in (hung, there, asking):
        await one.open()
    assert await asking.answers() == ({1: b"here"}, frozenset({0}))
    for one in (hung, there, asking):
        await one.aclose()
