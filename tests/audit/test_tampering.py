"""Every field of a signed receipt, changed: by who has no key, and by who has it."""

from __future__ import annotations

import math
from typing import Any, Literal

import msgspec
import pytest

from audit.auditing import KEYS, LEDGER_ID, SIGNER, payload_of, signed
from receipts.keys import jwks, private_pem, signer
from receipts.ledgers import made_receipt
from receipts.making import maker, observed, reading
from vetted_mw.audit.verify.checker import Checker
from vetted_mw.audit.verify.findings import Code, Finding, Place
from vetted_mw.errors import ConfigurationError
from vetted_mw.receipts.canonical import canonical
from vetted_mw.receipts.engines import engine_named
from vetted_mw.receipts.jwks import Jwks, parse_jwks
from vetted_mw.receipts.jws import HEAD_TYPE, b64url
from vetted_mw.receipts.measured import MeasuredReading
from vetted_mw.receipts.receipt import Receipt, ReceiptWithheldError
from vetted_mw.receipts.sealed import seal
from vetted_mw.routing.options import Boundary
from vetted_mw.routing.regions import load_catalogue

PLACE = Place(file="receipt")


def whole_receipt(**changes: Any) -> Receipt:
    """Return a receipt in which every field has a value: an unknown size, a comparison, a ledger, a digest."""
    made = made_receipt(
        model="a-model-of-unknown-size",
        default_region=load_catalogue()["scaleway-par-2"],
        default_reading=reading(proxy_share=0.02),
        reading=reading(proxy_share=0.02),
        query_id="93ab9591-8d48-4a25-8bcd-e2da95265ff0",
        **changes,
    )
    return msgspec.structs.replace(
        made,
        request_id="7d4a1c52-2f0e-4c1b-9d0b-3c1f6a5f7e11",
        ledger_id=LEDGER_ID,
        seq=3,
        response_digest="hmac-sha-256:" + "a" * 64,
    )


TEXT = seal(whole_receipt(), SIGNER).text
MEMBERS = payload_of(TEXT)

UNCHECKABLE = {
    "calls",
    "default_region",
    "grid_factor_set",
    "grid_intensity_source",
    "grid_proxy_share",
    "grid_resolution_minutes",
    "grid_zone",
    "issuer",
    "ledger_id",
    "model",
    "query_id",
    "request_id",
    "response_digest",
    "route_taken",
    "seq",
    "software",
    "upstream_model",
    "upstream_response_id",
}
"""Fields whose value nothing else in the receipt contradicts: the signature alone holds them, and the ledger some."""


def found_in(text: str, keys: Jwks | None = KEYS) -> list[Finding]:
    found: list[Finding] = []
    checker = Checker(keys=keys, tell=found.append)
    checker.check_text(text, PLACE)
    return found + checker.unknown()


