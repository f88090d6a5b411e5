"""How the board asks: one flight per source, pauses that fit how it fares, and why there is nothing new, zone by zone."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from grid.samples import NOW, signal
from vetted_mw.grid.absence import NoSignal, NoSignalReason
from vetted_mw.grid.board import SignalBoard
from vetted_mw.grid.signal import SignalKind
from vetted_mw.grid.source import Absence, SourceState
from vetted_mw.testing import ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from vetted_mw.grid.signal import GridSignal
    from vetted_mw.grid.source import SignalSource

pytestmark = pytest.mark.anyio

Reason = NoSignalReason
LIMIT = 30.0
LABEL = "entsoe_derived_live"


def no(zone: str = "FR", reason: NoSignalReason = Reason.INCOMPLETE, **members: Any) -> NoSignal:
    return NoSignal(**({"source": LABEL, "zone": zone, "reason": reason} | members))


class Script:
    """A remote source that answers line by line and repeats the last; an exception is raised, an event waited for."""

    is_complete = False

    def __init__(
        self, *lines: Any, name: str = "scripted", refresh_seconds: float = 600.0, is_local: bool = False
    ) -> None:
        self.name = name
        self.refresh_seconds = refresh_seconds
        self.is_local = is_local
        self.calls = 0
        self._lines = lines

    async def readings(self) -> Sequence[GridSignal | NoSignal]:
        """Do what the next line says."""
        line = self._lines[min(self.calls, len(self._lines) - 1)]
        self.calls += 1
        if isinstance(line, asyncio.Event):
            await line.wait()
            return [signal(20.0)]
        if isinstance(line, BaseException):
            raise line
        answers: Sequence[GridSignal | NoSignal] = line
        return answers


class Pauses:
    """A sleep that returns at once and writes down how long; after `count` of them it stays, and says so."""

    def __init__(self, count: int) -> None:
        self.seconds: list[float] = []
        self.enough = asyncio.Event()
        self._count = count

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        if len(self.seconds) >= self._count:
            self.enough.set()
            await asyncio.Event().wait()


@pytest.fixture
def clock() -> ManualClock:
    """A wall clock that stands at `NOW` until told otherwise."""
    return ManualClock(NOW)


def board_of(clock: ManualClock, *sources: SignalSource, **options: Any) -> SignalBoard:
    given: dict[str, Any] = {"chains": {}, "now": clock.now, "monotonic": clock.monotonic} | options
    return SignalBoard(sources, **given)


async def paused(clock: ManualClock, source: Script, count: int, jitter: Callable[[], float] = lambda: 0.0) -> Any:
    """Open a board over `source` until it has slept `count` times; returns the pauses."""
    pauses = Pauses(count)
    board = board_of(clock, source, sleep=pauses, jitter=jitter)
    async with asyncio.timeout(LIMIT):
        await board.open()
        await pauses.enough.wait()
        await board.close()
    return pauses.seconds


def values(board: SignalBoard, now: Any) -> Mapping[str, float]:
    return {one.signal.zone: one.signal.gco2_per_kwh for one in board.all_readings(now)}


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, str | None, str | None]]:
    """Return level, message, zone and error of every line."""
    return [
        (record.levelname, record.message, record.__dict__.get("zone"), record.__dict__.get("error"))
        for record in caplog.records
        if record.name == "vetted_mw"
    ]


# ---- one flight


async def test_whoever_asks_while_a_source_is_being_asked_shares_the_answer(clock: ManualClock) -> None:
    """Ten callers at once are one call of the source, and all of them find its answer."""
    answer = asyncio.Event()
    source = Script(answer)
    board = board_of(clock, source)
    async with asyncio.timeout(LIMIT):
        asking = [asyncio.ensure_future(board.refresh("scripted")) for _ in range(10)]
        while not source.calls:  # noqa: ASYNC110 (what no event tells)
            await asyncio.sleep(0)
        answer.set()
        await asyncio.gather(*asking)
    assert source.calls == 1
    assert values(board, NOW) == {"FR": 20.0}
    await board.refresh("scripted")
    assert source.calls == 2


async def test_who_leaves_while_waiting_leaves_the_others_their_answer(clock: ManualClock) -> None:
    """A caller that is cancelled cancels neither the source's call nor another caller."""
    answer = asyncio.Event()
    source = Script(answer)
    board = board_of(clock, source)
    async with asyncio.timeout(LIMIT):
        first, second = (asyncio.ensure_future(board.refresh("scripted")) for _ in range(2))
        while not source.calls:  # noqa: ASYNC110 (what no event tells)
            await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        answer.set()
        await second
    assert (first.cancelled(), source.calls) == (True, 1)
    assert values(board, NOW) == {"FR": 20.0}


