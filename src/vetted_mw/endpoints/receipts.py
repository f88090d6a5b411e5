"""Receipts as the ledger keeps them, and the keys that show whose they are."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

import msgspec

from vetted_mw.chat.members import joined
from vetted_mw.endpoints.endpoint import Content
from vetted_mw.errors import LedgerRefusedError, NotFoundError
from vetted_mw.receipts.jwks import jwks
from vetted_mw.receipts.jws import MalformedJwsError, detached, read_jws
from vetted_mw.receipts.sealed import LedgerUnavailableError

if TYPE_CHECKING:
    from starlette.types import Scope

    from vetted_mw.asgi.intake import Inflow
    from vetted_mw.endpoints.endpoint import Asked
    from vetted_mw.gateway import Gateway
    from vetted_mw.receipts.sealed import ReceiptSink, StoredReceipt

__all__ = ["published_keys", "receipt"]

_LOG = logging.getLogger("vetted_mw")

_QUERY_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_KEY_HEADERS = [(b"content-type", b"application/jwk-set+json"), (b"cache-control", b"public, max-age=300")]
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])


async def receipt(asked: Asked) -> dict[str, object]:
    """Tell a receipt by its id: to the caller it belongs to, and to an admin.

    Raises:
        NotFoundError: there is none, or it is somebody else's, which is not told apart.
        LedgerRefusedError: the ledger cannot be read.
    """
    if asked.core.ledger is None:
        raise NotFoundError("This gateway keeps no receipts: its operator has set no ledger.path.")
    query_id = asked.scope["path_params"]["query_id"]
    stored = await _found(asked.core.ledger, query_id) if _QUERY_ID.fullmatch(query_id) else None
    if stored is None or not (asked.caller.admin or stored.caller == asked.caller.name):
        raise NotFoundError("No such receipt among yours. Ask by the query_id of a receipt, as you were given it.")
    return {"object": "vetted.receipt", **_told(stored)}


async def published_keys(gateway: Gateway, _scope: Scope, _inflow: Inflow) -> Content:
    """Publish the public keys of receipts, retired ones too, for anyone: a signature that few can check is none."""
    core = await gateway.core()
    return Content(jwks(core.signer, core.configuration.signing.retired), headers=_KEY_HEADERS)


async def _found(ledger: ReceiptSink, query_id: str) -> StoredReceipt | None:
    try:
        return await ledger.find(query_id)
    except LedgerUnavailableError as error:
        raise _unreadable(error.reason) from None


def _told(stored: StoredReceipt) -> dict[str, object]:
    """Return the receipt as an answer carries it, byte for byte what was signed, and the JWS where there is one."""
    try:
        if stored.text.startswith("{"):
            payload, signature, jws = stored.text.encode(), None, None
        else:
            payload, signature, jws = read_jws(stored.text).payload, detached(stored.text), stored.text
        members = [(name, bytes(value)) for name, value in _MEMBERS.decode(payload).items()]
    except (MalformedJwsError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _unreadable("corrupt") from None
    if signature is not None:
        members.append(("signature", msgspec.json.encode(signature)))
    return {"receipt": msgspec.Raw(joined(members)), "jws": jws}


def _unreadable(reason: str) -> LedgerRefusedError:
    _LOG.warning("a receipt could not be read from the ledger", extra={"reason": reason})
    return LedgerRefusedError(
        "The gateway cannot read its receipts now. Try again later; its operator finds why in its log."
    )
