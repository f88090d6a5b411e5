"""Which transport goes to an upstream, by the setting `transport`."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from vetted_mw.proxy.transport import HttpxTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vetted_mw.configuration import Upstream
    from vetted_mw.proxy.transport import Transport

__all__ = ["DOORS", "own_door"]


def own_door(upstream: Upstream) -> Transport:
    """Return our own client's door to `upstream`. Behind an egress proxy it is httpx's: ours knows no proxies."""
    if upstream.proxy:
        return HttpxTransport(upstream)
    from vetted_mw.proxy.own.transport import OwnTransport  # noqa: PLC0415 (needed by those who chose it)

    return OwnTransport(upstream)


DOORS: Mapping[str, Callable[[Upstream], Transport]] = MappingProxyType({"own": own_door, "httpx": HttpxTransport})
"""The setting's word -> what makes the door to one upstream."""
