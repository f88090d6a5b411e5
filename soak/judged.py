"""Judge one answer as a careful caller would: how it ended, and what in it breaks a promise."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from soak.plan import words_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from soak.plan import Plan
    from soak.talk import Answer

__all__ = ["Told", "Verdict", "ending_of", "judge", "sent_to", "told_of"]

_REFUSALS = frozenset({400, 429, 502, 503, 504})
_UNSEEN = frozenset({"first_byte_timeout", "answer_timeout", "upstream_cut"})
_NOT_SENT = frozenset({"not_admitted", "connect_error", "connect_timeout", "tls_error"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What an answer says, streamed or not.

    Attributes:
        text: of all its frames.
        members: the object that carries our members, or `error`; empty without one.
        done: it ends as whole answers do: 200 and JSON, or `[DONE]`.
        is_stream: whether it is a stream.
        models: names that the server gives itself in it.
        reasons: finish reasons.
    """

    text: str
    members: dict[str, Any]
    done: bool
    is_stream: bool
    models: frozenset[str]
    reasons: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class Verdict:
    """What became of one answer.

    Attributes:
        ending: a word for the table.
        wrongs: broken promises, empty in a good answer.
        sent: regions to which the trace says the request was sent, in order; None without a trace.
        unseen: those of them that gave no answer at all: they may have closed the connection, or not read it in time.
    """

    ending: str
    wrongs: list[str] = field(default_factory=list)
    sent: list[str] | None = None
    unseen: frozenset[str] = frozenset()


def judge(plan: Plan, answer: Answer) -> Verdict:
    """Judge the whole answer to `plan`."""
    told = told_of(answer)
    error = told.members.get("error")
    verdict = Verdict(ending=ending_of(answer.status, error, is_stream=told.is_stream))
    trace = told.members.get("routing_trace")
    if trace is None:
        verdict.wrongs.append("no trace")
        return verdict
    verdict.sent = sent_to(trace)
    verdict.unseen = frozenset(
        one["region"] for one in trace["attempts"] if one["outcome"] in _UNSEEN and one.get("status") is None
    )
    wrong = verdict.wrongs.append
    if error is None:
        _judge_whole(plan, answer, told, wrong=wrong)
    elif told.is_stream:
        _judge_broken(plan, answer, told, wrong=wrong)
    elif answer.status not in _REFUSALS:
        wrong(f"status {answer.status}")
    if not set(verdict.sent) <= plan.allowed:
        wrong("sent where it may not go")
    if answer.headers.get("x-vetted-region", trace["region"]) != trace["region"]:
        wrong("header and trace name two regions")
    if trace["region"] is not None and trace["region"] not in plan.allowed:
        wrong("served by a region that may not serve it")
    if "region" in plan.vetted and error is not None and not told.is_stream and answer.status not in {400, 503}:
        wrong("a pinned region's failure is not a 503")
    return verdict


def _judge_whole(plan: Plan, answer: Answer, told: Told, *, wrong: Callable[[str], None]) -> None:
    trace, receipt = told.members["routing_trace"], told.members.get("receipt")
    if not told.done:
        wrong("ends without error and without [DONE]")
    if told.text != "".join(words_of(plan.number, str(answer.headers.get("x-vetted-region")))):
        wrong("a complete answer with another text than the region's whole one")
    if trace["attempts"][-1]["outcome"] != "success" or trace["attempts"][-1]["region"] != trace["region"]:
        wrong("the last attempt is not the one that served")
    if receipt is None or receipt["completion_status"] != "complete" or receipt["region"] != trace["region"]:
        wrong("no receipt that fits")


def _judge_broken(plan: Plan, answer: Answer, told: Told, *, wrong: Callable[[str], None]) -> None:
    if told.done:
        wrong("an error and [DONE]")
    if not "".join(words_of(plan.number, str(answer.headers.get("x-vetted-region")))).startswith(told.text):
        wrong("a broken answer with a text that is not the beginning of the region's")


def sent_to(trace: dict[str, Any]) -> list[str]:
    """Return the regions to which the trace says the request was sent."""
    return [attempt["region"] for attempt in trace["attempts"] if attempt["outcome"] not in _NOT_SENT]


def told_of(answer: Answer) -> Told:
    """Read a whole answer."""
    is_stream = answer.headers.get("content-type", "").startswith("text/event-stream")
    frames = [event[6:] for event in answer.body.split(b"\n\n") if event.startswith(b"data: ")] if is_stream else []
    bodies = [frame for frame in frames if frame != b"[DONE]"] if is_stream else [answer.body]
    objects: list[dict[str, Any]] = [msgspec.json.decode(body) for body in bodies]
    choices = [choice for one in objects for choice in one.get("choices", ())]
    return Told(
        text="".join(choice.get("delta", choice.get("message", {})).get("content") or "" for choice in choices),
        members=next((one for one in objects if "routing_trace" in one or "error" in one), {}),
        done=frames[-1:] == [b"[DONE]"] if is_stream else answer.status == 200,  # noqa: PLR2004
        is_stream=is_stream,
        models=frozenset(one["model"] for one in objects if "model" in one),
        reasons=tuple(choice["finish_reason"] for choice in choices if choice.get("finish_reason")),
    )


def ending_of(status: int, error: Mapping[str, Any] | None, *, is_stream: bool) -> str:
    """Name how an answer ended, for a table."""
    if error is None:
        return f"{status} {'stream' if is_stream else 'JSON'}, whole"
    return f"{status} {'stream, ended by ' if is_stream else ''}{error['code']}"
