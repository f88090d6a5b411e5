"""The board as facts: one row per source and kind of a zone, with the reason beside it, and how each source fares."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from grid.samples import NOW, ScriptedSource, signal
from vetted_mw.grid.absence import Cause, NoSignal, NoSignalReason
from vetted_mw.grid.board import SignalBoard
from vetted_mw.grid.report import source_facts, zone_facts
from vetted_mw.grid.signal import SignalKind
from vetted_mw.testing import ManualClock

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vetted_mw.grid.source import SignalSource

pytestmark = pytest.mark.anyio

MEMBERS = {
    *("zone", "name", "source", "area", "signal_kind", "gco2_per_kwh", "interval_start", "observed_at", "fetched_at"),
    *("resolution_minutes", "estimated", "max_age_minutes", "method", "factor_set", "proxy_share", "max_proxy_share"),
    *("mix", "raw_ref", "requested_at", "age_minutes", "temporal_match", "live_eligible", "ineligible_reason"),
    *("of_zone", "no_signal"),
}
LABEL = "entsoe_derived_live"


def no(zone: str = "FR", reason: NoSignalReason = NoSignalReason.OUTAGE, **members: Any) -> Any:
    return NoSignal(**({"source": LABEL, "zone": zone, "reason": reason} | members))


async def asked(*sources: SignalSource, chains: Mapping[str, tuple[str, ...]] | None = None) -> SignalBoard:
    """Return a board that has asked each source once at `NOW`."""
    board = SignalBoard(sources, chains=chains or {}, now=lambda: NOW)
    await board.refresh_all()
    return board


async def test_every_row_has_every_member_and_is_ready_for_json() -> None:
    """A value with a reason, a value, a forecast, a reason alone: one shape, nothing to be looked for first."""
    rich = signal(20.0, resolution_minutes=15, proxy_share=0.1, raw_ref="0" * 64, mix=(("B14", 40_000.0),))
    board = await asked(
        ScriptedSource([rich, signal(18.0, kind=SignalKind.FORECAST, source="forecast")], name="first"),
        ScriptedSource([no(status=503)], name="second"),
    )
    rows = zone_facts(board, "FR", NOW)
    assert [set(row) for row in rows] == [MEMBERS] * 3
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows


async def test_a_row_tells_the_reading_with_the_name_of_its_source() -> None:
    """Zone, name and label, the interval, its age at the instant of asking, and the verdict."""
    first = signal(20.0, age=10, resolution_minutes=15)
    (row,) = zone_facts(await asked(ScriptedSource([first], name="entsoe")), "FR", NOW + timedelta(minutes=5))
    told = {name: row[name] for name in ("zone", "name", "source", "gco2_per_kwh", "age_minutes", "temporal_match")}
    assert told == {
        "zone": "FR",
        "name": "entsoe",
        "source": LABEL,
        "gco2_per_kwh": 20.0,
        "age_minutes": 15.0,
        "temporal_match": "live_window",
    }
    assert (row["interval_start"], row["observed_at"]) == ("2026-11-22T10:06:07Z", "2026-11-22T10:21:07Z")
    assert (row["live_eligible"], row["ineligible_reason"], row["no_signal"]) == (True, None, None)


async def test_one_value_at_most_is_the_zones_own() -> None:
    """The first of the chain that may decide, and none where none may; the label says nothing of it."""
    stale = ScriptedSource([signal(1.0, age=999)], name="stale")
    first, second = ScriptedSource([signal(30.0)], name="first"), ScriptedSource([signal(20.0)], name="second")
    board = await asked(second, first, stale, chains={"FR": ("stale", "first", "second")})
    told = [(row["name"], row["live_eligible"], row["of_zone"]) for row in zone_facts(board, "FR", NOW)]
    assert told == [("stale", False, False), ("first", True, True), ("second", True, False)]
    later = zone_facts(board, "FR", NOW + timedelta(days=1))
    assert not any(row["of_zone"] or row["live_eligible"] for row in later)


async def test_a_source_that_gave_nothing_stands_in_its_place_with_its_reason() -> None:
    """In the chain's order between those with a value; every member of a value is null."""
    cut = no(reason=NoSignalReason.UNREACHABLE, cause=Cause.CUT, status=None)
    board = await asked(
        ScriptedSource([signal(20.0)], name="first"),
        ScriptedSource([cut], name="second"),
        ScriptedSource([signal(30.0)], name="third"),
    )
    rows = zone_facts(board, "FR", NOW)
    assert [row["name"] for row in rows] == ["first", "second", "third"]
    told = {name: value for name, value in rows[1].items() if value is not None}
    assert told == {
        "zone": "FR",
        "name": "second",
        "source": LABEL,
        "live_eligible": False,
        "of_zone": False,
        "no_signal": {"reason": "unreachable", "cause": "cut", "status": None, "since": "2026-11-22T10:31:07Z"},
    }


