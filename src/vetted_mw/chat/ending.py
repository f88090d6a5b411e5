"""How a stream ends: the frames that carry our members, and the honest end of one that failed."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from vetted_mw.chat.frames import event_and_data
from vetted_mw.chat.members import joined
from vetted_mw.chat.response import Edited, add_members, error_envelope

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vetted_mw.errors import AnswerError

__all__ = ["Placement", "empty_chunk", "error_frame", "good_end"]

_DONE_FRAME = b"data: [DONE]\n\n"


class Placement(StrEnum):
    """Where a stream carries receipt and trace."""

    FINISH_CHUNK = "finish_chunk"
    USAGE_CHUNK = "usage_chunk"
    COMMENT = "comment"
    OFF = "off"


def good_end(
    placement: Placement, members: Mapping[str, bytes], *, finish: bytes | None, usage: bytes | None, empty: bytes
) -> Edited:
    """Write the end of a stream: finish chunk, usage chunk, `[DONE]`, and the members where `placement` has them.

    Args:
        placement: of the members.
        members: name -> encoded value; none: the stream ends bare.
        finish: the frame that was held; None where no chunk had a finish reason.
        usage: the usage chunk's frame; None where the caller gets none.
        empty: what carries the members where there is no finish chunk.
    """
    comment = b""
    replaced: tuple[str, ...] = ()
    if members and placement is Placement.COMMENT:
        comment = b": " + joined(members.items()) + b"\n\n"
    elif members and placement is Placement.USAGE_CHUNK and usage is not None:
        usage, replaced = _with_members(usage, members)
    elif members and placement is not Placement.OFF:
        finish, replaced = _with_members(finish or empty, members)
    return Edited(body=(finish or b"") + (usage or b"") + comment + _DONE_FRAME, replaced=replaced)


def empty_chunk(*, id_: str | None, kind: str | None, created: int | None, model: str | None, index: int) -> bytes:
    """Write the frame of a chunk that says nothing, complete all the same, since clients need all of it."""
    chunk = {
        "id": id_ or "",
        "object": kind or "chat.completion.chunk",
        "created": created or 0,
        "model": model or "",
        "choices": [{"index": index, "delta": {}, "finish_reason": None}],
    }
    return b"data: " + msgspec.json.encode(chunk) + b"\n\n"


def error_frame(error: AnswerError, *, members: Mapping[str, bytes]) -> bytes:
    """Write the one honest end of a stream that failed: an error beside the members, and no `choices`."""
    return b"data: " + error_envelope(error, extra=members) + b"\n\n"


def _with_members(frame: bytes, members: Mapping[str, bytes]) -> tuple[bytes, tuple[str, ...]]:
    _event, data = event_and_data(frame)
    edited = add_members((data or b"{}").replace(b"\n", b" "), members)
    return b"data: " + edited.body + b"\n\n", edited.replaced
