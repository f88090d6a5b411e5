"""Turn what was written into the frozen configuration, and refuse what does not fit together."""

from __future__ import annotations

import ssl
from dataclasses import fields, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from vetted_mw.callers import Caller, narrowed
from vetted_mw.chat.sse import Placement
from vetted_mw.configuration import (
    Auth,
    CallerKey,
    Configuration,
    FileSource,
    Limits,
    ReceiptConfiguration,
    ServerConfiguration,
    SignalConfiguration,
    Upstream,
)
from vetted_mw.errors import ConfigurationError
from vetted_mw.receipts.models import ModelSize, size_for, unknown_size
from vetted_mw.routing.decision import Rules, is_allowed
from vetted_mw.routing.regions import SHIPPED_DEFAULT_ORDER, Region, checked_country, load_catalogue
from vetted_mw.settings import texts
from vetted_mw.settings.places import beside
from vetted_mw.settings.refusal import nearest
from vetted_mw.settings.secrets import resolved

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from pydantic import BaseModel

    from vetted_mw.settings.reading import Written
    from vetted_mw.settings.schema import ModelSettings, PolicySettings, RegionSettings

__all__ = ["frozen"]

_REGION_FACTS = frozenset(field.name for field in fields(Region)) - {"code", "shipped", "note"}


def frozen(written: Written, *, environ: Mapping[str, str]) -> Configuration:
    """Return the configuration `written` amounts to.

    Args:
        written: settings that passed key by key.
        environ: where `{ env = ... }` keys are read from.

    Raises:
        ConfigurationError: they do not fit together; the error names the key and the remedy.
    """
    settings = written.settings
    regions = _regions(settings.regions)
    upstreams = _upstreams(written, regions, environ)
    order = _order(settings.default_order, regions, upstreams)
    rules = _rules(written, regions, order)
    _require_serving_order(rules, regions, upstreams)
    callers = _callers(written, regions, upstreams, rules, environ)
    return Configuration(
        regions=regions,
        upstreams=upstreams,
        rules=rules,
        paths=tuple(settings.paths),
        receipt_key=settings.receipt_key,
        sse_placement=Placement(settings.sse_placement),
        trace_detail=settings.trace_detail,
        forward_headers=frozenset(settings.forward_headers),
        limits=_with(Limits(), settings.limits),
        callers=callers,
        known_models=frozenset(settings.models) | frozenset().union(*(u.models or () for u in upstreams.values())),
        signals=SignalConfiguration(
            chains=MappingProxyType({zone: tuple(names) for zone, names in settings.signals.chains.items()}),
            file=_file_source(written),
        ),
        receipts=ReceiptConfiguration(
            issuer=settings.receipts.issuer,
            unknown_model=settings.receipts.unknown_model,
            missing_usage=settings.receipts.missing_usage,
            models=MappingProxyType(
                {name: size for name, model in settings.models.items() if (size := _size(name, model)) is not None}
            ),
        ),
        server=ServerConfiguration(**settings.server.model_dump()),
        propagate=settings.telemetry.propagate != "off",
        source="" if written.file is None else str(written.file),
    )


def _with(limits: Limits, written: BaseModel) -> Limits:
    return replace(limits, **{name: value for name, value in written.model_dump().items() if value is not None})


# ---- regions and upstreams


def _regions(written: Mapping[str, RegionSettings]) -> Mapping[str, Region]:
    catalogue = dict(load_catalogue())
    for code, settings in written.items():
        catalogue[code] = _region(code, settings, catalogue.get(code))
    for region in catalogue.values():
        checked_country(region.country, region=region.code)
    return MappingProxyType(catalogue)


