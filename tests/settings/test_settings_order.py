"""Regions, the default order, policy and callers: what fits together, and what is refused at start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from vetted_mw import ConfigurationError, load_configuration
from vetted_mw.receipts.models import shipped_sizes
from vetted_mw.routing.decision import is_allowed
from vetted_mw.routing.regions import load_catalogue

if TYPE_CHECKING:
    from vetted_mw.configuration import Configuration

KEYS = {"A": "key-a", "B": "key-b", "TWIN": "key-a"}
EU_EEA = [
    *("AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU", "IE", "IT", "LT", "LU", "LV"),
    *("MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK"),  # the EU's 27
    *("IS", "LI", "NO"),  # and the rest of the EEA
]


def upstreams(*codes: str) -> dict[str, dict[str, Any]]:
    own = {"provider": "Own", "site": "s", "country": "FR", "zone": "FR"}
    shipped = load_catalogue()
    return {code: {"base_url": f"https://{code}.example/v1"} | ({} if code in shipped else own) for code in codes}


def load(**overrides: Any) -> Configuration:
    return load_configuration(environ=KEYS, overrides=overrides)


def refused(**overrides: Any) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        load(**overrides)
    assert caught.value.remedy
    return caught.value


# ---- EU and EEA


@pytest.mark.parametrize("country", EU_EEA)
def test_every_eu_and_eea_country_is_taken(country: str) -> None:
    """EU-27, Iceland, Liechtenstein and Norway."""
    regions = {"own": upstreams("own")["own"] | {"country": country}}
    assert load(regions=regions).regions["own"].country == country


@pytest.mark.parametrize("country", ["US", "GB", "UK", "CH", "fr", "FRA", "", " FR", "EU", "EL"])
@pytest.mark.parametrize("code", ["own", "scaleway-par-1"])
def test_a_region_elsewhere_is_refused_by_name(code: str, country: str) -> None:
    """Own or shipped, a region outside the EU and EEA is refused at start, naming the region."""
    error = refused(regions={code: upstreams(code)[code] | {"country": country}})
    assert error.field == f"regions.{code}.country"
    assert code in str(error)
    assert "no setting turns this off" in str(error)


def test_allowed_countries_are_eu_and_eea_countries() -> None:
    """A policy cannot name a country no region can be in."""
    assert refused(policy={"allowed_countries": ["FR", "US"]}).field == "policy.allowed_countries"


# ---- the catalogue


def test_without_settings_the_shipped_catalogue_stands_and_no_region_has_an_upstream() -> None:
    """Nothing configured: the eight shipped regions are known, and none can serve."""
    configuration = load()
    assert list(configuration.regions) == [
        *("scaleway-par-1", "scaleway-par-2", "atnorth-sto-1", "atnorth-isl-1", "ovh-gra-1", "ovh-rbx-1"),
        *("hetzner-fsn-1", "hetzner-hel-1"),
    ]
    assert configuration.upstreams == {}


def test_a_shipped_region_needs_only_what_is_the_operators() -> None:
    """One key gives a shipped region its upstream; its facts stay the catalogue's."""
    configuration = load(regions=upstreams("ovh-gra-1"), default_order=["ovh-gra-1"])
    assert configuration.regions["ovh-gra-1"] == load_catalogue()["ovh-gra-1"]


def test_an_own_annual_figure_takes_nothing_of_the_shipped_one() -> None:
    """Year, source and basis of the shipped average say nothing about the operator's own."""
    regions = {"scaleway-par-1": upstreams("scaleway-par-1")["scaleway-par-1"] | {"annual_gco2_per_kwh": 30}}
    region = load(regions=regions).regions["scaleway-par-1"]
    assert (region.annual_gco2_per_kwh, region.annual_year, region.annual_source) == (30, None, "")
    assert (region.annual_basis, region.shipped) == ("unknown", False)
    regions["scaleway-par-1"] |= {"annual_year": 2025, "annual_source": "ours", "annual_basis": "lifecycle"}
    region = load(regions=regions).regions["scaleway-par-1"]
    assert (region.annual_year, region.annual_source, region.annual_basis) == (2025, "ours", "lifecycle")


@pytest.mark.parametrize("missing", ["provider", "site", "country"])
def test_an_own_region_needs_its_facts(missing: str) -> None:
    """Who runs it, where, and in which country cannot be guessed."""
    region = upstreams("own")["own"]
    del region[missing]
    assert refused(regions={"own": region}).field == f"regions.own.{missing}"


