"""Importing a part of the package costs that part: nothing of the rest, and no library that it does not need."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import vetted_mw

if TYPE_CHECKING:
    from pathlib import Path

HEAVY = ("httpx", "starlette", "pydantic", "opentelemetry", "sqlite3", "cryptography", "uvicorn", "asyncio")
OF_SOME = (
    "vetted_mw.grid.sources.fetching",
    "vetted_mw.grid.sources.shipped",
    "vetted_mw.proxy.own.transport",
    "vetted_mw.receipts.ecologits",
    "vetted_mw.receipts.ledger.sqlite",
    "vetted_mw.receipts.signing",
)
NEITHER_I_O_NOR_SETTINGS = ("httpx", "starlette", "pydantic", "opentelemetry", "sqlite3", "cryptography", "uvicorn")


def told_by(code: str) -> Any:
    """Return what a fresh interpreter that runs `code` prints, as JSON."""
    # Coverage, which begins with a process that is asked to, imports libraries of its own.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=environment)
    return json.loads(done.stdout)


def imported_by(statement: str) -> set[str]:
    """Return the names of all modules that a fresh interpreter has after `statement`."""
    return set(told_by(f"import json, sys\n{statement}\nprint(json.dumps(sorted(sys.modules)))"))


def test_the_package_by_itself_imports_nothing_of_its_own() -> None:
    """Whoever needs its version or one of its errors does not pay for a gateway."""
    modules = imported_by("import vetted_mw")
    assert {name for name in modules if name.startswith("vetted_mw")} == {"vetted_mw"}
    assert modules.isdisjoint(HEAVY)


@pytest.mark.parametrize(
    "module",
    [
        "vetted_mw.cli",
        "vetted_mw.chat.request",
        "vetted_mw.chat.sse",
        "vetted_mw.errors",
        "vetted_mw.receipts.maker",
        "vetted_mw.routing.decision",
    ],
)
def test_what_is_light_stays_light(module: str) -> None:
    """The command line before a command is known, and all that parses, decides and computes, needs no I/O library."""
    assert imported_by(f"import {module}").isdisjoint(NEITHER_I_O_NOR_SETTINGS)


@pytest.mark.parametrize("module", ["cryptography", "uvicorn", "ecologits"])
def test_a_gateway_needs_no_extra_to_be_imported(module: str) -> None:
    """Neither the server nor a key's library is imported where nobody configured one."""
    assert module not in imported_by("from vetted_mw import Gateway, VettedMiddleware, VettedProxy")


def test_a_gateway_is_imported_without_what_only_some_configure() -> None:
    """The schema of the settings, the grid's services, keys, the ledger and our own client come when they are asked."""
    modules = imported_by("from vetted_mw import Gateway, VettedMiddleware, VettedProxy")
    ours = {name for name in modules if name.startswith("vetted_mw.settings.")}
    assert ours | (modules & {"pydantic", "pydantic_settings", "xml.parsers.expat"}) == set()
    assert modules.isdisjoint(OF_SOME)


def test_a_gateway_of_the_settings_imports_what_they_name(tmp_path: Path) -> None:
    """Without a word on signals, keys and a ledger nothing of theirs is imported; with one, what it names is."""
    plain, full = tmp_path / "plain.toml", tmp_path / "full.toml"
    plain.write_text("")
    full.write_text(f"signals.sources.statnett = {{}}\nledger.path = {str(tmp_path / 'ledger.sqlite')!r}\n")
    statement = "from vetted_mw import Gateway\nGateway.from_file({!r})"
    assert imported_by(statement.format(str(plain))).isdisjoint(OF_SOME)
    named = {"vetted_mw.grid.sources.shipped", "vetted_mw.receipts.ledger.sqlite"}
    assert imported_by(statement.format(str(full))) & set(OF_SOME) == {*named, "vetted_mw.grid.sources.fetching"}


def test_no_file_of_figures_is_read_on_import() -> None:
    """Regions, factors, coefficients and the version are read by whoever needs them first, and not for an import."""
    code = """
import json, sys
opened = []
sys.addaudithook(lambda event, told: opened.append(str(told[0])) if event == "open" else None)
import vetted_mw
from vetted_mw import Gateway, VettedMiddleware, VettedProxy
{}
print(json.dumps([name for name in opened if name.endswith((".toml", ".json", "METADATA"))]))
"""
    assert told_by(code.format("")) == []
    assert told_by(code.format("vetted_mw.__version__")) != []


def test_every_public_name_is_there_and_no_other() -> None:
    """Names are imported when they are asked for; what is misspelt is told as ever."""
    assert [name for name in vetted_mw.__all__ if not hasattr(vetted_mw, name)] == []
    assert set(vetted_mw.__all__) <= set(dir(vetted_mw))
    with pytest.raises(AttributeError, match="has no attribute 'Gatway'"):
        vetted_mw.Gatway  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(ImportError, match="Gatway"):
        exec("from vetted_mw import Gatway")  # noqa: S102 (a type checker would see it)
