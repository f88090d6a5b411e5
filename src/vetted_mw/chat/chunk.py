"""One chunk of a chat completion's stream: what we read of it. Lenient about every member, within limits."""

from __future__ import annotations

import contextlib
from typing import Any, Literal

import msgspec

from vetted_mw.chat.frames import event_and_data
from vetted_mw.chat.members import is_sprawling, is_utf8

__all__ = [
    "SMALL_BYTES",
    "Choice",
    "Chunk",
    "MalformedChunkError",
    "PlainChoice",
    "PlainDelta",
    "UnreadMessage",
    "delta_of",
    "is_chat_chunk",
    "read_chunk",
    "read_plain_chunk",
]

_NULL = msgspec.Raw(b"null")
SMALL_BYTES = 4096
"""A chunk of so many bytes cannot hold enough to be worth a look before it is decoded."""
_MANY_IN_CHUNK = 200_000
"""Lists and objects in one chunk: a whole answer in one, with the probabilities of its tokens, has fewer."""


class MalformedChunkError(ValueError):
    """Not a JSON object in UTF-8. Content-free."""


class UnreadMessage(dict[str, Any]):
    """A message or delta that our reader does not hold: there is something in it, and nobody knows what."""


class Choice(msgspec.Struct):
    """What one chunk says of one choice.

    Attributes:
        index: which one it is.
        delta: what is new of it; undecoded where the chunk was not small.
        finish_reason: why it ended; None, or empty, while it goes on.
    """

    index: int = 0
    delta: msgspec.Raw | dict[str, Any] | None = None
    finish_reason: str | None = None


class Chunk(msgspec.Struct):
    """What one chunk says. A member of a wrong type counts as absent.

    Attributes:
        id: of the answer.
        model: the one it names.
        kind: what it says it is, in `object`.
        created: seconds since 1970.
        choices: None when there is no list of them.
        usage: undecoded.
        error: undecoded.
    """

    id: str | None = None
    model: str | None = None
    kind: str | None = msgspec.field(name="object", default=None)
    created: int | None = None
    choices: list[Choice] | None = None
    usage: msgspec.Raw = _NULL
    error: msgspec.Raw = _NULL

    @property
    def is_error(self) -> bool:
        """Whether it tells an error and no part of an answer."""
        return bytes(self.error) != b"null" or self.kind == "error"

    @property
    def has_usage(self) -> bool:
        """Whether `usage` is an object."""
        return bytes(self.usage).startswith(b"{")

    def read_usage(self) -> Any:
        """Decode `usage`; None for one that our reader does not hold."""
        return _value(self.usage)


class _UndecodedChoice(Choice):
    delta: msgspec.Raw = _NULL


class _DecodedChoice(Choice):
    delta: dict[str, Any] | None = None


class _LargeChunk(Chunk):
    choices: list[_UndecodedChoice] | None = None  # type: ignore[assignment]  # narrower, and only read


class _SmallChunk(Chunk):
    choices: list[_DecodedChoice] | None = None  # type: ignore[assignment]


class _AnyChoice(msgspec.Struct):
    index: msgspec.Raw = _NULL
    delta: msgspec.Raw = _NULL
    finish_reason: msgspec.Raw = _NULL


class _AnyChunk(msgspec.Struct):
    id: msgspec.Raw = _NULL
    model: msgspec.Raw = _NULL
    kind: msgspec.Raw = msgspec.field(name="object", default=_NULL)
    created: msgspec.Raw = _NULL
    choices: msgspec.Raw = _NULL
    usage: msgspec.Raw = _NULL
    error: msgspec.Raw = _NULL


class _Object(msgspec.Struct, gc=False):
    """Any object, its members passed over."""