async def test_the_background_and_a_caller_share_one_flight(clock: ManualClock) -> None:
    """Asking all right after opening asks nobody twice."""
    source = Script([signal(20.0)])
    pauses = Pauses(1)
    board = board_of(clock, source, sleep=pauses)
    async with asyncio.timeout(LIMIT):
        await board.open()
        await board.refresh_all()
        await pauses.enough.wait()
        await board.close()
    assert source.calls == 1


async def test_asking_all_asks_each_at_the_same_time(clock: ManualClock) -> None:
    """The slowest is waited for, and holds nobody up: here one answers only once the other has been asked."""
    other_asked = asyncio.Event()

    class Second(Script):
        async def readings(self) -> Sequence[GridSignal | NoSignal]:
            other_asked.set()
            return await super().readings()

    first, second = Script(other_asked, name="first"), Second([signal(12.0, zone="SE_3")], name="second")
    board = board_of(clock, first, second)
    async with asyncio.timeout(LIMIT):
        await board.refresh_all()
    assert values(board, NOW) == {"FR": 20.0, "SE_3": 12.0}


async def test_a_failing_or_hanging_source_holds_up_no_other(clock: ManualClock) -> None:
    """Each has its own task and its own fate."""
    failing, hanging = Script(OSError(), name="failing"), Script(asyncio.Event(), name="hanging")
    well = Script([signal(20.0)], name="well")
    pauses = Pauses(20)
    board = board_of(clock, failing, hanging, well, sleep=pauses)
    async with asyncio.timeout(LIMIT):
        await board.open()
        await pauses.enough.wait()
        await board.close()
    assert min(failing.calls, well.calls) > 1
    assert hanging.calls == 1
    assert values(board, NOW) == {"FR": 20.0}
    assert board.states()["hanging"] == SourceState()


async def test_closing_cancels_a_refresh_that_hangs(clock: ManualClock) -> None:
    """And leaves no task behind."""
    source = Script(asyncio.Event())
    before = asyncio.all_tasks()
    board = board_of(clock, source)
    async with asyncio.timeout(LIMIT):
        await board.open()
        while not source.calls:  # noqa: ASYNC110 (what no event tells)
            await asyncio.sleep(0)
        await board.close()
    assert asyncio.all_tasks() == before
    assert board.states()["scripted"] == SourceState()


async def test_whoever_waits_for_a_refresh_while_the_board_closes_just_returns(clock: ManualClock) -> None:
    """It is the source's call that is cancelled, not the caller."""
    source = Script(asyncio.Event())
    board = board_of(clock, source)
    waiting = asyncio.ensure_future(board.refresh(source.name))
    async with asyncio.timeout(LIMIT):
        while not source.calls:  # noqa: ASYNC110 (what no event tells)
            await asyncio.sleep(0)
        await board.close()
        await waiting
    assert waiting.cancelled() is False


async def test_a_source_that_cancels_itself_is_asked_again(clock: ManualClock) -> None:
    """A cancel of its own making is a failure like any other, not the end of its task."""
    source = Script(asyncio.CancelledError(), [signal(20.0)])
    assert await paused(clock, source, 2) == [18.75, 600.0]
    assert source.calls == 2


# ---- pauses


async def test_an_answering_source_is_asked_at_its_own_pace(clock: ManualClock) -> None:
    """Signals, no data and a partial failure are answers."""
    source = Script([signal(20.0)], [no(reason=Reason.NO_DATA)], [signal(20.0), no("SE_3")], [])
    assert await paused(clock, source, 5) == [600.0] * 5


