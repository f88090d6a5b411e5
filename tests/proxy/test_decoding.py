"""Content-Encoding undone within a limit: bombs, cuts and lies are told, however the bytes are split."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vetted_mw.proxy.decoding import BodyDecoder, DecodingError, TooLargeError, is_known_encoding

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


def decoded(encoding: bytes, parts: list[bytes], *, max_bytes: int | None = None) -> bytes:
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
    """Whole, in two parts or byte by byte, with a limit it just fits or with none, a body comes out as it went in."""
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
        (b"deflate", gzip.compress(b"body")),
        (b"deflate", b'{"model": "m"}'),
        (b"deflate", b"\xff\xff\xff\xff"),
        (b"gzip", gzip.compress(b"body")[:-8] + bytes(8)),
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


def test_a_stream_gives_out_what_it_can_as_it_comes() -> None:
    """A flushed part of a compressed stream comes out before the stream's end."""
    deflate = zlib.compressobj(6, zlib.DEFLATED, 31)
    decoder = BodyDecoder(b"gzip", max_bytes=None)
    for word in (b"data: a\n\n", b"data: b\n\n"):
        assert decoder.feed(deflate.compress(word) + deflate.flush(zlib.Z_SYNC_FLUSH)) == word
    with pytest.raises(DecodingError):
        decoder.finish()
