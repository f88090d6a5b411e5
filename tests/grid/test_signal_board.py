"""The board: the latest signal of each zone, ageing, whatever happens to its sources."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from grid.samples import DIRECT, LIFECYCLE, NOW, ScriptedSource, signal
from vetted_mw.errors import ConfigurationError
from vetted_mw.grid.absence import NoSignal, NoSignalReason
from vetted_mw.grid.board import SignalBoard
from vetted_mw.grid.signal import DECLARED, GridSignal, Method, SignalKind
from vetted_mw.grid.source import SourceState
from vetted_mw.testing import ManualClock, StaticSignals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vetted_mw.grid.source import SignalSource

pytestmark = pytest.mark.anyio

PATIENCE = 20


@pytest.fixture
def clock() -> ManualClock:
    """A wall clock that stands at `NOW` until told otherwise."""
    return ManualClock(NOW)


def board_of(
    clock: ManualClock, *sources: SignalSource, chains: Mapping[str, tuple[str, ...]] | None = None
) -> SignalBoard:
    return SignalBoard(sources, chains=chains or {}, now=clock.now)


def value(board: SignalBoard, zone: str, clock: ManualClock) -> float | None:
    seen = board.best(zone, clock.now())
    return None if seen is None else seen.signal.gco2_per_kwh


def logged(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "vetted_mw"]


# ---- ageing, never a new stamp


async def test_a_signal_ages_on_the_board(clock: ManualClock) -> None:
    """Without any refresh the same value grows old, from live over fresh to stale."""
    board = board_of(clock, ScriptedSource([signal(21.0, age=10)]))
    await board.refresh("scripted")
    told = []
    for _ in range(4):
        seen = board.best("FR", clock.now())
        assert seen is not None
        told.append((seen.age_minutes, seen.temporal_match.value, seen.live_eligible))
        clock.tick(60 * 60)
    assert told == [
        (10.0, "live_window", True),
        (70.0, "fresh", True),
        (130.0, "fresh", True),
        (190.0, "stale", False),
    ]


@pytest.mark.parametrize("line", [OSError("down"), TimeoutError(), []], ids=["error", "timeout", "no data"])
async def test_a_refresh_that_brings_nothing_leaves_the_old_signal_ageing(clock: ManualClock, line: Any) -> None:
    """An error, a timeout or an empty answer neither removes a value nor makes it any younger."""
    board = board_of(clock, ScriptedSource([signal(21.0, age=10)], line))
    await board.refresh("scripted")
    clock.tick(45 * 60)
    await board.refresh("scripted")
    seen = board.best("FR", clock.now())
    assert seen is not None
    assert (seen.signal, seen.age_minutes) == (signal(21.0, age=10), 55.0)


async def test_the_same_value_fetched_again_is_no_younger(clock: ManualClock) -> None:
    """A frozen feed shows: its interval's end counts, not when it was fetched."""
    board = board_of(clock, ScriptedSource([signal(21.0)], [signal(21.0, fetched_at=NOW + timedelta(hours=2))]))
    await board.refresh("scripted")
    clock.tick(2 * 60 * 60)
    await board.refresh("scripted")
    seen = board.best("FR", clock.now())
    assert seen is not None
    assert seen.age_minutes == 120.0


@pytest.mark.parametrize(
    ("complete", "expected"),
    [(False, {"FR": 20.0, "SE_3": 12.0, "IS": 18.0}), (True, {"FR": 30.0, "SE_3": None, "IS": 18.0})],
)
async def test_a_complete_answer_replaces_all_and_a_partial_one_only_what_is_newer(
    clock: ManualClock, complete: bool, expected: dict[str, float | None]
) -> None:
    """A source that tells all it knows takes back what is missing, and may correct; another only ever adds the newer."""
    first = [signal(20.0, age=10), signal(12.0, zone="SE_3")]
    then = [signal(30.0, age=25), signal(18.0, zone="IS")]
    board = board_of(clock, ScriptedSource(first, then, complete=complete))
    await board.refresh("scripted")
    await board.refresh("scripted")
    assert {zone: value(board, zone, clock) for zone in expected} == expected


