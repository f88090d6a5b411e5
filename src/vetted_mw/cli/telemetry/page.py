"""The page at `GET /metrics`: this worker's metrics or those of all workers, in the format the scraper asks for."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING

import msgspec
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder

from vetted_mw.cli.telemetry.families import Family, Series, collected, merged, read, written
from vetted_mw.cli.telemetry.neighbours import Neighbours
from vetted_mw.errors import AnswerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from prometheus_client import CollectorRegistry

__all__ = ["MetricsPage", "PagesApartError"]

_LOG = logging.getLogger("vetted_mw")
_APART = "The workers cannot reach each other here, its log says why. Export metrics by OTLP, or run one worker."


class PagesApartError(AnswerError):
    """The pages of the workers cannot be brought together, and one worker's numbers alone would mislead."""

    status, code, retryable = 501, "metrics_unavailable", False


class MetricsPage:
    """What one worker answers a scrape with.

    Args:
        registry: this worker's metrics.
        folder: where several workers meet; None: they cannot, or there is this one alone.
        workers: how many there are.
    """

    def __init__(self, registry: CollectorRegistry, *, folder: Path | None = None, workers: int = 1) -> None:
        self._registry = registry
        self._collecting = threading.Lock()
        self._workers = workers
        self._missing: frozenset[int] = frozenset()
        self._neighbours: Neighbours | None = None
        if folder is not None:
            self._neighbours = Neighbours(folder, workers=workers, own=self._handed_out)

    async def open(self) -> None:
        """Let the other workers ask for this one's part. Cannot fail: at worst the page says that it is not one."""
        if self._neighbours is None:
            return
        try:
            await self._neighbours.open()
        except OSError as error:
            told = {"error": type(error).__name__, "reason": str(error)}
            _LOG.warning("the workers' metrics cannot be brought together", extra=told)

    async def aclose(self) -> None:
        """Let nobody ask any more."""
        if self._neighbours is not None:
            await self._neighbours.aclose()

    async def text(self, accept: str) -> tuple[str, bytes]:
        """Return content type and body.

        Args:
            accept: the scraper's `Accept`, as it came.

        Raises:
            PagesApartError: there are several workers, and this one cannot reach the others.
        """
        if self._workers == 1:
            return await asyncio.to_thread(lambda: _encoded([*merged({"": self._own()}), *_counts(1, 0)], accept))
        if self._neighbours is None or self._neighbours.number is None:
            raise PagesApartError(_APART)
        number = self._neighbours.number
        own, (others, missing) = await asyncio.gather(asyncio.to_thread(self._own), self._neighbours.answers())
        return await asyncio.to_thread(self._together, {number: own}, others, missing, accept)

    def _together(
        self, pages: dict[int, list[Family]], others: Mapping[int, bytes], missing: frozenset[int], accept: str
    ) -> tuple[str, bytes]:
        for number, data in others.items():
            try:
                pages[number] = read(data)
            except msgspec.DecodeError:  # it ended while it wrote
                missing |= {number}
        self._tell(missing)
        told = {str(number): pages[number] for number in sorted(pages)}
        return _encoded([*merged(told), *_counts(len(pages), len(missing))], accept)

    def _tell(self, missing: frozenset[int]) -> None:
        """Log who is missing when that changes, not at every scrape."""
        if missing and missing != self._missing:
            _LOG.warning("workers are missing from the metrics page", extra={"workers": sorted(missing)})
        self._missing = missing

    def _own(self) -> list[Family]:
        with self._collecting:
            return collected(self._registry)

    async def _handed_out(self) -> bytes:
        return await asyncio.to_thread(lambda: written(self._own()))


class _Collector:
    """Families in the form the encoders of `prometheus_client` take."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for family in self._families:
            metric = Metric(family.name, family.documentation, family.type, family.unit)
            for one in family.series:
                metric.add_sample(one.name, one.labels, one.value)
            yield metric


def _encoded(families: Iterable[Family], accept: str) -> tuple[str, bytes]:
    """Return content type and text."""
    try:
        encode, content_type = choose_encoder(accept)
        content_type.encode("ascii")  # it repeats the version asked for
    except (TypeError, ValueError):  # which is none
        encode, content_type = choose_encoder("")
    return content_type, encode(_Collector(families))


def _counts(present: int, missing: int) -> Iterator[Family]:
    scope = {"otel_scope_name": "vetted_mw"}
    for name, documentation, value in (
        ("vetted_metrics_workers", "Worker processes whose metrics are on this page", present),
        ("vetted_metrics_workers_missing", "Worker processes that did not answer in time", missing),
    ):
        yield Family(name, documentation, "gauge", "", [Series(name, scope, value)])
