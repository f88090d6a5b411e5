"""The body of an answer: what we read of it, the two members we add, and errors in OpenAI's envelope."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import msgspec

from vetted_mw.chat.chunk import UnreadMessage
from vetted_mw.chat.counts import is_count, read_usage, text_length
from vetted_mw.chat.members import is_sprawling, is_utf8, joined
from vetted_mw.chat.transcript import Transcript

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vetted_mw.chat.counts import Usage
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
_OBJECT = msgspec.json.Decoder(dict[str, Any])
_RAW_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])


class MalformedAnswerError(ValueError):
    """Not a JSON object. Content-free."""


class _Answer(msgspec.Struct):
    """The members we read, each left as its own bytes; all others are passed over."""

    id: msgspec.Raw = msgspec.Raw(b"null")
    model: msgspec.Raw = msgspec.Raw(b"null")
    choices: msgspec.Raw = msgspec.Raw(b"null")
    usage: msgspec.Raw = msgspec.Raw(b"null")
    error: msgspec.Raw = msgspec.Raw(b"null")


class _Choice(msgspec.Struct):
    index: msgspec.Raw = msgspec.Raw(b"null")
    message: msgspec.Raw = msgspec.Raw(b"null")
    finish_reason: msgspec.Raw = msgspec.Raw(b"null")


_READ = msgspec.json.Decoder(_Answer)
_CHOICE = msgspec.json.Decoder(_Choice)
_CHOICES = msgspec.json.Decoder(list[_Choice])
_MANY_IN_CHOICES = 1_000_000
"""Lists and objects in `choices`: the probabilities of each token are passed over, but there are many of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What an answer says of itself.

    Attributes:
        id: the upstream's id for it.
        model: the model it names.
        usage: its token counts; None when it has none that can be right.
        finish_reasons: one per choice that has one.
        completion_characters: characters of text, reasoning, refusals and tool arguments, for an estimate; all of
            `choices` where they cannot be told apart.
        is_answer: whether it has a list of choices with one in it, as a chat completion must.
        is_error: whether it has an `error` member that is not null.
        choices: undecoded, for the digest; None where they could not be read.
    """

    id: str | None
    model: str | None
    usage: Usage | None
    finish_reasons: tuple[str, ...]
    completion_characters: int
    is_answer: bool
    is_error: bool
    choices: tuple[_Choice, ...] | None = field(default=None, repr=False, compare=False)

    def transcript_digest(self, nonce: bytes) -> str | None:
        """Return the digest of what it says, keyed with `nonce`; None where that could not be read."""
        transcript = Transcript(nonce)
        indices = set()
        for place, choice in enumerate(self.choices or ()):
            told, reason = _value(choice.index), _string(_value(choice.finish_reason))
            index = told if is_count(told) else place
            indices.add(index)
            transcript.message(index, _message(choice.message), reason)
        return transcript.digest() if len(indices) == len(self.choices or ()) else None  # else two stand for one


@dataclass(frozen=True, slots=True, kw_only=True)
class Edited:
    """A body with our members in it; `replaced` names those that were there before."""

    body: bytes
    replaced: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamMessage:
    """An upstream's own words about an error. They may quote the caller: for the caller only, never logged."""

    message: str
    type: str | None = None
    code: str | None = None
    param: str | None = None


def read_answer(body: bytes) -> Answer:
    """Read what we need of a whole JSON answer; lenient about everything inside the object.

    Raises:
        MalformedAnswerError: it is not a JSON object.
    """
    answer = _read(body)
    choices = _choices(answer.choices)
    return Answer(
        id=_string(_value(answer.id)),
        model=_string(_value(answer.model)),
        usage=read_usage(_value(answer.usage)),
        finish_reasons=tuple(reason for choice in choices or () if (reason := _string(_value(choice.finish_reason)))),
        completion_characters=(
            len(bytes(answer.choices))
            if choices is None
            else sum(text_length(_value(choice.message)) for choice in choices)
        ),
        is_answer=_is_filled_list(bytes(answer.choices)),
        is_error=bytes(answer.error) != b"null",
        choices=None if choices is None else tuple(choices),
    )


def _is_filled_list(value: bytes) -> bool:
    return value.startswith(b"[") and not value[1:].lstrip().startswith(b"]")


def has_choices(body: bytes) -> bool:
    """Whether `body` is a JSON object with a list `choices`."""
    try:
        return bytes(_read(body).choices).startswith(b"[")
    except MalformedAnswerError:
        return False


def add_members(body: bytes, members: Mapping[str, bytes]) -> Edited:
    """Add members at the end of a JSON object, its own bytes untouched; one of the same name gives way to ours.

    Args:
        body: a JSON object; a name that stands twice in it is the upstream's business, unless the name is ours.
        members: name -> encoded value.
    """
    if not members:
        return Edited(body=body, replaced=())
    found = _top_level(body)
    replaced = tuple(name for name in members if found is not None and name in found)
    if found is None or not replaced:
        end = body.rindex(b"}")
        comma = b"" if found is not None and not found else b","
        return Edited(body=body[:end] + comma + joined(members.items())[1:] + body[end + 1 :], replaced=())
    kept = [(name, bytes(value)) for name, value in found.items() if name not in members]
    return Edited(body=joined([*kept, *members.items()]), replaced=replaced)


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
    return found if found.message else replace(found, message=_no_words(status))


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


def _read(body: bytes) -> _Answer:
    if not is_utf8(body):
        raise MalformedAnswerError
    try:
        return _READ.decode(body)
    except (msgspec.DecodeError, RecursionError):
        raise MalformedAnswerError from None


def _value(raw: msgspec.Raw) -> Any:
    """Decode one member; None for one that our reader does not hold, or that is far more than it should be."""
    try:
        return None if is_sprawling(bytes(raw)) else msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return None


def _message(raw: msgspec.Raw) -> dict[str, Any] | None:
    """Decode a message; None for one that is no object."""
    data = bytes(raw)
    if not data.startswith(b"{"):
        return None
    if not is_sprawling(data):
        with contextlib.suppress(msgspec.DecodeError, RecursionError):
            return _OBJECT.decode(data)
    return UnreadMessage()


def _choices(raw: msgspec.Raw) -> list[_Choice] | None:
    """Read the choices that are objects; None for what is more than our reader holds, or than is worth reading."""
    if is_sprawling(bytes(raw), most=_MANY_IN_CHOICES):
        return None
    try:
        return _CHOICES.decode(raw)
    except msgspec.ValidationError:
        return _odd_choices(raw)
    except (msgspec.DecodeError, RecursionError):
        return None


def _odd_choices(raw: msgspec.Raw) -> list[_Choice]:
    try:
        each = msgspec.json.decode(raw, type=list[msgspec.Raw])
    except msgspec.ValidationError:
        return []  # no list
    return [_CHOICE.decode(one) for one in each if bytes(one).startswith(b"{")]


def _top_level(body: bytes) -> dict[str, msgspec.Raw] | None:
    """Return the members of `body`, the last of equal names; None when it is more than our reader holds."""
    try:
        return _RAW_OBJECT.decode(body)
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
