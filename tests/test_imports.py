"""Importing a part of the package costs that part: nothing of the rest, and no library that it does not need."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import vetted_mw

HEAVY = ("httpx", "starlette", "pydantic", "opentelemetry", "sqlite3", "cryptography", "uvicorn", "asyncio")
NEITHER_I_O_NOR_SETTINGS = ("httpx", "starlette", "pydantic", "opentelemetry", "sqlite3", "cryptography", "uvicorn")


def imported_by(statement: str) -> set[str]:
    """Return the names of all modules that a fresh interpreter has after `statement`."""
    code = f"import json, sys\n{statement}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return set(json.loads(done.stdout))


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


def test_every_public_name_is_there_and_no_other() -> None:
    """Names are imported when they are asked for; what is misspelt is told as ever."""
    assert [name for name in vetted_mw.__all__ if not hasattr(vetted_mw, name)] == []
    assert set(vetted_mw.__all__) <= set(dir(vetted_mw))
    with pytest.raises(AttributeError, match="has no attribute 'Gatway'"):
        vetted_mw.Gatway  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(ImportError, match="Gatway"):
        exec("from vetted_mw import Gatway")  # noqa: S102 (a type checker would see it)