async def test_a_complete_source_that_knows_nothing_any_more_is_believed(clock: ManualClock) -> None:
    """An empty complete answer takes every reading of that source back, and of no other."""
    emptied = ScriptedSource([signal(20.0)], [], complete=True, name="emptied")
    other = ScriptedSource([signal(30.0), signal(12.0, zone="SE_3")], name="other")
    board = board_of(clock, emptied, other)
    for name in ("emptied", "other", "emptied"):
        await board.refresh(name)
    assert (value(board, "FR", clock), value(board, "SE_3", clock)) == (30.0, 12.0)


async def test_a_complete_source_that_fails_loses_nothing(clock: ManualClock) -> None:
    """Only an answer takes readings back; a failure is no answer."""
    board = board_of(clock, ScriptedSource([signal(20.0)], OSError(), complete=True))
    await board.refresh("scripted")
    await board.refresh("scripted")
    assert value(board, "FR", clock) == 20.0


@pytest.mark.parametrize("complete", [True, False])
async def test_of_several_values_in_one_answer_the_latest_counts(clock: ManualClock, complete: bool) -> None:
    """Whatever their order, the latest interval of a zone is its value; of equal instants the later said."""
    line = [signal(1.0, age=30), signal(2.0, age=10), signal(3.0, age=20), signal(4.0, age=10)]
    board = board_of(clock, ScriptedSource(line, complete=complete))
    await board.refresh("scripted")
    assert value(board, "FR", clock) == 4.0


@pytest.mark.parametrize(
    "bad", [signal(1.0, age=-600), signal(float("nan"), age=0), signal(-1.0, age=0)], ids=["ahead", "nan", "negative"]
)
@pytest.mark.parametrize("together", [True, False])
async def test_a_value_that_cannot_be_never_displaces_one_that_can(
    clock: ManualClock, bad: GridSignal, together: bool
) -> None:
    """A point dated hours ahead, or no number, neither hides the last good value nor blocks the next one."""
    good, next_good = signal(20.0, age=30), signal(25.0, age=-15, fetched_at=NOW + timedelta(minutes=20))
    lines = [[good, bad]] if together else [[good], [bad]]
    board = board_of(clock, ScriptedSource(*lines, [next_good]))
    for _ in lines:
        await board.refresh("scripted")
    assert value(board, "FR", clock) == 20.0
    clock.tick(20 * 60)
    await board.refresh("scripted")
    assert value(board, "FR", clock) == 25.0


async def test_a_value_that_cannot_be_makes_way_for_one_that_can(clock: ManualClock) -> None:
    """Where a future-dated point came first, an honest older one takes its place."""
    board = board_of(clock, ScriptedSource([signal(1.0, age=-600)], [signal(20.0, age=30)]))
    await board.refresh("scripted")
    assert value(board, "FR", clock) == 1.0
    await board.refresh("scripted")
    assert value(board, "FR", clock) == 20.0


@pytest.mark.parametrize(
    ("then", "value_then", "reason"),
    [
        (signal(30.0, age=20), 30.0, None),
        (signal(30.0, age=30), 30.0, None),
        (signal(30.0, age=31), 20.0, "outdated"),
        (signal(30.0, age=500), 20.0, "outdated"),
        (signal(30.0, age=-60), 20.0, "future_dated"),
        (signal(30.0, age=-60, estimated=True), 20.0, "future_dated"),
        (signal(30.0, age=0, estimated=True), 20.0, "estimated"),
        (signal(30.0, age=30, estimated=True), 20.0, "estimated"),
        (signal(30.0, age=20, proxy_share=0.9), 30.0, None),
        (signal(30.0, age=31, proxy_share=0.9), 20.0, "outdated"),
    ],
    ids=[
        *("newer", "of the same time", "older", "much older", "ahead", "an estimate ahead"),
        *("a newer estimate", "an estimate of the same time", "stand-ins", "older stand-ins"),
    ],
)
async def test_an_answer_no_better_than_what_is_known_is_told_as_an_absence(
    clock: ManualClock, then: GridSignal, value_then: float, reason: str | None
) -> None:
    """What is dropped is not dropped in silence, and is an answer all the same; the next better one ends it."""
    better = signal(40.0, age=-5)
    board = board_of(clock, ScriptedSource([signal(20.0, age=30)], [then], [then], [better]))
    await board.refresh("scripted")
    for _ in range(2):
        clock.tick(1)
        await board.refresh("scripted")
    assert value(board, "FR", clock) == value_then
    told = [(one.told.source, one.told.reason, one.since) for one in board.absences_for("FR")]
    assert told == ([] if reason is None else [("entsoe_derived_live", reason, NOW + timedelta(seconds=1))])
    assert (board.states()["scripted"].failures, board.states()["scripted"].succeeded_at) == (0, clock.now())
    await board.refresh("scripted")
    assert (value(board, "FR", clock), board.absences_for("FR")) == (40.0, ())


