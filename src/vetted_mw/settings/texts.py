"""Checks of single texts: addresses, paths, instants, member names. Each returns what is kept of a sound value."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, urlsplit

from vetted_mw.grid.factors import load_factors
from vetted_mw.grid.signal import parse_method
from vetted_mw.instants import parse_rfc3339, rfc3339
from vetted_mw.settings.refusal import refused

__all__ = [
    "KEY_PLACE",
    "asked_url",
    "code",
    "file_path",
    "fuel_type",
    "instant",
    "json_path",
    "member_path",
    "method",
    "model_name",
    "optional_member_path",
    "optional_zone",
    "origin_path",
    "our_path",
    "proxy_url",
    "receipt_member",
    "service_url",
    "upstream_url",
    "zone",
]

_CODE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")
_ZONE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,30}[A-Za-z0-9])?")
_MEMBER = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_PATH = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)+/?")
_MEMBER_PATH = re.compile(r"[^.\s][^.]*(?:\.[^.]+){0,15}")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII)
_FROM_THE_END = re.compile(r"-\d+")
_MAX_METHOD = 128
_PRINTABLE = re.compile(r"[!-~]+")

KEY_PLACE = "{token}"
"""Stands in the URL of a described service where its key belongs."""

# Query names, without regard to case, '-' and '_', whose value is a key.
_KEY_NAMES = frozenset(
    {
        "accesskey",
        "accesstoken",
        "apikey",
        "apitoken",
        "authtoken",
        "clientsecret",
        "key",
        "password",
        "secret",
        "securitytoken",
        "subscriptionkey",
        "token",
    }
)

# Members of a chat-completion answer, of its chunks and of an error answer, and our own second one.
_ANSWER_MEMBERS = frozenset(
    {
        "id",
        "object",
        "created",
        "model",
        "choices",
        "usage",
        "service_tier",
        "system_fingerprint",
        "metadata",
        "error",
        "obfuscation",
        "routing_trace",
    }
)


def code(value: str) -> str:
    """Accept the name of a region or caller: it travels in headers, logs and environment names."""
    if not _CODE.fullmatch(value):
        raise refused(
            "is not a usable name.",
            "Use up to 64 letters, digits, '-', '_' and '.', with a letter or digit at both ends.",
        )
    return value


def zone(value: str) -> str:
    """Accept a grid zone, `SE_3`; which source knows it is another question."""
    if not _ZONE.fullmatch(value):
        raise refused("is not a grid zone.", "Write it as FR, SE_3 or DE_LU.")
    return value


def optional_zone(value: str) -> str:
    """Accept the same; empty is kept and means the zone it is used for."""
    return zone(value) if value else value


def model_name(value: str) -> str:
    """Accept the name of a model as a request would write it."""
    if not value or value != value.strip() or not value.isprintable():
        raise refused("is not the name of a model.", "Write it as requests do: not empty, no blanks around it.")
    return value


def upstream_url(value: str) -> str:
    """Accept an upstream's base URL and take a trailing slash off it; empty is kept and means none."""
    if not value:
        return value
    parts = _address(value, "base URL")
    path = parts.path.rstrip("/")
    if path.endswith(("/chat/completions", "/completions", "/models")):
        raise refused("names an endpoint.", "End it at the API's root, as in https://api.example.eu/v1.")
    return value.rstrip("/")


def service_url(value: str) -> str:
    """Accept a grid service's base URL and take a trailing slash off it; empty is kept and means its own."""
    if value:
        _address(value, "base URL")
    return value.rstrip("/")


def asked_url(value: str) -> str:
    """Accept the whole URL of one GET, its query with it; a key is no part of it but by reference."""
    _address(value.replace(KEY_PLACE, "key").partition("?")[0], "address")
    if not _PRINTABLE.fullmatch(value) or "#" in value:
        raise refused("is no address.", "Write it without blanks and fragment, special characters %-encoded.")
    if KEY_PLACE in urlsplit(value).netloc:  # a host's name travels in the clear
        raise refused("has the key's place in the host's name.", f"Write {KEY_PLACE} in the path or the query.")
    if any(
        re.sub("[-_]", "", name).lower() in _KEY_NAMES and text != KEY_PLACE
        for name, text in parse_qsl(urlsplit(value).query, keep_blank_values=True)
    ):
        raise refused(
            "holds a key.", f'Write {KEY_PLACE} in its place, and token = {{ env = "NAME_OF_A_VARIABLE" }} beside it.'
        )
    if not {"{", "}"}.isdisjoint(value.replace(KEY_PLACE, "")):
        raise refused("holds a brace.", f"Write {KEY_PLACE} where the key belongs, and any other brace as %7B or %7D.")
    return value


