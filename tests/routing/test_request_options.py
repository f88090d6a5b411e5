"""What the caller asked for: every option, every mistake, from the body and from headers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.cases import GRA, ISL, PAR_1, STO
from vetted_mw.chat.members import parse_object
from vetted_mw.errors import AnswerError
from vetted_mw.routing.options import Boundary, Options, Routing, Tier, parse_options
from vetted_mw.routing.regions import load_catalogue

if TYPE_CHECKING:
    from collections.abc import Sequence

REGIONS = load_catalogue()


def asked(vetted: object = None, headers: Sequence[tuple[str, str]] = ()) -> Options:
    """Read options from the `vetted` object (as a value, or as raw JSON bytes) and headers."""
    raw = vetted if isinstance(vetted, bytes) else msgspec.json.encode(vetted)
    members = None if vetted is None else parse_object(raw)
    encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    return parse_options(members, encoded, regions=REGIONS)


def refused(vetted: object = None, headers: Sequence[tuple[str, str]] = ()) -> AnswerError:
    """Return the error, which is always a 400 `validation_error`."""
    with pytest.raises(AnswerError) as error:
        asked(vetted, headers)
    assert (error.value.status, error.value.type) == (400, "validation_error")
    return error.value


# ---- what is accepted


def test_nothing_asked_is_every_default() -> None:
    """Without the member and headers there is no pin, the operator's routing, tier `auto`, boundary `comprehensive`."""
    nothing = Options(
        region=None,
        secondary_region=None,
        routing=None,
        latency_budget_ms=None,
        tier=Tier.AUTO,
        boundary=Boundary.COMPREHENSIVE,
    )
    assert asked() == asked({}) == asked(None, [("content-type", "application/json")]) == nothing


@pytest.mark.parametrize(
    ("vetted", "wanted"),
    [
        ({"region": PAR_1}, Options(region=PAR_1)),
        ({"region": PAR_1, "secondary_region": GRA}, Options(region=PAR_1, secondary_region=GRA)),
        ({"region": PAR_1, "routing": "default"}, Options(region=PAR_1, routing=Routing.DEFAULT)),
        ({"routing": "default"}, Options(routing=Routing.DEFAULT)),
        ({"routing": "carbon_aware"}, Options(routing=Routing.CARBON_AWARE)),
        ({"latency_budget_ms": 1}, Options(latency_budget_ms=1)),
        ({"tier": "auto"}, Options(tier=Tier.AUTO)),
        ({"tier": "parametric"}, Options(tier=Tier.PARAMETRIC)),
        ({"tier": "telemetry"}, Options(tier=Tier.TELEMETRY)),
        ({"boundary": "comprehensive"}, Options(boundary=Boundary.COMPREHENSIVE)),
        ({"boundary": "narrow"}, Options(boundary=Boundary.NARROW)),
    ],
)
def test_every_value_of_the_table_is_read_from_the_body(vetted: dict[str, Any], wanted: Options) -> None:
    """Each member takes each of its documented values."""
    assert asked(vetted) == wanted


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ([("x-vetted-region", ISL)], Options(region=ISL)),
        (
            [("x-vetted-secondary-region", STO), ("x-vetted-region", ISL)],
            Options(region=ISL, secondary_region=STO),
        ),
        ([("x-vetted-routing", "carbon_aware")], Options(routing=Routing.CARBON_AWARE)),
        ([("x-vetted-routing", "default")], Options(routing=Routing.DEFAULT)),
        ([("x-vetted-latency-budget-ms", "50")], Options(latency_budget_ms=50)),
    ],
)
def test_every_header_of_the_table_is_read(headers: list[tuple[str, str]], wanted: Options) -> None:
    """Each of the four headers says the same as its member."""
    assert asked(None, headers) == wanted


@pytest.mark.parametrize("member", ["region", "secondary_region", "routing", "latency_budget_ms", "tier", "boundary"])
def test_null_for_a_member_means_absent(member: str) -> None:
    """A client library that writes nulls asks for nothing."""
    assert asked({member: None}) == Options()


def test_a_null_in_the_body_leaves_the_header_its_say() -> None:
    """Null is absence, so it does not disagree with a header."""
    assert asked({"region": None}, [("x-vetted-region", PAR_1)]) == Options(region=PAR_1)


