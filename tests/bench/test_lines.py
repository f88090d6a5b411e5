"""The table: ratios that may be told, lines that may not be counted, targets."""

from __future__ import annotations

from dataclasses import replace

import pytest

import bench.run
from bench import apart, lines
from bench.contest import Figure, fault_of, figure_of, us_each
from bench.ratios import Target, head, line
from bench.rounds import Percentiles, Round, Seen, Workload

JSON = Workload(connections=2)
PACED = Workload(chunks=10, pace_ms=100, connections=2, seconds=0)
TARGET = Target(nginx=(5.0, 3.5), vllm_router=(0.95, 1.4), litellm=(100, 150))


def times(microseconds: float) -> Percentiles:
    return Percentiles(p50=microseconds, p99=microseconds, max=microseconds)


SEEN = Seen(
    requests=100,
    errors=0,
    error="",
    chunks=0,
    lost=0,
    open=2,
    latency=times(500),
    first=times(400),
    one_way=None,
    lag=None,
    seconds=2.0,
)
STREAMED = {"requests": 2, "chunks": 20, "one_way": times(300), "lag": times(2_000)}


def seen(**different: object) -> Round:
    fields = {name: getattr(SEEN, name) for name in SEEN.__struct_fields__}
    return Round(seen=Seen(**{**fields, **different}), cpu_seconds=0.02, grown_bytes=0)


def streamed(**different: object) -> Round:
    return seen(**{**STREAMED, **different})


def figures(**values: float) -> dict[str, Figure]:
    names = {"vllm": "vllm-router"}
    return {names.get(name, name): Figure(value=value) for name, value in values.items()}


def last_words(told: str) -> str:
    return told.splitlines()[0].rsplit("  ", 1)[-1]


def test_a_sound_round_may_be_counted() -> None:
    assert fault_of(JSON, seen()) is None
    assert fault_of(PACED, streamed()) is None


@pytest.mark.parametrize(
    ("workload", "one", "why"),
    [
        (JSON, seen(errors=3, error="a status that is not 200"), "3 errors: a status that is not 200"),
        (PACED, streamed(lost=1), "1 chunks out of place"),
        (PACED, streamed(chunks=19), "19 chunks of 20"),
        (replace(JSON, rate=100, seconds=2.0), seen(), "50.0 of 100 requests/s"),
        (PACED, streamed(lag=times(90_000)), "pace: streams +10% long"),
        (PACED, streamed(lag=times(-450_000)), "pace: streams -50% long"),
        (PACED, streamed(one_way=times(30_000)), "pace: chunks 30 ms late"),
        (PACED, streamed(open=1), "only 1 open at once"),
    ],
)
def test_a_round_that_is_not_sound_says_why(workload: Workload, one: Round, why: str) -> None:
    assert fault_of(workload, one) == why


def test_one_unsound_round_leaves_no_figure() -> None:
    figure = figure_of(JSON, [seen(), seen(errors=1, error="it closed")], us_each)

    assert figure.value is None
    assert figure.why == "invalid (1 errors: it closed)"


def test_a_figure_is_the_median_of_its_rounds() -> None:
    rounds = [replace(seen(), cpu_seconds=spent) for spent in (0.01, 0.02, 0.5)]

    assert figure_of(JSON, rounds, us_each).value == pytest.approx(200)


def test_a_handful_of_requests_is_no_figure() -> None:
    assert figure_of(JSON, [seen(requests=5), seen(requests=6)], us_each).why == "invalid (only 11 requests)"


def test_the_cost_of_streams_is_told_by_the_chunk() -> None:
    assert us_each(streamed()) == pytest.approx(1_000)
    assert us_each(seen()) == pytest.approx(200)


def test_ratios_stand_under_their_headings() -> None:
    told = line("JSON", figures(ours=100.0, nginx=40.0, vllm=150.0, LiteLLM=20_000.0), TARGET)

    places = {heading: head().index(heading) + len(heading) for heading in ("ours/nginx", "vllm/ours", "LiteLLM/ours")}
    ratios = {heading: told[:end].split()[-1] for heading, end in places.items()}
    assert ratios == {"ours/nginx": "2.50", "vllm/ours": "1.50", "LiteLLM/ours": "200"}


@pytest.mark.parametrize(
    ("ours", "verdict"),
    [(100.0, "met, and the goals"), (180.0, "met"), (201.0, "MISSED n L"), (300.0, "MISSED n v L")],
)
def test_a_target_is_met_with_its_goal_met_or_missed_by_name(ours: float, verdict: str) -> None:
    told = line("JSON", figures(ours=ours, nginx=40.0, vllm=195.0, LiteLLM=20_000.0), TARGET)

    assert last_words(told) == verdict


def test_what_is_absent_has_no_ratio_and_no_verdict() -> None:
    there = figures(ours=100.0, nginx=40.0)
    told = line("JSON", {**there, "vllm-router": Figure(why="absent"), "LiteLLM": Figure(why="absent")}, TARGET)

    assert told.count("absent") == 2
    assert last_words(told) == "met, but not told: v L"


def test_an_invalid_figure_says_why_below_and_makes_no_ratio() -> None:
    told = line("JSON", {"ours": Figure(why="invalid (3 errors: x)"), **figures(nginx=40.0)}, Target(nginx=(5.0,)))

    first, second = told.splitlines()
    assert second == "    ours: invalid (3 errors: x)"
    assert "40.0" in first
    assert last_words(told) == "not told"


def test_a_bound_of_ours_alone_may_be_nought() -> None:
    assert last_words(line("errors", figures(ours=0.0), Target(most=0))) == "met"
    assert last_words(line("errors", figures(ours=1.0), Target(most=0))) == "MISSED"


def test_a_line_that_is_not_there_is_told_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever mistypes a name gets the names, and no table without lines."""
    monkeypatch.setattr("sys.argv", ["bench", "--only", "JSON 1 KB", "--only", "jsno"])

    with pytest.raises(SystemExit, match="'jsno'") as told:
        bench.run.main()

    assert all(f"\n  {name}" in str(told.value) for name in (*lines.names(), *apart.names()))
