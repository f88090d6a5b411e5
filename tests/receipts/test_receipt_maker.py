"""What a receipt says when something is missing, unknown or wrong, and when there is none."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receipts.making import made, maker, observed, reading, region
from vetted_mw.receipts.coefficients import Coefficients, load_coefficients
from vetted_mw.receipts.figures import Figures, Inputs, Interval
from vetted_mw.receipts.models import ModelSize, unknown_size
from vetted_mw.receipts.parametric import ParametricModel
from vetted_mw.receipts.receipt import ReceiptError, ReceiptWithheldError
from vetted_mw.routing.options import Boundary, Tier
from vetted_mw.routing.regions import load_catalogue

FIGURES = ("energy_wh", "gco2e", "ml_water")
SIGMAS = ("sigma_energy", "sigma_gco2e", "sigma_water")


# ---- tokens that nobody counted


@pytest.mark.parametrize(
    ("characters", "tokens"), [((11, 41), (3, 11)), ((1, 1), (1, 1)), ((4, 8), (1, 2)), ((0, 5), (0, 2))]
)
def test_missing_usage_is_estimated_and_says_so(characters: tuple[int, int], tokens: tuple[int, int]) -> None:
    """Without usage a token is taken for four characters, text that is there is never none, and the tier is proxy."""
    receipt = made(
        prompt_tokens=None,
        completion_tokens=None,
        prompt_characters=characters[0],
        completion_characters=characters[1],
    )
    assert (receipt.tier, receipt.usage_source) == ("proxy", "estimated")
    assert (receipt.prompt_tokens, receipt.completion_tokens) == tokens
    assert receipt.cached_tokens == 0
    assert receipt.gco2e > 0


@given(prompt=st.integers(0, 10**6), completion=st.integers(0, 10**6))
@settings(deadline=None, max_examples=50)
def test_an_estimate_is_zero_for_no_text_only(prompt: int, completion: int) -> None:
    """Estimated counts are zero exactly where there was no text."""
    receipt = made(
        prompt_tokens=None, completion_tokens=None, prompt_characters=prompt, completion_characters=completion
    )
    assert (receipt.prompt_tokens > 0, receipt.completion_tokens > 0) == (prompt > 0, completion > 0)


def test_an_estimate_widens_the_interval_by_the_contracts_term() -> None:
    """On estimated tokens the model's own GSD of 1.41 gives way to 2.03."""
    counted = made(prompt_tokens=0, completion_tokens=100)
    estimated = made(prompt_tokens=None, completion_tokens=None, prompt_characters=0, completion_characters=400)
    assert estimated.energy_wh == counted.energy_wh
    for name in SIGMAS:
        grown = getattr(estimated, name) ** 2 - getattr(counted, name) ** 2
        assert grown == pytest.approx(math.log(2.03) ** 2 - math.log(1.41) ** 2, rel=1e-4)


@pytest.mark.parametrize("missing", ["prompt_tokens", "completion_tokens"])
def test_one_missing_count_makes_the_receipt_an_estimate(missing: str) -> None:
    """Half a count is no count: with either missing the receipt says its tokens are estimated."""
    receipt = made(**{missing: None}, prompt_characters=40, completion_characters=80)
    assert (receipt.tier, receipt.usage_source) == ("proxy", "estimated")
    assert receipt.prompt_tokens > 0
    assert receipt.completion_tokens > 0


def test_a_count_of_zero_for_text_that_is_there_is_no_count() -> None:
    """An upstream that counts no tokens for text it wrote is not believed: an estimate stands in, and says so."""
    receipt = made(prompt_tokens=0, completion_tokens=0, prompt_characters=8, completion_characters=400)
    assert (receipt.tier, receipt.usage_source) == ("proxy", "estimated")
    assert (receipt.prompt_tokens, receipt.completion_tokens) == (2, 100)


def test_an_empty_answer_that_was_counted_is_believed() -> None:
    """Zero completion tokens for an answer without text are the upstream's count, not a missing one."""
    receipt = made(prompt_tokens=24, completion_tokens=0, completion_characters=0)
    assert (receipt.tier, receipt.usage_source, receipt.completion_tokens) == ("parametric", "upstream", 0)


@pytest.mark.parametrize(
    "facts",
    [{"prompt_tokens": None, "completion_tokens": None}, {"completion_tokens": 0, "completion_characters": 7}],
)
def test_missing_usage_withholds_the_receipt_where_the_operator_says_so(facts: dict[str, Any]) -> None:
    """With `missing_usage = "null"` there is no receipt on tokens that nobody counted."""
    assert _withheld(maker(missing_usage="null"), **facts) is ReceiptError.USAGE_MISSING


