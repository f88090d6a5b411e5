"""The circuit breaker, ticked by hand: faults open it, evidence closes it, a clock alone never does."""

from __future__ import annotations

import tracemalloc

import pytest

from vetted_mw.fleet.breaker import Breaker, BreakerPolicy, BreakerState, Trial
from vetted_mw.testing import ManualClock

FAULT, GOOD, NEITHER = True, False, None
POLICY = BreakerPolicy(
    window_seconds=30, minimum=4, ratio=0.5, open_seconds=5, max_open_seconds=20, calm_seconds=60, probes=2
)


class Tried:
    """A breaker and its clock."""

    def __init__(self, policy: BreakerPolicy = POLICY, *, jitter: float = 0.0) -> None:
        self.clock = ManualClock()
        self.breaker = Breaker(policy, jitter=lambda: jitter)

    @property
    def state(self) -> BreakerState:
        return self.breaker.state(self.clock.monotonic())

    def stands(self, state: BreakerState) -> bool:
        return self.state is state

    @property
    def admits(self) -> bool:
        return self.breaker.admits(self.clock.monotonic())

    @property
    def seconds_left(self) -> float:
        return self.breaker.seconds_left(self.clock.monotonic())

    def start(self) -> Trial:
        assert self.admits
        return self.breaker.started(self.clock.monotonic())

    def prove(self, trial: Trial) -> None:
        self.breaker.proved(self.clock.monotonic(), trial)

    def end(self, trial: Trial, outcome: bool | None) -> None:
        self.breaker.ended(self.clock.monotonic(), trial, fault=outcome)

    def attempt(self, *outcomes: bool | None) -> None:
        for outcome in outcomes:
            self.end(self.start(), outcome)

    def opened(self) -> Tried:
        self.attempt(*[FAULT] * POLICY.minimum)
        assert self.state is BreakerState.OPEN
        return self

    def half_opened(self) -> Tried:
        self.clock.tick(self.seconds_left)
        assert self.state is BreakerState.HALF_OPEN
        return self


def test_it_opens_at_the_ratio_and_not_before_the_minimum() -> None:
    """Three faults of three say nothing with a minimum of four; the fourth outcome decides."""
    tried = Tried()
    tried.attempt(FAULT, FAULT, FAULT)
    assert (tried.state, tried.admits, tried.seconds_left) == (BreakerState.CLOSED, True, 0.0)
    tried.attempt(GOOD)
    assert (tried.state, tried.admits, tried.seconds_left) == (BreakerState.OPEN, False, 5.0)


@pytest.mark.parametrize(
    ("outcomes", "state"),
    [
        ([GOOD, GOOD, GOOD, FAULT, FAULT, FAULT], BreakerState.OPEN),
        ([GOOD, GOOD, GOOD, GOOD, FAULT, FAULT], BreakerState.CLOSED),
        ([FAULT, GOOD, GOOD, GOOD], BreakerState.CLOSED),
        ([NEITHER] * 50 + [FAULT] * 3, BreakerState.CLOSED),
        ([FAULT] * 3 + [NEITHER] * 50, BreakerState.CLOSED),
        ([FAULT, NEITHER, FAULT, NEITHER, GOOD, FAULT], BreakerState.OPEN),
    ],
)
def test_only_faults_and_successes_are_counted(outcomes: list[bool | None], state: BreakerState) -> None:
    """A neutral outcome neither opens it nor makes up the minimum."""
    tried = Tried()
    tried.attempt(*outcomes)
    assert tried.stands(state)


def test_outcomes_of_the_past_do_not_count() -> None:
    """Faults that have left the window are forgotten: a fault every twenty seconds never opens it."""
    tried = Tried()
    for _ in range(20):
        tried.attempt(FAULT)
        tried.clock.tick(20)
    assert tried.stands(BreakerState.CLOSED)


def test_a_share_is_of_what_is_in_the_window() -> None:
    """Faults that have left it, and faults of before it opened, are no part of a later share."""
    tried = Tried()
    tried.attempt(FAULT, FAULT)
    tried.clock.tick(31)
    tried.attempt(GOOD, GOOD, GOOD, FAULT)
    assert tried.stands(BreakerState.CLOSED)
    tried.clock.tick(31)
    tried.opened().half_opened().attempt(GOOD)
    tried.attempt(GOOD, GOOD, GOOD, FAULT)
    assert tried.stands(BreakerState.CLOSED)


def test_what_it_keeps_does_not_grow_with_the_rate() -> None:
    """A window of twenty thousand outcomes takes no more memory than one of a few hundred."""

    def kept(outcomes: int) -> int:
        tried = Tried()
        tracemalloc.start()
        try:
            for _ in range(outcomes):
                tried.attempt(GOOD)
                tried.clock.tick(POLICY.window_seconds / outcomes)
            return tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()

    assert kept(20_000) < 2 * kept(300)


