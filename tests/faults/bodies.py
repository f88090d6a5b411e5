"""Faults of the body of a good status: its framing, its encoding, its size, and what it holds."""

from __future__ import annotations

import functools
import gzip
import zlib
from typing import TYPE_CHECKING

from faults.fault import Fault, after, before, well_all_the_same
from faults.playing import (
    CHUNKED,
    JSON,
    SSE,
    Asked,
    Ending,
    Gate,
    Script,
    answer,
    chunk,
    chunked,
    delta,
    frames_of,
    head,
    streamed,
    well,
    whole,
)
from faults.refusals import SOON, dripping

if TYPE_CHECKING:
    from faults.playing import Part, Play

__all__ = ["BODIES"]

GZIP = ("content-encoding", "gzip")
_MIB = 1024 * 1024


def _in_two(asked: Asked) -> tuple[bytes, bytes]:
    body = whole(asked)
    middle = body.index("ü".encode()) + 1  # inside a letter of two bytes
    return body[:middle], body[middle:]


def _half(*, length: int = 500, ending: Ending = Ending.CLOSE) -> Play:
    """Half a JSON answer of a declared length, and then an ending."""

    def play(asked: Asked) -> Script:
        first, _ = _in_two(asked)
        return Script(parts=[head(200, [JSON, ("content-length", str(length))]), first, Gate.HEAD], ending=ending)

    return play


def begun(*rest: Part, ending: Ending = Ending.CLOSE, ended: bool = False) -> Play:
    """A stream whose role and first word reach the caller before `rest` is sent."""
    return lambda asked: streamed([*frames_of(asked)[:2], Gate.CONTENT, *rest], ending=ending, ended=ended)


def _whole_frames(asked: Asked) -> bytes:
    return b"".join(frames_of(asked))


def _packed_and_cut(asked: Asked) -> Script:
    packing = zlib.compressobj(wbits=31)
    begin = packing.compress(b"".join(frames_of(asked)[:2])) + packing.flush(zlib.Z_SYNC_FLUSH)
    rest = packing.compress(b"".join(frames_of(asked)[2:])) + packing.flush()
    return streamed([begin, Gate.CONTENT, rest[:20]], GZIP)


@functools.cache
def _bomb() -> bytes:
    return gzip.compress(bytes(64 * _MIB))


def _two_answers(asked: Asked) -> Script:
    """The answer, and behind it another one that nobody asked for."""
    stolen = Asked(region="stolen", stream=False)
    parts = list(well(asked).parts)
    return Script(parts=[b"".join(part for part in parts if isinstance(part, bytes)) + bytes(_first(stolen))])


def _first(asked: Asked) -> bytes:
    return b"".join(part for part in well(asked).parts if isinstance(part, bytes))


def _deep(levels: int) -> bytes:
    return b'{"choices": ' + b"[" * levels + b"]" * levels + b"}"


def _raw(*parts: bytes, ending: Ending = Ending.CLOSE) -> Play:
    return lambda _asked: Script(parts=parts, ending=ending)


def _big_frame(_asked: Asked) -> Script:
    return streamed([delta({"role": "assistant"}), delta({"content": "x" * 10 * _MIB})])


def _in_two_frame() -> bytes:
    return delta({"content": "ü"}).partition("ü".encode())[0] + "ü".encode()[:1]


def _dripping_json() -> Play:
    def play(asked: Asked) -> Script:
        first, _ = _in_two(asked)
        return Script(parts=[head(200, [JSON, CHUNKED]), chunk(first), *dripping(chunk(b" "))], ending=Ending.CLOSE)

    return play


