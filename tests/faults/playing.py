"""What a scripted upstream writes: parts, pauses, gates that wait for the other side, and how it ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from vetted_mw.testing import chat_completion, chat_frames, sse

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "CHUNKED",
    "JSON",
    "SSE",
    "Asked",
    "Ending",
    "Gate",
    "Part",
    "Play",
    "Script",
    "answer",
    "chunk",
    "chunked",
    "delta",
    "finish",
    "frames_of",
    "head",
    "said_by",
    "streamed",
    "well",
    "whole",
    "words_of",
]


class Gate(Enum):
    """What the upstream waits for before it goes on, so that no pause has to be long enough."""

    HEAD = "the gateway has read the head of this answer"
    BEGIN = "the caller has got the status of this answer"
    CONTENT = "the caller has got content of this answer"


class Ending(Enum):
    """What becomes of the connection after the last part."""

    KEEP = "the next request may come"
    CLOSE = "closed"
    RESET = "reset"
    SILENCE = "left open, and nothing more is said"


Part = bytes | float | Gate
CHUNKED = ("transfer-encoding", "chunked")
JSON = ("content-type", "application/json")
SSE = ("content-type", "text/event-stream; charset=utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The request an upstream answers.

    Attributes:
        region: the region it plays.
        stream: whether a stream was asked for.
        members: the decoded body.
        trap: where a redirect leads.
    """

    region: str
    stream: bool
    members: Mapping[str, Any] = field(default_factory=dict)
    trap: str = ""

    @property
    def choices(self) -> int:
        """How many were asked for."""
        return int(self.members.get("n", 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """One answer, byte for byte: `parts` (a number is a pause in seconds), and its ending."""

    parts: Sequence[Part]
    ending: Ending = Ending.KEEP


Play = Callable[[Asked], Script]


# ---- what a region says


def words_of(region: str) -> list[str]:
    """The words of a region's answer; one has letters of two bytes."""
    return ["Grü", "ße", f" aus {region}"]


def said_by(region: str) -> str:
    """The whole known text of a region's answer."""
    return "".join(words_of(region))


def whole(asked: Asked, **members: Any) -> bytes:
    """A whole JSON answer."""
    return chat_completion(text=said_by(asked.region), model="m", **members)


def frames_of(asked: Asked, *, usage: bool | None = None) -> list[bytes]:
    """The frames of a good stream: role, three words, finish, usage where it was asked for, `[DONE]`."""
    if asked.choices > 1:
        texts = [
            delta({"content": word}, index=index) for word in words_of(asked.region) for index in range(asked.choices)
        ]
        return [*texts, *(finish(index=index) for index in range(asked.choices)), b"data: [DONE]\n\n"]
    wanted = bool((asked.members.get("stream_options") or {}).get("include_usage")) if usage is None else usage
    return chat_frames(words=words_of(asked.region), model="m", usage=(5, 2) if wanted else None)


def delta(members: Mapping[str, Any], *, index: int = 0, reason: str | None = None, **more: Any) -> bytes:
    """A frame with one choice."""
    choice = {"index": index, "delta": dict(members), "finish_reason": reason}
    return sse({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **more})


def finish(*, index: int = 0, **more: Any) -> bytes:
    """A finish chunk."""
    return delta({}, index=index, reason="stop", **more)


# ---- bytes of HTTP


def head(status: int, headers: Iterable[tuple[str, str]]) -> bytes:
    """Status line and headers."""
    lines = [f"HTTP/1.1 {status} Scripted", *(f"{name}: {value}" for name, value in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def answer(
    status: int, body: bytes, *headers: tuple[str, str], length: int | None = None, ending: Ending = Ending.KEEP
) -> Script:
    """An answer with a body of a declared length, which may be wrong."""
    declared = ("content-length", str(len(body) if length is None else length))
    return Script(parts=[head(status, [declared, *headers]), body], ending=ending)


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def chunked(
    parts: Iterable[Part], *headers: tuple[str, str], ending: Ending = Ending.KEEP, ended: bool = True
) -> Script:
    """A chunked answer; `ended` says whether its last chunk comes before the ending."""
    body = [chunk(part) if isinstance(part, bytes) else part for part in parts]
    last = [b"0\r\n\r\n"] if ended else []
    return Script(parts=[head(200, [CHUNKED, *headers]), *body, *last], ending=ending)


def streamed(
    parts: Iterable[Part], *headers: tuple[str, str], ending: Ending = Ending.KEEP, ended: bool = True
) -> Script:
    """A stream of events in chunks."""
    return chunked(parts, SSE, *headers, ending=ending, ended=ended)


def well(asked: Asked) -> Script:
    """The answer of an upstream that is well."""
    return streamed(frames_of(asked)) if asked.stream else answer(200, whole(asked), JSON)