def _region(code: str, settings: RegionSettings, shipped: Region | None) -> Region:
    facts = {name: value for name in _REGION_FACTS if (value := getattr(settings, name)) is not None}
    if shipped is not None:
        if "annual_gco2_per_kwh" in facts:
            # The operator's own figure: nothing the shipped table says of its own is true of it.
            facts = {"annual_year": None, "annual_source": "", "annual_basis": "unknown"} | facts
        return replace(shipped, **facts, shipped=shipped.shipped and "annual_gco2_per_kwh" not in facts)
    _require_code(code)
    for name in ("provider", "site", "country"):
        if name not in facts:
            like = nearest(code, load_catalogue())
            hint = "" if like is None else f" If you meant the shipped region {like}, write its code exactly."
            raise ConfigurationError(
                "is missing: a region that is not shipped needs provider, site and country.",
                field=f"regions.{code}.{name}",
                remedy=f"Set it.{hint}",
            )
    return Region(**({"location": facts["site"]} | facts | {"code": code}))


def _require_code(code: str, *, table: str = "regions") -> None:
    try:
        texts.code(code)
    except ValueError:
        raise ConfigurationError(
            f"the name of a table in [{table}] is not usable.",
            field=table,
            remedy="Use up to 64 letters, digits, '-', '_' and '.', with a letter or digit at both ends.",
        ) from None


def _upstreams(written: Written, regions: Mapping[str, Region], environ: Mapping[str, str]) -> Mapping[str, Upstream]:
    settings = written.settings
    limits = _with(Limits(), settings.limits)
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
        stream_usage=region.stream_usage,
        ca_file=_authority(region.ca_file, field=f"{field}.ca_file", file=written.file),
        proxy=region.proxy,
        drained=region.drained,
        limits=_with(limits, region.limits),
        upstream_names=MappingProxyType(dict(names)),
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
            _require_known([code], regions, field=f"models.{model}.upstream_names")
            found.setdefault(code, {})[model] = name
    return found


# ---- the order and the rules


def _order(
    given: list[str] | None, regions: Mapping[str, Region], upstreams: Mapping[str, Upstream]
) -> tuple[str, ...]:
    if given is not None:
        _require_known(given, regions, field="default_order")
        return tuple(given)
    own_only = bool(upstreams) and not any(regions[code].code in load_catalogue() for code in upstreams)
    return tuple(code for code in upstreams if regions[code].inference) if own_only else SHIPPED_DEFAULT_ORDER


def _require_known(codes: Iterable[str], regions: Mapping[str, Region], *, field: str) -> None:
    for code in codes:
        if code not in regions:
            like = nearest(code, regions)
            hint = "" if like is None else f"Did you mean {like}? "
            raise ConfigurationError(
                "names a region that is not in the catalogue.",
                field=field,
                remedy=f"{hint}Known: {', '.join(regions)}.",
            )


def _rules(written: Written, regions: Mapping[str, Region], order: tuple[str, ...]) -> Rules:
    settings = written.settings
    policy = settings.policy
    if settings.default_routing == "carbon_aware" and not policy.carbon_aware:
        raise ConfigurationError(
            "routes carbon-aware, which policy.carbon_aware turns off.",
            field="default_routing",
            remedy='Write "default", or set policy.carbon_aware = true.',
        )
    regions_allowed, countries_allowed = _allowed(policy, regions, field="policy")
    return Rules(
        default_order=order,
        allowed_regions=regions_allowed,
        allowed_countries=countries_allowed,
        require_region=policy.require_region,
        carbon_aware=policy.carbon_aware,
        default_carbon_aware=settings.default_routing == "carbon_aware",
        tie_band_gco2_per_kwh=settings.signals.tie_band_gco2_per_kwh,
        tie_band_ratio=settings.signals.tie_band_ratio,
    )


def _allowed(
    policy: PolicySettings, regions: Mapping[str, Region], *, field: str
) -> tuple[frozenset[str] | None, frozenset[str] | None]:
    _require_known(policy.allowed_regions, regions, field=f"{field}.allowed_regions")
    return frozenset(policy.allowed_regions) or None, frozenset(policy.allowed_countries) or None


