"""Processes that are measured: started on cores of their own, the CPU and memory of their whole tree read."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["cores", "cpu_seconds", "resident_bytes", "running", "started", "tree", "unused_port"]

_START_SECONDS = 90
_PAGE = os.sysconf("SC_PAGE_SIZE")


def cores() -> tuple[set[int], set[int]]:
    """Return the cores of the load and its upstream, and those of what is measured; with one core they share it."""
    first, *others = sorted(os.sched_getaffinity(0))
    return {first}, set(others) or {first}


def tree(pid: int) -> list[int]:
    """Return a process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):  # noqa: PTH208 (names are all that is needed)
        if entry.isdigit():
            with suppress(OSError):
                fields = Path(f"/proc/{entry}/stat").read_text(encoding="utf-8", errors="replace").rsplit(")", 1)[1]
                children.setdefault(int(fields.split()[1]), []).append(int(entry))
    found = [pid]
    for one in found:
        found.extend(children.get(one, ()))
    return found


def cpu_seconds(pids: Sequence[int]) -> float:
    """Return the CPU that these processes have used, threads that have ended included, to the nanosecond.

    Linux gives every process a clock of its CPU, whose number is made of the process's; `stat` counts in hundredths.
    """
    total = 0.0
    for pid in pids:
        with suppress(OSError):  # it has ended meanwhile
            total += time.clock_gettime((~pid << 3) | 2)
    return total


def resident_bytes(pids: Sequence[int]) -> int:
    """Return the memory that these processes hold."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            total += int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * _PAGE
    return total


def started(
    command: Sequence[str], *, on: set[int], log: Path, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a command on these cores; what it says goes to `log`, where its variables beside ours are `environment`."""
    with log.open("ab") as sink:
        return subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
            preexec_fn=lambda: os.sched_setaffinity(0, on),  # noqa: PLW1509 (no thread of ours is running)
        )


@contextmanager
def running(
    command: Sequence[str], port: int, *, on: set[int], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[int]:
    """Run a command until the block is left, from when it listens on `port`.

    Raises:
        RuntimeError: it ended, or does not listen in time; the last it said is in the text.
    """
    process = started(command, on=on, log=log, environment=environment)
    try:
        until = time.monotonic() + _START_SECONDS
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{command[0]} does not serve: {_end_of(log)}")
            time.sleep(0.05)
        yield process.pid
    finally:
        _stop(process)


def unused_port() -> int:
    """Return a loopback port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End it, and what of its session is left (a session of its own was made for this)."""
    process.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=20)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=20)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _end_of(log: Path) -> str:
    return " / ".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-3:])
