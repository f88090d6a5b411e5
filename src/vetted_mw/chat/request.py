"""The body of a chat completion: what we read of it, and what leaves."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

import msgspec

from vetted_mw.chat.held import HeldBody
from vetted_mw.chat.members import MalformedJSONError, joined, parse_object
from vetted_mw.errors import InvalidJSONError, InvalidOptionError, InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ChatRequest", "outgoing_body", "parse_request"]

_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TEXT = msgspec.json.Decoder(str)
_NULL, _TRUE, _FALSE = msgspec.Raw(b"null"), msgspec.Raw(b"true"), msgspec.Raw(b"false")
_LIST = ord("[")
_WITH_USAGE = b'{"include_usage":true}'
_USUAL = frozenset(
    {
        "frequency_penalty",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "model",
        "n",
        "presence_penalty",
        "response_format",
        "seed",
        "stop",
        "stream",
        "stream_options",
        "temperature",
        "tool_choice",
        "tools",
        "top_p",
        "user",
        "vetted",
    }
)
"""Names that need no look at how like "vetted" they are."""
_MAX_CHOICES = 128
_LONGEST_NAME = 1_024
"""It is kept in every receipt for good, where an auditor reads nothing of endless size."""
_ALIKE = 0.75
_LONGEST_ALIKE = 10  # no longer name is so like "vetted"


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A chat-completion request.

    Attributes:
        held: the body, as long as it may still leave.
        model: the requested name.
        stream: whether a stream is wanted.
        include_usage: whether the caller asked for the usage chunk.
        choices: `n`; 1 when absent or odd.
        vetted_members: the options member, split; None when absent or null.
    """

    held: HeldBody
    model: str
    stream: bool
    include_usage: bool
    choices: int
    vetted_members: Mapping[str, msgspec.Raw] | None

    @property
    def max_tokens(self) -> int | None:
        """The most tokens wanted, for spans only; None when absent or odd."""
        members = self.held.members
        return _whole_number(members, "max_completion_tokens") or _whole_number(members, "max_tokens")

    @property
    def temperature(self) -> float | None:
        """The same of `temperature`."""
        return _number(self.held.members, "temperature")

    @property
    def top_p(self) -> float | None:
        """The same of `top_p`."""
        return _number(self.held.members, "top_p")

    def prompt_characters(self) -> int:
        """Count the characters of text in `messages`; called where an upstream counted no tokens."""
        return self.held.prompt_characters()

    def let_go_of_prompt(self) -> None:
        """Forget a long prompt that leaves for no other upstream any more; its characters are counted before that."""
        self.held.let_go()


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
    if not _USUAL.issuperset(members):
        _refuse_misspelt_options(members)
    cut = members.pop("vetted", None)
    messages = members.get("messages")
    if messages is None or memoryview(messages)[0] != _LIST:
        raise InvalidRequestError("'messages' must be a list of messages.", param="messages")
    return ChatRequest(
        held=HeldBody(members, body if cut is None else None),
        model=_model(members.get("model")),
        stream="stream" in members and _is_streamed(members["stream"]),
        include_usage="stream_options" in members and _is_usage_asked(members["stream_options"]),
        choices=_choices(members["n"]) if "n" in members else 1,
        vetted_members=None if cut is None or cut == _NULL else _options(cut),
    )


def outgoing_body(request: ChatRequest, *, upstream_model: str | None = None, include_usage: bool = False) -> bytes:
    """Write what leaves for an upstream: the same members with their own bytes, without `vetted`.

    Args:
        request: what came in.
        upstream_model: the upstream's own name of the model, when it has one.
        include_usage: whether `stream_options.include_usage` is added.

    Raises:
        RuntimeError: its prompt was let go of.
    """
    members, whole = request.held.members, request.held.whole
    if request.held.is_gone:
        message = "a prompt that was let go of leaves for nobody"
        raise RuntimeError(message)
    options = members.get("stream_options") if include_usage else None
    if whole is not None and upstream_model is None and options is None:
        return _with_usage_at_end(whole) if include_usage else whole
    changed: dict[str, bytes] = {}
    if upstream_model is not None:
        changed["model"] = msgspec.json.encode(upstream_model)
    if include_usage:
        given = _given(options)
        changed["stream_options"] = _WITH_USAGE if given is None else _with_usage(given)
    return joined((dict(members) | changed).items())


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


def _model(value: msgspec.Raw | None) -> str:
    try:
        model = "" if value is None else _TEXT.decode(value)
    except msgspec.DecodeError:
        model = ""
    if not model:
        raise InvalidRequestError("Name the model: 'model' must be a string that is not empty.", param="model")
    if len(model) > _LONGEST_NAME:
        told = (
            f"Name the model as its servers do: 'model' has {len(model):,} characters, {_LONGEST_NAME:,} are the most."
        )
        raise InvalidRequestError(told, param="model")
    return model


def _is_streamed(stream: msgspec.Raw) -> bool:
    if stream == _TRUE:
        return True
    if stream in (_FALSE, _NULL):
        return False
    raise InvalidRequestError("'stream' must be true or false.", param="stream")


def _is_usage_asked(options: msgspec.Raw) -> bool:
    return _members_of(options).get("include_usage") == _TRUE


def _choices(value: msgspec.Raw) -> int:
    choices = _scalar(value)
    is_count = isinstance(choices, int) and not isinstance(choices, bool) and 1 <= choices <= _MAX_CHOICES
    return int(choices) if is_count else 1


def _options(vetted: msgspec.Raw) -> Mapping[str, msgspec.Raw]:
    try:
        return parse_object(bytes(vetted))
    except (MalformedJSONError, ValueError):
        raise InvalidOptionError(
            "'vetted' must be an object in which no member stands twice.", param="vetted"
        ) from None


def _given(value: msgspec.Raw | None) -> bytes | None:
    raw = None if value is None else bytes(value)
    return None if raw == b"null" else raw


def _number(members: Mapping[str, msgspec.Raw], name: str) -> float | None:
    value = _scalar(members.get(name))
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 2**53
    return float(value) if is_number else None


def _whole_number(members: Mapping[str, msgspec.Raw], name: str) -> int | None:
    value = _scalar(members.get(name))
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53 else None


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


def _with_usage_at_end(body: bytes) -> bytes:
    end = body.rindex(b"}")
    return b"".join((memoryview(body)[:end], b',"stream_options":', _WITH_USAGE, b"}"))


def _with_usage(options: bytes) -> bytes:
    if not options.startswith(b"{"):
        return options  # the caller's mistake stays the caller's: the upstream says what it thinks of it
    kept = [(name, bytes(value)) for name, value in _OBJECT.decode(options).items()]
    return joined([*(pair for pair in kept if pair[0] != "include_usage"), ("include_usage", b"true")])
