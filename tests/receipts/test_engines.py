"""Engines by name, and what happens where one is not installed."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PackageNotFoundError

import pytest

from vetted_mw.errors import ConfigurationError
from vetted_mw.receipts import ecologits
from vetted_mw.receipts.engines import engine_named


@pytest.mark.parametrize("name", ["parametric", "ecologits"])
def test_an_engine_is_found_by_its_name(name: str) -> None:
    """The settings' word for an engine is the one its receipts carry."""
    assert engine_named(name).name == name


def test_an_unknown_engine_is_refused_with_the_names_there_are() -> None:
    """Whoever names an engine that is none reads which there are."""
    with pytest.raises(
        ConfigurationError, match=r"receipts\.engine: there is no such engine\. .*parametric or ecologits"
    ):
        engine_named("magic")


def test_the_package_is_imported_only_where_it_is_asked_for() -> None:
    """A gateway with the default engine never loads the optional package, which takes long to import."""
    code = (
        "import sys; import vetted_mw; from vetted_mw.receipts.engines import engine_named; engine_named('parametric');"
        "assert 'ecologits' not in sys.modules; engine_named('ecologits'); assert 'ecologits' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_without_its_package_the_engine_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway whose settings want EcoLogits and that does not have it does not start, and says what to install."""

    def missing(_name: str) -> str:
        raise PackageNotFoundError

    monkeypatch.setattr(ecologits, "version", missing)
    with pytest.raises(ConfigurationError, match=r"ecologits==0\.11\.3.*not installed.*extra ecologits"):
        engine_named("ecologits")


def test_another_version_of_the_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Receipts name the version their figures are by, so that no other may make them."""
    monkeypatch.setattr(ecologits, "version", lambda _name: "0.12.0")
    with pytest.raises(ConfigurationError, match=r"needs ecologits==0\.11\.3, and ecologits==0\.12\.0 is installed"):
        engine_named("ecologits")


def test_a_package_that_cannot_be_imported_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken installation is told at the start, and not once per receipt."""

    def broken(_name: str) -> object:
        raise ImportError("pydantic is too old")

    monkeypatch.setattr(ecologits, "import_module", broken)
    with pytest.raises(ConfigurationError, match=r"cannot be imported"):
        engine_named("ecologits")
