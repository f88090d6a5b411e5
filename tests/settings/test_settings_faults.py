"""What a wrong setting is answered with: the key, its place, the remedy, and never the value."""

from __future__ import annotations

import json
import traceback
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from settings.whole import FIRST, KEYS, Key, furnish, leaves, loaded, sections, variable, with_value
from vetted_mw import ConfigurationError, load_configuration

if TYPE_CHECKING:
    from pathlib import Path

CANARY = "sk-live-CANARY0123456789"
PARIS: dict[str, Any] = {"base_url": "https://paris.example/v1"}
OWN = {"provider": "Own", "site": "s", "country": "FR"}


def refused(*, environ: dict[str, str] | None = None, **overrides: Any) -> ConfigurationError:
    """Return the error that these settings are refused with."""
    with pytest.raises(ConfigurationError) as caught:
        load_configuration(environ=environ or {}, overrides=overrides)
    return caught.value


def paris(**keys: Any) -> dict[str, Any]:
    return {"scaleway-par-1": PARIS | keys}


# ---- the value is never told


def everything_of(error: BaseException | None) -> str:
    """Return all that can be read off an error and off what it grew from, as a tool that reports errors would."""
    told = ""
    while error is not None:
        told += f"{error} {error!r} {error.args!r} {vars(error)!r} {getattr(error, 'object', '')!r}\n"
        if isinstance(error, ValidationError):
            told += repr(error.errors())
        error = error.__cause__ or error.__context__
    return told


def _never_told(load: Any, key: Key) -> None:
    try:
        load()
    except ConfigurationError as error:
        told = "".join(traceback.format_exception(error)) + everything_of(error)
        assert CANARY not in told
        assert error.remedy  # noqa: PT017
        assert error.field.split(".")[0] in {key[0], "default_order"}  # noqa: PT017


