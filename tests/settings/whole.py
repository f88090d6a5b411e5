"""Two settings files in which every key has a value, the same key another one in each; and what writes them down."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from receipts.keys import jwks, private_pem, signer
from vetted_mw import load_configuration
from vetted_mw.grid.services import SERVICES
from vetted_mw.receipts.jwks import spki_pem
from vetted_mw.settings.schema import VettedSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from vetted_mw.configuration import Configuration

Key = tuple[str, ...]

KEYS = {
    "PARIS_KEY": "paris-key",
    "NANTES_KEY": "nantes-key",
    "TEAM_KEY": "team-key",
    "GRID_KEY": "grid-key",
    "SIGNING_KEY": private_pem(0).replace("\n", "\\n"),
}
"""The environment that the files' key references point to."""

FIRST: dict[str, Any] = {
    "receipt_key": "vetted",
    "paths": ["/v1/chat/completions", "/chat"],
    "default_routing": "default",
    "default_order": ["scaleway-par-1", "our-site-1"],
    "sse_placement": "usage_chunk",
    "trace_detail": "short",
    "forward_headers": ["x-one"],
    "transport": "own",
    "server": {"host": "127.0.0.2", "port": 8081, "workers": 2, "drain_seconds": 31},
    "callers": {
        "team-a": {
            "key": {"env": "TEAM_KEY"},
            "allowed_regions": ["our-site-1", "scaleway-par-1"],
            "allowed_countries": ["FR"],
            "carbon_aware": False,
            "require_region": True,
            "admin": True,
        }
    },
    "limits": {
        "max_body_bytes": 2048,
        "body_read_seconds": 11,
        "max_response_bytes": 4096,
        "max_frame_bytes": 3072,
        "connect_seconds": 1.5,
        "pool_seconds": 2.5,
        "idle_connection_seconds": 12,
        "first_byte_seconds": 13,
        "answer_seconds": 14,
        "idle_seconds": 15,
        "total_seconds": 16,
        "finish_hold_seconds": 0.5,
        "commit_after_seconds": 18,
        "sse_keepalive_seconds": 19,
        "attempts": 4,
        "max_in_flight": 17,
    },
    "policy": {
        "allowed_regions": ["our-site-1", "scaleway-par-1"],
        "allowed_countries": ["FR", "SE"],
        "carbon_aware": True,
        "require_region": False,
    },
    "regions": {
        "scaleway-par-1": {
            "base_url": "https://paris.example/v1",
            "auth": "none",
            "measured_energy": {"json_path": "usage.energy_joules"},
        },
        "our-site-1": {
            "provider": "Own",
            "site": "nantes-1",
            "location": "Nantes",
            "country": "FR",
            "zone": "FR",
            "annual_gco2_per_kwh": 56.5,
            "annual_year": 2023,
            "annual_source": "Ember",
            "annual_basis": "lifecycle",
            "network_p50_ms": 10,
            "network_p95_ms": 25,
            "inference": True,
            "pue": 1.3,
            "wue_l_per_kwh": 0.1,
            "ewif_l_per_kwh": 3.67,
            "hardware": "H100",
            "gen_ai_provider": "openai",
            "base_url": "https://nantes.example/v1",
            "api_key": {"env": "NANTES_KEY"},
            "models": ["mistral-medium-3", "other"],
            "health_path": "/live",
            "metrics_path": "/metrics",
            "max_queue": 4,
            "stream_usage": "supported",
            "ca_file": "first.pem",
            "proxy": "http://proxy.example:3128",
            "drained": True,
            "measured_energy": {"header": "x-energy", "unit": "Wh", "scope": "gpu"},
            "limits": {
                "max_response_bytes": 5120,
                "max_frame_bytes": 6144,
                "connect_seconds": 21,
                "pool_seconds": 22,
                "idle_connection_seconds": 23,
                "first_byte_seconds": 24,
                "answer_seconds": 25,
                "idle_seconds": 26,
                "finish_hold_seconds": 27,
                "max_in_flight": 28,
            },
        },
    },
    "models": {
        "mistral-medium-3": {
            "active_params_b": 8,
            "total_params_b": 16,
            "bytes_per_param": 1,
            "batch_size": 32,
            "upstream_names": {"our-site-1": "mistral-medium-2508"},
        }
    },
    "signals": {
        "refresh_seconds": 600,
        "timeout_seconds": 20,
        "proxy": "http://proxy.example:3128",
        "tie_band_gco2_per_kwh": 5,
        "tie_band_ratio": 0.1,
        "chains": {"FR": ["file", "static"]},
        "max_proxy_share": {"FR": 0.3, "default": 0.4},
        "min_total_mw": {"FR": 15000},
        "expected_types": {"FR": ["B14", "B19"]},
        "sources": {
            "entsoe": {
                "base_url": "https://entsoe.example",
                "max_age_minutes": 40,
                "refresh_seconds": 10,
                "areas": {"FR": "F0a"},
                "token": {"env": "GRID_KEY"},
                "backup_urls": ["https://spare.example"],
            },
            "landsnet": {
                "base_url": "https://landsnet.example",
                "max_age_minutes": 41,
                "refresh_seconds": 11,
            },
            "odre": {
                "base_url": "https://odre.example",
                "max_age_minutes": 42,
                "refresh_seconds": 12,
                "figure": "taux_co2",
            },
            "statnett": {
                "base_url": "https://statnett.example",
                "max_age_minutes": 43,
                "refresh_seconds": 13,
                "areas": {"FR": "F3a"},
            },
            "energy_charts": {
                "base_url": "https://energy-charts.example",
                "max_age_minutes": 44,
                "refresh_seconds": 14,
                "areas": {"FR": "F4a"},
            },
            "fingrid": {
                "base_url": "https://fingrid.example",
                "max_age_minutes": 45,
                "refresh_seconds": 15,
                "token": {"env": "GRID_KEY"},
                "figure": "consumption",
            },
            "electricity_maps": {
                "base_url": "https://electricity-maps.example",
                "max_age_minutes": 46,
                "refresh_seconds": 16,
                "areas": {"FR": "F6a"},
                "token": {"env": "GRID_KEY"},
                "figure": "lifecycle",
            },
            "energinet": {
                "base_url": "https://energinet.example",
                "max_age_minutes": 47,
                "refresh_seconds": 17,
                "areas": {"FR": "F7a"},
            },
            "http_json": {
                "refresh_seconds": 70,
                "zones": {
                    "FR": {
                        "url": "https://own.example/intensity?zone=fr",
                        "value": "data.0.intensity.actual",
                        "observed_at": "data.0.to",
                        "estimated": "data.0.estimated",
                        "unit": "kg_per_mwh",
                        "method": "production/lifecycle/average/own",
                        "area": "France",
                        "max_age_minutes": 45,
                        "header": "x-api-key",
                        "token": {"env": "GRID_KEY"},
                    }
                },
            },
            "file": {"path": "signals.toml", "max_age_minutes": 90.5},
        },
    },
    "receipts": {
        "issuer": "First GmbH",
        "engine": "parametric",
        "unknown_model": "null",
        "missing_usage": "null",
        "measured_energy": {"header": "", "json_path": "timings.energy", "unit": "J", "scope": "node"},
    },
    "signing": {
        "key": {"env": "SIGNING_KEY"},
        "alg": "Ed25519",
        "retired": [{"file": "retired.pem", "not_before": "2025-01-01T00:00:00Z", "not_after": "2026-01-01T00:00:00Z"}],
    },
    "ledger": {"path": "receipts.sqlite3", "durability": "normal", "policy": "fail_closed"},
    "telemetry": {"propagate": "off", "metrics": "vetted"},
}

