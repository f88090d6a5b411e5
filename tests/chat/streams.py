"""Streams for the tests of this folder: chunks as upstreams write them, and an SSE reader of our own to look at output.

The reader follows the WHATWG "event stream interpretation" and shares nothing with the code under test.
"""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vetted_mw.chat.sse import AnswerStream

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

DONE = b"data: [DONE]\n\n"
MEMBERS = {"receipt": b'{"gco2e":0.0015}', "routing_trace": b'{"region":"scaleway-par-1"}'}
HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_764_000_123, "model": "real-name"}
USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One dispatched event."""

    name: str
    data: str

    def json(self) -> Any:
        """Return the decoded data."""
        return json.loads(self.data)


def events(stream: bytes) -> list[Event]:
    """Read a whole stream as an SSE client does: comments and events without data are dropped, so is a cut last one."""
    found: list[Event] = []
    name = ""
    data: list[str] = []
    lines = re.split(r"\r\n|\n|\r", stream.decode().removeprefix("\ufeff"))
    for line in lines[:-1]:
        if not line:
            if data and data != [""]:
                found.append(Event(name=name, data="\n".join(data)))
            name, data = "", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data.append(value)
        elif field == "event":
            name = value
    return found


def chunks(stream: bytes) -> list[dict[str, Any]]:
    """Return the decoded data of every event but `[DONE]`."""
    return [event.json() for event in events(stream) if event.data != "[DONE]"]


def text_of(stream: bytes, *, choice: int = 0) -> str:
    """Return the text that a client puts together for one choice."""
    return "".join(
        told.get("delta", {}).get("content") or ""
        for chunk in chunks(stream)
        for told in chunk.get("choices") or ()
        if told.get("index", 0) == choice
    )


def frame(data: object, *, end: str = "\n") -> bytes:
    """Write one event with `data` as JSON."""
    return f"data: {json.dumps(data, ensure_ascii=False)}{end}{end}".encode()


def delta(index: int = 0, *, finish: str | None = None, **members: Any) -> bytes:
    """Write a chunk of one choice."""
    return frame({**HEAD, "choices": [{"index": index, "delta": members, "finish_reason": finish}]})


def usage_chunk(**usage: Any) -> bytes:
    """Write the usage chunk, `choices: []`, as OpenAI's API does."""
    return frame({**HEAD, "choices": [], "usage": usage or USAGE})


ROLE = delta(role="assistant", content="")
FINISH = delta(finish="stop")


def opened(**options: Any) -> AnswerStream:
    """Open a stream of one choice, as a caller who did not ask for usage gets it."""
    return AnswerStream(**({"choices": 1, "include_usage": False, "max_frame_bytes": 1 << 20} | options))


def played(parts: Iterable[bytes], stream: AnswerStream) -> bytes:
    """Feed `parts`, then end the stream as the proxy does: with the members where it is complete, else not at all."""
    out = b"".join(stream.feed(part) for part in parts)
    if not stream.done and stream.error is None and not stream.broken:
        out += stream.ended_by_upstream()
    is_whole = stream.complete and stream.error is None and not stream.broken
    return out + stream.close(MEMBERS) if is_whole else out


def cut_at(data: bytes, places: Sequence[int]) -> list[bytes]:
    """Cut `data` at `places`."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[begin:end] for begin, end in itertools.pairwise(edges)]
