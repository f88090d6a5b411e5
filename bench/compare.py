"""One interleaved run of all gateways, and one table of ratios: `scripts/bench`."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench import apart, lines
from bench.helpers import built
from bench.peers import litellm, nginx, vllm_router
from bench.processes import cores, running, unused_port
from bench.ratios import head

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from bench.helpers import Helpers
    from bench.peers import Peer

__all__ = ["compare", "options"]

_ASIDE = Path(__file__).parent.parent / ".bench"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Effort:
    """How much of everything: seconds of a round, how many rounds of each."""

    seconds: float
    times: int


_EFFORTS = {"quick": _Effort(seconds=1.0, times=2), "default": _Effort(seconds=2.0, times=4)}


def options(parser: argparse.ArgumentParser) -> None:
    """Declare what the table can be asked for."""
    parser.add_argument("--quick", action="store_true", help="short rounds, without memory and 5,000 streams")
    parser.add_argument("--long", action="store_true", help="with a million requests for the line on memory")
    parser.add_argument("--only", metavar="WORD", action="append", help="only lines of which the name has this in it")
    parser.add_argument("--transport", default="", help="what ours is to use (default: as the package)")


def compare(arguments: argparse.Namespace) -> None:
    """Set everything up, measure, and print the table line by line.

    Raises:
        SystemExit: this is not Linux, whose clocks of processes and choice of cores it rests on; or there is no such
            line.
    """
    if sys.platform != "linux":
        raise SystemExit("The table is measured on Linux only.")
    only = tuple(arguments.only or ())
    if unknown := _without_line(only):
        every = "\n  ".join((*lines.names(), *apart.names()))
        raise SystemExit(f"No line has {unknown!r} in its name. The lines are\n  {every}")
    _raise_descriptor_limit()
    effort = _EFFORTS["quick" if arguments.quick else "default"]
    helpers = built(_ASIDE / "native")
    peers = {peer.name: peer for peer in (nginx(_ASIDE), vllm_router(_ASIDE), litellm(_ASIDE))}
    _print_head(peers, helpers, arguments)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vetted-bench-")))
        upstream = unused_port()
        stack.enter_context(running([*helpers.upstream, str(upstream)], upstream, on=cores()[0], log=folder / "up.log"))
        bench = lines.Bench(
            folder=folder,
            upstream=upstream,
            helpers=helpers,
            peers=peers,
            transport=arguments.transport,
            seconds=effort.seconds,
            times=effort.times,
            requests=1_000_000 if arguments.long else 0 if arguments.quick else 100_000,
            only=only,
        )
        lines.run(bench)
        apart.run(bench)


def _without_line(words: Iterable[str]) -> str | None:
    """Return the first of the words that no line has in its name."""
    names = (*lines.names(), *apart.names())
    return next((word for word in words if not any(lines.is_meant(name, word) for name in names)), None)


def _print_head(peers: dict[str, Peer], helpers: Helpers, arguments: argparse.Namespace) -> None:
    load_cores, gateway_cores = cores()
    told = [f"{peer.name} {peer.version or f'absent ({peer.absent})'}" for peer in peers.values()]
    ours = f"vetted-mw {importlib.metadata.version('vetted-mw')}, transport {arguments.transport or 'as by default'}"
    servers = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("uvicorn", "uvloop", "httptools"))
    print(f"{ours}; {servers}; Python {platform.python_version()}")
    print("; ".join(told))
    print(f"mock and load: {helpers.by}, on core {_listed(load_cores)}; gateways on core {_listed(gateway_cores)}")
    print(f"{time.strftime('%Y-%m-%d %H:%M')}; load of the machine before: {os.getloadavg()[0]:.1f}; {_processor()}")
    if load_cores == gateway_cores:
        print("There is one core only: load and gateways share it, and added times mean little.")
    print(
        "CPU is that of the process and all its children, median of the rounds. ours: all protections on, unsigned\n"
        "receipts and full traces, no ledger, telemetry API without SDK, no line in the log for a request (as nginx\n"
        "has no access log here); the lines below it add one thing each. '-': not measured.\n"
        "Targets: n, at most so many times nginx; v and L, vllm-router and LiteLLM at least so many times ours.\n"
    )
    print(head(), flush=True)


def _listed(numbers: set[int]) -> str:
    return ",".join(map(str, sorted(numbers)))


def _processor() -> str:
    for row in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if row.startswith("model name"):
            return row.split(":", 1)[1].strip()
    return platform.machine()


def _raise_descriptor_limit() -> None:
    """Let all that is started open as many files as the system grants: a stream is two in a gateway."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
