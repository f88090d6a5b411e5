"""Find one receipt in whatever holds it: a ledger, a pack, an answer, a saved stream, JSON Lines."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from vetted_mw.audit.pack import pack as packed
from vetted_mw.audit.pack.pack import Folder, Zip
from vetted_mw.audit.verify.copies import copy_text, receipts_in, receipts_in_stream
from vetted_mw.audit.verify.lines import lines_of
from vetted_mw.audit.verify.sources import BOM, Kind, kind_of
from vetted_mw.receipts.canonical import NotCanonicalError
from vetted_mw.receipts.exact_json import NotExactJsonError, read_json
from vetted_mw.receipts.jws import MalformedJwsError, read_jws
from vetted_mw.receipts.ledger.reading import LedgerReader, LedgerUnreadableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from typing import BinaryIO

__all__ = ["Held", "held_in"]

_MOST_BYTES = 134_217_728


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A receipt as something holds it.

    Attributes:
        text: the full JWS, or canonical JSON.
        caller: whose row it is; None where no ledger says.
    """

    text: str
    caller: str | None = None


class _Id(msgspec.Struct):
    query_id: str


def held_in(path: Path, query_id: str | None) -> Iterator[Held]:
    """Yield the receipts that a file holds, those with this id where one is named.

    Raises:
        LedgerUnreadableError: it is a ledger that cannot be read, or holds no receipt whatsoever.
        UnreadablePackError: it is a pack that cannot be read.
        OSError: it cannot be read.
    """
    if path.is_dir():
        yield from _in_pack(Folder(path), query_id)
        return
    kind = kind_of(path)
    if kind is Kind.LEDGER:
        with LedgerReader(path) as ledger:
            rows = ledger.rows() if query_id is None else iter(filter(None, [ledger.find(query_id)]))
            for row in rows:
                yield Held(text=row.text, caller=row.caller)
    elif kind is Kind.PACK:
        yield from _in_pack(Zip(path), query_id)
    elif kind is Kind.LINES:
        with path.open("rb") as stream:
            yield from _in_lines(stream, query_id)
    else:
        with path.open("rb") as stream:
            data = stream.read(_MOST_BYTES)
        receipts = receipts_in_stream(data) if kind is Kind.STREAM else _in_document(data)
        if not receipts:
            raise LedgerUnreadableError("not_a_ledger")
        yield from _copies(receipts, query_id)


def _in_pack(package: Folder | Zip, query_id: str | None) -> Iterator[Held]:
    try:
        for name in (packed.RECEIPTS, packed.EDGES):
            with package.open(name) as stream:
                yield from _in_lines(stream, query_id)
    finally:
        package.close()


def _in_lines(stream: BinaryIO, query_id: str | None) -> Iterator[Held]:
    for _number, line in lines_of(stream):
        text = (line or b"").decode("utf-8", "replace")
        if text.startswith("{"):
            yield from _copies(_in_document(text.encode()), query_id)
        elif query_id is None or _id_of(text) == query_id:
            yield Held(text=text)


def _in_document(data: bytes) -> list[Mapping[str, object]]:
    with suppress(NotExactJsonError):
        return receipts_in(read_json(data.removeprefix(BOM)))
    return []


def _copies(receipts: list[Mapping[str, object]], query_id: str | None) -> Iterator[Held]:
    for receipt in receipts:
        if query_id is None or receipt.get("query_id") == query_id:
            with suppress(NotCanonicalError, MalformedJwsError, RecursionError):  # verify says what is wrong with it
                yield Held(text=copy_text(receipt))


def _id_of(text: str) -> str | None:
    with suppress(MalformedJwsError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return msgspec.json.decode(read_jws(text).payload, type=_Id).query_id
    return None
