"""`vetted-mw check`: would these settings start, and if not, which key is at fault."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vetted_mw.errors import ConfigurationError
from vetted_mw.settings import load_configuration, require_upstream

if TYPE_CHECKING:
    import argparse

__all__ = ["check"]


def check(arguments: argparse.Namespace) -> int:
    """Print what the settings amount to, or the key at fault and its remedy (exit code 1)."""
    try:
        configuration = load_configuration(arguments.file)
        require_upstream(configuration)
    except ConfigurationError as error:
        told = {"ok": False, "field": error.field, "message": str(error), "remedy": error.remedy}
        print(msgspec.json.encode(told).decode() if arguments.json else f"not usable: {error}")
        return 1
    told = {
        "ok": True,
        "file": configuration.source,
        "upstreams": list(configuration.upstreams),
        "default_order": list(configuration.rules.default_order),
        "callers": [caller.name for caller in configuration.callers],
    }
    if arguments.json:
        print(msgspec.json.encode(told).decode())
    else:
        print(f"ok: {configuration.source or 'settings from the environment'}")
        print(f"regions with an upstream: {', '.join(configuration.upstreams)}")
        print(f"default order: {', '.join(configuration.rules.default_order)}")
        print(f"callers: {', '.join(caller.name for caller in configuration.callers) or 'none (loopback only)'}")
    return 0
