"""Which headers cross the gateway, each way. An allow-list out, a deny-list back."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from vetted_mw.configuration import Auth

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from vetted_mw.configuration import Upstream

__all__ = ["OURS", "Headers", "header_value", "heard", "outgoing_headers", "returning_headers"]

Headers = list[tuple[bytes, bytes]]

_FORWARDED = frozenset({b"accept", b"user-agent", b"x-request-id", b"idempotency-key"})
_FORWARDED_PREFIX = b"openai-"
_OUR_TYPE: Headers = [(b"content-type", b"application/json"), (b"accept-encoding", b"identity")]
_PASSTHROUGH, _REGION = Auth.PASSTHROUGH, Auth.REGION  # looked up once: each attempt of each request asks

OURS = b"vetted"
"""What the name of every header of ours has in it, and of every one that is meant to be."""
_READ = _FORWARDED | {
    b"authorization",
    b"content-encoding",
    b"content-length",
    b"content-type",
    b"origin",
    b"traceparent",
    b"tracestate",
    b"transfer-encoding",
}
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
_CONNECTION = b"connection"


class _Judged(dict[bytes, bytes | None]):
    """What names were judged to be: few come again and again, and it is bounded, since anybody may send any."""

    _MOST, _LONGEST = 512, 64

    def __init__(self, judge: Callable[[bytes], bytes | None]) -> None:
        super().__init__()
        self._judge = judge

    def __missing__(self, name: bytes) -> bytes | None:
        judged = self._judge(name)
        if len(self) >= self._MOST:
            self.clear()
        if len(name) <= self._LONGEST:
            self[name] = judged
        return judged


def header_value(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """Return the first value of `name` (lower case), or None."""
    for key, value in headers:
        if key == name or key.lower() == name:
            return value
    return None


def heard(headers: Iterable[tuple[bytes, bytes]]) -> tuple[Headers, dict[bytes, bytes]]:
    """Pick out of a caller's headers those that mean something here, whatever the others are.

    Returns:
        These headers as they came, and the first value of each by its name in lower case; all that are `OURS`, or are
        meant to be, go by that one name.
    """
    picked: Headers = []
    named: dict[bytes, bytes] = {}
    for pair in headers:
        name = _HEARD[pair[0]]
        if name is not None:
            picked.append(pair)
            if name not in named:
                named[name] = pair[1]
    return picked, named


def _heard_as(name: bytes) -> bytes | None:
    """Return the name in lower case, as we look for it; None where nobody does."""
    lowered = name.lower()
    if OURS in lowered:
        return OURS
    return lowered if lowered in _READ or lowered.startswith(_FORWARDED_PREFIX) else None


_HEARD = _Judged(_heard_as)


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
        if (_LEAVES[name] is not None or (name in forward and _NAME.fullmatch(name) is not None))
        and _CONTROL.search(value) is None
    ]
    headers += _OUR_TYPE
    headers += trace
    authorization = _authorization(inbound, upstream)
    if authorization is not None:
        headers.append((b"authorization", authorization))
    return headers


def _leaves_as(name: bytes) -> bytes | None:
    """Return the name of a header that leaves for every upstream; None for all others."""
    is_listed = name in _FORWARDED or (name.startswith(_FORWARDED_PREFIX) and _NAME.fullmatch(name) is not None)
    return name if is_listed else None


_LEAVES = _Judged(_leaves_as)


def _authorization(inbound: Iterable[tuple[bytes, bytes]], upstream: Upstream) -> bytes | None:
    if upstream.auth is _PASSTHROUGH:
        value = header_value(inbound, b"authorization")
        return None if value is None or _CONTROL.search(value) is not None else value.strip(b" \t")
    if upstream.auth is _REGION and upstream.api_key is not None:
        return b"Bearer " + upstream.api_key.reveal().encode("ascii")
    return None


def returning_headers(received: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Return the upstream's headers the caller may see; hop-by-hop, cookies and spoofed `x-vetted-*` stay behind."""
    kept: Headers = []
    connection: list[bytes] = []
    for name, value in received:
        returned = _RETURNED[name]
        if returned is None:
            continue
        if returned == _CONNECTION:
            connection.append(value)
        elif _CONTROL.search(value) is None:  # a server would refuse to send it, and the answer with it
            kept.append((returned, value))
    if not connection:
        return kept
    named = {token.strip().lower() for value in connection for token in value.split(b",")}
    return [pair for pair in kept if pair[0] not in named]


def _returned_as(name: bytes) -> bytes | None:
    """Return the name in lower case, as the caller sees it; None where it must not, but for `Connection`'s own."""
    lowered = name.lower()
    if lowered == _CONNECTION:
        return lowered
    is_kept = lowered not in _NOT_RETURNED and not lowered.startswith(b"x-vetted-")
    return lowered if is_kept and _NAME.fullmatch(lowered) is not None else None


_RETURNED = _Judged(_returned_as)