def test_body_and_header_that_agree_are_one() -> None:
    """The same thing said twice is no conflict."""
    headers = [("x-vetted-region", PAR_1), ("x-vetted-latency-budget-ms", "50")]
    assert asked({"region": PAR_1, "latency_budget_ms": 50}, headers) == Options(region=PAR_1, latency_budget_ms=50)


def test_body_and_header_may_each_say_a_part() -> None:
    """A pin in the body and its secondary in a header make one pair."""
    told = asked({"region": PAR_1}, [("x-vetted-secondary-region", GRA)])
    assert told == Options(region=PAR_1, secondary_region=GRA)


# ---- what is refused

_NO_TEXTS: tuple[object, ...] = ("", 1, 1.5, True, [], ["auto"], {}, {"a": 1})
_NO_BUDGETS: tuple[object, ...] = ("50", "", 50.0, 50.5, True, False, 0, -1, [], [50], {}, 2**40, 10**30)


@pytest.mark.parametrize("value", _NO_TEXTS)
@pytest.mark.parametrize("member", ["region", "secondary_region", "routing", "tier", "boundary"])
def test_a_text_option_of_another_type_or_empty_names_its_parameter(member: str, value: object) -> None:
    """Wrong types and empty strings are 400 `invalid_option` with the member as `param`."""
    error = refused({member: value})
    assert (error.code, error.param) == ("invalid_option", f"vetted.{member}")
    assert f"vetted.{member}" in error.message


@pytest.mark.parametrize("value", _NO_BUDGETS)
def test_a_latency_budget_must_be_a_whole_number_above_zero(value: object) -> None:
    """Strings, fractions, booleans, zero and what lies beyond any latency are refused, and the text says what to send."""
    error = refused({"latency_budget_ms": value})
    assert (error.code, error.param) == ("invalid_option", "vetted.latency_budget_ms")
    assert "whole number of milliseconds above 0" in error.message


@pytest.mark.parametrize("member", ["region", "routing", "latency_budget_ms", "tier"])
@pytest.mark.parametrize("raw", [b"1e999", b"-1e999", b"1E5000", b"[1e999]"])
def test_a_number_no_reader_can_take_is_the_callers_mistake(member: str, raw: bytes) -> None:
    """JSON that is well-formed and out of every range is a 400 of that member, not a fault of ours."""
    error = refused(b'{"%s":%s}' % (member.encode(), raw))
    assert (error.code, error.param) == ("invalid_option", f"vetted.{member}")


@pytest.mark.parametrize(
    ("vetted", "param"),
    [
        ({"routing": "carbon-aware"}, "vetted.routing"),
        ({"routing": "CARBON_AWARE"}, "vetted.routing"),
        ({"routing": " default"}, "vetted.routing"),
        ({"routing": "eu_preferred"}, "vetted.routing"),
        ({"tier": "proxy"}, "vetted.tier"),
        ({"tier": "Auto"}, "vetted.tier"),
        ({"tier": "measured"}, "vetted.tier"),
        ({"boundary": "wide"}, "vetted.boundary"),
        ({"boundary": "narrow "}, "vetted.boundary"),
    ],
)
def test_a_word_outside_the_options_list_is_refused(vetted: dict[str, Any], param: str) -> None:
    """Words are compared exactly, and `tier: proxy` is never requested."""
    error = refused(vetted)
    assert (error.code, error.param) == ("invalid_option", param)


@pytest.mark.parametrize(
    ("value", "choices"),
    [
        ({"routing": "x"}, ["'default'", "'carbon_aware'"]),
        ({"tier": "x"}, ["'auto'", "'parametric'", "'telemetry'"]),
        ({"boundary": "x"}, ["'comprehensive'", "'narrow'"]),
    ],
)
def test_a_refused_word_is_answered_with_the_ones_that_can_be_sent(value: dict[str, str], choices: list[str]) -> None:
    """The text tells the caller what to change, and never offers `proxy`."""
    message = refused(value).message
    assert all(choice in message for choice in choices)
    assert "proxy" not in message


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("regoin", "region"),
        ("Region", "region"),
        ("secondary-region", "secondary_region"),
        ("latency_budget", "latency_budget_ms"),
        ("route", "routing"),
        ("teir", "tier"),
        ("boundry", "boundary"),
    ],
)
def test_a_misspelt_member_is_answered_with_its_right_name(name: str, hint: str) -> None:
    """A typo must never become "no pin": it is refused, and the nearest known name is offered."""
    error = refused({name: "auto"})
    assert (error.code, error.param) == ("invalid_option", "vetted")
    assert f"Did you mean {hint}?" in error.message


