"""Our signatures in the hands of others: a JOSE library we do not use, and openssl."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import warnings
from typing import TYPE_CHECKING, Literal

import pytest
from joserfc import jws
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import KeySet, OKPKey

from receipts.keys import jwks, private_pem, signer
from vetted_mw.receipts.jwks import parse_jwks, spki_pem
from vetted_mw.receipts.jws import RECEIPT_TYPE, b64url, compact, read_jws
from vetted_mw.receipts.signing import JwsRefusal, JwsRefusedError, new_private_pem, verify_jws

if TYPE_CHECKING:
    from pathlib import Path

PAYLOAD = b'{"gco2e":0.0047745,"query_id":"q1"}'


@pytest.mark.parametrize("alg", ["Ed25519", "EdDSA"])
def test_joserfc_verifies_what_we_sign(alg: Literal["Ed25519", "EdDSA"]) -> None:
    """With nothing but the JWKS; under the older name where the switch is set, and then under that one alone."""
    own = signer(alg=alg)
    keys = KeySet.import_key_set(jwks(own, signer(1)))  # type: ignore[arg-type]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)  # of the older name
        verified = jws.deserialize_compact(compact(PAYLOAD, own), keys, algorithms=[alg])
        assert (verified.payload, verified.protected["kid"]) == (PAYLOAD, own.kid)
        altered = compact(PAYLOAD, own).replace(b64url(PAYLOAD), b64url(PAYLOAD.replace(b"47745", b"40000")))
        with pytest.raises(JoseError):
            jws.deserialize_compact(altered, keys, algorithms=[alg])
        other = "EdDSA" if alg == "Ed25519" else "Ed25519"
        with pytest.raises(JoseError):
            jws.deserialize_compact(compact(PAYLOAD, own), keys, algorithms=[other])


def test_we_verify_what_joserfc_signs() -> None:
    """Its key has the `kid` that we give it, and its text is the same as ours to the letter."""
    key = OKPKey.import_key(private_pem(1))
    assert key.thumbprint() == signer(1).kid
    header = {"alg": "Ed25519", "kid": key.thumbprint(), "typ": RECEIPT_TYPE}
    text = jws.serialize_compact(header, PAYLOAD, key, algorithms=["Ed25519"])
    assert verify_jws(text, parse_jwks(json.dumps(jwks(signer(1))).encode())).payload == PAYLOAD
    assert text == compact(PAYLOAD, signer(1))


def test_a_key_that_joserfc_would_take_under_hs256_is_refused_by_us() -> None:
    """What the library signs with the public key as a shared secret does not count here."""
    from joserfc.jwk import OctKey

    shared = OctKey.import_key(signer().jwk["x"])
    header = {"alg": "HS256", "kid": signer().kid, "typ": RECEIPT_TYPE}
    text = jws.serialize_compact(header, PAYLOAD, shared, algorithms=["HS256"])
    with pytest.raises(JwsRefusedError) as caught:
        verify_jws(text, parse_jwks(json.dumps(jwks(signer())).encode()))
    assert caught.value.reason is JwsRefusal.ALGORITHM


def openssl(*arguments: object) -> subprocess.CompletedProcess[str]:
    if shutil.which("openssl") is None:
        assert not os.environ.get("CI"), "CI must bring openssl"
        pytest.skip("openssl is not installed")
    command = ["openssl", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_openssl_accepts_our_signature_and_no_altered_receipt(tmp_path: Path) -> None:
    """The public key as we print it, the signing input, the signature: tools that every auditor has."""
    text = compact(PAYLOAD, signer())
    (tmp_path / "key.pem").write_text(spki_pem(signer().jwk))
    (tmp_path / "signature").write_bytes(read_jws(text).signature)
    for signed, code in ((text, 0), (text.replace(".", ".A", 1), 1)):
        (tmp_path / "signed").write_text(signed.rpartition(".")[0])
        arguments = ["-inkey", tmp_path / "key.pem", "-in", tmp_path / "signed", "-sigfile", tmp_path / "signature"]
        done = openssl("pkeyutl", "-verify", "-pubin", "-rawin", *arguments)
        assert done.returncode == code, done.stderr
        assert ("Signature Verified Successfully" in done.stdout) is (code == 0)


def test_openssl_reads_the_key_we_make_and_we_its(tmp_path: Path) -> None:
    """PKCS 8 either way, so that a key may come from whatever tool an operator trusts."""
    from vetted_mw.receipts.signing import load_signer

    file = tmp_path / "key.pem"
    file.write_text(new_private_pem())
    done = openssl("pkey", "-in", file, "-pubout")
    assert done.stdout == spki_pem(load_signer(file.read_text()).jwk)
    assert openssl("genpkey", "-algorithm", "ed25519", "-out", file).returncode == 0
    assert openssl("pkey", "-in", file, "-pubout").stdout == spki_pem(load_signer(file.read_text()).jwk)
