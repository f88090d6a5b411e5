"""A line for what changes between two looks at the board, and none for what does not."""

from __future__ import annotations

from typing import Any

import pytest

from grid.samples import NOW, ScriptedSource, signal
from vetted_mw.cli.signal_table import changes
from vetted_mw.grid.absence import NoSignal, NoSignalReason
from vetted_mw.grid.board import SignalBoard
from vetted_mw.grid.report import source_facts, zone_facts
from vetted_mw.grid.signal import SignalKind

pytestmark = pytest.mark.anyio

MEASURED = signal(20.0, source="file")
FORECAST = signal(30.0, source="file", kind=SignalKind.FORECAST)
NOTHING: Any = NoSignal(source="file", zone="FR", reason=NoSignalReason.NO_DATA)
VALUE_LINE = "FR file: 20 gCO2e/kWh, may decide: yes"
FORECAST_LINE = "FR file: 30 gCO2e/kWh, may decide: no: not_measured"
NOTHING_LINE = "FR file: no value, may decide: no: no_data since 2026-11-22 10:31:07"


def facts(board: SignalBoard) -> dict[str, Any]:
    return {
        "zones": {"FR": zone_facts(board, "FR", NOW)},
        "sources": source_facts(board),
        "competing": {"method": None, "zones": [], "method_mismatch": []},
        "silent": {},
    }


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([MEASURED, FORECAST], [MEASURED, FORECAST], []),
        ([MEASURED], [MEASURED, FORECAST], [FORECAST_LINE]),
        ([MEASURED, FORECAST], [MEASURED], ["FR file (forecast): gone"]),
        ([MEASURED, FORECAST], [FORECAST], ["FR file: gone"]),
        ([MEASURED, FORECAST], [], ["FR file: gone", "FR file (forecast): gone"]),
        ([NOTHING], [MEASURED], [VALUE_LINE]),
        ([MEASURED], [NOTHING], [NOTHING_LINE]),
        (
            [NOTHING],
            [signal(20.0, source="other")],
            ["FR other: 20 gCO2e/kWh, may decide: yes", "FR file: gone"],
        ),
    ],
    ids=["both stay", "one more", "no forecast", "only that", "none", "a value at last", "taken back", "another label"],
)
async def test_each_value_has_its_own_line_and_what_is_gone_has_one(
    before: list[Any], after: list[Any], expected: list[str]
) -> None:
    """A measured and a forecast value of one zone and label are two, and a row that is no more is said to be gone."""
    board = SignalBoard([ScriptedSource(before, after, after, complete=True)], chains={}, now=lambda: NOW)
    told = []
    for _ in range(3):
        await board.refresh_all()
        told.append(facts(board))
    assert list(changes(told[0], told[1])) == expected
    assert list(changes(told[1], told[2])) == []


async def test_a_label_of_two_sources_is_two_rows() -> None:
    """What one of them says anew is not taken for the other's, and one that falls away is not hidden by the other."""
    first = ScriptedSource([MEASURED], [], [], name="first", complete=True)
    board = SignalBoard([first, ScriptedSource([MEASURED], name="second")], chains={}, now=lambda: NOW)
    told = []
    for _ in range(3):
        await board.refresh_all()
        told.append(facts(board))
    assert list(changes(told[0], told[1])) == [VALUE_LINE, "FR file: gone"]
    assert list(changes(told[1], told[2])) == []
