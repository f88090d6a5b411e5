"""Faults of a stream of events: what it says, in which order, and how it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from faults.bodies import begun
from faults.fault import Due, Fault, Stage, after, before, well_all_the_same
from faults.playing import Asked, Ending, Gate, delta, finish, frames_of, streamed, words_of
from faults.refusals import CANARY, SOON, dripping
from vetted_mw.testing import sse

if TYPE_CHECKING:
    from collections.abc import Callable

    from faults.playing import Part, Play

__all__ = ["EVENTS"]

DONE = b"data: [DONE]\n\n"
ERROR = {"error": {"message": CANARY, "type": "server_error", "code": 500, "param": None}}
_USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
_PING = b": ping\n\n"


def _stream(frames: Callable[[Asked], list[Part]], *, ending: Ending = Ending.KEEP, ended: bool = True) -> Play:
    return lambda asked: streamed(frames(asked), ending=ending, ended=ended)


def _said(asked: Asked) -> list[Part]:
    """Role and words, without a finish chunk."""
    return [*frames_of(asked)[:4]]


def _finished(asked: Asked) -> list[Part]:
    """Role, words and finish chunk, without `[DONE]`."""
    return [*frames_of(asked, usage=False)[:5]]


def _odd(
    name: str,
    frames: Callable[[Asked], list[Part]],
    *,
    ending: Ending = Ending.KEEP,
    ended: bool = True,
    **facts: object,
) -> Fault:
    return Fault(name=name, sse=well_all_the_same(_stream(frames, ending=ending, ended=ended)), **facts)  # type: ignore[arg-type]


def _error_after(*earlier: bytes) -> Fault:
    number = {0: "first", 1: "second", 2: "third"}[len(earlier)]
    return Fault(
        name=f"error event as the {number} event",
        sse=before(lambda _: streamed([*earlier, sse(ERROR)]), "upstream_error", 200),
    )


def _two_choices(asked: Asked, *, second: list[Part]) -> list[Part]:
    words = [delta({"content": word}, index=index) for word in words_of(asked.region) for index in (0, 1)]
    return [words[0], Gate.CONTENT, *words[1:], finish(index=0), *second, DONE]


def _calls() -> list[bytes]:
    named = {"index": 0, "id": "call-1", "type": "function", "function": {"name": "look", "arguments": ""}}
    parts = [{"index": 0, "function": {"arguments": text}} for text in ('{"pla', 'ce": "Par')]
    return [delta({"tool_calls": [call]}) for call in (named, *parts)]


def _with_finish_usage(asked: Asked) -> list[Part]:
    return [*_said(asked), finish(usage=_USAGE), DONE]


EVENTS = [
    # errors inside
    _error_after(),
    _error_after(delta({"role": "assistant", "content": ""})),
    _error_after(delta({"role": "assistant"}), delta({"content": ""})),
    Fault(
        name="error event as the third event, after content",
        sse=after(begun(sse(ERROR), finish(), DONE, ended=True), "upstream_error"),
    ),
    Fault(
        name="named error event after content",
        sse=after(begun(b"event: error\n" + sse({"message": CANARY}), finish(), DONE, ended=True), "upstream_error"),
    ),
    Fault(
        name="error event that has choices too",
        sse=after(
            begun(delta({"content": "x"}, reason="stop", error=ERROR["error"]), DONE, ended=True), "upstream_error"
        ),
    ),
    # ends
    Fault(name="proper end without a frame", sse=before(_stream(lambda _: []), "upstream_cut", 200)),
    Fault(name="`[DONE]` alone", sse=before(_stream(lambda _: [DONE]), "upstream_cut", 200)),
    Fault(
        name="proper end after the role",
        sse=before(_stream(lambda asked: [*frames_of(asked)[:1]]), "upstream_cut", 200),
    ),
    Fault(name="proper end without a finish reason", sse=after(begun(ended=True, ending=Ending.KEEP), "upstream_cut")),
    Fault(
        name="all said, proper end without a finish reason",
        sse=after(
            lambda asked: streamed([*frames_of(asked)[:2], Gate.CONTENT, *frames_of(asked)[2:4]]), "upstream_cut"
        ),
    ),
    _odd("`[DONE]` without a finish reason", lambda asked: [*_said(asked), DONE]),
    _odd("finish reason, then a proper end without `[DONE]`", _finished),
    _odd("finish reason, then closed", _finished, ending=Ending.CLOSE, ended=False),
    _odd(
        "finish reason, then a reset",
        lambda asked: [*_finished(asked)[:2], Gate.CONTENT, *_finished(asked)[2:]],
        ending=Ending.RESET,
        ended=False,
    ),
    _odd(
        "finish reason, then silence",
        _finished,
        ending=Ending.SILENCE,
        ended=False,
        limits={"finish_hold_seconds": SOON},
    ),
    _odd(
        "`[DONE]`, then silence",
        lambda asked: [*_finished(asked), DONE],
        ending=Ending.SILENCE,
        ended=False,
        limits={"finish_hold_seconds": SOON},
    ),
    _odd(
        "frames after `[DONE]`",
        lambda asked: [*_finished(asked), DONE, delta({"content": "more"}), b"data: <html>\n\n"],
    ),
    # usage
    _odd("usage on a chunk of its own", lambda asked: [*frames_of(asked, usage=True)]),
    _odd("usage on the finish chunk", _with_finish_usage),
    _odd("no usage", lambda asked: [*_finished(asked), DONE]),
    # shapes
    _odd(
        "comments and pings between frames",
        lambda asked: [part for frame in frames_of(asked) for part in (_PING, b": keep-alive\n\n", frame)],
    ),
    _odd("CRLF, all frames at once", lambda asked: [b"".join(frames_of(asked)).replace(b"\n", b"\r\n")]),
    Fault(
        name="only pings, no content",
        sse=before(_stream(lambda asked: [frames_of(asked)[0], *dripping(_PING)]), "first_byte_timeout", 200),
        limits={"first_byte_seconds": SOON},
    ),
    Fault(
        name="the role, then silence",
        sse=before(
            _stream(lambda asked: [frames_of(asked)[0]], ending=Ending.SILENCE, ended=False), "first_byte_timeout", 200
        ),
        limits={"first_byte_seconds": SOON},
    ),
    Fault(
        name="one of two choices cut",
        sse=after(_stream(lambda asked: _two_choices(asked, second=[])), "upstream_cut"),
        asks={"n": 2},
        follow_up=True,
    ),
    Fault(
        name="two choices, both finished",
        sse=Due(
            play=_stream(lambda asked: _two_choices(asked, second=[finish(index=1)])),
            stage=Stage.NEVER,
            outcome="success",
            status=200,
        ),
        asks={"n": 2},
    ),
    Fault(
        name="tool calls, then cut",
        sse=after(
            lambda _: streamed([*_calls()[:1], Gate.CONTENT, *_calls()[1:]], ending=Ending.CLOSE, ended=False),
            "upstream_cut",
        ),
    ),
    Fault(
        name="tool calls, then a proper end",
        sse=after(lambda _: streamed([*_calls()[:1], Gate.CONTENT, *_calls()[1:]]), "upstream_cut"),
    ),
]