def test_a_handlers_word_is_marked_as_such() -> None:
    """Counts that a handler reported are used as they are and marked `reported`."""
    receipt = made(reported=True, prompt_tokens=7, completion_tokens=9)
    assert (receipt.tier, receipt.usage_source) == ("parametric", "reported")
    assert (receipt.prompt_tokens, receipt.completion_tokens) == (7, 9)


def test_no_more_tokens_are_cached_than_the_prompt_has() -> None:
    """A cached count over the prompt's is cut to it, so that the receipt's own fields still give its figures."""
    receipt = made(prompt_tokens=10, cached_tokens=25, completion_tokens=0)
    assert (receipt.prompt_tokens, receipt.cached_tokens, receipt.energy_wh) == (10, 10, 0)


def test_cached_prompt_tokens_cost_no_reading() -> None:
    """A cached part of the prompt costs nothing, its rest what it would cost alone."""
    cached = made(prompt_tokens=1_000, cached_tokens=900, completion_tokens=0)
    assert cached.energy_wh == made(prompt_tokens=100, completion_tokens=0).energy_wh


# ---- models


def test_a_model_of_unknown_size_widens_the_interval() -> None:
    """An unknown model counts as the geometric middle of a range, with the range's own term in every sigma."""
    only_written = {"prompt_tokens": 0, "completion_tokens": 100}
    receipt = made(model="nobody-knows", **only_written)
    size = unknown_size()
    assert size.size_range is not None
    low, high = size.size_range
    assert receipt.params_active_b == receipt.params_total_b == pytest.approx(math.sqrt(low * high), rel=1e-5)
    assert receipt.tier == "parametric"
    term = math.log(high / low) / (2 * 1.645) * (0.1954 + 0.7359)
    known = made(**only_written)
    assert receipt.sigma_energy**2 - known.sigma_energy**2 == pytest.approx(term**2, rel=1e-4)
    for name in FIGURES:
        assert _width(receipt, name) > _width(known, name)


def test_an_unknown_model_gets_no_receipt_where_the_operator_says_so() -> None:
    """With `unknown_model = "null"` there is no receipt for a model of unknown size, and one for every other."""
    strict = maker(unknown_model="null")
    assert _withheld(strict, model="nobody-knows") is ReceiptError.UNKNOWN_MODEL
    assert strict.make(observed()).model == "mistral-medium-3"


def test_the_operators_size_wins_over_the_shipped_table() -> None:
    """What the operator says of a requested name is used, whatever the shipped table says of it."""
    own = ModelSize(active_params_b=8, total_params_b=40, bytes_per_param=0.5, batch_size=4)
    receipt = maker(sizes={"mistral-medium-3": own}).make(observed())
    told = (receipt.params_active_b, receipt.params_total_b, receipt.bytes_per_param, receipt.batch_size)
    assert told == (8, 40, 0.5, 4)


def test_the_receipt_names_both_the_requested_and_the_upstreams_model() -> None:
    """The requested name stands as it was sent, beside the name and id the upstream gave."""
    receipt = made(model="org/Mistral-Medium-3", upstream_model="mistral-medium-2508", upstream_response_id="c-9")
    assert (receipt.model, receipt.upstream_model) == ("org/Mistral-Medium-3", "mistral-medium-2508")
    assert receipt.upstream_response_id == "c-9"
    assert receipt.params_active_b == 128


# ---- tiers and boundary


@pytest.mark.parametrize("told", ["upstream_model", "upstream_response_id"])
def test_an_upstreams_endless_name_is_not_kept(told: str) -> None:
    """A receipt stays a receipt's size, whatever an upstream says."""
    longest = "n" * 1024
    assert getattr(made(**{told: longest}), told) == longest
    assert getattr(made(**{told: longest + "n"}), told) is None


@pytest.mark.parametrize("tier", [Tier.AUTO, Tier.PARAMETRIC])
def test_a_counted_request_gets_the_parametric_tier(tier: Tier) -> None:
    """Asked for automatically or by name, the tier of counted tokens is parametric."""
    receipt = made(tier=tier)
    assert (receipt.tier, receipt.energy_source) == ("parametric", "parametric")


def test_the_telemetry_tier_is_never_pretended() -> None:
    """No region measures energy here, so a request for the telemetry tier gets no receipt rather than another tier."""
    assert _withheld(maker(), tier=Tier.TELEMETRY) is ReceiptError.TIER_UNAVAILABLE


@pytest.mark.parametrize("boundary", list(Boundary))
def test_the_boundary_asked_for_is_the_boundary_told(boundary: Boundary) -> None:
    """The receipt names the boundary its figures stand at."""
    assert made(boundary=boundary).boundary == boundary.value


# ---- sites and hardware


