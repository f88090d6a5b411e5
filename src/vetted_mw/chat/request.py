"""The body of a chat completion: what we read of it, and what leaves."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from vetted_mw.chat.counts import text_length
from vetted_mw.chat.members import MalformedJSONError, is_sprawling, joined, parse_object
from vetted_mw.errors import InvalidJSONError, InvalidOptionError, InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ChatRequest", "outgoing_body", "parse_request"]

_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_MAX_CHOICES = 128
_LONGEST_NAME = 1_024
"""It is kept in every receipt for good, where an auditor reads nothing of endless size."""
_ALIKE = 0.75
_LONGEST_ALIKE = 10  # no longer name is so like "vetted"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """A chat-completion request.

    Attributes:
        members: top-level members in order, without `vetted`, each value with its own bytes.
        model: the requested name.
        stream: whether a stream is wanted.
        include_usage: whether the caller asked for the usage chunk.
        choices: `n`; 1 when absent or odd.
        vetted: the options member as bytes; None when absent or null.
        vetted_members: the same, split; None when absent or null.
        max_tokens: for spans only; None when absent or odd.
        temperature: the same.
        top_p: the same.
    """

    members: Mapping[str, msgspec.Raw]
    model: str
    stream: bool
    include_usage: bool
    choices: int
    vetted: bytes | None
    vetted_members: Mapping[str, msgspec.Raw] | None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None

    def prompt_characters(self) -> int:
        """Count the characters of text in `messages`; called only where an upstream counted no tokens.

        Where a value inside is more than our reader holds (a number out of range, deep nesting), or there are too many
        of them, all of it counts as text: an estimate may be wide, but never costs the caller the answer, or the other
        callers theirs.
        """
        raw = bytes(self.members["messages"])
        if is_sprawling(raw):
            return len(raw)
        try:
            return sum(text_length(message) for message in msgspec.json.decode(raw))
        except (msgspec.DecodeError, RecursionError):
            return len(raw.decode())


def parse_request(body: bytes) -> ChatRequest:
    """Read a request body.

    Raises:
        InvalidJSONError: not one JSON object in UTF-8 with unique members.
        InvalidRequestError: an object, but no chat completion.
        InvalidOptionError: `vetted` is not an object with unique members.
    """
    try:
        members = parse_object(body)
    except MalformedJSONError:
        raise InvalidJSONError(
            "The body must be one JSON object in UTF-8, with no member standing twice, no deep nesting, and no "
            "more than 1024 members."
        ) from None
    _refuse_misspelt_options(members)
    vetted = _given(members.pop("vetted", None))
    _require_messages(members)
    return ChatRequest(
        members=members,
        model=_model(members),
        stream=_stream(members),
        include_usage=_include_usage(members),
        choices=_choices(members),
        vetted=vetted,
        vetted_members=None if vetted is None else _options(vetted),
        max_tokens=_number(members, "max_completion_tokens", int) or _number(members, "max_tokens", int),
        temperature=_number(members, "temperature", float),
        top_p=_number(members, "top_p", float),
    )


def outgoing_body(request: ChatRequest, *, upstream_model: str | None = None, include_usage: bool = False) -> bytes:
    """Write what leaves for an upstream: the same members with their own bytes, without `vetted`.

    Args:
        request: what came in.
        upstream_model: the upstream's own name of the model, when it has one.
        include_usage: whether `stream_options.include_usage` is added.
    """
    changed: dict[str, bytes] = {}
    if upstream_model is not None:
        changed["model"] = msgspec.json.encode(upstream_model)
    if include_usage:
        options = _given(request.members.get("stream_options"))
        changed["stream_options"] = b'{"include_usage":true}' if options is None else _with_usage(options)
    members = [(name, changed.pop(name, b"") or bytes(value)) for name, value in request.members.items()]
    return joined([*members, *changed.items()])


def _refuse_misspelt_options(members: Mapping[str, msgspec.Raw]) -> None:
    """Refuse options under another name: passed on unread, a pin would become no pin.

    Raises:
        InvalidOptionError: a member is nearly `vetted`, or `extra_body`, an SDK's argument, holds it.
    """
    for name in members:
        if name != "vetted" and _is_nearly_vetted(name):
            raise InvalidOptionError("Routing options are the member 'vetted', written exactly so.", param="vetted")
    if "vetted" in _members_of(members.get("extra_body")):
        raise InvalidOptionError(
            "extra_body is an argument of the OpenAI SDK: in the body itself, 'vetted' is a top-level member.",
            param="vetted",
        )


def _is_nearly_vetted(name: str) -> bool:
    folded = name.strip().casefold()
    if "vet" not in folded or len(folded) > _LONGEST_ALIKE:
        return False
    return bool(difflib.get_close_matches(folded, ("vetted",), cutoff=_ALIKE))


def _model(members: Mapping[str, msgspec.Raw]) -> str:
    model = _scalar(members.get("model"))
    if not isinstance(model, str) or not model:
        raise InvalidRequestError("Name the model: 'model' must be a string that is not empty.", param="model")
    if len(model) > _LONGEST_NAME:
        told = (
            f"Name the model as its servers do: 'model' has {len(model):,} characters, {_LONGEST_NAME:,} are the most."
        )
        raise InvalidRequestError(told, param="model")
    return model


def _require_messages(members: Mapping[str, msgspec.Raw]) -> None:
    messages = members.get("messages")
    if messages is None or not bytes(messages).startswith(b"["):
        raise InvalidRequestError("'messages' must be a list of messages.", param="messages")


def _stream(members: Mapping[str, msgspec.Raw]) -> bool:
    stream = _scalar(members.get("stream"))
    if stream is None or isinstance(stream, bool):
        return bool(stream)
    raise InvalidRequestError("'stream' must be true or false.", param="stream")


def _include_usage(members: Mapping[str, msgspec.Raw]) -> bool:
    asked = _members_of(members.get("stream_options")).get("include_usage")
    return asked is not None and bytes(asked) == b"true"


def _choices(members: Mapping[str, msgspec.Raw]) -> int:
    choices = _scalar(members.get("n"))
    is_count = isinstance(choices, int) and not isinstance(choices, bool) and 1 <= choices <= _MAX_CHOICES
    return int(choices) if is_count else 1


def _options(vetted: bytes) -> Mapping[str, msgspec.Raw]:
    try:
        return parse_object(vetted)
    except (MalformedJSONError, ValueError):
        raise InvalidOptionError(
            "'vetted' must be an object in which no member stands twice.", param="vetted"
        ) from None


def _given(value: msgspec.Raw | None) -> bytes | None:
    raw = None if value is None else bytes(value)
    return None if raw == b"null" else raw


def _number(members: Mapping[str, msgspec.Raw], name: str, kind: type[Any]) -> Any:
    value = _scalar(members.get(name))
    wanted = (int, float) if kind is float else (int,)
    return kind(value) if isinstance(value, wanted) and not isinstance(value, bool) and abs(value) < 2**53 else None


def _scalar(value: msgspec.Raw | None) -> Any:
    """Decode a value that should be a text, a number or a word; `UNSET` for all others, which are left unread."""
    if value is None:
        return None
    if bytes(value).startswith((b"[", b"{")):
        return msgspec.UNSET
    try:
        return msgspec.json.decode(value)
    except msgspec.DecodeError:
        return msgspec.UNSET  # no reader of ours takes it; the caller of this decides what that means


def _members_of(value: msgspec.Raw | None) -> dict[str, msgspec.Raw]:
    """Split an object, the last of equal names counting; empty for everything else."""
    try:
        return {} if value is None else _OBJECT.decode(value)
    except (msgspec.DecodeError, RecursionError):
        return {}


def _with_usage(options: bytes) -> bytes:
    if not options.startswith(b"{"):
        return options  # the caller's mistake stays the caller's: the upstream says what it thinks of it
    kept = [(name, bytes(value)) for name, value in _OBJECT.decode(options).items()]
    return joined([*(pair for pair in kept if pair[0] != "include_usage"), ("include_usage", b"true")])
