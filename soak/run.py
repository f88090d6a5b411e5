"""Soak the gateway: real server, faulty upstreams and callers who leave, each in a process of its own.

Prints a table: what callers got, who left, what is still held at the end (must be nothing) and how memory went.
Exit code 1 when anything is held, a promise was broken, or memory grows beyond the bound after the warm-up.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop

from soak.callers import Callers
from soak.gateway_log import defects_in, reloads_in
from soak.report import Memory, Report, held
from soak.stage import LEDGERS, staged
from soak.talk import Connection
from vetted_mw.configuration import DEFAULT_TRANSPORT
from vetted_mw.proxy.doors import DOORS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["main", "soaked"]

_ROUNDS = 10
_REST_SECONDS = 40.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a soak and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, help="how many requests; otherwise --minutes")
    parser.add_argument("--minutes", type=float, default=2.0, help="how long (default: 2)")
    parser.add_argument("--abort-share", type=float, default=0.3, help="share of callers who leave (default: 0.3)")
    parser.add_argument("--concurrency", type=int, default=32, help="callers at once (default: 32)")
    parser.add_argument("--seed", type=int, default=1, help="of requests, aborts and faults (default: 1)")
    parser.add_argument("--reload-seconds", type=float, default=5.0, help="reload so often (default: 5; 0: never)")
    parser.add_argument("--transport", choices=sorted(DOORS), default=DEFAULT_TRANSPORT, help="to the upstreams")
    parser.add_argument("--first", type=int, default=0, help="number of the first request, to repeat a part of a run")
    told = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that its processes end with it
    report = uvloop.run(
        soaked(
            requests=told.requests,
            minutes=told.minutes,
            abort_share=told.abort_share,
            concurrency=told.concurrency,
            seed=told.seed,
            first=told.first,
            reload_seconds=told.reload_seconds,
            transport=told.transport,
        )
    )
    print(report.table())
    return 1 if report.leaks or report.tally.wrongs or report.grows else 0


async def soaked(
    *,
    requests: int | None,
    minutes: float = 0.0,
    abort_share: float,
    concurrency: int,
    seed: int,
    first: int = 0,
    reload_seconds: float = 0.0,
    transport: str = DEFAULT_TRANSPORT,
) -> Report:
    """Run a soak of so many requests, or of so many minutes, and return what it found."""
    with tempfile.TemporaryDirectory(prefix="vetted-soak-") as name:
        folder = Path(name)
        async with staged(folder, seed, transport) as stage:
            gateway = stage.gateway
            callers = Callers(gateway, seed=seed, abort_share=abort_share, concurrency=concurrency)
            before = await _gauges(gateway)
            started = time.monotonic()
            memory: list[Memory] = []
            rests = True
            for numbers in _rounds(first, requests, minutes):
                async with stage.reloading(reload_seconds):
                    await callers.run(numbers)
                now = await _rested(gateway, before, seconds=_REST_SECONDS if rests else 1.0)
                rests = not any(held(now, before).values())  # what never comes to rest is not waited for ten times
                memory.append(Memory(requests=callers.tally.requests, rss=now["rss"], objects=now["objects"]))
                _progress(memory[-1], callers, held(now, before))
            seconds = time.monotonic() - started
            callers.compare(await _json(stage.upstream, "/seen"))
            log = await asyncio.to_thread(stage.log.read_text, encoding="utf-8", errors="replace")
            defects, told = defects_in(log)
            if (told_of_ledgers := await asyncio.to_thread(_ledger_findings, folder)) is not None:
                callers.tally.wrongs["findings of `receipts verify` on what was kept"] += 1
                callers.tally.examples.append(told_of_ledgers)
            if defects:
                callers.tally.wrongs["lines in the gateway's log that tell of a defect"] += defects
                callers.tally.examples += told
            return Report(
                tally=callers.tally,
                held=held(now, before),
                memory=memory,
                seconds=seconds,
                title=(
                    f"soak over {transport}: seed {seed}, {abort_share:.0%} leave, {concurrency} at once, "
                    f"{reloads_in(log)} reloads"
                ),
            )


def _ledger_findings(folder: Path) -> str | None:
    """Return what the auditor's command finds wrong in the ledgers; None where it finds nothing."""
    there = [str(folder / name) for name in LEDGERS if (folder / name).exists()]
    verify = [sys.executable, "-m", "vetted_mw", "receipts", "verify", *there, "--config", str(folder / "vetted.toml")]
    done = subprocess.run(verify, capture_output=True, text=True, check=False)  # noqa: S603 (our own command)
    return None if there and done.returncode == 0 else done.stdout + done.stderr


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


async def _rested(port: int, before: dict[str, Any], *, seconds: float) -> dict[str, Any]:
    """Return the gauges once nothing is held, or as they stand when that does not come about."""
    give_up = time.monotonic() + seconds
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
