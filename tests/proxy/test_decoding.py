"""Content-Encoding undone within a limit: bombs, cuts and lies are told, however the bytes are split."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vetted_mw.proxy.decoding import BodyDecoder, DecodingError, StreamDecoder, TooLargeError, is_known_encoding

unhurried = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def raw_deflate(data: bytes, level: int = 6) -> bytes:
    """Compress as servers that read "deflate" literally do, without the zlib wrapper."""
    deflate = zlib.compressobj(level, zlib.DEFLATED, -15)
    return deflate.compress(data) + deflate.flush()


Form = tuple[bytes, Callable[[bytes], bytes]]

FORMS: dict[str, Form] = {
    "gzip": (b"gzip", gzip.compress),
    "x-gzip": (b"x-gzip", gzip.compress),
    "deflate": (b"deflate", zlib.compress),
    "raw deflate": (b"deflate", raw_deflate),
    "raw deflate, stored": (b"deflate", lambda data: raw_deflate(data, 0)),
    "identity": (b"identity", bytes),
    "none": (b"", bytes),
}
COMPRESSED = {name: form for name, form in FORMS.items() if form[0] not in {b"", b"identity"}}


def decoded(encoding: bytes, parts: list[bytes], *, max_bytes: int = 1 << 20) -> bytes:
    """Decode a whole body fed in `parts`."""
    decoder = BodyDecoder(encoding, max_bytes=max_bytes)
    out = b"".join(decoder.feed(part) for part in parts)
    decoder.finish()
    return out


def bytewise(data: bytes) -> list[bytes]:
    """Cut `data` into single bytes."""
    return [data[at : at + 1] for at in range(len(data))]


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
@unhurried
@given(body=st.binary(max_size=300) | st.text(max_size=100).map(str.encode), cut=st.integers(0, 300))
def test_a_body_decodes_to_itself_however_it_is_cut(form: Form, body: bytes, cut: int) -> None:
    """Whole, in two parts or byte by byte, with a limit it just fits or a wide one, a body comes out as it went in."""
    encoding, encode = form
    data = encode(body)
    for parts in ([data], [data[:cut], b"", data[cut:]], bytewise(data)):
        assert decoded(encoding, parts) == body
        assert decoded(encoding, parts, max_bytes=len(body)) == body


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
@unhurried
@given(body=st.binary(min_size=1, max_size=300), over=st.integers(1, 300), whole=st.booleans())
def test_a_body_over_the_limit_is_refused_however_it_is_cut(form: Form, body: bytes, over: int, whole: bool) -> None:
    """One byte more than the limit, decoded, is too large."""
    encoding, encode = form
    data = encode(body)
    with pytest.raises(TooLargeError):
        decoded(encoding, [data] if whole else bytewise(data), max_bytes=max(0, len(body) - over))


@pytest.mark.parametrize("name", ["gzip", "deflate", "raw deflate"])
def test_a_bomb_is_refused_before_it_unfolds(name: str) -> None:
    """A small body that decodes to 16 MiB is refused without that memory ever being taken."""
    encoding, encode = FORMS[name]
    bomb = encode(bytes(16 << 20))
    decoder = BodyDecoder(encoding, max_bytes=1000)
    tracemalloc.start()
    try:
        with pytest.raises(TooLargeError):
            decoder.feed(bomb)
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize("form", COMPRESSED.values(), ids=COMPRESSED.keys())
@unhurried
@given(body=st.binary(max_size=200), data=st.data())
def test_a_cut_body_is_told_at_its_end(form: Form, body: bytes, data: st.DataObject) -> None:
    """A body that stops before its end is refused by `finish`, wherever it stops."""
    encoding, encode = form
    whole = encode(body)
    cut = whole[: data.draw(st.integers(1, len(whole) - 1))]
    with pytest.raises(DecodingError):
        decoded(encoding, data.draw(st.sampled_from([[cut], bytewise(cut)])))


@pytest.mark.parametrize("form", COMPRESSED.values(), ids=COMPRESSED.keys())
@pytest.mark.parametrize(
    "extra", [b"x", b"\0", b" and more", gzip.compress(b"second")], ids=["x", "NUL", "text", "gzip"]
)
def test_bytes_after_the_end_are_refused(form: Form, extra: bytes) -> None:
    """What goes on after the encoded body is never dropped in silence, in one part or in its own."""
    encoding, encode = form
    data = encode(b"first")
    for parts in ([data + extra], [data, extra], bytewise(data + extra)):
        with pytest.raises(DecodingError):
            decoded(encoding, parts)


@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        (b"gzip", b'{"model": "m"}'),
        (b"gzip", zlib.compress(b"body")),
        (b"gzip", raw_deflate(b"body")),
        (b"x-gzip", b"\x1f\x8b\xff\xff"),
        (b"deflate", gzip.compress(b"body", mtime=0)),
        (b"deflate", b'{"model": "m"}'),
        (b"deflate", b"\xff\xff\xff\xff"),
        (b"gzip", gzip.compress(b"body", mtime=0)[:-8] + bytes(8)),
        (b"deflate", zlib.compress(b"body")[:-4] + bytes(4)),
    ],
    ids=[
        "JSON",
        "zlib as gzip",
        "raw as gzip",
        "bad gzip",
        "gzip as deflate",
        "JSON as deflate",
        "bad",
        "CRC",
        "Adler",
    ],
)
def test_bytes_that_are_not_in_the_encoding_are_refused(encoding: bytes, data: bytes) -> None:
    """A body that is not what its header says, checksum included, is refused however it comes, without its content."""
    for parts in ([data], bytewise(data)):
        with pytest.raises(DecodingError) as caught:
            decoded(encoding, parts)
        assert str(caught.value) == ""


@pytest.mark.parametrize("encoding", [b"", b"identity", b"gzip", b"x-gzip", b"deflate"])
def test_an_empty_body_is_empty_in_every_encoding(encoding: bytes) -> None:
    """Nothing at all is a complete body: some answers name an encoding and have no body."""
    assert decoded(encoding, []) == decoded(encoding, [b"", b""]) == b""


@pytest.mark.parametrize(
    ("encoding", "known"),
    [(b"", True), (b"identity", True), (b"gzip", True), (b"x-gzip", True), (b"deflate", True)]
    + [(other, False) for other in (b"br", b"zstd", b"compress", b"gzip, gzip", b"GZIP", b"gzip ", b"*")],
)
def test_only_gzip_and_deflate_are_known(encoding: bytes, known: bool) -> None:
    """Everything else, a list of encodings included, is the 415 of whoever asks."""
    assert is_known_encoding(encoding) is known


# ---- streams

PIECE = 65_536


def streamed(encoding: bytes, parts: list[bytes]) -> tuple[bytes, bool]:
    """Decode a stream fed in `parts`; returns what came out, and whether it ended with an error."""
    decoder = StreamDecoder(encoding)
    out = bytearray()
    try:
        for part in parts:
            for piece in decoder.pieces(part):
                assert len(piece) <= max(PIECE, len(part))
                out += piece
    except DecodingError:
        return bytes(out), True
    return bytes(out), False


def test_a_stream_gives_out_what_it_can_as_it_comes() -> None:
    """A flushed part of a compressed stream comes out before the stream's end."""
    deflate = zlib.compressobj(6, zlib.DEFLATED, 31)
    decoder = StreamDecoder(b"gzip")
    for word in (b"data: a\n\n", b"data: b\n\n"):
        assert b"".join(decoder.pieces(deflate.compress(word) + deflate.flush(zlib.Z_SYNC_FLUSH))) == word


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
@unhurried
@given(body=st.binary(max_size=300), cut=st.integers(0, 300), times=st.sampled_from([1, 1000]))
def test_a_stream_decodes_to_itself_however_it_is_cut(form: Form, body: bytes, cut: int, times: int) -> None:
    """Whole, in two parts or byte by byte, what went in comes out, in pieces of bounded size."""
    encoding, encode = form
    data = encode(body * times)
    cuts = [[data], [data[:cut], data[cut:]]] + ([bytewise(data)] if times == 1 else [])
    for parts in cuts:
        assert streamed(encoding, parts) == (body * times, False)