@pytest.mark.parametrize("reason", [Reason.NO_DATA, Reason.OUTDATED, Reason.FUTURE_DATED, Reason.ESTIMATED])
async def test_an_answer_with_nothing_better_is_no_failure(clock: ManualClock, reason: NoSignalReason) -> None:
    """The service answered: it keeps its pace, and does not count as failing."""
    board = board_of(clock, Script([no(reason=reason)]))
    await board.refresh("scripted")
    assert board.states()["scripted"] == SourceState(succeeded_at=NOW)
    assert await paused(clock, Script([no(reason=reason)]), 3) == [600.0] * 3


@pytest.mark.parametrize("line", [OSError(), None, [no(reason=Reason.OUTAGE)], [no(reason=Reason.TIMEOUT)]])
async def test_a_failure_that_may_pass_is_asked_after_sooner_and_then_ever_later(clock: ManualClock, line: Any) -> None:
    """Twice as long each time, a refresh at most; an answer ends it."""
    source = Script(*[line] * 7, [signal(20.0)], line)
    assert await paused(clock, source, 9) == [18.75, 37.5, 75.0, 150.0, 300.0, 600.0, 600.0, 600.0, 18.75]


@pytest.mark.parametrize("reason", [one for one in Reason if one.is_failure and not one.is_transient])
async def test_a_failure_that_will_not_pass_keeps_the_pace(clock: ManualClock, reason: NoSignalReason) -> None:
    """A refused key is not tried again in seconds."""
    assert await paused(clock, Script([no(reason=reason)]), 3) == [600.0] * 3


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        ([no(reason=Reason.RATE_LIMITED, retry_after_seconds=900.0)], 900.0),
        ([no(reason=Reason.RATE_LIMITED, retry_after_seconds=5.0)], 600.0),
        ([no(reason=Reason.OUTAGE, retry_after_seconds=120.0)], 120.0),
        ([no(reason=Reason.OUTAGE, retry_after_seconds=1.0)], 18.75),
        ([no(retry_after_seconds=700.0), no("SE_3", retry_after_seconds=800.0)], 800.0),
        ([signal(20.0), no("SE_3", reason=Reason.RATE_LIMITED, retry_after_seconds=900.0)], 900.0),
    ],
)
async def test_the_time_a_source_asks_for_is_kept(clock: ManualClock, line: Any, seconds: float) -> None:
    """The longest of its answers, also where others of its zones were served; and only once."""
    assert await paused(clock, Script(line, [signal(20.0)]), 2) == [seconds, 600.0]


async def test_every_pause_is_spread_by_a_fresh_number(clock: ManualClock) -> None:
    """Several processes do not ask in step."""
    numbers = iter([0.0, 0.5, 0.9, 0.25])
    found = await paused(clock, Script([signal(20.0)]), 3, jitter=lambda: next(numbers))
    assert found == pytest.approx([600.0, 570.0, 546.0])


async def test_a_local_source_is_paced_like_any_other(clock: ManualClock) -> None:
    """Asked once while opening, it sleeps before it is asked again."""
    source = Script([signal(20.0)], is_local=True, refresh_seconds=1.0)
    assert await paused(clock, source, 1) == [1.0]
    assert source.calls == 1


async def test_a_refresh_by_hand_puts_the_next_one_off(clock: ManualClock) -> None:
    """A source is left alone for its pace after whoever asked it last."""
    slept: list[float] = []
    enough = asyncio.Event()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) > 1:
            enough.set()
            await asyncio.Event().wait()
        clock.tick(100)
        await board.refresh("scripted")
        clock.tick(seconds - 100)

    source = Script([signal(20.0)])
    board = board_of(clock, source, sleep=sleep)
    async with asyncio.timeout(LIMIT):
        await board.open()
        await enough.wait()
        await board.close()
    assert (slept, source.calls) == ([600.0, 100.0], 2)


@pytest.mark.parametrize("seconds", ["5", [5.0]])
async def test_a_wait_that_is_none_costs_a_refresh(clock: ManualClock, seconds: Any) -> None:
    """A source of the application's own may say anything; it is asked again all the same."""
    source = Script([no(retry_after_seconds=seconds)], [signal(20.0)])
    assert await paused(clock, source, 2) == [18.75, 600.0]


