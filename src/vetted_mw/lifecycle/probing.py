"""The GET of the probes, over the same pools as the requests."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from vetted_mw.fleet.probes import Fetched
from vetted_mw.proxy.outcome import AttemptFailedError
from vetted_mw.proxy.patience import Patience
from vetted_mw.proxy.transport import UpstreamRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vetted_mw.configuration import Upstream
    from vetted_mw.proxy.transport import Transport

__all__ = ["ProbeGet"]

_PROBE_SECONDS = 5.0
_MAX_PROBE_BYTES = 1_048_576


class ProbeGet:
    """GET one path of one upstream, as `fleet.probes.Fetch` wants it.

    The round trip is the connect's where one was made, since that is one trip and no more; else the time to the head.
    Both are a little long while the event loop is busy.

    Args:
        transports: code -> door of its upstream.
    """

    def __init__(self, transports: Mapping[str, Transport]) -> None:
        self._transports = transports

    async def __call__(self, upstream: Upstream, path: str, *, from_origin: bool) -> Fetched | None:
        """Return what it answered; None when it could not be reached."""
        headers = [(b"accept", b"*/*"), (b"accept-encoding", b"identity")]
        if upstream.api_key is not None:
            headers.append((b"authorization", b"Bearer " + upstream.api_key.reveal().encode("ascii")))
        connects: list[float] = []
        request = UpstreamRequest(
            method="GET", path=path, headers=headers, from_origin=from_origin, on_connected=connects.append
        )
        try:
            async with Patience(_PROBE_SECONDS):
                return await self._get(upstream, request, connects)
        except (TimeoutError, AttemptFailedError):
            return None

    async def _get(self, upstream: Upstream, request: UpstreamRequest, connects: list[float]) -> Fetched:
        started = time.monotonic()
        response = await self._transports[upstream.region].send(request)
        round_trip = connects[0] if connects else time.monotonic() - started
        try:
            body = bytearray()
            while data := await response.read():
                body += data
                if len(body) > _MAX_PROBE_BYTES:
                    body.clear()
                    break
            return Fetched(status=response.status, body=bytes(body), round_trip_seconds=round_trip)
        finally:
            await response.aclose()
