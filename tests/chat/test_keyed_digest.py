"""Our HMAC is the standard library's, for every key and message, whole or in pieces."""

from __future__ import annotations

import hmac

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vetted_mw.chat.keyed import begun, ended, hmac_sha256

# HMAC-SHA-256 by RFC 4231, test cases 1, 2 and 6: a key shorter than the digest, of text, and longer than a block.
PUBLISHED = [
    (b"\x0b" * 20, b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
    (b"Jefe", b"what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
    (
        b"\xaa" * 131,
        b"Test Using Larger Than Block-Size Key - Hash Key First",
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
    ),
]


@pytest.mark.parametrize(("key", "message", "digest"), PUBLISHED)
def test_the_published_vectors_come_out(key: bytes, message: bytes, digest: str) -> None:
    """RFC 4231 says what the digests are."""
    assert hmac_sha256(key, [message]) == digest


@given(key=st.binary(max_size=140), parts=st.lists(st.binary(max_size=90), max_size=5))
@example(key=b"", parts=[])
@example(key=b"k" * 64, parts=[b"a", b"b"])
@example(key=b"k" * 65, parts=[b"a", b"b"])
@example(key=bytes(range(16)), parts=[b"\0" * 200_000])
def test_any_message_has_the_digest_of_the_library(key: bytes, parts: list[bytes]) -> None:
    """Whatever the lengths of key and parts, those about a block among them."""
    expected = hmac.new(key, b"".join(parts), "sha256").hexdigest()
    assert hmac_sha256(key, parts) == expected
    said = begun(key)
    for part in parts:
        ended(key, said)  # asked in between, it changes nothing
        said.update(part)
    assert ended(key, said) == expected
