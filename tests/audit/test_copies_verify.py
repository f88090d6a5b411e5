"""What a caller holds, verified: answers, saved streams, receipts by themselves."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from audit.auditing import KEYS, SIGNER, codes, findings_in, notes, payload_of, problems
from receipts.ledgers import made_receipt
from vetted_mw.audit.verify.findings import Code
from vetted_mw.chat.transcript import Transcript
from vetted_mw.receipts.binding import digest_of_stream, nonce_text
from vetted_mw.receipts.canonical import canonical
from vetted_mw.receipts.jws import detached
from vetted_mw.receipts.sealed import seal

if TYPE_CHECKING:
    from pathlib import Path

NONCE = bytes(range(16))
CHOICE = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Bonjour."}}


def copy_for(digest: str | None, **beside: Any) -> dict[str, Any]:
    """Return a signed receipt as a caller gets it."""
    sealed = seal(made_receipt(response_digest=digest), SIGNER)
    copy = payload_of(sealed.text) | {"signature": detached(sealed.text), "binding_nonce": nonce_text(NONCE)}
    return copy | beside


def answer(**beside: Any) -> dict[str, Any]:
    """Return an answer with its receipt, bound to its text."""
    import hmac

    transcript = [{"content": "Bonjour.", "finish_reason": "stop", "index": 0, "tool_calls": []}]
    digest = "hmac-sha-256:" + hmac.new(NONCE, canonical(transcript), "sha256").hexdigest()
    return {"id": "chatcmpl-1", "object": "chat.completion", "choices": [CHOICE], "receipt": copy_for(digest)} | beside


def written(path: Path, document: object, **layout: Any) -> Path:
    path.write_text(json.dumps(document, **layout))
    return path


def stream_of(*pieces: str, receipt: Any = None, end: str = "\n\n", comment: bool = False) -> bytes:
    """Return a stream whose finish chunk carries the receipt, or a comment after it."""
    chunks: list[dict[str, Any]] = [
        {"id": "chatcmpl-1", "choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]}
        for piece in pieces
    ]
    last: dict[str, Any] = {"id": "chatcmpl-1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    if receipt is not None and not comment:
        last |= {"receipt": receipt, "routing_trace": {}}
    frames = [f"data: {json.dumps(one)}{end}" for one in [*chunks, last]]
    if comment:
        frames.append(f': {{"receipt":{json.dumps(receipt)}}}{end}')
    return "".join([*frames, f"data: [DONE]{end}"]).encode()


def bound_stream(*pieces: str, **layout: Any) -> bytes:
    """Return a stream whose receipt is bound to its text."""
    digest = digest_of_stream(stream_of(*pieces), NONCE)
    assert digest is not None
    return stream_of(*pieces, receipt=copy_for(digest), **layout)


@pytest.mark.parametrize("layout", [{}, {"indent": 2}])
def test_an_answer_as_it_was_saved_passes(tmp_path: Path, layout: dict[str, Any]) -> None:
    """On one line or laid out over many, under any name: signature, figures and the binding to the text hold."""
    assert not findings_in(written(tmp_path / "answer", answer(), **layout))


def test_a_receipt_under_another_name_is_found(tmp_path: Path) -> None:
    """`receipt_key` renames the member on the wire; verify knows a receipt by what it holds."""
    document = answer()
    document["vetted"] = document.pop("receipt")
    assert not findings_in(written(tmp_path / "a.json", document))
    document["choices"][0] = CHOICE | {"finish_reason": "length"}
    assert codes(findings_in(written(tmp_path / "a.json", document))) == {Code.BINDING}


def test_an_editors_byte_order_mark_does_not_matter(tmp_path: Path) -> None:
    """Shells and editors put one before the JSON they save; the receipt behind it is the same."""
    path = tmp_path / "a.json"
    path.write_text(json.dumps(answer()), encoding="utf-8-sig")
    assert not findings_in(path)


@pytest.mark.parametrize("name", ["receipt", "vetted"])
def test_a_forged_receipt_is_not_covered_by_a_good_one_beside_it(name: str, tmp_path: Path) -> None:
    """Every receipt of an answer has to hold, in whichever order and under whichever name they stand."""
    document = answer()
    document["spare"] = document.pop("receipt")
    forged = document["spare"] | {"gco2e": 1e-9}
    assert Code.SIGNATURE in codes(findings_in(written(tmp_path / "a.json", document | {name: forged})))
    assert Code.SIGNATURE in codes(findings_in(written(tmp_path / "a.json", {name: forged} | document)))


def test_the_member_receipt_is_checked_whatever_it_lacks(tmp_path: Path) -> None:
    """A forgery cannot step out of the check by lacking what makes it a receipt; under another name it is told of."""
    document = answer()
    document["spare"] = document.pop("receipt")
    forged = {"query_id": document["spare"]["query_id"], "gco2e": 1e-9}
    assert Code.UNSIGNED in codes(findings_in(written(tmp_path / "a.json", document | {"receipt": forged})))
    found = findings_in(written(tmp_path / "a.json", document | {"vetted": forged}))
    assert not problems(found)
    assert notes(found) == [
        (
            Code.SKIPPED,
            "the member vetted looks like a receipt and is none of this software: it was not checked",
        )
    ]


@pytest.mark.parametrize("is_first", [True, False])
def test_every_receipt_of_a_stream_is_checked(is_first: bool, tmp_path: Path) -> None:
    """A frame with a forged receipt is told, before the good one and after it, and also where it can be read twice."""
    stream = bound_stream("Bon", "jour")
    forged = json.dumps(copy_for(None) | {"gco2e": 1e-9})
    for frame in (f'data: {{"receipt":{forged}}}\n\n', f'data: {{"receipt":{forged},"receipt":null}}\n\n'):
        path = tmp_path / "s"
        path.write_bytes(frame.encode() + stream if is_first else stream + frame.encode())
        assert codes(findings_in(path)) & {Code.SIGNATURE, Code.UNREADABLE}


@pytest.mark.parametrize(
    "choices",
    [
        [CHOICE | {"message": {"role": "assistant", "content": "Bonsoir."}}],
        [CHOICE | {"finish_reason": "length"}],
        [CHOICE, CHOICE | {"index": 1}],
        [CHOICE | {"message": {"content": "Bonjour.", "tool_calls": [{"function": {"name": "f", "arguments": ""}}]}}],
        [],
        None,
    ],
)
def test_another_text_under_the_same_receipt_is_told(tmp_path: Path, choices: Any) -> None:
    """The receipt was issued for the text it came with, for no other."""
    found = findings_in(written(tmp_path / "a.json", answer(choices=choices)))
    assert codes(found) == {Code.BINDING}


def test_another_nonce_breaks_the_binding_and_not_the_signature(tmp_path: Path) -> None:
    """The nonce is outside of what is signed."""
    document = answer()
    document["receipt"]["binding_nonce"] = nonce_text(bytes(16))
    assert codes(findings_in(written(tmp_path / "a.json", document))) == {Code.BINDING}


@pytest.mark.parametrize("nonce", [None, 5, "", "!!", "AAAA"])
def test_without_a_nonce_the_binding_cannot_be_seen(tmp_path: Path, nonce: Any) -> None:
    """It is a note: the receipt itself holds."""
    document = answer()
    document["receipt"]["binding_nonce"] = nonce
    found = findings_in(written(tmp_path / "a.json", document))
    assert not problems(found)
    assert [code for code, _ in notes(found)] == [Code.BINDING]


def test_a_receipt_that_is_bound_to_nothing_says_so(tmp_path: Path) -> None:
    """An answer whose text could not be digested has no digest."""
    document = answer(receipt=copy_for(None))
    found = findings_in(written(tmp_path / "a.json", document))
    assert notes(found) == [
        (Code.BINDING, "response_digest is null: nothing ties this receipt to the text it came with")
    ]


@pytest.mark.parametrize("layout", [{}, {"end": "\r\n\r\n"}, {"comment": True}])
def test_a_saved_stream_passes(tmp_path: Path, layout: dict[str, Any]) -> None:
    """The receipt is on the finish chunk, or in a comment, and is bound to what the deltas add up to."""
    path = tmp_path / "stream"
    path.write_bytes(bound_stream("Bon", "jour", ".", **layout))
    assert not findings_in(path)


def test_a_stream_with_another_text_is_told(tmp_path: Path) -> None:
    """Changing what was streamed breaks the binding."""
    path = tmp_path / "stream.txt"
    path.write_bytes(bound_stream("Bon", "jour").replace(b'"jour"', b'"soir"'))
    assert codes(findings_in(path)) == {Code.BINDING}


def test_a_stream_without_a_receipt_is_told(tmp_path: Path) -> None:
    """A stream that was cut before its finish chunk has none."""
    path = tmp_path / "stream.txt"
    path.write_bytes(bound_stream("Bon", "jour")[:200])
    assert codes(findings_in(path)) == {Code.NO_RECEIPT}
    path.write_bytes(b"data: {\n\ndata: [1]\n\n: {nothing\n\nevent: x\ndata: 5\n\n")
    assert codes(findings_in(path)) == {Code.NO_RECEIPT}


def test_a_stream_whose_receipt_has_no_signature_of_ours_is_told(tmp_path: Path) -> None:
    """Where the receipt cannot be taken for one, its binding is not looked at."""
    path = tmp_path / "stream.txt"
    path.write_bytes(stream_of("Bon", receipt=copy_for(None, signature="x")))
    assert codes(findings_in(path)) == {Code.SIGNATURE}


def test_a_receipt_by_itself_passes_and_a_changed_one_does_not(tmp_path: Path) -> None:
    """A client that only has the object re-writes it in canonical form: 58.0 and 58 are the same number."""
    copy = copy_for(None)
    copy["grid_intensity_gco2_per_kwh"] = 58.0
    assert not findings_in(written(tmp_path / "r.json", copy, indent=1))
    copy["gco2e"] = 0.004
    assert codes(findings_in(written(tmp_path / "r.json", copy))) == {Code.SIGNATURE, Code.FIGURE, Code.INVARIANT}


@pytest.mark.parametrize("signature", ["", "x", "a.b.c", 5, "a..b..c", "..", "e30..AAAA"])
def test_what_is_no_detached_signature_is_told(tmp_path: Path, signature: Any) -> None:
    """Garbage in the place of the signature is a finding."""
    found = findings_in(written(tmp_path / "r.json", copy_for(None, signature=signature)))
    assert Code.SIGNATURE in codes(found)


def test_an_unsigned_receipt_is_a_note_without_keys(tmp_path: Path) -> None:
    """It is evidence as good as the file it is in."""
    copy = copy_for(None)
    del copy["signature"]
    path = written(tmp_path / "r.json", copy)
    assert [code for code, _ in notes(findings_in(path, keys=None))] == [Code.UNSIGNED]
    assert codes(findings_in(path)) == {Code.UNSIGNED}


def test_what_the_endpoint_gives_passes(tmp_path: Path) -> None:
    """`GET /v1/vetted/receipts/{id}`: the receipt, and beside it the full signature of the same fields."""
    sealed = seal(made_receipt(), SIGNER)
    receipt = payload_of(sealed.text) | {"signature": detached(sealed.text)}
    document = {"object": "vetted.receipt", "receipt": receipt, "jws": sealed.text}
    assert not findings_in(written(tmp_path / "r.json", document))
    other = document | {"jws": seal(made_receipt(), SIGNER).text}
    ((code, text),) = problems(findings_in(written(tmp_path / "r.json", other)))
    assert code is Code.SIGNATURE
    assert "of other fields" in text


def test_an_answer_without_a_receipt_says_why(tmp_path: Path) -> None:
    """Where there was nothing to check that is a problem, and the trace may have the reason."""
    document = answer(receipt=None, routing_trace={"receipt_error": "usage_missing"})
    found = findings_in(written(tmp_path / "a.json", document))
    assert problems(found) == [(Code.NO_RECEIPT, "carries no receipt; the gateway says why: usage_missing")]
    found = findings_in(written(tmp_path / "a.json", answer(receipt=None)))
    assert problems(found) == [(Code.NO_RECEIPT, "carries no receipt: it was taken out, or never issued")]


@pytest.mark.parametrize(
    "data",
    [
        b'{"query_id":"a","receipt_version":"1","query_id":"b"}',
        b'{"query_id":"a","receipt_version":NaN}',
        b'{"query_id":"a",',
        b'{"query_id":"\xff"}',
        b'{"a":' * 50_000,
    ],
    ids=["a member twice", "NaN", "cut", "not UTF-8", "nested"],
)
def test_json_that_can_be_read_in_two_ways_is_not_read(tmp_path: Path, data: bytes) -> None:
    """What one reader takes otherwise than another is a finding."""
    path = tmp_path / "r.json"
    path.write_bytes(data)
    assert codes(findings_in(path)) == {Code.UNREADABLE}


def test_a_number_without_canonical_form_is_told(tmp_path: Path) -> None:
    """An integer beyond 2**53 has no form that all readers agree on."""
    found = findings_in(written(tmp_path / "r.json", copy_for(None, prompt_tokens=2**53 + 1)))
    assert codes(found) == {Code.CANONICAL}


def test_a_file_of_unheard_size_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers are read whole, so their size is bounded."""
    from vetted_mw.audit.verify import verifying

    monkeypatch.setattr(verifying, "_MOST_BYTES", 100)
    assert codes(findings_in(written(tmp_path / "a.json", answer()))) == {Code.TOO_LARGE}


def test_a_transcript_of_the_gateway_is_what_verify_opens(tmp_path: Path) -> None:
    """The digest is made by the gateway's own reader of streams, with tool calls in pieces."""
    calls = [
        {"index": 0, "id": "c", "function": {"name": "weather", "arguments": '{"ci'}},
        {"index": 0, "function": {"arguments": 'ty":"Paris"}'}},
    ]
    chunks = [{"choices": [{"index": 0, "delta": {"tool_calls": [one]}, "finish_reason": None}]} for one in calls]
    end: dict[str, Any] = {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}
    plain = b"".join(b"data: " + msgspec.json.encode(one) + b"\n\n" for one in [*chunks, end])
    end["receipt"] = copy_for(digest_of_stream(plain, NONCE))
    path = tmp_path / "s"
    path.write_bytes(b"".join(b"data: " + msgspec.json.encode(one) + b"\n\n" for one in [*chunks, end]))
    assert Transcript(NONCE).digest() != end["receipt"]["response_digest"]
    assert not findings_in(path, keys=KEYS)