# ---- reopening


class Remembered(Script):
    """A source with a least pause."""

    least_pause_seconds = 60.0


REOPENED = [
    ([signal(20.0)], 600.0),
    ([no(reason=Reason.NO_DATA)], 600.0),
    ([no(reason=Reason.UNAUTHORIZED)], 600.0),
    ([no(reason=Reason.RATE_LIMITED, retry_after_seconds=3600.0)], 3600.0),
    ([signal(20.0), no("SE_3", Reason.RATE_LIMITED, retry_after_seconds=900.0)], 900.0),
    ([no(reason=Reason.OUTAGE)], 60.0),
    (OSError(), 60.0),
]
REOPENED_IDS = ["answered", "no data", "refused", "banned", "banned in part", "down", "raised"]


@pytest.mark.parametrize(("line", "pause"), REOPENED, ids=REOPENED_IDS)
async def test_what_a_source_asked_for_outlives_a_close(clock: ManualClock, line: Any, pause: float) -> None:
    """Opened again it waits for the rest of its pause, its ban or its least pause, however often that is."""
    source, pauses = Remembered(line), Pauses(1)
    board = board_of(clock, source, sleep=pauses)
    for _ in range(3):
        async with asyncio.timeout(LIMIT):
            await board.open()
            await pauses.enough.wait()
            await board.close()
        pauses.enough.clear()
        clock.tick(20)
    assert (pauses.seconds, source.calls) == ([pause, pause - 20, pause - 40], 1)


@pytest.mark.parametrize(("line", "pause"), REOPENED, ids=REOPENED_IDS)
async def test_a_source_whose_time_has_come_is_asked_at_once_when_opened_again(
    clock: ManualClock, line: Any, pause: float
) -> None:
    """A closed board asks nobody, and makes up for it."""
    source, pauses = Remembered(line), Pauses(1)
    board = board_of(clock, source, sleep=pauses)
    for calls in (1, 2):
        async with asyncio.timeout(LIMIT):
            await board.open()
            await pauses.enough.wait()
            await board.close()
        pauses.enough.clear()
        assert source.calls == calls
        clock.tick(pause)


@pytest.mark.parametrize(("kind", "pause"), [(Script, 18.75), (Remembered, 60.0)])
async def test_an_asking_that_was_cut_is_not_repeated_at_once(
    clock: ManualClock, kind: type[Script], pause: float
) -> None:
    """Closing in the middle of an answer leaves the source as alone as a failure would."""
    source, pauses = kind(asyncio.Event(), [signal(20.0)]), Pauses(1)
    board = board_of(clock, source, sleep=pauses)
    async with asyncio.timeout(LIMIT):
        await board.open()
        while not source.calls:  # noqa: ASYNC110 (what no event tells)
            await asyncio.sleep(0)
        await board.close()
        await board.open()
        await pauses.enough.wait()
        await board.close()
    assert (pauses.seconds, source.calls) == ([pause], 1)
    assert board.states()["scripted"] == SourceState()


async def test_a_ban_outlives_an_asking_by_hand_that_was_cut(clock: ManualClock) -> None:
    """Whoever asks all the same, and leaves, shortens nothing."""
    source = Script([no(reason=Reason.RATE_LIMITED, retry_after_seconds=3600.0)], asyncio.Event())
    pauses = Pauses(1)
    board = board_of(clock, source, sleep=pauses)
    async with asyncio.timeout(LIMIT):
        await board.refresh("scripted")
        asking = asyncio.ensure_future(board.refresh("scripted"))
        while source.calls < 2:  # noqa: ASYNC110 (what no event tells)
            await asyncio.sleep(0)
        await board.close()
        await asyncio.gather(asking, return_exceptions=True)
        await board.open()
        await pauses.enough.wait()
        await board.close()
    assert (pauses.seconds, source.calls) == ([3600.0], 2)


