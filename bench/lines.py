"""The lines of the table: what each measures, with which gateways, and what it is to reach."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bench.contest import Figure, figure_of, rounds_of, us_each
from bench.gateways import (
    Ours,
    direct,
    evidence,
    start_litellm,
    start_nginx,
    start_ours,
    start_vllm_router,
    tracing,
)
from bench.ratios import OTHERS, Target, line
from bench.rounds import Workload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from bench.gateways import Gateway
    from bench.helpers import Helpers
    from bench.peers import Peer
    from bench.rounds import Percentiles, Round

__all__ = ["Bench", "is_meant", "names", "run"]

_LITELLM_WARM_SECONDS = 4.0
_START = "start, CPU ms until it listens"
EVIDENCE, LOGGED, TRACED = "+ signing, ledger", "+ log line", "+ SDK, all traced"
_VARIANTS = (EVIDENCE, LOGGED, TRACED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What all lines share.

    Attributes:
        folder: for settings and logs.
        upstream: port of the mock.
        helpers: mock and load.
        peers: by name.
        transport: of ours; empty: the package's default.
        seconds: of a round.
        times: rounds of each.
        requests: after which memory is looked at, for the last time.
        only: words, one of which a line's name has in it; none: all lines.
    """

    folder: Path
    upstream: int
    helpers: Helpers
    peers: Mapping[str, Peer]
    transport: str
    seconds: float
    times: int
    requests: int
    only: tuple[str, ...] = ()

    def wants(self, name: str) -> bool:
        """Whether this line was asked for."""
        return not self.only or any(is_meant(name, word) for word in self.only)

    def others(self, stack: ExitStack, names: Iterable[str] = OTHERS) -> dict[str, Gateway]:
        """Start those of the others that are there; one that does not start is told, and takes no part."""
        starts = {"nginx": start_nginx, "vllm-router": start_vllm_router, "LiteLLM": start_litellm}
        running = {}
        for name in names:
            if self.peers[name].command:
                try:
                    running[name] = starts[name](stack, self.folder, self.upstream, self.peers[name])
                except RuntimeError as error:
                    print(f"    {error}", flush=True)
        return running

    def with_absent(self, figures: Mapping[str, Figure]) -> dict[str, Figure]:
        """Return the figures, and of those that are not there that they are absent."""
        return {**figures, **{name: Figure(why="absent") for name in OTHERS if not self.peers[name].command}}


_NONE = Target()


@dataclass(frozen=True, slots=True, kw_only=True)
class _CpuLine:
    """CPU per request, or per chunk of streams.

    Attributes:
        name: of the line.
        workload: what is sent; `seconds` is the bench's where it is not 0.
        target: of ours.
        variants: of ours, with something added; a line each.
        without: who does not take part.
        share: of the bench's rounds.
    """

    name: str
    workload: Workload
    target: Target = _NONE
    variants: tuple[str, ...] = (EVIDENCE,)
    without: tuple[str, ...] = ()
    share: float = 1.0


_CPU = (
    _CpuLine(
        name="JSON 1 KB, CPU us/request",
        workload=Workload(),
        target=Target(nginx=(5.0, 3.5), vllm_router=(0.95, 1.4), litellm=(100, 150)),
        variants=_VARIANTS,
    ),
    _CpuLine(
        name="JSON 32 KB, CPU us/request",
        workload=Workload(prompt_bytes=32_000),
        target=Target(nginx=(5.5, 4.5), vllm_router=(1.4, 1.7), litellm=(100, 125)),
    ),
    _CpuLine(
        name="JSON 400 KB, CPU us/request",
        workload=Workload(prompt_bytes=400_000),
        target=Target(nginx=(2.6, 2.4), vllm_router=(1.7, 1.9), litellm=(55, 60)),
    ),
    _CpuLine(
        name="SSE 20 x 200 every 10 ms, us/chunk",
        workload=Workload(chunks=200, pace_ms=10, connections=20, seconds=0, ramp=0.2),
        target=Target(nginx=(2.5, 2.0), vllm_router=(0.6, 0.8)),
        variants=_VARIANTS,
    ),
    _CpuLine(
        name="SSE 10 x 60 every 50 ms, us/chunk",
        workload=Workload(chunks=60, pace_ms=50, connections=10, seconds=0, ramp=1.0),
        target=Target(litellm=(10, 12)),
        variants=(),
        share=0.5,
    ),
    _CpuLine(
        name="SSE 8 x 200 in a burst, us/chunk",
        workload=Workload(chunks=200, connections=8),
        without=("LiteLLM",),
    ),
    *(
        _CpuLine(
            name=f"JSON 1 KB, {callers} at once, us/request",
            workload=Workload(connections=callers),
            variants=(),
            without=("LiteLLM",),
            share=0.5,
        )
        for callers in (1, 8, 128)
    ),
)


