"""How each configured region is reached: address, key, models, limits."""

from __future__ import annotations

import ssl
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from vetted_mw.configuration import Auth, Limits, Upstream
from vetted_mw.errors import ConfigurationError
from vetted_mw.settings.catalogue import require_known
from vetted_mw.settings.evidence import measured_energy_of
from vetted_mw.settings.places import beside
from vetted_mw.settings.secrets import resolved

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pydantic import BaseModel

    from vetted_mw.routing.regions import Region
    from vetted_mw.settings.reading import Written
    from vetted_mw.settings.schema import ModelSettings, RegionSettings

__all__ = ["limits_with", "upstreams_of"]


def upstreams_of(written: Written, regions: Mapping[str, Region], environ: Mapping[str, str]) -> Mapping[str, Upstream]:
    """Return how each region with a `base_url` is reached, in catalogue order."""
    settings = written.settings
    limits = limits_with(Limits(), settings.limits)
    names = _upstream_names(settings.models, regions)
    found = {
        code: _upstream(code, region, limits, names.get(code, {}), written, environ)
        for code, region in settings.regions.items()
        if region.base_url
    }
    return MappingProxyType({code: found[code] for code in regions if code in found})


def _upstream(
    code: str,
    region: RegionSettings,
    limits: Limits,
    names: Mapping[str, str],
    written: Written,
    environ: Mapping[str, str],
) -> Upstream:
    field = f"regions.{code}"
    return Upstream(
        region=code,
        base_url=region.base_url,
        api_key=None
        if region.api_key is None
        else resolved(region.api_key, field=f"{field}.api_key", file=written.file, environ=environ),
        auth=Auth(region.auth),
        models=frozenset(region.models) if isinstance(region.models, list) else None,
        discover=region.models == "discover",
        health_path=region.health_path,
        metrics_path=region.metrics_path,
        max_queue=region.max_queue,
        stream_usage=region.stream_usage,
        ca_file=_authority(region.ca_file, field=f"{field}.ca_file", file=written.file),
        proxy=region.proxy,
        drained=region.drained,
        limits=limits_with(limits, region.limits),
        upstream_names=MappingProxyType(dict(names)),
        measured_energy=measured_energy_of(region.measured_energy, written.settings.receipts.measured_energy),
    )


def _authority(name: str, *, field: str, file: Path | None) -> str:
    if not name:
        return name
    path = beside(name, file)
    try:
        ssl.create_default_context(cafile=str(path))
    except (OSError, ssl.SSLError):
        raise ConfigurationError(
            "the file cannot be read as PEM certificates.",
            field=field,
            remedy="Name a readable PEM file of the authority that signed the upstream's certificate.",
        ) from None
    return str(path)


def _upstream_names(models: Mapping[str, ModelSettings], regions: Mapping[str, Region]) -> dict[str, dict[str, str]]:
    """Return region -> requested name -> the region's own name for it."""
    found: dict[str, dict[str, str]] = {}
    for model, settings in models.items():
        for code, name in settings.upstream_names.items():
            require_known([code], regions, field=f"models.{model}.upstream_names")
            found.setdefault(code, {})[model] = name
    return found


def limits_with(limits: Limits, written: BaseModel) -> Limits:
    """Return `limits` with what was written in their place."""
    return replace(limits, **{name: value for name, value in written.model_dump().items() if value is not None})