@pytest.mark.parametrize("key", [*leaves(FIRST), *sections(FIRST)], ids=".".join)
def test_a_secret_in_the_wrong_place_is_never_told(key: Key, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever key a secret was pasted at, no error text, field, remedy or traceback holds it."""
    furnish(tmp_path)
    monkeypatch.chdir(tmp_path)
    written = [
        CANARY,
        [CANARY],
        {"env": CANARY},
        {"file": CANARY},
        f"https://user:{CANARY}@host.example/v1",
        f"https://host.example/v1?key={CANARY}",
        [f"/{CANARY}?"],
        [f"x-vetted-{CANARY}"],
    ]
    for value in written:
        table = with_value(FIRST, key, value)
        _never_told(lambda table=table: load_configuration(environ=KEYS, overrides=table), key)
    _never_told(lambda: loaded(tmp_path, with_value(FIRST, key, CANARY)), key)
    for text in (CANARY, json.dumps([CANARY]), json.dumps({"env": CANARY}), f'{{"{CANARY}', f"{CANARY},{CANARY}"):
        environ = {variable(key): text}
        _never_told(lambda environ=environ: loaded(tmp_path, FIRST, environ=environ), key)


@pytest.mark.parametrize(
    "text",
    [
        f'key = "{CANARY}',
        f"key = {CANARY}",
        f'key = "ok"\n{CANARY}\n',
        f'[a]\n"{CANARY}" = 1\n"{CANARY}" = 2\n',
        f'[callers.team]\nkey = "{CANARY}" trailing\n',
        f"[{CANARY}\n",
    ],
)
def test_a_syntax_error_tells_its_position_and_never_the_line(text: str, tmp_path: Path) -> None:
    """A file that is no TOML is refused with file, line and column: the line itself can hold a key."""
    file = tmp_path / "vetted.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load_configuration(file, environ={})
    told = "".join(traceback.format_exception(caught.value))
    assert CANARY not in told
    assert str(file) in told
    assert "(at line " in told or "(at end of document)" in told


def test_the_key_itself_in_the_keys_place_is_refused_with_the_way_to_write_it() -> None:
    """A literal key is told what to write instead, wherever it stands."""
    for error in (
        refused(regions=paris(api_key=CANARY)),
        refused(environ={"VETTED_REGIONS__SCALEWAY_PAR_1__API_KEY": CANARY}, regions=paris()),
        refused(regions=paris(), callers={"team": {"key": CANARY}}),
    ):
        assert error.field in {"regions.scaleway-par-1.api_key", "callers.team.key"}
        assert "never be the key itself" in str(error)
        assert "{ env = " in error.remedy
        assert "{ file = " in error.remedy


@pytest.mark.parametrize(
    ("environ", "overrides"),
    [
        ({}, {"regions": {"scaleway-par-1": PARIS | {"api_key": CANARY}}}),
        ({}, {"signals": {"sources": {"entsoe": {"token": CANARY}}}}),
        ({"VETTED_CALLERS__TEAM__KEY": CANARY}, {}),
        ({"VETTED_SERVER__PORT": CANARY}, {}),
        ({"VETTED_REGIONS": f'{{"{CANARY}'}, {}),
        ({}, {"regions": {"scaleway-par-1": PARIS | {"base_url": f"https://h.example:{CANARY}/v1"}}}),
        ({}, {"callers": {"team": {"key": {"file": "not-ascii.key"}}}}),
        ({"VETTED_CONFIG": "not-utf-8.toml"}, {}),
        ({"VETTED_CONFIG": "twice.toml"}, {}),
    ],
    ids=["api_key", "token", "caller", "number", "json", "port", "key file", "encoding", "syntax"],
)
def test_nothing_an_error_grew_from_is_kept_with_it(
    environ: dict[str, str], overrides: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pydantic's and Python's own errors hold what they were given: whoever walks the chain must not come to them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "not-ascii.key").write_bytes(CANARY.encode() + b"\xff")
    (tmp_path / "not-utf-8.toml").write_bytes(f'issuer = "{CANARY}'.encode() + b'\xff"')
    (tmp_path / "twice.toml").write_text(f"{CANARY} = 1\n{CANARY} = 2\n")
    with pytest.raises(ConfigurationError) as caught:
        load_configuration(environ=environ, overrides=overrides)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    assert CANARY not in everything_of(caught.value)
    assert caught.value.remedy


def test_an_error_raised_while_another_is_handled_keeps_that_one_alone() -> None:
    """An application that loads settings in an exception handler sees its own error behind ours, as anywhere."""
    own = LookupError("the application's own")
    try:
        raise own
    except LookupError:
        error = refused(regions=paris(api_key=CANARY))
    assert error.__context__ is own
    assert CANARY not in everything_of(error)


# ---- unknown keys


@pytest.mark.parametrize(
    ("table", "field", "nearest"),
    [
        ({"defalt_order": []}, "defalt_order", "default_order"),
        ({"server": {"hots": "x"}}, "server.hots", "host"),
        ({"regions": {"scaleway-par-1": {"base_ulr": "x"}}}, "regions.scaleway-par-1.base_ulr", "base_url"),
        ({"regions": {"scaleway-par-1": {"limits": {"conect_seconds": 1}}}}, None, "connect_seconds"),
        ({"callers": {"team": {"key": {"envv": "X"}}}}, "callers.team.key.envv", "env"),
        ({"models": {"m": {"active_param_b": 1}}}, "models.m.active_param_b", "active_params_b"),
        ({"signals": {"sources": {"fil": {}}}}, "signals.sources.fil", "file"),
    ],
)
def test_an_unknown_key_of_a_file_names_itself_the_file_and_the_nearest(
    table: dict[str, Any], field: str | None, nearest: str, tmp_path: Path
) -> None:
    """A misspelt key is told with the file it stands in and the key that was meant."""
    with pytest.raises(ConfigurationError) as caught:
        loaded(tmp_path, table)
    error = caught.value
    assert error.field == field or (field is None and error.field.endswith("limits.conect_seconds"))
    assert f"in {tmp_path / 'vetted.toml'}" in str(error)
    assert f"Did you mean {nearest}?" in error.remedy


@pytest.mark.parametrize(
    ("name", "field", "nearest"),
    [
        ("VETTED_RECEIPT_KEYS", "receipt_keys", "receipt_key"),
        ("VETTED_SERVER__PROT", "server.prot", "port"),
        ("VETTED_REGIONS__SCALEWAY_PAR_1__BASEURL", "regions.scaleway-par-1.baseurl", "base_url"),
    ],
)
def test_an_unknown_variable_names_itself_and_the_nearest_key(name: str, field: str, nearest: str) -> None:
    """A misspelt variable is told by its own name, with the key that was meant."""
    error = refused(environ={name: CANARY})
    assert error.field == field
    assert f"from the environment variable {name}" in str(error)
    assert f"Did you mean {nearest}?" in error.remedy
    assert CANARY not in str(error)


def test_an_unknown_key_like_no_other_is_told_what_is_known_there() -> None:
    """Where nothing is near, the remedy lists the keys of that table."""
    assert "Known here: propagate, metrics." in refused(telemetry={"zzz": 1}).remedy
    assert refused(environ={"VETTED_SERVER__HOST__DEEPER": "x"}).field == "server.host.deeper"
    assert refused(environ={"VETTED_DEFAULT_ORDER__FIRST": "x"}).field == "default_order.first"


def test_a_region_that_is_almost_a_shipped_one_is_told_the_shipped_code() -> None:
    """A new region without its facts is often a misspelt shipped one: the remedy says so."""
    error = refused(regions={"scaleway-par1": PARIS})
    assert error.field == "regions.scaleway-par1.provider"
    assert "scaleway-par-1" in error.remedy
    assert "scaleway" not in refused(regions={"zzz": PARIS}).remedy


GLOBAL_LIMITS = [
    *("max_body_bytes", "body_read_seconds", "total_seconds", "attempts"),
    *("commit_after_seconds", "sse_keepalive_seconds"),
]


@pytest.mark.parametrize("name", GLOBAL_LIMITS)
def test_a_limit_of_the_whole_request_is_not_an_upstreams(name: str) -> None:
    """A limit that no single upstream can have is told where it belongs."""
    error = refused(regions=paris(limits={name: 2000}))
    assert error.field == f"regions.scaleway-par-1.limits.{name}"
    assert f"limits.{name}" in error.remedy


def test_a_queue_that_nothing_reads_is_refused_with_the_way_to_read_it() -> None:
    """`max_queue` alone would promise what nothing keeps: the remedy names `metrics_path`."""
    error = refused(regions=paris(max_queue=1))
    assert error.field == "regions.scaleway-par-1"
    assert "max_queue" in str(error)
    assert 'metrics_path = "/metrics"' in error.remedy
    read = load_configuration(environ={}, overrides={"regions": paris(max_queue=1, metrics_path="/metrics")})
    assert read.upstreams["scaleway-par-1"].max_queue == 1
    assert load_configuration(environ={}, overrides={"regions": paris(metrics_path="/metrics")})


@pytest.mark.parametrize("seconds", [0, 0.1, 15])
def test_keep_alives_are_off_or_not_too_many(seconds: float) -> None:
    """0 turns them off; a time so short that they would be a load of their own is refused with the least."""
    assert load_configuration(environ={}, overrides={"limits": {"sse_keepalive_seconds": seconds}})
    error = refused(limits={"sse_keepalive_seconds": 0.05})
    assert error.field == "limits.sse_keepalive_seconds"
    assert "at least 0.1" in error.remedy


# ---- wrong values, by kind


@pytest.mark.parametrize(
    ("table", "field", "remedy"),
    [
        ({"receipt_key": 5}, "receipt_key", "Write a text"),
        ({"server": {"port": "8080"}}, "server.port", "whole number"),
        ({"server": {"port": True}}, "server.port", "whole number"),
        ({"server": {"port": 80.5}}, "server.port", "whole number"),
        ({"server": {"port": -1}}, "server.port", "at least 0"),
        ({"server": {"port": 65_536}}, "server.port", "at most 65535"),
        ({"server": {"workers": 0}}, "server.workers", "at least 1"),
        ({"server": {"host": ""}}, "server.host", "Write a text"),
        ({"server": []}, "server", "table"),
        ({"limits": {"idle_seconds": "60"}}, "limits.idle_seconds", "Write a number"),
        ({"limits": {"idle_seconds": 0}}, "limits.idle_seconds", "greater than 0"),
        ({"limits": {"idle_seconds": float("inf")}}, "limits.idle_seconds", "finite"),
        ({"limits": {"idle_seconds": float("nan")}}, "limits.idle_seconds", "finite"),
        ({"limits": {"idle_seconds": 86_401}}, "limits.idle_seconds", "at most 86400"),
        ({"limits": {"commit_after_seconds": -1}}, "limits.commit_after_seconds", "at least 0"),
        ({"limits": {"sse_keepalive_seconds": -1}}, "limits.sse_keepalive_seconds", "at least 0"),
        ({"limits": {"attempts": 0}}, "limits.attempts", "at least 1"),
        ({"limits": {"max_body_bytes": 1}}, "limits.max_body_bytes", "at least 1024"),
        ({"policy": {"require_region": "yes"}}, "policy.require_region", "true or false"),
        ({"policy": {"require_region": 1}}, "policy.require_region", "true or false"),
        ({"policy": {"allowed_regions": "scaleway-par-1"}}, "policy.allowed_regions", "Write a list"),
        ({"policy": {"allowed_regions": ["x", "x"]}}, "policy.allowed_regions", "once"),
        ({"policy": {"allowed_regions": ["a b"]}}, "policy.allowed_regions", "letters, digits"),
        ({"default_order": []}, "default_order", "at least one"),
        ({"default_order": ["scaleway-par-1", "scaleway-par-1"]}, "default_order", "once"),
        ({"default_routing": "fast"}, "default_routing", "'default' or 'carbon_aware'"),
        ({"sse_placement": ""}, "sse_placement", "'finish_chunk', 'usage_chunk', 'comment' or 'off'"),
        ({"signals": {"chains": {"FR": []}}}, "signals.chains.FR", "at least one"),
        ({"signals": {"chains": {"FR": ["a", "a"]}}}, "signals.chains.FR", "once"),
        ({"signals": {"sources": {"file": {}}}}, "signals.sources.file.path", "Set it"),
        ({"signals": {"sources": {"file": {"path": "a\0b"}}}}, "signals.sources.file.path", "control characters"),
        ({"signals": {"sources": {"file": {"path": "~nobody-here/x"}}}}, "signals.sources.file.path", "in full"),
        ({"callers": {"team": {}}}, "callers.team.key", "Set it"),
        ({"callers": {"team": {"key": {}}}}, "callers.team.key", "{ env = "),
        ({"callers": {"team": {"key": {"env": "A", "file": "b"}}}}, "callers.team.key", "{ env = "),
        ({"callers": {"a b": {"key": {"env": "PARIS_KEY"}}}}, "callers", "letters, digits"),
        ({"regions": {"a/b": PARIS | OWN}}, "regions", "letters, digits"),
        ({"regions": {"-a": PARIS | OWN}}, "regions", "letters, digits"),
        ({"regions": {"x" * 65: PARIS | OWN}}, "regions", "up to 64"),
        ({"regions": {"own": PARIS | OWN | {"site": ""}}}, "regions.own.site", "Write a text"),
        ({"regions": {"own": PARIS | OWN | {"zone": "FR/1"}}}, "regions.own.zone", "DE_LU"),
        ({"regions": paris(annual_year=1066)}, "regions.scaleway-par-1.annual_year", "at least 1990"),
        ({"regions": paris(pue=0.9)}, "regions.scaleway-par-1.pue", "at least 1"),
        ({"regions": paris(network_p95_ms=0)}, "regions.scaleway-par-1.network_p95_ms", "greater than 0"),
        ({"regions": paris(hardware="x" * 101)}, "regions.scaleway-par-1.hardware", "at most 100"),
        ({"regions": paris(health_path="health")}, "regions.scaleway-par-1.health_path", "'/'"),
        ({"regions": paris(metrics_path="metrics")}, "regions.scaleway-par-1.metrics_path", "'/'"),
        ({"regions": paris(max_queue=-1)}, "regions.scaleway-par-1.max_queue", "at least 0"),
        ({"regions": paris(ca_file="nowhere.pem")}, "regions.scaleway-par-1.ca_file", "PEM"),
        ({"regions": paris(ca_file="~nobody-here/x")}, "regions.scaleway-par-1.ca_file", "in full"),
        ({"regions": paris(auth="none", api_key={"env": "PARIS_KEY"})}, "regions.scaleway-par-1", "Remove api_key"),
        ({"models": {"m": {"active_params_b": 0}}}, "models.m.active_params_b", "greater than 0"),
        ({"models": {"m": {"active_params_b": 2, "total_params_b": 1}}}, "models.m", "Correct"),
        ({"models": {"m": {"upstream_names": {"scaleway-par-1": " x"}}}}, "models.m.upstream_names.scaleway-par-1", "blanks"),
    ],
)  # fmt: skip
def test_a_wrong_value_names_its_key_and_what_to_write(table: dict[str, Any], field: str, remedy: str) -> None:
    """Type, range and shape: the error names the key, says where it was written, and the remedy fits."""
    error = refused(environ=KEYS, **table)
    assert error.field == field
    assert str(error).startswith(f"{field}: ")
    assert "(in the overrides)" in str(error)
    assert remedy in error.remedy
    assert str(error).endswith(error.remedy)


@pytest.mark.parametrize(
    ("models", "told", "remedy"),
    [
        ("discovr", "neither a known word nor a list", "'discover' or 'any', or a list"),
        (5, "neither a known word nor a list", "'discover' or 'any', or a list"),
        ([], "is empty", "at least one"),
        (["good", 5], "entry 2 is not a text", "Write a text"),
        (["good", " padded"], "entry 2 is not the name of a model", "no blanks around it"),
    ],
)
def test_a_key_of_two_kinds_tells_the_fault_of_the_kind_that_was_meant(models: Any, told: str, remedy: str) -> None:
    """`models` is a word or a list: a list's fault is told by its entry, a word's by the words there are."""
    error = refused(regions=paris(models=models))
    assert error.field == "regions.scaleway-par-1.models"
    assert told in str(error)
    assert remedy in error.remedy


def test_a_fault_in_a_list_names_the_entry() -> None:
    """Which of many entries is wrong is told by its number, not by its value."""
    error = refused(paths=["/v1/chat/completions", f"{CANARY}"])
    assert error.field == "paths"
    assert "entry 2 is not a path" in str(error)
    assert CANARY not in str(error)


# ---- where it was written


def test_an_error_says_where_the_value_was_written(tmp_path: Path) -> None:
    """File, variable or overrides: the one that wins is the one to correct."""
    file = tmp_path / "vetted.toml"
    file.write_text("[server]\nport = -1\n")
    with pytest.raises(ConfigurationError, match=r"\(in .*vetted\.toml\)"):
        load_configuration(file, environ={})
    with pytest.raises(ConfigurationError, match=r"\(in the environment variable VETTED_SERVER__PORT\)"):
        load_configuration(file, environ={"VETTED_SERVER__PORT": "-2"})
    with pytest.raises(ConfigurationError, match=r"\(in the overrides\)"):
        load_configuration(file, environ={"VETTED_SERVER__PORT": "-2"}, overrides={"server": {"port": -3}})


def test_a_fault_between_sources_names_all_of_them(tmp_path: Path) -> None:
    """Where keys of file and environment do not go together, both places are told."""
    with pytest.raises(ConfigurationError) as caught:
        loaded(
            tmp_path,
            {"regions": paris(api_key={"env": "PARIS_KEY"})},
            environ={"VETTED_REGIONS__SCALEWAY_PAR_1__AUTH": "none"},
        )
    assert "VETTED_REGIONS__SCALEWAY_PAR_1__AUTH" in str(caught.value)
    assert f"in {tmp_path / 'vetted.toml'}" in str(caught.value)


def test_what_fits_together_badly_says_where_too(tmp_path: Path) -> None:
    """An error found only when everything is known still says which source to correct."""
    with pytest.raises(ConfigurationError, match="VETTED_DEFAULT_ORDER"):
        loaded(tmp_path, {"regions": paris()}, environ={"VETTED_DEFAULT_ORDER": "ovh-gra-1"})
    with pytest.raises(ConfigurationError, match=r"vetted\.toml"):
        loaded(tmp_path, {"regions": paris(), "default_order": ["ovh-gra-1"]})
    with pytest.raises(ConfigurationError, match=r"default_order: .*\(in the settings\)"):
        load_configuration(environ={"VETTED_REGIONS__ATNORTH_ISL_1__BASE_URL": "https://isl.example/v1"})


# ---- the file itself


def test_a_file_that_is_not_there_is_told_by_name(tmp_path: Path) -> None:
    """A file that was named must be there; which way it was named is told."""
    with pytest.raises(ConfigurationError, match=r"no settings file '.*absent\.toml'") as caught:
        load_configuration(tmp_path / "absent.toml", environ={})
    assert caught.value.field == ""
    with pytest.raises(ConfigurationError, match="no settings file") as caught:
        load_configuration(environ={"VETTED_CONFIG": str(tmp_path)})
    assert caught.value.field == "VETTED_CONFIG"
    with pytest.raises(ConfigurationError, match="no settings file"):
        load_configuration("x" * 5000, environ={})


def test_a_file_that_cannot_be_read_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not readable, not UTF-8, nested beyond reason, far too large: each is told with the file's name."""
    file = tmp_path / "vetted.toml"
    for content, told in (
        (b"\xff\xfe", "is not UTF-8"),
        (b"a = " + b"[" * 100_000, "is not valid TOML"),
        (b"#" * 4_194_305, "is larger than any settings file"),
    ):
        file.write_bytes(content)
        with pytest.raises(ConfigurationError, match=told) as caught:
            load_configuration(file, environ={})
        assert str(file) in str(caught.value)
        assert caught.value.remedy
    with monkeypatch.context() as patched:
        patched.setattr("pathlib.Path.read_bytes", _denied)
        with pytest.raises(ConfigurationError, match=r"cannot be read \(PermissionError\)"):
            load_configuration(file, environ={})


def _denied(_path: Path) -> bytes:
    raise PermissionError(13, "denied")


def test_a_byte_order_mark_does_not_matter(tmp_path: Path) -> None:
    """Editors that put a mark before UTF-8 text are put up with."""
    file = tmp_path / "vetted.toml"
    file.write_text('receipt_key = "vetted"\n', encoding="utf-8-sig")
    assert load_configuration(file, environ={}).receipt_key == "vetted"