async def test_older_values_beside_the_latest_are_no_absence(clock: ManualClock) -> None:
    """A series in one answer brings something new."""
    board = board_of(clock, ScriptedSource([signal(1.0, age=30), signal(2.0, age=10), signal(3.0, age=-60)]))
    await board.refresh("scripted")
    assert (value(board, "FR", clock), board.absences_for("FR")) == (2.0, ())


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ([signal(30.0, age=0, estimated=True), signal(20.0, age=170)], 20.0),
        ([signal(20.0, age=999), signal(30.0, age=0, estimated=True)], 20.0),
        ([signal(30.0, age=0, estimated=True), signal(40.0, age=-60)], 30.0),
        ([signal(40.0, age=-60), signal(30.0, age=0, estimated=True)], 30.0),
        ([signal(30.0, age=0, proxy_share=0.9), signal(20.0, age=170)], 30.0),
    ],
    ids=["then measured", "then an estimate", "then ahead", "ahead first", "stand-ins"],
)
@pytest.mark.parametrize("together", [True, False])
async def test_an_estimate_stands_between_what_was_measured_and_what_cannot_be(
    clock: ManualClock, line: list[GridSignal], expected: float, together: bool
) -> None:
    """Whatever comes first: a measured value makes way for no estimate, an estimate for no value of the future."""
    lines = [line] if together else [[one] for one in line]
    board = board_of(clock, ScriptedSource(*lines))
    for _ in lines:
        await board.refresh("scripted")
    assert value(board, "FR", clock) == expected


@pytest.mark.parametrize(
    "members",
    [
        {"gco2_per_kwh": None},
        {"gco2_per_kwh": "12"},
        {"fetched_at": datetime(2026, 11, 22, 10, 30)},  # noqa: DTZ001 (what is tested)
        {"max_age_minutes": None},
        {"proxy_share": "0.1"},
        {"zone": ["FR"]},
    ],
    ids=["None", "text", "naive", "no limit", "share", "zones"],
)
@pytest.mark.parametrize("complete", [True, False])
async def test_an_answer_with_a_bad_value_costs_a_refresh_and_nothing_else(
    clock: ManualClock, members: dict[str, Any], complete: bool
) -> None:
    """All is judged before anything is kept, so that no request finds what nobody can judge."""
    given: dict[str, Any] = {"age": 0, "zone": "SE_3"} | members
    line = [signal(30.0, age=1), signal(**given)]
    board = board_of(clock, ScriptedSource([signal(20.0, age=30)], line, complete=complete))
    await board.refresh("scripted")
    await board.refresh("scripted")
    assert (value(board, "FR", clock), value(board, "SE_3", clock)) == (20.0, None)
    assert len(board.all_readings(clock.now())) == 1
    state = board.states()["scripted"]
    assert (state.failures, state.error, board.absences_for("SE_3")) == (1, "TypeError", ())


