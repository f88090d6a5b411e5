"""A thousand and more recorded exchanges, through httpx and through our own client: what comes of them is the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from differential.differences import OTHERWISE, STRICTER, is_stricter, same
from differential.framing import FRAMING
from differential.generated import CHANGED, GOOD
from differential.heads import HEADS
from differential.playing import played
from differential.recorded import RECORDED
from differential.through_gateway import answers, fits
from differential.upstream import well
from streams.wall import FIRST, SECOND

if TYPE_CHECKING:
    from collections.abc import Iterable

    from differential.playing import Outcome, Played

ALL = (*RECORDED, *FRAMING, *HEADS, *GOOD, *CHANGED)
KINDS = {"recorded": RECORDED, "framing": FRAMING, "heads": HEADS, "good": GOOD, "changed": CHANGED}
TAKEN = {name for names in OTHERWISE.values() for name in names}
NAMED = TAKEN | {name for names in STRICTER.values() for name in names}
SAMPLE = tuple(
    one
    for kind, step in ((RECORDED, 9), (FRAMING, 3), (HEADS, 3), (GOOD, 12), (CHANGED, 12))
    for one in [one for one in kind if fits(one) and one.name not in TAKEN][::step]
)
OWN = [("own", "asyncio"), ("own", "uvloop")]

each_own = pytest.mark.parametrize(("client", "loop"), OWN)
each_play = pytest.mark.parametrize(("client", "loop"), [("httpx", "asyncio"), *OWN])
each_kind = pytest.mark.parametrize("kind", KINDS)


def _played(client: str, loop: str) -> Played:
    return played(ALL, client, loop)


def _pairs(names: Iterable[str], client: str, loop: str) -> dict[str, tuple[Outcome, Outcome]]:
    theirs, ours = _played("httpx", "asyncio").outcomes, _played(client, loop).outcomes
    return {name: (theirs[name], ours[name]) for name in names}


def _told(name: str, pair: tuple[object, object]) -> str:
    theirs, ours = pair
    return f"{name}\n    httpx {theirs}\n    ours  {ours}"


def test_there_are_more_than_a_thousand_and_each_has_a_name_of_its_own() -> None:
    """One that stood twice would count twice, and a difference that is named must be of one of them."""
    assert len({one.name for one in ALL}) == len(ALL) > 1_000
    assert {one.name for one in ALL} >= NAMED


@each_own
@each_kind
def test_both_clients_get_the_same(kind: str, client: str, loop: str) -> None:
    """Status, headers, body, failure, and whether the connection serves again; where they differ, it is a named one.

    An answer with a byte changed has no name: there ours may be the stricter one.
    """
    pairs = _pairs((one.name for one in KINDS[kind] if one.name not in NAMED), client, loop)
    may_be_stricter = kind == "changed"
    differing = [
        _told(name, pair)
        for name, pair in pairs.items()
        if not same(*pair) and not (may_be_stricter and is_stricter(*pair))
    ]
    assert not differing, "\n".join(differing)


@each_own
@pytest.mark.parametrize("reason", STRICTER)
def test_where_ours_is_stricter_it_refuses_as_a_cut_and_nothing_else(reason: str, client: str, loop: str) -> None:
    """Each named difference is one, in the safe direction, and the next request is answered over another connection."""
    pairs = _pairs(STRICTER[reason], client, loop)
    wrong = [_told(name, pair) for name, pair in pairs.items() if same(*pair) or not is_stricter(*pair)]
    assert not wrong, "\n".join(wrong)


@each_own
@pytest.mark.parametrize("reason", OTHERWISE)
def test_where_ours_gets_more_the_answer_is_a_whole_one_and_its_own(reason: str, client: str, loop: str) -> None:
    """Each named difference is one, and both requests have what the upstream said to them."""
    for name, (theirs, ours) in _pairs(OTHERWISE[reason], client, loop).items():
        assert not same(theirs, ours), name
        assert (ours.got.fault, ours.got.status, ours.then.fault) == (None, 200, None), name


@each_play
def test_nothing_of_an_exchange_is_taken_for_the_next_answer(client: str, loop: str) -> None:
    """Whatever came first, the second request has the answer that was given to it, or none."""
    wrong = {
        name: outcome.then
        for name, outcome in _played(client, loop).outcomes.items()
        if outcome.then.fault is None and not well(name, outcome.requests[-1]).endswith(b"\r\n\r\n" + outcome.then.body)
    }
    assert wrong == {}


@each_play
def test_each_request_is_sent_once_and_on_a_fresh_connection_only_after_a_stale_one(client: str, loop: str) -> None:
    """The upstream sees two requests: none is sent again once an upstream may have begun on it."""
    wrong = {
        name: outcome.requests
        for name, outcome in _played(client, loop).outcomes.items()
        if len(outcome.requests) != 2 and outcome.got.fault != ("tls_error", False, None)
    }
    assert wrong == {}


@each_play
def test_nothing_is_left(client: str, loop: str) -> None:
    """No task, no connection, and no word to the event loop's exception handler."""
    run = _played(client, loop)
    assert (run.tasks, run.open_connections, run.complaints) == ((), 0, ())


@each_play
def test_every_exchange_has_an_end(client: str, loop: str) -> None:
    """No framing, however odd, keeps a client waiting once the upstream has closed."""
    outcomes = _played(client, loop).outcomes
    assert [name for name, outcome in outcomes.items() if outcome.got.fault == ("has no end", True, None)] == []


def test_a_caller_of_the_gateway_is_told_the_same() -> None:
    """Answer, errors and the trace's attempts, of one exchange in several; where ours is stricter, the next region's."""
    theirs, ours = answers(SAMPLE, "httpx"), answers(SAMPLE, "own")
    may_be_stricter = NAMED | {one.name for one in CHANGED}
    differing = [
        _told(one.name, (theirs[one.name], ours[one.name]))
        for one in SAMPLE
        if ours[one.name] != theirs[one.name]
        and not (
            one.name in may_be_stricter
            and ours[one.name].attempts[0][:2] == (FIRST, "upstream_cut")
            and ours[one.name].attempts[1:] in ([(SECOND, "success", 200)], [])
        )
    ]
    assert not differing, "\n".join(differing)
    assert all(answered.rests for answered in (*theirs.values(), *ours.values()))
    assert len(SAMPLE) > 150
