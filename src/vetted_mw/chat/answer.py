"""The body of a whole JSON answer: what we read of it. Lenient about everything inside the object, within limits."""

from __future__ import annotations

import contextlib
from typing import Any, Literal

import msgspec

from vetted_mw.chat.chunk import UnreadMessage
from vetted_mw.chat.counts import TOO_MANY, Usage, is_count, read_usage, text_length
from vetted_mw.chat.members import is_sprawling, is_utf8
from vetted_mw.chat.transcript import Transcript, digest_of_text

__all__ = ["Answer", "MalformedAnswerError", "has_choices", "read_answer"]

_NULL = msgspec.Raw(b"null")
_MANY_IN_CHOICES = 1_000_000
"""Lists and objects in `choices`: the probabilities of each token are passed over, but there are many of them."""


class MalformedAnswerError(ValueError):
    """Not a JSON object. Content-free."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
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
        names: its top-level members are among these; None: they may have any name.
        text: what its one choice says, where that is all there is in it.
        choices: undecoded otherwise, for the digest; None where they could not be read.
    """

    id: str | None
    model: str | None
    usage: Usage | None
    finish_reasons: tuple[str, ...]
    completion_characters: int
    is_answer: bool
    is_error: bool
    names: frozenset[str] | None = None
    text: str | None = None
    choices: tuple[_Choice, ...] | None = None

    def transcript_digest(self, nonce: bytes) -> str | None:
        """Return the digest of what it says, keyed with `nonce`; None where that could not be read."""
        if self.text is not None:
            return digest_of_text(nonce, self.text, self.finish_reasons[0] if self.finish_reasons else None)
        transcript = Transcript(nonce)
        indices = set()
        for place, choice in enumerate(self.choices or ()):
            told, reason = _value(choice.index), _string(_value(choice.finish_reason))
            index = told if is_count(told) else place
            indices.add(index)
            transcript.message(index, _message(choice.message), reason)
        return transcript.digest() if len(indices) == len(self.choices or ()) else None  # else two stand for one


def read_answer(body: bytes) -> Answer:
    """Read what we need of a whole JSON answer; lenient about everything inside the object.

    Raises:
        MalformedAnswerError: it is not a JSON object.
    """
    if not (body.isascii() or is_utf8(body)):
        raise MalformedAnswerError
    try:
        return _read_plainly(_PLAIN.decode(body))
    except (msgspec.DecodeError, RecursionError):
        return _read_leniently(body)


def has_choices(body: bytes) -> bool:
    """Whether `body` is a JSON object with a list `choices`."""
    try:
        return is_utf8(body) and bytes(_read(body).choices).startswith(b"[")
    except MalformedAnswerError:
        return False


# ---- the answer of one text that nearly every upstream gives, decoded at one go


class _PlainMessage(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A message of texts alone: whatever else there is in one is for the lenient reader."""

    role: str | None = None
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: tuple[()] | None = None
    function_call: None = None
    annotations: tuple[()] | None = None
    audio: None = None


class _PlainChoice(msgspec.Struct, gc=False):
    message: _PlainMessage
    index: Literal[0] = 0
    finish_reason: str | None = None


class _PlainDetails(msgspec.Struct, gc=False):
    cached_tokens: int | None = None


class _PlainUsage(msgspec.Struct, gc=False):
    prompt_tokens: int
    completion_tokens: int
    prompt_tokens_details: _PlainDetails | None = None


class _Plain(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    choices: tuple[_PlainChoice]  # one: a list of them could be as long as the upstream likes
    id: str | None = None
    object: msgspec.Raw = _NULL
    created: msgspec.Raw = _NULL
    model: str | None = None
    usage: _PlainUsage | None = None
    error: None = None
    system_fingerprint: msgspec.Raw = _NULL
    service_tier: msgspec.Raw = _NULL
    prompt_logprobs: msgspec.Raw = _NULL
    prompt_token_ids: msgspec.Raw = _NULL
    kv_transfer_params: msgspec.Raw = _NULL


_PLAIN = msgspec.json.Decoder(_Plain)
_PLAIN_NAMES = frozenset(_Plain.__struct_fields__)


def _read_plainly(told: _Plain) -> Answer:
    choice = told.choices[0]
    message = choice.message
    text = message.content or ""
    characters = len(text)
    for other in (message.reasoning_content, message.reasoning, message.refusal):
        if other:
            characters += len(other)
    return Answer(
        id=told.id,
        model=told.model,
        usage=None if told.usage is None else _usage(told.usage),
        finish_reasons=(choice.finish_reason,) if choice.finish_reason else (),
        completion_characters=characters,
        is_answer=True,
        is_error=False,
        names=_PLAIN_NAMES,
        text=text,
    )


def _usage(told: _PlainUsage) -> Usage | None:
    prompt, completion, details = told.prompt_tokens, told.completion_tokens, told.prompt_tokens_details
    if not (0 <= prompt < TOO_MANY and 0 <= completion < TOO_MANY):
        return None
    cached = 0 if details is None or details.cached_tokens is None else details.cached_tokens
    cached = min(cached, prompt) if 0 <= cached < TOO_MANY else 0
    return Usage(prompt_tokens=prompt, completion_tokens=completion, cached_tokens=cached)


# ---- any other


class _Told(msgspec.Struct):
    """The members we read, each left as its own bytes; all others are passed over."""

    id: msgspec.Raw = _NULL
    model: msgspec.Raw = _NULL
    choices: msgspec.Raw = _NULL
    usage: msgspec.Raw = _NULL
    error: msgspec.Raw = _NULL


class _Choice(msgspec.Struct):
    index: msgspec.Raw = _NULL
    message: msgspec.Raw = _NULL
    finish_reason: msgspec.Raw = _NULL


_OBJECT = msgspec.json.Decoder(dict[str, Any])
_TOLD = msgspec.json.Decoder(_Told)
_CHOICE = msgspec.json.Decoder(_Choice)
_CHOICES = msgspec.json.Decoder(list[_Choice])
_LIST = msgspec.json.Decoder(list[msgspec.Raw])


def _read(body: bytes) -> _Told:
    try:
        return _TOLD.decode(body)
    except (msgspec.DecodeError, RecursionError):
        raise MalformedAnswerError from None


def _read_leniently(body: bytes) -> Answer:
    answer = _read(body)
    choices = _choices(answer.choices)
    return Answer(
        id=_string(_value(answer.id)),
        model=_string(_value(answer.model)),
        usage=read_usage(_value(answer.usage)),
        finish_reasons=tuple(reason for choice in choices or () if (reason := _string(_value(choice.finish_reason)))),
        completion_characters=(
            len(answer.choices) if choices is None else sum(text_length(_value(choice.message)) for choice in choices)
        ),
        is_answer=_is_filled_list(bytes(answer.choices)),
        is_error=bytes(answer.error) != b"null",
        choices=None if choices is None else tuple(choices),
    )


def _is_filled_list(value: bytes) -> bool:
    return value.startswith(b"[") and not value[1:].lstrip().startswith(b"]")


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
        each = _LIST.decode(raw)
    except msgspec.ValidationError:
        return []  # no list
    return [_CHOICE.decode(one) for one in each if bytes(one).startswith(b"{")]


def _string(value: object) -> str | None:
    return value if isinstance(value, str) else None
