"""The documented vector and those of the RFCs, byte for byte."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from receipts.keys import jwks, private_pem, signer
from vetted_mw.receipts.canonical import canonical
from vetted_mw.receipts.jwks import parse_jwks, public_jwk, thumbprint
from vetted_mw.receipts.jws import RECEIPT_TYPE, compact, detached, from_b64url, read_jws, reattached
from vetted_mw.receipts.signing import load_signer, verify_jws, verify_signature

X = "A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg"
RECEIPT = {
    "query_id": "q1",
    "gco2e": 0.0047745,
    "grid_intensity_gco2_per_kwh": 58.0,
    "completion_tokens": 78,
    "prompt_tokens": 24,
}
SIGNATURE = (
    "eyJhbGciOiJFZDI1NTE5Iiwia2lkIjoiazEiLCJ0eXAiOiJ2ZXR0ZWQtcmVjZWlwdCtqd3MifQ.."
    "kKb9nmMQRGRqdqNOUKqvL9XMo3lZujnDHXGNCdjwxeMD0y6Tq233vEPtwDyZWtWrbpyG9HRgF3pxwxcOeEGLDg"
)


def test_the_documented_vector_reproduces_byte_for_byte() -> None:
    """Key, header order, canonical form and signature of the design's vector."""
    own = replace(signer(), kid="k1")
    assert own.jwk["x"] == X
    full = compact(canonical(RECEIPT), own)
    assert detached(full) == SIGNATURE
    assert list(read_jws(full).header.items()) == [("alg", "Ed25519"), ("kid", "k1"), ("typ", RECEIPT_TYPE)]
    assert read_jws(full).payload == (
        b'{"completion_tokens":78,"gco2e":0.0047745,"grid_intensity_gco2_per_kwh":58,"prompt_tokens":24,"query_id":"q1"}'
    )


def test_the_documented_signature_holds_for_that_receipt_and_no_other() -> None:
    """A client that puts its receipt back into the signature verifies it; with another figure it fails."""
    jws = read_jws(reattached(SIGNATURE, RECEIPT))
    assert verify_signature({"x": X}, jws.signing_input, jws.signature)
    altered = read_jws(reattached(SIGNATURE, RECEIPT | {"gco2e": 0.004}))
    assert not verify_signature({"x": X}, altered.signing_input, altered.signature)


def test_a_client_may_hold_the_receipt_in_any_order_and_notation() -> None:
    """`58.0` or `58`, this order or that: the canonical form is what was signed."""
    read = json.loads(json.dumps(dict(reversed(RECEIPT.items()))).replace("58.0", "58"))
    assert reattached(SIGNATURE, read) == reattached(SIGNATURE, RECEIPT)


def test_the_example_of_rfc_8037_verifies_and_is_what_we_would_sign() -> None:
    """Appendix A: the key, its thumbprint and the signature over a given input."""
    x = from_b64url("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
    assert public_jwk(x)["kid"] == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    signed = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"
    signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
    assert verify_signature(public_jwk(x), signed, from_b64url(signature))
    private = from_b64url("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")
    own = load_signer(private_pem(private))
    assert own.jwk == public_jwk(x, alg="Ed25519")
    assert own.sign(signed) == from_b64url(signature)


def test_the_example_of_rfc_7638_has_the_thumbprint_of_the_rfc() -> None:
    """Section 3.1, a key of another kind: the same function over the members that its kind requires."""
    modulus = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3"
        "oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdA"
        "ZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-"
        "kEgU8awapJzKnqDKgw"
    )
    assert thumbprint({"e": "AQAB", "kty": "RSA", "n": modulus}) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


@pytest.mark.parametrize("alg", ["Ed25519", "EdDSA"])
def test_what_a_signer_signs_its_jwks_verifies(alg: str) -> None:
    """Either name of the algorithm, one kid: the key's own thumbprint."""
    own = load_signer(private_pem(3), alg="EdDSA" if alg == "EdDSA" else "Ed25519")
    verified = verify_jws(compact(b'{"a":1}', own), parse_jwks(json.dumps(jwks(signer(1), own)).encode()))
    assert (verified.payload, verified.kid) == (b'{"a":1}', signer(3).kid)
    assert read_jws(compact(b"{}", own)).header["alg"] == alg == own.jwk["alg"]
