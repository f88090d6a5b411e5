"""How a requested name finds a model's size, and when it rightly does not."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vetted_mw.receipts.models import ModelSize, normalised, shipped_sizes, size_for, unknown_size
from vetted_mw.receipts.shipped import version_files

TABLE = tomllib.loads(version_files()["models.toml"].decode())
NAMES = [row["name"] for row in TABLE["model"]]


@pytest.mark.parametrize(
    ("asked", "active", "total", "bytes_per_param"),
    [
        ("llama-3.1-8b", 8.03, 8.03, 2),
        ("meta-llama/Llama-3.1-8B-Instruct", 8.03, 8.03, 2),
        ("meta-llama/Meta-Llama-3.1-8B-Instruct", 8.03, 8.03, 2),
        ("llama-3.3-70b-instruct", 70.6, 70.6, 2),
        ("mistralai/Mistral-7B-Instruct-v0.3", 7.25, 7.25, 2),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", 12.9, 46.7, 2),
        ("Mistral-Nemo-Instruct-2407", 12.2, 12.2, 2),
        ("mistral-small-3.2-24b-instruct-2506", 24, 24, 2),
        ("mistral-medium-3", 128, 128, 1),
        ("Qwen/Qwen3-235B-A22B-Instruct-2507", 22, 235, 2),
        ("google/gemma-2-9b-it", 9.24, 9.24, 2),
        ("openai/gpt-oss-120b", 5.1, 116.8, 0.5),
        ("deepseek-ai/DeepSeek-V3-0324", 37, 671, 1),
        ("deepseek-r1-0528", 37, 671, 1),
    ],
)
def test_a_name_as_servers_write_it_finds_its_model(
    asked: str, active: float, total: float, bytes_per_param: float
) -> None:
    """Organisation, case, tuning words and dates do not hide which model it is."""
    size = size_for(asked, {})
    assert size is not None
    assert (size.active_params_b, size.total_params_b, size.bytes_per_param) == (active, total, bytes_per_param)
    assert (size.size_range, size.batch_size) == (None, None)
    assert size.source


@pytest.mark.parametrize(
    "asked",
    [
        "deepseek-ai/DeepSeek-V2",
        "deepseek-ai/DeepSeek-V2.5",
        "deepseek-ai/DeepSeek-R1-Distill-Llama-70B",
        "deepseek",
        "phi-4-mini-instruct",
        "llama-3.1",
        "llama-3.1-8b-instruct-awq-int4",
        "qwen3-32b-a3b",
        "gpt-4o",
        "",
        "/",
        "-instruct",
    ],
)
def test_a_name_that_is_another_model_finds_none(asked: str) -> None:
    """A version, a distillation or a quantisation is another model: its size is unknown, never a sibling's."""
    assert size_for(asked, {}) is None


@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_name_finds_its_own_row(name: str) -> None:
    """No two rows of the table share what names are reduced to."""
    row = next(row for row in TABLE["model"] if row["name"] == name)
    size = size_for(name, {})
    assert size is not None
    assert (size.active_params_b, size.total_params_b) == (row["active_params_b"], row["total_params_b"])
    assert 0 < size.active_params_b <= size.total_params_b
    assert size.bytes_per_param in {0.5, 1, 2}
    assert len(shipped_sizes()) == len(NAMES)


@given(name=st.text(max_size=60))
@settings(deadline=None, max_examples=150)
def test_reducing_a_name_twice_changes_nothing_more(name: str) -> None:
    """A reduced name is reduced: any text a caller sends has one reduced form."""
    assert normalised(normalised(name)) == normalised(name)


def test_the_operators_word_wins_under_the_exact_requested_name_only() -> None:
    """The operator's size is used for the very name it was configured under; other spellings take the table's."""
    own = ModelSize(active_params_b=1, total_params_b=2, bytes_per_param=0.5)
    configured = {"mistral-medium-3": own, "house-model": own}
    assert size_for("mistral-medium-3", configured) is own
    assert size_for("house-model", configured) is own
    assert size_for("org/Mistral-Medium-3", configured) == size_for("mistral-medium-3", {})


def test_an_unknown_size_is_the_geometric_middle_of_a_dense_range() -> None:
    """What stands for an unknown model is dense, in the middle of a range on a ratio scale, and carries the range."""
    size = unknown_size()
    assert size.size_range is not None
    low, high = size.size_range
    assert size.active_params_b == size.total_params_b
    assert size.active_params_b / low == pytest.approx(high / size.active_params_b)
    assert low <= 1.23  # the smallest and the largest of the shipped table lie inside
    assert high >= max(row["total_params_b"] for row in TABLE["model"])
