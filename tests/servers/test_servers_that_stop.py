"""A server is told to stop while a request waits: it cancels the request or kills its worker, and the upstream is freed."""

from __future__ import annotations

import contextlib
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from servers.phases import PHASES, placed
from servers.processes import SERVERS, serving
from streams.wall import LIMIT

if TYPE_CHECKING:
    from pathlib import Path

    from servers.phases import Phase

pytestmark = pytest.mark.real

CANCELLED = re.compile(
    r"ERROR: +Exception in ASGI application\n.*?Task cancelled, timeout graceful [a-z]+ exceeded\n", re.DOTALL
)
GRACE = {
    "uvicorn-httptools": ("--timeout-graceful-shutdown", "1"),
    "uvicorn-h11": ("--timeout-graceful-shutdown", "1"),
    "hypercorn": ("--graceful-timeout", "1"),
    "granian": ("--workers-kill-timeout", "1"),
}


@pytest.mark.parametrize("phase", [one for one in PHASES if str(one) in {"first_byte-json", "mid-stream-sse"}], ids=str)
@pytest.mark.parametrize("name", GRACE)
def test_a_server_that_stops_frees_the_upstream(name: str, phase: Phase, tmp_path: Path) -> None:
    """After its own grace the upstream's connection closes, the process ends, and its log shows no failure of ours.

    uvicorn reports each task that it cancelled itself, where the process lives long enough.
    """
    kind = replace(SERVERS[name], arguments=(*SERVERS[name].arguments, *GRACE[name]))
    with placed() as place, serving(kind, place.tables, tmp_path / "log") as server:
        with contextlib.closing(place.caller(server, phase)):
            server.process.terminate()
            place.left(phase)
        server.process.wait(timeout=LIMIT)
        assert "vetted_mw" not in CANCELLED.sub("", server.text())
