"""Server-sent events as frames: split bytes at blank lines, read a frame's event and data."""

from __future__ import annotations

import re

__all__ = ["BOM", "FrameSplitter", "FrameTooLargeError", "event_and_data"]

# A lone CR ends a line only where no LF follows it, else one CRLF would read as a blank line.
_LINE_END = rb"(?:\r\n|\n|\r(?!\n))"
_BLANK_LINE = re.compile(_LINE_END + _LINE_END)
_LINE = re.compile(_LINE_END)
BOM = b"\xef\xbb\xbf"
_LONGEST_END = 4


class FrameTooLargeError(ValueError):
    """A frame is over the limit. Content-free."""


class FrameSplitter:
    """Split a byte stream into whole frames, each with its blank line; any split of the bytes gives the same frames.

    Args:
        max_frame_bytes: the longest frame taken.
    """

    def __init__(self, *, max_frame_bytes: int) -> None:
        self._max = max_frame_bytes
        self._held = bytearray()
        self._searched = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Return the frames that `data` completes.

        Raises:
            FrameTooLargeError: one is over the limit, or grows over it.
        """
        self._held += data
        held = self._held
        frames: list[bytes] = []
        start = 0
        place = self._searched
        while (match := _BLANK_LINE.search(held, place)) is not None:
            end = match.end()
            if end == len(held) and held.endswith(b"\r"):
                break  # the LF of a CRLF may still come
            self._require_size(end - start)
            frames.append(bytes(held[start:end]))
            start = place = end
        del held[:start]
        self._require_size(len(held))
        self._searched = max(0, len(held) - _LONGEST_END)
        return frames

    def finish(self) -> bytes:
        """Return what no blank line ended."""
        rest = bytes(self._held)
        self._held.clear()
        self._searched = 0
        return rest

    def _require_size(self, size: int) -> None:
        if size > self._max:
            raise FrameTooLargeError


def event_and_data(frame: bytes) -> tuple[bytes, bytes | None]:
    """Return a frame's event name (empty when it has none) and its data; None for a frame without, as a comment is."""
    if frame.startswith(b"data: ") and frame.find(b"\n") >= len(frame) - 2 and b"\r" not in frame:
        return b"", frame[6:].strip()  # what nearly every frame looks like
    event = b""
    data: list[bytes] = []
    for line in _LINE.split(frame.removeprefix(BOM)):
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            data.append(value)
        elif name == b"event":
            event = value
    return event, b"\n".join(data).strip() if data else None
