"""The frozen configuration: what the settings become once they are read and checked. Pure values, no reader here."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from vetted_mw.chat.sse import Placement
from vetted_mw.signal_configuration import SignalConfiguration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vetted_mw.receipts.models import ModelSize
    from vetted_mw.routing.decision import Rules
    from vetted_mw.routing.regions import Region
    from vetted_mw.secret import Secret

__all__ = [
    "DEFAULT_TRANSPORT",
    "Auth",
    "CallerKey",
    "Configuration",
    "LedgerConfiguration",
    "Limits",
    "MeasuredEnergy",
    "ReceiptConfiguration",
    "RetiredKey",
    "ServerConfiguration",
    "SigningConfiguration",
    "TelemetryConfiguration",
    "Upstream",
]


DEFAULT_TRANSPORT: Final = "own"
"""What carries requests where the settings do not say."""


class Auth(StrEnum):
    """Whose `Authorization` an upstream sees."""

    REGION = "region"
    PASSTHROUGH = "passthrough"
    NONE = "none"


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
        idle_seconds: between two frames, comments and those that are not for the caller among them.
        total_seconds: the whole request, all attempts.
        finish_hold_seconds: how long a finish chunk waits for the upstream's end, from the last content on.
        commit_after_seconds: after which a stream begins before its content, for good with that region; 0: never.
        sse_keepalive_seconds: between two comments that keep a committed stream alive while nothing comes; 0: none.
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
    commit_after_seconds: float = 0.0
    sse_keepalive_seconds: float = 0.0
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
        metrics_path: path of its engine's Prometheus metrics on its origin; empty: its queue is not read.
        max_queue: requests waiting in its engine's queue from which on it counts as saturated; 0: none does.
        stream_usage: whether it takes `stream_options.include_usage`; `auto` finds out.
        ca_file: PEM file of a private authority; empty for the public ones.
        proxy: egress proxy URL; empty for none. The environment is never consulted.
        drained: the operator takes it out of service.
        limits: the global limits with this region's own in place.
        upstream_names: requested model name -> the name this upstream knows.
        measured_energy: where its answers tell the energy they took; None when they do not.
    """

    region: str
    base_url: str
    api_key: Secret | None = None
    auth: Auth = Auth.REGION
    models: frozenset[str] | None = None
    discover: bool = False
    health_path: str = "/health"
    metrics_path: str = ""
    max_queue: int = 0
    stream_usage: Literal["auto", "supported", "rejected"] = "auto"
    ca_file: str = ""
    proxy: str = ""
    drained: bool = False
    limits: Limits = field(default_factory=Limits)
    upstream_names: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    measured_energy: MeasuredEnergy | None = None


class CallerKey(msgspec.Struct, frozen=True, kw_only=True):
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


class MeasuredEnergy(msgspec.Struct, frozen=True, kw_only=True):
    """Where an upstream's answers tell the energy they took. One of `header` and `json_path` is given.

    Attributes:
        header: lower-case name of the answer's header that holds the number; empty: not there.
        json_path: dotted path of the number in the answer's JSON, as in `usage.energy_joules`; empty: not there.
        unit: of the number.
        scope: what was measured: the accelerators (`gpu`), or the whole server (`node`).
    """

    header: str = ""
    json_path: str = ""
    unit: Literal["J", "Wh"] = "J"
    scope: Literal["gpu", "node"] = "gpu"


class RetiredKey(msgspec.Struct, frozen=True, kw_only=True):
    """A public key that signed receipts once, and stays listed.

    Attributes:
        jwk: its public JWK, `kid` included.
        not_before: RFC 3339; empty when nobody said.
        not_after: RFC 3339; empty when nobody said.
    """

    jwk: Mapping[str, str]
    not_before: str = ""
    not_after: str = ""


class SigningConfiguration(msgspec.Struct, frozen=True, kw_only=True):
    """What receipts are signed with.

    Attributes:
        key: the private key, PKCS 8 PEM; None: receipts are not signed, and say so.
        alg: the name of the algorithm in the header; `EdDSA` for older verifiers.
        retired: public keys that stay listed.
    """

    key: Secret | None = None
    alg: Literal["Ed25519", "EdDSA"] = "Ed25519"
    retired: tuple[RetiredKey, ...] = ()


class LedgerConfiguration(msgspec.Struct, frozen=True, kw_only=True):
    """Where receipts are kept.

    Attributes:
        path: absolute path of the SQLite file; empty: nowhere.
        durability: `full` waits for the disk at every commit; `normal` may lose the last ones when the power fails.
        policy: what becomes of an answer whose receipt cannot be kept.
    """

    path: str = ""
    durability: Literal["normal", "full"] = "normal"
    policy: Literal["fail_open", "fail_closed"] = "fail_open"


class ReceiptConfiguration(msgspec.Struct, frozen=True, kw_only=True):
    """What receipts say and how they treat what is missing.

    Attributes:
        issuer: who stands behind the receipt.
        engine: which energy model makes the figures.
        unknown_model: `widen` the interval for a model of unknown size, or give no receipt (`null`).
        missing_usage: `estimate` tokens the upstream did not count, or give no receipt (`null`).
        models: sizes by requested model name, the operator's over the shipped ones.
    """

    issuer: str = ""
    engine: Literal["parametric", "ecologits"] = "parametric"
    unknown_model: Literal["widen", "null"] = "widen"
    missing_usage: Literal["estimate", "null"] = "estimate"
    models: Mapping[str, ModelSize] = msgspec.field(default_factory=lambda: MappingProxyType({}))


class ServerConfiguration(msgspec.Struct, frozen=True, kw_only=True):
    """What `vetted-mw serve` binds."""

    host: str = "127.0.0.1"
    port: int = 8080
    workers: int = 1
    drain_seconds: float = 30.0


class TelemetryConfiguration(msgspec.Struct, frozen=True, kw_only=True):
    """What is told of requests, and by which names.

    Attributes:
        propagate: whether `traceparent` goes to upstreams.
        genai_metrics: whether `gen_ai.*` metrics are recorded beside `vetted.*`; spans always carry `gen_ai.*`.
        latest_genai: whether GenAI metrics go by the conventions' unreleased names, as `OTEL_SEMCONV_STABILITY_OPT_IN`
            asks for them.
    """

    propagate: bool = True
    genai_metrics: bool = True
    latest_genai: bool = False


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
        transport: what carries requests to upstreams: httpx, or our `own` client, which leaves those behind an egress
            proxy to httpx.
        limits: the global limits.
        callers: configured callers; empty when the door has no lock of ours.
        known_models: every model name the settings mention.
        signals: where signals come from.
        receipts: what receipts say.
        signing: what they are signed with.
        ledger: where they are kept.
        server: what `serve` binds.
        telemetry: what is told of requests.
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
    transport: Literal["own", "httpx"] = DEFAULT_TRANSPORT
    limits: Limits = field(default_factory=Limits)
    callers: tuple[CallerKey, ...] = ()
    known_models: frozenset[str] = frozenset()
    signals: SignalConfiguration = field(default_factory=SignalConfiguration)
    receipts: ReceiptConfiguration = field(default_factory=ReceiptConfiguration)
    signing: SigningConfiguration = field(default_factory=SigningConfiguration)
    ledger: LedgerConfiguration = field(default_factory=LedgerConfiguration)
    server: ServerConfiguration = field(default_factory=ServerConfiguration)
    telemetry: TelemetryConfiguration = field(default_factory=TelemetryConfiguration)
    source: str = ""
