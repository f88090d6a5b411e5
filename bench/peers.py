"""The other gateways, set up aside: the machine stays as it is, and what cannot be had is absent, with a reason."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.aside import environment, said, why_not

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Peer", "litellm", "nginx", "vllm_router"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One of the others.

    Attributes:
        name: for the table.
        version: what it says of itself.
        command: what starts it; empty: it is absent.
        absent: why, where it is.
        libraries: folder of libraries that came with it; None: the machine's.
    """

    name: str
    version: str = ""
    command: tuple[str, ...] = ()
    absent: str = ""
    libraries: Path | None = None


def nginx(folder: Path) -> Peer:
    """Find nginx, or unpack Debian's package in `folder`."""
    return _had("nginx", lambda: _nginx(folder / "nginx"))


def litellm(folder: Path) -> Peer:
    """Install LiteLLM's proxy in an environment of its own."""
    return _had("LiteLLM", lambda: _in_environment("LiteLLM", "litellm", folder / "litellm", "bench-litellm.txt"))


def vllm_router(folder: Path) -> Peer:
    """Install the vLLM project's router in an environment of its own."""
    return _had(
        "vllm-router",
        lambda: _in_environment("vllm-router", "vllm-router", folder / "vllm-router", "bench-vllm-router.txt"),
    )


def _had(name: str, setting_up: Callable[[], Peer]) -> Peer:
    try:
        return setting_up()
    except (OSError, subprocess.SubprocessError) as error:
        return Peer(name=name, absent=why_not(error))


def _nginx(folder: Path) -> Peer:
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    program, libraries = (Path(found), None) if found else (folder / "usr/sbin/nginx", _libraries(folder))
    if not program.exists():
        _unpack("nginx", folder)
        libraries = _libraries(folder)
    told = said([str(program), "-v"], _with(libraries))
    return Peer(name="nginx", version=told.rsplit("/", 1)[-1], command=(str(program),), libraries=libraries)


def _unpack(package: str, folder: Path) -> None:
    """Download a Debian package and the libraries it names, and unpack them; lists and cache are our own."""
    for tool in ("apt-get", "apt-cache", "dpkg"):
        if shutil.which(tool) is None:
            raise FileNotFoundError(f"it is not installed, and there is no {tool} to fetch it with")
    fetched = folder / "fetched"
    for part in ("lists/partial", "archives/partial"):
        (fetched / part).mkdir(parents=True, exist_ok=True)
    own = (
        *("-o", f"Dir::State::Lists={fetched / 'lists'}", "-o", f"Dir::Cache={fetched}"),
        *("-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=", "-o", "pkgCacheFile::Generate=true"),
    )
    said(["apt-get", *own, "-qq", "update"])
    needs = said(["apt-cache", *own, "depends", package])
    libraries = re.findall(r"^ +Depends: (lib(?!c6)\S+|zlib1g)$", needs, re.MULTILINE)
    said(["apt-get", *own, "-qq", "download", package, *libraries], folder=fetched)
    for archive in fetched.glob("*.deb"):
        said(["dpkg", "-x", str(archive), str(folder)])
    shutil.rmtree(fetched)


def _libraries(folder: Path) -> Path | None:
    triplet = f"{platform.machine()}-linux-gnu"
    unpacked = folder / "usr/lib" / triplet
    return unpacked if unpacked.is_dir() else None


def _with(libraries: Path | None) -> dict[str, str]:
    return {} if libraries is None else {"LD_LIBRARY_PATH": str(libraries)}


def _in_environment(name: str, package: str, folder: Path, lock: str) -> Peer:
    python = environment(folder, lock)
    version = said([str(python), "-c", f"import importlib.metadata as of; print(of.version({package!r}))"])
    return Peer(name=name, version=version, command=(str(python.parent / package),))
