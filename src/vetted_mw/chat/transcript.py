"""What an answer said, as a digest that only its nonce opens. Of the text itself next to nothing is held.

The transcript is a list, by choice index, of `{"content", "finish_reason", "index", "tool_calls"}`, and what is hashed
is its canonical form (RFC 8785): a stream and a whole answer that say the same have the same digest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from vetted_mw.chat.chunk import UnreadMessage
from vetted_mw.chat.keyed import begun, ended, hmac_sha256

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from vetted_mw.chat.chunk import Choice

__all__ = ["Transcript", "digest_of_text", "text_of"]

_SCHEME = "hmac-sha-256:"
_OPENING = b'[{"content":"'
_HASHED_AT = 256
_MAX_HELD = 16 * 1_048_576
_MAX_INDEX = 2**53
_ENTRY_BYTES = 256
"""What a choice or a call weighs beside its text."""
# Escapes what RFC 8785 escapes and in its way, character by character: texts can be written piece by piece.
_QUOTED = msgspec.json.Encoder().encode


class _Call(msgspec.Struct):
    """A tool call: name and arguments, escaped."""

    name: bytearray = msgspec.field(default_factory=bytearray)
    arguments: bytearray = msgspec.field(default_factory=bytearray)

    def written(self) -> bytes:
        """Write it as the transcript has it."""
        return b'["' + self.name + b'","' + self.arguments + b'"]'


class _Choice(msgspec.Struct):
    """What one choice said so far; `content` is escaped, and of the first choice only what is not hashed yet."""

    index: int
    content: bytearray = msgspec.field(default_factory=bytearray)
    finish_reason: str | None = None
    calls: dict[int, _Call] = msgspec.field(default_factory=dict)
    latest: int = -1
    legacy: _Call | None = None

    def ending(self) -> bytes:
        """Write what comes after the content."""
        calls = [self.calls[key] for key in sorted(self.calls)]
        if self.legacy is not None:
            calls.append(self.legacy)
        told = b",".join(call.written() for call in calls)
        reason = b"null" if self.finish_reason is None else _QUOTED(self.finish_reason)
        return b'","finish_reason":%b,"index":%d,"tool_calls":[%b]}' % (reason, self.index, told)


class Transcript:
    """Takes what an answer says, in deltas or whole messages, and tells its digest.

    The first choice's text is hashed as it comes. What must be held (other choices, tool calls) is bounded; an answer
    beyond it has no digest, nor has one with a part that could not be read.

    Args:
        nonce: what the digest is keyed with.
        max_held_bytes: the most that is held.
    """

    def __init__(self, nonce: bytes, *, max_held_bytes: int = _MAX_HELD) -> None:
        self._said = begun(nonce)
        self._said.update(_OPENING)
        self._nonce = nonce
        self._room = max_held_bytes
        self._first: _Choice | None = None  # of nearly every answer the only one
        self._others: dict[int, _Choice] = {}
        self._waiting: Sequence[Choice] = ()
        self._is_lost = False

    __slots__ = ("_first", "_is_lost", "_nonce", "_others", "_room", "_said", "_waiting")

    def text(self, index: int, content: str) -> None:
        """Take a piece of a choice's text that goes to the caller now."""
        if self._is_lost:
            return
        self._text(self._choice(index), content)

    def written(self, index: int, escaped: bytes) -> None:
        """Take such a piece as it stands in JSON: printable, and without a character that RFC 8785 escapes."""
        first = self._first
        if index or first is None:
            self.text(index, escaped.decode())
            return
        held = first.content
        held += escaped
        if len(held) > _HASHED_AT:
            self._said.update(held)
            held.clear()

    def take(self, said: Sequence[Choice], *, waits: bool = False) -> None:
        """Take what a chunk of a stream says, its deltas decoded; members of a wrong type are passed over.

        Args:
            said: its choices.
            waits: the chunk is kept back, for the end of the stream or the next that is; what was kept back before it
                has gone to the caller.
        """
        if waits:
            self._release()
            self._waiting = said
            return
        for one in said:
            if self._is_lost:
                return
            choice = self._choice(one.index)
            if one.finish_reason:
                choice.finish_reason = one.finish_reason
            if isinstance(one.delta, dict):
                self._delta(choice, one.delta)

    def message(self, index: int, message: dict[str, Any] | None, finish_reason: str | None) -> None:
        """Take a whole message: its calls are what their list says, whatever number they carry."""
        if self._is_lost:
            return
        choice = self._choice(index)
        choice.finish_reason = finish_reason or None
        if message is None:
            return
        calls = _objects(message.get("tool_calls"))
        numbered = [{"index": place, "function": call.get("function")} for place, call in enumerate(calls)]
        self._delta(choice, message | {"tool_calls": numbered} if numbered else message)

    def digest(self, *, whole: bool = True) -> str | None:
        """Return `hmac-sha-256:<hex>`; None without choices, or where something was too much or could not be read.

        Args:
            whole: the answer ended well, so what was kept back has gone to the caller, or goes with this digest.
        """
        if whole:
            self._release()
        first, others = self._first, [self._others[index] for index in sorted(self._others)]
        if self._is_lost or not (first or others):
            return None
        if first is None:
            said = begun(self._nonce)
            said.update(b"[")
        else:
            said = self._said.copy()
            said.update(first.content)
            said.update(first.ending())
        for place, choice in enumerate(others):
            said.update(_OPENING[1:] if place == 0 and first is None else b"," + _OPENING[1:])
            said.update(choice.content)
            said.update(choice.ending())
        said.update(b"]")
        return _SCHEME + ended(self._nonce, said)

    def _release(self) -> None:
        waiting, self._waiting = self._waiting, ()
        self.take(waiting)

    def _choice(self, index: int) -> _Choice:
        return (self._others.get(index) if index else self._first) or self._begun(index)

    def _begun(self, index: int) -> _Choice:
        choice = _Choice(index=index)
        if index:
            self._others[index] = choice
        else:
            self._first = choice
        self._hold(_ENTRY_BYTES)
        # The first choice is hashed as the first of the list; beyond the other bound an integer has no canonical form.
        if not 0 <= index < _MAX_INDEX:
            self._lose()
        return choice

    def _delta(self, choice: _Choice, delta: dict[str, Any]) -> None:
        if type(delta) is UnreadMessage:
            self._lose()
            return
        content = delta.get("content")
        if content:
            self._text(choice, content)
            if len(delta) == 1:  # as of nearly every delta
                return
        for call in _objects(delta.get("tool_calls")):
            self._call(choice, call.get("function"), place=call.get("index"))
        function = delta.get("function_call")
        if isinstance(function, dict):
            choice.legacy = choice.legacy or _Call()
            self._call_text(choice.legacy, function)

    def _text(self, choice: _Choice, content: object) -> None:
        quoted = _QUOTED(content if isinstance(content, str) else text_of(content))
        held = choice.content
        if choice.index:
            self._hold(len(quoted))
        elif len(held) + len(quoted) > _HASHED_AT:
            self._said.update(held)
            self._said.update(memoryview(quoted)[1:-1])  # a whole answer can be long: no copy of it
            held.clear()
            return
        held += quoted[1:-1]

    def _call(self, choice: _Choice, function: object, *, place: object) -> None:
        """Take a part of a call; without a number it begins one where it has a name, else it goes on with the last."""
        if not isinstance(function, dict):
            return
        if isinstance(place, float) and place.is_integer():
            place = int(place)
        if isinstance(place, bool) or not isinstance(place, int):
            place = choice.latest
            if function.get("name") or place not in choice.calls:
                place = max(choice.calls, default=-1) + 1
        choice.latest = place
        call = choice.calls.get(place)
        if call is None:
            call = choice.calls[place] = _Call()
            self._hold(_ENTRY_BYTES)
        self._call_text(call, function)

    def _call_text(self, call: _Call, function: Mapping[str, Any]) -> None:
        for held, text in ((call.name, function.get("name")), (call.arguments, function.get("arguments"))):
            if isinstance(text, str):
                escaped = _QUOTED(text)[1:-1]
                held.extend(escaped)
                self._hold(len(escaped))

    def _hold(self, size: int) -> None:
        self._room -= size
        if self._room < 0:
            self._lose()

    def _lose(self) -> None:
        self._is_lost = True
        self._first = None
        self._others.clear()


def digest_of_text(nonce: bytes, content: str, finish_reason: str | None) -> str:
    """Return the digest of an answer of one choice, the first, that is a text and nothing else."""
    reason = _QUOTED(finish_reason)
    said = _OPENING[:-1], _QUOTED(content), b',"finish_reason":', reason, b',"index":0,"tool_calls":[]}]'
    return _SCHEME + hmac_sha256(nonce, said)


def text_of(content: object) -> str:
    """Return a content as one text: itself, or the texts of its parts; empty for anything else."""
    if isinstance(content, str):
        return content
    texts = (part.get("text") for part in _objects(content))
    return "".join(text for text in texts if isinstance(text, str))


def _objects(value: object) -> Iterable[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else ()
