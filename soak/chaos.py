"""Break two real llama.cpp servers under load, one at a time: killed, paused, restarted in turn.

The gateway is `vetted-mw serve` before both, with probes on and short limits. Callers ask without options, pinned to
either, and carbon-aware, JSON and SSE, and judge every answer: its text is known beforehand, its `model` shows which
server wrote it, and in the end every trace is held against the servers' own logs, request by request.
Exit code 1 when a promise was broken.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import uvloop

from real.processes import GatewayProcess, LlamaServer
from real.talk import Grid
from real.tiny_model import write_tiny_model
from soak.disturbances import TURN, Disturbance, Disturber, Pace
from soak.gateway_log import defects_in
from soak.llama_log import FIRST_NUMBER, computed
from soak.questions import ALIASES, PARIS, STOCKHOLM, question_of, whole_texts
from soak.talk import Connection, UnfinishedError
from soak.witness import Totals, Witness
from vetted_mw.configuration import DEFAULT_TRANSPORT
from vetted_mw.proxy.doors import DOORS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

__all__ = ["Broken", "broken", "main"]

_LIMITS = {"first_byte_seconds": 5.0, "idle_seconds": 5.0, "answer_seconds": 10.0, "connect_seconds": 2.0}
_VERBOSITY = 4
_PAUSE_AFTER_REFUSAL = 0.05
_REST_SECONDS = 40.0
_EVERY_STEP = tuple((region, step) for step in TURN for region in (PARIS, STOCKHOLM))


class Broken:
    """What a run of chaos found.

    Attributes:
        witness: what the callers saw.
        totals: each server's own count.
        done: what was done to which.
        seconds: how long it took.
    """

    def __init__(self, witness: Witness, totals: Mapping[str, Totals], disturber: Disturber, seconds: float) -> None:
        self.witness = witness
        self.totals = totals
        self.done = disturber.done
        self.seconds = seconds

    def table(self) -> str:
        """Return it as text."""
        lines = [f"chaos: {len(self.witness.outcomes)} answers in {self.seconds:.0f} s"]
        lines += [f"  {region} {step}: {times} times" for (region, step), times in sorted(self.done.items())]
        lines += [f"  the longest answer took {self.witness.longest:.1f} s", ""]
        policies = sorted({policy for policy, _ in self.witness.endings})
        lines.append(f"{'answers':<44}" + "".join(f"{policy:>21}" for policy in policies))
        for ending in sorted({ending for _, ending in self.witness.endings}):
            counts = "".join(f"{self.witness.endings[policy, ending]:>21}" for policy in policies)
            lines.append(f"  {ending:<42}{counts}")
        lines += ["", f"{'server':<44}{'sent (traces)':>15}{'started (log)':>15}{'finished (log)':>15}{'whole':>9}"]
        lines += [
            f"  {region:<42}{one.sent:>15}{one.started:>15}{one.finished:>15}{one.whole:>9}"
            for region, one in self.totals.items()
        ]
        lines += ["", f"{'broken promises':<44}{self.witness.wrongs.total():>15}"]
        lines += [f"  {name:<62} {count}" for name, count in sorted(self.witness.wrongs.items())]
        return "\n".join([*lines, *self.witness.examples])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run chaos and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (default: 10)")
    parser.add_argument("--concurrency", type=int, default=8, help="callers at once (default: 8)")
    parser.add_argument("--seed", type=int, default=1, help="of what is asked (default: 1)")
    parser.add_argument("--transport", choices=sorted(DOORS), default=DEFAULT_TRANSPORT, help="to the servers")
    told = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that its processes end with it
    with tempfile.TemporaryDirectory(prefix="vetted-chaos-") as folder:
        found = uvloop.run(
            broken(
                Path(folder),
                minutes=told.minutes,
                concurrency=told.concurrency,
                seed=told.seed,
                pace=Pace(),
                transport=told.transport,
            )
        )
    print(found.table())
    return 1 if found.witness.wrongs else 0


async def broken(
    folder: Path,
    *,
    minutes: float | None,
    concurrency: int,
    seed: int,
    pace: Pace,
    steps: Sequence[tuple[str, Disturbance]] = _EVERY_STEP,
    limits: Mapping[str, float] = MappingProxyType({}),
    transport: str = DEFAULT_TRANSPORT,
) -> Broken:
    """Break the servers by `steps`, again and again for so many minutes (None: once), and return what was found.

    `limits` stand in place of the usual ones of the gateway.
    """
    async with _stage(folder, _LIMITS | dict(limits), transport) as (gateway, servers):
        witness = Witness(await whole_texts([server.port for server in servers.values()]))
        disturber = Disturber(servers, pace)
        started = time.monotonic()
        over = asyncio.Event()
        numbers = itertools.takewhile(lambda _: not over.is_set(), itertools.count(FIRST_NUMBER))
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(_calls(gateway.port, numbers, seed, witness))
            until = None if minutes is None else started + minutes * 60
            try:
                await disturber.run(steps, until=until)
            finally:
                over.set()
        seconds = time.monotonic() - started
        await _require_rest(gateway.port, witness)
        for server in servers.values():
            await asyncio.to_thread(server.completions)  # its log is complete up to here when this returns
        totals = witness.compare({region: computed(server.text().splitlines()) for region, server in servers.items()})
        defects, told = defects_in(gateway.text())
        if defects:
            witness.wrongs["lines in the gateway's log that tell of a defect"] += defects
            witness.examples += told
    return Broken(witness, totals, disturber, seconds)


@contextlib.asynccontextmanager
async def _stage(
    folder: Path, limits: Mapping[str, float], transport: str
) -> AsyncIterator[tuple[GatewayProcess, dict[str, LlamaServer]]]:
    model = folder / "tiny.gguf"
    write_tiny_model(model)
    servers = {
        region: LlamaServer(model, folder / f"{region}.log", alias=alias, verbosity=_VERBOSITY)
        for region, alias in ALIASES.items()
    }
    grid = Grid(folder / "signals.toml")
    grid.write({"FR": 60.0, "SE_3": 30.0})
    settings = grid.settings(
        folder / "vetted.toml", {region: server.base_url for region, server in servers.items()}, order=list(servers)
    )
    text = settings.read_text(encoding="utf-8").replace('health_path = ""', 'health_path = "/health"')
    table = "".join(f"{name} = {seconds}\n" for name, seconds in limits.items())
    settings.write_text(f'transport = "{transport}"\n{text}\n[limits]\n{table}', encoding="utf-8")
    gateway = GatewayProcess(settings, folder / "gateway.log")
    with contextlib.ExitStack() as stack:
        for process in (*servers.values(), gateway):
            await asyncio.to_thread(stack.enter_context, process)
        yield gateway, servers


async def _calls(port: int, numbers: Iterator[int], seed: int, witness: Witness) -> None:
    connection: Connection | None = None
    for number in numbers:
        if connection is None or not connection.usable:
            connection = await Connection.open(port)
        question = question_of(seed, number)
        asked = time.monotonic()
        try:
            await connection.send(question.body())
            answer = await connection.answer()
        except (UnfinishedError, ConnectionError) as error:
            witness.wrong(f"no whole answer: {error}", number)
            connection.leave(resets=False)
            continue
        witness.see(question, answer, seconds=time.monotonic() - asked)
        if answer.status != 200:  # noqa: PLR2004
            await asyncio.sleep(_PAUSE_AFTER_REFUSAL)
    if connection is not None:
        connection.leave(resets=False)


async def _require_rest(port: int, witness: Witness) -> None:
    """Wait until the gateway holds no lease."""
    give_up = time.monotonic() + _REST_SECONDS
    while held := await _in_flight(port):
        if time.monotonic() > give_up:
            witness.wrong(f"{held} leases are held although nothing is under way", 0)
            return
        await asyncio.sleep(0.1)


async def _in_flight(port: int) -> int:
    connection = await Connection.open(port)
    answer = await connection.get("/v1/regions")
    connection.leave(resets=False)
    return sum(int(region.get("in_flight") or 0) for region in json.loads(answer.body)["data"])


if __name__ == "__main__":
    sys.exit(main())