def _require_serving_order(rules: Rules, regions: Mapping[str, Region], upstreams: Mapping[str, Upstream]) -> None:
    if not upstreams:
        return  # `serve` and `check` refuse that; `regions` and `explain` may still look at the catalogue
    usable = [code for code in rules.default_order if code in upstreams and regions[code].inference]
    if not usable:
        raise ConfigurationError(
            "none of its regions has an upstream and runs inference, so no request could be served.",
            field="default_order",
            remedy=f"Name regions that have a base_url: {', '.join(upstreams)}.",
        )
    if not any(is_allowed(regions[code], rules) for code in usable):
        raise ConfigurationError(
            "leaves no region of default_order that could serve.",
            field="policy",
            remedy="Widen allowed_regions or allowed_countries, or change default_order.",
        )


# ---- callers


def _callers(
    written: Written,
    regions: Mapping[str, Region],
    upstreams: Mapping[str, Upstream],
    rules: Rules,
    environ: Mapping[str, str],
) -> tuple[CallerKey, ...]:
    found: list[CallerKey] = []
    for name, caller in written.settings.callers.items():
        _require_code(name, table="callers")
        field = f"callers.{name}"
        key = resolved(caller.key, field=f"{field}.key", file=written.file, environ=environ)
        twin = next((other.name for other in found if other.key == key), None)
        if twin is not None:
            raise ConfigurationError(
                f"is the key of {twin} too, so nobody could tell them apart.",
                field=f"{field}.key",
                remedy="Give each caller a key of its own.",
            )
        own = _narrowed(rules, caller, regions, upstreams, field=field)
        found.append(CallerKey(name=name, key=key, rules=own, admin=caller.admin))
    passed_through = next((code for code, one in upstreams.items() if one.auth is Auth.PASSTHROUGH), None)
    if found and passed_through is not None:
        raise ConfigurationError(
            'is "passthrough" while [callers] are configured: a caller\'s gateway key would leave for the upstream.',
            field=f"regions.{passed_through}.auth",
            remedy='Use auth = "region" with api_key, or remove [callers].',
        )
    return tuple(found)


def _narrowed(
    rules: Rules,
    caller: PolicySettings,
    regions: Mapping[str, Region],
    upstreams: Mapping[str, Upstream],
    *,
    field: str,
) -> Rules:
    only_regions, only_countries = _allowed(caller, regions, field=field)
    own = narrowed(
        rules,
        Caller(
            name="",
            allowed_regions=only_regions,
            allowed_countries=only_countries,
            require_region=caller.require_region,
            carbon_aware=caller.carbon_aware,
        ),
    )
    serving = (code for code in rules.default_order if code in upstreams and regions[code].inference)
    if upstreams and not any(is_allowed(regions[code], own) for code in serving):
        raise ConfigurationError(
            "leaves no region of default_order for this caller.",
            field=field,
            remedy="Widen its allowed_regions or allowed_countries, or change default_order.",
        )
    return own


# ---- models and signals


def _size(name: str, model: ModelSettings) -> ModelSize | None:
    """Return the operator's word on a model over the shipped table's; None when it says nothing of its size.

    Of active and total parameters, the one left out is the shipped table's where that fits, else the same as the other:
    a dense model.
    """
    known = size_for(name, {})
    active, total = model.active_params_b, model.total_params_b
    if active is None and total is not None:
        active = total if known is None else min(known.active_params_b, total)
    if active is not None:
        return ModelSize(
            active_params_b=active,
            total_params_b=total or max(active, 0.0 if known is None else known.total_params_b),
            bytes_per_param=model.bytes_per_param or (2.0 if known is None else known.bytes_per_param),
            batch_size=model.batch_size,
            source="operator",
        )
    if model.bytes_per_param is None and model.batch_size is None:
        return None
    base = known or unknown_size()
    return replace(base, bytes_per_param=model.bytes_per_param or base.bytes_per_param, batch_size=model.batch_size)


def _file_source(written: Written) -> FileSource | None:
    file = written.settings.signals.sources.file
    if file is None:
        return None
    return FileSource(path=beside(file.path, written.file), max_age_minutes=file.max_age_minutes)
