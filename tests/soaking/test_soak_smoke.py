"""A soak in small: the same code as `scripts/soak`, long enough to show what is not given back, not how memory goes."""

from __future__ import annotations

from collections import Counter

import pytest

from soak.callers import Callers, Tally
from soak.judged import judge
from soak.plan import REGIONS, Abort, Plan, plan_of, words_of
from soak.report import Memory, Report, held
from soak.run import soaked
from soak.talk import Answer
from vetted_mw.proxy.doors import DOORS

pytestmark = pytest.mark.anyio

REST = {
    "requests": 0,
    "former": 0,
    "leases": 0,
    "slots": 0,
    "idle": 0,
    "tasks": {"probe": 3},
    "spans": 0,
    "descriptors": 20,
    "threads": {"MainThread": 1},
}


@pytest.mark.parametrize("transport", DOORS)
async def test_callers_who_leave_and_upstreams_that_break_leave_nothing_held_and_no_promise_broken(
    transport: str,
) -> None:
    """300 requests, a third of them aborted: every gauge is back at zero, every answer whole or honestly broken."""
    report = await soaked(
        requests=300, abort_share=0.3, concurrency=16, seed=3, reload_seconds=0.3, transport=transport
    )
    assert report.tally.requests == 300
    assert report.tally.wrongs == {}, report.table()
    assert report.leaks == [], report.table()
    assert set(report.tally.aborts) == set(Abort)
    assert report.tally.endings["200 JSON, whole"] > 50
    assert report.tally.endings["200 stream, whole"] > 50
    assert report.tally.requests == sum(report.tally.endings.values()) + sum(
        count for when, count in report.tally.aborts.items() if when != Abort.END
    )


def test_the_same_seed_gives_the_same_requests() -> None:
    """Request and abort are made from seed and number alone, so that a failing run can be repeated."""
    assert [plan_of(5, number, abort_share=0.3) for number in range(50)] == [
        plan_of(5, number, abort_share=0.3) for number in range(50)
    ]
    assert plan_of(5, 1, abort_share=0.3) != plan_of(6, 1, abort_share=0.3)


@pytest.mark.parametrize(
    ("gauge", "value", "name"),
    [
        ("requests", 1, "requests"),
        ("former", 1, "former configurations"),
        ("leases", 1, "leases"),
        ("slots", 1, "upstream connections in use"),
        ("tasks", {"probe": 3, "watch": 2}, "tasks"),
        ("spans", 4, "spans"),
        ("descriptors", 23, "descriptors"),
        ("threads", {"MainThread": 1, "more": 1}, "threads"),
    ],
)
def test_whatever_is_not_given_back_is_a_leak(gauge: str, value: object, name: str) -> None:
    """Each gauge that stays above where it began is named, and nothing else."""
    report = Report(tally=Tally(), held=held(REST | {gauge: value}, REST), memory=[], seconds=1, title="")
    assert report.leaks == [name]


def test_an_idle_upstream_connection_is_no_leak() -> None:
    """A connection kept for the next request has a descriptor, on purpose."""
    assert not any(held(REST | {"idle": 7, "descriptors": 27}, REST).values())


def test_growing_memory_is_told() -> None:
    """One leaked object a request, or 200 bytes, is not flat; what an allocator keeps is."""

    def grows(*, objects: int, rss: int) -> bool:
        memory = [
            Memory(requests=10_000, rss=80_000_000, objects=70_000),
            Memory(requests=100_000, rss=80_000_000 + rss, objects=70_000 + objects),
        ]
        return Report(tally=Tally(), held={}, memory=memory, seconds=1, title="").grows

    assert grows(objects=90_000, rss=0)
    assert grows(objects=0, rss=18_000_000)
    assert not grows(objects=500, rss=1_000_000)


def whole_answer(plan: Plan, region: str, text: str) -> Answer:
    trace = f'{{"region":"{region}","attempts":[{{"region":"{region}","outcome":"success"}}]}}'
    receipt = f'{{"region":"{region}","completion_status":"complete"}}'
    choice = f'{{"message":{{"content":"{text}"}},"finish_reason":"stop"}}'
    body = f'{{"choices":[{choice}],"receipt":{receipt},"routing_trace":{trace}}}'
    return Answer(status=200, headers={"x-vetted-region": region}, body=body.encode())


def plans(**vetted: str) -> Plan:
    return next(plan for n in range(999) if (plan := plan_of(1, n, abort_share=0)).vetted == vetted)


def test_a_truncated_answer_and_one_from_another_region_are_broken_promises() -> None:
    """The judge finds them: a text without its last word, a pin answered elsewhere, another request's text."""
    plan = plans(region=REGIONS[0])
    words = words_of(plan.number, REGIONS[0])
    assert judge(plan, whole_answer(plan, REGIONS[0], "".join(words))).wrongs == []
    assert judge(plan, whole_answer(plan, REGIONS[0], "".join(words[:-1]))).wrongs
    elsewhere = "".join(words_of(plan.number, REGIONS[1]))
    assert "sent where it may not go" in judge(plan, whole_answer(plan, REGIONS[1], elsewhere)).wrongs
    other = "".join(words_of(plan.number + 1, REGIONS[0]))
    assert judge(plan, whole_answer(plan, REGIONS[0], other)).wrongs


def test_a_stream_without_done_is_a_broken_promise() -> None:
    """An end that is neither `[DONE]` nor an error frame is found."""
    plan = plans(region=REGIONS[0])
    whole = whole_answer(plan, REGIONS[0], "".join(words_of(plan.number, REGIONS[0])))
    event = b"data: " + whole.body.replace(b'"message"', b'"delta"') + b"\n\n"
    headers = whole.headers | {"content-type": "text/event-stream"}
    assert judge(plan, Answer(status=200, headers=headers, body=event + b"data: [DONE]\n\n")).wrongs == []
    assert judge(plan, Answer(status=200, headers=headers, body=event)).wrongs == [
        "ends without error and without [DONE]"
    ]


def test_a_trace_that_differs_from_what_the_regions_saw_is_a_broken_promise() -> None:
    """Each region's own record of requests is held against the traces; a pinned request elsewhere is found without one."""
    callers = Callers(1, seed=1, abort_share=0.0, concurrency=1)
    pinned = plans(region=REGIONS[0]).number
    callers.tally.sent[pinned] = (REGIONS[0],)
    callers.compare({REGIONS[0]: {str(pinned): 1}})
    assert callers.tally.wrongs == Counter()
    callers.compare({REGIONS[0]: {}})
    assert callers.tally.wrongs.total() == 1
    callers.tally.sent.clear()
    callers.compare({REGIONS[1]: {str(pinned): 1}})
    assert callers.tally.wrongs.total() == 2
