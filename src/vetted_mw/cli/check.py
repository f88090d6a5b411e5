"""`vetted-mw check`: would these settings start, and if not, which key is at fault."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vetted_mw.errors import ConfigurationError
from vetted_mw.settings import forbid_open_host, load_configuration, require_upstream

if TYPE_CHECKING:
    import argparse

    from vetted_mw.configuration import Configuration

__all__ = ["check"]


def check(arguments: argparse.Namespace) -> int:
    """Print what the settings amount to, or the key at fault and its remedy (exit code 1)."""
    try:
        configuration = load_configuration(arguments.file or arguments.config)
        require_upstream(configuration)
        forbid_open_host(configuration.server.host, callers=bool(configuration.callers), is_open=arguments.open)
    except ConfigurationError as error:
        told = {"ok": False, "field": error.field, "message": str(error), "remedy": error.remedy}
        print(msgspec.json.encode(told).decode() if arguments.json else f"not usable: {error}")
        return 1
    if arguments.json:
        print(msgspec.json.encode(_told(configuration)).decode())
    else:
        print(_readable(configuration))
    return 0


def _told(configuration: Configuration) -> dict[str, object]:
    return {
        "ok": True,
        "file": configuration.source,
        "upstreams": list(configuration.upstreams),
        "default_order": list(configuration.rules.default_order),
        "callers": [caller.name for caller in configuration.callers],
    }


def _readable(configuration: Configuration) -> str:
    callers = ", ".join(caller.name for caller in configuration.callers)
    return "\n".join(
        [
            f"ok: {configuration.source or 'settings from the environment'}",
            f"upstreams      {', '.join(configuration.upstreams)}",
            f"default order  {', '.join(configuration.rules.default_order)}",
            f"callers        {callers or 'none: whoever reaches the gateway may use it'}",
        ]
    )
