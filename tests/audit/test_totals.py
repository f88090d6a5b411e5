"""Receipts are added up as their errors demand, by boundary, and each request counts once."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.counting import counted, quarter
from vetted_mw.audit.report.sums import Group, Key, Quality, Sums
from vetted_mw.audit.report.totals import Adder, totals

FIGURES = ("energy_wh", "gco2e", "ml_water")
SIGMAS = {"energy_wh": "sigma_energy", "gco2e": "sigma_gco2e", "ml_water": "sigma_water"}


def _scaled(number: int, scale: float, sigma: float, model: str, day: int, status: str) -> dict[str, Any]:
    figures = {
        f"{name}{end}": scale * factor
        for name in FIGURES
        for end, factor in (("", 1), ("_ci90_lo", 0.5), ("_ci90_hi", 3))
    }
    return counted(
        number,
        **figures,
        **dict.fromkeys(SIGMAS.values(), sigma),
        model=model,
        issued_at=f"2026-08-0{day}T00:00:00.000Z",
        completion_status=status,
    )


amounts = st.floats(min_value=1e-6, max_value=1e3)
rows = st.lists(
    st.builds(
        _scaled,
        st.integers(1, 10**9),
        amounts,
        st.floats(0, 2),
        st.sampled_from(["a", "b", "=c"]),
        st.integers(1, 9),
        st.sampled_from(["complete", "client_abort", "abandoned"]),
    ),
    max_size=12,
)


@given(rows)
def test_bounds_are_added_to_bounds_and_means_to_means(receipts: list[dict[str, Any]]) -> None:
    """A sum's interval is that of fully correlated errors, and its mean counts every receipt's own spread."""
    whole = totals(receipts).of("comprehensive")
    for name in FIGURES:
        summed = getattr(whole, name)
        assert math.isclose(summed.value, sum(row[name] for row in receipts), rel_tol=1e-9)
        assert math.isclose(summed.low, sum(row[f"{name}_ci90_lo"] for row in receipts), rel_tol=1e-9)
        assert math.isclose(summed.high, sum(row[f"{name}_ci90_hi"] for row in receipts), rel_tol=1e-9)
        means = (row[name] * math.exp(row[SIGMAS[name]] ** 2 / 2) for row in receipts)
        assert math.isclose(summed.expected, sum(means), rel_tol=1e-9)


@given(rows, st.sampled_from([(Group.MODEL,), (Group.DAY, Group.COMPLETION), (Group.REGION, Group.MODEL, Group.DAY)]))
def test_groups_add_up_to_the_whole(receipts: list[dict[str, Any]], groups: tuple[Group, ...]) -> None:
    """However receipts are grouped, the groups add up to what all of them do."""
    found = totals(receipts)
    added = Sums()
    for sums in found.by("comprehensive", *groups).values():
        added.merge(sums)
    whole = found.of("comprehensive")
    assert (added.calls, added.requests, added.prompt_tokens) == (whole.calls, whole.requests, whole.prompt_tokens)
    assert math.isclose(added.gco2e.high, whole.gco2e.high, rel_tol=1e-9)


@given(rows, st.randoms())
def test_order_does_not_matter(receipts: list[dict[str, Any]], chance: Any) -> None:
    """The same receipts in another order add up to the same."""
    shuffled = list(receipts)
    chance.shuffle(shuffled)
    one, other = totals(receipts).of("comprehensive"), totals(shuffled).of("comprehensive")
    assert math.isclose(one.gco2e.value, other.gco2e.value, rel_tol=1e-9)
    assert one.calls == other.calls


def test_what_is_kept_grows_with_groups_only() -> None:
    """A thousand receipts of one group are kept as one sum."""
    found = totals(counted(number) for number in range(1, 1001))
    assert len(found.cells) == 1
    assert found.of("comprehensive").calls == 1000


def test_boundaries_are_never_added() -> None:
    """Receipts of two boundaries give two totals, the one with more calls first."""
    narrow = [counted(number, boundary="narrow") for number in (1, 2)]
    found = totals([*narrow, counted(3)])
    assert found.boundaries == ["narrow", "comprehensive"]
    assert [found.of(one).calls for one in found.boundaries] == [2, 1]


def test_a_sum_of_parts_is_not_added_to_its_parts() -> None:
    """A receipt of several calls counts one request, and its parts alone count energy."""
    whole = counted(1, calls=2, energy_wh=3.0)
    parts = [counted(number, request_id=whole["query_id"], energy_wh=1.5) for number in (2, 3)]
    found = totals([whole, *parts])
    sums = found.of("comprehensive")
    assert (sums.requests, sums.calls, sums.energy_wh.value, found.sums_left_out) == (1, 2, 3.0, 1)
    assert found.receipts == 3


def test_each_request_counts_once() -> None:
    """Attempts of a request count no request of their own, unless no answer's receipt is there to count it."""
    answered = [counted(1), counted(2, request_id=counted(1)["query_id"], completion_status="abandoned")]
    failed = [counted(number, request_id="gone", completion_status="abandoned") for number in (3, 4)]
    sums = totals([*answered, *failed]).of("comprehensive")
    assert (sums.requests, sums.calls) == (2, 4)


