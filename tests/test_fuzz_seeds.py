"""The fuzz targets hold for their own seeds: a promise that changed is noticed here, without the fuzzer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).resolve().parents[1] / "fuzz"
RUN = """
import contextlib, importlib, sys, types
atheris = types.ModuleType("atheris")
atheris.instrument_imports = lambda **_: contextlib.nullcontext()
sys.modules["atheris"] = atheris
parsers = importlib.import_module(sys.argv[1])
for name, target in parsers.TARGETS.items():
    seeds = parsers.SEEDS[name]
    assert seeds, name
    for seed in seeds:
        target.check(seed)
    print(name, len(seeds))
"""


@pytest.mark.parametrize("parsers", ["chat_parsers", "grid_parsers"])
def test_every_target_holds_for_its_seeds(parsers: str) -> None:
    """Each target reads each of its seeds and finds no promise broken."""
    ran = subprocess.run(
        [sys.executable, "-c", RUN, parsers], cwd=FUZZ, capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert len(ran.stdout.splitlines()) >= 7
