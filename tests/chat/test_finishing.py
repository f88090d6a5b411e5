"""Which choices of a stream have ended: those of one stream are no other's."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vetted_mw.chat.finishing import Finishing


def test_streams_of_one_choice_share_nothing_that_changes() -> None:
    """What nearly every stream has is one value for all of them; a second choice of one is not the other's."""
    one, other = Finishing(1), Finishing(1)
    one.seen(0, None)
    other.seen(0, None)
    one.seen(1, None)
    assert (one.unfinished, other.unfinished) == ({0, 1}, {0})
    one.seen(0, "stop")
    third = Finishing(1)
    third.seen(0, None)
    assert (one.unfinished, other.unfinished, third.unfinished) == ({1}, {0}, {0})


@given(seen=st.lists(st.tuples(st.integers(0, 4), st.sampled_from([None, "", "stop", "length"]))))
def test_a_choice_is_unfinished_until_its_first_reason(seen: list[tuple[int, str | None]]) -> None:
    """Whatever comes in whatever order: seen without a reason, and never with one; the last reason counts."""
    finishing = Finishing(1)
    for index, reason in seen:
        finishing.seen(index, reason)
    reasons = {index: reason for index, reason in seen if reason}
    assert finishing.reasons == reasons
    assert finishing.unfinished == {index for index, _reason in seen} - reasons.keys()
    assert finishing.first == min((index for index, _reason in seen), default=0)