def test_an_own_region_stands_after_the_shipped_ones_and_is_placed_at_its_site() -> None:
    """Own regions follow in the file's order; the place in words is the site where none is given."""
    configuration = load(regions=upstreams("zeta", "alpha"))
    assert list(configuration.regions)[-2:] == ["zeta", "alpha"]
    assert configuration.regions["zeta"].location == "s"
    assert not configuration.regions["zeta"].shipped


def test_upstreams_keep_the_catalogues_order() -> None:
    """Which region comes first is the catalogue's order, not the file's."""
    configuration = load(regions=upstreams("own", "ovh-gra-1", "scaleway-par-1"))
    assert list(configuration.upstreams) == ["scaleway-par-1", "ovh-gra-1", "own"]


# ---- the order


def test_without_a_default_order_the_shipped_one_holds() -> None:
    """One shipped region of the documented order is enough for it to stand."""
    order = load(regions=upstreams("ovh-gra-1", "own")).rules.default_order
    assert order == ("scaleway-par-1", "scaleway-par-2", "ovh-gra-1")


def test_without_a_shipped_region_the_files_order_is_the_order() -> None:
    """Only own regions: those that run inference, as they stand in the file."""
    regions = upstreams("zeta", "gateway-only", "alpha") | {"no-upstream": upstreams("x")["x"] | {"base_url": ""}}
    regions["gateway-only"]["inference"] = False
    assert load(regions=regions).rules.default_order == ("zeta", "alpha")


def test_a_default_order_is_taken_as_it_is_given() -> None:
    """The operator's order may name regions that have no upstream yet, as long as one can serve."""
    configuration = load(regions=upstreams("own"), default_order=["ovh-gra-1", "own"])
    assert configuration.rules.default_order == ("ovh-gra-1", "own")


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param({"regions": upstreams("atnorth-isl-1")}, id="a shipped region outside the shipped order"),
        pytest.param({"regions": upstreams("own"), "default_order": ["ovh-gra-1"]}, id="an order without upstreams"),
        pytest.param(
            {"regions": {"own": upstreams("own")["own"] | {"inference": False}}}, id="own regions without inference"
        ),
        pytest.param(
            {"regions": {"ovh-gra-1": upstreams("ovh-gra-1")["ovh-gra-1"] | {"inference": False}}},
            id="the order's only upstream without inference",
        ),
        pytest.param({"regions": upstreams("hetzner-fsn-1")}, id="a gateway-only region"),
    ],
)
def test_an_order_nobody_of_which_can_serve_is_refused(overrides: dict[str, Any]) -> None:
    """Upstreams are there and the order reaches none: start fails, naming `default_order` and who could serve."""
    error = refused(**overrides)
    assert error.field == "default_order"
    assert next(iter(overrides["regions"])) in error.remedy


def test_an_order_with_an_unknown_region_is_refused_with_the_nearest() -> None:
    """A typo must not shorten the failover order in silence."""
    error = refused(regions=upstreams("scaleway-par-1"), default_order=["scaleway-par-1", "scaleway-par2"])
    assert error.field == "default_order"
    assert "Did you mean scaleway-par-" in error.remedy
    assert "Known: " in refused(default_order=["zzz"]).remedy


def test_a_gateway_region_may_be_turned_into_an_inference_region() -> None:
    """`inference = true` makes a candidate of a shipped gateway-only region."""
    regions = {"hetzner-hel-1": upstreams("hetzner-hel-1")["hetzner-hel-1"] | {"inference": True}}
    configuration = load(regions=regions, default_order=["hetzner-hel-1"])
    assert configuration.regions["hetzner-hel-1"].inference


# ---- policy


def test_policy_says_what_may_serve() -> None:
    """Regions and countries narrow together; nothing named allows everything."""
    regions = upstreams("scaleway-par-1", "atnorth-sto-1", "ovh-gra-1")
    free = load(regions=regions)
    assert (free.rules.allowed_regions, free.rules.allowed_countries) == (None, None)
    narrow = load(
        regions=regions, policy={"allowed_regions": ["scaleway-par-1", "atnorth-sto-1"], "allowed_countries": ["FR"]}
    )
    allowed = [code for code in regions if is_allowed(narrow.regions[code], narrow.rules)]
    assert allowed == ["scaleway-par-1"]


@pytest.mark.parametrize("policy", [{"allowed_regions": ["atnorth-sto-1"]}, {"allowed_countries": ["SE"]}])
def test_a_policy_that_empties_the_order_is_refused(policy: dict[str, Any]) -> None:
    """No request without a region could ever be served: start fails, naming the policy."""
    error = refused(regions=upstreams("scaleway-par-1", "atnorth-sto-1"), policy=policy)
    assert error.field == "policy"
    assert "default_order" in str(error)