async def test_a_reason_stands_beside_the_value_it_is_about() -> None:
    """By source and label: of two sources with one label, and of two labels of one source, each has its own."""
    forecast = signal(18.0, kind=SignalKind.FORECAST, source="forecast")
    board = SignalBoard(
        [
            ScriptedSource([signal(20.0), forecast], [no(status=404)], name="first"),
            ScriptedSource([signal(30.0)], name="second"),
        ],
        chains={},
        now=lambda: NOW,
    )
    for _ in range(2):
        await board.refresh_all()
    rows = zone_facts(board, "FR", NOW)
    assert [(row["name"], row["gco2_per_kwh"], row["no_signal"] is not None) for row in rows] == [
        ("first", 20.0, True),
        ("first", 18.0, False),
        ("second", 30.0, False),
    ]
    assert rows[0]["no_signal"] == {
        "reason": "outage",
        "cause": None,
        "status": 404,
        "since": "2026-11-22T10:31:07Z",
    }


@pytest.mark.parametrize(
    ("then", "reason"),
    [
        (signal(30.0, age=60), "outdated"),
        (signal(30.0, age=-60), "future_dated"),
        (signal(30.0, age=0, estimated=True), "estimated"),
    ],
    ids=["older", "ahead", "an estimate"],
)
async def test_an_answer_that_was_not_taken_is_shown_beside_the_value_that_stayed(then: Any, reason: str) -> None:
    """Nobody has to wonder why a service that answers shows an old value."""
    clock = ManualClock(NOW)
    source = ScriptedSource([signal(20.0, age=30)], [then])
    board = SignalBoard([source], chains={}, now=clock.now)
    await board.refresh("scripted")
    clock.tick(60)
    await board.refresh("scripted")
    (row,) = zone_facts(board, "FR", clock.now())
    assert (row["gco2_per_kwh"], row["of_zone"]) == (20.0, True)
    assert row["no_signal"] == {"reason": reason, "cause": None, "status": None, "since": "2026-11-22T10:32:07Z"}
    assert source_facts(board)[0]["state"] == "answering"


async def test_who_was_not_asked_for_a_zone_has_no_row_there() -> None:
    """Nor one outside the zone's chain; an unknown zone has none at all."""
    board = await asked(
        ScriptedSource([signal(20.0)], name="first"),
        ScriptedSource([signal(30.0), no("SE_3")], name="other"),
        chains={"FR": ("first",)},
    )
    assert [row["name"] for row in zone_facts(board, "FR", NOW)] == ["first"]
    assert [row["name"] for row in zone_facts(board, "SE_3", NOW)] == ["other"]
    assert zone_facts(board, "IS", NOW) == []


async def test_a_source_that_has_not_answered_yet_is_being_asked() -> None:
    """Until its first answer; asked once more it is told by the last one."""
    entered, answer = asyncio.Event(), asyncio.Event()

    class Slow(ScriptedSource):
        async def readings(self) -> Any:
            entered.set()
            await answer.wait()
            return await super().readings()

    board = SignalBoard([Slow([signal(20.0)])], chains={}, now=lambda: NOW)
    told = [source_facts(board)[0]["state"]]
    async with asyncio.timeout(20):
        for _ in range(2):
            asking = asyncio.ensure_future(board.refresh("scripted"))
            await entered.wait()
            told.append(source_facts(board)[0]["state"])
            answer.set()
            await asking
            told.append(source_facts(board)[0]["state"])
            entered.clear()
            answer.clear()
    assert told == ["not_asked", "asking", "answering", "answering", "answering"]


async def test_each_source_is_told_by_how_it_fares() -> None:
    """Answering, failing with its breaker, not asked: in the order of the default chain, ready for JSON."""
    idle = ScriptedSource([], name="idle")
    idle.is_idle = True  # type: ignore[attr-defined]
    board = SignalBoard(
        [
            ScriptedSource([signal(20.0)], name="well"),
            ScriptedSource([no(retry_after_seconds=30.0)], name="down"),
            ScriptedSource(OSError("with a key in it"), name="broken"),
            idle,
        ],
        chains={},
        now=lambda: NOW,
    )
    for _ in range(3):
        await board.refresh("down")
    await board.refresh_all()
    facts = source_facts(board)
    names = ("source", "state", "breaker", "error", "failures", "retry_after_seconds")
    assert [tuple(one[name] for name in names) for one in facts] == [
        ("well", "answering", "closed", None, 0, None),
        ("down", "failing", "open", "outage", 4, 30.0),
        ("broken", "failing", "closed", "OSError", 1, None),
        ("idle", "not_asked", "closed", None, 0, None),
    ]
    assert [(one["succeeded_at"], one["failed_at"]) for one in facts] == [
        ("2026-11-22T10:31:07Z", None),
        (None, "2026-11-22T10:31:07Z"),
        (None, "2026-11-22T10:31:07Z"),
        (None, None),
    ]
    assert json.loads(json.dumps(facts)) == facts
