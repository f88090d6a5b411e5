"""The lines that need gateways of their own: open streams, memory, two workers; and those that need none."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bench.contest import Figure, figure_of, rounds_of, us_each
from bench.gateways import Ours, start_ours
from bench.processes import resident_bytes, tree
from bench.ratios import Target, line
from bench.rounds import Workload, round_of
from bench.starting import import_milliseconds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.gateways import Gateway
    from bench.lines import Bench
    from bench.rounds import Round

__all__ = ["names", "run"]

_IMPORT, _WORKERS, _MEMORY = "import / that of the dependencies", "two workers / one, CPU per request", "memory"
_MOST_STREAM_KB = 24.0
_REGIONS = (8, 100, 1_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Streams:
    """So many streams open at once, each once."""

    name: str
    workload: Workload
    is_quick: bool


_STREAMS = (
    _Streams(
        name="500 streams",
        workload=Workload(chunks=16, pace_ms=500, connections=500, seconds=0, ramp=2.0),
        is_quick=True,
    ),
    _Streams(
        name="5,000 streams",
        workload=Workload(chunks=8, pace_ms=2_000, connections=5_000, seconds=0, ramp=5.0),
        is_quick=False,
    ),
)


def names() -> tuple[str, ...]:
    """Return the names of the lines that are measured here."""
    return (*(one.name for one in _STREAMS), _WORKERS, _MEMORY, *map(_decision_name, _REGIONS), _IMPORT)


def run(bench: Bench) -> None:
    """Measure and print, line by line."""
    for streams in _STREAMS:
        if bench.wants(streams.name) and (streams.is_quick or bench.requests):
            _stream_lines(bench, streams)
    if bench.wants(_WORKERS):
        _workers_line(bench)
    if bench.wants(_MEMORY) and bench.requests:
        _memory_lines(bench)
    for regions in _REGIONS:
        if bench.wants(name := _decision_name(regions)):
            _decision_line(bench, name, regions)
    if bench.wants(_IMPORT):
        _import_line(bench)


def _stream_lines(bench: Bench, streams: _Streams) -> None:
    """Open all at once through each, freshly started, one after the other."""
    workload = streams.workload
    seen: dict[str, list[Round]] = {}
    with ExitStack() as stack:
        ours = _ours(bench, stack, "streams")
        gateways = {**bench.others(stack, ("nginx",)), "ours": ours, **bench.others(stack, ("vllm-router",))}
        for name, gateway in gateways.items():
            few = replace(workload, pace_ms=5, connections=4, seconds=1.0, ramp=0.0)
            rounds_of(few, {name: gateway}, bench.helpers, times=1, warm=0)
            seen |= rounds_of(workload, {name: gateway}, bench.helpers, times=1, warm=0)
    lines = (
        ("us/chunk", us_each, Target()),
        ("KB per stream", _kilobytes_each, Target(most=_MOST_STREAM_KB)),
        ("errors and lost chunks", _failures, Target(most=0)),
    )
    for unit, figure, target in lines:
        figures = {
            name: Figure(value=float(_failures(rounds[0])))
            if figure is _failures
            else figure_of(workload, rounds, figure)
            for name, rounds in seen.items()
        }
        print(line(f"{streams.name}, {unit}", bench.with_absent(figures), target), flush=True)


def _ours(bench: Bench, stack: ExitStack, name: str, *, workers: int = 1) -> Gateway:
    ours = Ours(name=name, transport=bench.transport, workers=workers)
    return start_ours(stack, bench.folder, bench.upstream, ours)


def _kilobytes_each(one: Round) -> float:
    return one.grown_bytes / one.seen.open / 1024


def _failures(one: Round) -> float:
    return one.seen.errors + one.seen.lost


def _workers_line(bench: Bench) -> None:
    workload = Workload(seconds=bench.seconds)
    with ExitStack() as stack:
        gateways = {str(workers): _ours(bench, stack, f"workers-{workers}", workers=workers) for workers in (1, 2)}
        seen = rounds_of(workload, gateways, bench.helpers, times=bench.times)
    one, two = (figure_of(workload, seen[workers], us_each) for workers in ("1", "2"))
    figure = Figure(why=two.why if one.value else one.why)
    if one.value and two.value:
        figure = Figure(value=two.value / one.value)
    print(line(_WORKERS, {"ours": figure}, Target(most=1.1)), flush=True)


def _memory_lines(bench: Bench) -> None:
    """Say what is held after a tenth of the requests and after all of them, and of the others after all."""
    with ExitStack() as stack:
        ours = _ours(bench, stack, "memory")
        held: list[Figure] = []
        done = 0
        for until in (bench.requests // 10, bench.requests):
            figure, done = _held_after(bench, ours, until, done)
            bound = 1.05 * held[-1].value if held and held[-1].value else None
            held.append(figure)
            print(line(f"memory after {until:,} requests, MB", {"ours": figure}, Target(most=bound)), flush=True)


def _held_after(bench: Bench, gateway: Gateway, until: int, done: int) -> tuple[Figure, int]:
    while done < until:
        one = round_of(Workload(seconds=2.0), gateway, bench.helpers)
        if one.seen.errors:
            return Figure(why=f"invalid ({one.seen.errors} errors: {one.seen.error})"), until
        done += one.seen.requests
    return Figure(value=resident_bytes(tree(gateway.pid)) / 1e6), done


def _decision_name(regions: int) -> str:
    return f"decision at {regions:,} regions, us"


def _decision_line(bench: Bench, name: str, regions: int) -> None:
    command = [sys.executable, "-m", "bench.deciding", str(regions), str(bench.upstream)]
    environment = {**os.environ, "OTEL_SDK_DISABLED": "true"}
    said = subprocess.run(command, check=True, capture_output=True, env=environment)  # noqa: S603
    spent: Mapping[str, float] = json.loads(said.stdout)
    print(line(name, {"ours": Figure(value=spent["default"])}, Target()), flush=True)
    for policy in ("carbon-aware", "pin"):
        print(line(f"  {policy}", {"ours": Figure(value=spent[policy])}, Target()), flush=True)


def _import_line(bench: Bench) -> None:
    spent = import_milliseconds(times=2 * bench.times + 1)
    package, dependencies = (statistics.median(spent[name]) for name in ("package", "dependencies"))
    figure = Figure(value=package / dependencies)
    print(line(_IMPORT, {"ours": figure}, Target(most=1.2)), flush=True)
    print(f"    package {package:.0f} ms of CPU, its dependencies by themselves {dependencies:.0f} ms", flush=True)
