"""A signature counts or it does not: every way to make another one look like ours is refused, with its reason."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receipts.keys import jwks, signer
from vetted_mw.receipts.canonical import canonical
from vetted_mw.receipts.jwks import Jwks, parse_jwks, spki_pem
from vetted_mw.receipts.jws import (
    CHECKPOINT_TYPE,
    HEAD_TYPE,
    RECEIPT_TYPE,
    MalformedJwsError,
    b64url,
    compact,
    detached,
    from_b64url,
    read_jws,
    reattached,
)
from vetted_mw.receipts.signing import JwsRefusal, JwsRefusedError, verify_jws

PAYLOAD = canonical({"gco2e": 0.0047745, "query_id": "q1", "model": "mistral-medium-3"})
KEYS = parse_jwks(json.dumps(jwks(signer(), signer(1))).encode())
BASE64URL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def refusal(text: str, keys: Jwks = KEYS, *, typ: str = RECEIPT_TYPE) -> JwsRefusal:
    with pytest.raises(JwsRefusedError) as caught:
        verify_jws(text, keys, typ=typ)
    assert caught.value.reason == str(caught.value)
    return caught.value.reason


def forged(header: Any, *, payload: bytes = PAYLOAD, seed: int = 0) -> str:
    """Return a JWS with this header, under a sound signature of a known key."""
    written = header if isinstance(header, str) else json.dumps(header, separators=(",", ":"))
    signing_input = f"{b64url(written.encode())}.{b64url(payload)}"
    return f"{signing_input}.{b64url(signer(seed).sign(signing_input.encode()))}"


def head(**changes: Any) -> dict[str, Any]:
    return {"alg": "Ed25519", "kid": signer().kid, "typ": RECEIPT_TYPE} | changes


def test_a_sound_signature_gives_what_was_signed_and_by_whom() -> None:
    """The payload to the byte, and the key's own id; forged() of these tests signs soundly."""
    for seed in (0, 1):
        verified = verify_jws(compact(PAYLOAD, signer(seed)), KEYS)
        assert (verified.payload, verified.kid) == (PAYLOAD, signer(seed).kid)
    assert verify_jws(forged(head()), KEYS).payload == PAYLOAD
    assert verify_jws(forged({"typ": RECEIPT_TYPE, "kid": signer().kid, "alg": "EdDSA"}), KEYS).payload == PAYLOAD


def test_any_character_changed_anywhere_is_refused() -> None:
    """Header, payload, signature, and the dots between them: no position and no other letter passes."""
    text = compact(PAYLOAD, signer())
    for place, letter in enumerate(text):
        others = [BASE64URL[(BASE64URL.find(letter) + step) % 64] for step in (1, 2, 16, 33)]
        for other in (*others, ".", "=", "+", " ", "é", ""):
            if other != letter:
                refusal(text[:place] + other + text[place + 1 :])


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_bit_changed_in_what_was_signed_is_refused(data: st.DataObject) -> None:
    """Re-encoded soundly, so that only the signature can tell."""
    jws = read_jws(compact(PAYLOAD, signer()))
    part = data.draw(st.sampled_from(["payload", "signature"]))
    changed = bytearray(getattr(jws, part))
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    parts = {"payload": jws.payload, "signature": jws.signature} | {part: bytes(changed)}
    header = jws.signing_input.decode().split(".")[0]
    text = f"{header}.{b64url(parts['payload'])}.{b64url(parts['signature'])}"
    assert refusal(text) is JwsRefusal.SIGNATURE


def test_swapped_signatures_are_refused() -> None:
    """Two sound receipts of one key, or of two, each with the other's signature."""
    for other in (signer(), signer(1)):
        one, two = compact(PAYLOAD, signer()), compact(b'{"gco2e":0.004}', other)
        swapped = f"{one.rpartition('.')[0]}.{two.rpartition('.')[2]}"
        assert refusal(swapped) is JwsRefusal.SIGNATURE


def test_a_key_that_is_not_listed_is_no_key() -> None:
    """However sound its signature: who signed is not known."""
    assert refusal(compact(PAYLOAD, signer(2))) is JwsRefusal.UNKNOWN_KEY
    assert refusal(compact(PAYLOAD, signer()), parse_jwks(b'{"keys":[]}')) is JwsRefusal.UNKNOWN_KEY


