"""Where settings come from: the file, the environment, the overrides, and which of them wins."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from settings.whole import (
    FIRST,
    KEYS,
    OVERRULED,
    SECOND,
    SINGLE,
    Key,
    at,
    furnish,
    generic,
    leaves,
    loaded,
    only,
    schema_leaves,
    variable,
    variable_text,
    with_value,
    without,
)
from vetted_mw import ConfigurationError, load_configuration
from vetted_mw.secret import Secret

if TYPE_CHECKING:
    from pathlib import Path

LEAVES = list(leaves(FIRST))
PARIS = {"scaleway-par-1": {"base_url": "http://127.0.0.1:8000/v1"}}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    furnish(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def name_of(key: Key) -> str:
    return ".".join(key)


def test_the_two_files_hold_every_key_of_the_schema() -> None:
    """What follows is about every key: a new one must be put into both files."""
    assert {generic(key) for key in leaves(FIRST)} == schema_leaves()
    assert set(leaves(SECOND)) == set(leaves(FIRST))
    assert [key for key in LEAVES if at(FIRST, key) == at(SECOND, key) and key not in SINGLE] == []


@pytest.mark.parametrize("key", LEAVES, ids=name_of)
def test_each_key_from_the_environment_is_what_it_is_from_the_file(key: Key, folder: Path) -> None:
    """For each key, its variable gives the same configuration as its line in the file."""
    value = at(FIRST, key)
    from_environment = loaded(folder, without(FIRST, key), environ={variable(key): variable_text(value)})
    assert from_environment == loaded(folder, FIRST)


@pytest.mark.parametrize("key", LEAVES, ids=name_of)
def test_the_environment_wins_over_the_file_and_the_overrides_over_both(key: Key, folder: Path) -> None:
    """For each key, the stronger source's value is the one in the configuration, and it changes the configuration."""
    first, second = at(FIRST, key), at(SECOND, key)
    wanted = loaded(folder, with_value(FIRST, key, second))
    assert loaded(folder, FIRST, environ={variable(key): variable_text(second)}) == wanted
    assert loaded(folder, FIRST, environ={variable(key): variable_text(first)}, **only(key, second)) == wanted
    assert (wanted == loaded(folder, FIRST)) == (key in SINGLE | OVERRULED)


@pytest.mark.parametrize("table", [FIRST, SECOND], ids=["first", "second"])
def test_whole_tables_may_come_from_the_environment_as_json(table: dict[str, Any], folder: Path) -> None:
    """A variable that names a table holds it as JSON, with the names as they are in the file."""
    table = with_value(table, ("policy", "carbon_aware"), True)  # which default_routing asks for
    environ = {variable((name,)): variable_text(value) for name, value in table.items()}
    from_environment = load_configuration(environ=KEYS | environ)
    # The file written here would be found by the first call.
    assert from_environment == loaded(folder, table)


def test_a_key_reference_of_a_stronger_source_replaces_a_weaker_one_whole(folder: Path) -> None:
    """A file that names a key file is overruled by a variable that names an environment variable, not mixed with it."""
    table = with_value(FIRST, ("regions", "our-site-1", "api_key"), {"file": "site.key"})
    named = loaded(folder, table, environ={"VETTED_REGIONS__OUR_SITE_1__API_KEY__ENV": "PARIS_KEY"})
    assert named.upstreams["our-site-1"].api_key == Secret("paris-key")
    overridden = loaded(
        folder,
        FIRST,
        environ={"VETTED_REGIONS__OUR_SITE_1__API_KEY__ENV": "PARIS_KEY"},
        regions={"our-site-1": {"api_key": {"file": "site.key"}}},
    )
    assert overridden.upstreams["our-site-1"].api_key == Secret("site-key-of-a-file")


@pytest.mark.parametrize("value", ["scaleway-par-1,our-site-1", " scaleway-par-1 , our-site-1 ,"])
def test_a_list_may_be_written_with_commas(value: str, folder: Path) -> None:
    """A variable that holds a list takes names between commas too, blanks around them ignored."""
    configuration = loaded(folder, without(FIRST, ("default_order",)), environ={"VETTED_DEFAULT_ORDER": value})
    assert configuration.rules.default_order == ("scaleway-par-1", "our-site-1")


@pytest.mark.parametrize(
    ("text", "truth"),
    [(text, True) for text in ("true", "TRUE", " yes ", "on", "1")]
    + [(text, False) for text in ("false", "No", "off", "0")],
)
def test_a_truth_value_takes_the_usual_words(text: str, truth: bool) -> None:
    """A variable that holds a truth value reads the words people write."""
    environ = {"VETTED_POLICY__REQUIRE_REGION": text}
    assert load_configuration(environ=environ, overrides={"regions": PARIS}).rules.require_region is truth


