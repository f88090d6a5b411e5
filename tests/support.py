"""What tests of several rooms share: a configuration in a line, and an app on a real socket."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any

from vetted_mw import Gateway, VettedProxy, load_configuration
from vetted_mw.demo.stage import running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from starlette.types import ASGIApp

    from vetted_mw.configuration import Configuration
    from vetted_mw.grid.source import SignalSource

MODEL = "demo-8b"
HELLO: list[dict[str, str]] = [{"role": "user", "content": "Hello there"}]


def configured(upstreams: Mapping[str, str | Mapping[str, Any]], **overrides: Any) -> Configuration:
    """Return a configuration of regions by base URL (or by a region table); probes are off unless asked for."""
    regions: dict[str, dict[str, Any]] = {}
    for code, upstream in upstreams.items():
        table = {"base_url": upstream} if isinstance(upstream, str) else dict(upstream)
        regions[code] = {"health_path": ""} | table
    default_order = overrides.pop("default_order", list(upstreams))
    extra = overrides.pop("regions", {})
    return load_configuration(
        environ={}, overrides={"default_order": default_order, "regions": regions | extra} | overrides
    )


@contextlib.asynccontextmanager
async def proxied(
    upstreams: Mapping[str, str | Mapping[str, Any]],
    *,
    signals: Sequence[SignalSource] = (),
    options: Mapping[str, Any] | None = None,
    **overrides: Any,
) -> AsyncIterator[VettedProxy]:
    """Open the stand-alone gateway over `upstreams`; `options` go to `Gateway`, the rest are settings."""
    async with Gateway(configured(upstreams, **overrides), signals=signals, **(options or {})) as gateway:
        yield VettedProxy(gateway)


@contextlib.contextmanager
def served(app: ASGIApp, *, lifespan: str = "on") -> Iterator[str]:
    """Serve `app` by uvicorn in a thread on a real loopback socket; yields its origin, `http://127.0.0.1:PORT`."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(2048)
        with running(app, [listener], lifespan=lifespan):
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def unused_port() -> int:
    """Return a loopback port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