@pytest.mark.parametrize("table", ["policy", "callers.team"])
def test_an_unknown_region_in_a_policy_is_refused(table: str) -> None:
    """A typo in a policy would shut out, or let in, more than was meant."""
    wrong = {"allowed_regions": ["scaleway-par-9"]}
    overrides = {"policy": wrong} if table == "policy" else {"callers": {"team": {"key": {"env": "A"}} | wrong}}
    error = refused(regions=upstreams("scaleway-par-1"), **overrides)
    assert error.field == f"{table}.allowed_regions"
    assert "scaleway-par-1" in error.remedy


def test_carbon_aware_by_default_needs_a_policy_that_allows_it() -> None:
    """A default that policy forbids would turn every request away."""
    error = refused(default_routing="carbon_aware", policy={"carbon_aware": False})
    assert error.field == "default_routing"
    assert "policy.carbon_aware" in error.remedy
    assert load(default_routing="carbon_aware").rules.default_carbon_aware
    assert not load(policy={"carbon_aware": False}).rules.carbon_aware


# ---- callers


def test_a_callers_policy_narrows_the_operators_and_never_widens_it() -> None:
    """Both must allow a region; what either forbids stays forbidden."""
    configuration = load(
        regions=upstreams("scaleway-par-1", "scaleway-par-2", "atnorth-sto-1"),
        policy={"allowed_regions": ["scaleway-par-1", "scaleway-par-2"], "carbon_aware": False},
        callers={
            "free": {"key": {"env": "A"}, "admin": True, "carbon_aware": True},
            "narrow": {
                "key": {"env": "B"},
                "allowed_regions": ["scaleway-par-2", "atnorth-sto-1"],
                "allowed_countries": ["FR", "SE"],
                "require_region": True,
            },
        },
    )
    free, narrow = configuration.callers
    assert (free.name, free.admin, narrow.name, narrow.admin) == ("free", True, "narrow", False)
    assert free.rules == configuration.rules
    assert not free.rules.carbon_aware
    allowed = [code for code, region in configuration.regions.items() if is_allowed(region, narrow.rules)]
    assert allowed == ["scaleway-par-2"]
    assert narrow.rules.require_region
    assert not configuration.rules.require_region


def test_a_caller_without_carbon_aware_keeps_the_operators_default_for_others() -> None:
    """`carbon_aware = false` of one caller concerns that caller alone."""
    configuration = load(
        regions=upstreams("scaleway-par-1"),
        default_routing="carbon_aware",
        callers={"plain": {"key": {"env": "A"}, "carbon_aware": False}, "other": {"key": {"env": "B"}}},
    )
    plain, other = configuration.callers
    assert (plain.rules.carbon_aware, other.rules.carbon_aware) == (False, True)
    assert plain.rules.default_carbon_aware


def test_two_callers_with_one_key_are_refused() -> None:
    """Nobody could tell them apart; the error names both and not the key."""
    error = refused(callers={"one": {"key": {"env": "A"}}, "two": {"key": {"env": "TWIN"}}})
    assert error.field == "callers.two.key"
    assert "one" in str(error)
    assert "key-a" not in str(error)


def test_a_caller_whose_policy_empties_the_order_is_refused() -> None:
    """Start fails, naming the caller, instead of every request of that caller."""
    error = refused(
        regions=upstreams("scaleway-par-1", "atnorth-sto-1"),
        callers={"swedish": {"key": {"env": "A"}, "allowed_countries": ["SE"]}},
    )
    assert error.field == "callers.swedish"
    assert "default_order" in str(error)


def test_a_callers_key_never_leaves_for_an_upstream() -> None:
    """`passthrough` sends what the caller sent, which with [callers] is a gateway key: refused, naming the region."""
    regions = {"scaleway-par-1": upstreams("scaleway-par-1")["scaleway-par-1"] | {"auth": "passthrough"}}
    assert load(regions=regions).callers == ()
    error = refused(regions=regions, callers={"team": {"key": {"env": "A"}}})
    assert error.field == "regions.scaleway-par-1.auth"
    assert "[callers]" in str(error)


# ---- models


