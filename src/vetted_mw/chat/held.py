"""What is held of a request's body, until it has left for the last time: a stream lasts for longer than its prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vetted_mw.chat.counts import text_length
from vetted_mw.chat.members import is_sprawling

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["HeldBody"]

_SMALL_BYTES = 512
"""A prompt up to this size is not worth the count that letting go of it takes."""
_KEPT_BYTES = 64
"""Values up to this size are kept: numbers and words."""


class HeldBody:
    """The body of one request. It belongs to that request alone, which lets go of it once it leaves for nobody else.

    Args:
        members: top-level members in order, without `vetted`, each value with its own bytes.
        whole: the body as it came where all of it may leave; None where `vetted` has to be cut out.

    Attributes:
        members: the same; only the small ones once it was let go of.
        whole: the same; None once it was let go of.
        is_gone: whether it was let go of.
    """

    __slots__ = ("_characters", "is_gone", "members", "whole")

    def __init__(self, members: Mapping[str, msgspec.Raw], whole: bytes | None) -> None:
        self.members = members
        self.whole = whole
        self.is_gone = False
        self._characters: int | None = None

    def prompt_characters(self) -> int:
        """Count the characters of text in `messages`.

        Where a value inside is more than our reader holds (a number out of range, deep nesting), or there are too many
        of them, all of it counts as text: an estimate may be wide, but never costs the caller the answer, or the other
        callers theirs.
        """
        if self._characters is None:
            self._characters = _characters_of(bytes(self.members["messages"]))
        return self._characters

    def let_go(self) -> None:
        """Forget a long prompt; how many characters it had is remembered."""
        if self.is_gone or memoryview(self.members["messages"]).nbytes <= _SMALL_BYTES:
            return
        self.prompt_characters()
        self.is_gone = True
        self.whole = None
        # Copies: a value as it was read holds the whole body.
        self.members = {
            name: msgspec.Raw(bytes(value))
            for name, value in self.members.items()
            if memoryview(value).nbytes <= _KEPT_BYTES
        }


def _characters_of(raw: bytes) -> int:
    if is_sprawling(raw):
        return len(raw)
    try:
        return sum(text_length(message) for message in msgspec.json.decode(raw))
    except (msgspec.DecodeError, RecursionError):
        return len(raw.decode())
