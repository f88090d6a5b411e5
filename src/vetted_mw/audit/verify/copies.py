"""The copy that a caller holds: a receipt in an answer, a saved stream or by itself, and what ties it to the text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vetted_mw.audit.verify.beside import answer_faults, stream_faults, trace_faults
from vetted_mw.audit.verify.checker import identity
from vetted_mw.audit.verify.findings import Code, note, problem, shown
from vetted_mw.chat.frames import FrameSplitter, event_and_data
from vetted_mw.receipts.binding import digest_of_stream, opens, transcript_of_answer
from vetted_mw.receipts.canonical import NotCanonicalError, canonical
from vetted_mw.receipts.exact_json import NotExactJsonError, read_json
from vetted_mw.receipts.jws import MalformedJwsError, from_b64url, reattached

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vetted_mw.audit.verify.beside import Fault
    from vetted_mw.audit.verify.checker import Checker
    from vetted_mw.audit.verify.findings import Place

__all__ = [
    "check_copy",
    "check_document",
    "check_stream",
    "copy_text",
    "holds_receipt",
    "receipts_in",
    "receipts_in_stream",
]

_BESIDE = ("signature", "binding_nonce")
_LOOKS = ("gco2e", "query_id", "receipt_version")
"""Any of these makes a reader take an object for a receipt."""
_WORDS = (b'"receipt"', b'"query_id"')
_NONCE_BYTES = 16


def holds_receipt(document: object) -> bool:
    """Whether a JSON value is a receipt by its members."""
    return isinstance(document, Mapping) and "query_id" in document and "receipt_version" in document


def check_document(document: Mapping[str, Any], checker: Checker, place: Place) -> None:
    """Check an answer, what `/v1/vetted/receipts/{id}` gives, or a receipt by itself; whatever it says twice, twice."""
    found = receipts_in(document)
    for receipt in found:
        _check_one(receipt, document, checker, place)
    if not found:
        _tell_absent(document, checker, place)
    _tell_alike(document, found, checker, place)


def _check_one(receipt: Mapping[str, Any], document: Mapping[str, Any], checker: Checker, place: Place) -> None:
    payload = check_copy(receipt, checker, place)
    if payload is None:
        return
    if "choices" in document:
        _check_binding(receipt, checker, place, document=document)
        _tell_faults(answer_faults(document, receipt), receipt, checker, place)
    _tell_faults(trace_faults(document.get("routing_trace"), receipt), receipt, checker, place)
    if isinstance(document.get("jws"), str) and document["jws"] != payload:
        what = "the full signature (jws) is of other fields than the receipt beside it"
        checker.tell(problem(Code.SIGNATURE, place, what))


def check_stream(stream: bytes, checker: Checker, place: Place) -> None:
    """Check a saved stream: the receipt on its finish chunk, and the text before it."""
    is_there = False
    splitter = FrameSplitter(max_frame_bytes=len(stream) + 1)
    for frame in [*splitter.feed(stream), splitter.finish()]:
        document = _document_of(frame)
        if document is None and any(word in frame for word in _WORDS):
            what = "a frame with a receipt is no JSON that can be read in one way only: it was not checked"
            checker.tell(problem(Code.UNREADABLE, place, what))
        found = receipts_in(document)
        for receipt in found:
            is_there = True
            if check_copy(receipt, checker, place) is not None:
                _check_binding(receipt, checker, place, stream=stream)
                _tell_faults(stream_faults(stream, receipt), receipt, checker, place)
                _tell_faults(trace_faults(_trace_of(document), receipt), receipt, checker, place)
        _tell_alike(document, found, checker, place)
    if not is_there:
        checker.tell(
            problem(Code.NO_RECEIPT, place, "the stream carries no receipt: it was cut before its end, or edited")
        )


def check_copy(receipt: Mapping[str, Any], checker: Checker, place: Place) -> str | None:
    """Check a receipt with its detached signature; return its text as a ledger would hold it, None if it has none."""
    payload = _payload(receipt)
    where = place.of(**identity(payload))
    try:
        text = copy_text(receipt)
    except (NotCanonicalError, RecursionError):
        checker.tell(problem(Code.CANONICAL, where, "holds what has no canonical form: a number beyond 2**53, say"))
        return None
    except MalformedJwsError:
        checker.tell(problem(Code.SIGNATURE, where, "signature is no detached JWS (header..signature)"))
        return None
    checker.check_text(text, where)
    checker.met(text, payload, where)
    return text


def copy_text(receipt: Mapping[str, Any]) -> str:
    """Return a caller's copy as a ledger would hold it.

    Raises:
        NotCanonicalError: it has no canonical form.
        RecursionError: it is nested without end.
        MalformedJwsError: its signature is no detached JWS.
    """
    payload, signature = _payload(receipt), receipt.get("signature")
    return canonical(payload).decode() if signature is None else reattached(str(signature), payload)


def receipts_in_stream(stream: bytes) -> list[Mapping[str, Any]]:
    """Return the receipts in a saved stream."""
    splitter = FrameSplitter(max_frame_bytes=len(stream) + 1)
    frames = [*splitter.feed(stream), splitter.finish()]
    return [receipt for frame in frames for receipt in receipts_in(_document_of(frame))]


def _payload(receipt: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in receipt.items() if name not in _BESIDE}


def _check_binding(
    receipt: Mapping[str, Any],
    checker: Checker,
    place: Place,
    *,
    document: Mapping[str, Any] | None = None,
    stream: bytes = b"",
) -> None:
    """Open `response_digest` with `binding_nonce` against the content that was delivered."""
    where, digest, told = place.of(**identity(receipt)), receipt.get("response_digest"), receipt.get("binding_nonce")
    if not isinstance(digest, str):
        checker.seen.content = "not bound (response_digest is null)"
        checker.tell(
            note(Code.BINDING, where, "response_digest is null: nothing ties this receipt to the text it came with")
        )
        return
    nonce = _nonce(told)
    if nonce is None:
        checker.seen.content = "cannot be checked (no nonce)"
        what = (
            "binding_nonce is missing or no nonce: whether this is the text the receipt was issued for cannot be seen"
        )
        checker.tell(note(Code.BINDING, where, what))
        return
    if document is None:
        is_of_this = digest_of_stream(stream, nonce) == digest
    else:
        is_of_this = opens(digest, nonce, transcript_of_answer(document))
    checker.seen.content = "matches the digest" if is_of_this else "DOES NOT match the digest"
    if not is_of_this:
        what = "response_digest does not open: the text, the tool calls or the nonce are not those of the receipt"
        checker.tell(problem(Code.BINDING, where, what))


def receipts_in(document: object) -> list[Mapping[str, Any]]:
    """Return the receipts in a document, whatever `receipt_key` of the settings calls them.

    One that does not hold is no reason to take another for it: all are checked, and `receipt` whatever it holds.
    """
    if not isinstance(document, Mapping):
        return []
    if holds_receipt(document):
        return [document]
    return [
        member
        for name, member in document.items()
        if holds_receipt(member) or (name == "receipt" and isinstance(member, Mapping))
    ]


def _tell_alike(document: object, found: list[Mapping[str, Any]], checker: Checker, place: Place) -> None:
    """Tell what a reader could take for the receipt and was not checked as one: another service's, or a forgery."""
    if not isinstance(document, Mapping) or any(one is document for one in found):
        return
    for name, member in document.items():
        if isinstance(member, Mapping) and member not in found and any(one in member for one in _LOOKS):
            what = f"the member {shown(name)} looks like a receipt and is none of this software: it was not checked"
            checker.tell(note(Code.SKIPPED, place, what))


