"""Server-sent events as frames: split bytes at blank lines, read a frame's event and data."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BOM", "FrameSplitter", "event_and_data", "one_line"]

# A lone CR ends a line only where no LF follows it, else one CRLF would read as a blank line.
_LINE_END = rb"(?:\r\n|\n|\r(?!\n))"
_BLANK_LINE = re.compile(_LINE_END + _LINE_END)
_LINE = re.compile(_LINE_END)
BOM = b"\xef\xbb\xbf"
_LONGEST_END = 4
_CR = 0x0D  # as a number: CPython 3.11 looks for one ten times faster than for bytes of length one


class FrameSplitter:
    """Split a byte stream into whole frames, each with its blank line; any split of the bytes gives the same frames.

    Args:
        max_frame_bytes: the longest frame taken, and so the most that is held.

    Attributes:
        overflowed: a frame was over the limit; those before it were given out, and nothing after them is taken.
    """

    __slots__ = ("_held", "_max", "_searched", "overflowed")

    def __init__(self, *, max_frame_bytes: int) -> None:
        self.overflowed = False
        self._max = max_frame_bytes
        self._held = bytearray()
        self._searched = 0

    @property
    def is_amid(self) -> bool:
        """Whether a frame has begun that has not ended."""
        return bool(self._held)

    def feed(self, data: bytes) -> list[bytes]:
        """Return the frames that `data` completes, up to one that is over the limit."""
        if self.overflowed:
            return []
        if not self._held and _is_one(data) and len(data) <= self._max:
            return [data]
        frames: list[bytes] = []
        self._held += data
        held = self._held
        start = 0
        place = self._searched
        while (match := _BLANK_LINE.search(held, place)) is not None:
            end = match.end()
            if end == len(held) and held.endswith(b"\r"):
                break  # the LF of a CRLF may still come
            if end - start > self._max:
                break
            frames.append(bytes(held[start:end]))
            start = place = end
        del held[:start]
        self._searched = max(0, len(held) - _LONGEST_END)
        if len(held) > self._max:  # the frame that is too long is still in there, ended or not
            self.overflowed = True
            held.clear()
        return frames

    def finish(self) -> bytes:
        """Return what no blank line ended."""
        rest = bytes(self._held)
        self._held.clear()
        self._searched = 0
        return rest


def one_line(data: bytes, start: int, most: int) -> tuple[bytes, int] | None:
    """Return the data of the frame that begins at `start`, and where the next one begins; None unless it is plain.

    Plain is what nearly every frame is: whole, one line `data: `, and a blank line.

    Args:
        data: whole frames up to `start`.
        start: where to look.
        most: the longest frame taken, in bytes.
    """
    if not data.startswith(b"data: ", start):
        return None
    end = data.find(b"\n", start)
    if data.startswith(b"\n", end + 1):
        line, after = data[start + 6 : end], end + 2
    elif data.startswith(b"\r\n\r\n", end - 1):
        line, after = data[start + 6 : end - 1], end + 3
    else:
        return None
    return None if end < 0 or after - start > most or _CR in line else (line, after)


def event_and_data(frame: bytes) -> tuple[bytes, bytes | None]:
    """Return a frame's event name (empty when it has none) and its data; None for a frame without, as a comment is."""
    if frame.startswith(b"data: ") and frame.find(b"\n") >= len(frame) - 2 and _CR not in frame:
        return b"", frame[6:].strip()  # what nearly every frame looks like
    event = b""
    data: bytearray | None = None
    for line in _lines(frame.removeprefix(BOM)):
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            if data is None:
                data = bytearray(value)
            else:
                data += b"\n" + value
        elif name == b"event":
            event = value
    return event, None if data is None else bytes(data).strip()


def _is_one(data: bytes) -> bool:
    """Whether this is one frame, as nearly every read is, with the line ends that nearly all have."""
    return data.endswith(b"\n\n") and data.find(b"\n\n") == len(data) - 2 and _CR not in data


def _lines(frame: bytes) -> Iterator[bytes]:
    """Yield one line after the other: a frame can have a million."""
    start = 0
    for end in _LINE.finditer(frame):
        yield frame[start : end.start()]
        start = end.end()
    yield frame[start:]