@pytest.mark.parametrize("value", [None, "x", 1])
def test_an_unknown_member_without_a_likeness_lists_the_known_ones(value: object) -> None:
    """Even one that is null is unknown, and the text lists every name there is."""
    message = refused({"zzzzzzzz": value}).message
    assert "Did you mean" not in message
    for known in ("region", "secondary_region", "routing", "latency_budget_ms", "tier", "boundary"):
        assert known in message


@pytest.mark.parametrize(
    "code", ["paris", "scaleway", "Scaleway-Par-1", f" {PAR_1}", f"{PAR_1} ", f"{PAR_1}\n", "fr-par-1"]
)
@pytest.mark.parametrize("member", ["region", "secondary_region"])
def test_a_code_that_is_not_exactly_of_the_catalogue_is_an_unknown_region(member: str, code: str) -> None:
    """Case and blanks count, and the text lists the codes there are."""
    error = refused({"region": PAR_1} | {member: code})
    assert (error.code, error.param) == ("invalid_region", f"vetted.{member}")
    assert all(known in error.message for known in REGIONS)


@pytest.mark.parametrize("header", ["x-vetted-region", "x-vetted-secondary-region"])
def test_an_unknown_region_in_a_header_has_the_parameter_of_the_body(header: str) -> None:
    """One name on the wire for one thing, wherever it was said."""
    pin = [] if header == "x-vetted-region" else [("x-vetted-region", PAR_1)]
    error = refused(None, [*pin, (header, "paris")])
    expected = "vetted.region" if header == "x-vetted-region" else "vetted.secondary_region"
    assert (error.code, error.param) == ("invalid_region", expected)


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("x-vetted-region", ""),
        ("x-vetted-secondary-region", ""),
        ("x-vetted-routing", ""),
        ("x-vetted-routing", "Default"),
        ("x-vetted-routing", "default,carbon_aware"),
        *(
            ("x-vetted-latency-budget-ms", value)
            for value in ("", "0", "-1", "+50", " 50", "50 ", "50.0", "1e2", "0x10", "1_000", "²", "9" * 10, "9" * 5000)
        ),
    ],
)
def test_a_bad_header_value_names_the_header(header: str, value: str) -> None:
    """Empty, misspelt and out-of-range header values are 400 `invalid_option` with the header as `param`."""
    error = refused(None, [(header, value)])
    assert (error.code, error.param) == ("invalid_option", header)
    assert header in error.message


@pytest.mark.parametrize("header", ["x-vetted-region", "x-vetted-routing", "x-vetted-latency-budget-ms"])
def test_a_header_that_stands_twice_is_refused_even_when_it_says_the_same(header: str) -> None:
    """Two values leave open which one counts, so a repetition is 400 and names the header."""
    value = {"x-vetted-region": PAR_1, "x-vetted-routing": "default", "x-vetted-latency-budget-ms": "50"}[header]
    error = refused(None, [(header, value), (header, value)])
    assert (error.code, error.param) == ("invalid_option", header)


@pytest.mark.parametrize(
    ("header", "hint"),
    [
        ("x-vetted-regoin", "x-vetted-region"),
        ("x-vetted-secondary_region", "x-vetted-secondary-region"),
        ("x-vetted-latency-budget", "x-vetted-latency-budget-ms"),
        ("x-vetted-route", "x-vetted-routing"),
    ],
)
def test_a_misspelt_header_is_answered_with_its_right_name(header: str, hint: str) -> None:
    """An unknown `x-vetted-*` header is refused, and the nearest known one is offered."""
    error = refused(None, [(header, PAR_1)])
    assert error.code == "invalid_option"
    assert f"Did you mean {hint}?" in error.message


