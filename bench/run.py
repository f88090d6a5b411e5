"""What the gateway costs, beside other gateways: one table of ratios from one interleaved run, on this machine alone.

What is measured first is CPU per request, of the whole process tree: it stands up to a shared machine far better than
requests per second, but only lines of one run may be compared. With --signals, --hanging, --evidence or --telemetry
it is the gateway alone, in several settings in turn, in front of an embedded model server.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from bench.compare import compare
from bench.compare import options as table_options
from bench.evidence import evidence_measured
from bench.measuring import Load, process, request_of
from bench.processes import unused_port
from bench.table import compared
from bench.telemetry import telemetry_measured
from vetted_mw.demo.grid_service import TOKEN, GridService
from vetted_mw.demo.model_server import ModelServers
from vetted_mw.routing.regions import load_catalogue

if TYPE_CHECKING:
    from collections.abc import Callable

_HERE = ("-m", "bench.run")
REGION, OTHER_REGION = "scaleway-par-1", "atnorth-sto-1"
STUCK = 200
"""Callers that wait for a region which never answers."""


SIGNAL_LOADS = (
    Load("default", 1_000, concurrency=2),
    Load("pin", 1_000, concurrency=2, vetted={"region": REGION}),
    Load("carbon-aware", 1_000, concurrency=2, vetted={"routing": "carbon_aware"}),
)

HANGING_LOADS = (
    Load("JSON, default", 1_000, concurrency=2),
    Load("JSON, pin", 1_000, concurrency=2, vetted={"region": REGION}),
    Load("SSE, default", 1_000, stream=True, concurrency=2),
)


def main() -> int:
    """Measure what was asked for and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one round, with one of these four:")
    parser.add_argument("--signals", action="store_true", help="with grid sources that answer, and that all hang")
    parser.add_argument("--hanging", action="store_true", help=f"with {STUCK} callers stuck on another region")
    parser.add_argument(
        "--evidence", action="store_true", help="with signing and ledger, each and both, and with neither"
    )
    parser.add_argument("--telemetry", action="store_true", help="with no telemetry, the API alone, and an SDK")
    table_options(parser)
    parser.add_argument("--serve-upstream", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--serve-grid", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve_upstream is not None:
        _serve_upstream(arguments.serve_upstream)
        return 0
    if arguments.serve_grid is not None:
        uvicorn.run(GridService(), host="127.0.0.1", port=arguments.serve_grid, lifespan="off", log_level="error")
        return 0
    asked = {
        "signals": _signals_measured,
        "hanging": _hanging_measured,
        "evidence": evidence_measured,
        "telemetry": telemetry_measured,
    }
    measured = next((measured for name, measured in asked.items() if getattr(arguments, name)), None)
    if measured is None:
        compare(arguments)
    else:
        asyncio.run(measured(arguments.seconds))
    return 0


def _serve_upstream(port: int) -> None:
    app = ModelServers({port: load_catalogue()[REGION]}, word_seconds=0.0)
    uvicorn.run(app, host="127.0.0.1", port=port, lifespan="off", access_log=False, log_level="warning")


async def _signals_measured(seconds: float) -> None:
    """Compare gateways without sources, with sources that answer and with sources that all hang, in turn."""
    async with AsyncExitStack() as stack:
        upstream = unused_port()
        await stack.enter_async_context(process(upstream, *_HERE, "--serve-upstream", str(upstream)))
        grids = {name: unused_port() for name in ("answering", "hanging")}
        for port in grids.values():
            await stack.enter_async_context(process(port, *_HERE, "--serve-grid", str(port)))
        _reader, writer = await asyncio.open_connection("127.0.0.1", grids["hanging"])
        writer.write(b"POST /faults/all/hang HTTP/1.1\r\nhost: grid\r\ncontent-length: 0\r\n\r\n")
        await _reader.readuntil(b"\r\n\r\n")
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vetted-bench-")))
        (folder / "token").write_text(TOKEN, encoding="ascii")
        gateways = {}
        for name in ("no sources", *grids):
            settings, port = folder / f"{name.replace(' ', '-')}.toml", unused_port()
            settings.write_text(_with_sources(upstream, grids.get(name)), encoding="utf-8")
            serve = ("-m", "vetted_mw", "serve", "--config", str(settings), "--port", str(port))
            gateways[name] = (port, await stack.enter_async_context(process(port, *serve)))
        await compared(SIGNAL_LOADS, seconds, gateways, ("policy", "sources"))


async def _hanging_measured(seconds: float) -> None:
    """Compare a gateway whose other region hangs, and callers with it, with two whose other region is well.

    Between the two that are well nothing differs: how far apart they are is the noise.
    """
    hanging = _Hanging()
    async with AsyncExitStack() as stack:
        ports = {name: unused_port() for name in ("this region", "well")}
        for port in ports.values():
            await stack.enter_async_context(process(port, *_HERE, "--serve-upstream", str(port)))
        server = await asyncio.start_server(hanging.serve, "127.0.0.1", 0, backlog=2 * STUCK)
        ports |= {"well, too": ports["well"], "hanging": server.sockets[0].getsockname()[1]}
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vetted-bench-")))
        gateways = {}
        for name in ("well", "well, too", "hanging"):
            settings, port = folder / f"{name}.toml", unused_port()
            settings.write_text(
                f'default_order = ["{REGION}", "{OTHER_REGION}"]\n'
                f'[regions.{REGION}]\nbase_url = "http://127.0.0.1:{ports["this region"]}/v1"\n'
                f'[regions.{OTHER_REGION}]\nbase_url = "http://127.0.0.1:{ports[name]}/v1"\n',
                encoding="utf-8",
            )
            serve = ("-m", "vetted_mw", "serve", "--config", str(settings), "--port", str(port))
            gateways[name] = (port, await stack.enter_async_context(process(port, *serve)))
        pinned = Load("stuck", 1_000, vetted={"region": OTHER_REGION})
        callers = [await asyncio.open_connection("127.0.0.1", gateways["hanging"][0]) for _ in range(STUCK)]
        for _reader, writer in callers:
            writer.write(request_of(pinned, gateways["hanging"][0]))
        await _until(lambda: len(hanging.callers) == STUCK)
        await compared(HANGING_LOADS, seconds, gateways, ("load", "other region"))
        print(f"{len(hanging.callers)} callers were stuck on the hanging region to the end", flush=True)
        for _reader, writer in callers:
            writer.close()
        await _until(lambda: not hanging.callers)  # so that the gateway has nothing left to wait for
    await _until(lambda: not hanging.connected)


class _Hanging:
    """A server that reads and never answers.

    Attributes:
        connected: its connections.
        callers: those that brought a completion, and not a probe.
    """

    def __init__(self) -> None:
        self.connected: set[asyncio.StreamWriter] = set()
        self.callers: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hold one connection until the other side ends it."""
        self.connected.add(writer)
        if (await reader.read(65_536)).startswith(b"POST"):
            self.callers.add(writer)
        while await reader.read(65_536):
            pass
        self.callers.discard(writer)
        self.connected.discard(writer)
        writer.close()


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 (counted, not told)
            await asyncio.sleep(0.05)


def _with_sources(upstream: int, grid: int | None) -> str:
    text = f'[regions.{REGION}]\nbase_url = "http://127.0.0.1:{upstream}/v1"\n'
    if grid is None:
        return text
    urls = GridService().base_urls(f"http://127.0.0.1:{grid}")
    text += "[signals]\nrefresh_seconds = 1\n"
    for name, url in urls.items():
        key = 'token = { file = "token" }\n' if name == "entsoe" else ""
        text += f'[signals.sources.{name}]\nbase_url = "{url}"\n{key}'
    return text


if __name__ == "__main__":
    sys.exit(main())