def test_a_new_event_loop_forgets_nothing(clock: ManualClock) -> None:
    """Where every request has a loop of its own, closed without the board, a source is still asked at its own pace."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await asyncio.Event().wait()

    async def opened(count: int) -> None:
        async with asyncio.timeout(LIMIT):
            await board.open()
            while len(slept) < count:  # noqa: ASYNC110 (what no event tells)
                await asyncio.sleep(0)

    source = Script([signal(20.0)])
    board = board_of(clock, source, sleep=sleep)
    for count in (1, 2, 3, 4):
        asyncio.run(opened(count))
        clock.tick(250)
    assert (slept, source.calls) == ([600.0, 350.0, 100.0, 600.0], 2)


async def test_a_local_source_is_asked_at_every_opening(clock: ManualClock) -> None:
    """It costs no network, and what is in the file now counts from the first request on."""
    source, pauses = Script([signal(20.0)], [signal(21.0)], is_local=True), Pauses(1)
    board = board_of(clock, source, sleep=pauses)
    for expected in (20.0, 21.0):
        async with asyncio.timeout(LIMIT):
            await board.open()
            assert values(board, NOW) == {"FR": expected}
            await pauses.enough.wait()
            await board.close()


# ---- nothing to ask


@pytest.mark.parametrize("is_local", [True, False])
async def test_a_source_without_anything_to_ask_is_not_asked(clock: ManualClock, is_local: bool) -> None:
    """No task, no call and no state of it, by whichever way; the others are asked as ever."""

    class Idle(Script):
        is_idle = True

    class Busy(Script):
        is_idle = False

    idle, busy = Idle([signal(20.0)], name="idle", is_local=is_local), Busy([signal(12.0, zone="SE_3")], name="busy")
    before = asyncio.all_tasks()
    board = board_of(clock, idle, busy, sleep=Pauses(1))
    async with asyncio.timeout(LIMIT):
        await board.open()
        assert len(asyncio.all_tasks() - before) == 1
        await board.refresh_all()
        await board.refresh("idle")
        await board.close()
    assert (idle.calls, busy.calls) == (0, 1)
    assert board.states()["idle"] == SourceState()
    assert values(board, NOW) == {"SE_3": 12.0}


# ---- why there is nothing new


async def test_an_absence_is_kept_with_its_reason_since_it_first_held(clock: ManualClock) -> None:
    """The same reason again keeps its beginning; what was told last is shown."""
    board = board_of(clock, Script([no(status=None)], [no(status=200)], [no(reason=Reason.OUTAGE)]))
    await board.refresh("scripted")
    assert board.absences_for("FR") == (Absence(source="scripted", told=no(), since=NOW),)
    clock.tick(600)
    await board.refresh("scripted")
    assert board.absences_for("FR") == (Absence(source="scripted", told=no(status=200), since=NOW),)
    clock.tick(600)
    await board.refresh("scripted")
    (one,) = board.absences_for("FR")
    assert (one.told.reason, one.since) == (Reason.OUTAGE, NOW + timedelta(seconds=1200))


async def test_a_signal_ends_the_absences_of_its_zone_that_are_not_told_again(clock: ManualClock) -> None:
    """A measured value says nothing of the forecast told beside it, one zone nothing of another."""
    forecast = no(source="energy_charts_forecast", reason=Reason.NO_DATA)
    board = board_of(clock, Script([no(), forecast, no("SE_3")], [signal(20.0), forecast], [no()]))
    await board.refresh("scripted")
    assert len(board.absences_for("FR")) == 2
    clock.tick(60)
    await board.refresh("scripted")
    assert [one.told for one in board.absences_for("FR")] == [forecast]
    assert [one.told for one in board.absences_for("SE_3")] == [no("SE_3")]
    clock.tick(60)
    await board.refresh("scripted")
    since = {one.told.source: one.since for one in board.absences_for("FR")}
    assert since == {"energy_charts_forecast": NOW, LABEL: NOW + timedelta(seconds=120)}


async def test_an_absence_under_another_label_ends_with_the_first_signal(clock: ManualClock) -> None:
    """A source that had nothing to give need not know what its signals will be called; another's reason stays."""
    source, other = Script([no(source="own")], [signal(20.0, source="own_live")]), Script([no()], name="other")
    board = board_of(clock, source, other)
    await board.refresh_all()
    await board.refresh("scripted")
    assert [(one.source, one.told.source) for one in board.absences_for("FR")] == [("other", LABEL)]


