"""Who may go where: the default order, the operator's rules, and the callers they are narrowed for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vetted_mw.callers import Caller, narrowed
from vetted_mw.configuration import Auth, CallerKey
from vetted_mw.errors import ConfigurationError
from vetted_mw.routing.decision import Rules, is_allowed
from vetted_mw.routing.regions import SHIPPED_DEFAULT_ORDER, load_catalogue
from vetted_mw.settings.catalogue import require_code, require_known
from vetted_mw.settings.secrets import resolved

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vetted_mw.configuration import Upstream
    from vetted_mw.routing.regions import Region
    from vetted_mw.settings.reading import Written
    from vetted_mw.settings.schema import PolicySettings

__all__ = ["callers_of", "order_of", "require_serving_order", "rules_of"]


def order_of(
    given: list[str] | None, regions: Mapping[str, Region], upstreams: Mapping[str, Upstream]
) -> tuple[str, ...]:
    """Return the `eu_preferred` order: the one given, else the shipped one, else that of the file."""
    if given is not None:
        require_known(given, regions, field="default_order")
        return tuple(given)
    own_only = bool(upstreams) and not any(regions[code].code in load_catalogue() for code in upstreams)
    return tuple(code for code in upstreams if regions[code].inference) if own_only else SHIPPED_DEFAULT_ORDER


def rules_of(written: Written, regions: Mapping[str, Region], order: tuple[str, ...]) -> Rules:
    """Return the operator's rules."""
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
    require_known(policy.allowed_regions, regions, field=f"{field}.allowed_regions")
    return frozenset(policy.allowed_regions) or None, frozenset(policy.allowed_countries) or None


def require_serving_order(rules: Rules, regions: Mapping[str, Region], upstreams: Mapping[str, Upstream]) -> None:
    """Refuse an order of which no region could ever serve."""
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


def callers_of(
    written: Written,
    regions: Mapping[str, Region],
    upstreams: Mapping[str, Upstream],
    rules: Rules,
    environ: Mapping[str, str],
) -> tuple[CallerKey, ...]:
    """Return the configured callers, each with the operator's rules as narrowed for it."""
    found: list[CallerKey] = []
    for name, caller in written.settings.callers.items():
        require_code(name, table="callers")
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
