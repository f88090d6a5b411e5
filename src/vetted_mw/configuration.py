"""The frozen configuration: what the settings become once they are read and checked. Pure values, no reader here."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from vetted_mw.chat.sse import Placement

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from vetted_mw.grid.signal import Method
    from vetted_mw.receipts.models import ModelSize
    from vetted_mw.routing.decision import Rules
    from vetted_mw.routing.regions import Region

__all__ = [
    "Auth",
    "CallerKey",
    "Configuration",
    "FileSource",
    "JsonReading",
    "JsonSource",
    "Limits",
    "ReceiptConfiguration",
    "Secret",
    "ServerConfiguration",
    "ServiceSource",
    "SignalConfiguration",
    "Upstream",
]


class Auth(StrEnum):
    """Whose `Authorization` an upstream sees."""

    REGION = "region"
    PASSTHROUGH = "passthrough"
    NONE = "none"


class Secret:
    """A key that prints as `***` wherever it lands by accident."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the key itself; call it only where it goes on the wire or is compared."""
        return self._value

    def __repr__(self) -> str:
        return "Secret('***')"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Every limit a request meets. Seconds, bytes and counts.

    Attributes:
        max_body_bytes: request body, also after decoding.
        body_read_seconds: time for the caller to send its body.
        max_response_bytes: one upstream JSON answer.
        max_frame_bytes: one SSE frame.
        connect_seconds: TCP and TLS connect.
        pool_seconds: wait for a pooled connection, for a transport that has a queue; the shipped one has none.
        idle_connection_seconds: life of an idle pooled connection.
        first_byte_seconds: until the first content-bearing event of a stream, dripping headers included.
        answer_seconds: a whole JSON answer.
        idle_seconds: between two frames.
        total_seconds: the whole request, all attempts.
        finish_hold_seconds: how long a finish chunk waits for the upstream's end.
        attempts: requests sent at most for one caller request.
        max_in_flight: leases per region and process.
    """

    max_body_bytes: int = 16_777_216
    body_read_seconds: float = 30.0
    max_response_bytes: int = 67_108_864
    max_frame_bytes: int = 4_194_304
    connect_seconds: float = 5.0
    pool_seconds: float = 5.0
    idle_connection_seconds: float = 30.0
    first_byte_seconds: float = 60.0
    answer_seconds: float = 600.0
    idle_seconds: float = 60.0
    total_seconds: float = 900.0
    finish_hold_seconds: float = 2.0
    attempts: int = 3
    max_in_flight: int = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """How to reach the server of one region.

    Attributes:
        region: the region's code.
        base_url: up to and including `/v1`, without a trailing slash.
        api_key: our own key there; None with `passthrough` and `none`.
        auth: whose `Authorization` it sees.
        models: names it serves; None when any is served or the list is discovered.
        discover: whether to ask its `/models`.
        health_path: probe path on its origin; empty turns the probe off.
        stream_usage: whether it takes `stream_options.include_usage`; `auto` finds out.
        ca_file: PEM file of a private authority; empty for the public ones.
        proxy: egress proxy URL; empty for none. The environment is never consulted.
        drained: the operator takes it out of service.
        limits: the global limits with this region's own in place.
        upstream_names: requested model name -> the name this upstream knows.
    """

    region: str
    base_url: str
    api_key: Secret | None = None
    auth: Auth = Auth.REGION
    models: frozenset[str] | None = None
    discover: bool = False
    health_path: str = "/health"
    stream_usage: Literal["auto", "supported", "rejected"] = "auto"
    ca_file: str = ""
    proxy: str = ""
    drained: bool = False
    limits: Limits = field(default_factory=Limits)
    upstream_names: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerKey:
    """One configured caller.

    Attributes:
        name: as in `[callers.NAME]`.
        key: what it sends as bearer token.
        rules: the operator's rules narrowed by this caller's.
        admin: whether it may read others' receipts.
    """

    name: str
    key: Secret
    rules: Rules
    admin: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSource:
    """Readings from a file that is watched.

    Attributes:
        path: the file.
        max_age_minutes: freshness limit of its readings.
    """

    path: Path
    max_age_minutes: float = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSource:
    """One grid service that is asked.

    Attributes:
        name: its word in the settings, `entsoe`; what it is stands in `grid.services`.
        base_urls: where it is, without a trailing slash; the next one is tried when one is down.
        key: our key there; None for a service that needs none.
        max_age_minutes: freshness limit of its values.
        refresh_seconds: how often it is asked.
        areas: zone -> the service's own word for it, over the shipped table.
        figure: which of its figures is read, for a service that has several.
    """

    name: str
    base_urls: tuple[str, ...]
    max_age_minutes: float
    refresh_seconds: float
    key: Secret | None = None
    areas: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    figure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonReading:
    """Where one zone's value stands in an answer of a service we do not know.

    Attributes:
        zone: the zone it is used for.
        area: what it is really of.
        url: asked with one GET; may hold a key, so it is never shown.
        value: path of the value, `data.0.intensity.actual`; a number counts list items, -1 is the last.
        observed_at: path of the interval's end: RFC 3339 with an offset, or unix seconds or milliseconds.
        estimated: path of a truth value that says the service estimated it; empty for none.
        unit: what the value is in.
        method: how it was made.
        max_age_minutes: its freshness limit.
        header: header that carries the key; empty without a key.
        key: our key there.
    """

    zone: str
    area: str
    url: Secret
    value: str
    observed_at: str
    estimated: str
    unit: str
    method: Method
    max_age_minutes: float
    header: str = ""
    key: Secret | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonSource:
    """Services we do not know, read by the operator's description.

    Attributes:
        readings: one per zone.
        refresh_seconds: how often each is asked.
    """

    readings: tuple[JsonReading, ...]
    refresh_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalConfiguration:
    """Where signals come from and what they must be to decide.

    Attributes:
        chains: zone -> source names, first live-eligible wins; a zone not named takes every configured source in order.
        file: the file source; None when not configured.
        services: the grid services that are asked, in the order of the default chain.
        http_json: services we do not know; None when none is described.
        timeout_seconds: for one whole answer of a service.
        proxy: egress proxy to reach services by; empty for none. The environment is never consulted.
        max_proxy_share: zone, or `default` -> share of stand-in factors up to which a value may decide.
        min_total_mw: zone -> generation below which a mix is not believed, over the shipped table.
        expected_types: zone -> PSR codes without which an interval is incomplete, over the shipped table.
    """

    chains: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    file: FileSource | None = None
    services: tuple[ServiceSource, ...] = ()
    http_json: JsonSource | None = None
    timeout_seconds: float = 30.0
    proxy: str = ""
    max_proxy_share: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    min_total_mw: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    expected_types: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptConfiguration:
    """What receipts say and how they treat what is missing.

    Attributes:
        issuer: who stands behind the receipt.
        unknown_model: `widen` the interval for a model of unknown size, or give no receipt (`null`).
        missing_usage: `estimate` tokens the upstream did not count, or give no receipt (`null`).
        models: sizes by requested model name, the operator's over the shipped ones.
    """

    issuer: str = ""
    unknown_model: Literal["widen", "null"] = "widen"
    missing_usage: Literal["estimate", "null"] = "estimate"
    models: Mapping[str, ModelSize] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfiguration:
    """What `vetted-mw serve` binds."""

    host: str = "127.0.0.1"
    port: int = 8080
    workers: int = 1
    drain_seconds: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """Everything the operator decided, checked and frozen.

    Attributes:
        regions: the catalogue in order, shipped regions first, code -> region.
        upstreams: code -> how to reach it; a region without one is `not_configured`.
        rules: the operator's policy, the default order and the tie band.
        paths: request paths that are ours.
        receipt_key: name of the receipt member on the wire.
        sse_placement: where a stream carries the members.
        trace_detail: `short` leaves candidates and attempts out of the trace.
        forward_headers: lower-case request headers that pass beyond the built-in list.
        limits: the global limits.
        callers: configured callers; empty when the door has no lock of ours.
        known_models: every model name the settings mention.
        signals: where signals come from.
        receipts: what receipts say.
        server: what `serve` binds.
        propagate: whether `traceparent` goes to upstreams.
        source: the file the settings came from, for messages; empty when none.
    """

    regions: Mapping[str, Region]
    upstreams: Mapping[str, Upstream]
    rules: Rules
    paths: tuple[str, ...] = ("/v1/chat/completions",)
    receipt_key: str = "receipt"
    sse_placement: Placement = Placement.FINISH_CHUNK
    trace_detail: Literal["full", "short"] = "full"
    forward_headers: frozenset[str] = frozenset()
    limits: Limits = field(default_factory=Limits)
    callers: tuple[CallerKey, ...] = ()
    known_models: frozenset[str] = frozenset()
    signals: SignalConfiguration = field(default_factory=SignalConfiguration)
    receipts: ReceiptConfiguration = field(default_factory=ReceiptConfiguration)
    server: ServerConfiguration = field(default_factory=ServerConfiguration)
    propagate: bool = True
    source: str = ""