@pytest.mark.parametrize(
    ("code", "facts", "quality"),
    [
        ("scaleway-par-1", {}, "published"),
        ("scaleway-par-2", {}, "published"),
        ("ovh-gra-1", {}, "assumed"),
        ("atnorth-isl-1", {}, "assumed"),
        ("scaleway-par-1", {"pue": 1.3}, "assumed"),
        ("scaleway-par-1", {"wue_l_per_kwh": 0.1}, "published"),
    ],
)
def test_only_a_pue_the_site_published_counts_as_published(code: str, facts: dict[str, float], quality: str) -> None:
    """A group average, an upper bound and the operator's own PUE are `assumed`, and assumed is wider."""
    receipt = made(region=region(code, **facts))
    assert receipt.pue_quality == quality
    spread = load_coefficients().spread
    as_published = msgspec.structs.replace(
        load_coefficients(), spread=msgspec.structs.replace(spread, pue_assumed=spread.pue_published)
    )
    narrower = maker(coefficients=as_published).make(observed(region=region(code, **facts)))
    assert (receipt.sigma_energy > narrower.sigma_energy) is (quality == "assumed")


def test_the_operators_overheads_replace_the_shipped_ones() -> None:
    """PUE, on-site water and grid water of the operator's region table are used and shown."""
    receipt = made(region=region(pue=1.31, wue_l_per_kwh=0.11, ewif_l_per_kwh=2.5))
    assert (receipt.pue, receipt.wue_l_per_kwh, receipt.ewif_l_per_kwh) == (1.31, 0.11, 2.5)


def test_a_site_nobody_knows_gets_the_unknown_site() -> None:
    """A region of the operator's own without figures rests on the unknown site and the world's grid water, assumed."""
    receipt = made(region=region(code="our-site-1", country="PT", zone="PT"))
    assert (receipt.pue, receipt.wue_l_per_kwh, receipt.ewif_l_per_kwh) == (1.56, 0.5, 3.908)
    assert receipt.pue_quality == "assumed"


@pytest.mark.parametrize(("hardware", "told"), [("H100", "H100"), ("unknown", "unknown"), ("B200", "unknown")])
def test_only_the_hardware_the_model_was_fitted_on_is_known(hardware: str, told: str) -> None:
    """H100 is what the fit knows; any other accelerator widens the interval and reads `unknown`."""
    receipt = made(region=region(hardware=hardware))
    assert receipt.hardware == told
    is_wider = receipt.sigma_energy > made(region=region(hardware="H100")).sigma_energy
    assert is_wider is (told == "unknown")


# ---- pedigree


@given(
    code=st.sampled_from(["scaleway-par-1", "ovh-gra-1", "atnorth-sto-1", "hetzner-hel-1"]),
    grid=st.floats(0, 2_000),
    is_live=st.booleans(),
    boundary=st.sampled_from(list(Boundary)),
    tokens=st.integers(0, 10_000),
)
@settings(deadline=None, max_examples=60)
def test_the_pedigree_score_lies_between_best_and_worst(
    code: str, grid: float, is_live: bool, boundary: Boundary, tokens: int
) -> None:
    """The score is a number from 1 to 5 with one decimal, whatever the figures are."""
    facts = {"annual_gco2_per_kwh": grid}
    receipt = made(
        region=region(code, **facts),
        reading=reading(grid) if is_live else None,
        boundary=boundary,
        completion_tokens=tokens,
        completion_characters=0,
    )
    assert 1 <= receipt.pedigree_score <= 5
    assert receipt.pedigree_score == round(receipt.pedigree_score, 1)


def test_better_data_has_a_better_pedigree() -> None:
    """A live signal scores better than an annual one, and a site that publishes better than one that does not."""
    best = made(reading=reading())
    assert best.pedigree_score < made(reading=None).pedigree_score
    assert best.pedigree_score < made(region=region("atnorth-sto-1"), reading=reading()).pedigree_score


# ---- engines


class _Engine:
    """An energy model that does as it is told."""

    name = "measured"

    def __init__(self, **changes: Any) -> None:
        self._changes = changes

    def figures(self, inputs: Inputs, coefficients: Coefficients) -> Figures:
        """Return the parametric figures with some members replaced, or raise."""
        if "raised" in self._changes:
            raise self._changes["raised"]
        return replace(ParametricModel().figures(inputs, coefficients), **self._changes)


class _Nothing:
    """An energy model that returns nothing."""

    name = "nothing"

    def figures(self, inputs: Inputs, coefficients: Coefficients) -> Any:
        """Return no figures."""


