"""What the bench installs: in folders of its own, from lock files with hashes, once for each state of a lock."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["environment", "said", "why_not"]

_LOCKS = Path(__file__).parent.parent / "requirements"
_SECONDS = 900


def environment(folder: Path, lock: str) -> Path:
    """Install the packages of a lock file into a virtual environment and return its Python.

    Raises:
        OSError: the installer is not there.
        subprocess.SubprocessError: it failed, and said why.
    """
    lines = _LOCKS / lock
    state = hashlib.sha256(lines.read_bytes()).hexdigest()
    made, python = folder / ".made", folder / "bin/python"
    if not made.exists() or made.read_text(encoding="ascii") != state:
        print(f"Setting up {folder.name} aside (once; a minute or so) ...", file=sys.stderr, flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        uv = str(Path(sys.executable).parent / "uv")
        said([uv, "venv", "--quiet", "--python", sys.executable, str(folder)])
        said([uv, "pip", "install", "--quiet", "--python", str(python), "--require-hashes", "-r", str(lines)])
        made.write_text(state, encoding="ascii")
    return python


def said(command: Sequence[str], variables: Mapping[str, str] | None = None, folder: Path | None = None) -> str:
    """Run a command in `folder` and return what it printed.

    Raises:
        OSError: there is no such program.
        subprocess.SubprocessError: it failed or took too long.
    """
    finished = subprocess.run(  # noqa: S603
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        cwd=folder,
        timeout=_SECONDS,
        env={**os.environ, **(variables or {})},
    )
    return (finished.stdout.decode() or finished.stderr.decode()).strip()


def why_not(error: OSError | subprocess.SubprocessError) -> str:
    """Say in a line why something could not be set up: the last that the failed command wrote, else the error."""
    wrote = error.stderr if isinstance(error, subprocess.CalledProcessError) and error.stderr else b""
    return (wrote.decode(errors="replace").strip().splitlines() or [str(error)])[-1][:200]
