"""Whatever happens in whatever order: probes are bounded, only evidence closes a breaker, and it can always recover."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from vetted_mw.fleet.breaker import Breaker, BreakerPolicy, BreakerState
from vetted_mw.testing import ManualClock

if TYPE_CHECKING:
    from vetted_mw.fleet.breaker import Trial

POLICY = BreakerPolicy(
    window_seconds=30, minimum=3, ratio=0.5, open_seconds=5, max_open_seconds=20, calm_seconds=60, probes=2, evidences=2
)


class BreakerMachine(RuleBasedStateMachine):
    """Attempts begin, are proved and end while time passes; a count of our own says how many probes are out."""

    trials: Bundle[Trial] = Bundle("trials")

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.breaker = Breaker(POLICY, jitter=lambda: 0.5)
        self.out: list[Trial] = []
        self.running: list[Trial] = []
        self.fresh: list[Trial] = []
        self.proofs = 0
        self.before = BreakerState.CLOSED
        self.is_evidence = False

    @property
    def now(self) -> float:
        return self.clock.monotonic()

    @property
    def state(self) -> BreakerState:
        return self.breaker.state(self.now)

    def _act(self, *, is_evidence: bool) -> None:
        self.before = self.state
        self.is_evidence = is_evidence

    def _settle(self) -> None:
        """An open breaker is only closed by evidence; a new opening makes what was begun before it old."""
        if self.before is not BreakerState.CLOSED and self.state is BreakerState.CLOSED:
            assert self.is_evidence
            assert self.before is BreakerState.HALF_OPEN
        if self.state is BreakerState.OPEN and self.before is not BreakerState.OPEN:
            self.fresh.clear()
            self.proofs = 0

    @rule(seconds=st.floats(min_value=0, max_value=90))
    def tick(self, seconds: float) -> None:
        self._act(is_evidence=False)
        self.clock.tick(seconds)
        assert (self.state is BreakerState.CLOSED) is (self.before is BreakerState.CLOSED)

    @precondition(lambda self: self.breaker.admits(self.now))
    @rule(target=trials)
    def start(self) -> Trial:
        self._act(is_evidence=False)
        trial = self.breaker.started(self.now)
        self.running.append(trial)
        if self.before is BreakerState.HALF_OPEN:
            self.out.append(trial)
            self.fresh.append(trial)
        self._settle()
        return trial

    @rule(trial=trials)
    def prove(self, trial: Trial) -> None:
        if trial not in self.running:
            return
        is_first = trial in self.fresh and trial in self.out
        self.proofs += is_first
        self._act(is_evidence=is_first and self.proofs >= POLICY.evidences)
        self.breaker.proved(self.now, trial)
        if trial in self.out:
            self.out.remove(trial)
        self._settle()

    @rule(trial=consumes(trials), fault=st.sampled_from([True, False, None]))
    def end(self, trial: Trial, fault: bool | None) -> None:
        self._act(is_evidence=fault is False and trial in self.fresh)
        self.breaker.ended(self.now, trial, fault=fault)
        self.running.remove(trial)
        if trial in self.out:
            self.out.remove(trial)
        self._settle()

    @invariant()
    def probes_are_bounded(self) -> None:
        assert len(self.out) <= POLICY.probes
        if self.state is BreakerState.HALF_OPEN:
            assert self.breaker.admits(self.now) is (len(self.out) < POLICY.probes)

    @invariant()
    def waits_are_bounded(self) -> None:
        assert 0 <= self.breaker.seconds_left(self.now) <= POLICY.max_open_seconds * 1.1

    def teardown(self) -> None:
        """With everything ended and time gone by, good answers close it."""
        for trial in self.running:
            self.breaker.ended(self.now, trial, fault=None)
        self.clock.tick(100)
        assert self.breaker.admits(self.now)
        self.breaker.ended(self.now, self.breaker.started(self.now), fault=False)
        assert self.state is BreakerState.CLOSED


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0, 7.25, 29.5, 30.0, 30.25]), st.booleans()), max_size=60))
def test_outcomes_that_do_not_come_fast_are_counted_each_by_its_own_instant(outcomes: list[tuple[float, bool]]) -> None:
    """It opens exactly where the share among the outcomes no older than the window says so."""
    breaker, now, seen = Breaker(POLICY), 0.0, list[tuple[float, bool]]()
    for seconds, fault in outcomes:
        now += seconds
        breaker.ended(now, breaker.started(now), fault=fault)
        seen = [(at, bad) for at, bad in [*seen, (now, fault)] if at >= now - POLICY.window_seconds]
        faults = sum(bad for _at, bad in seen)
        opens = faults > 0 and faults >= POLICY.ratio * len(seen) and len(seen) >= POLICY.minimum
        assert (breaker.state(now) is BreakerState.OPEN) is opens
        if opens:
            return