@pytest.mark.parametrize("header", ["x-vetted-tier", "x-vetted-boundary", "x-vetted-", "x-vetted-decision-mode"])
def test_a_header_that_is_no_option_is_refused(header: str) -> None:
    """Options without a header, and headers of our answers, are unknown on a request."""
    error = refused(None, [(header, "auto")])
    assert error.code == "invalid_option"
    assert "x-vetted-region" in error.message


def test_a_header_that_only_looks_alike_is_not_ours() -> None:
    """What neither is nor was meant to be ours passes unread."""
    assert asked(None, [("x-vet", "x"), ("x-region", "y"), ("region", "z")]) == Options()


@pytest.mark.parametrize(
    ("vetted", "headers", "param"),
    [
        ({"region": PAR_1, "routing": "carbon_aware"}, [], "vetted.routing"),
        ({"region": PAR_1}, [("x-vetted-routing", "carbon_aware")], "vetted.routing"),
        ({"routing": "carbon_aware"}, [("x-vetted-region", PAR_1)], "vetted.routing"),
        ({"secondary_region": GRA}, [], "vetted.secondary_region"),
        (None, [("x-vetted-secondary-region", GRA)], "vetted.secondary_region"),
        ({"region": PAR_1, "secondary_region": PAR_1}, [], "vetted.secondary_region"),
        ({"region": PAR_1}, [("x-vetted-secondary-region", PAR_1)], "vetted.secondary_region"),
        ({"region": PAR_1}, [("x-vetted-region", GRA)], "vetted.region"),
        ({"routing": "default"}, [("x-vetted-routing", "carbon_aware")], "vetted.routing"),
        ({"latency_budget_ms": 50}, [("x-vetted-latency-budget-ms", "51")], "vetted.latency_budget_ms"),
    ],
)
def test_options_that_contradict_each_other_are_conflicting(
    vetted: object, headers: list[tuple[str, str]], param: str
) -> None:
    """A pin with carbon-aware, a secondary without or equal to its region, and a body against a header: 400."""
    error = refused(vetted, headers)
    assert (error.code, error.param) == ("conflicting_options", param)


# ---- over everything

_VALUES = {
    "region": st.sampled_from(list(REGIONS)),
    "secondary_region": st.sampled_from(list(REGIONS)),
    "routing": st.sampled_from(["default", "carbon_aware"]),
    "latency_budget_ms": st.integers(1, 100_000),
}


@settings(max_examples=200, deadline=None)
@given(vetted=st.fixed_dictionaries({}, optional=_VALUES))
def test_headers_say_exactly_what_the_body_would(vetted: dict[str, Any]) -> None:
    """The same options from the body, from headers, or from both, read the same or are refused the same."""
    headers = [(f"x-vetted-{name.replace('_', '-')}", str(value)) for name, value in vetted.items()]
    told: list[object] = []
    for body, given_headers in ((vetted, ()), (None, headers), (vetted, headers)):
        try:
            told.append(asked(body, given_headers))
        except AnswerError as error:
            told.append((error.code, error.param))
    assert told[0] == told[1] == told[2]


_CANARIES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=12).map(lambda t: f"ÿþ{t}Ðq")
_PLACES = ("region", "secondary_region", "routing", "latency_budget_ms", "tier", "boundary", "member", "nested")
_HEADERS = ("x-vetted-region", "x-vetted-secondary-region", "x-vetted-routing", "x-vetted-latency-budget-ms")


@settings(max_examples=200, deadline=None)
@given(canary=_CANARIES, place=st.sampled_from((*_PLACES, *_HEADERS, "header")), twice=st.booleans())
def test_no_refusal_ever_repeats_what_the_caller_wrote(canary: str, place: str, twice: bool) -> None:
    """Whatever is written, wherever, the error's text, parameter and code hold none of it."""
    vetted: object = {"member": {canary: "x"}, "nested": {"region": {canary: [canary]}}}.get(place, {place: canary})
    headers: list[tuple[str, str]] = []
    if place.startswith(("x-vetted", "header")):
        vetted = None
        headers = [(f"x-vetted-{canary}" if place == "header" else place, canary)] * (1 + twice)
    error = refused(vetted, headers)
    told = " ".join(str(part) for part in (error, error.message, error.param, error.code, error.type, *error.args))
    assert canary not in told
    assert "ÿþ" not in told
