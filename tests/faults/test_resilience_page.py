"""docs/resilience.md names every limit with its default, and every outcome. The wall itself holds its table."""

from __future__ import annotations

import re
from dataclasses import fields

from faults.page import PAGE, committed
from vetted_mw.configuration import Limits
from vetted_mw.routing.values import AttemptOutcome

LIMIT_ROW = re.compile(r"^\| `(\w+)` \| ([0-9.]+)[^|]*\|", re.MULTILINE)


def test_every_limit_stands_on_the_page_with_its_default() -> None:
    """No limit is left out, none is invented, and none has another default than the page says."""
    told = {name: float(value) for name, value in LIMIT_ROW.findall(PAGE.read_text(encoding="utf-8"))}
    assert told == {field.name: float(getattr(Limits(), field.name)) for field in fields(Limits)}


def test_every_outcome_a_fault_can_have_is_met_by_the_wall() -> None:
    """Each word for an upstream's fault stands in the table; those that are none are tested elsewhere."""
    told = {word for word in AttemptOutcome if f"`{word.value}`" in committed(PAGE.read_text(encoding="utf-8"))}
    not_theirs = {AttemptOutcome.NOT_ADMITTED, AttemptOutcome.CLIENT_DISCONNECT, AttemptOutcome.SHUTTING_DOWN}
    assert set(AttemptOutcome) - told == not_theirs