@pytest.mark.parametrize(
    ("members", "error"),
    [
        *(({name: 7}, "TypeError") for name in ("source", "zone", "area", "kind", "method", "estimated", "raw_ref")),
        *(({name: True}, "TypeError") for name in ("gco2_per_kwh", "max_age_minutes", "proxy_share")),
        ({"method": "declared"}, "TypeError"),
        ({"method": Method(factor_set=["ar5_v1"])}, "TypeError"),  # type: ignore[arg-type]
        ({"kind": "measured"}, "TypeError"),
        ({"resolution_minutes": "15"}, "TypeError"),
        ({"resolution_minutes": 10**12}, "OverflowError"),
        ({"mix": {"B14": 40_000.0}}, "TypeError"),
        ({"mix": (("B14", "40000"),)}, "TypeError"),
        ({"mix": ("B14",)}, "ValueError"),
        ({"mix": (("B14", float("nan")),)}, "ValueError"),
        ({"max_age_minutes": float("nan")}, "ValueError"),
        ({"max_age_minutes": float("inf")}, "ValueError"),
        ({"max_proxy_share": float("nan")}, "ValueError"),
        ({"gco2_per_kwh": 10**400}, "OverflowError"),
        ({"observed_at": datetime.max.replace(tzinfo=timezone(timedelta(hours=-1)))}, "OverflowError"),
    ],
)
async def test_a_member_that_is_none_costs_a_refresh_and_is_never_on_the_board(
    clock: ManualClock, members: dict[str, Any], error: str
) -> None:
    """Every member is looked at, also those that only a report or a receipt would fail over."""
    given: dict[str, Any] = {"zone": "SE_3"} | members
    board = board_of(clock, ScriptedSource([signal(30.0), signal(**given)]))
    await board.refresh("scripted")
    assert board.all_readings(clock.now()) == ()
    assert (board.states()["scripted"].failures, board.states()["scripted"].error) == (1, error)


@pytest.mark.parametrize(
    "members",
    [{"source": 7}, {"zone": ["FR"]}, {"reason": "no_data"}, {"cause": "tls"}, {"status": "404"}],
    ids=["label", "zone", "reason", "cause", "status"],
)
async def test_an_absence_with_a_member_that_is_none_costs_a_refresh(
    clock: ManualClock, members: dict[str, Any]
) -> None:
    """Nothing of the answer is kept, no signal beside it either."""
    absent: Any = NoSignal(**({"source": "own", "zone": "FR", "reason": NoSignalReason.NO_DATA} | members))
    board = board_of(clock, ScriptedSource([signal(20.0), absent]))
    await board.refresh("scripted")
    assert (board.all_readings(clock.now()), board.absences_for("FR")) == ((), ())
    assert (board.states()["scripted"].failures, board.states()["scripted"].error) == (1, "TypeError")


@pytest.mark.parametrize(
    ("gco2", "method", "reason"),
    [
        (float("nan"), DECLARED, "not_a_number"),
        (float("inf"), DECLARED, "not_a_number"),
        (-1.0, DIRECT, "not_a_number"),
        (0.0, DECLARED, "implausible"),
        (0.021, LIFECYCLE, "implausible"),
        (21_900.0, DIRECT, "implausible"),
        (0.0, DIRECT, None),
        (1.0, DECLARED, None),
        (3000, DECLARED, None),
    ],
)
async def test_a_value_no_grid_can_have_is_told_as_a_failure_and_not_kept(
    clock: ManualClock, gco2: float, method: Method, reason: str | None
) -> None:
    """Whoever's source it is: the last good value stays, and what came with it is kept."""
    then = signal(gco2, method=method)
    board = board_of(clock, ScriptedSource([signal(20.0, age=30)], [then, signal(12.0, zone="SE_3")], [then]))
    await board.refresh("scripted")
    await board.refresh("scripted")
    assert value(board, "SE_3", clock) == 12.0
    assert value(board, "FR", clock) == (gco2 if reason is None else 20.0)
    assert [one.told.reason for one in board.absences_for("FR")] == ([] if reason is None else [reason])
    await board.refresh("scripted")
    assert board.states()["scripted"].error == reason


NO_PAUSE = [float("nan"), float("inf"), 10**400, None, timedelta(seconds=5), -1, True, "5"]


@pytest.mark.parametrize(
    ("member", "seconds"),
    [
        *(("refresh_seconds", seconds) for seconds in [*NO_PAUSE, 0, 0.049]),
        *(("least_pause_seconds", seconds) for seconds in NO_PAUSE),
    ],
)
def test_a_pace_that_is_none_is_refused_at_start(clock: ManualClock, member: str, seconds: Any) -> None:
    """With it the source would never be asked again, or without a pause; the source is named, and what to do."""
    source = ScriptedSource([], name="our_meter")
    setattr(source, member, seconds)
    with pytest.raises(ConfigurationError, match="our_meter") as refused:
        board_of(clock, source)
    assert member in refused.value.remedy


