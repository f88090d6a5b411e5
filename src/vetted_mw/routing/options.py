"""What the caller asked for, from the body's `vetted` member and the `x-vetted-*` headers."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from vetted_mw.errors import ConflictingOptionsError, InvalidOptionError, InvalidRegionError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

__all__ = ["UNASKED", "Boundary", "Options", "Routing", "Tier", "parse_options"]


class Routing(StrEnum):
    """The `routing` option."""

    DEFAULT = "default"
    CARBON_AWARE = "carbon_aware"


class Tier(StrEnum):
    """The `tier` option; `proxy` can be a receipt's tier but is never asked for."""

    AUTO = "auto"
    PARAMETRIC = "parametric"
    TELEMETRY = "telemetry"


class Boundary(StrEnum):
    """The `boundary` option."""

    COMPREHENSIVE = "comprehensive"
    NARROW = "narrow"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the caller asked for; an absent option is None.

    Attributes:
        region: the pin.
        secondary_region: the documented secondary, only with `region`.
        routing: default or carbon-aware; None takes the operator's default.
        latency_budget_ms: network p95 in ms.
        tier: how the receipt is to be made.
        boundary: what it is to include.
    """

    region: str | None = None
    secondary_region: str | None = None
    routing: Routing | None = None
    latency_budget_ms: int | None = None
    tier: Tier = Tier.AUTO
    boundary: Boundary = Boundary.COMPREHENSIVE


UNASKED = Options()
"""What nearly every request asks for: nothing."""

_E = TypeVar("_E", bound=StrEnum)

_OUR_HEADERS = (b"x-vetted", b"vetted-")
_BY_HEADER = {
    b"x-vetted-region": "region",
    b"x-vetted-secondary-region": "secondary_region",
    b"x-vetted-routing": "routing",
    b"x-vetted-latency-budget-ms": "latency_budget_ms",
}
_MEMBERS = ("region", "secondary_region", "routing", "latency_budget_ms", "tier", "boundary")
_MAX_BUDGET_MS = 2**31


def parse_options(
    members: Mapping[str, msgspec.Raw] | None,
    headers: Sequence[tuple[bytes, bytes]],
    *,
    regions: Collection[str],
) -> Options:
    """Read the options of one request.

    Args:
        members: the `vetted` object's members; None when absent.
        headers: the request's headers, lower-case names; may be none where it is known that none is ours.
        regions: the codes of the catalogue.

    Raises:
        InvalidOptionError: an unknown or repeated name, a wrong type, a value out of range.
        InvalidRegionError: a code that is not in the catalogue.
        ConflictingOptionsError: options, or body and header, that contradict each other.
    """
    if not members and not headers:
        return UNASKED
    # `find`, since `in` takes the name for a number first, at ten times the cost.
    named = [(name, value) for name, value in headers if name.find(b"vetted") >= 0 and _is_ours(name)]
    if not members and not named:
        return UNASKED
    given = _from_members(members or {}, regions)
    for name, value in _from_headers(named, regions).items():
        if given.setdefault(name, value) != value:
            raise ConflictingOptionsError(
                f"The body and the header x-vetted-{name.replace('_', '-')} disagree. Send one of them.",
                param=f"vetted.{name}",
            )
    options = Options(**given)
    _require_agreement(options)
    return options


def _is_ours(header: bytes) -> bool:
    """Whether a header is one of ours or meant to be: with `_` for `-`, or without its end, a pin would be no pin."""
    return header.replace(b"_", b"-").startswith(_OUR_HEADERS)


def _from_members(members: Mapping[str, msgspec.Raw], regions: Collection[str]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for name, raw in members.items():
        if name not in _MEMBERS:
            raise InvalidOptionError(_unknown(name, _MEMBERS, "'vetted' has an unknown member."), param="vetted")
        value = _decoded(raw, f"vetted.{name}")
        if value is not None:
            given[name] = _READERS[name](value, f"vetted.{name}", regions)
    return given


def _decoded(raw: msgspec.Raw, param: str) -> object:
    """Decode one member; the splitter has seen that it is JSON, not that a reader can take it (`1e999`).

    No option is a list or an object: those stay unread, however large, and every reader refuses them.
    """
    if bytes(raw).startswith((b"[", b"{")):
        return raw
    try:
        return msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        raise InvalidOptionError(f"{param} holds a value that cannot be read.", param=param) from None


def _from_headers(named: Iterable[tuple[bytes, bytes]], regions: Collection[str]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    known = [header.decode() for header in _BY_HEADER]
    for header, raw in named:
        name = _BY_HEADER.get(header)
        text = header.decode("latin-1")
        if name is None:
            raise InvalidOptionError(_unknown(text, known, "An x-vetted-* header is unknown."), param="x-vetted-*")
        if name in given:
            raise InvalidOptionError(f"The header {text} stands more than once.", param=text)
        value: object = raw.decode("latin-1")
        if name == "latency_budget_ms":
            value = int(raw) if raw.isdigit() and len(raw) < 11 else 0  # noqa: PLR2004 (more digits than any latency has)
        given[name] = _READERS[name](value, text, regions)
    return given


def _region(value: object, param: str, regions: Collection[str]) -> str:
    code = _text(value, param)
    if code not in regions:
        raise InvalidRegionError(f"Unknown region. Known regions: {', '.join(regions)}.", param=_body_param(param))
    return code


def _latency(value: object, param: str, _regions: Collection[str]) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < _MAX_BUDGET_MS:
        raise InvalidOptionError(
            f"{param} must be a whole number of milliseconds above 0 and below {_MAX_BUDGET_MS}.", param=param
        )
    return value


def _one_of(kind: type[_E]) -> Callable[[object, str, Collection[str]], _E]:
    def read(value: object, param: str, _regions: Collection[str]) -> _E:
        text = _text(value, param)
        found = next((member for member in kind if member.value == text), None)
        if found is None:
            choices = " or ".join(f"'{member.value}'" for member in kind)
            raise InvalidOptionError(f"{param} must be {choices}.", param=param)
        return found

    return read


def _text(value: object, param: str) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidOptionError(f"{param} must be a string that is not empty.", param=param)
    return value


_READERS: Mapping[str, Callable[[object, str, Collection[str]], Any]] = {
    "region": _region,
    "secondary_region": _region,
    "routing": _one_of(Routing),
    "latency_budget_ms": _latency,
    "tier": _one_of(Tier),
    "boundary": _one_of(Boundary),
}


def _require_agreement(options: Options) -> None:
    if options.region is not None and options.routing is Routing.CARBON_AWARE:
        raise ConflictingOptionsError(
            "A pinned region and carbon-aware routing exclude each other. Send one of them.", param="vetted.routing"
        )
    if options.secondary_region is None:
        return
    if options.region is None:
        raise ConflictingOptionsError(
            "A secondary region needs a region. Name the primary one in 'region'.", param="vetted.secondary_region"
        )
    if options.secondary_region == options.region:
        raise ConflictingOptionsError("The secondary region must be another one.", param="vetted.secondary_region")


def _body_param(param: str) -> str:
    """Return the wire's name of a region parameter, whether it came in the body or a header."""
    return "vetted.secondary_region" if "secondary" in param else "vetted.region"


def _unknown(name: str, known: Collection[str], message: str) -> str:
    """Name ours when theirs is close; never repeat theirs."""
    close = difflib.get_close_matches(name[:64], known, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    return f"{message}{hint} Known: {', '.join(known)}."