def test_a_models_size_is_the_operators_word() -> None:
    """Each size that is given is taken; the one left out makes a dense model, in bf16, of unknown batch."""
    sizes = load(
        models={
            "whole": {"active_params_b": 17, "total_params_b": 109, "bytes_per_param": 1, "batch_size": 8},
            "active-only": {"active_params_b": 7},
            "total-only": {"total_params_b": 9},
            "names-only": {"upstream_names": {"scaleway-par-1": "n"}},
        }
    ).receipts.models
    whole = sizes["whole"]
    assert (whole.active_params_b, whole.total_params_b, whole.bytes_per_param, whole.batch_size) == (17, 109, 1, 8)
    for name, parameters in (("active-only", 7), ("total-only", 9)):
        size = sizes[name]
        assert (size.active_params_b, size.total_params_b) == (parameters, parameters)
        assert (size.bytes_per_param, size.batch_size, size.size_range) == (2, None, None)
    assert {size.source for size in sizes.values()} == {"operator"}
    assert "names-only" not in sizes


def test_a_batch_alone_leaves_the_size_unknown() -> None:
    """Who says only how many requests are served together does not thereby know the model's size."""
    size = load(models={"mystery": {"batch_size": 16}}).receipts.models["mystery"]
    assert size.batch_size == 16
    assert size.size_range is not None


def test_what_is_left_out_is_the_shipped_tables() -> None:
    """For a model of the shipped table, the operator's one figure stands beside the published others."""
    name, shipped = next(
        (name, size) for name, size in shipped_sizes().items() if size.active_params_b < size.total_params_b
    )
    total = load(models={name: {"total_params_b": shipped.total_params_b + 1}}).receipts.models[name]
    assert (total.active_params_b, total.bytes_per_param) == (shipped.active_params_b, shipped.bytes_per_param)
    active = load(models={name: {"active_params_b": shipped.active_params_b + 1}}).receipts.models[name]
    assert active.total_params_b == shipped.total_params_b
    tiny = load(models={name: {"total_params_b": shipped.active_params_b / 2}}).receipts.models[name]
    assert tiny.active_params_b == tiny.total_params_b
    precise = load(models={name: {"bytes_per_param": 4}}).receipts.models[name]
    assert (precise.bytes_per_param, precise.active_params_b) == (4, shipped.active_params_b)


def test_a_models_other_name_goes_to_its_region_only() -> None:
    """An upstream learns its own name of each model; a region nobody knows is refused."""
    configuration = load(
        regions=upstreams("scaleway-par-1", "ovh-gra-1"),
        models={"m": {"upstream_names": {"scaleway-par-1": "m-2508"}}, "n": {"upstream_names": {"ovh-gra-1": "n-1"}}},
    )
    assert configuration.upstreams["scaleway-par-1"].upstream_names == {"m": "m-2508"}
    assert configuration.upstreams["ovh-gra-1"].upstream_names == {"n": "n-1"}
    error = refused(models={"m": {"upstream_names": {"scaleway-par1": "x"}}})
    assert error.field == "models.m.upstream_names"
    assert "scaleway-par-1" in error.remedy


def test_every_model_the_settings_mention_is_known() -> None:
    """Sizes and upstreams' lists together are the names that telemetry may show."""
    regions = {"scaleway-par-1": upstreams("scaleway-par-1")["scaleway-par-1"] | {"models": ["listed"]}}
    configuration = load(regions=regions, models={"sized": {"active_params_b": 1}})
    assert configuration.known_models == {"listed", "sized"}


@pytest.mark.parametrize(
    ("written", "models", "discover"),
    [("any", None, False), ("discover", None, True), (["a", "b"], frozenset({"a", "b"}), False)],
)
def test_models_are_any_discovered_or_listed(written: Any, models: frozenset[str] | None, discover: bool) -> None:
    """Three ways to say what an upstream serves."""
    regions = {"scaleway-par-1": upstreams("scaleway-par-1")["scaleway-par-1"] | {"models": written}}
    upstream = load(regions=regions).upstreams["scaleway-par-1"]
    assert (upstream.models, upstream.discover) == (models, discover)


def test_an_upstreams_limits_are_the_global_ones_with_its_own_in_place() -> None:
    """A limit of a region holds there; the others stay the operator's, then the defaults."""
    regions = upstreams("scaleway-par-1", "ovh-gra-1")
    regions["ovh-gra-1"]["limits"] = {"idle_seconds": 5}
    configuration = load(regions=regions, limits={"idle_seconds": 7, "connect_seconds": 1})
    paris, gra = configuration.upstreams["scaleway-par-1"].limits, configuration.upstreams["ovh-gra-1"].limits
    assert (paris.idle_seconds, gra.idle_seconds) == (7, 5)
    assert (paris.connect_seconds, gra.connect_seconds) == (1, 1)
    assert (gra.answer_seconds, gra.attempts) == (600, 3)