def test_the_shortest_pace_is_good(clock: ManualClock) -> None:
    """A twentieth of a second, with no least pause."""
    source = ScriptedSource([], name="our_meter", refresh_seconds=0.05)
    source.least_pause_seconds = 0  # type: ignore[attr-defined]
    assert board_of(clock, source).states() == {"our_meter": SourceState()}


async def test_ever_new_zones_cannot_grow_the_board_without_bound(clock: ManualClock) -> None:
    """A source gone mad costs old readings, not memory."""
    lines = [[signal(1.0, zone=f"{batch}-{number}") for number in range(5000)] for batch in range(3)]
    board = board_of(clock, ScriptedSource(*lines))
    sizes = []
    for _ in lines:
        await board.refresh("scripted")
        sizes.append(len(board.all_readings(clock.now())))
    assert sizes[0] == sizes[1] == sizes[2] <= 5000


async def test_ever_new_zones_do_not_drive_out_those_that_are_looked_at(clock: ManualClock) -> None:
    """The zones of requests stay, whoever names others meanwhile; what nobody asks for goes first."""
    lines = [[signal(1.0, zone=f"{batch}-{number}") for number in range(1500)] for batch in range(4)]
    known = ScriptedSource([signal(20.0), signal(12.0, zone="SE_3")], name="known")
    board = board_of(clock, known, ScriptedSource(*lines, name="mad", complete=True))
    await board.refresh("known")
    for _ in lines:
        await board.refresh("mad")
        assert value(board, "FR", clock) == 20.0
    assert value(board, "SE_3", clock) is None


async def test_ever_new_labels_cannot_grow_the_board_without_bound(clock: ManualClock) -> None:
    """A label is a source's own word, so a zone keeps only the latest of them."""
    absences: list[Any] = [
        NoSignal(source=f"label-{number}", zone="FR", reason=NoSignalReason.NO_DATA) for number in range(2000)
    ]
    board = board_of(clock, ScriptedSource(absences))
    await board.refresh("scripted")
    labels = [one.told.source for one in board.absences_for("FR")]
    assert len(labels) < 500
    assert labels[-1] == "label-1999"


async def test_what_a_refresh_changes_is_seen_at_once_and_in_its_zone_only(clock: ManualClock) -> None:
    """A zone that was looked at before is not shown as it was then: not after a new value, nor one taken back."""
    source = ScriptedSource([signal(20.0), signal(12.0, zone="SE_3")], [signal(21.0), signal(12.0, zone="SE_3")], [])
    source.is_complete = True
    board = board_of(clock, source)
    seen = [(value(board, "FR", clock), value(board, "SE_3", clock))]
    for _ in range(3):
        await board.refresh("scripted")
        seen.append((value(board, "FR", clock), value(board, "SE_3", clock)))
    assert seen == [(None, None), (20.0, 12.0), (21.0, 12.0), (None, None)]


async def test_each_reading_comes_with_the_name_of_its_source(clock: ManualClock) -> None:
    """Not its label, which several may share; in the chain's order, every kind."""
    first = ScriptedSource([signal(1.0), signal(2.0, kind=SignalKind.FORECAST)], name="first")
    second, other = ScriptedSource([signal(1.0)], name="second"), ScriptedSource([signal(4.0)], name="other")
    board = board_of(clock, other, first, second, chains={"FR": ("second", "first")})
    await board.refresh_all()
    rows = [(name, seen.signal.gco2_per_kwh, seen.read_at) for name, seen in board.rows_for("FR", NOW)]
    assert rows == [("second", 1.0, NOW), ("first", 1.0, NOW), ("first", 2.0, NOW)]
    assert board.rows_for("SE_3", NOW) == ()


# ---- which one is best


async def test_a_chain_gives_its_first_live_eligible_source(clock: ManualClock) -> None:
    """The named order decides, not the value and not the age; what is stale is passed over."""
    stale = ScriptedSource([signal(1.0, age=999)], name="stale")
    first = ScriptedSource([signal(30.0, age=60)], name="first")
    second = ScriptedSource([signal(20.0, age=1)], name="second")
    board = board_of(clock, second, first, stale, chains={"FR": ("stale", "first", "second")})
    for name in ("stale", "first", "second"):
        await board.refresh(name)
    assert value(board, "FR", clock) == 30.0
    clock.tick(125 * 60)  # the first one's value is over its limit now
    assert value(board, "FR", clock) == 20.0


