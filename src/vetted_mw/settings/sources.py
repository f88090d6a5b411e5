"""The configured signal sources: each with its address, key, limits; a key never travels in the clear."""

from __future__ import annotations

from ipaddress import ip_address
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from vetted_mw.errors import ConfigurationError
from vetted_mw.grid.services import SERVICES, least_refresh_seconds
from vetted_mw.grid.signal import parse_method
from vetted_mw.secret import Secret
from vetted_mw.settings import texts
from vetted_mw.settings.places import beside
from vetted_mw.settings.secrets import resolved
from vetted_mw.signal_configuration import FileSource, JsonReading, JsonSource, ServiceSource, SignalConfiguration

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from vetted_mw.settings.reading import Written
    from vetted_mw.settings.signal_schema import JsonReadingSettings, ServiceSettings

__all__ = ["signals_of"]

_JSON_REFRESH_SECONDS = 900.0
_LEAST_JSON_REFRESH_SECONDS = 1.0
_DEFAULT = "default"


def signals_of(written: Written, environ: Mapping[str, str]) -> SignalConfiguration:
    """Return where signals come from and what they must be to decide.

    Raises:
        ConfigurationError: a key is missing or would travel in the clear, a service would be asked more often than it
            allows, or a zone is none.
    """
    signals = written.settings.signals
    for name in ("chains", "min_total_mw", "expected_types"):
        _require_zones(getattr(signals, name), field=f"signals.{name}")
    _require_zones((zone for zone in signals.max_proxy_share if zone != _DEFAULT), field="signals.max_proxy_share")
    services = {name: source for name in SERVICES if (source := getattr(signals.sources, name)) is not None}
    return SignalConfiguration(
        chains=MappingProxyType({zone: tuple(names) for zone, names in signals.chains.items()}),
        file=_file(written),
        services=tuple(_service(name, source, written, environ) for name, source in services.items()),
        http_json=_http_json(written, environ),
        timeout_seconds=signals.timeout_seconds,
        proxy=signals.proxy,
        max_proxy_share=MappingProxyType(dict(signals.max_proxy_share)),
        min_total_mw=MappingProxyType(dict(signals.min_total_mw)),
        expected_types=MappingProxyType({zone: tuple(types) for zone, types in signals.expected_types.items()}),
    )


def _file(written: Written) -> FileSource | None:
    file = written.settings.signals.sources.file
    if file is None:
        return None
    return FileSource(path=beside(file.path, written.file), max_age_minutes=file.max_age_minutes)


def _service(name: str, settings: ServiceSettings, written: Written, environ: Mapping[str, str]) -> ServiceSource:
    service, field = SERVICES[name], f"signals.sources.{name}"
    base_urls = (settings.base_url or service.base_url, *getattr(settings, "backup_urls", ()))
    token = getattr(settings, "token", None)
    areas = getattr(settings, "areas", {})
    _require_zones(areas, field=f"{field}.areas")
    if token is not None:
        for number, url in enumerate(base_urls):
            _require_tls(url, written, field=f"{field}.{'backup_urls' if number else 'base_url'}")
    return ServiceSource(
        name=name,
        base_urls=base_urls,
        key=None if token is None else resolved(token, field=f"{field}.token", file=written.file, environ=environ),
        max_age_minutes=settings.max_age_minutes or service.max_age_minutes,
        refresh_seconds=_refresh_seconds(name, settings, base_urls, written.settings.signals.refresh_seconds),
        areas=MappingProxyType(dict(areas)),
        figure=getattr(settings, "figure", ""),
    )


def _refresh_seconds(
    name: str, settings: ServiceSettings, base_urls: tuple[str, ...], everywhere: float | None
) -> float:
    service = SERVICES[name]
    least = service.least_refresh_seconds if service.is_at(base_urls) else 0.0
    if settings.refresh_seconds is None:
        return service.refresh_seconds if everywhere is None else max(everywhere, least)
    if settings.refresh_seconds < least:
        raise ConfigurationError(
            "asks the service more often than it allows.",
            field=f"signals.sources.{name}.refresh_seconds",
            remedy=f"Write at least {least:g}; only a base_url of your own may be asked more often.",
        )
    return settings.refresh_seconds


def _http_json(written: Written, environ: Mapping[str, str]) -> JsonSource | None:
    signals = written.settings.signals
    source = signals.sources.http_json
    if source is None:
        return None
    _require_zones(source.zones, field="signals.sources.http_json.zones")
    least = max(_LEAST_JSON_REFRESH_SECONDS, least_refresh_seconds([one.url for one in source.zones.values()]))
    if source.refresh_seconds is not None and source.refresh_seconds < least:
        raise ConfigurationError(
            "asks a service that is known more often than it allows.",
            field="signals.sources.http_json.refresh_seconds",
            remedy=f"Write at least {least:g}; only addresses of your own may be asked more often.",
        )
    return JsonSource(
        readings=tuple(_reading(zone, one, written, environ) for zone, one in source.zones.items()),
        refresh_seconds=source.refresh_seconds or max(signals.refresh_seconds or _JSON_REFRESH_SECONDS, least),
    )


def _reading(zone: str, settings: JsonReadingSettings, written: Written, environ: Mapping[str, str]) -> JsonReading:
    field = f"signals.sources.http_json.zones.{zone}"
    key = None
    url = settings.url
    if settings.token is not None:
        _require_tls(url, written, field=f"{field}.url")
        key = resolved(settings.token, field=f"{field}.token", file=written.file, environ=environ)
        url = url.replace(texts.KEY_PLACE, quote(key.reveal(), safe=""))
    return JsonReading(
        zone=zone,
        area=settings.area or zone,
        url=Secret(url),
        value=settings.value,
        observed_at=settings.observed_at,
        estimated=settings.estimated,
        unit=settings.unit,
        method=parse_method(settings.method),
        max_age_minutes=settings.max_age_minutes,
        header=settings.header,
        key=key if settings.header else None,
    )


def _require_tls(url: str, written: Written, *, field: str) -> None:
    parts, proxy = urlsplit(url), written.settings.signals.proxy
    if parts.scheme == "https":
        return
    if not _is_loopback(parts.hostname or ""):
        raise ConfigurationError(
            "would send the key in the clear.", field=field, remedy="Write an https address; http only on loopback."
        )
    if proxy and not _is_loopback(urlsplit(proxy).hostname or ""):
        raise ConfigurationError(
            "would send the key in the clear: signals.proxy is not on this machine.",
            field=field,
            remedy="Write an https address, or take signals.proxy out.",
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _require_zones(names: Iterable[str], *, field: str) -> None:
    for name in names:
        try:
            texts.zone(name)
        except ValueError:
            raise ConfigurationError(
                "holds a name that is not a grid zone.", field=field, remedy="Write zones as FR, SE_3 or DE_LU."
            ) from None
        if name.lower() == _DEFAULT:
            raise ConfigurationError(
                "holds a default, which is no grid zone.",
                field=field,
                remedy="Write zones as FR, SE_3 or DE_LU; only max_proxy_share takes a default, in lower case.",
            )
