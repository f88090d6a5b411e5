"""The queue of an inference engine, read out of its Prometheus page: right where it is known, None where not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vetted_mw.fleet.engines import Engine, EngineLoad, read_engine_load

VLLM = b"""\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="mistral"} 7.0
# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="mistral"} 3.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="mistral",reason="capacity"} 99.0
vllm:kv_cache_usage_perc{engine="0",model_name="mistral"} 0.5
"""
SGLANG = b"""\
# HELP sglang:num_running_reqs The number of running requests.
# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{model_name="mistral",tp_rank="0"} 2.0
# HELP sglang:num_queue_reqs The number of requests in the waiting queue.
# TYPE sglang:num_queue_reqs gauge
sglang:num_queue_reqs{model_name="mistral",tp_rank="0"} 1.0
"""
LLAMA_CPP = b"""\
# HELP llamacpp:prompt_tokens_total Number of prompt tokens processed.
# TYPE llamacpp:prompt_tokens_total counter
llamacpp:prompt_tokens_total 136
# HELP llamacpp:requests_processing Number of requests processing.
# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing 2
# HELP llamacpp:requests_deferred Number of requests deferred.
# TYPE llamacpp:requests_deferred gauge
llamacpp:requests_deferred 3
"""
TGI = b"""\
# TYPE tgi_queue_size gauge
tgi_queue_size 5

# TYPE tgi_batch_current_size gauge
tgi_batch_current_size 4

# TYPE tgi_request_queue_duration histogram
tgi_request_queue_duration_bucket{le="1"} 3
"""


def load(engine: Engine, running: int, waiting: int) -> EngineLoad:
    return EngineLoad(engine=engine, running=running, waiting=waiting)


def vllm(*samples: bytes) -> EngineLoad | None:
    """Read a page whose queue has these samples, name left out."""
    lines = [b"vllm:num_requests_running 1", *(b"vllm:num_requests_waiting" + sample for sample in samples)]
    return read_engine_load(b"\n".join(lines) + b"\n")


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        (VLLM, load(Engine.VLLM, 7, 3)),
        (SGLANG, load(Engine.SGLANG, 2, 1)),
        (SGLANG.replace(b"sglang:", b"sglang_"), load(Engine.SGLANG, 2, 1)),
        (LLAMA_CPP, load(Engine.LLAMA_CPP, 2, 3)),
        (TGI, load(Engine.TGI, 4, 5)),
    ],
    ids=["vllm", "sglang", "sglang_", "llama.cpp", "tgi"],
)
@pytest.mark.parametrize("ends", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
def test_the_engines_that_are_known_are_read(page: bytes, expected: EngineLoad, ends: bytes) -> None:
    """What they compute and what waits, with either line end, and with no line end at all after the last."""
    assert read_engine_load(page.replace(b"\n", ends)) == expected
    assert read_engine_load(page.replace(b"\n", ends).rstrip()) == expected


def test_several_label_sets_are_summed() -> None:
    """Data-parallel engines and several models share one server."""
    page = VLLM + b'vllm:num_requests_waiting{engine="1"} 4\nvllm:num_requests_running{engine="1"} 1\n'
    assert read_engine_load(page) == load(Engine.VLLM, 8, 7)


@pytest.mark.parametrize(
    ("sample", "waiting"),
    [
        (b" 5", 5),
        (b"\t5\t", 5),
        (b"  5  1700000000000", 5),
        (b"{} 5", 5),
        (b'{a="b",} 5 1700000000', 5),
        (b'{a="}"} 5', 5),
        (b'{a="} 9"} 5', 5),
        (b'{a="\\" } 9",b="x y"} 5', 5),
        (b'{a="\\\\"} 5', 5),
        (b'{a="vllm:num_requests_waiting 9"} 5', 5),
        (b'{a="# 9"} 5 # {trace_id="x"} 1', 5),
        (b'{a="\xff\xfe"} 5', 5),
        (b' {a="b"} 5', 5),
        (b'{a="b"}5', 5),
        (b" +5", 5),
        (b" 5.", 5),
        (b" 5e0", 5),
        (b" 0.5E+1", 5),
        (b" 0", 0),
    ],
)
def test_every_way_to_write_a_sample_is_read(sample: bytes, waiting: int) -> None:
    """Labels that hold braces, quotes, blanks and the metric's own name; timestamps; every way to write a number."""
    assert vllm(sample) == load(Engine.VLLM, 1, waiting)


