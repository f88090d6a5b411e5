"""What the outcome table and the error table ask for in one case of the wall, and how to tell it from the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from faults.fault import Stage
from faults.playing import said_by
from faults.policies import Policy

if TYPE_CHECKING:
    from faults.fault import Due, Fault
    from streams.wall import Told

__all__ = ["ATTEMPTS", "Case", "said", "says_that_it_failed"]

ATTEMPTS = 3
_TIMEOUTS = {"connect_timeout", "first_byte_timeout", "idle_timeout", "answer_timeout"}
Attempt = tuple[str, str, int | None]
_BY_ORDER = (("preferred", "preferred_available"), ("failover", "attempt_failed"))
_PIN = (("pinned", "pinned_region_available"), ("failover", "documented_secondary"))
_REASONS = {
    Policy.DEFAULT: _BY_ORDER,
    Policy.EVERYWHERE: _BY_ORDER,
    Policy.PINNED: _PIN,
    Policy.SECONDARY: _PIN,
    Policy.CARBON_AWARE: (("live", "lowest_live_intensity"), ("failover", "live_candidates_exhausted")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One fault, in one kind of request, under one policy, over one transport to the upstreams."""

    fault: Fault
    stream: bool
    policy: Policy
    transport: str

    @property
    def due(self) -> Due:
        """What must come of the fault."""
        due = self.fault.due(stream=self.stream)
        assert due is not None
        return due

    @property
    def attempts(self) -> list[Attempt]:
        """The attempts (region, outcome, status): on to the next region before commit, and never after it."""
        attempts: list[Attempt] = []
        for region in self.policy.value.order[:ATTEMPTS]:
            if not self.is_faulty(region):
                return [*attempts, (region, "success", 200)]
            attempts.append((region, self.due.outcome, self.due.status))
            if self.due.stage is not Stage.BEFORE:
                break
        return attempts

    @property
    def is_whole(self) -> bool:
        """Whether the caller gets a whole answer."""
        return self.attempts[-1][1] == "success"

    @property
    def region(self) -> str | None:
        """The region whose answer the caller gets, whole, broken, or its word on what the caller did wrong."""
        return None if not self.is_whole and self.due.stage is Stage.BEFORE else self.attempts[-1][0]

    @property
    def text(self) -> dict[int, str]:
        """The whole text of that region's answer, by choice."""
        return {index: said_by(str(self.region)) for index in range(self.fault.asks.get("n", 1))}

    @property
    def refusal(self) -> tuple[int, str]:
        """Status and code of an answer that is an error."""
        due = self.due
        if due.stage is Stage.CALLER:
            return due.status or 0, due.code or ""
        if self.policy.is_pin:
            return 503, "service_unavailable"
        if due.outcome == "saturated":
            return 429, "all_regions_saturated"
        if due.outcome in _TIMEOUTS:
            return 504, "upstream_timeout"
        return 502, "upstream_invalid_response" if due.outcome == "invalid_response" else "upstream_error"

    @property
    def reason(self) -> tuple[str, str]:
        """Mode and reason of the decision as it finally stands."""
        if self.region is None and self.policy.is_pin:
            return "unavailable", "pinned_region_unavailable"
        if self.region is None:
            return "unavailable", "all_regions_saturated" if self.due.outcome == "saturated" else "attempts_exhausted"
        served_first, served_later = _REASONS[self.policy]
        return served_first if self.region == self.policy.value.order[0] else served_later

    def is_faulty(self, region: str) -> bool:
        """Whether `region` plays the fault."""
        return region in self.policy.value.faulty

    def __str__(self) -> str:
        return f"{self.fault}-{'sse' if self.stream else 'json'}-{self.policy}-{self.transport}"


def said(told: Told) -> dict[int, str]:
    """The text a caller got, by choice."""
    if not told.frames:
        return {0: told.text}
    texts: dict[int, str] = {}
    for frame in told.frames:
        for choice in frame.get("choices", ()) if isinstance(frame, dict) else ():
            index = choice["index"]
            texts[index] = texts.get(index, "") + (choice["delta"].get("content") or "")
    return texts


def says_that_it_failed(told: Told) -> bool:
    """Whether no client library can take it for a success.

    A status of an error, or a last frame with one error and no choices, no `[DONE]` anywhere, and a finish reason not
    for every choice.
    """
    if told.status >= 400:
        return len(told.errors) == 1
    frames = told.frames
    if not frames or "[DONE]" in frames or len(told.errors) != 1:
        return False
    choices = [choice for frame in frames for choice in frame.get("choices", ())]
    unfinished = {choice["index"] for choice in choices} - {
        choice["index"] for choice in choices if choice.get("finish_reason")
    }
    return "error" in frames[-1] and "choices" not in frames[-1] and bool(unfinished or not choices)
