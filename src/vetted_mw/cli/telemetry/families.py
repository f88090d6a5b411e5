"""A worker's metrics as families of series, and the families of several workers as one page.

Workers hand their families to each other as msgpack: text would have to be parsed by rules that differ from format to
format, and what does not parse is lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from prometheus_client import CollectorRegistry

__all__ = ["Family", "Series", "collected", "merged", "read", "written"]

_WORKER = "worker"


class Series(msgspec.Struct, frozen=True, array_like=True):
    """One line of a page.

    Attributes:
        name: with the suffix its type gives it, as in `vetted_requests_total`.
        labels: value by name.
        value: now.
    """

    name: str
    labels: dict[str, str]
    value: float


class Family(msgspec.Struct, frozen=True, array_like=True):
    """The series under one `# TYPE`.

    Attributes:
        name: without the suffixes of its type.
        documentation: its `# HELP`.
        type: `counter`, `gauge`, `histogram`, `info`.
        unit: with which its name ends, or nothing.
        series: those of one label set stand together.
    """

    name: str
    documentation: str
    type: str
    unit: str
    series: list[Series]


_DECODER = msgspec.msgpack.Decoder(list[Family])


def collected(registry: CollectorRegistry) -> list[Family]:
    """Return what `registry` has now; not in two threads at once, the reader behind it has one buffer."""
    return [
        Family(
            metric.name,
            metric.documentation,
            metric.type,
            metric.unit,
            [Series(sample.name, dict(sample.labels), float(sample.value)) for sample in metric.samples],
        )
        for metric in registry.collect()
    ]


def written(families: Iterable[Family]) -> bytes:
    """Return `families` as bytes for another worker."""
    return msgspec.msgpack.encode(list(families))


def read(data: bytes) -> list[Family]:
    """Return what another worker wrote.

    Raises:
        msgspec.DecodeError: it is not whole, or is something else.
    """
    return _DECODER.decode(data)


def merged(pages: Mapping[str, Iterable[Family]]) -> list[Family]:
    """Return one family for each name, its series labelled with the worker they are of.

    A name stands under one `# TYPE`: series of a family that has another type than the first of its name are left out.

    Args:
        pages: families by worker; of a single worker named "" they get no label.
    """
    heads: dict[str, Family] = {}
    series: dict[str, list[Series]] = {}
    for worker, families in pages.items():
        for family in families:
            if heads.setdefault(family.name, family).type == family.type:
                series.setdefault(family.name, []).extend(_of_worker(worker, family.series))
    return [msgspec.structs.replace(head, series=series[name]) for name, head in heads.items()]


def _of_worker(worker: str, series: Iterable[Series]) -> Iterable[Series]:
    if not worker:
        return series
    return (Series(one.name, {**one.labels, _WORKER: worker}, one.value) for one in series)
