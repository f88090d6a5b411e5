"""Which headers cross the gateway, each way. An allow-list out, a deny-list back."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

from vetted_mw.configuration import Auth

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vetted_mw.configuration import Upstream

__all__ = ["Headers", "first_values", "header_value", "outgoing_headers", "returning_headers"]

Headers = list[tuple[bytes, bytes]]

_FORWARDED = frozenset({b"accept", b"user-agent", b"x-request-id", b"idempotency-key"})
_FORWARDED_PREFIX = b"openai-"
_OUR_TYPE: Headers = [(b"content-type", b"application/json"), (b"accept-encoding", b"identity")]
# HTTP/1.1 has no form for other names and values: one of them would fail every attempt as if the upstreams had.
_NAME = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_NOT_RETURNED = _HOP_BY_HOP | {
    b"content-length",  # the body grows
    b"content-encoding",  # it was decoded
    b"digest",  # of a body that has our members now
    b"content-digest",
    b"repr-digest",
    b"content-md5",
    b"etag",
    b"location",
    b"x-should-retry",  # whether a retry helps is ours to say
    b"set-cookie",
    b"alt-svc",
    b"server",
    b"date",  # the server in front writes its own
}


def header_value(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """Return the first value of `name` (lower case), or None."""
    for key, value in headers:
        if key == name or key.lower() == name:
            return value
    return None


def first_values(headers: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return the first value of each header by its name in lower case: for whoever asks for more than two of them."""
    return {name if name.islower() else name.lower(): value for name, value in reversed(headers)}


def outgoing_headers(
    inbound: Iterable[tuple[bytes, bytes]],
    *,
    upstream: Upstream,
    forward: frozenset[bytes],
    trace: Iterable[tuple[bytes, bytes]] = (),
) -> Headers:
    """Build what the upstream sees: the allow-list, our own key, and never what the caller's client accepts encoded.

    Args:
        inbound: the caller's headers, names in lower case.
        upstream: whose key and `auth` apply.
        forward: lower-case names the operator lets pass beyond the built-in list.
        trace: trace context to inject.
    """
    headers = [
        (name, value.strip(b" \t"))
        for name, value in inbound
        if (name in _FORWARDED or name in forward or name.startswith(_FORWARDED_PREFIX))
        and _CONTROL.search(value) is None
        and (name in _FORWARDED or _NAME.fullmatch(name) is not None)
    ]
    headers += _OUR_TYPE
    headers += trace
    authorization = _authorization(inbound, upstream)
    if authorization is not None:
        headers.append((b"authorization", authorization))
    return headers


def _authorization(inbound: Iterable[tuple[bytes, bytes]], upstream: Upstream) -> bytes | None:
    if upstream.auth is Auth.PASSTHROUGH:
        value = header_value(inbound, b"authorization")
        return None if value is None or _CONTROL.search(value) is not None else value.strip(b" \t")
    if upstream.auth is Auth.REGION and upstream.api_key is not None:
        return b"Bearer " + upstream.api_key.reveal().encode("ascii")
    return None


def returning_headers(received: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Return the upstream's headers the caller may see; hop-by-hop, cookies and spoofed `x-vetted-*` stay behind."""
    kept: Headers = []
    connection: list[bytes] = []
    for name, value in received:
        returned = _returned_as(name)
        if returned is None:
            if name.lower() == b"connection":
                connection.append(value)
        elif _CONTROL.search(value) is None:  # a server would refuse to send it, and the answer with it
            kept.append((returned, value))
    if not connection:
        return kept
    named = {token.strip().lower() for value in connection for token in value.split(b",")}
    return [pair for pair in kept if pair[0] not in named]


@functools.lru_cache(maxsize=512)  # names of upstreams' headers, few; bounded, since an upstream may send any
def _returned_as(name: bytes) -> bytes | None:
    """Return the name in lower case, as the caller sees it; None where it must not."""
    lowered = name.lower()
    is_kept = lowered not in _NOT_RETURNED and not lowered.startswith(b"x-vetted-")
    return lowered if is_kept and _NAME.fullmatch(lowered) is not None else None