@settings(max_examples=100, deadline=None)
@given(seconds=st.floats(min_value=1e-6, max_value=86_400), count=st.integers(1, 1_000_000))
@example(seconds=86_400.0, count=1_000_000)
def test_numbers_from_the_environment_are_the_files_numbers(seconds: float, count: int) -> None:
    """A number's text in a variable is the number a file would hold, to the last bit."""
    environ = {"VETTED_LIMITS__IDLE_SECONDS": repr(seconds), "VETTED_LIMITS__MAX_IN_FLIGHT": str(count)}
    written = {"limits": {"idle_seconds": seconds, "max_in_flight": count}}
    read = load_configuration(environ=environ).limits
    assert read == load_configuration(environ={}, overrides=written).limits
    assert (read.idle_seconds, read.max_in_flight) == (seconds, count)


PART = st.text("abcdefghijklmnopqrstuvwxyz0123456789ABC", min_size=1, max_size=6)
CODES = st.lists(PART, min_size=1, max_size=4).flatmap(
    lambda parts: st.lists(st.sampled_from("-._"), min_size=len(parts) - 1, max_size=len(parts) - 1).map(
        lambda joints: "".join(part + joint for part, joint in zip(parts, [*joints, ""], strict=True))
    )
)


@settings(max_examples=100, deadline=None)
@given(code=CODES)
def test_a_region_is_found_by_its_folded_name(code: str) -> None:
    """Whatever dashes and dots a region's code has, its variable with underscores sets that region and no other."""
    region = {"provider": "Own", "site": "s", "country": "FR", "base_url": "http://127.0.0.1:8000/v1"}
    configuration = load_configuration(
        environ={variable(("regions", code, "site")): "from-the-environment"},
        overrides={"regions": {code: _less(region)}},
    )
    assert configuration.regions[code].site == "from-the-environment"
    assert list(configuration.upstreams) == [code]


def _less(region: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in region.items() if name != "site"}


def test_the_environment_alone_can_configure_a_gateway() -> None:
    """Shipped regions are found by their folded names; a region of the operator's own gets its name in lower case."""
    configuration = load_configuration(
        environ={
            "VETTED_REGIONS__SCALEWAY_PAR_1__BASE_URL": "https://paris.example/v1",
            "VETTED_REGIONS__SCALEWAY_PAR_1__API_KEY__ENV": "PARIS_KEY",
            "VETTED_REGIONS__SCALEWAY_PAR_1__MODELS": '["mistral-medium-3"]',
            "VETTED_REGIONS__NANTES__PROVIDER": "Own",
            "VETTED_REGIONS__NANTES__SITE": "nantes-1",
            "VETTED_REGIONS__NANTES__COUNTRY": "FR",
            "VETTED_REGIONS__NANTES__ZONE": "FR",
            "VETTED_REGIONS__NANTES__BASE_URL": "http://127.0.0.1:8000/v1",
            "VETTED_DEFAULT_ORDER": "scaleway-par-1,nantes",
            "VETTED_MODELS__MISTRAL_MEDIUM_3__ACTIVE_PARAMS_B": "128",
            "VETTED_MODELS__MISTRAL_MEDIUM_3__UPSTREAM_NAMES__SCALEWAY_PAR_1": "mistral-medium-2508",
            "VETTED_SIGNALS__CHAINS__SE_3": "file",
            "VETTED_SIGNALS__CHAINS__NO_5": "file",
            "VETTED_CALLERS__TEAM_B__KEY__ENV": "TEAM_KEY",
            "UNRELATED": "x",
            **KEYS,
        }
    )
    assert list(configuration.upstreams) == ["scaleway-par-1", "nantes"]
    assert configuration.upstreams["scaleway-par-1"].api_key == Secret("paris-key")
    assert configuration.upstreams["scaleway-par-1"].upstream_names == {"mistral-medium-3": "mistral-medium-2508"}
    assert configuration.receipts.models["mistral-medium-3"].active_params_b == 128
    assert configuration.signals.chains == {"SE_3": ("file",), "NO_5": ("file",)}
    assert [caller.name for caller in configuration.callers] == ["team_b"]


def test_names_in_the_environment_may_be_written_in_either_case() -> None:
    """Variables are matched without regard to case."""
    configuration = load_configuration(
        environ={"vetted_regions__scaleway_par_1__base_url": "https://paris.example/v1", "vetted_config": ""}
    )
    assert list(configuration.upstreams) == ["scaleway-par-1"]


