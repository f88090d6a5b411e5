"""Checks of header names, each for its use. Each returns what is kept of a sound name, in lower case."""

from __future__ import annotations

import re

from vetted_mw.settings.refusal import refused

__all__ = ["energy_header", "forwarded_header", "key_header"]

_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
_NEVER_FORWARDED = frozenset(
    {
        "accept-encoding",
        "authorization",
        "b3",
        "baggage",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "cookie",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "set-cookie",
        "te",
        "traceparent",
        "tracestate",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_NEVER_FORWARDED_PREFIXES = ("proxy-", "x-b3-", "x-vetted-", ":")
# Headers of answers, with credentials, cookies, framing or numbers that are no energy.
_NO_ENERGY = _NEVER_FORWARDED | {"age", "date", "retry-after", "server", "www-authenticate"}


def forwarded_header(value: str) -> str:
    """Accept a request header that may pass beyond the built-in list; returned in lower case."""
    name = value.lower()
    if not _HEADER.fullmatch(value):
        raise refused("is not the name of a header.", "Write one header name per entry.")
    if name in _NEVER_FORWARDED or name.startswith(_NEVER_FORWARDED_PREFIXES):
        raise refused(
            f"may not name {name if name in _NEVER_FORWARDED else 'such a header'}.",
            "Credentials, cookies, framing, trace context and x-vetted-* headers never pass; remove it.",
        )
    return name


def key_header(value: str) -> str:
    """Accept the header that carries a key; empty is kept and means none."""
    name = value.lower()
    if value and not _HEADER.fullmatch(value):
        raise refused("is not the name of a header.", "Write one header name, as in x-api-key.")
    if name in _NEVER_FORWARDED - {"authorization", "cookie"} or name in {"accept", "user-agent"}:
        raise refused("is a header that carries no key.", "Write the one the service asks for, as in x-api-key.")
    return name


def energy_header(value: str) -> str:
    """Accept the header in which an upstream tells the energy it took, in lower case; empty is kept and means none."""
    name = value.lower()
    if value and not _HEADER.fullmatch(value):
        raise refused("is not the name of a header.", "Write one header name, as in x-energy-joules.")
    if name in _NO_ENERGY or name.startswith(_NEVER_FORWARDED_PREFIXES):
        raise refused(
            "is a header that tells no energy.",
            "Write the one your upstream tells its energy in, as in x-energy-joules; never one with credentials, "
            "cookies or framing.",
        )
    return name
