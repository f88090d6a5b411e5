"""What every test shares."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from coverage import Coverage

if TYPE_CHECKING:
    from collections.abc import Iterator

UNCOUNTED = frozenset({"counted", "differential", "faults", "soaking"})
"""Folders that run the same lines thousands of times for what comes of them. Which lines are tested the others tell;
counting these too would more than double what they take."""


@pytest.fixture
def anyio_backend() -> str:
    """Run async tests on asyncio, the loop of every server we support."""
    return "asyncio"


class CoverageWhereItDecides:
    """Stops the coverage of this process during the tests of `UNCOUNTED`."""

    def __init__(self) -> None:
        self._stopped: Coverage | None = None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Look where the test is."""
        if item.path.parent.name in UNCOUNTED:
            self._stop()
        else:
            self._go_on()
        return (yield)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """Leave it to its owner as it was."""
        self._go_on()

    def _stop(self) -> None:
        running = Coverage.current()
        if running is not None:
            running.stop()
            self._stopped = running

    def _go_on(self) -> None:
        if self._stopped is not None:
            self._stopped.start()
            self._stopped = None


def pytest_configure(config: pytest.Config) -> None:
    """Begin."""
    config.pluginmanager.register(CoverageWhereItDecides())