async def test_a_source_outside_a_zones_chain_is_not_asked_for_it(clock: ManualClock) -> None:
    """A chain is closed: others may know the zone, but they do not decide it."""
    known = ScriptedSource([signal(20.0), signal(12.0, zone="SE_3")])
    board = board_of(clock, known, ScriptedSource([], name="silent"), chains={"FR": ("silent",)})
    await board.refresh("scripted")
    assert value(board, "FR", clock) is None
    assert value(board, "SE_3", clock) == 12.0


def test_a_chain_that_names_no_source_is_refused_at_start(clock: ManualClock) -> None:
    """A typo in a chain would leave its zone without a signal for ever, in silence."""
    with pytest.raises(ConfigurationError) as refused:
        board_of(clock, ScriptedSource([], name="file"), chains={"FR": ("flie",)})
    assert refused.value.field == "signals.chains.FR"
    assert "file" in refused.value.remedy


async def test_a_zone_without_a_chain_takes_every_source_in_order(clock: ManualClock) -> None:
    """The order sources are configured in is the order of preference."""
    board = board_of(clock, ScriptedSource([signal(30.0)], name="a"), ScriptedSource([signal(20.0)], name="b"))
    await board.refresh("b")
    assert value(board, "FR", clock) == 20.0
    await board.refresh("a")
    assert value(board, "FR", clock) == 30.0


async def test_a_zone_nobody_maps_has_no_signal(clock: ManualClock) -> None:
    """Unknown is none, never a neighbour's value."""
    board = board_of(clock, ScriptedSource([signal(30.0, zone="SE_3")]))
    await board.refresh("scripted")
    assert value(board, "SE_4", clock) is None
    assert value(board, "SE", clock) is None


async def test_a_forecast_stands_beside_a_measured_value_and_never_before_it(clock: ManualClock) -> None:
    """Both are kept; the measured one is best while it is live and also when it is stale."""
    forecast = signal(1.0, age=-120, kind=SignalKind.FORECAST)
    board = board_of(clock, ScriptedSource([signal(20.0, age=10), forecast]))
    await board.refresh("scripted")
    assert {seen.signal.gco2_per_kwh for seen in board.all_readings(clock.now())} == {20.0, 1.0}
    assert value(board, "FR", clock) == 20.0
    clock.tick(24 * 60 * 60)
    assert value(board, "FR", clock) == 20.0


async def test_without_a_live_value_the_most_telling_one_is_shown(clock: ManualClock) -> None:
    """Of stale ones the youngest, before any forecast or annual figure; it is shown and cannot decide."""
    board = board_of(
        clock,
        ScriptedSource([signal(1.0, kind=SignalKind.FORECAST), signal(2.0, kind=SignalKind.FALLBACK)], name="plans"),
        ScriptedSource([signal(30.0, age=500)], name="old"),
        ScriptedSource([signal(40.0, age=400)], name="younger"),
    )
    for name in ("plans", "old", "younger"):
        await board.refresh(name)
    seen = board.best("FR", clock.now())
    assert seen is not None
    assert (seen.signal.gco2_per_kwh, seen.live_eligible) == (40.0, False)
    assert {r.signal.gco2_per_kwh for r in board.all_readings(clock.now())} == {1.0, 2.0, 30.0, 40.0}


@pytest.mark.parametrize(
    "bad",
    [signal(1.0, age=-600), signal(1.0, age=-600, estimated=True)],
    ids=["ahead", "an estimate ahead"],
)
@pytest.mark.parametrize("hours", [0, 9, 12, 1000])
async def test_a_value_that_cannot_be_is_never_the_most_telling(
    clock: ManualClock, bad: GridSignal, hours: int
) -> None:
    """However old the last measured value of another source is, it says more, also when the other's time has come."""
    impossible = ScriptedSource([bad], name="impossible")
    board = board_of(clock, impossible, ScriptedSource([signal(20.0, age=999)], name="old"))
    await board.refresh("impossible")
    alone = board.best("FR", clock.now())
    assert alone is not None
    assert alone.signal is bad
    await board.refresh("old")
    clock.tick(hours * 3600)
    seen = board.best("FR", clock.now())
    assert seen is not None
    assert (seen.signal.gco2_per_kwh, seen.ineligible) == (20.0, "stale")