def test_the_name_of_a_known_key_does_not_make_it_another() -> None:
    """A stranger's signature under our `kid` fails by the key that `kid` really names."""
    assert refusal(compact(PAYLOAD, replace(signer(2), kid=signer().kid))) is JwsRefusal.SIGNATURE
    assert refusal(forged(head(kid=signer(1).kid))) is JwsRefusal.SIGNATURE


@pytest.mark.parametrize("alg", ["none", "None", "HS256", "RS256", "ES256", "ed25519", "eddsa", "Ed448", "", "EdDSA "])
def test_any_other_algorithm_is_refused(alg: str) -> None:
    """Also under a signature that would be sound: the header never chooses."""
    assert refusal(forged(head(alg=alg))) is JwsRefusal.ALGORITHM
    unsigned = ".".join([*forged(head(alg=alg)).split(".")[:2], ""])
    assert refusal(unsigned) is JwsRefusal.ALGORITHM


def test_a_header_without_an_algorithm_is_refused() -> None:
    """Nothing is assumed in its place."""
    assert refusal(forged({"kid": signer().kid, "typ": RECEIPT_TYPE})) is JwsRefusal.ALGORITHM


@pytest.mark.parametrize("secret", ["raw", "base64url", "pem", "jwk"])
def test_hs256_with_the_public_key_as_its_secret_is_refused(secret: str) -> None:
    """The classic confusion: the public key, which everybody has, taken for a shared secret."""
    jwk = signer().jwk
    key: bytes = {
        "raw": from_b64url(jwk["x"]),
        "base64url": jwk["x"].encode(),
        "pem": spki_pem(jwk).encode(),
        "jwk": json.dumps(dict(jwk)).encode(),
    }[secret]
    for alg, reason in (("HS256", JwsRefusal.ALGORITHM), ("Ed25519", JwsRefusal.SIGNATURE)):
        signing_input = f"{b64url(json.dumps(head(alg=alg)).encode())}.{b64url(PAYLOAD)}"
        mac = hmac.new(key, signing_input.encode(), hashlib.sha256).digest()
        assert refusal(f"{signing_input}.{b64url(mac)}") is reason
        assert refusal(f"{signing_input}.{b64url(mac + mac)}") is reason


@pytest.mark.parametrize("typ", ["JWT", "vetted-receipt", "VETTED-RECEIPT+JWS", "", HEAD_TYPE, CHECKPOINT_TYPE])
def test_what_was_signed_as_something_else_is_no_receipt(typ: str) -> None:
    """A head or a checkpoint of the same key can never stand in for a receipt, nor the other way round."""
    assert refusal(forged(head(typ=typ))) is JwsRefusal.TYPE
    assert refusal(compact(PAYLOAD, signer()), typ=HEAD_TYPE) is JwsRefusal.TYPE
    assert verify_jws(compact(PAYLOAD, signer(), typ=HEAD_TYPE), KEYS, typ=HEAD_TYPE).payload == PAYLOAD


@pytest.mark.parametrize(
    "header",
    [
        head(crit=["exp"]),
        head(crit=[]),
        head(b64=False, crit=["b64"]),
        head(b64=True),
        head(jwk=dict(signer().jwk)),
        head(jku="https://keys.example/jwks.json"),
        head(x5c=["MII"]),
        head(cty="json"),
        head(kid=None),
        head(kid=1),
        head(alg=["Ed25519"]),
        {"alg": "Ed25519", "typ": RECEIPT_TYPE},
        {"alg": "Ed25519", "kid": signer().kid},
        [],
        "text",
        "{",
        '{"alg":"Ed25519"',
        '{"alg":"none","alg":"Ed25519","kid":"' + signer().kid + f'","typ":"{RECEIPT_TYPE}"}}',
        '{"alg":"Ed25519","kid":"x","kid":"' + signer().kid + f'","typ":"{RECEIPT_TYPE}"}}',
        '{"alg":"Ed25519","\\u0061lg":"Ed25519","kid":"' + signer().kid + f'","typ":"{RECEIPT_TYPE}"}}',
        '{"alg":"Ed25519","kid":"' + signer().kid + f'","typ":"{RECEIPT_TYPE}","n":NaN}}',
        "\ufeff" + json.dumps(head()),
        "[" * 100_000,
    ],
    ids=range(23),
)
def test_a_header_of_any_other_shape_is_refused(header: Any) -> None:
    """Exactly alg, kid and typ, each a text and each once; keys of its own and extensions above all are refused."""
    assert refusal(forged(header)) is JwsRefusal.MALFORMED


