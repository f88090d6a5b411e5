"""What the callers of a chaos run saw, held against the whole texts and against the servers' own logs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from soak.judged import ending_of, sent_to, told_of
from soak.questions import ALIASES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from soak.judged import Told
    from soak.llama_log import Computed
    from soak.questions import Question
    from soak.talk import Answer

__all__ = ["Outcome", "Totals", "Witness"]

_EXAMPLES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the trace of one answer says.

    Attributes:
        sent: regions it was sent to, in order.
        region: the one whose text came, whole or not; None when none came.
        tokens: how many of them when the answer was whole; None otherwise.
    """

    sent: tuple[str, ...]
    region: str | None
    tokens: int | None


@dataclass(slots=True, kw_only=True)
class Totals:
    """One server, all its lives together.

    Attributes:
        sent: requests the traces say were sent to it.
        started: of these, how many it began to compute, by its log.
        finished: how many it computed to the end, by its log.
        whole: whole answers of it that callers got.
    """

    sent: int = 0
    started: int = 0
    finished: int = 0
    whole: int = 0


@dataclass(slots=True)
class Witness:
    """Judges answers as they come and compares in the end.

    Attributes:
        texts: kind of question -> its whole text.
        endings: (policy, ending) -> answers.
        wrongs: broken promises by what they are.
        examples: the first few of them.
        outcomes: question number -> what its trace says.
        longest: seconds the slowest answer took.
    """

    texts: Mapping[int, str]
    endings: Counter[tuple[str, str]] = field(default_factory=Counter)
    wrongs: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    longest: float = 0.0

    def wrong(self, what: str, question: int) -> None:
        """Note a broken promise."""
        self.wrongs[what] += 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append(f"question {question}: {what}")

    def see(self, question: Question, answer: Answer, *, seconds: float) -> None:
        """Judge one answer."""
        self.longest = max(self.longest, seconds)
        told = told_of(answer)
        error = told.members.get("error")
        self.endings[question.policy, ending_of(answer.status, error, is_stream=told.is_stream)] += 1
        for wrong in self._wrongs(question, answer, told):
            self.wrong(wrong, question.number)

    def _wrongs(self, question: Question, answer: Answer, told: Told) -> list[str]:
        trace, error = told.members.get("routing_trace"), told.members.get("error")
        if trace is None:
            return ["no trace"]
        sent = tuple(sent_to(trace))
        region = trace["region"] if told.text else None
        self.outcomes[question.number] = Outcome(
            sent=sent, region=region, tokens=None if error is not None else len(told.text.split())
        )
        whole = self.texts[question.kind]
        broken = {
            "sent where it may not go": not set(sent) <= question.allowed,
            "served where it may not be": region is not None and region not in question.allowed,
            "the text is another server's than the trace says": told.models - ({ALIASES[region]} if region else set()),
            "header and trace differ": answer.headers.get("x-vetted-region", trace["region"]) != trace["region"],
        }
        if error is None:
            broken |= {
                "a truncated answer that looks complete": told.text != whole or told.reasons != ("length",),
                "no end of a whole answer": not told.done,
                "no receipt that fits": not _fits(told, region),
            }
        elif told.is_stream:
            broken |= {
                "a broken answer that looks complete": told.done or bool(told.reasons),
                "a broken answer with another text": not whole.startswith(told.text),
            }
        else:
            pinned = "region" in question.vetted
            broken["an unknown refusal"] = answer.status not in ({503} if pinned else {429, 502, 503, 504})
        return [name for name, holds in broken.items() if holds]

    def compare(self, servers: Mapping[str, Computed]) -> dict[str, Totals]:
        """Hold every trace against the servers' logs, request by request, and return the totals of each server."""
        totals = {region: Totals() for region in servers}
        for region, computed in servers.items():
            totals[region].started = computed.started.total()
            totals[region].finished = sum(len(times) for times in computed.tokens.values())
            for number in computed.started.keys() - self.outcomes.keys():
                self.wrong("a server computed a question of which no answer came", number)
        for number, outcome in self.outcomes.items():
            for region, computed in servers.items():
                sent = outcome.sent.count(region)
                totals[region].sent += sent
                if computed.started[number] > sent:
                    self.wrong("a server computed what the trace does not tell", number)
            if outcome.region is None:
                continue
            log = servers[outcome.region]
            if not log.started[number]:
                self.wrong("text came from a server whose log has no such request", number)
            if outcome.tokens is not None:
                totals[outcome.region].whole += 1
                if outcome.tokens not in log.tokens.get(number, ()):
                    self.wrong("a whole answer of which the server's log has no such end", number)
        return totals


def _fits(told: Told, region: str | None) -> bool:
    receipt = told.members.get("receipt")
    return (
        receipt is not None
        and receipt["region"] == region
        and receipt["completion_status"] == "complete"
        and receipt["completion_tokens"] == len(told.text.split())
    )
