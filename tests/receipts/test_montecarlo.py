"""The script that holds analytic intervals beside sampled ones, with few draws: it runs, and is not far off."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from vetted_mw.receipts.receipt import Receipt

montecarlo = pytest.importorskip("bench.montecarlo", reason="the benchmarks are not part of a source distribution")
RECEIPTS: dict[str, Receipt] = dict(montecarlo.receipts())


@pytest.mark.parametrize("name", RECEIPTS)
def test_few_draws_come_near_the_analytic_interval(name: str) -> None:
    """Bounds and medians of 3,000 draws are within a fifth of the receipt's; `scripts/montecarlo` holds them closer."""
    for figure, ratios in montecarlo.compared(RECEIPTS[name], 3_000, 20261122).items():
        assert ratios == pytest.approx((1.0, 1.0, 1.0), abs=0.2), figure


def test_the_script_prints_a_row_for_each_figure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each receipt has a row for energy, carbon and water, and the last line tells the farthest."""
    monkeypatch.setattr("sys.argv", ["montecarlo", "--draws", "400"])
    montecarlo.main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 3 * len(RECEIPTS) + 1
    assert lines[-1].startswith("farthest from 1: ")
