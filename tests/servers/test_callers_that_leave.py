"""The caller leaves a real server, in every phase: the upstream hears it, all is given back, the next request is served."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from servers.phases import PHASES, is_served_well, left_in, placed
from servers.processes import SERVERS, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servers.leaving import How
    from servers.phases import Phase, Place
    from servers.processes import Server

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with placed() as place:
        yield place


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp(request.param) / "log"
    with serving(SERVERS[request.param], place.tables, log) as server:
        yield server


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("phase", PHASES, ids=str)
def test_a_caller_that_leaves_frees_the_upstream_and_everything_else(
    server: Server, place: Place, phase: Phase, how: How
) -> None:
    """Once more than the region has slots: its upstream's connection closes, every gauge goes back, the next is served."""
    for _ in range(3):
        left_in(place, server, phase, how)
        server.rests()
    assert is_served_well(server, stream=phase.stream)
    server.rests()


@pytest.mark.parametrize("server", [name for name, kind in SERVERS.items() if kind.http2], indirect=True)
@pytest.mark.parametrize("phase", PHASES, ids=str)
def test_a_stream_of_http_2_that_is_reset_counts_as_a_caller_that_left(
    server: Server, place: Place, phase: Phase
) -> None:
    """Its connection stays open for other streams; what this one used is given back all the same."""
    for _ in range(3):
        left_in(place, server, phase, "stream")
        server.rests()
    assert is_served_well(server, stream=phase.stream)
    server.rests()


@pytest.mark.parametrize("phase", [one for one in PHASES if str(one) in {"first_byte-json", "mid-stream-sse"}], ids=str)
def test_a_caller_that_closes_its_sending_side_counts_as_one_that_left(
    server: Server, place: Place, phase: Phase
) -> None:
    """So says every one of these servers: a client that waits for an answer keeps its connection open both ways."""
    left_in(place, server, phase, "half")
    server.rests()