@pytest.mark.parametrize(
    "engine",
    [
        _Engine(raised=ValueError("the prompt was: secret")),
        _Engine(raised=OverflowError()),
        _Engine(energy_wh=Interval(value=math.inf, low=1, high=math.inf, sigma=0.5)),
        _Engine(gco2e=Interval(value=math.nan, low=1, high=2, sigma=0.5)),
        _Engine(ml_water=Interval(value=-1.0, low=-2.0, high=-0.5, sigma=0.5)),
        _Engine(ml_water=Interval(value=1.0, low=0.5, high=math.inf, sigma=0.5)),
        _Engine(ml_water=Interval(value=1.0, low=1.5, high=2.0, sigma=0.5)),
        _Engine(ml_water=Interval(value=1.0, low=0.5, high=2.0, sigma=math.nan)),
        _Engine(accelerator_wh=math.nan),
        _Engine(gco2e_operational=-1.0),
        _Engine(gco2e_embodied=1_000.0),
        _Nothing(),
    ],
    ids=[
        "raises",
        "overflows",
        "infinite energy",
        "no carbon number",
        "negative water",
        "endless interval",
        "a median outside its interval",
        "no sigma",
        "no accelerator number",
        "negative operational carbon",
        "parts that are not the whole",
        "returns nothing",
    ],
)
def test_an_engine_that_fails_withholds_the_receipt(engine: Any) -> None:
    """An engine that raises, or whose figures could not be true, costs the receipt and nothing of its text goes on."""
    with pytest.raises(ReceiptWithheldError) as caught:
        maker(engine=engine).make(observed())
    assert caught.value.reason is ReceiptError.ENGINE_FAILED
    assert (str(caught.value), caught.value.__cause__) == ("engine_failed", None)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_another_engine_is_named_as_the_source_of_the_energy() -> None:
    """The receipt says which engine made its figures, and carries that engine's figures."""
    interval = Interval(value=2.0, low=1.0, high=4.0, sigma=0.42)
    receipt = maker(engine=_Engine(energy_wh=interval)).make(observed())
    assert receipt.energy_source == "measured"
    told = (receipt.energy_wh, receipt.energy_wh_ci90_lo, receipt.energy_wh_ci90_hi, receipt.sigma_energy)
    assert told == (2.0, 1.0, 4.0, 0.42)


def test_a_request_too_large_for_a_number_gets_no_receipt() -> None:
    """Token counts beyond what a float holds are the engine's failure, not a crash."""
    assert _withheld(maker(), completion_tokens=10**400) is ReceiptError.ENGINE_FAILED


# ---- attempts that were given up


def test_an_abandoned_attempt_is_estimated_by_its_prompt() -> None:
    """What an abandoned attempt may have used is its prompt read once, on the fitted hardware in an unknown site."""
    per_token = 2 * 128e9 / (0.40 * 989e12) * 700
    expected = 25 * per_token / 3600 * 1.29 * 1.12 * 1.56
    assert maker().attempt_energy_wh("mistral-medium-3", prompt_characters=100) == pytest.approx(expected, rel=1e-9)


def test_an_abandoned_attempt_is_charged_at_its_own_site() -> None:
    """Where the region is known its PUE counts, the operator's word over the shipped one."""
    paris = load_catalogue()["scaleway-par-1"]
    unknown = maker().attempt_energy_wh("mistral-medium-3", prompt_characters=100)
    own = maker().attempt_energy_wh("mistral-medium-3", prompt_characters=100, region=replace(paris, pue=3.12))
    assert unknown is not None
    assert own == pytest.approx(unknown * 2, rel=1e-9)


def test_an_abandoned_attempt_of_an_unknown_model_is_not_guessed() -> None:
    """Without a size there is no estimate, and without a prompt nothing was read."""
    assert maker().attempt_energy_wh("nobody-knows", prompt_characters=100) is None
    assert maker().attempt_energy_wh("mistral-medium-3", prompt_characters=0) == 0


def test_an_abandoned_attempt_uses_the_operators_size() -> None:
    """The operator's word on a model holds for attempts too."""
    sizes = {"ours": ModelSize(active_params_b=64, total_params_b=64, bytes_per_param=2)}
    ours = maker(sizes=sizes).attempt_energy_wh("ours", prompt_characters=100)
    shipped = maker().attempt_energy_wh("mistral-medium-3", prompt_characters=100)
    assert ours is not None
    assert shipped is not None
    assert ours * 2 == pytest.approx(shipped)


def _withheld(strict: Any, **facts: Any) -> ReceiptError:
    with pytest.raises(ReceiptWithheldError) as caught:
        strict.make(observed(**facts))
    return caught.value.reason


def _width(receipt: Any, name: str) -> float:
    return float(getattr(receipt, f"{name}_ci90_hi") / getattr(receipt, f"{name}_ci90_lo"))