def changed(value: Any) -> Any:
    """Return another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return float(f"{value * 1.01:.6g}")
    return value[:-1] + ("0" if value[-1] != "0" else "1")


def test_every_field_has_a_value_here() -> None:
    """What follows changes each field there is, and starts from a receipt in which nothing is found."""
    assert MEMBERS.keys() == set(Receipt.__struct_fields__)
    assert not [name for name, value in MEMBERS.items() if value is None]
    assert not found_in(TEXT)


@pytest.mark.parametrize("name", sorted(MEMBERS))
def test_one_byte_of_any_field_breaks_the_signature(name: str) -> None:
    """Whoever changes a field without the key is found by the signature, even where the value is as good as before."""
    header, _, signature = TEXT.split(".")
    payload = bytearray(canonical(MEMBERS))
    start = payload.index(f'"{name}":'.encode()) + len(name) + 3
    place = start + (payload[start : start + 1] == b'"')
    payload[place] = ord("2") if payload[place] != ord("2") else ord("3")
    found = found_in(f"{header}.{b64url(bytes(payload))}.{signature}")
    assert Code.SIGNATURE in {one.code for one in found}


@pytest.mark.parametrize("name", sorted(MEMBERS.keys() - UNCHECKABLE))
def test_a_field_that_enters_a_figure_is_found_though_signed_anew(name: str) -> None:
    """Whoever has the key cannot change a figure, or what one is made from, without contradicting the rest."""
    found = found_in(signed(MEMBERS | {name: changed(MEMBERS[name])}))
    assert {one.code for one in found} & {Code.FIGURE, Code.INVARIANT, Code.DIGEST, Code.FIELDS}
    assert not {one.code for one in found} & {Code.SIGNATURE, Code.CANONICAL}


@pytest.mark.parametrize("name", sorted(UNCHECKABLE))
def test_what_nothing_contradicts_is_not_found_when_signed_anew(name: str) -> None:
    """It is said which fields the signature alone holds: the list is complete."""
    assert not found_in(signed(MEMBERS | {name: changed(MEMBERS[name])}))


@pytest.mark.parametrize("name", sorted(MEMBERS))
def test_a_field_taken_out_or_of_another_type_is_found(name: str) -> None:
    """A receipt without a field, or with a list in its place, is told as such and nothing fails."""
    rest = {one: value for one, value in MEMBERS.items() if one != name}
    optional = {"default_region", "request_id", "response_digest", "ledger_id", "seq"} | {
        one for one in MEMBERS if one.startswith("default_region")
    }
    if name not in optional:
        assert {one.code for one in found_in(signed(rest))} == {Code.FIELDS}
    assert {one.code for one in found_in(signed(MEMBERS | {name: []}))} == {Code.FIELDS}


def test_an_unknown_field_is_found() -> None:
    """Nothing can be slipped in beside what a receipt has."""
    assert [(one.code, one.text) for one in found_in(signed(MEMBERS | {"note": "x"}))] == [
        (Code.FIELDS, "the field note is in no receipt")
    ]


def test_signatures_swapped_between_receipts_are_found() -> None:
    """A true signature of another receipt is a false one here."""
    other = seal(made_receipt(), SIGNER).text
    header, payload, _ = TEXT.split(".")
    found = found_in(f"{header}.{payload}.{other.split('.')[2]}")
    assert [one.code for one in found] == [Code.SIGNATURE]


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none", "kid": SIGNER.kid, "typ": "vetted-receipt+jws"},
        {"alg": "HS256", "kid": SIGNER.kid, "typ": "vetted-receipt+jws"},
        {"alg": "RS256", "kid": SIGNER.kid, "typ": "vetted-receipt+jws"},
        {"kid": SIGNER.kid, "typ": "vetted-receipt+jws"},
        {"alg": "Ed25519", "typ": "vetted-receipt+jws"},
        {"alg": "Ed25519", "kid": SIGNER.kid, "typ": "vetted-receipt+jws", "jwk": {}},
    ],
)
def test_another_header_is_no_signature(header: dict[str, Any]) -> None:
    """`none`, an HMAC keyed with the public key, and headers with more or less than ours do not count."""
    import hmac

    signing_input = f"{b64url(canonical(header))}.{b64url(canonical(MEMBERS))}"
    mac = hmac.new(SIGNER.jwk["x"].encode(), signing_input.encode(), "sha256").digest()
    for signature in ("", b64url(mac), TEXT.split(".")[2]):
        assert Code.SIGNATURE in {one.code for one in found_in(f"{signing_input}.{signature}")}


def test_a_head_is_no_receipt_and_a_foreign_key_is_none() -> None:
    """What was signed as something else, or by somebody else, is told for that."""
    as_head = found_in(signed(MEMBERS, typ=HEAD_TYPE))
    assert [one.code for one in as_head] == [Code.SIGNATURE]
    assert "something else" in as_head[0].text
    by_other = found_in(signed(MEMBERS, by=signer(7)))
    assert [one.code for one in by_other] == [Code.UNKNOWN_KEY]


@pytest.mark.parametrize(
    ("bounds", "codes"),
    [
        ({"not_after": "2026-11-22T10:00:00Z"}, [Code.KEY_PERIOD]),
        ({"not_before": "2026-12-01T00:00:00Z"}, [Code.KEY_PERIOD]),
        ({"not_before": "2026-01-01T00:00:00Z", "not_after": "2026-12-01T00:00:00Z"}, []),
    ],
)
def test_a_retired_key_counts_in_its_time_alone(bounds: dict[str, str], codes: list[Code]) -> None:
    """A receipt issued after its key was retired, or before it was used, is a problem: a stolen key back-dates."""
    document = jwks(SIGNER)
    document["keys"][0] |= bounds
    found = found_in(TEXT, parse_jwks(msgspec.json.encode(document)))
    assert [one.code for one in found] == codes


@pytest.mark.parametrize(
    "payload",
    [
        b'{"seq":3,' + canonical(MEMBERS)[1:],
        canonical(MEMBERS).replace(b'"calls":1', b'"calls": 1'),
        canonical(MEMBERS).replace(b'"grid_intensity_gco2_per_kwh":58', b'"grid_intensity_gco2_per_kwh":58.0'),
    ],
    ids=["a member twice", "a blank", "a number written otherwise"],
)
def test_what_is_not_canonical_is_found_though_signed(payload: bytes) -> None:
    """A text that another reader could take otherwise is told, whoever signed it."""
    header = TEXT.split(".")[0]
    signing_input = f"{header}.{b64url(payload)}"
    text = f"{signing_input}.{b64url(SIGNER.sign(signing_input.encode()))}"
    assert [one.code for one in found_in(text)] == [Code.CANONICAL]


@pytest.mark.parametrize("payload", [b"", b"[]", b"{", b"\xff", b'{"a":NaN}', b"[" * 100_000, b'{"a":"\\ud800"}'])
def test_a_payload_that_is_no_object_is_found(payload: bytes) -> None:
    """Garbage that was signed is told, and nothing fails."""
    header = TEXT.split(".")[0]
    signing_input = f"{header}.{b64url(payload)}"
    text = f"{signing_input}.{b64url(SIGNER.sign(signing_input.encode()))}"
    assert {one.code for one in found_in(text)} & {Code.CANONICAL, Code.FIELDS}


def test_a_number_that_breaks_the_formulas_is_found() -> None:
    """Fields of the right type from which nothing can be computed are told, and nothing fails."""
    for name, value in (("batch_size", 0.0), ("params_active_b", 1e308), ("pue", 0.0), ("params_range_lo_b", 0.0)):
        found = found_in(signed(MEMBERS | {name: value}))
        assert {Code.FIGURE, Code.INVARIANT} & {one.code for one in found}


def test_a_text_of_unheard_length_is_not_read() -> None:
    """A row of megabytes is told, not parsed."""
    assert [one.code for one in found_in("{" + " " * 2_000_000)] == [Code.TOO_LARGE]


def test_an_unsigned_receipt_is_a_problem_where_there_are_keys_alone() -> None:
    """Without keys it is a note, once for a file; with keys a problem for each."""
    text = canonical(MEMBERS).decode()
    assert [one.code for one in found_in(text)] == [Code.UNSIGNED]
    found: list[Finding] = []
    checker = Checker(keys=None, tell=found.append)
    for _ in range(3):
        checker.check_text(text, PLACE)
    assert not found
    checker.conclude(PLACE)
    assert [(one.severity, one.code) for one in found] == [("note", Code.UNSIGNED)]


@pytest.mark.parametrize("boundary", list(Boundary))
def test_receipts_as_they_are_made_pass(boundary: Boundary) -> None:
    """Whatever the maker makes holds: narrow and comprehensive, estimated, cached, annual, without any token."""
    for changes in (
        {},
        {"prompt_tokens": None},
        {"prompt_tokens": 100, "cached_tokens": 100},
        {"reading": None},
        {"prompt_tokens": 0, "completion_tokens": 0},
        {"completion_status": "abandoned"},
        {"region": "hetzner-hel-1", "reading": None},
        {"reading": reading(age_minutes=100.0)},
        {"reading": reading(age_minutes=-3.0)},
    ):
        receipt = made_receipt(boundary=boundary, **changes)
        assert not found_in(seal(receipt, SIGNER).text), changes


@pytest.mark.parametrize("boundary", list(Boundary))
@pytest.mark.parametrize("tokens", [24, None])
@pytest.mark.parametrize(("value", "scope"), [(0.05, "gpu"), (0.05, "node"), (5e4, "gpu"), (math.nan, "node")])
def test_receipts_of_measured_energy_pass(
    boundary: Boundary, tokens: int | None, value: float, scope: Literal["gpu", "node"]
) -> None:
    """What was measured is taken as told, what was rejected is as if nobody had measured; the rest follows."""
    measured = MeasuredReading(value_wh=value, scope=scope)
    try:
        receipt = made_receipt(measured=measured, boundary=boundary, prompt_tokens=tokens)
    except ReceiptWithheldError:
        assert (boundary, scope) == (Boundary.NARROW, "node")
        return
    assert not found_in(seal(receipt, SIGNER).text)
    members = payload_of(seal(receipt, SIGNER).text)
    for name in ("gco2e", "ml_water", "gco2e_embodied", "sigma_gco2e"):
        if members[name]:
            assert found_in(signed(members | {name: changed(members[name])}))


def test_an_interval_around_a_measured_figure_is_told() -> None:
    """Energy measured at the boundary itself has no spread: an interval there contradicts its sigma."""
    measured = MeasuredReading(value_wh=0.05, scope="gpu")
    members = payload_of(seal(made_receipt(measured=measured, boundary=Boundary.NARROW), SIGNER).text)
    assert members["sigma_energy"] == 0
    found = found_in(signed(members | {"energy_wh_ci90_hi": 0.06}))
    assert "energy_wh has an interval, and sigma_energy is 0" in [one.text for one in found]


@pytest.mark.parametrize("changes", [{}, {"prompt_tokens": None}, {"boundary": Boundary.NARROW}, {"reading": None}])
def test_receipts_of_another_engine_pass(changes: dict[str, Any]) -> None:
    """EcoLogits' figures are recomputed where it is installed; where it is not, all that follows from its energy."""
    pytest.importorskip("ecologits")
    receipt = maker(engine=engine_named("ecologits")).make(observed(**changes))
    text = seal(receipt, SIGNER).text
    assert not found_in(text)
    assert found_in(signed(payload_of(text) | {"gco2e_ci90_hi": 1.0}))


