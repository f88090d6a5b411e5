"""The JWKS: what is published, and what an auditor takes for one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receipts.keys import jwks as listed
from receipts.keys import private_pem, signer
from vetted_mw.configuration import RetiredKey
from vetted_mw.errors import ConfigurationError
from vetted_mw.receipts.jwks import PublicKeyError, jwks, parse_jwks, public_jwk, read_public_key, spki_pem
from vetted_mw.receipts.jws import b64url

OURS = dict(signer().jwk)


def retired(seed: int, **bounds: str) -> RetiredKey:
    return RetiredKey(jwk=read_public_key(spki_pem(signer(seed).jwk).encode()), **bounds)


def test_the_key_that_signs_now_is_listed_first() -> None:
    """With everything a verifier asks for, and nothing else."""
    document = jwks(signer(), [retired(1), retired(2)])
    assert [key["kid"] for key in document["keys"]] == [signer(seed).kid for seed in (0, 1, 2)]
    assert document["keys"][0] == {
        "kty": "OKP",
        "crv": "Ed25519",
        "x": "A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg",
        "kid": signer().kid,
        "use": "sig",
        "alg": "Ed25519",
    }


def test_a_retired_key_is_listed_with_its_time() -> None:
    """Bounds that somebody stated, and no others; its algorithm's name only where that is known."""
    document = jwks(None, [retired(1, not_after="2026-01-01T00:00:00Z"), retired(2)])
    first, second = document["keys"]
    assert first["not_after"] == "2026-01-01T00:00:00Z"
    assert {"not_before", "alg"}.isdisjoint(first)
    assert set(second) == {"kty", "crv", "x", "kid", "use"}
    assert jwks(None, []) == {"keys": []}


@pytest.mark.parametrize(("seeds", "entry"), [([0], 1), ([1, 0], 2), ([1, 1], 2)])
def test_a_key_is_listed_once(seeds: list[int], entry: int) -> None:
    """Retired twice, or retired while it still signs: told by its place in the list."""
    with pytest.raises(ConfigurationError, match=f"entry {entry}") as caught:
        jwks(signer(), [retired(seed) for seed in seeds])
    assert caught.value.field == "signing.retired"


def test_what_is_published_is_read_back() -> None:
    """An auditor's copy holds the same keys with the same bounds."""
    document = jwks(signer(), [retired(1, not_before="2025-01-01T00:00:00Z", not_after="2026-01-01T00:00:00Z")])
    read = parse_jwks(json.dumps(document).encode())
    assert list(read.keys) == [signer().kid, signer(1).kid]
    second = read.keys[signer(1).kid]
    assert (second.x, second.not_before, second.not_after) == (
        signer(1).jwk["x"],
        "2025-01-01T00:00:00Z",
        "2026-01-01T00:00:00Z",
    )
    assert parse_jwks(b'{"keys":[]}').keys == {}
    assert parse_jwks(json.dumps(document | {"more": 1}, indent=2).encode()).keys == read.keys


def changed(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in (OURS | members).items() if value is not None}


