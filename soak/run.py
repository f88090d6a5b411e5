"""Soak the gateway: real server, faulty upstreams and callers who leave, each in a process of its own.

Prints a table: what callers got, who left, what is still held at the end (must be nothing) and how memory went.
Exit code 1 when anything is held, a promise was broken, or memory grows beyond the bound after the warm-up.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop

from soak.callers import Callers
from soak.plan import MODEL, REGIONS, ZONES
from soak.processes import running, unused_port
from soak.report import Memory, Report, held
from soak.talk import Connection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

__all__ = ["main", "soaked"]

_ROUNDS = 10
_REST_SECONDS = 40.0
_BAD_LINES = ("a request failed inside the gateway", "Traceback", "never retrieved", "was destroyed but it is pending")
_SETTINGS = """
default_order = {order}
[limits]
first_byte_seconds = 1
answer_seconds = 2
idle_seconds = 1
total_seconds = 10
[models.{model}]
active_params_b = 8
total_params_b = 8
bytes_per_param = 2
[signals.sources.file]
path = "signals.toml"
max_age_minutes = 10000
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a soak and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, help="how many requests; otherwise --minutes")
    parser.add_argument("--minutes", type=float, default=2.0, help="how long (default: 2)")
    parser.add_argument("--abort-share", type=float, default=0.3, help="share of callers who leave (default: 0.3)")
    parser.add_argument("--concurrency", type=int, default=32, help="callers at once (default: 32)")
    parser.add_argument("--seed", type=int, default=1, help="of requests, aborts and faults (default: 1)")
    parser.add_argument("--first", type=int, default=0, help="number of the first request, to repeat a part of a run")
    told = parser.parse_args(arguments)
    report = uvloop.run(
        soaked(
            requests=told.requests,
            minutes=told.minutes,
            abort_share=told.abort_share,
            concurrency=told.concurrency,
            seed=told.seed,
            first=told.first,
        )
    )
    print(report.table())
    return 1 if report.leaks or report.tally.wrongs or report.grows else 0


async def soaked(
    *, requests: int | None, minutes: float = 0.0, abort_share: float, concurrency: int, seed: int, first: int = 0
) -> Report:
    """Run a soak of so many requests, or of so many minutes, and return what it found."""
    with tempfile.TemporaryDirectory(prefix="vetted-soak-") as name:
        folder = Path(name)
        async with _stage(folder, seed) as (gateway, upstream):
            callers = Callers(gateway, seed=seed, abort_share=abort_share, concurrency=concurrency)
            before = await _gauges(gateway)
            started = time.monotonic()
            memory: list[Memory] = []
            for numbers in _rounds(first, requests, minutes):
                await callers.run(numbers)
                now = await _rested(gateway, before)
                memory.append(Memory(requests=callers.tally.requests, rss=now["rss"], objects=now["objects"]))
                _progress(memory[-1], callers, held(now, before))
            seconds = time.monotonic() - started
            callers.compare(await _json(upstream, "/seen"))
            _read_log(folder / "gateway.log", callers)
            return Report(
                tally=callers.tally,
                held=held(now, before),
                memory=memory,
                seconds=seconds,
                title=f"soak: seed {seed}, {abort_share:.0%} leave, {concurrency} callers at once",
            )


def _read_log(log: Path, callers: Callers) -> None:
    """Count what no healthy gateway logs as a broken promise."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    bad = [number for number, line in enumerate(lines) if any(words in line for words in _BAD_LINES)]
    callers.tally.wrongs.update({"lines in the gateway's log that tell of a defect": len(bad)} if bad else {})
    if bad:
        callers.tally.examples += lines[bad[0] : bad[0] + 20]


def _rounds(first: int, requests: int | None, minutes: float) -> Iterator[Iterator[int]]:
    """Yield the numbers of each round, the first of them the warm-up."""
    if requests is not None:
        edges = [first + requests * step // _ROUNDS for step in range(_ROUNDS + 1)]
        yield from (iter(range(start, end)) for start, end in itertools.pairwise(edges))
        return
    numbers = itertools.count(first)
    begun = time.monotonic()
    for step in range(1, _ROUNDS + 1):
        until = begun + minutes * 60 * step / _ROUNDS
        yield _before(until, numbers)


def _before(until: float, numbers: Iterator[int]) -> Iterator[int]:
    """Yield numbers until that instant."""
    while time.monotonic() < until:
        yield next(numbers)


@contextlib.asynccontextmanager
async def _stage(folder: Path, seed: int) -> AsyncIterator[tuple[int, int]]:
    """Start upstreams and gateway; yields the gateway's port and that of an upstream."""
    ports = [unused_port() for _ in REGIONS]
    settings = _SETTINGS.format(order=json.dumps(list(REGIONS)), model=MODEL)
    settings += "".join(
        f'[regions.{region}]\nbase_url = "http://127.0.0.1:{port}/v1"\n'
        for region, port in zip(REGIONS, ports, strict=True)
    )
    (folder / "vetted.toml").write_text(settings, encoding="utf-8")
    observed = datetime.now(UTC).isoformat()
    (folder / "signals.toml").write_text(
        "".join(
            f'[[reading]]\nzone = "{zone}"\ngco2_per_kwh = {value}\nkind = "measured"\nobserved_at = "{observed}"\n'
            for zone, value in ZONES.items()
        ),
        encoding="utf-8",
    )
    port = unused_port()
    serve = ("-m", "soak.served", "serve", "--config", str(folder / "vetted.toml"), "--port", str(port))
    upstreams = ("-m", "soak.upstreams", str(seed), *map(str, ports))
    async with running(ports[-1], folder / "upstreams.log", *upstreams), running(port, folder / "gateway.log", *serve):
        yield port, ports[0]


async def _rested(port: int, before: dict[str, Any]) -> dict[str, Any]:
    """Return the gauges once nothing is held, or as they stand when that does not come about."""
    give_up = time.monotonic() + _REST_SECONDS
    now = await _gauges(port)
    while any(held(now, before).values()) and time.monotonic() < give_up:
        await asyncio.sleep(0.25)
        now = await _gauges(port)
    return now


async def _gauges(port: int) -> dict[str, Any]:
    return await _json(port, "/soak/gauges")


async def _json(port: int, path: str) -> dict[str, Any]:
    connection = await Connection.open(port)
    answer = await connection.get(path)
    connection.leave(resets=False)
    told: dict[str, Any] = json.loads(answer.body)
    return told


def _progress(memory: Memory, callers: Callers, now: dict[str, int]) -> None:
    leaks = ", ".join(f"{count} {name}" for name, count in now.items() if count) or "nothing"
    wrongs = sum(callers.tally.wrongs.values())
    print(
        f"{memory.requests} requests: {leaks} held, {wrongs} broken promises, {memory.rss / 1e6:.1f} MB",
        file=sys.stderr,
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
