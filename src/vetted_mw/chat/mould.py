"""What the plain chunks of one stream have in common: all but the text, so that nothing else of them is read again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vetted_mw.chat.chunk import PlainDelta, read_plain_chunk
from vetted_mw.chat.frames import one_line

if TYPE_CHECKING:
    from vetted_mw.chat.chunk import PlainChoice

__all__ = ["Mould", "mould_of"]

_OPENING = b'"content":'
_PROBE = "vetted probe"


class Mould(msgspec.Struct, frozen=True, gc=False):
    """A frame around its text. With another one, of characters that JSON takes as they are, it is as plain as before.

    Attributes:
        head: what stands before the text, its quotation mark included.
        tail: what stands behind it, from the other quotation mark to the end of the blank line.
        index: of the choice.
        size: of head and tail together, in bytes.
    """

    head: bytes
    tail: bytes
    index: int
    size: int


def mould_of(frame: bytes, choice: PlainChoice) -> Mould | None:
    """Find the mould of a plain frame; None where there is none, or where it cannot be told for certain.

    Args:
        frame: with its blank line.
        choice: what it says.
    """
    found = frame.find(_OPENING)
    begin = frame.find(b'"', found + len(_OPENING)) + 1
    end = frame.find(b'"', begin)
    if found < 0 or begin <= 0 or end < 0:
        return None
    head, tail = frame[:begin], frame[end:]
    # The proof: another text in this place, and nothing else, becomes the content.
    probe = _PROBE.encode()
    probed = head + probe + tail
    line = None if probe in head or probe in tail else one_line(probed, 0, len(probed))
    read = None if line is None else read_plain_chunk(line[0])
    if read is None or read.index != choice.index or read.delta != PlainDelta(role=read.delta.role, content=_PROBE):
        return None
    return Mould(head, tail, choice.index, len(head) + len(tail))
