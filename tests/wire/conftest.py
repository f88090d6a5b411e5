"""One loop and one gateway for all rows of a table of requests that are refused."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from vetted_mw.testing import FakeUpstream
from wire.clients import PARIS, STOCKHOLM, at_the_wire, stopping

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Run a module's async tests on one asyncio loop, so that they can share a server."""
    return "asyncio"


@pytest.fixture(scope="module", autouse=True)
async def all_servers_stop() -> AsyncIterator[None]:
    """Wait for the servers a module has stopped, and for what they have to say."""
    yield
    await asyncio.gather(*stopping)
    stopping.clear()


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A gateway with a limit of 64 KiB on bodies, over an upstream that counts what got through.

    Attributes:
        client: speaks to the gateway.
        upstream: serves Paris and Stockholm.
    """

    client: httpx.AsyncClient
    upstream: FakeUpstream

    @property
    def url(self) -> str:
        """Where a stranger would connect."""
        return str(self.client.base_url)


@pytest.fixture(scope="module")
async def gate() -> AsyncIterator[Gate]:
    """Open one gateway for a module."""
    async with FakeUpstream() as upstream:
        regions = {PARIS: upstream.base_url, STOCKHOLM: upstream.base_url}
        async with at_the_wire(regions, limits={"max_body_bytes": 65_536}) as client:
            yield Gate(client=client, upstream=upstream)