def test_energy_of_an_engine_that_is_not_here_is_taken_as_told_and_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows from that energy is recomputed; that it was not itself is a note."""
    from vetted_mw.audit.verify import methods
    from vetted_mw.receipts import recomputed

    pytest.importorskip("ecologits")
    text = seal(maker(engine=engine_named("ecologits")).make(observed()), SIGNER).text

    monkeypatch.setattr(recomputed, "_installed", lambda _name: None)
    monkeypatch.setattr(methods, "_is_installed", lambda _name: False)
    found: list[Finding] = []
    checker = Checker(keys=KEYS, tell=found.append)
    checker.check_text(text, PLACE)
    checker.conclude(PLACE)
    assert [(one.severity, one.code) for one in found] == [("note", Code.FIGURE)]
    assert "the energy of 1 receipt is" in found[0].text
    assert Code.FIGURE in {one.code for one in found_in(signed(payload_of(text) | {"gco2e_ci90_hi": 1.0}))}


def test_whether_an_engine_is_installed_is_asked_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine whose package is missing refuses to load, and counts as not here."""
    from vetted_mw.audit.verify import methods

    def refuse(name: str) -> None:
        raise ConfigurationError(f"{name} is not installed")

    monkeypatch.setattr(methods, "engine_named", refuse)
    assert not methods._is_installed.__wrapped__("ecologits")
    monkeypatch.setattr(methods, "engine_named", lambda _name: None)
    assert methods._is_installed.__wrapped__("ecologits")


def test_an_engine_that_the_digest_does_not_name_is_told() -> None:
    """Saying another engine made the energy does not keep it from being recomputed: the digest names the engine."""
    found = found_in(signed(MEMBERS | {"energy_source": "ecologits"}))
    assert "coefficients_digest is not that of receipts whose energy_source is ecologits" in [one.text for one in found]


@pytest.mark.parametrize(("name", "value"), [("methodology_version", "1.0.0"), ("water_basis", "runoff")])
def test_words_of_another_version_are_told(name: str, value: str) -> None:
    """Version and basis are those of the digest."""
    ((code, text),) = [(one.code, one.text) for one in found_in(signed(MEMBERS | {name: value}))]
    assert code is Code.DIGEST
    assert text.startswith(f"{name} is {value}, and the version its coefficients are of says")


def test_the_key_of_the_tests_is_the_documented_one() -> None:
    """What signs here is the key of the documented vector, bytes 0 to 31."""
    assert "PRIVATE KEY" in private_pem()
    assert SIGNER.jwk["x"] == "A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg"
