"""Which headers cross the gateway, each way. An allow-list out, a deny-list back."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from vetted_mw.configuration import Auth

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vetted_mw.configuration import Upstream

__all__ = ["Headers", "header_value", "outgoing_headers", "returning_headers"]

Headers = list[tuple[bytes, bytes]]

_FORWARDED = frozenset({b"accept", b"user-agent", b"x-request-id", b"idempotency-key"})
_FORWARDED_PREFIX = b"openai-"
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
    return next((value for key, value in headers if key.lower() == name), None)


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
        if _may_leave(name, forward) and _is_sendable(name, value)
    ]
    headers += [(b"content-type", b"application/json"), (b"accept-encoding", b"identity"), *trace]
    authorization = _authorization(inbound, upstream)
    if authorization is not None:
        headers.append((b"authorization", authorization))
    return headers


def _may_leave(name: bytes, forward: frozenset[bytes]) -> bool:
    return name in _FORWARDED or name in forward or name.startswith(_FORWARDED_PREFIX)


def _is_sendable(name: bytes, value: bytes) -> bool:
    """Whether HTTP/1.1 has a form for it: one that has none would fail every attempt as if the upstreams had."""
    return _NAME.fullmatch(name) is not None and _CONTROL.search(value) is None


def _authorization(inbound: Iterable[tuple[bytes, bytes]], upstream: Upstream) -> bytes | None:
    if upstream.auth is Auth.PASSTHROUGH:
        value = header_value(inbound, b"authorization")
        return value.strip(b" \t") if value is not None and _is_sendable(b"authorization", value) else None
    if upstream.auth is Auth.REGION and upstream.api_key is not None:
        return b"Bearer " + upstream.api_key.reveal().encode("ascii")
    return None


def returning_headers(received: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Return the upstream's headers the caller may see; hop-by-hop, cookies and spoofed `x-vetted-*` stay behind."""
    lowered = [(name.lower(), value) for name, value in received]
    named = {token.strip().lower() for name, value in lowered if name == b"connection" for token in value.split(b",")}
    return [
        (name, value)
        for name, value in lowered
        if name not in _NOT_RETURNED
        and name not in named
        and not name.startswith(b"x-vetted-")
        and _is_sendable(name, value)  # a server would refuse to send it, and the answer with it
    ]