BODIES = [
    # framing
    Fault(
        name="reset in the middle",
        json=before(_half(ending=Ending.RESET), "upstream_cut", 200),
        sse=after(begun(ending=Ending.RESET), "upstream_cut"),
    ),
    Fault(
        name="closed in the middle",
        json=before(_half(), "upstream_cut", 200),
        sse=after(begun(), "upstream_cut"),
    ),
    Fault(
        name="closed in the middle of a body without a length",
        json=before(
            lambda asked: Script(parts=[head(200, [JSON]), _in_two(asked)[0]], ending=Ending.CLOSE),
            "invalid_response",
            200,
        ),
        sse=after(
            lambda asked: Script(
                parts=[head(200, [SSE]), b"".join(frames_of(asked)[:2]), Gate.CONTENT], ending=Ending.CLOSE
            ),
            "upstream_cut",
        ),
    ),
    Fault(
        name="whole, without a length, then closed",
        json=well_all_the_same(lambda asked: Script(parts=[head(200, [JSON]), whole(asked)], ending=Ending.CLOSE)),
        sse=well_all_the_same(
            lambda asked: Script(parts=[head(200, [SSE]), _whole_frames(asked)], ending=Ending.CLOSE)
        ),
    ),
    Fault(
        name="cut inside a UTF-8 sequence, then closed",
        json=before(_half(), "upstream_cut", 200),
        sse=after(
            lambda asked: streamed(
                [*frames_of(asked)[:1], delta({"content": "Gr"}), Gate.CONTENT, _in_two_frame()],
                ending=Ending.CLOSE,
                ended=False,
            ),
            "upstream_cut",
        ),
    ),
    Fault(
        name="cut inside a UTF-8 sequence, then a proper end",
        json=before(lambda asked: chunked([_in_two(asked)[0]], JSON), "invalid_response", 200),
        sse=after(
            lambda asked: streamed([*frames_of(asked)[:1], delta({"content": "Gr"}), Gate.CONTENT, _in_two_frame()]),
            "upstream_cut",
        ),
    ),
    Fault(
        name="malformed chunk",
        json=before(_raw(head(200, [CHUNKED, JSON]), b"zz\r\n{}\r\n"), "upstream_cut", 200),
        sse=after(
            lambda asked: Script(
                parts=[
                    head(200, [CHUNKED, SSE]),
                    *[chunk(frame) for frame in frames_of(asked)[:2]],
                    Gate.CONTENT,
                    b"zz\r\nno chunk\r\n",
                ],
                ending=Ending.CLOSE,
            ),
            "upstream_cut",
        ),
    ),
    Fault(
        name="malformed chunk, at once",
        json=before(_raw(head(200, [CHUNKED, JSON]), b"-5\r\n{}\r\n"), "upstream_cut", 200),
        sse=before(_raw(head(200, [CHUNKED, SSE]), b"zz\r\nno chunk\r\n"), "upstream_cut", 200),
    ),
    Fault(
        name="last chunk missing",
        json=before(lambda asked: chunked([whole(asked)], JSON, ending=Ending.CLOSE, ended=False), "upstream_cut", 200),
        sse=well_all_the_same(lambda asked: streamed(frames_of(asked), ending=Ending.CLOSE, ended=False)),
    ),
    Fault(
        name="content-length too long",
        json=before(
            lambda asked: answer(200, whole(asked), JSON, length=9999, ending=Ending.CLOSE), "upstream_cut", 200
        ),
        sse=after(
            lambda asked: Script(
                parts=[head(200, [SSE, ("content-length", "9999")]), b"".join(frames_of(asked)[:3])],
                ending=Ending.CLOSE,
            ),
            "upstream_cut",
        ),
    ),
    Fault(
        name="content-length too short",
        json=before(lambda asked: answer(200, whole(asked), JSON, length=60), "invalid_response", 200),
        sse=after(
            lambda asked: answer(200, _whole_frames(asked), SSE, length=len(b"".join(frames_of(asked)[:3])) + 20),
            "upstream_cut",
        ),
    ),
    Fault(
        name="a second answer behind the first",
        json=well_all_the_same(_two_answers),
        sse=well_all_the_same(_two_answers),
    ),
    Fault(
        name="connection closed once it is idle",
        json=well_all_the_same(lambda asked: Script(parts=well(asked).parts, ending=Ending.CLOSE)),
        sse=well_all_the_same(lambda asked: Script(parts=well(asked).parts, ending=Ending.CLOSE)),
    ),
    Fault(
        name="written byte by byte",
        json=well_all_the_same(lambda asked: Script(parts=[bytes([one]) for one in _first(asked)])),
        sse=well_all_the_same(lambda asked: Script(parts=[bytes([one]) for one in _first(asked)])),
    ),
    Fault(
        name="silence in the middle",
        json=before(_half(ending=Ending.SILENCE), "answer_timeout", 200),
        sse=after(begun(ending=Ending.SILENCE), "idle_timeout"),
        limits={"answer_seconds": SOON, "idle_seconds": SOON},
    ),
    Fault(
        name="one byte at a time, without end",
        json=before(_dripping_json(), "answer_timeout", 200),
        sse=after(begun(b"data: ", *dripping(b"x")), "idle_timeout"),
        limits={"answer_seconds": SOON, "idle_seconds": SOON},
    ),
    # encoding
    Fault(
        name="gzip that nobody asked for",
        json=well_all_the_same(lambda asked: answer(200, gzip.compress(whole(asked)), JSON, GZIP)),
        sse=well_all_the_same(lambda asked: streamed([gzip.compress(_whole_frames(asked))], GZIP)),
    ),
    Fault(
        name="gzip that is none",
        json=before(lambda asked: answer(200, whole(asked), JSON, GZIP), "invalid_response", 200),
        sse=before(lambda asked: streamed(frames_of(asked), GZIP), "invalid_response", 200),
    ),
    Fault(
        name="gzip cut short",
        json=before(lambda asked: answer(200, gzip.compress(whole(asked))[:-6], JSON, GZIP), "invalid_response", 200),
        sse=after(_packed_and_cut, "upstream_cut"),
    ),
    Fault(
        name="gzip of 64 MiB in 64 KiB",
        json=before(lambda _: answer(200, _bomb(), JSON, GZIP), "invalid_response", 200),
        sse=before(lambda _: streamed([_bomb()], GZIP), "invalid_response", 200),
        limits={"max_response_bytes": _MIB, "max_frame_bytes": _MIB},
    ),
    Fault(
        name="an encoding we do not know",
        json=before(lambda asked: answer(200, whole(asked), JSON, ("content-encoding", "br")), "invalid_response", 200),
        sse=before(lambda asked: streamed(frames_of(asked), ("content-encoding", "br")), "invalid_response", 200),
    ),
    # size and content
    Fault(
        name="10 MiB over the limit",
        json=before(lambda asked: answer(200, whole(asked, more="x" * 10 * _MIB), JSON), "invalid_response", 200),
        sse=before(_big_frame, "invalid_response", 200),
        limits={"max_response_bytes": 4 * _MIB},
    ),
    Fault(
        name="10 MiB over the limit, after content",
        sse=after(begun(delta({"content": "x" * 10 * _MIB}), ended=True), "invalid_response"),
    ),
    Fault(
        name="frame that never ends",
        sse=before(
            lambda _: streamed([b"data: ", *[b"x" * 65536] * 100], ending=Ending.SILENCE), "invalid_response", 200
        ),
    ),
    Fault(
        name="JSON cut short in good framing",
        json=before(lambda asked: answer(200, whole(asked)[:-9], JSON), "invalid_response", 200),
        sse=after(begun(b'data: {"id": "c", "choi\n\n', ended=True), "invalid_response"),
    ),
    Fault(
        name="JSON that is no object",
        json=before(lambda _: answer(200, b"[1]", JSON), "invalid_response", 200),
        sse=after(begun(b"data: [1]\n\n", ended=True), "invalid_response"),
    ),
    Fault(
        name="JSON without choices",
        json=before(lambda _: answer(200, b'{"ok": true}', JSON), "invalid_response", 200),
    ),
    Fault(
        name="JSON with an empty list of choices",
        json=before(
            lambda _: answer(200, b'{"object": "chat.completion", "choices": [ ]}', JSON), "invalid_response", 200
        ),
    ),
    Fault(
        name="JSON nested 100 000 levels deep",
        json=before(lambda _: answer(200, _deep(100_000), JSON), "invalid_response", 200),
        sse=after(begun(b"data: " + _deep(100_000) + b"\n\n", ended=True), "invalid_response"),
    ),
    Fault(
        name="bytes that are no UTF-8",
        json=before(
            lambda asked: answer(200, whole(asked).replace("ü".encode(), b"\xff"), JSON), "invalid_response", 200
        ),
        sse=after(begun(b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\n', ended=True), "invalid_response"),
    ),
    Fault(
        name="the other kind of answer",
        json=before(lambda asked: streamed(frames_of(asked)), "invalid_response", 200),
        sse=before(lambda asked: answer(200, whole(asked), JSON), "invalid_response", 200),
    ),
]