KEYS_NOBODY_TAKES: dict[str, Any] = {
    "private": changed(d="x"),
    "rsa": {"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "x"},
    "other kind": changed(kty="EC"),
    "other curve": changed(crv="X25519"),
    "no curve": changed(crv=None),
    "no x": changed(x=None),
    "x of a number": changed(x=1),
    "short x": changed(x="AQAB"),
    "long x": changed(x=b64url(bytes(33))),
    "padded x": changed(x=OURS["x"] + "="),
    "no kid": changed(kid=None),
    "kid of another": changed(kid=signer(1).kid),
    "kid of nobody": changed(kid="k1"),
    "for encryption": changed(use="enc"),
    "other algorithm": changed(alg="HS256"),
    "no instant": changed(not_after="yesterday"),
    "instant without offset": changed(not_before="2026-01-01T00:00:00"),
    "instant of a number": changed(not_before=1),
    "a text": "key",
    "a list": [],
    "null": None,
}


@pytest.mark.parametrize("key", KEYS_NOBODY_TAKES.values(), ids=KEYS_NOBODY_TAKES)
def test_a_jwks_with_a_key_that_is_none_of_ours_is_refused(key: Any) -> None:
    """One of a thousand is enough: a list that holds what it should not is no list to trust."""
    with pytest.raises(PublicKeyError) as caught:
        parse_jwks(json.dumps({"keys": [dict(signer(1).jwk), key]}).encode())
    assert caught.value.problem == str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize(
    "data",
    [
        *(
            b"",
            b"[]",
            b"{}",
            b"null",
            b"\xff",
            b'{"keys":{}}',
            b'{"keys":null}',
            b'{"keys":[],"keys":[]}',
            b'{"keys":[NaN]}',
        ),
        json.dumps({"keys": [OURS, OURS]}).encode(),
        json.dumps(OURS).encode(),
    ],
)
def test_what_is_no_jwks_is_refused(data: bytes) -> None:
    """No JSON, no list, a name or a key twice, one key alone."""
    with pytest.raises(PublicKeyError):
        parse_jwks(data)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60) | st.text(alphabet='{}[]":,keys0', max_size=40).map(str.encode))
def test_no_bytes_are_anything_but_a_list_or_a_refusal(data: bytes) -> None:
    """Whatever the file holds, the answer is one of the two."""
    for read in (parse_jwks, read_public_key):
        try:
            found = read(data)
        except PublicKeyError:
            continue
        assert found is not None
        assert b"keys" in data


# ---- the file of one public key


def test_a_public_key_is_read_from_pem_and_from_jwk() -> None:
    """As `keys show --public` prints it, or as a JWK with whatever else stands in it; the same key either way."""
    own = signer(1)
    bare = {name: value for name, value in own.jwk.items() if name != "alg"}
    assert read_public_key(spki_pem(own.jwk).encode()) == bare
    assert read_public_key(f"\n  {spki_pem(own.jwk)}\n".replace("\n", "\r\n").encode()) == bare
    assert read_public_key(json.dumps(dict(own.jwk) | {"key_ops": ["verify"]}).encode()) == own.jwk
    only = {name: own.jwk[name] for name in ("kty", "crv", "x")}
    assert read_public_key(json.dumps(only, indent=1).encode()) == bare
    assert public_jwk(bytes(range(32)))["x"] == b64url(bytes(range(32)))


@pytest.mark.parametrize(
    "data",
    [
        private_pem(1).encode(),
        spki_pem(signer().jwk).encode() + private_pem(1).encode(),
        b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
        json.dumps(dict(signer().jwk) | {"d": "secret"}).encode(),
    ],
)
def test_a_private_key_is_no_public_one(data: bytes) -> None:
    """Told as such, with the command that prints its public half, before anything of it is looked at."""
    with pytest.raises(PublicKeyError, match="private key") as caught:
        read_public_key(data)
    assert "vetted-mw keys show FILE --public" in caught.value.remedy


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"garbage", b"\xff\xfe", b"{", b"{}", b"[]", b'{"kty":"OKP"}'),
        spki_pem(signer().jwk).encode() * 2,
        spki_pem(signer().jwk).replace("MCow", "MCox").encode(),
        spki_pem(signer().jwk).replace("MCow", "MC?w").encode(),
        spki_pem(signer().jwk).replace("MCow", "MC=w").encode(),
        spki_pem(signer().jwk).replace("MCow", "").encode(),
        spki_pem(signer().jwk).replace("PUBLIC KEY", "CERTIFICATE").encode(),
        b"-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----",
        json.dumps(listed(signer())).encode(),
        json.dumps(dict(signer().jwk) | {"kid": "k1"}).encode(),
        b'{"kty":"OKP","kty":"OKP","crv":"Ed25519","x":"A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg"}',
    ],
    ids=range(17),
)
def test_a_file_that_holds_no_single_public_key_is_refused(data: bytes) -> None:
    """Nothing, garbage, two keys, another kind, a whole JWKS, a `kid` that is not the key's."""
    with pytest.raises(PublicKeyError):
        read_public_key(data)