def _document_of(frame: bytes) -> object:
    """Return the JSON of a frame's data, or of a comment that carries members; None when it holds neither."""
    _event, data = event_and_data(frame)
    if data is None and frame.lstrip(b"\r\n").startswith(b": {"):
        data = frame.strip()[2:]
    try:
        return None if data is None else read_json(data)
    except NotExactJsonError:
        return None


def _tell_absent(document: Mapping[str, Any], checker: Checker, place: Place) -> None:
    trace = document.get("routing_trace")
    reason = trace.get("receipt_error") if isinstance(trace, Mapping) else None
    why = f"; the gateway says why: {shown(reason)}" if isinstance(reason, str) else ""
    checker.tell(problem(Code.NO_RECEIPT, place, f"carries no receipt{why or ': it was taken out, or never issued'}"))


def _tell_faults(faults: Iterator[Fault], receipt: Mapping[str, Any], checker: Checker, place: Place) -> None:
    for fault in faults:
        told = problem if fault.is_sure else note
        checker.tell(told(Code.CONTRADICTION, place.of(**identity(receipt)), fault.text))


def _trace_of(document: object) -> object:
    return document.get("routing_trace") if isinstance(document, Mapping) else None


def _nonce(told: object) -> bytes | None:
    try:
        nonce = from_b64url(told) if isinstance(told, str) else b""
    except MalformedJwsError:
        return None
    return nonce if len(nonce) == _NONCE_BYTES else None