async def test_a_pause_that_cannot_be_computed_is_the_sources_own(clock: ManualClock) -> None:
    """Whatever goes wrong in spreading it, the source is asked again, at its pace."""

    def broken() -> float:
        raise ZeroDivisionError

    assert await paused(clock, Script(OSError()), 3, jitter=broken) == [600.0] * 3


async def test_a_pace_that_changes_is_the_one_of_the_start(clock: ManualClock) -> None:
    """What was checked when the board was made is what holds."""
    source, pauses = Script([signal(20.0)]), Pauses(2)
    board = board_of(clock, source, sleep=pauses)
    source.refresh_seconds = float("nan")
    async with asyncio.timeout(LIMIT):
        await board.open()
        await pauses.enough.wait()
        await board.close()
    assert pauses.seconds == [600.0, 600.0]


@pytest.mark.parametrize("seconds", [float("inf"), float("nan"), -5.0])
async def test_a_wait_that_never_ends_is_not_kept(clock: ManualClock, seconds: float) -> None:
    """A source is asked again, whatever it says."""
    line = [no(reason=Reason.RATE_LIMITED, retry_after_seconds=seconds)]
    assert await paused(clock, Script(line), 2) == [600.0, 600.0]


async def test_absences_are_told_in_the_chains_order_and_of_its_sources_only(clock: ManualClock) -> None:
    """As the readings are."""
    first, second, other = (Script([no()], name=name) for name in ("first", "second", "other"))
    board = board_of(clock, first, other, second, chains={"FR": ("second", "first")})
    await board.refresh_all()
    assert [one.source for one in board.absences_for("FR")] == ["second", "first"]
    assert board.absences_for("SE_3") == ()


async def test_a_source_that_raises_leaves_absences_as_they_were(clock: ManualClock) -> None:
    """It said nothing of any zone."""
    board = board_of(clock, Script([no()], OSError()))
    await board.refresh("scripted")
    clock.tick(60)
    await board.refresh("scripted")
    assert board.absences_for("FR") == (Absence(source="scripted", told=no(), since=NOW),)


async def test_readings_are_told_in_the_chains_order_with_every_kind(clock: ManualClock) -> None:
    """What each source of the chain gave last, measured before forecast, and nothing of a source outside it."""
    first = Script([signal(1.0, kind=SignalKind.FORECAST), signal(2.0, age=999)], name="first")
    second, other = Script([signal(3.0)], name="second"), Script([signal(4.0)], name="other")
    board = board_of(clock, other, first, second, chains={"FR": ("first", "second")})
    assert board.readings_for("FR", NOW) == ()
    await board.refresh_all()
    assert [one.signal.gco2_per_kwh for one in board.readings_for("FR", NOW)] == [2.0, 1.0, 3.0]
    assert {one.read_at for one in board.readings_for("FR", NOW)} == {NOW}
    assert board.readings_for("SE_3", NOW) == ()


# ---- a signal is never stamped anew


@pytest.mark.parametrize("line", [[no(reason=reason)] for reason in Reason], ids=[reason.value for reason in Reason])
async def test_a_refresh_without_a_signal_leaves_the_old_one_ageing(clock: ManualClock, line: Any) -> None:
    """The reason stands beside it; the value, its end and when it was fetched are as they were."""
    board = board_of(clock, Script([signal(20.0, age=10)], line))
    await board.refresh("scripted")
    clock.tick(45 * 60)
    await board.refresh("scripted")
    seen = board.best("FR", clock.now())
    assert seen is not None
    assert (seen.signal, seen.age_minutes, seen.live_eligible) == (signal(20.0, age=10), 55.0, True)
    assert [one.told for one in board.absences_for("FR")] == line
    clock.tick(150 * 60)
    stale = board.best("FR", clock.now())
    assert stale is not None
    assert (stale.signal, stale.live_eligible) == (signal(20.0, age=10), False)


async def test_an_older_value_that_comes_late_replaces_nothing(clock: ManualClock) -> None:
    """A service that steps back shows its last known interval, not an earlier one."""
    board = board_of(clock, Script([signal(20.0, age=10)], [signal(30.0, age=70)]))
    await board.refresh("scripted")
    await board.refresh("scripted")
    assert values(board, NOW) == {"FR": 20.0}


