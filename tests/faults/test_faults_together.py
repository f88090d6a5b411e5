"""Faults that meet: an upstream that fails by turns, and every fault at once on one gateway."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from faults.course import Reading
from faults.due import said, says_that_it_failed
from faults.fault import Fault
from faults.leaping import run_leaping
from faults.playing import said_by
from faults.policies import REGIONS, Policy
from faults.refusals import SOON
from faults.site import WELL, Site
from faults.stage import FAULTS, gateway_over
from streams.wall import LIMIT, Told, busy_connections, resting, told
from vetted_mw import VettedProxy
from vetted_mw.testing import ManualClock

if TYPE_CHECKING:
    from collections.abc import Mapping

PARIS = Policy.DEFAULT.value.order[0]
STOCKHOLM, ICELAND = Policy.CARBON_AWARE.value.faulty
BY_TURNS = [fault for fault in FAULTS if fault.name in {"500", "reset before headers", "closed in the middle"}]
AT_ONCE = [fault for fault in FAULTS if fault.bare is None and not fault.refusing]
MET_BY = (Policy.DEFAULT, Policy.PINNED, Policy.CARBON_AWARE)
TURNS = 12
AT_A_TIME = 60
"""So many that they meet, and so few that no limit passes because this process is busy."""


@pytest.mark.parametrize("fault", BY_TURNS, ids=str)
def test_whoever_asks_a_flapping_region_gets_a_whole_answer_or_an_error(fault: Fault) -> None:
    """Turn by turn, under every policy at once: no part for the whole, no leak, traces as logs; and it comes back."""
    run_leaping(_flapping(fault))


async def _flapping(fault: Fault) -> None:
    clock = ManualClock()
    async with Site(REGIONS, faulty=[PARIS], plays={WELL: _plays(fault)}) as site:
        gateway, spans = gateway_over(site, fault, monotonic=clock.monotonic)
        async with gateway, asyncio.timeout(100 * LIMIT):
            app = VettedProxy(gateway)
            for turn in range(TURNS):
                site.faulty = {PARIS} if turn % 2 == 0 else set()
                await asyncio.gather(
                    *(
                        _ask(app, site, WELL, policy, stream=stream, name=f"{turn}-{policy}-{stream}")
                        for policy in MET_BY
                        for stream in (False, True)
                    )
                )
                assert (gateway.fleet.in_flight, busy_connections(gateway)) == (0, [])
                clock.tick(3.0)
            site.faulty = set()
            await _until_paris_serves(app, site, clock)
        assert spans.open == 0
        assert set(site.contacted) <= set(Policy.CARBON_AWARE.value.order)


async def _until_paris_serves(app: Any, site: Site, clock: ManualClock) -> None:
    """Once it is well, the breaker's own wait is all that keeps it from serving."""
    for turn in range(100):
        answer = await _ask(app, site, WELL, Policy.DEFAULT, stream=False, name=f"after-{turn}")
        assert answer.complete
        if answer.attempts == [(PARIS, "success", 200)]:
            return
        clock.tick(10.0)
    raise AssertionError("the region did not come back")


def test_every_fault_at_once_on_one_gateway_touches_no_other_request() -> None:
    """All models at the same time, JSON and streams, under every policy: each answer keeps its word by itself."""
    run_leaping(_all_at_once())


async def _all_at_once() -> None:
    timed = ("answer_seconds", "first_byte_seconds", "idle_seconds", "finish_hold_seconds")
    limits = {**dict.fromkeys(timed, SOON), "max_response_bytes": 4 * 1024 * 1024}
    everything = Fault(name="everything", limits=limits)
    plays = {fault.model: _plays(fault) for fault in AT_ONCE}
    async with Site(REGIONS, faulty=[PARIS, STOCKHOLM, ICELAND], plays=plays) as site:
        gateway, spans = gateway_over(site, everything)
        async with gateway, asyncio.timeout(100 * LIMIT):
            app = VettedProxy(gateway)
            turns = asyncio.Semaphore(AT_A_TIME)

            async def ask(*asked: Any, **members: Any) -> None:
                async with turns:
                    await _ask(app, site, *asked, **members)

            await asyncio.gather(
                *(
                    ask(fault.model, policy, stream=stream, name=f"{fault}-{policy}-{stream}", **fault.asks)
                    for fault in AT_ONCE
                    for policy in MET_BY
                    for stream in plays[fault.model]
                )
            )
            assert await resting(gateway)
        assert spans.open == 0
        assert set(site.contacted) <= set(Policy.CARBON_AWARE.value.order)


def _plays(fault: Fault) -> Mapping[bool, Any]:
    return {stream: due.play for stream in (False, True) if (due := fault.due(stream=stream)) is not None}


async def _ask(app: Any, site: Site, model: str, policy: Policy, *, stream: bool, name: str, **members: Any) -> Told:
    body = {"model": model, "messages": [], "vetted": dict(policy.value.vetted), "stream": stream, **members}
    answer = told(await Reading(app, body, site=site, request_id=name).exchange())
    _keeps_its_word(answer, site, policy, name, choices=members.get("n", 1))
    return answer


def _keeps_its_word(answer: Told, site: Site, policy: Policy, request_id: str, *, choices: int) -> None:
    tried = [region for region, outcome, _status in answer.attempts if outcome != "not_admitted"]
    assert tried == list(dict.fromkeys(one.region for one in site.of(request_id)))
    assert [region for region, *_ in answer.attempts] == list(dict.fromkeys(region for region, *_ in answer.attempts))
    assert set(tried) <= set(policy.value.order)
    if answer.complete:
        assert said(answer) == dict.fromkeys(range(choices), said_by(answer.trace["region"]))
    else:
        assert says_that_it_failed(answer)
