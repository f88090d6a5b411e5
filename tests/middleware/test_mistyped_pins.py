"""A pin under a mistyped name is refused and never becomes no pin."""

from __future__ import annotations

from typing import Any

import pytest

from support import HELLO, proxied
from vetted_mw.testing import FakeUpstream, asgi_exchange

pytestmark = pytest.mark.anyio

PIN = {"region": "scaleway-par-1"}


@pytest.mark.parametrize(
    "members",
    [
        {"Vetted": PIN},
        {"VETTED": PIN},
        {"vetted ": PIN},
        {" vetted": PIN},
        {"veted": PIN},
        {"vettted": PIN},
        {"vetted_": PIN},
        {"extra_body": {"vetted": PIN}},
    ],
    ids=str,
)
async def test_options_under_another_name_are_refused(members: dict[str, Any]) -> None:
    """The message says how the member is written; nothing is sent."""
    async with FakeUpstream() as paris, proxied({"scaleway-par-1": paris.base_url}) as app:
        exchange = await asgi_exchange(app, json={"model": "m", "messages": HELLO} | members)
    error = exchange.json()["error"]
    assert (exchange.status, error["code"], error["param"]) == (400, "invalid_option", "vetted")
    assert paris.requests == []


@pytest.mark.parametrize(
    "header", ["x_vetted_region", "x-vetted_region", "x-vetted", "x-vettedregion", "vetted-region", "x-vetted-regions"]
)
async def test_a_header_meant_to_be_ours_is_refused(header: str) -> None:
    """Underscores, a cut or a longer name: 400, and nothing is sent."""
    async with FakeUpstream() as paris, proxied({"scaleway-par-1": paris.base_url}) as app:
        exchange = await asgi_exchange(
            app, json={"model": "m", "messages": HELLO}, headers=[(header, "scaleway-par-1")]
        )
    assert (exchange.status, exchange.json()["error"]["code"]) == (400, "invalid_option")
    assert paris.requests == []


@pytest.mark.parametrize("members", [{"extra_body": {"top_k": 1}}, {"velvet": 1}, {"extra_body": 3}], ids=str)
async def test_members_that_are_merely_unknown_pass(members: dict[str, Any]) -> None:
    """What upstreams alone understand is theirs."""
    async with FakeUpstream() as paris, proxied({"scaleway-par-1": paris.base_url}) as app:
        exchange = await asgi_exchange(app, json={"model": "m", "messages": HELLO} | members)
    assert exchange.status == 200
    assert members.items() <= paris.requests[0].json().items()
