"""JSON that two readers could take differently is refused by ours."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vetted_mw.receipts.exact_json import NotExactJsonError, read_json


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"\xff",
        b"\xef\xbb\xbf{}",
        b'{"a":1,"a":2}',
        b'{"a":{"b":1,"\\u0062":1}}',
        b"[NaN]",
        b"[Infinity]",
        b"[-Infinity]",
        b"[1e999]",
        b"[" + b"9" * 5000 + b"]",
        b"[" * 200_000,
        b'{"a":1}{"b":2}',
        b"{'a':1}",
        b'"\x00"',
    ],
    ids=range(15),
)
def test_what_readers_could_differ_on_is_refused(text: bytes) -> None:
    """A name twice, what is no number, nesting beyond reason, anything after the value: no exception but ours."""
    with pytest.raises(NotExactJsonError) as caught:
        read_json(text)
    assert str(caught.value) == ""


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_any_other_json_is_read_as_everybody_reads_it(value: Any) -> None:
    """Strictness takes nothing away from sound documents."""
    assert read_json(json.dumps(value, ensure_ascii=False).encode()) == value
    assert read_json(json.dumps(value, indent=1).encode()) == value
