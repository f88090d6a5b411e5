"""The body of an answer: the two members we add to it, and errors in OpenAI's envelope."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import msgspec

from vetted_mw.chat.answer import Answer, MalformedAnswerError, has_choices, read_answer
from vetted_mw.chat.members import is_sprawling, joined

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vetted_mw.errors import AnswerError

__all__ = [
    "Answer",
    "Edited",
    "MalformedAnswerError",
    "UpstreamMessage",
    "add_members",
    "error_envelope",
    "error_message",
    "has_choices",
    "read_answer",
    "read_error",
    "retry_headers",
    "upstream_message",
]

_MAX_MESSAGE = 2000
_DEEPEST_WORDS = 5
_SMALL_BYTES = 16_384
"""So much is copied twice at less cost than that of a view of it."""
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Edited(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A body with our members in it; `replaced` names those that were there before."""

    body: bytes
    replaced: tuple[str, ...]


class UpstreamMessage(msgspec.Struct, frozen=True, kw_only=True):
    """An upstream's own words about an error. They may quote the caller: for the caller only, never logged."""

    message: str
    type: str | None = None
    code: str | None = None
    param: str | None = None


def add_members(body: bytes, members: Mapping[str, bytes], *, names: frozenset[str] | None = None) -> Edited:
    """Add members at the end of a JSON object, its own bytes untouched; one of the same name gives way to ours.

    Args:
        body: a JSON object; a name that stands twice in it is the upstream's business, unless the name is ours.
        members: name -> encoded value.
        names: the object has a member, and all of them are among these; None: not known.
    """
    if names is not None and members and names.isdisjoint(members):
        return Edited(body=_spliced(body, members), replaced=())
    if not members:
        return Edited(body=body, replaced=())
    found = _top_level(body)
    replaced = tuple(name for name in members if found is not None and name in found)
    if found is None or not replaced:
        return Edited(body=_spliced(body, members, is_empty=found is not None and not found), replaced=())
    kept = [(name, bytes(value)) for name, value in found.items() if name not in members]
    return Edited(body=joined([*kept, *members.items()]), replaced=replaced)


def _spliced(body: bytes, members: Mapping[str, bytes], *, is_empty: bool = False) -> bytes:
    end = body.rindex(b"}")
    parts: list[bytes | memoryview] = [body[:end] if end < _SMALL_BYTES else memoryview(body)[:end]]
    for name, value in members.items():
        parts.append(_opening(name))
        parts.append(value)
    if is_empty:
        parts[1] = parts[1][1:]  # nothing stands before it
    parts.append(body[end:])
    return b"".join(parts)


@functools.lru_cache(maxsize=32)  # names of ours: few
def _opening(name: str) -> bytes:
    return b",%b:" % msgspec.json.encode(name)


def error_message(error: object) -> UpstreamMessage:
    """Read an `error` value as upstreams write it: an object, a bare string, or a list of either."""
    message = _words(error)[:_MAX_MESSAGE]
    if not isinstance(error, dict):
        return UpstreamMessage(message=message)
    return UpstreamMessage(
        message=message,
        type=_string(error.get("type")),
        code=_code(error.get("code")),
        param=_string(error.get("param")),
    )


def read_error(body: bytes) -> UpstreamMessage:
    """Read an error in any of the shapes real servers use: OpenAI's, bare or under `error`, `detail`, plain text.

    The message is empty where it has no words, and where it is far more than an error.
    """
    if is_sprawling(body):
        return UpstreamMessage(message="")
    try:
        told: object = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        told = body.decode("utf-8", "replace").strip()
    if isinstance(told, dict):
        told = next((told[name] for name in ("error", "detail") if told.get(name) is not None), told)
    return error_message(told)


def upstream_message(status: int, body: bytes) -> UpstreamMessage:
    """Read an error body, with words of ours where it has none."""
    found = read_error(body)
    return found if found.message else msgspec.structs.replace(found, message=_no_words(status))


def error_envelope(
    error: AnswerError, *, trace: bytes | None = None, extra: Mapping[str, bytes] | None = None
) -> bytes:
    """Write `{"error": {...}}`, with `routing_trace` beside it when a decision was made."""
    inner = {"message": error.message, "type": error.type, "code": error.code, "param": error.param}
    members = {"error": msgspec.json.encode(inner), **(extra or {})}
    if trace is not None:
        members["routing_trace"] = trace
    return joined(members.items())


def retry_headers(error: AnswerError) -> list[tuple[bytes, bytes]]:
    """Return the headers that tell a client whether and when to try again, and with what."""
    headers: list[tuple[bytes, bytes]] = []
    if not error.retryable:
        headers.append((b"x-should-retry", b"false"))
    if error.retry_after is not None:
        headers.append((b"retry-after", str(max(1, math.ceil(error.retry_after))).encode()))
    if error.status == 401:  # noqa: PLR2004
        headers.append((b"www-authenticate", b"Bearer"))
    return headers


def _top_level(body: bytes) -> dict[str, msgspec.Raw] | None:
    """Return the members of `body`, the last of equal names; None when it is more than our reader holds."""
    try:
        return _OBJECT.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _no_words(status: int) -> str:
    return f"The region's server refused the request with HTTP {status} and gave no reason."


def _words(told: object, deepest: int = _DEEPEST_WORDS) -> str:
    """Find what an error says in words; an entry of FastAPI's `detail` names the request member it is about."""
    if isinstance(told, str):
        return told
    if deepest == 0:
        return ""
    if isinstance(told, list):
        return "; ".join(filter(None, (_words(part, deepest - 1) for part in told)))
    if not isinstance(told, dict):
        return ""
    found = (_words(told.get(name), deepest - 1) for name in ("message", "msg", "detail", "error"))
    words = next(filter(None, found), "")
    steps = (step for step in _list(told.get("loc")) if isinstance(step, (str, int)) and step != "body")
    place = ".".join(map(str, steps))
    return f"{place}: {words}" if place and words else words


def _code(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return None
    return str(value)[:200]


def _string(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
