"""Which client carries a region's requests, by the settings, and that it is the one in use everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from streams.wall import FIRST, SECOND, payload, told
from support import configured
from vetted_mw import Gateway, VettedProxy
from vetted_mw.configuration import DEFAULT_TRANSPORT, Upstream
from vetted_mw.proxy.doors import DOORS
from vetted_mw.proxy.own.transport import OwnTransport
from vetted_mw.proxy.transport import HttpxTransport
from vetted_mw.settings.schema import VettedSettings
from vetted_mw.testing import FakeUpstream, asgi_exchange

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vetted_mw.proxy.transport import Transport

pytestmark = pytest.mark.anyio

NOWHERE = "http://127.0.0.1:9/v1"
KINDS = {"own": OwnTransport, "httpx": HttpxTransport}


def kinds_of(gateway: Gateway) -> dict[str, type]:
    """The doors of a gateway that is open, by region."""
    core = gateway._core
    assert core is not None
    return {code: type(door) for code, door in core.transports.items()}


def test_every_word_of_the_setting_has_a_door() -> None:
    """What may be written is what there is, the default included."""
    assert set(DOORS) == set(VettedSettings.model_fields["transport"].annotation.__args__)  # type: ignore[union-attr]
    assert VettedSettings.model_fields["transport"].default == DEFAULT_TRANSPORT
    assert DEFAULT_TRANSPORT in DOORS


@pytest.mark.parametrize("word", sorted(KINDS))
async def test_the_setting_chooses_the_client(word: str) -> None:
    """For requests, and whatever else goes to an upstream: a request is answered over it."""
    async with FakeUpstream(text="one") as one, Gateway(configured({FIRST: one.base_url}, transport=word)) as gateway:
        assert kinds_of(gateway) == {FIRST: KINDS[word]}
        assert told(await asgi_exchange(VettedProxy(gateway), json=payload())).text == "one"


@pytest.mark.parametrize("word", sorted(KINDS))
async def test_a_region_behind_an_egress_proxy_goes_by_httpx(word: str) -> None:
    """Our own client knows no proxies, and must never pass one by."""
    proxied: Mapping[str, Any] = {"base_url": NOWHERE, "proxy": "http://127.0.0.1:9"}
    async with Gateway(configured({FIRST: proxied, SECOND: NOWHERE}, transport=word)) as gateway:
        assert kinds_of(gateway) == {FIRST: HttpxTransport, SECOND: KINDS[word]}


async def test_what_an_application_passes_is_taken_whatever_the_setting_says() -> None:
    """`Gateway(transport=)` is a user's own door."""
    made: list[str] = []

    def door(upstream: Upstream) -> Transport:
        made.append(upstream.region)
        return HttpxTransport(upstream)

    async with Gateway(configured({FIRST: NOWHERE}, transport="own"), transport=door) as gateway:
        assert kinds_of(gateway) == {FIRST: HttpxTransport}
    assert made == [FIRST]


async def test_a_reload_changes_the_client_of_upstreams_that_stay() -> None:
    """The door is another one even where nothing else of the region has changed."""
    async with (
        FakeUpstream(text="one") as one,
        Gateway(configured({FIRST: one.base_url}, transport="httpx")) as gateway,
    ):
        await gateway.reload(configured({FIRST: one.base_url}, transport="own"))
        assert kinds_of(gateway) == {FIRST: OwnTransport}
        assert told(await asgi_exchange(VettedProxy(gateway), json=payload())).text == "one"
        kept = gateway._core
        await gateway.reload(configured({FIRST: one.base_url, SECOND: NOWHERE}, transport="own"))
        assert kept is not None
        assert gateway._core is not None
        assert gateway._core.transports[FIRST] is kept.transports[FIRST]
