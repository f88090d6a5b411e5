"""What binds a receipt to the delivered content and stores none of it: a digest that only the caller can open. Pure.

`digest = HMAC-SHA256(nonce, JCS(transcript))`. The nonce is the caller's alone, in `binding_nonce` beside the signed
receipt: nobody who only holds the ledger can try out short answers against it.
"""

from __future__ import annotations

import hmac
import os
from typing import TYPE_CHECKING, Any

from vetted_mw.chat.counts import is_count
from vetted_mw.chat.sse import AnswerStream
from vetted_mw.chat.transcript import Transcript, text_of
from vetted_mw.receipts.canonical import NotCanonicalError, canonical
from vetted_mw.receipts.jws import b64url

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["digest_of_stream", "new_nonce", "nonce_text", "opens", "transcript_of_answer"]

_NONCE_BYTES = 16
_MANY = 1_000_000
_SCHEME = "hmac-sha-256:"


def new_nonce() -> bytes:
    """Return 16 fresh random bytes: what an answer's digest is keyed with, for its caller alone."""
    return os.urandom(_NONCE_BYTES)


def nonce_text(nonce: bytes) -> str:
    """Write a nonce as `binding_nonce` has it: base64url without padding, 22 characters."""
    return b64url(nonce)


def opens(digest: str, nonce: bytes, transcript: Sequence[Mapping[str, Any]]) -> bool:
    """Whether `digest` is that of `transcript` under `nonce`: the receipt was issued for this very content.

    Args:
        digest: a receipt's `response_digest`.
        nonce: the bytes of its `binding_nonce`.
        transcript: as `transcript_of_answer` gives it.
    """
    if len(nonce) != _NONCE_BYTES:
        return False
    try:
        written = canonical(transcript)
    except NotCanonicalError:
        return False
    found = _SCHEME + hmac.new(nonce, written, "sha256").hexdigest()
    return hmac.compare_digest(found.encode(), digest.encode())


def transcript_of_answer(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the transcript of a whole answer as it was delivered, decoded from its JSON: one entry per choice.

    What has a type that no answer has there counts as absent, as it did when the digest was made.
    """
    entries = [_entry(choice, place) for place, choice in enumerate(_objects(answer.get("choices")))]
    return sorted(entries, key=lambda entry: int(entry["index"]))


def digest_of_stream(stream: bytes, nonce: bytes) -> str | None:
    """Return the digest of a whole stream as it was delivered; None where it has no choices or cannot be read.

    Args:
        stream: server-sent events, from the first byte on.
        nonce: the bytes of the receipt's `binding_nonce`.
    """
    transcript = Transcript(nonce)
    # Of so many choices none is the last: all counts in the order in which it came.
    reader = AnswerStream(choices=_MANY, include_usage=True, max_frame_bytes=len(stream) + 1, transcript=transcript)
    reader.feed(stream)
    return None if reader.broken else transcript.digest()


def _entry(choice: Mapping[str, Any], place: int) -> dict[str, Any]:
    index, reason, told = choice.get("index"), choice.get("finish_reason"), choice.get("message")
    message: Mapping[str, Any] = told if isinstance(told, dict) else {}
    functions = [call.get("function") for call in _objects(message.get("tool_calls"))]
    functions.append(message.get("function_call"))
    return {
        "content": text_of(message.get("content")),
        "finish_reason": reason if isinstance(reason, str) and reason else None,
        "index": index if is_count(index) else place,
        "tool_calls": [
            [_text(function.get("name")), _text(function.get("arguments"))]
            for function in functions
            if isinstance(function, dict)
        ],
    }


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _objects(value: object) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