SECOND: dict[str, Any] = {
    "receipt_key": "record",
    "paths": ["/other"],
    "default_routing": "carbon_aware",
    "default_order": ["scaleway-par-1"],
    "sse_placement": "comment",
    "trace_detail": "full",
    "forward_headers": ["x-one", "x-two"],
    "transport": "httpx",
    "server": {"host": "127.0.0.3", "port": 8082, "workers": 3, "drain_seconds": 32.5},
    "callers": {
        "team-a": {
            "key": {"file": "team.key"},
            "allowed_regions": ["scaleway-par-1"],
            "allowed_countries": ["FR", "SE"],
            "carbon_aware": True,
            "require_region": False,
            "admin": False,
        }
    },
    "limits": {
        "max_body_bytes": 2049,
        "body_read_seconds": 11.5,
        "max_response_bytes": 4097,
        "max_frame_bytes": 3073,
        "connect_seconds": 1.25,
        "pool_seconds": 2.25,
        "idle_connection_seconds": 12.5,
        "first_byte_seconds": 13.5,
        "answer_seconds": 14.5,
        "idle_seconds": 15.5,
        "total_seconds": 16.5,
        "finish_hold_seconds": 0.25,
        "commit_after_seconds": 18.5,
        "sse_keepalive_seconds": 19.5,
        "attempts": 5,
        "max_in_flight": 18,
    },
    "policy": {
        "allowed_regions": ["scaleway-par-1"],
        "allowed_countries": ["FR"],
        "carbon_aware": False,
        "require_region": True,
    },
    "regions": {
        "scaleway-par-1": {
            "base_url": "http://127.0.0.1:8000",
            "auth": "region",
            "measured_energy": {"json_path": "timings.0.energy"},
        },
        "our-site-1": {
            "provider": "Rented",
            "site": "lund-1",
            "location": "Lund",
            "country": "SE",
            "zone": "SE_4",
            "annual_gco2_per_kwh": 20,
            "annual_year": 2024,
            "annual_source": "Another",
            "annual_basis": "direct",
            "network_p50_ms": 11.5,
            "network_p95_ms": 26.5,
            "inference": False,
            "pue": 1.4,
            "wue_l_per_kwh": 0.2,
            "ewif_l_per_kwh": 4.5,
            "hardware": "B200",
            "gen_ai_provider": "mistral_ai",
            "base_url": "https://lund.example/v1",
            "api_key": {"file": "site.key"},
            "models": "discover",
            "health_path": "",
            "metrics_path": "/stats",
            "max_queue": 5,
            "stream_usage": "rejected",
            "ca_file": "second.pem",
            "proxy": "http://other.example:3128",
            "drained": False,
            "measured_energy": {"header": "x-other-energy", "unit": "J", "scope": "node"},
            "limits": {
                "max_response_bytes": 5121,
                "max_frame_bytes": 6145,
                "connect_seconds": 21.5,
                "pool_seconds": 22.5,
                "idle_connection_seconds": 23.5,
                "first_byte_seconds": 24.5,
                "answer_seconds": 25.5,
                "idle_seconds": 26.5,
                "finish_hold_seconds": 27.5,
                "max_in_flight": 29,
            },
        },
    },
    "models": {
        "mistral-medium-3": {
            "active_params_b": 9,
            "total_params_b": 17.5,
            "bytes_per_param": 0.5,
            "batch_size": 64,
            "upstream_names": {"our-site-1": "mistral-medium-latest"},
        }
    },
    "signals": {
        "refresh_seconds": 601.5,
        "timeout_seconds": 20.5,
        "proxy": "http://other.example:3128",
        "tie_band_gco2_per_kwh": 6.5,
        "tie_band_ratio": 0.2,
        "chains": {"FR": ["static"]},
        "max_proxy_share": {"FR": 0.35, "default": 0.45},
        "min_total_mw": {"FR": 15000.5},
        "expected_types": {"FR": ["B14"]},
        "sources": {
            "entsoe": {
                "base_url": "https://entsoe-too.example",
                "max_age_minutes": 40.5,
                "refresh_seconds": 10.5,
                "areas": {"FR": "F0b"},
                "token": {"file": "grid.key"},
                "backup_urls": ["https://spare.example", "https://another.example"],
            },
            "landsnet": {
                "base_url": "https://landsnet-too.example",
                "max_age_minutes": 41.5,
                "refresh_seconds": 11.5,
            },
            "odre": {
                "base_url": "https://odre-too.example",
                "max_age_minutes": 42.5,
                "refresh_seconds": 12.5,
                "figure": "mix",
            },
            "statnett": {
                "base_url": "https://statnett-too.example",
                "max_age_minutes": 43.5,
                "refresh_seconds": 13.5,
                "areas": {"FR": "F3b"},
            },
            "energy_charts": {
                "base_url": "https://energy-charts-too.example",
                "max_age_minutes": 44.5,
                "refresh_seconds": 14.5,
                "areas": {"FR": "F4b"},
            },
            "fingrid": {
                "base_url": "https://fingrid-too.example",
                "max_age_minutes": 45.5,
                "refresh_seconds": 15.5,
                "token": {"file": "grid.key"},
                "figure": "production",
            },
            "electricity_maps": {
                "base_url": "https://electricity-maps-too.example",
                "max_age_minutes": 46.5,
                "refresh_seconds": 16.5,
                "areas": {"FR": "F6b"},
                "token": {"file": "grid.key"},
                "figure": "direct",
            },
            "energinet": {
                "base_url": "https://energinet-too.example",
                "max_age_minutes": 47.5,
                "refresh_seconds": 17.5,
                "areas": {"FR": "F7b"},
            },
            "http_json": {
                "refresh_seconds": 71.5,
                "zones": {
                    "FR": {
                        "url": "https://own.example/intensity?zone=france",
                        "value": "data.-1.value",
                        "observed_at": "data.-1.at",
                        "estimated": "data.-1.guessed",
                        "unit": "lb_per_mwh",
                        "method": "consumption/direct/marginal/-",
                        "area": "FR_NORTH",
                        "max_age_minutes": 45.5,
                        "header": "x-other-key",
                        "token": {"file": "grid.key"},
                    }
                },
            },
            "file": {"path": "others.toml", "max_age_minutes": 60},
        },
    },
    "receipts": {
        "issuer": "Second GmbH",
        "engine": "ecologits",
        "unknown_model": "widen",
        "missing_usage": "estimate",
        "measured_energy": {"header": "", "json_path": "usage.energy", "unit": "Wh", "scope": "gpu"},
    },
    "signing": {"key": {"file": "signing.pem"}, "alg": "EdDSA", "retired": [{"file": "retired.json"}]},
    "ledger": {"path": "others.sqlite3", "durability": "full", "policy": "fail_open"},
    "telemetry": {"propagate": "traceparent", "metrics": "genai+vetted"},
}

