"""The private key: what is one, what is not, and that nothing of it is ever told."""

from __future__ import annotations

import copy
import json
import sys
import threading
import traceback
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from receipts.keys import jwks, private_pem, signer
from vetted_mw.errors import ConfigurationError
from vetted_mw.receipts.jwks import parse_jwks, spki_pem
from vetted_mw.receipts.jws import compact
from vetted_mw.receipts.signing import load_signer, new_private_pem, verify_jws, verify_signature
from vetted_mw.secret import Secret

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

BODY = private_pem().splitlines()[1]


def pem(key: PrivateKeyTypes, form: PrivateFormat = PrivateFormat.PKCS8, passphrase: bytes = b"") -> str:
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, form, encryption).decode()


OURS = signer().key
RSA = rsa.generate_private_key(65537, 2048)
NO_KEYS = {
    "empty": "",
    "blank": " \n\t",
    "garbage": "garbage",
    "not base64": private_pem().replace(BODY, "?" * 64),
    "truncated": private_pem().replace(BODY, BODY[:-8]),
    "without its end": private_pem().partition("-----END")[0],
    "body alone": BODY,
    "seed in hex": bytes(range(32)).hex(),
    "public": spki_pem(signer().jwk),
    "both": private_pem() + spki_pem(signer().jwk),
    "two": private_pem() + private_pem(1),
    "encrypted": pem(OURS, passphrase=b"passphrase"),
    "openssh": pem(OURS, PrivateFormat.OpenSSH),
    "rsa": pem(RSA),
    "rsa, older form": pem(RSA, PrivateFormat.TraditionalOpenSSL),
    "rsa, older form, encrypted": pem(RSA, PrivateFormat.TraditionalOpenSSL, b"pass"),
    "ec": pem(ec.generate_private_key(ec.SECP256R1())),
    "ed448": pem(ed448.Ed448PrivateKey.generate()),
    "x25519": pem(x25519.X25519PrivateKey.generate()),
    "rsa public": RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.PKCS1).decode(),
    "beyond ascii": private_pem().replace(BODY, "é" * 64),
    "surrogate": private_pem().replace(BODY, "\udcff" * 64),
}


@pytest.mark.parametrize("text", NO_KEYS.values(), ids=NO_KEYS)
def test_what_is_no_ed25519_private_key_is_refused_and_not_told(text: str) -> None:
    """Another kind, encrypted, public, damaged: the error names the setting and the remedy, and holds nothing of it."""
    with pytest.raises(ConfigurationError) as caught:
        load_signer(Secret(text))
    error = caught.value
    assert error.field == "signing.key"
    assert "vetted-mw keys new" in error.remedy
    told = "".join(traceback.format_exception(error, limit=0)) + repr(error.__context__) + repr(error.__cause__)
    for line in text.split("\n"):
        assert len(line) < 12 or line.startswith("-----") or line not in told


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("empty", "empty"),
        ("public", "public key"),
        ("encrypted", "passphrase"),
        ("two", "single"),
        ("rsa", "of another kind"),
    ],
)
def test_the_usual_slips_are_told_apart(kind: str, told: str) -> None:
    """Nothing there, the wrong half, a passphrase, two in one file, another algorithm."""
    with pytest.raises(ConfigurationError, match=told):
        load_signer(NO_KEYS[kind])


@pytest.mark.parametrize("around", ["{}", "\n{}\n\n", "  {}", "{}\r\n"])
def test_blanks_around_a_key_do_not_matter(around: str) -> None:
    """Mounts and editors put line ends around it; Windows' own line ends are fine too."""
    assert load_signer(around.format(private_pem())).kid == signer().kid
    assert load_signer(around.format(private_pem().replace("\n", "\r\n"))).kid == signer().kid


def test_a_new_key_is_another_each_time() -> None:
    """No key is ever made from anything but the system's randomness."""
    kids = {load_signer(new_private_pem()).kid for _ in range(50)}
    assert len(kids) == 50


def test_a_signer_shows_its_public_half_alone() -> None:
    """Printed, formatted, taken apart by a tool that reports errors: never the private key."""
    own = signer()
    told = f"{own} {own!r} {own.jwk} {jwks(own)}"
    assert own.kid in told
    assert BODY not in told
    assert bytes(range(32)).hex() not in told
    assert "d" not in own.jwk
    with pytest.raises(TypeError):
        own.jwk["d"] = "x"  # type: ignore[index]
    with pytest.raises(AttributeError):
        own.kid = "x"  # type: ignore[misc]


def test_signers_of_one_key_are_equal() -> None:
    """So that settings read anew with the same key are the same settings."""
    assert signer() == signer() == copy.copy(signer())
    assert signer() != signer(1)
    assert signer() != signer(alg="EdDSA")
    assert len({signer(), signer(), signer(1)}) == 2


def test_one_signer_signs_in_many_threads() -> None:
    """The ledger's writer and the event loop sign with the same one."""
    own, keys = signer(), parse_jwks(json.dumps(jwks(signer())).encode())
    made: list[str] = []

    def sign(number: int) -> None:
        made.extend(compact(b"%d-%d" % (number, one), own) for one in range(50))

    threads = [threading.Thread(target=sign, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({verify_jws(text, keys).payload for text in made}) == 400


@pytest.fixture
def no_cryptography(monkeypatch: pytest.MonkeyPatch) -> None:
    from vetted_mw.receipts import signing

    signing._verifier.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "cryptography"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)


def test_without_the_library_a_key_is_told_what_to_install(no_cryptography: None) -> None:
    """The extra is named, for signing, for making a key and for verifying."""
    for use in (
        lambda: load_signer(private_pem()),
        new_private_pem,
        lambda: verify_signature({"x": "A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg"}, b"", b""),
    ):
        with pytest.raises(ConfigurationError) as caught:
            use()
        assert "pip install '.[sign]' in the clone" in caught.value.remedy
    with pytest.raises(ConfigurationError, match=r"^signing\.key: needs the package cryptography"):
        load_signer(private_pem())