def test_the_zone_of_a_region_of_ones_own_is_known_to_the_environment() -> None:
    """A chain named by a variable is found for a zone that the settings introduce, as it is written there."""
    configuration = load_configuration(
        environ={"VETTED_SIGNALS__CHAINS__IT_NORD": '["file"]'},
        overrides={"regions": {"our": {"provider": "O", "site": "s", "country": "IT", "zone": "IT-NORD"}}},
    )
    assert configuration.signals.chains == {"IT-NORD": ("file",)}


@pytest.mark.parametrize(
    ("environ", "overrides", "field", "told"),
    [
        pytest.param(
            {"VETTED_REGIONS__A_B__DRAINED": "true"},
            {"regions": {name: {"provider": "O", "site": "s", "country": "FR"} for name in ("a-b", "a.b")}},
            "regions",
            ("VETTED_REGIONS__A_B__DRAINED", "a-b", "a.b"),
            id="one variable, two regions",
        ),
        pytest.param(
            {"VETTED_POLICY": json.dumps({"require_region": True}), "VETTED_POLICY__CARBON_AWARE": "true"},
            {},
            "policy.carbon_aware",
            ("VETTED_POLICY", "VETTED_POLICY__CARBON_AWARE"),
            id="a table and a key of it",
        ),
        pytest.param(
            {"VETTED_SERVER__PORT": "1", "vetted_server__port": "2"},
            {},
            "server.port",
            ("VETTED_SERVER__PORT", "vetted_server__port"),
            id="one key in two cases",
        ),
    ],
)
def test_two_names_that_meet_are_an_error(
    environ: dict[str, str], overrides: dict[str, Any], field: str, told: tuple[str, ...]
) -> None:
    """Where a variable could mean two things, or two variables one, the error names them all."""
    with pytest.raises(ConfigurationError) as caught:
        load_configuration(environ=environ, overrides=overrides)
    assert caught.value.field == field
    assert caught.value.remedy
    assert [name for name in told if name not in str(caught.value)] == []


@pytest.mark.parametrize(
    "name", ["VETTED_", "VETTED_REGIONS__", "VETTED_REGIONS____BASE_URL", "VETTED___SERVER", "VETTED_SERVER__PORT__"]
)
def test_a_variable_with_an_empty_part_is_refused_by_name(name: str) -> None:
    """Underscores too many are told as such."""
    with pytest.raises(ConfigurationError, match="has an empty part") as caught:
        load_configuration(environ={name: "x"})
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "remedy"),
    [
        ("VETTED_SERVER__PORT", "eighty", "whole number"),
        ("VETTED_SERVER__PORT", "80.5", "whole number"),
        ("VETTED_LIMITS__IDLE_SECONDS", "long", "a number"),
        ("VETTED_POLICY__REQUIRE_REGION", "maybe", "true or false"),
        ("VETTED_POLICY", '{"require_region": ', "JSON"),
        ("VETTED_POLICY", "[" * 100_000, "JSON"),
        ("VETTED_PATHS", '["/v1"', "JSON"),
    ],
)
def test_a_variable_that_cannot_be_read_says_what_to_write(name: str, text: str, remedy: str) -> None:
    """The error names variable and key, and the remedy fits the key's kind of value."""
    with pytest.raises(ConfigurationError) as caught:
        load_configuration(environ={name: text})
    assert name in str(caught.value)
    assert caught.value.field == name.removeprefix("VETTED_").lower().replace("__", ".")
    assert remedy in caught.value.remedy


def test_the_overrides_may_be_any_mapping_of_texts() -> None:
    """An application hands over its own mappings, tuples and paths; only a key that is no text is refused."""
    from pathlib import Path
    from types import MappingProxyType

    overrides = {
        "default_order": ("scaleway-par-1",),
        "regions": MappingProxyType(PARIS),
        "signals": {"sources": {"file": {"path": Path("/readings/signals.toml")}}},
    }
    configuration = load_configuration(environ={}, overrides=overrides)
    assert configuration.rules.default_order == ("scaleway-par-1",)
    assert configuration.signals.file is not None
    assert configuration.signals.file.path == Path("/readings/signals.toml")
    with pytest.raises(ConfigurationError, match="not a text"):
        load_configuration(environ={}, overrides={"regions": {1: {}}})


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    key=st.sampled_from([*LEAVES, *{key[:-1] for key in LEAVES if len(key) > 1}]),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=6), inner, max_size=2),
        max_leaves=5,
    ),
)
def test_whatever_stands_at_a_key_it_is_used_or_refused_in_words(key: Key, value: object) -> None:
    """Any value at any key gives a configuration or a ConfigurationError with a remedy, never another exception."""
    try:
        load_configuration(environ=KEYS, overrides=with_value(FIRST, key, value))
    except ConfigurationError as error:
        assert error.remedy  # noqa: PT017 (either outcome is right)
