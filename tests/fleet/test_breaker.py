"""The circuit breaker, ticked by hand: faults open it, evidence closes it, a clock alone never does."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vetted_mw.fleet.breaker import Breaker, BreakerPolicy, BreakerState
from vetted_mw.testing import ManualClock

FAULT, GOOD, NEITHER = True, False, None
POLICY = BreakerPolicy(window_seconds=30, minimum=4, ratio=0.5, open_seconds=5, max_open_seconds=20, probes=2)


class Tried:
    """A breaker and its clock."""

    def __init__(self, policy: BreakerPolicy = POLICY, *, jitter: float = 0.0) -> None:
        self.clock = ManualClock()
        self.breaker = Breaker(policy, jitter=lambda: jitter)

    @property
    def state(self) -> BreakerState:
        return self.breaker.state(self.clock.monotonic())

    @property
    def admits(self) -> bool:
        return self.breaker.admits(self.clock.monotonic())

    @property
    def seconds_left(self) -> float:
        return self.breaker.seconds_left(self.clock.monotonic())

    def start(self) -> bool:
        assert self.admits
        return self.breaker.started(self.clock.monotonic())

    def end(self, outcome: bool | None, *, probe: bool = False) -> None:
        self.breaker.ended(self.clock.monotonic(), fault=outcome, probe=probe)

    def attempt(self, *outcomes: bool | None) -> None:
        for outcome in outcomes:
            self.end(outcome, probe=self.start())

    def opened(self) -> Tried:
        self.attempt(*[FAULT] * POLICY.minimum)
        assert self.state is BreakerState.OPEN
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
    assert tried.state is state


def test_outcomes_of_the_past_do_not_count() -> None:
    """Faults that have left the window are forgotten: a fault every twenty seconds never opens it."""
    tried = Tried()
    for _ in range(20):
        tried.attempt(FAULT)
        tried.clock.tick(20)
    assert tried.state is BreakerState.CLOSED


def test_the_clock_alone_half_opens_and_never_closes_it() -> None:
    """After its time it lets probes through, and stays half open for as long as none has told anything."""
    tried = Tried().opened()
    tried.clock.tick(4.9)
    assert not tried.admits
    assert tried.seconds_left == pytest.approx(0.1)
    tried.clock.tick(0.2)
    assert (tried.state, tried.admits, tried.seconds_left) == (BreakerState.HALF_OPEN, True, 0.0)
    tried.clock.tick(100_000)
    assert tried.state is BreakerState.HALF_OPEN


def test_half_open_admits_no_more_than_its_probes_at_once() -> None:
    """The quota is of leases, not of a moment: one more is let in when one has ended."""
    tried = Tried().opened()
    tried.clock.tick(5)
    first, second = tried.start(), tried.start()
    assert (first, second, tried.admits) == (True, True, False)
    tried.end(NEITHER, probe=first)
    assert tried.admits
    tried.start()
    assert not tried.admits


def test_evidence_closes_it_at_once() -> None:
    """One probe that succeeds closes it, and what had happened before is forgotten."""
    tried = Tried().opened()
    tried.clock.tick(5)
    tried.attempt(GOOD)
    assert (tried.state, tried.admits) == (BreakerState.CLOSED, True)
    tried.attempt(FAULT, FAULT, FAULT)
    assert tried.state is BreakerState.CLOSED


def test_a_neutral_probe_proves_nothing() -> None:
    """A probe whose caller left, say, leaves it half open and gives its place back."""
    tried = Tried().opened()
    tried.clock.tick(5)
    for _ in range(10):
        tried.attempt(NEITHER)
        assert (tried.state, tried.admits) == (BreakerState.HALF_OPEN, True)


def test_each_failed_recovery_waits_longer_up_to_a_limit_and_a_success_starts_anew() -> None:
    """5, 10, 20, 20 seconds; after a recovery 5 again."""
    tried = Tried().opened()
    waits = [tried.seconds_left]
    for _ in range(3):
        tried.clock.tick(tried.seconds_left)
        tried.attempt(FAULT)
        waits.append(tried.seconds_left)
    assert waits == [5, 10, 20, 20]
    tried.clock.tick(20)
    tried.attempt(GOOD)
    assert tried.opened().seconds_left == 5


def test_recoveries_of_several_processes_are_spread() -> None:
    """The time it stays open is stretched by up to a tenth."""
    assert Tried(jitter=0.0).opened().seconds_left == 5
    assert 5 < Tried(jitter=0.999).opened().seconds_left <= 5.5


def test_an_attempt_from_before_it_opened_says_nothing_new() -> None:
    """What was under way when it opened neither closes it nor keeps it open for longer."""
    tried = Tried()
    old = [tried.start() for _ in range(8)]
    for probe in old[:4]:
        tried.end(FAULT, probe=probe)
    left = tried.seconds_left
    tried.clock.tick(1)
    tried.end(FAULT, probe=old[4])
    tried.end(GOOD, probe=old[5])
    assert (tried.state, tried.seconds_left) == (BreakerState.OPEN, left - 1)
    tried.clock.tick(4)
    tried.end(GOOD, probe=old[6])
    tried.end(FAULT, probe=old[7])
    assert tried.state is BreakerState.HALF_OPEN


def test_a_set_of_one_region_is_not_exempt() -> None:
    """The default policy opens and recovers like any other."""
    tried = Tried(BreakerPolicy())
    while tried.admits:
        tried.attempt(FAULT)
    tried.clock.tick(tried.seconds_left)
    tried.attempt(GOOD)
    assert tried.state is BreakerState.CLOSED


@settings(max_examples=200, deadline=None)
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("tick"), st.floats(min_value=0, max_value=40)),
            st.tuples(st.just("start"), st.none()),
            st.tuples(st.just("end"), st.sampled_from([FAULT, GOOD, NEITHER])),
        ),
        max_size=80,
    )
)
def test_whatever_happens_probes_are_bounded_and_it_can_always_recover(steps: list[tuple[str, object]]) -> None:
    """Never more probes than the quota, never a wait over the limit, and with everything ended it serves again."""
    tried = Tried()
    running: list[bool] = []
    for step, value in steps:
        if step == "tick":
            tried.clock.tick(float(value))  # type: ignore[arg-type]
        elif step == "start" and tried.admits:
            running.append(tried.start())
        elif step == "end" and running:
            tried.end(value, probe=running.pop(0))  # type: ignore[arg-type]
        assert sum(running) <= POLICY.probes
        assert 0 <= tried.seconds_left <= POLICY.max_open_seconds
    for probe in running:
        tried.end(NEITHER, probe=probe)
    for _ in range(POLICY.minimum):  # while closed, a success can still make up the minimum of a bad ratio
        tried.clock.tick(tried.seconds_left)
        tried.attempt(GOOD)
    assert tried.admits