@pytest.mark.parametrize(
    "sample",
    [
        *(b" NaN", b" nan", b" +Inf", b" -Inf", b" inf", b" infinity", b" -1", b" 1e999", b" 1e300", b" 1_0", b" 0x10"),
        *(b"", b" ", b"5", b":5", b"_5 5", b"{ 5", b'{a="b 5', b'{a="b"', b'{a="b"} ', b"} 5", b" five", b" 5x"),
        *(b" " + b"9" * 100_000, b" .", b" -", b" +", b" e5", "\u0665".encode()),
    ],
    ids=lambda sample: repr(sample[:20]),
)
def test_what_is_no_count_is_passed_over(sample: bytes) -> None:
    """It neither counts nor spoils what stands beside it; alone there is no reading."""
    assert vllm(sample) is None
    assert vllm(sample, b" 4") == load(Engine.VLLM, 1, 4)
    assert vllm(b" 4", sample) == load(Engine.VLLM, 1, 4)


@pytest.mark.parametrize(
    "page",
    [
        b"",
        b"\n\n",
        b"ollama_requests 5\n",
        b"<html>vllm:num_requests_waiting 5</html>",
        b"# vllm:num_requests_running 1\n# vllm:num_requests_waiting 5\n",
        b"vllm:num_requests_waiting 5\n",
        b"vllm:num_requests_running 5\n",
        b"vllm:num_requests_running 5\ntgi_queue_size 5\n",
        b"x_vllm:num_requests_running 1\nx_vllm:num_requests_waiting 5\n",
        b'x{a="\\nvllm:num_requests_running 1"} 1\n',
    ],
)
def test_a_page_without_a_pair_that_is_known_is_none(page: bytes) -> None:
    """Half a pair, pairs of two engines, names inside other lines: no reading."""
    assert read_engine_load(page) is None


def test_blanks_before_a_name_are_allowed() -> None:
    """As the format says."""
    assert read_engine_load(b" \tvllm:num_requests_running 1\n  vllm:num_requests_waiting 2") == load(Engine.VLLM, 1, 2)


HOSTILE = {
    "a megabyte of other samples": b'vllm:e2e_request_latency_seconds_bucket{le="0.3",model_name="m"} 12.0\n' * 14_000,
    "the name all over one line": b"vllm:num_requests_waiting" * 40_000,
    "the name once per line": b"vllm:num_requests_waiting\n" * 40_000,
    "half open labels": b"vllm:num_requests_waiting{" * 40_000,
    "quotes without end": b'vllm:num_requests_waiting{a="' + b'\\"' * 500_000,
    "labels without end": b"vllm:num_requests_waiting{" + b'a="b",' * 160_000,
    "blanks": b"vllm:num_requests_waiting" + b" " * 1_000_000,
    "blanks before": b" " * 1_000_000 + b"vllm:num_requests_waiting 1",
    "digits": b"vllm:num_requests_waiting " + b"1" * 1_000_000,
    "half open labels per line": b'vllm:num_requests_waiting{a="\n' * 34_000,
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("page", HOSTILE.values(), ids=HOSTILE)
def test_a_megabyte_of_anything_takes_no_time_to_speak_of(page: bytes) -> None:
    """Twenty times over, within the guard that a quadratic reader would not come near to."""
    for _ in range(20):
        assert read_engine_load(page) is None
    assert read_engine_load(page + b"\n" + TGI) == load(Engine.TGI, 4, 5)


PIECES = st.sampled_from(
    [
        *(b"vllm:num_requests_running", b"vllm:num_requests_waiting", b"tgi_queue_size", b"tgi_batch_current_size"),
        *(b"{", b"}", b'"', b"\\", b"=", b",", b" ", b"\t", b"\r", b"\n", b"#", b"1", b"2.5", b"NaN", b"-", b"e"),
    ]
)


@settings(max_examples=300, deadline=None)
@given(page=st.lists(PIECES | st.binary(max_size=4), max_size=40).map(b"".join) | st.binary(max_size=200))
def test_no_page_breaks_the_reader(page: bytes) -> None:
    """Any bytes give counts that are not negative, or None."""
    found = read_engine_load(page)
    assert found is None or (found.running >= 0 and found.waiting >= 0)


LABEL = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).map(
    lambda text: text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").encode()
)


@settings(max_examples=200, deadline=None)
@given(samples=st.lists(st.tuples(LABEL, st.integers(0, 10_000)), min_size=1, max_size=6), stamp=st.booleans())
def test_every_well_formed_page_is_read_exactly(samples: list[tuple[bytes, int]], stamp: bool) -> None:
    """Whatever the labels hold, the sums are those that were written."""
    tail = b" 1700000000000" if stamp else b""
    lines = [
        b'%s{a="%s",b="}"} %d%s' % (name, label, count, tail)
        for name in (b"vllm:num_requests_running", b"vllm:num_requests_waiting")
        for label, count in samples
    ]
    total = sum(count for _label, count in samples)
    assert read_engine_load(b"\n".join(lines)) == load(Engine.VLLM, total, total)