def test_a_request_whose_receipt_was_not_read_is_not_counted() -> None:
    """A group that has no receipt gets no request either."""
    adder = Adder()
    adder.count_request(Key("comprehensive", "2026-08-01", "m", "r", "abandoned"))
    assert dict(adder.totals.cells) == {}


def test_live_and_annual_figures_have_their_shares() -> None:
    """Shares are by receipts and by energy, the larger first."""
    live = counted(1, grid_temporal_match="fresh", energy_wh=1.0)
    annual = [counted(number, grid_temporal_match="annual_fallback", energy_wh=2.0) for number in (2, 3)]
    found = totals([live, *annual])
    shares = found.share("comprehensive", Quality.GRID)
    assert {word: (one.calls, one.energy_wh) for word, one in shares.items()} == {
        "annual_fallback": (2, 4.0),
        "fresh": (1, 1.0),
    }
    assert list(shares) == ["annual_fallback", "fresh"]
    sums = found.of("comprehensive")
    assert (sums.live_calls, sums.live_wh) == (1, 1.0)


def test_only_what_can_be_compared_is_compared() -> None:
    """The comparison holds the receipts that have both figures, and names the regions they were compared with."""
    both = counted(1, gco2e=1.0, default_region="fr", default_region_gco2e=0.6)
    alone = counted(2, gco2e=5.0, default_region=None, default_region_gco2e=None)
    found = totals([both, alone])
    sums = found.of("comprehensive")
    assert (sums.compared, sums.compared_gco2e, sums.default_gco2e) == (1, 1.0, 0.6)
    assert dict(found.default_regions) == {"fr": 1}


def test_grid_intensity_is_weighted_by_energy() -> None:
    """The intensity of a group is that of its energy; where none was used there is none."""
    low = counted(1, energy_wh=3.0, grid_intensity_gco2_per_kwh=20.0)
    high = counted(2, energy_wh=1.0, grid_intensity_gco2_per_kwh=60.0)
    assert totals([low, high]).of("comprehensive").grid_gco2_per_kwh == pytest.approx(30.0)
    assert Sums().grid_gco2_per_kwh is None


def test_rows_that_were_not_read_show() -> None:
    """The rows of each ledger are told from first to last, and how many of those between were not among them."""
    found = totals(counted(seq, ledger_id="one", seq=seq) for seq in (3, 9, 4))
    span = found.ledgers["one"]
    assert (span.first, span.last, span.rows, span.absent) == (3, 9, 3, 4)


def test_nothing_adds_up_to_nothing() -> None:
    """Without receipts there are no boundaries and no days."""
    found = totals([])
    assert (found.boundaries, found.days, found.receipts) == ([], None, 0)


def test_signed_and_unsigned_are_told_apart() -> None:
    """Each receipt counts as signed or as unsigned, with its method and software."""
    found = totals([counted(1)], signed=False)
    assert (found.signed, found.unsigned) == (0, 1)
    assert list(found.software) == ["vetted-mw/0.1.0"]


@pytest.mark.parametrize("fault", [{"gco2e": -1.0}, {"sigma_energy": 99.0}, {"calls": 0}, {"issued_at": "yesterday"}])
def test_what_no_receipt_says_is_refused(fault: dict[str, Any]) -> None:
    """A figure that cannot be is never added to those that can."""
    with pytest.raises(msgspec.ValidationError):
        totals([counted(1, **fault)])


def test_a_quarter_has_its_days() -> None:
    """First and last day are those of the receipts."""
    assert totals(quarter()).days == ("2026-08-01", "2026-10-31")