def test_fast_outcomes_are_forgotten_when_they_leave_the_window_and_not_much_before() -> None:
    """Of a thousand a second that begin with faults these count as long as 29.5 seconds, and not after 30."""
    for age, state in ((29.4, BreakerState.OPEN), (30.1, BreakerState.CLOSED)):
        tried = Tried(BreakerPolicy(window_seconds=30, minimum=201, ratio=0.5))
        for outcome in [FAULT] * 100 + [GOOD] * 100:
            tried.attempt(outcome)
            tried.clock.tick(0.001)
        tried.clock.tick(age - 0.2)
        tried.attempt(FAULT)
        assert tried.stands(state)


def test_the_clock_alone_half_opens_and_never_closes_it() -> None:
    """After its time it lets probes through, and stays half open for as long as none has told anything."""
    tried = Tried().opened()
    tried.clock.tick(4.9)
    assert not tried.admits
    assert tried.seconds_left == pytest.approx(0.1)
    tried.clock.tick(0.2)
    assert (tried.state, tried.admits, tried.seconds_left) == (BreakerState.HALF_OPEN, True, 0.0)
    tried.clock.tick(100_000)
    assert tried.stands(BreakerState.HALF_OPEN)


def test_half_open_admits_no_more_than_its_probes_at_once() -> None:
    """The quota is of leases, not of a moment: one more is let in when one has ended."""
    tried = Tried().opened()
    tried.clock.tick(5)
    first, second = tried.start(), tried.start()
    assert (first.is_probe, second.is_probe, tried.admits) == (True, True, False)
    tried.end(first, NEITHER)
    assert tried.admits
    tried.start()
    assert not tried.admits


def test_of_a_thousand_at_the_moment_it_half_opens_no_more_than_its_probes_are_admitted() -> None:
    """Whoever asks later in the same instant is turned away, with the default policy too."""
    for policy in (POLICY, BreakerPolicy()):
        tried = Tried(policy)
        while tried.admits:
            tried.attempt(FAULT)
        tried.half_opened()
        admitted = [tried.start() for _ in range(1000) if tried.admits]
        assert len(admitted) == policy.probes


def test_a_whole_good_answer_of_a_probe_closes_it() -> None:
    """One probe that succeeds closes it, and what had happened before is forgotten."""
    tried = Tried().opened()
    tried.clock.tick(5)
    tried.attempt(GOOD)
    assert (tried.state, tried.admits) == (BreakerState.CLOSED, True)
    tried.attempt(FAULT, FAULT, FAULT)
    assert tried.stands(BreakerState.CLOSED)


def test_a_neutral_probe_proves_nothing() -> None:
    """A probe whose caller left, say, leaves it half open and gives its place back."""
    tried = Tried().opened()
    tried.clock.tick(5)
    for _ in range(10):
        tried.attempt(NEITHER)
        assert (tried.state, tried.admits) == (BreakerState.HALF_OPEN, True)


# ---- evidence before the end


def test_a_proved_probe_gives_its_place_back_once() -> None:
    """A long stream does not hold the place for its whole length, and its end frees no second one."""
    tried = Tried().opened().half_opened()
    first, second = tried.start(), tried.start()
    tried.prove(first)
    tried.prove(first)
    third = tried.start()
    assert not tried.admits
    tried.end(first, NEITHER)
    assert not tried.admits
    tried.end(second, NEITHER)
    fourth = tried.start()
    assert not tried.admits
    tried.end(third, NEITHER)
    tried.end(fourth, NEITHER)
    tried.start(), tried.start()
    assert not tried.admits


def test_two_probes_that_began_to_answer_close_it_and_one_told_twice_does_not() -> None:
    """A first content is less than a whole answer: it takes two of them."""
    tried = Tried().opened().half_opened()
    first = tried.start()
    tried.prove(first)
    tried.prove(first)
    assert tried.stands(BreakerState.HALF_OPEN)
    tried.prove(tried.start())
    assert tried.stands(BreakerState.CLOSED)


def test_a_proved_probe_that_fails_opens_it_again_and_earlier_evidence_is_void() -> None:
    """While half open a fault after the first content is a fault; what had been proved before says nothing then."""
    tried = Tried().opened().half_opened()
    first = tried.start()
    tried.prove(first)
    tried.end(first, FAULT)
    assert (tried.state, tried.seconds_left) == (BreakerState.OPEN, 10)
    tried.half_opened().prove(tried.start())
    assert tried.stands(BreakerState.HALF_OPEN)


