"""Start a server in a process of its own, and end it, whatever happened meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

__all__ = ["running", "unused_port"]

_LIMIT = 60.0


@contextlib.asynccontextmanager
async def running(port: int, log: Path, *arguments: str) -> AsyncIterator[subprocess.Popen[bytes]]:
    """Run Python with `arguments`, its output in `log`, and wait until it listens on `port`.

    Raises:
        RuntimeError: it ended at once; its log is in the text.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VETTED_")}
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: ASYNC220, S603 (our own modules)
            [sys.executable, *arguments], stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment
        )
    try:
        async with asyncio.timeout(_LIMIT):
            while not await _listens(port):
                if process.poll() is not None:
                    raise RuntimeError(f"{arguments} ended at once:\n{_text(log)}")
                await asyncio.sleep(0.05)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def unused_port() -> int:
    """Return a loopback port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _text(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")


async def _listens(port: int) -> bool:
    try:
        _reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
