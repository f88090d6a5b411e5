"""A gateway of two workers on one ledger, killed under load: the small run of `scripts/killing`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from soak.killing import killed_rounds

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


async def test_no_receipt_that_a_caller_holds_is_lost_by_kill_9(tmp_path: Path) -> None:
    """Whatever instant it is killed at, what a caller got verifies and is in the ledger; a row taken out is named."""
    judged = await killed_rounds(tmp_path, rounds=2, seed=7)
    assert judged.verify[0] == 0, judged.verify[1]
    assert (judged.lost, judged.unverified, judged.unnamed) == ([], [], [])
    assert len(judged.held) >= 100
    assert judged.taken_out >= 3
    assert judged.is_well
