"""JSON Lines read one by one, whatever their length: no line can make the reader hold more than it should."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from vetted_mw.audit.verify.opening import MAX_TEXT_CHARACTERS

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["TooLongError", "lines_of"]

_CHUNK = 65_536


class TooLongError(ValueError):
    """A line that is longer than any receipt."""


def lines_of(stream: BinaryIO, *, most: int = MAX_TEXT_CHARACTERS) -> Iterator[tuple[int, bytes | None]]:
    """Yield number and bytes of each line that is not blank, without its end; None for one that is too long.

    Args:
        stream: at its begin.
        most: bytes of the longest line that is read.
    """
    number = 0
    while line := stream.readline(most + 1):
        number += 1
        is_whole = line.endswith(b"\n") or len(line) <= most
        if not is_whole:
            _skip_line(stream)
            yield number, None
        elif stripped := line.strip():
            yield number, stripped


def _skip_line(stream: BinaryIO) -> None:
    while (chunk := stream.readline(_CHUNK)) and not chunk.endswith(b"\n"):
        pass