def test_a_proved_probe_that_fails_when_it_is_closed_counts_in_the_window() -> None:
    """Each of the streams that closed it counts like any other attempt, and enough of them open it again."""
    tried = Tried().opened().half_opened()
    streams = [tried.start(), tried.start()]
    for trial in streams:
        tried.prove(trial)
    assert tried.stands(BreakerState.CLOSED)
    for trial in streams:
        tried.end(trial, FAULT)
    tried.attempt(GOOD)
    assert tried.stands(BreakerState.CLOSED)
    tried.attempt(GOOD)
    assert tried.stands(BreakerState.OPEN)


def test_proof_while_closed_is_no_outcome() -> None:
    """Only the end of an attempt counts in the window."""
    tried = Tried()
    for _ in range(20):
        tried.prove(tried.start())
    tried.attempt(FAULT, FAULT, FAULT)
    assert tried.stands(BreakerState.CLOSED)
    tried.attempt(FAULT)
    assert tried.stands(BreakerState.OPEN)


# ---- growth


def test_each_failed_recovery_waits_longer_up_to_a_limit() -> None:
    """5, 10, 20, 20 seconds."""
    tried = Tried().opened()
    waits = [tried.seconds_left]
    for _ in range(3):
        tried.half_opened().attempt(FAULT)
        waits.append(tried.seconds_left)
    assert waits == [5, 10, 20, 20]


def test_a_flapping_upstream_waits_longer_although_it_closes_in_between() -> None:
    """A success that is followed by faults soon after does not begin the waits anew."""
    tried = Tried().opened()
    waits = [tried.seconds_left]
    for _ in range(3):
        tried.half_opened().attempt(GOOD)
        tried.clock.tick(20)
        waits.append(tried.opened().seconds_left)
    assert waits == [5, 10, 20, 20]


@pytest.mark.parametrize(("calm", "wait"), [(59.9, 20), (60, 10), (119.9, 10), (120, 5), (1e9, 5)])
def test_only_time_spent_closed_makes_the_waits_shorter(calm: float, wait: float) -> None:
    """Each whole minute that it stayed closed halves the next wait, down to the first."""
    tried = Tried().opened()
    for _ in range(2):
        tried.half_opened().attempt(FAULT)
    assert tried.seconds_left == 20
    tried.half_opened().attempt(GOOD)
    tried.clock.tick(calm)
    assert tried.opened().seconds_left == wait


def test_recoveries_of_several_processes_are_spread() -> None:
    """The time it stays open is stretched by up to a tenth."""
    assert Tried(jitter=0.0).opened().seconds_left == 5
    assert 5 < Tried(jitter=0.999).opened().seconds_left <= 5.5


def test_an_attempt_from_before_it_opened_says_nothing_new() -> None:
    """What was under way when it opened neither closes it nor keeps it open for longer."""
    tried = Tried()
    old = [tried.start() for _ in range(14)]
    for trial in old[:4]:
        tried.end(trial, FAULT)
    left = tried.seconds_left
    tried.clock.tick(1)
    tried.end(old[4], FAULT)
    tried.end(old[5], GOOD)
    assert (tried.state, tried.seconds_left) == (BreakerState.OPEN, left - 1)
    tried.clock.tick(4)
    tried.prove(old[6])
    tried.prove(old[7])
    tried.end(old[8], GOOD)
    tried.end(old[9], FAULT)
    assert tried.stands(BreakerState.HALF_OPEN)
    tried.attempt(GOOD)
    for trial in old[10:]:
        tried.end(trial, FAULT)
    assert tried.stands(BreakerState.CLOSED)


def test_a_probe_of_an_earlier_recovery_says_nothing_new_and_still_takes_its_place() -> None:
    """Two probes, the first fails: what the second finds later is from before; while it runs it is one of the two."""
    tried = Tried().opened().half_opened()
    first, second = tried.start(), tried.start()
    tried.end(first, FAULT)
    tried.half_opened()
    third = tried.start()
    assert not tried.admits
    tried.prove(second)
    tried.prove(third)
    assert tried.stands(BreakerState.HALF_OPEN)
    tried.end(second, GOOD)
    assert (tried.state, tried.admits) == (BreakerState.HALF_OPEN, True)
    tried.end(third, GOOD)
    assert tried.stands(BreakerState.CLOSED)


def test_a_set_of_one_region_is_not_exempt() -> None:
    """The default policy opens and recovers like any other."""
    tried = Tried(BreakerPolicy())
    while tried.admits:
        tried.attempt(FAULT)
    tried.clock.tick(tried.seconds_left)
    tried.attempt(GOOD)
    assert tried.stands(BreakerState.CLOSED)