class PlainDelta(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A delta of texts alone where the other members are null or empty."""

    role: str | None = None
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[_Object] | None = None
    function_call: _Object | None = None


class PlainChoice(msgspec.Struct, gc=False):
    """What a plain chunk says of its one choice.

    Attributes:
        delta: what is new of it.
        index: which one it is.
        finish_reason: None or empty, as it goes on.
    """

    delta: PlainDelta
    index: int = 0
    finish_reason: str | None = None


class _PlainChunk(msgspec.Struct, gc=False):
    choices: tuple[PlainChoice]
    kind: Literal["chat.completion.chunk"] = msgspec.field(name="object", default="chat.completion.chunk")
    usage: _Object | None = None
    error: None = None


_PLAIN_CHUNK = msgspec.json.Decoder(_PlainChunk)
_LARGE_CHUNK = msgspec.json.Decoder(_LargeChunk)
_SMALL_CHUNK = msgspec.json.Decoder(_SmallChunk)
_ANY_CHUNK = msgspec.json.Decoder(_AnyChunk)
_ANY_CHOICE = msgspec.json.Decoder(_AnyChoice)
_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_OBJECT = msgspec.json.Decoder(dict[str, Any])


def read_chunk(data: bytes) -> Chunk:
    """Read a data frame's JSON.

    Raises:
        MalformedChunkError: it is no JSON object in UTF-8, or has far more values than any chunk.
    """
    if not is_utf8(data):
        raise MalformedChunkError
    if len(data) <= SMALL_BYTES:
        with contextlib.suppress(msgspec.DecodeError, RecursionError):
            return _SMALL_CHUNK.decode(data)  # what nearly every chunk is: decoded at one go
    if is_sprawling(data, most=_MANY_IN_CHUNK):
        raise MalformedChunkError
    try:
        return _LARGE_CHUNK.decode(data)
    except (msgspec.DecodeError, RecursionError):
        return _leniently(data)


def read_plain_chunk(data: bytes) -> PlainChoice | None:
    """Read the JSON of a chunk as nearly all of a running answer are: texts of one choice, and nothing that ends it.

    What it says of the answer as a whole (`id`, `model`, `created`) is passed over.

    Args:
        data: not longer than `SMALL_BYTES`.

    Returns:
        What `read_chunk` finds in it too; None for every other chunk, and for what is none.
    """
    if not data.isascii() and not is_utf8(data):
        return None
    try:
        chunk = _PLAIN_CHUNK.decode(data)
    except (msgspec.DecodeError, RecursionError):
        return None
    (choice,) = chunk.choices
    delta = choice.delta
    says_more = choice.finish_reason or chunk.usage or delta.tool_calls or delta.function_call
    return None if says_more else choice


def is_chat_chunk(frame: bytes) -> bool | None:
    """Whether a frame's data is a chat chunk; None when the frame has no data to tell by."""
    _event, data = event_and_data(frame)
    if data is None or not data:
        return None
    try:
        return read_chunk(data).choices is not None
    except MalformedChunkError:
        return False


def delta_of(choice: Choice) -> dict[str, Any] | None:
    """Decode a choice's delta; None for one that is no object.

    One that our reader does not hold (a number out of range), or that is too large to be worth it, is text of its own
    length.
    """
    if choice.delta is None or isinstance(choice.delta, dict):
        return choice.delta
    raw = bytes(choice.delta)
    if not raw.startswith(b"{"):
        return None
    if not is_sprawling(raw):
        with contextlib.suppress(msgspec.DecodeError, RecursionError):
            return _OBJECT.decode(raw)
    return UnreadMessage(content=raw.decode())


def _leniently(data: bytes) -> Chunk:
    """Read a chunk some of whose members have an unexpected type: those count as absent."""
    try:
        told = _ANY_CHUNK.decode(data)
    except (msgspec.DecodeError, RecursionError):
        raise MalformedChunkError from None
    created = _value(told.created)
    return Chunk(
        id=_string(told.id),
        model=_string(told.model),
        kind=_string(told.kind),
        created=int(created) if isinstance(created, (int, float)) else None,
        choices=_choices(told.choices),
        usage=told.usage,
        error=told.error,
    )


def _choices(raw: msgspec.Raw) -> list[Choice] | None:
    try:
        each = _LIST.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return None
    return [_choice(_ANY_CHOICE.decode(one)) for one in each if bytes(one).startswith(b"{")]


def _choice(told: _AnyChoice) -> Choice:
    index = _value(told.index)
    if isinstance(index, float) and index.is_integer():
        index = int(index)  # "0.0", as writers of one number type put it
    return Choice(
        index=index if isinstance(index, int) else 0, delta=told.delta, finish_reason=_string(told.finish_reason)
    )


def _value(raw: msgspec.Raw) -> Any:
    """Decode one member; None for one that our reader does not hold, or that is far more than it should be."""
    try:
        return None if is_sprawling(bytes(raw)) else msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return None


def _string(raw: msgspec.Raw) -> str | None:
    value = _value(raw)
    return value if isinstance(value, str) else None
