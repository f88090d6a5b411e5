"""Keys: named, never written; read once, printed never."""

from __future__ import annotations

import copy
import logging
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vetted_mw import ConfigurationError, load_configuration
from vetted_mw.configuration import Auth
from vetted_mw.secret import Secret

if TYPE_CHECKING:
    from pathlib import Path

    from vetted_mw.configuration import Configuration

KEY = "sk-live-0123456789"
FIELD = "regions.scaleway-par-1.api_key"


def table(api_key: dict[str, str], **keys: Any) -> dict[str, Any]:
    return {"regions": {"scaleway-par-1": {"base_url": "https://paris.example/v1", "api_key": api_key} | keys}}


def key_of(configuration: Configuration) -> str:
    key = configuration.upstreams["scaleway-par-1"].api_key
    assert key is not None
    return key.reveal()


def fault(api_key: dict[str, str], environ: dict[str, str] | None = None) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        load_configuration(environ=environ or {}, overrides=table(api_key))
    return caught.value


def test_a_key_is_read_from_the_environment_it_was_loaded_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """`{ env = ... }` reads the given environment, and no other."""
    monkeypatch.setenv("PARIS_KEY", "of-the-process")
    assert key_of(load_configuration(environ={"PARIS_KEY": KEY}, overrides=table({"env": "PARIS_KEY"}))) == KEY
    assert key_of(load_configuration(overrides=table({"env": "PARIS_KEY"}))) == "of-the-process"


@pytest.mark.parametrize("content", [KEY, f"{KEY}\n", f"  {KEY}\r\n\n"])
def test_a_key_is_read_from_a_file_without_the_blanks_around_it(content: str, tmp_path: Path) -> None:
    """Secret mounts and editors put line ends around a key; they are no part of it."""
    (tmp_path / "key").write_text(content)
    assert key_of(load_configuration(environ={}, overrides=table({"file": str(tmp_path / "key")}))) == KEY


def test_a_variable_that_is_not_set_is_told_by_its_place() -> None:
    """Which reference leads nowhere is told; what it names is not, since it could be the key."""
    error = fault({"env": KEY})
    assert error.field == f"{FIELD}.env"
    assert "not set" in str(error)
    assert error.remedy
    assert KEY not in str(error)


@pytest.mark.parametrize(
    ("content", "told"),
    [(None, "FileNotFoundError"), (b"k\xe9y", "UnicodeDecodeError"), (b"x" * 16_385, "larger than any key")],
)
def test_a_key_file_that_cannot_be_used_is_told_by_its_place(content: bytes | None, told: str, tmp_path: Path) -> None:
    """Absent, not text, far too long: the key's place and the file are told, and not what it holds."""
    file = tmp_path / "provider.key"
    if content is not None:
        file.write_bytes(content)
    error = fault({"file": str(file)})
    assert error.field == f"{FIELD}.file"
    assert told in str(error)
    assert str(file) in str(error)
    assert "xxx" not in str(error)


def test_a_key_pasted_for_its_file_is_not_told() -> None:
    """What could be the key itself is not repeated."""
    assert KEY not in str(fault({"file": KEY}))


def test_a_folder_is_no_key_file(tmp_path: Path) -> None:
    """A mount point instead of the file in it is told."""
    assert "IsADirectoryError" in str(fault({"file": str(tmp_path)}))


@pytest.mark.parametrize("text", ["", "   ", "two words", "line\nbreak", "tab\there", "schlüssel", "nul\0"])
def test_a_key_that_cannot_travel_in_a_header_is_refused(text: str) -> None:
    """Empty, with blanks inside, beyond ASCII: refused at start, not at the first request, and not repeated."""
    error = fault({"env": "PARIS_KEY"}, {"PARIS_KEY": text})
    assert error.field == FIELD
    assert "one line" in error.remedy
    assert len(text.strip()) < 2 or text.strip() not in str(error)


def test_auth_says_whose_key_an_upstream_sees() -> None:
    """Our own key, the caller's or none; a key that would never be sent is refused."""
    for word in ("region", "passthrough", "none"):
        overrides = {"regions": {"scaleway-par-1": {"base_url": "https://paris.example/v1", "auth": word}}}
        upstream = load_configuration(environ={}, overrides=overrides).upstreams["scaleway-par-1"]
        assert (upstream.auth, upstream.api_key) == (Auth(word), None)
    for word in ("passthrough", "none"):
        with pytest.raises(ConfigurationError, match="never sends"):
            load_configuration(environ={"K": "k"}, overrides=table({"env": "K"}, auth=word))


@settings(max_examples=50, deadline=None)
@given(st.from_regex(r"[!-~]{8,40}", fullmatch=True))
def test_a_secret_prints_as_stars_wherever_it_lands(key: str) -> None:
    """Its text, its repr, a format, a log line, and those of everything that holds it: never the key."""
    secret = Secret(key)
    configuration = load_configuration(environ={"PARIS_KEY": key}, overrides=table({"env": "PARIS_KEY"}))
    record = logging.LogRecord("x", logging.INFO, "x", 1, "%s %r", (secret, {"key": [secret]}), None)
    for text in (str(secret), repr(secret), f"{secret}", record.getMessage(), repr([secret]), repr(configuration)):
        assert key not in text.replace("scaleway-par-1", "")
        assert "***" in text
    assert secret.reveal() == key


def test_secrets_are_equal_by_their_keys_only() -> None:
    """Two callers with one key can be told apart from two with two; a text is no secret."""
    assert Secret("a") == Secret("a")
    assert hash(Secret("a")) == hash(Secret("a"))
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert copy.deepcopy(Secret("a")) == Secret("a")


def test_a_configuration_cannot_be_changed() -> None:
    """What was checked at start stays as it was checked: no attribute and no table of it can be written to."""
    configuration = load_configuration(
        environ={}, overrides={"regions": {"scaleway-par-1": {"base_url": "https://paris.example/v1"}}}
    )
    with pytest.raises(AttributeError):
        configuration.receipt_key = "x"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        configuration.upstreams["scaleway-par-1"].base_url = "http://elsewhere"  # type: ignore[misc]
    for table in (configuration.regions, configuration.upstreams, configuration.signals.chains):
        with pytest.raises(TypeError):
            table["scaleway-par-1"] = None  # type: ignore[index]