def is_meant(name: str, word: str) -> bool:
    """Whether a line of this name is one of those that a word of `only` asks for."""
    return word.lower() in name.lower()


def names() -> tuple[str, ...]:
    """Return the names of the lines that are measured here."""
    return (*(one.name for one in _CPU), *(one.name for one in _ADDED), _START)


def run(bench: Bench) -> None:
    """Measure and print, line by line, what is compared with the others side by side."""
    cpu = [one for one in _CPU if bench.wants(one.name)]
    added = [one for one in _ADDED if bench.wants(one.name)]
    if not cpu and not added and not bench.wants(_START):
        return
    with ExitStack() as stack:
        gateways = _all(bench, stack)
        for one in cpu:
            _cpu_line(bench, one, gateways)
        for another in added:
            _added_lines(bench, another, gateways)
        if bench.wants(_START):
            starts = {name: Figure(value=gateway.start_ms) for name, gateway in gateways.items()}
            print(line(_START, bench.with_absent(starts), Target()), flush=True)


def _all(bench: Bench, stack: ExitStack) -> dict[str, Gateway]:
    """Start ours, alone and with each thing added, and the others."""
    at = (stack, bench.folder, bench.upstream)
    ours = Ours(transport=bench.transport)
    gateways = {
        "ours": start_ours(*at, ours),
        EVIDENCE: start_ours(*at, replace(ours, name="evidence", settings=evidence(bench.folder))),
        LOGGED: start_ours(*at, replace(ours, name="logged", logs=True)),
        TRACED: start_ours(*at, replace(ours, name="traced", variables=tracing(bench.upstream))),
        **bench.others(stack),
    }
    if "LiteLLM" in gateways:
        warming = Workload(seconds=_LITELLM_WARM_SECONDS)
        rounds_of(warming, {"LiteLLM": gateways["LiteLLM"]}, bench.helpers, times=1, warm=0)
    return gateways


def _cpu_line(bench: Bench, one: _CpuLine, gateways: Mapping[str, Gateway]) -> None:
    wanted = ("nginx", "ours", *one.variants, "vllm-router", "LiteLLM")
    taking_part = {name: gateways[name] for name in wanted if name in gateways and name not in one.without}
    workload = replace(one.workload, seconds=bench.seconds if one.workload.seconds else 0.0)
    seen = rounds_of(workload, taking_part, bench.helpers, times=max(2, round(bench.times * one.share)))
    figures = bench.with_absent({name: figure_of(workload, rounds, us_each) for name, rounds in seen.items()})
    print(line(one.name, figures, one.target), flush=True)
    for variant in one.variants:
        print(line(f"  {variant}", figures, Target(), subject=variant), flush=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _AddedLine:
    """Time that a gateway adds to the load sent directly, at little load: at the median (with a target), and p99.

    Attributes:
        name: of the line; " p50" or " p99" follows.
        workload: what is sent.
        time: which of a round's times.
        target: of ours, at the median.
    """

    name: str
    workload: Workload
    time: Callable[[Round], Percentiles | None]
    target: Target


_LITTLE = Workload(rate=20, seconds=6.0)
_ADDED = (
    _AddedLine(
        name="added at 20/s, JSON 1 KB, us",
        workload=_LITTLE,
        time=lambda one: one.seen.latency,
        target=Target(nginx=(2.5,)),
    ),
    _AddedLine(
        name="added at 20/s to first chunk, us",
        workload=replace(_LITTLE, chunks=4, pace_ms=5),
        time=lambda one: one.seen.first,
        target=Target(nginx=(3.0,)),
    ),
)


def _added_lines(bench: Bench, one: _AddedLine, gateways: Mapping[str, Gateway]) -> None:
    taking_part = {"direct": direct(bench.upstream)}
    taking_part |= {name: gateways[name] for name in ("nginx", "ours", "vllm-router", "LiteLLM") if name in gateways}
    seen = rounds_of(one.workload, taking_part, bench.helpers, times=max(1, bench.times // 2), warm=1.0)
    for share, target in (("p50", one.target), ("p99", Target())):
        figures = {name: figure_of(one.workload, rounds, _time_of(one, share)) for name, rounds in seen.items()}
        without = figures.pop("direct")
        added = {name: _less(figure, without) for name, figure in figures.items()}
        print(line(f"{one.name} {share}", bench.with_absent(added), target), flush=True)


def _time_of(one: _AddedLine, share: str) -> Callable[[Round], float]:
    def of(seen: Round) -> float:
        times = one.time(seen)
        return 0.0 if times is None else float(getattr(times, share))

    return of


def _less(figure: Figure, without: Figure) -> Figure:
    if figure.value is None or without.value is None:
        return figure if figure.value is None else without
    return Figure(value=figure.value - without.value)
