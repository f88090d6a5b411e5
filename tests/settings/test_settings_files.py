"""Which file is read, where its paths lead, and what may start with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from settings.whole import furnish
from vetted_mw import ConfigurationError, Gateway, load_configuration
from vetted_mw.settings import forbid_open_host, require_upstream

if TYPE_CHECKING:
    from pathlib import Path

PARIS = '[regions.scaleway-par-1]\nbase_url = "https://paris.example/v1"\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def issuer(path: Path | str | None = None, **environ: str) -> str:
    return load_configuration(path, environ=environ).receipts.issuer


def write(file: Path, name: str) -> Path:
    file.write_text(f'[receipts]\nissuer = "{name}"\n')
    return file


def test_the_file_is_the_argument_else_the_variable_else_vetted_toml(folder: Path) -> None:
    """Three ways to name the file, the nearest hand first; none of them is needed."""
    assert issuer() == ""
    write(folder / "work" / "vetted.toml", "working folder")
    assert issuer() == "working folder"
    named = write(folder / "named.toml", "variable")
    assert issuer(VETTED_CONFIG=str(named)) == "variable"
    argument = write(folder / "argument.toml", "argument")
    assert issuer(argument, VETTED_CONFIG=str(named)) == "argument"
    assert issuer(str(argument)) == "argument"
    assert issuer(VETTED_CONFIG="") == "working folder"


def test_a_relative_file_starts_at_the_working_folder(folder: Path) -> None:
    """`VETTED_CONFIG` and the argument are read as a shell would read them."""
    write(folder / "above.toml", "above")
    assert issuer("../above.toml") == issuer(VETTED_CONFIG="../above.toml") == "above"


def test_the_configuration_says_which_file_it_came_from(folder: Path) -> None:
    """Messages and workers name the file; without one there is none to name."""
    assert load_configuration(environ={}).source == ""
    file = write(folder / "work" / "vetted.toml", "x")
    assert load_configuration(environ={}).source == str(file)


def test_a_gateway_of_the_environment_reads_it_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`Gateway.from_env` and `Gateway.from_file` take file and variables of the process."""
    file = folder / "named.toml"
    file.write_text(PARIS)
    monkeypatch.setenv("VETTED_CONFIG", str(file))
    monkeypatch.setenv("VETTED_RECEIPTS__ISSUER", "of the process")
    for gateway in (Gateway.from_env(), Gateway.from_file(file), Gateway.from_file(str(file))):
        assert list(gateway.configuration.upstreams) == ["scaleway-par-1"]
        assert gateway.configuration.receipts.issuer == "of the process"


def test_paths_in_the_file_start_beside_it(folder: Path) -> None:
    """Keys, authorities and readings are found beside the settings file, wherever the process was started."""
    furnish(folder)
    file = folder / "vetted.toml"
    file.write_text(
        f'{PARIS}ca_file = "first.pem"\napi_key = {{ file = "site.key" }}\n'
        '[signals.sources.file]\npath = "readings/signals.toml"\n'
    )
    configuration = load_configuration("../vetted.toml", environ={})
    upstream = configuration.upstreams["scaleway-par-1"]
    assert upstream.ca_file == str(folder / "first.pem")
    assert upstream.api_key is not None
    assert upstream.api_key.reveal() == "site-key-of-a-file"
    assert configuration.signals.file is not None
    assert configuration.signals.file.path == folder / "readings" / "signals.toml"


def test_paths_without_a_file_start_at_the_working_folder(folder: Path) -> None:
    """Settings from the environment alone have no folder of their own."""
    furnish(folder / "work")
    configuration = load_configuration(
        environ={
            "VETTED_REGIONS__SCALEWAY_PAR_1__BASE_URL": "https://paris.example/v1",
            "VETTED_REGIONS__SCALEWAY_PAR_1__CA_FILE": "second.pem",
            "VETTED_REGIONS__SCALEWAY_PAR_1__API_KEY__FILE": "site.key",
        }
    )
    assert configuration.upstreams["scaleway-par-1"].ca_file == str(folder / "work" / "second.pem")


def test_a_home_folder_is_understood(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` in a path is the home folder, as in a shell."""
    monkeypatch.setenv("HOME", str(folder))
    furnish(folder)
    (folder / "work" / "vetted.toml").write_text(f'{PARIS}api_key = {{ file = "~/site.key" }}\n')
    key = load_configuration(environ={}).upstreams["scaleway-par-1"].api_key
    assert key is not None
    assert key.reveal() == "site-key-of-a-file"


def test_an_absolute_path_is_taken_as_it_stands(folder: Path) -> None:
    """Secret mounts are named in full."""
    furnish(folder)
    (folder / "work" / "vetted.toml").write_text(f'{PARIS}ca_file = "{folder / "first.pem"}"\n')
    assert load_configuration(environ={}).upstreams["scaleway-par-1"].ca_file == str(folder / "first.pem")


def test_an_authority_file_without_certificates_is_refused(folder: Path) -> None:
    """What is no PEM is told at start, not at the first connection, and not quoted."""
    (folder / "work" / "not.pem").write_text("sk-live-CANARY")
    (folder / "work" / "vetted.toml").write_text(f'{PARIS}ca_file = "not.pem"\n')
    with pytest.raises(ConfigurationError, match="PEM") as caught:
        load_configuration(environ={})
    assert caught.value.field == "regions.scaleway-par-1.ca_file"
    assert "CANARY" not in str(caught.value)


# ---- what may start


def test_serving_needs_an_upstream_and_the_error_says_where_it_looked(folder: Path) -> None:
    """Without a file or with one that configures nobody, the way out is named: a base_url, or the demo."""
    with pytest.raises(ConfigurationError, match="no settings file was found") as caught:
        require_upstream(load_configuration(environ={}))
    assert caught.value.field == "regions"
    assert "base_url" in caught.value.remedy
    assert "vetted-mw demo" in caught.value.remedy
    file = write(folder / "work" / "vetted.toml", "x")
    with pytest.raises(ConfigurationError) as caught:
        require_upstream(load_configuration(environ={}))
    assert str(file) in str(caught.value)
    file.write_text(PARIS)
    require_upstream(load_configuration(environ={}))


LOOPBACK = ["127.0.0.1", "127.8.9.10", "::1", "[::1]", "localhost", "LocalHost"]
REACHABLE = ["0.0.0.0", "::", "192.168.0.4", "8.8.8.8", "gateway.example", "", "127.0.0.1.example", "localhost.example"]


@pytest.mark.parametrize("host", LOOPBACK)
def test_a_loopback_host_needs_no_lock(host: str) -> None:
    """Whoever is on this machine may use it."""
    forbid_open_host(host, callers=False, is_open=False)


@pytest.mark.parametrize("host", REACHABLE)
def test_any_other_host_needs_callers_or_the_operators_word(host: str) -> None:
    """An address that others may reach, or that may be one, is refused without callers or `--open`."""
    with pytest.raises(ConfigurationError) as caught:
        forbid_open_host(host, callers=False, is_open=False)
    assert caught.value.field == "server.host"
    assert "[callers]" in caught.value.remedy
    assert "--open" in caught.value.remedy
    forbid_open_host(host, callers=True, is_open=False)
    forbid_open_host(host, callers=False, is_open=True)
