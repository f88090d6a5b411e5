"""What every request pays for in our own code costs no more than it is meant to, counted in instructions.

Nothing here looks at a clock: the counts are the same on a busy machine.
"""

from __future__ import annotations

import os

import pytest

from counted.counting import TOLERANCE, budget, count, interpreter, why_not_countable
from counted.pieces import COUNTED

_MISSING = why_not_countable()
_IS_CI = os.environ.get("CI") == "true"

pytestmark = [
    pytest.mark.skipif(_MISSING is not None and not _IS_CI, reason=f"{_MISSING}; CI has it"),
    pytest.mark.timeout(900),
]


@pytest.fixture(scope="module")
def counts() -> dict[str, float]:
    """What was counted, once for all tests."""
    assert _MISSING is None, _MISSING
    return count()


@pytest.mark.parametrize("name", COUNTED)
def test_a_piece_costs_no_more_than_its_budget(name: str, counts: dict[str, float]) -> None:
    """A change that makes a parser, a decision, a receipt or a trace dearer is made on purpose or not at all."""
    allowed, cost = budget().get(name), counts[name]
    if allowed is None:
        assert not budget(), f"{name} has no budget: scripts/counted --set gives it one"
        pytest.skip(f"{interpreter()} has no budget; the growth below is looked at all the same")
    assert cost <= allowed * TOLERANCE, (
        f"{name} costs {cost:,.0f} instructions; its budget is {allowed:,}, and {TOLERANCE} times that is the most. "
        "Make it cheaper, or move the budget on purpose: scripts/counted --set"
    )


def test_every_budget_is_of_a_piece() -> None:
    """A piece that is renamed takes its budget with it."""
    assert [name for name in budget() if name not in COUNTED] == []


@pytest.mark.parametrize(
    ("small", "large", "most"),
    [
        ("request 1 KB", "request 32 KB", 40),
        ("answer 1 KB", "answer 32 KB", 40),
        ("stream 20 chunks", "stream 200 chunks", 12),
        ("decision 8 regions", "decision 1000 regions", 1.2),
        ("carbon-aware decision 8 regions", "carbon-aware decision 1000 regions", 1.2),
        ("new plan 8 regions", "new plan 100 regions", 15),
    ],
)
def test_cost_grows_no_faster_than_what_there_is_to_do(
    small: str, large: str, most: float, counts: dict[str, float]
) -> None:
    """32 times the text costs at most 40 times as much; a decision that was made before costs the same over any fleet."""
    assert counts[large] <= most * counts[small], f"{counts[large]:,.0f} for {large}, {counts[small]:,.0f} for {small}"
