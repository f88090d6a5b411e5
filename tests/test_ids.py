"""Ids are random UUIDs, as every reader of receipts expects them, and no two processes draw the same."""

from __future__ import annotations

import multiprocessing
import os
import uuid
from concurrent.futures import ProcessPoolExecutor

import pytest

from vetted_mw.ids import new_id


def drawn(count: int) -> list[str]:
    return [new_id() for _ in range(count)]


def test_an_id_is_a_uuid_of_version_4_as_it_is_written() -> None:
    """Version, variant and form are those of `uuid.uuid4`, for every id."""
    for one in drawn(2000):
        read = uuid.UUID(one)
        assert (str(read), read.version, read.variant) == (one, 4, uuid.RFC_4122)


def test_every_digit_that_may_differ_does() -> None:
    """No digit is fixed but the version's, and the variant's has its four values: nothing of the randomness is lost."""
    seen = [set(column) for column in zip(*drawn(2000), strict=True)]
    assert [len(digits) for digits in seen] == [
        1 if place in {8, 13, 14, 18, 23} else 4 if place == 19 else 16 for place in range(36)
    ]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_draws_ids_of_its_own() -> None:
    """Workers that are forked after ids were drawn have no stock in common."""
    mine = drawn(100)
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
        theirs = [one for ids in pool.map(drawn, [100, 100]) for one in ids]
    assert len({*mine, *theirs}) == 300
