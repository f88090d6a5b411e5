"""Exchanges from a seeded generator: good answers cut anywhere, and answers with a byte or two of their framing changed."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from differential.exchange import Exchange, Script
from faults.playing import Ending
from vetted_mw.testing import chat_completion, chat_frames

if TYPE_CHECKING:
    from differential.exchange import Part

__all__ = ["CHANGED", "GOOD", "byte_by_byte", "cut_anywhere"]

_SEED = 20261122
_GOOD, _CHANGED = 400, 400
_STATUSES = (200, 200, 200, 201, 400, 404, 429, 500, 503)
_REASONS = (b"OK", b"", b"Too Many Requests", b"Non-Standard", b"\xc3\xbc")
_KEPT = b"connection: keep-alive"
_HEADERS = (
    b"content-type: application/json",
    b"Content-Type:text/event-stream; charset=utf-8",
    b"date: Sun, 22 Nov 2026 10:30:00 GMT",
    b"Server: uvicorn",
    b"x-request-id:  b6d1 ",
    b"Retry-After: 7",
    b"set-cookie: a=1",
    b"set-cookie: b=2",
    b"Vary: Accept, Accept-Encoding",
    b"x-empty:",
    b"keep-alive: timeout=5",
    _KEPT,
    b"strict-transport-security: max-age=1",
)
_CHANGES = (
    b"\r",
    b"\n",
    b"\0",
    b" ",
    b"\t",
    b":",
    b"0",
    b"7",
    b"f",
    b"-",
    b";",
    b"\xff",
    b"\x7f",
    b"\x01",
    b",",
    b"\r\n",
)


def cut_anywhere(wire: bytes, dice: random.Random, *, most: int = 12) -> list[Part]:
    """Cut bytes into pieces, at most so many, down to single bytes."""
    cuts = sorted(dice.sample(range(1, len(wire)), min(dice.randrange(most), len(wire) - 1)))
    return [wire[start:end] for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True)]


def byte_by_byte(wire: bytes, *, most: int = 250) -> list[Part]:
    """Cut the beginning of bytes into single ones."""
    return [*(bytes([byte]) for byte in wire[:most]), *([wire[most:]] if len(wire) > most else [])]


def _good(number: int) -> Exchange:
    dice = random.Random(f"{_SEED} good {number}")  # noqa: S311 (a seed, so that it is the same every time)
    head, body, ending = _answer(dice)
    return Exchange(name=f"good {number}", answer=Script(parts=cut_anywhere(head + body, dice), ending=ending))


def _changed(number: int) -> Exchange:
    """A good answer with changes in its head, or at the beginning of its body, where chunks have their sizes."""
    dice = random.Random(f"{_SEED} changed {number}")  # noqa: S311 (a seed, so that it is the same every time)
    head, body, ending = _answer(dice)
    wire, within = bytearray(head + body), len(head) + (8 if b"chunked" in head else 0)
    for _ in range(dice.choice((1, 1, 2))):
        at = dice.randrange(within)
        wire[at : at + dice.choice((0, 1))] = dice.choice((b"", *_CHANGES))
    line = bytes(wire).partition(b"\n")[0]
    wire[: len(line)] = line.replace(b"\0", b"\x01")  # one of the named differences, and it would come now and again
    parts = [*cut_anywhere(bytes(wire), dice, most=5)]
    # What waits for more than comes must come to an end, as it does where a server gives its client up.
    return Exchange(
        name=f"changed {number}", answer=Script(parts=parts, ending=Ending.CLOSE if ending is Ending.KEEP else ending)
    )


def _answer(dice: random.Random) -> tuple[bytes, bytes, Ending]:
    body = _body(dice)
    headers = dice.sample(_HEADERS, dice.randrange(6))
    ending = Ending.KEEP
    framing = dice.choice(("length", "chunks", "chunks", "close"))
    if framing == "length":
        headers.append(b"Content-Length: %d" % len(body))
    elif framing == "chunks":
        headers.append(dice.choice((b"transfer-encoding: chunked", b"Transfer-Encoding:  Chunked")))
        body = _chunked(body, dice)
    else:
        ending = Ending.CLOSE
    dice.shuffle(headers)
    may_be_old = framing != "chunks" and _KEPT not in headers
    version = dice.choice((b"1.1", b"1.1", b"1.0")) if may_be_old else b"1.1"
    status = b"HTTP/%b %d %b" % (version, dice.choice(_STATUSES), dice.choice(_REASONS))
    return b"\r\n".join([status, *headers, b"", b""]), body, ending


def _body(dice: random.Random) -> bytes:
    words = [dice.choice(("the", "wind", "ü", "and", "grid", "\\n")) + " " for _ in range(dice.randrange(30))]
    if dice.random() < 0.5:
        return b"".join(chat_frames(words=words))
    return chat_completion(text="".join(words) * dice.choice((1, 1, 20)))


def _chunked(body: bytes, dice: random.Random) -> bytes:
    parts = [bytes(part) for part in cut_anywhere(body, dice, most=8) if isinstance(part, bytes)]
    sizes = dice.choice((b"%x", b"%X", b"%04x"))
    extension = dice.choice((b"", b"", b"", b";a=b"))
    last = dice.choice((b"0\r\n\r\n", b"0\r\n\r\n", b"0\r\nx-trailer: 1\r\n\r\n", b"000\r\n\r\n"))
    return b"".join(sizes % len(part) + extension + b"\r\n" + part + b"\r\n" for part in parts) + last


GOOD = [_good(number) for number in range(_GOOD)]
CHANGED = [_changed(number) for number in range(_CHANGED)]