def member_path(value: str) -> str:
    """Accept the place of a value in a JSON answer, `data.0.intensity.actual`."""
    if not _MEMBER_PATH.fullmatch(value) or not value.isprintable():
        raise refused(
            "is not the place of a value.",
            "Write member names and list positions with dots between them, as in data.0.intensity.actual.",
        )
    if not {"[", "]", "$"}.isdisjoint(value):
        raise refused(
            "is written in another notation.",
            "Write names and list positions with dots between them, without $ and brackets: data.0.intensity.actual.",
        )
    return value


def optional_member_path(value: str) -> str:
    """Accept the same; empty is kept and means none."""
    return member_path(value) if value else value


def json_path(value: str) -> str:
    """Accept the place of a number in an upstream's answer, `usage.energy_joules`; empty is kept and means none."""
    if not value:
        return value
    if not _MEMBER_PATH.fullmatch(value) or not value.isprintable() or not {"[", "]", "$"}.isdisjoint(value):
        raise refused(
            "is not the place of a number.",
            "Write member names and list positions with dots between them, as in usage.energy_joules.",
        )
    if any(_FROM_THE_END.fullmatch(part) for part in value.split(".")):
        raise refused("counts a list from its end.", "Write positions from 0 on, as in choices.0.energy.")
    return value


def instant(value: str) -> str:
    """Accept an instant that names its offset, and return it in UTC; empty is kept and means none."""
    if not value:
        return value
    try:
        moment = parse_rfc3339(value.upper()) if _INSTANT.fullmatch(value) else None
    except ValueError:
        moment = None
    if moment is None:
        raise refused("is no instant.", 'Write date, time and offset, as in "2026-11-22T09:45:00Z".')
    return rfc3339(moment)


def method(value: str) -> str:
    """Accept how values are made, `production/lifecycle/average/own`, or `declared`."""
    if not _is_method(value):
        raise refused(
            "is not a method.",
            "Write accounting/basis/kind/factor-set, as in production/lifecycle/average/own, or declared.",
        )
    return value


def _is_method(value: str) -> bool:
    try:
        parse_method(value)
    except ValueError:
        return False
    return _PRINTABLE.fullmatch(value) is not None and len(value) <= _MAX_METHOD


def fuel_type(value: str) -> str:
    """Accept a generation type as ENTSO-E codes it, `B14`."""
    factors = load_factors()
    if value not in factors.factors or not factors.counts(value):
        raise refused(
            "is not a generation type that is counted.",
            "Write ENTSO-E's code, as in B14 for nuclear; storage (B10, B25) is never part of a sum.",
        )
    return value


def proxy_url(value: str) -> str:
    """Accept an egress proxy's URL; empty is kept and means none."""
    if not value:
        return value
    if _address(value, "proxy URL").path not in {"", "/"}:
        raise refused("names a path.", "Write scheme, host and port: http://proxy.internal:3128.")
    return value.rstrip("/")


def _address(value: str, what: str) -> SplitResult:
    remedy = "Write an absolute http or https address, as in https://api.example.eu/v1."
    if not _PRINTABLE.fullmatch(value) or "\\" in value:
        raise refused(f"is no {what}: it holds blanks, backslashes or characters beyond ASCII.", remedy)
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise refused(f"is no {what}.", remedy) from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise refused(f"is no {what}.", remedy)
    if "@" in parts.netloc:
        raise refused("holds credentials.", "Take them out; a key is given by reference, as api_key or token.")
    if "?" in value or "#" in value:
        raise refused("holds a query or fragment.", "End it at the path.")
    return parts


def our_path(value: str) -> str:
    """Accept a request path that is ours, and take a trailing slash off it: paths match with or without one."""
    if not _PATH.fullmatch(value):
        raise refused("is not a path.", "Start it with '/', as in /v1/chat/completions, without query or blanks.")
    return value.rstrip("/")


def origin_path(value: str) -> str:
    """Accept a path on an upstream's origin; empty is kept and turns what it is for off."""
    if value and value != "/" and not _PATH.fullmatch(value):
        raise refused("is not a path.", "Start it with '/', as in /health, or leave it empty to turn it off.")
    return value


def file_path(value: str) -> str:
    """Accept the path of a file, which need not be there yet; empty is kept and means none."""
    if not value:
        return value
    if not value.isprintable():
        raise refused("is not the path of a file.", "Write it without line breaks and control characters.")
    try:
        Path(value).expanduser()
    except RuntimeError:
        raise refused("starts at a home folder that is not known.", "Write the path in full.") from None
    return value


def receipt_member(value: str) -> str:
    """Accept the receipt's name on the wire: no member an answer already has."""
    if not _MEMBER.fullmatch(value):
        raise refused("is not a usable member name.", "Use up to 64 letters, digits, '_' and '-', a letter first.")
    if value in _ANSWER_MEMBERS:
        raise refused("is a member that answers already have.", 'Choose another name, "receipt" or "vetted".')
    return value
