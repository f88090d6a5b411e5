"""`scripts/chaos` in small: two real llama.cpp servers under load, one killed, one paused, one restarted."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from soak.disturbances import Disturbance, Pace
from soak.judged import told_of
from soak.llama_log import FIRST_NUMBER, Computed, computed
from soak.questions import ALIASES, PARIS, STOCKHOLM, Question
from soak.talk import Answer
from soak.witness import Witness

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.real, pytest.mark.anyio]

NUMBER = FIRST_NUMBER + 7
LOG = f"""
srv          init: initializing ...
slot launch_slot_: id  1 | task -1 | sampler params:
	mirostat = 0, mirostat_lr = 0.100, mirostat_ent = {NUMBER}.000, adaptive_target = -1.000
slot launch_slot_: id  1 | task 0 | processing task, is_child = 0
slot print_timing: id  1 | task 0 | prompt eval time =       2.22 ms /    19 tokens (    0.12 ms per token)
slot print_timing: id  1 | task 0 |        eval time =       0.88 ms /     8 tokens (    0.13 ms per token)
srv          init: initializing ...
	mirostat = 0, mirostat_lr = 0.100, mirostat_ent = {NUMBER + 1}.000, adaptive_target = -1.000
slot launch_slot_: id  0 | task 0 | processing task, is_child = 0
""".splitlines()


async def test_no_answer_is_truncated_and_no_pin_leaks_while_a_server_is_killed_paused_and_restarted(
    tiny_model: Path, tmp_path: Path
) -> None:
    """Every answer is the whole known text of the server that its trace names, a 503, or openly broken; logs agree."""
    assert tiny_model.exists()
    from soak.chaos import broken

    steps = [(PARIS, Disturbance.KILL), (STOCKHOLM, Disturbance.PAUSE), (PARIS, Disturbance.RESTART)]
    pace = Pace(down=2, paused=5, rest=2.5)
    limits = {"first_byte_seconds": 2.0, "idle_seconds": 2.0, "answer_seconds": 3.0}
    found = await broken(tmp_path, minutes=None, concurrency=8, seed=1, pace=pace, steps=steps, limits=limits)
    assert found.witness.wrongs == Counter(), found.table()
    assert sorted(found.done) == sorted(steps)
    assert all(totals.whole > 0 for totals in found.totals.values()), found.table()
    refused = {policy for policy, ending in found.witness.endings if ending.startswith("503")}
    assert refused >= {"pinned to Paris", "pinned to Stockholm"}, found.table()


def test_a_servers_log_tells_request_by_request_what_it_began_and_what_it_ended() -> None:
    """The number comes from the sampling parameters; a server begun anew counts its tasks from zero again."""
    found = computed(LOG)
    assert found == Computed(started=Counter({NUMBER: 1, NUMBER + 1: 1}), tokens={NUMBER: [8]})


TEXT = "the wind and the sun " * 12


def answered(*, text: str, region: str = PARIS, model: str = ALIASES[PARIS]) -> Answer:
    trace = f'{{"region":"{region}","attempts":[{{"region":"{region}","outcome":"success"}}]}}'
    tokens = len(text.split())
    receipt = f'{{"region":"{region}","completion_status":"complete","completion_tokens":{tokens}}}'
    choice = f'{{"message":{{"content":"{text}"}},"finish_reason":"length"}}'
    body = f'{{"model":"{model}","choices":[{choice}],"receipt":{receipt},"routing_trace":{trace}}}'
    return Answer(status=200, headers={"x-vetted-region": region}, body=body.encode())


PINNED = Question(number=NUMBER, kind=0, policy="pinned to Paris", vetted={"region": PARIS}, stream=False)


@pytest.mark.parametrize(
    "answer",
    [
        answered(text=TEXT.removesuffix("sun ")),
        answered(text=TEXT, model=ALIASES[STOCKHOLM]),
        answered(text=TEXT, region=STOCKHOLM, model=ALIASES[STOCKHOLM]),
        Answer(
            status=500,
            headers={},
            body=b'{"error":{"code":"internal_error"},"routing_trace":{"region":null,"attempts":[]}}',
        ),
        Answer(status=429, headers={}, body=b'{"error":{"code":"full"},"routing_trace":{"region":null,"attempts":[]}}'),
    ],
    ids=["truncated", "another server's text", "another region", "a fault of ours", "a pin's failure not told as 503"],
)
def test_a_broken_promise_is_found_in_the_answer(answer: Answer) -> None:
    """Each of these is told; the whole text of the pinned region's own server is not."""
    witness = Witness({0: TEXT})
    witness.see(PINNED, answered(text=TEXT), seconds=0.1)
    assert witness.wrongs == Counter()
    witness.see(PINNED, answer, seconds=0.1)
    assert witness.wrongs


def test_a_trace_is_held_against_the_servers_own_logs() -> None:
    """A completion the trace hides, one it makes up, and one the log has not ended are all found."""
    tokens = len(told_of(answered(text=TEXT)).text.split())
    good = Computed(started=Counter({NUMBER: 1}), tokens={NUMBER: [tokens]})
    for paris, stockholm, is_wrong in (
        (good, Computed(), False),
        (good, good, True),
        (Computed(), Computed(), True),
        (Computed(started=Counter({NUMBER: 1})), Computed(), True),
    ):
        witness = Witness({0: TEXT})
        witness.see(PINNED, answered(text=TEXT), seconds=0.1)
        witness.compare({PARIS: paris, STOCKHOLM: stockholm})
        assert bool(witness.wrongs) is is_wrong
