"""What the tests of our own client share."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Each on both event loops: they end, reset and pause connections in ways of their own."""
    return "asyncio", {"use_uvloop": request.param == "uvloop"}