# ---- states


async def test_a_state_holds_what_the_last_answer_asked_for(clock: ManualClock) -> None:
    """A failure with its reason and wait, an answer with its wait; the time of the last success survives failures."""
    board = board_of(
        clock,
        Script(
            [signal(20.0)],
            [no(reason=Reason.UNAUTHORIZED, retry_after_seconds=30.0)],
            [no(reason=Reason.UNREACHABLE)],
            [signal(20.0), no("SE_3", retry_after_seconds=5.0)],
        ),
    )
    told = []
    for _ in range(4):
        await board.refresh("scripted")
        told.append(board.states()["scripted"])
        clock.tick(60)
    minutes = [NOW + timedelta(minutes=count) for count in range(4)]
    assert told == [
        SourceState(succeeded_at=minutes[0]),
        SourceState(
            succeeded_at=minutes[0],
            failed_at=minutes[1],
            error="unauthorized",
            failures=1,
            is_transient=False,
            retry_after_seconds=30.0,
        ),
        SourceState(succeeded_at=minutes[0], failed_at=minutes[2], error="unreachable", failures=2),
        SourceState(succeeded_at=minutes[3], retry_after_seconds=5.0),
    ]


async def test_a_source_is_open_from_its_third_failure_to_its_next_answer(clock: ManualClock) -> None:
    """As the source itself counts."""
    board = board_of(clock, Script(*[[no(reason=Reason.OUTAGE)]] * 4, [no(reason=Reason.NO_DATA)]))
    found = []
    for _ in range(5):
        await board.refresh("scripted")
        found.append(board.states()["scripted"].is_open)
    assert found == [False, False, True, True, False]


# ---- what is logged

FAILED, BACK, PARTIAL = (
    "a signal source failed",
    "a signal source answers again",
    "a signal source has nothing for a zone",
)


async def run(clock: ManualClock, caplog: pytest.LogCaptureFixture, *script: Any) -> list[Any]:
    """Refresh once per line of the script; returns what was logged."""
    board = board_of(clock, Script(*script))
    with caplog.at_level(logging.INFO, "vetted_mw"):
        for _ in script:
            await board.refresh("scripted")
    return lines(caplog)


async def test_an_outage_is_told_once_when_it_begins_and_once_when_it_ends(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """However many refreshes it lasts, and however many zones it concerns."""
    down = [no(reason=Reason.OUTAGE), no("SE_3", reason=Reason.OUTAGE)]
    well = [signal(20.0), signal(12.0, zone="SE_3")]
    assert await run(clock, caplog, well, down, down, down, well, well) == [
        ("WARNING", FAILED, None, "outage"),
        ("INFO", BACK, None, None),
    ]


async def test_a_partial_failure_is_told_once_per_zone_and_reason(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Another reason is news, and so is the same one after a signal; the source itself did not fail."""
    short, wrong = [signal(20.0), no("SE_3")], [signal(20.0), no("SE_3", Reason.IMPLAUSIBLE)]
    well = [signal(20.0), signal(12.0, zone="SE_3")]
    assert await run(clock, caplog, short, short, wrong, wrong, well, wrong) == [
        ("WARNING", PARTIAL, "SE_3", "incomplete"),
        ("WARNING", PARTIAL, "SE_3", "implausible"),
        ("WARNING", PARTIAL, "SE_3", "implausible"),
    ]


async def test_a_zone_that_still_fails_when_its_source_is_back_is_told(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Otherwise the log would say that all is well."""
    down, short = [no("FR", Reason.OUTAGE), no("SE_3")], [signal(20.0), no("SE_3")]
    assert await run(clock, caplog, down, short, short) == [
        ("WARNING", FAILED, None, "outage"),
        ("WARNING", PARTIAL, "SE_3", "incomplete"),
        ("INFO", BACK, None, None),
    ]


async def test_having_no_data_is_not_told(clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    """It is no failure, of the whole or of a zone."""
    nothing = no("SE_3", Reason.NO_DATA)
    assert await run(clock, caplog, [nothing], [signal(20.0), nothing], [nothing]) == []