async def test_a_zone_of_which_only_a_forecast_is_known_shows_it(clock: ManualClock) -> None:
    """Shown only: it is not live-eligible."""
    board = board_of(clock, ScriptedSource([signal(1.0, kind=SignalKind.FORECAST)]))
    await board.refresh("scripted")
    seen = board.best("FR", clock.now())
    assert seen is not None
    assert not seen.live_eligible


# ---- how sources fare


async def test_a_failing_source_is_noted_once_and_by_its_type_only(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """One log line for an outage, with the source's name and the error's type; its text could hold a token."""
    secret = "https://grid.example/api?securityToken=hunter2"
    source = ScriptedSource(OSError(secret), OSError(secret), OSError(secret))
    board = board_of(clock, source)
    for _ in range(3):
        await board.refresh("scripted")
        clock.tick(600)
    (record,) = logged(caplog)
    assert (record.levelno, record.__dict__["source"], record.__dict__["error"]) == (
        logging.WARNING,
        "scripted",
        "OSError",
    )
    assert "hunter2" not in str(record.__dict__)
    assert "hunter2" not in repr(board.states())
    assert board.states()["scripted"] == SourceState(
        succeeded_at=None, failed_at=NOW + timedelta(seconds=1200), error="OSError", failures=3
    )


async def test_another_failure_or_a_new_outage_is_noted_anew(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A change of kind is news, and so is a failure after an answer."""
    caplog.set_level(logging.WARNING, logger="vetted_mw")
    line = [signal(20.0)]
    board = board_of(clock, ScriptedSource(OSError(), ValueError(), ValueError(), line, ValueError()))
    for _ in range(5):
        await board.refresh("scripted")
    assert [record.__dict__["error"] for record in logged(caplog)] == ["OSError", "ValueError", "ValueError"]


async def test_an_answer_ends_an_outage(clock: ManualClock) -> None:
    """After an answer the count of failures starts at zero, and the time of the answer is known."""
    board = board_of(clock, ScriptedSource(OSError(), []))
    assert board.states()["scripted"] == SourceState()
    await board.refresh("scripted")
    clock.tick(60)
    await board.refresh("scripted")
    state = board.states()["scripted"]
    assert (state.succeeded_at, state.error, state.failures) == (NOW + timedelta(seconds=60), None, 0)


@pytest.mark.parametrize("answer", [None, 7, [None], ["FR"], [signal(20.0), object()]])
async def test_an_answer_that_is_none_is_a_failure_and_changes_nothing(clock: ManualClock, answer: Any) -> None:
    """A source that returns anything but signals is treated like one that fails, whole."""
    board = board_of(clock, ScriptedSource([signal(12.0, age=30)], answer, complete=True))
    await board.refresh("scripted")
    await board.refresh("scripted")
    assert board.states()["scripted"].failures == 1
    assert value(board, "FR", clock) == 12.0


def test_two_sources_of_one_name_are_refused(clock: ManualClock) -> None:
    """One would silently hide the other."""
    with pytest.raises(ConfigurationError, match="same name"):
        board_of(clock, StaticSignals({"FR": 1.0}), StaticSignals({"FR": 2.0}))


# ---- open, repeat, close


async def test_opening_waits_for_local_sources_and_for_no_other(clock: ManualClock) -> None:
    """What is on this machine is there at once; the network is asked in the background."""
    never, asked = asyncio.Event(), asyncio.Event()

    class Remote(ScriptedSource):
        async def readings(self) -> Sequence[GridSignal]:
            asked.set()
            await never.wait()
            return []

    board = board_of(clock, Remote(name="remote", local=False), ScriptedSource([signal(20.0)], name="local"))
    async with asyncio.timeout(PATIENCE):
        await board.open()
        assert value(board, "FR", clock) == 20.0
        assert not asked.is_set()
        await asked.wait()
        await board.close()
    assert board.states()["remote"] == SourceState()


@pytest.mark.parametrize("local", [True, False])
async def test_a_source_is_asked_again_after_failures(clock: ManualClock, local: bool) -> None:
    """The background task outlives whatever its source raises or returns, and the value comes when it comes."""
    arrived = asyncio.Event()
    bad_answer: Any = None
    source = ScriptedSource(
        OSError(),
        bad_answer,
        ValueError(),
        [signal(20.0)],
        [signal(21.0)],
        local=local,
        refresh_seconds=0.05,
        asked=lambda count: arrived.set() if count > 5 else None,
    )
    board = board_of(clock, source)
    async with asyncio.timeout(PATIENCE):
        await board.open()
        await arrived.wait()
        await board.close()
    assert value(board, "FR", clock) == 21.0


async def test_each_source_keeps_its_own_pace(clock: ManualClock) -> None:
    """One that is stuck does not hold up another."""
    moved = asyncio.Event()

    class Stuck(ScriptedSource):
        async def readings(self) -> Sequence[GridSignal]:
            await asyncio.Event().wait()
            return []

    quick = ScriptedSource(
        [signal(20.0)], name="quick", refresh_seconds=0.05, asked=lambda count: moved.set() if count > 3 else None
    )
    board = board_of(clock, Stuck(name="stuck", local=False), quick)
    async with asyncio.timeout(PATIENCE):
        await board.open()
        await moved.wait()
        await board.close()


async def test_a_source_is_asked_one_call_at_a_time(clock: ManualClock) -> None:
    """However short the interval, a call that is still waiting is not overtaken."""
    enough = asyncio.Event()
    running, most = 0, 0

    class Slow(ScriptedSource):
        async def readings(self) -> Sequence[GridSignal]:
            nonlocal running, most
            running += 1
            most = max(most, running)
            for _ in range(20):
                await asyncio.sleep(0)
            running -= 1
            return await super().readings()

    source = Slow([signal(20.0)], refresh_seconds=0.05, asked=lambda count: enough.set() if count > 5 else None)
    board = board_of(clock, source)
    async with asyncio.timeout(PATIENCE):
        await board.open()
        await enough.wait()
        await board.close()
    assert most == 1


async def test_closing_ends_every_task_and_keeps_what_is_known(clock: ManualClock) -> None:
    """A call under way is cancelled, nobody is asked again, and the readings stay and age."""
    entered, cancelled = asyncio.Event(), asyncio.Event()

    class Waiting(ScriptedSource):
        async def readings(self) -> Sequence[GridSignal]:
            entered.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()
            return []

    before = asyncio.all_tasks()
    local = ScriptedSource([signal(20.0)], name="local", refresh_seconds=0.05)
    board = board_of(clock, local, Waiting(name="waiting", local=False))
    async with asyncio.timeout(PATIENCE):
        await board.open()
        await entered.wait()
        await board.close()
    assert cancelled.is_set()
    assert asyncio.all_tasks() == before
    clock.tick(60)
    seen = board.best("FR", clock.now())
    assert seen is not None
    assert seen.age_minutes == 1.0
    await board.close()  # a second time does nothing


async def test_a_local_source_that_fails_is_no_reason_not_to_open(clock: ManualClock) -> None:
    """Grid data fails open."""
    board = board_of(clock, ScriptedSource(OSError(), local=True))
    await board.open()
    await board.close()
    assert board.states()["scripted"].failures == 1


async def test_background_tasks_start_in_an_empty_context(clock: ManualClock) -> None:
    """What the opener has in its context (a trace, a request) does not live on in the tasks."""
    current: contextvars.ContextVar[str] = contextvars.ContextVar("current", default="nothing")
    seen: list[str] = []
    asked = asyncio.Event()

    class Looking(ScriptedSource):
        async def readings(self) -> Sequence[GridSignal]:
            seen.append(current.get())
            asked.set()
            return []

    token = current.set("a request")
    board = board_of(clock, Looking(local=False))
    async with asyncio.timeout(PATIENCE):
        await board.open()
        await asked.wait()
        await board.close()
    current.reset(token)
    assert seen == ["nothing"]


async def test_the_boards_views_cannot_be_written_to(clock: ManualClock) -> None:
    """States and readings are handed out frozen."""
    board = board_of(clock, ScriptedSource([signal(20.0)]))
    with pytest.raises(TypeError):
        board.states()["scripted"] = SourceState()  # type: ignore[index]
    assert isinstance(board.all_readings(datetime.now(NOW.tzinfo)), tuple)
