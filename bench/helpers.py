"""The mock upstream and the load: compiled where there is a compiler, else as slower Python that says so."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.aside import environment, why_not

__all__ = ["Helpers", "built"]

_SOURCES = Path(__file__).parent / "native"
_FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra")


@dataclass(frozen=True, slots=True, kw_only=True)
class Helpers:
    """How to start them.

    Attributes:
        upstream: the command of the mock upstream, without its port.
        load: the command of the load, without its arguments.
        by: what they were made with, for the head of the table.
    """

    upstream: tuple[str, ...]
    load: tuple[str, ...]
    by: str


def built(folder: Path) -> Helpers:
    """Compile both into `folder`, once for each state of their sources."""
    sources = sorted(_SOURCES.iterdir())
    state = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]
    compiler = _compiler(folder)
    if compiler is None:
        python = (sys.executable, "-m")
        return Helpers(
            upstream=(*python, "bench.slow.upstream"),
            load=(*python, "bench.slow.load"),
            by="Python (no C compiler: the load may be what is slow)",
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("upstream", "load"):
        if not (folder / f"{name}-{state}").exists():
            made = folder / f"{name}-{state}.{os.getpid()}"
            subprocess.run([*compiler, *_FLAGS, "-o", str(made), str(_SOURCES / f"{name}.c")], check=True)  # noqa: S603
            made.rename(folder / f"{name}-{state}")
    upstream, load = (str(folder / f"{name}-{state}") for name in ("upstream", "load"))
    return Helpers(
        upstream=(upstream,), load=(load,), by=f"C ({'zig cc' if len(compiler) > 1 else Path(compiler[0]).name})"
    )


def _compiler(folder: Path) -> tuple[str, ...] | None:
    for name in (os.environ.get("CC"), "cc", "gcc", "clang"):
        if name and (found := shutil.which(name)):
            return (found,)
    try:
        return (str(environment(folder.parent / "ziglang", "bench-ziglang.txt")), "-m", "ziglang", "cc")
    except (OSError, subprocess.SubprocessError) as error:
        print(f"There is no C compiler: {why_not(error)}", file=sys.stderr)
        return None
