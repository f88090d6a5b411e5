"""A place for a ledger, and a clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ledger.breaking import Ticks

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def ticks() -> Ticks:
    return Ticks()
