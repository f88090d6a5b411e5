"""What the tests of the dashboards share: gateways under load, watched by a real Prometheus, started once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dashboards.prometheus import require_prometheus
from dashboards.watching import Watch, watching

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")  # one module uses it; until the session ends it would take its share of the machine
def watch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watch]:
    """Run everything; without Prometheus the tests that need it are skipped, in CI they fail."""
    require_prometheus()
    with watching(tmp_path_factory.mktemp("watch")) as world:
        yield world
