"""The README's "Receipts as evidence", done as it says: make a key, serve, ask, then verify, export and report."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread
import pytest

from support import served
from vetted_mw import Gateway, VettedProxy
from vetted_mw.testing import FakeUpstream

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path(__file__).parents[2]
_SECTION = re.search(
    r"^## Receipts as evidence\n(.*?)^## ", (_ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
)
assert _SECTION is not None
_BLOCKS = dict(reversed(re.findall(r"^```(\w+)\n(.*?)^```$", _SECTION[1], re.MULTILINE | re.DOTALL)))
_COMMANDS = [
    line
    for kind, text in re.findall(r"^```(\w+)\n(.*?)^```$", _SECTION[1], re.MULTILINE | re.DOTALL)
    if kind == "sh"
    for line in text.replace("\\\n", "").splitlines()
]

pytestmark = pytest.mark.anyio


def run(command: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "vetted_mw", *shlex.split(command)[1:]],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


def ask(command: str, folder: Path, url: str) -> None:
    """Run a `curl` line in the shell, at the address of the gateway under test."""
    asked = command.replace("http://127.0.0.1:8080", url)
    subprocess.run(["sh", "-c", asked], cwd=folder, env=os.environ | {"no_proxy": "*"}, check=True, timeout=60)


def commands(*, begin: str) -> Iterator[str]:
    return (command for command in _COMMANDS if command.startswith(begin))


async def test_the_section_on_receipts_works_as_pasted(tmp_path: Path) -> None:
    """A reader who does what stands there, in its order, gets signed receipts and four commands that accept them."""
    if shutil.which("curl") is None:
        assert not os.environ.get("CI"), "CI must bring curl"
        pytest.skip("curl is not installed")
    begins = {" ".join(command.split()[:2]) for command in _COMMANDS}
    assert begins == {"vetted-mw keys", "curl -s", "vetted-mw receipts"}
    for command in commands(begin="vetted-mw keys"):
        run(command, tmp_path)
    async with FakeUpstream() as paris:
        region = f'\n[regions.scaleway-par-1]\nbase_url = "{paris.base_url}"\nhealth_path = ""\n'
        (tmp_path / "vetted.toml").write_text(_BLOCKS["toml"] + region, encoding="utf-8")
        within = datetime(2026, 11, 29, 12, tzinfo=UTC)  # the quarter that the commands name
        gateway = Gateway.from_file(tmp_path / "vetted.toml", now=lambda: within)
        with served(VettedProxy(gateway)) as url:
            for command in commands(begin="curl"):
                await anyio.to_thread.run_sync(ask, command, tmp_path, url)
    assert json.loads((tmp_path / "answer.json").read_bytes())["receipt"]["signature"]
    assert json.loads((tmp_path / "jwks.json").read_bytes())["keys"]
    told = {command: run(command, tmp_path) for command in commands(begin="vetted-mw receipts")}
    assert len(told) == 4
    assert (tmp_path / "quarter.zip").is_file()
    assert "<svg" in (tmp_path / "quarter.html").read_text(encoding="utf-8")
