"""An upstream that fails and works by turns: each answer keeps its word, and the region is used again once it is well."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from faults.course import FAULTS, Reading, gateway_over
from faults.due import said, says_that_it_failed
from faults.playing import said_by
from faults.policies import REGIONS, Policy
from faults.site import WELL, Site
from streams.wall import LIMIT, Told, busy_connections, told
from vetted_mw import VettedProxy
from vetted_mw.testing import ManualClock

if TYPE_CHECKING:
    from faults.fault import Fault

pytestmark = pytest.mark.anyio

PARIS, PARIS_2, GRAVELINES = Policy.DEFAULT.value.order
BROKEN = [fault for fault in FAULTS if fault.name in {"500", "reset before headers", "closed in the middle"}]
ROUNDS, AT_ONCE = 12, 6


def _plays(fault: Fault) -> dict[str, dict[bool, Any]]:
    assert fault.json is not None
    assert fault.sse is not None
    return {WELL: {False: fault.json.play, True: fault.sse.play}}


@pytest.mark.parametrize("fault", BROKEN, ids=str)
async def test_whoever_asks_a_flapping_region_gets_a_whole_answer_or_an_error(fault: Fault) -> None:
    """Turn by turn, pinned, default and carbon-aware callers at once: no part for the whole, no leak, traces as logs."""
    clock = ManualClock()
    async with Site(REGIONS, faulty=[PARIS], plays=_plays(fault)) as site:
        gateway, spans = gateway_over(site, fault, Policy.DEFAULT, monotonic=clock.monotonic)
        async with gateway, asyncio.timeout(4 * LIMIT):
            app = VettedProxy(gateway)
            for turn in range(ROUNDS):
                site.faulty = {PARIS} if turn % 2 == 0 else set()
                answers = await asyncio.gather(*(_ask(app, site, turn, number) for number in range(AT_ONCE)))
                for number, answer in enumerate(answers):
                    _keeps_its_word(answer, site, _policy(number), f"{turn}-{number}")
                assert (gateway.fleet.in_flight, busy_connections(gateway)) == (0, [])
                clock.tick(3.0)
            site.faulty = set()
            await _until_paris_serves(app, site, clock)
        assert spans.open == 0
        assert set(site.contacted) <= set(Policy.CARBON_AWARE.value.order)


def _policy(number: int) -> Policy:
    return (Policy.DEFAULT, Policy.PINNED, Policy.CARBON_AWARE)[number // 2]


async def _ask(app: Any, site: Site, turn: int, number: int) -> Told:
    request_id = f"{turn}-{number}"
    body = {
        "model": WELL,
        "messages": [],
        "vetted": dict(_policy(number).value.vetted),
        "stream": number % 2 == 1,
    }
    return told(await Reading(app, body, site=site, request_id=request_id).exchange())


def _keeps_its_word(answer: Told, site: Site, policy: Policy, request_id: str) -> None:
    log = [(one.region, one.status) for one in site.of(request_id)]
    assert [(region, status) for region, outcome, status in answer.attempts if outcome != "not_admitted"] == log
    assert [region for region, *_ in answer.attempts] == list(dict.fromkeys(region for region, *_ in answer.attempts))
    assert {region for region, *_ in answer.attempts} <= set(policy.value.order)
    if answer.complete:
        assert set(said(answer).values()) == {said_by(answer.trace["region"])}
    else:
        assert says_that_it_failed(answer)
        assert answer.status in {200, 503}
        assert answer.status == 200 or policy is Policy.PINNED, "only a pin has nowhere else to go"


async def _until_paris_serves(app: Any, site: Site, clock: ManualClock) -> None:
    """Once it is well, the breaker's own wait is all that keeps it from serving."""
    for turn in range(1000, 1100):
        answer = await _ask(app, site, turn, 0)
        if answer.attempts == [(PARIS, "success", 200)]:
            return
        assert answer.complete
        clock.tick(10.0)
    raise AssertionError("the region did not come back")
