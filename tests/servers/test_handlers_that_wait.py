"""An in-app handler waits for its call on a real server when its caller leaves: the upstream is freed all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from frameworks.hosts import HOSTS
from servers.phases import PHASES, is_served_well, left_in, placed
from servers.processes import SERVERS, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servers.phases import Phase, Place
    from servers.processes import Server

pytestmark = pytest.mark.real

# Every framework on one server, and one framework on every server.
PAIRS = [
    *(pytest.param(("uvicorn-httptools", host), id=f"uvicorn-httptools-{host}") for host in HOSTS),
    *(
        pytest.param((name, "starlette"), id=f"{name}-starlette")
        for name in SERVERS
        if name not in {"uvicorn-httptools", "hypercorn-h2c"}
    ),
]


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with placed() as place:
        yield place


@pytest.fixture(scope="module", params=PAIRS)
def server(request: pytest.FixtureRequest, place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    name, host = request.param
    log = tmp_path_factory.mktemp("server") / "log"
    with serving(SERVERS[name], place.tables, log, host=host) as server:
        yield server


@pytest.mark.parametrize("phase", PHASES, ids=str)
def test_a_caller_that_leaves_ends_the_handlers_call(server: Server, place: Place, phase: Phase) -> None:
    """Whole answers as well as streams, in every phase of the handler's own call; every gauge goes back."""
    for _ in range(3):
        left_in(place, server, phase, "close")
        server.rests()
    assert is_served_well(server, stream=phase.stream)
    server.rests()
