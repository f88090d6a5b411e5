"""Which choices of a stream there are, and which of them have ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

__all__ = ["MAX_CHOICES", "Finishing"]

MAX_CHOICES = 1024
"""More choices than any server gives; beyond it what is kept of them would grow as the upstream likes."""


_NONE: AbstractSet[int] = frozenset()
_THE_FIRST: AbstractSet[int] = frozenset({0})
"""What nearly every stream has all the while: one for all of them, as a set of its own is held as long as it lasts."""


class Finishing:
    """The choices of one stream.

    Args:
        asked: how many the request asked for.

    Attributes:
        unfinished: those seen that have no finish reason yet, by index.
        reasons: the finish reasons of the others.
    """

    __slots__ = ("_asked", "reasons", "unfinished")

    def __init__(self, asked: int) -> None:
        self._asked = asked
        self.unfinished = _NONE
        self.reasons: dict[int, str] = {}

    def seen(self, index: int, reason: str | None) -> None:
        """Note a choice, and its finish reason where it has one; an answer may go on after it."""
        if reason:
            self.reasons[index] = reason
            if index in self.unfinished:
                self._own().discard(index)
        elif index not in self.reasons and index not in self.unfinished:
            if index or self.unfinished:
                self._own().add(index)
            else:
                self.unfinished = _THE_FIRST

    @property
    def are_too_many(self) -> bool:
        """Whether there are more than any answer has."""
        return len(self.reasons) + len(self.unfinished) > MAX_CHOICES

    @property
    def are_all(self) -> bool:
        """Whether every choice asked for, and every other one seen, has its finish reason."""
        return len(self.reasons) >= self._asked and not self.unfinished

    @property
    def may_end(self) -> bool:
        """Whether `[DONE]` ends them well.

        A single answer it does without a finish reason, once there was one; of several, each one seen must have its
        own.
        """
        is_single = self._asked == 1 and not self.reasons and len(self.unfinished) == 1
        return is_single or (bool(self.reasons) and not self.unfinished)

    @property
    def first(self) -> int:
        """The lowest index seen; 0 without any."""
        return min(self.unfinished | self.reasons.keys(), default=0)

    def _own(self) -> set[int]:
        if not isinstance(self.unfinished, set):
            self.unfinished = set(self.unfinished)
        return self.unfinished