# A header beside a json_path is refused: what it changes is seen at a region.
SINGLE = {("receipts", "measured_energy", "header")}

# What services and regions take that say nothing of their own; here each says its own.
OVERRULED = {
    ("signals", "refresh_seconds"),
    *(("receipts", "measured_energy", name) for name in ("json_path", "unit", "scope")),
}

_REFERENCES = ("api_key", "key", "token")
_TABLES = {
    ("regions",),
    ("callers",),
    ("models",),
    ("models", "*", "upstream_names"),
    ("signals", "chains"),
    ("signals", "max_proxy_share"),
    ("signals", "min_total_mw"),
    ("signals", "expected_types"),
    ("signals", "sources", "http_json", "zones"),
    *(("signals", "sources", name, "areas") for name, service in SERVICES.items() if service.has_areas),
}

_CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBdDCCARmgAwIBAgIUHAPFa/STpwrozkMIJwDkMzk3PecwCgYIKoZIzj0EAwIw
DjEMMAoGA1UEAwwDb25lMCAXDTI2MTEyNTAzNTExNVoYDzIxMjYxMTAxMDM1MTE1
WjAOMQwwCgYDVQQDDANvbmUwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAATOWmRY
9zN9QQid6VJP0jyWPDzotGrZGCwb8Wn7s32pxJ/MfNRK6ztNsYjsDXcmPK+8lhZ/
f5D+mw4nRFwRUrNeo1MwUTAdBgNVHQ4EFgQUK4wg5L+ehhArxhU3po16ttmsqasw
HwYDVR0jBBgwFoAUK4wg5L+ehhArxhU3po16ttmsqaswDwYDVR0TAQH/BAUwAwEB
/zAKBggqhkjOPQQDAgNJADBGAiEAjex41ieSKUYbwr1xFpdT/kNmnLYbnHDbYh1M
lm4xq8oCIQCGo9e95xDexcveFXpI6VXBMLE7Bhoh1u0TApwzgdVucg==
-----END CERTIFICATE-----
"""


def furnish(folder: Path) -> None:
    """Put the files that both settings name into `folder`."""
    for name in ("first.pem", "second.pem"):
        (folder / name).write_text(_CERTIFICATE)
    (folder / "team.key").write_text("team-key-of-a-file\n")
    (folder / "site.key").write_text("site-key-of-a-file\n")
    (folder / "grid.key").write_text("grid-key-of-a-file\n")
    (folder / "signing.pem").write_text(private_pem(1))
    (folder / "signing.pem").chmod(0o600)
    (folder / "retired.pem").write_text(spki_pem(signer(2).jwk))
    (folder / "retired.json").write_text(json.dumps(jwks(signer(3))["keys"][0]))


def loaded(
    folder: Path, table: Mapping[str, Any], *, environ: Mapping[str, str] | None = None, **overrides: Any
) -> Configuration:
    """Write `table` as a settings file into `folder` and load it; the place it came from is left out of the result."""
    file = folder / "vetted.toml"
    file.write_text(toml(table), encoding="utf-8")
    return replace(load_configuration(file, environ=KEYS | dict(environ or {}), overrides=overrides or None), source="")


def toml(table: Mapping[str, Any]) -> str:
    """Write a table as TOML, one line per top-level key."""
    return "".join(f"{json.dumps(name)} = {_toml_value(value)}\n" for name, value in table.items())


def _toml_value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)} = {_toml_value(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    return json.dumps(value)


def leaves(table: Mapping[str, Any], key: Key = ()) -> Iterator[Key]:
    """Yield the path of every value; a key reference is one."""
    for name, value in table.items():
        if isinstance(value, dict) and name not in _REFERENCES:
            yield from leaves(value, (*key, name))
        else:
            yield (*key, name)


def sections(table: Mapping[str, Any], key: Key = ()) -> Iterator[Key]:
    """Yield the path of every table."""
    for name, value in table.items():
        if isinstance(value, dict):
            yield (*key, name)
            yield from sections(value, (*key, name))


def at(table: Mapping[str, Any], key: Key) -> Any:
    """Return the value of a path."""
    found: Any = table
    for name in key:
        found = found[name]
    return found


def with_value(table: Mapping[str, Any], key: Key, value: Any) -> dict[str, Any]:
    """Return a copy of `table` with another value at a path."""
    changed = copy.deepcopy(dict(table))
    at(changed, key[:-1])[key[-1]] = value
    return changed


def without(table: Mapping[str, Any], key: Key) -> dict[str, Any]:
    """Return a copy of `table` without the value at a path."""
    changed = copy.deepcopy(dict(table))
    del at(changed, key[:-1])[key[-1]]
    return changed


def only(key: Key, value: Any) -> dict[str, Any]:
    """Return a table that holds one value."""
    for name in reversed(key):
        value = {name: value}
    return dict(value)


def variable(key: Key) -> str:
    """Return the environment variable of a path, as the contract writes it."""
    return "VETTED_" + "__".join(re.sub("[-.]", "_", name).upper() for name in key)


def variable_text(value: Any) -> str:
    """Return a value as an environment variable holds it."""
    return value if isinstance(value, str) else json.dumps(value)


def generic(key: Key) -> Key:
    """Return a path with `*` for each name of the operator's own."""
    walked: Key = ()
    for name in key:
        walked = (*walked, "*" if walked in _TABLES else name)
    return walked


def schema_leaves() -> set[Key]:
    """Return the path of every key of the schema, read from its JSON schema; `*` for names of the operator's own."""
    root = VettedSettings.model_json_schema()
    return set(_schema_leaves(root, root["$defs"], ()))


def _schema_leaves(node: dict[str, Any], named: dict[str, Any], key: Key) -> Iterator[Key]:
    options = [option for option in node.get("anyOf", [node]) if option.get("type") != "null"]
    node = options[0] if len(options) == 1 else node
    name = node.get("$ref", "").rpartition("/")[2]
    node = named.get(name, node)
    if name != "KeyReference" and "properties" in node:
        for member, inner in node["properties"].items():
            yield from _schema_leaves(inner, named, (*key, member))
    elif name != "KeyReference" and isinstance(node.get("additionalProperties"), dict):
        yield from _schema_leaves(node["additionalProperties"], named, (*key, "*"))
    else:
        yield key