@pytest.mark.parametrize(
    "text",
    [
        *("", ".", "..", "...", "a.b", "a.b.c.d", "{}", "null"),
        compact(PAYLOAD, signer()) + ".",
        compact(PAYLOAD, signer()) + "=",
        compact(PAYLOAD, signer()) + "\n",
        " " + compact(PAYLOAD, signer()),
        compact(PAYLOAD, signer()).replace(".", "=.", 1),
        detached(compact(PAYLOAD, signer())) + ".",
    ],
)
def test_what_is_no_compact_jws_is_refused(text: str) -> None:
    """Padding, line ends, blanks, parts too many or too few."""
    assert refusal(text) is JwsRefusal.MALFORMED


def test_a_detached_signature_is_none_without_its_receipt() -> None:
    """An empty payload is something else than the one that was signed."""
    assert refusal(detached(compact(PAYLOAD, signer()))) is JwsRefusal.SIGNATURE


def test_only_one_way_to_write_a_signature_counts() -> None:
    """Bits that base64 leaves over, padding and the other alphabet would make a second text of the same signature."""
    text = compact(PAYLOAD, signer())
    before, last = text[:-1], text[-1]
    for step in range(1, 16):
        twin = BASE64URL[BASE64URL.index(last) ^ step]
        assert refusal(before + twin) is JwsRefusal.MALFORMED
    assert refusal(text + "==") is JwsRefusal.MALFORMED
    other = next(text for n in range(100) if "-" in (text := compact(b"%d" % n, signer())).rpartition(".")[2])
    front, _, signature = other.rpartition(".")
    assert refusal(f"{front}.{signature.replace('-', '+')}") is JwsRefusal.MALFORMED


def test_a_signature_has_no_twin_of_other_numbers() -> None:
    """RFC 8032, 8.4: adding the group's order to S would verify as well where a verifier does not look."""
    order = 2**252 + 27742317777372353535851937790883648493
    text = compact(PAYLOAD, signer())
    front, signature = text.rpartition(".")[0], read_jws(text).signature
    twin = (int.from_bytes(signature[32:], "little") + order).to_bytes(32, "little")
    assert refusal(f"{front}.{b64url(signature[:32] + twin)}") is JwsRefusal.SIGNATURE


@pytest.mark.parametrize("length", [0, 1, 32, 63, 65, 128])
def test_a_signature_of_another_length_is_refused(length: int) -> None:
    """64 bytes, no more and no less."""
    front = compact(PAYLOAD, signer()).rpartition(".")[0]
    assert refusal(f"{front}.{b64url(bytes(length))}") is JwsRefusal.SIGNATURE


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=80) | st.text(alphabet=BASE64URL + ".={}", max_size=80))
def test_no_text_does_anything_but_being_refused(text: str) -> None:
    """Whatever is handed in, the answer is a reason and never another exception."""
    refusal(text)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=100))
def test_base64url_reads_back_what_it_wrote_and_nothing_else(data: bytes) -> None:
    """One value, one text."""
    written = b64url(data)
    assert from_b64url(written) == data
    assert "=" not in written
    for other in (f"{written}=", f"{written}\n", f" {written}", written + "é"):
        with pytest.raises(MalformedJwsError):
            from_b64url(other)


@pytest.mark.parametrize("text", ["", "a.b.c", "a...b", "a..b.c", "a.b..c", "a..b..c"])
def test_what_is_no_detached_signature_takes_no_receipt(text: str) -> None:
    """Only header, nothing, signature."""
    with pytest.raises(MalformedJwsError):
        reattached(text, {"a": 1})


def test_a_detached_signature_is_the_full_one_without_its_payload() -> None:
    """What stands in the answer and what stands in the ledger are one signature."""
    full = compact(PAYLOAD, signer())
    assert detached(full) == ".".join([full.split(".")[0], "", full.split(".")[2]])
    assert reattached(detached(full), json.loads(PAYLOAD)) == full
