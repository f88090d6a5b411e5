"""Real servers, started once: a tiny model, two llama.cpp servers as two regions, and the gateway before them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NoReturn

import pytest

from real.processes import GatewayProcess, LlamaServer
from real.talk import Grid, World
from support import unused_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the model file; without llama.cpp the tests that need it are skipped, in CI they fail."""
    try:
        import xllamacpp  # noqa: F401

        from real.tiny_model import write_tiny_model
    except ImportError as error:
        _do_without(f"llama.cpp cannot be run here: {error}")
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    write_tiny_model(path)
    return path


def _do_without(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def paris(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaServer]:
    """Run the server of `scaleway-par-1`."""
    with LlamaServer(tiny_model, tmp_path_factory.mktemp("paris") / "server.log") as server:
        yield server


@pytest.fixture(scope="session")
def stockholm(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaServer]:
    """Run the server of `atnorth-sto-1`."""
    with LlamaServer(tiny_model, tmp_path_factory.mktemp("stockholm") / "server.log") as server:
        yield server


@pytest.fixture(scope="session")
def world(paris: LlamaServer, stockholm: LlamaServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Run the gateway before both servers; a third region's server is not running."""
    folder = tmp_path_factory.mktemp("gateway")
    grid = Grid(folder / "signals.toml")
    grid.write({"FR": 60.0, "SE_3": 30.0})
    regions = {
        "scaleway-par-1": paris.base_url,
        "atnorth-sto-1": stockholm.base_url,
        "ovh-gra-1": f"http://127.0.0.1:{unused_port()}/v1",
    }
    settings = grid.settings(folder / "vetted.toml", regions, order=["scaleway-par-1", "atnorth-sto-1"])
    with GatewayProcess(settings, folder / "gateway.log") as gateway:
        yield World(gateway=gateway, grid=grid, servers={"scaleway-par-1": paris, "atnorth-sto-1": stockholm})