@pytest.mark.parametrize("size", [PIECE - 1, PIECE, PIECE + 1, 3 * PIECE, 3 * PIECE + 100])
@pytest.mark.parametrize("form", COMPRESSED.values(), ids=COMPRESSED.keys())
def test_nothing_stays_behind_where_a_piece_is_just_full(form: Form, size: int) -> None:
    """What zlib still holds when its input is used up comes out with the read it came in, not with the next."""
    encoding, encode = form
    for body in (bytes(size), bytes(range(256)) * (size // 256) + b"x" * (size % 256)):
        assert streamed(encoding, [encode(body)]) == (body, False)


@pytest.mark.parametrize("form", COMPRESSED.values(), ids=COMPRESSED.keys())
@unhurried
@given(body=st.binary(max_size=300), extra=st.sampled_from([b"x", gzip.compress(b"second")]), whole=st.booleans())
def test_what_came_before_an_error_in_the_same_read_is_not_lost(
    form: Form, body: bytes, extra: bytes, whole: bool
) -> None:
    """Bytes after the end, a second gzip member among them, are an error, and come after all that was good."""
    encoding, encode = form
    data = encode(body) + extra
    assert streamed(encoding, [data] if whole else bytewise(data)) == (body, True)


@pytest.mark.parametrize("form", COMPRESSED.values(), ids=COMPRESSED.keys())
@unhurried
@given(body=st.binary(min_size=50, max_size=300), data=st.data())
def test_an_error_in_the_middle_comes_at_the_same_place_however_it_is_cut(
    form: Form, body: bytes, data: st.DataObject
) -> None:
    """With a bit turned over, what comes out before the error does not depend on the cut."""
    encoding, encode = form
    broken = bytearray(encode(body))
    broken[data.draw(st.integers(2, len(broken) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    cut = data.draw(st.integers(0, len(broken)))
    expected = streamed(encoding, bytewise(bytes(broken)))
    assert streamed(encoding, [bytes(broken)]) == expected
    assert streamed(encoding, [bytes(broken[:cut]), bytes(broken[cut:])]) == expected


@pytest.mark.parametrize("name", ["gzip", "deflate", "raw deflate"])
def test_a_bomb_in_one_read_unfolds_piece_by_piece(name: str) -> None:
    """64 MiB in one read of 64 KiB take the memory of one piece, and no more is decoded than is asked for."""
    encoding, encode = FORMS[name]
    bomb = encode(bytes(64 << 20))
    assert len(bomb) < 1.1 * PIECE
    tracemalloc.start()
    try:
        pieces = StreamDecoder(encoding).pieces(bomb)
        assert len(next(pieces)) == PIECE
        assert sum(map(len, pieces)) == (64 << 20) - PIECE
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20
