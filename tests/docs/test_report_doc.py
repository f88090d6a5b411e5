"""The commands of `docs/report.md` run as they stand."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from receipts.ledgers import made_receipt, write_ledger
from vetted_mw.audit.ledger import AuditedLedger
from vetted_mw.audit.pack.packing import write_pack
from vetted_mw.cli import main

PAGE = (Path(__file__).parents[2] / "docs" / "report.md").read_text(encoding="utf-8")
COMMANDS = [
    line.split("  #")[0].strip()
    for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_gives_a_report(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a folder with settings, a ledger and a pack, each command succeeds and reports the ledger's receipt."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VETTED_CONFIG", raising=False)
    Path("vetted.toml").write_text('[ledger]\npath = "receipts.sqlite3"\n', encoding="utf-8")
    for name in ("receipts", "receipts-2026-q3"):
        write_ledger(tmp_path / f"{name}.sqlite3", [made_receipt(issued_at="2026-08-01T00:00:00.000Z")])
    with AuditedLedger(tmp_path / "receipts.sqlite3") as ledger, Path("quarter.zip").open("wb") as pack:
        period = {"since": "2026-07-01T00:00:00.000Z", "until": "2026-10-01T00:00:00.000Z"}
        write_pack(ledger, pack, **period, jwks=b'{"keys":[]}', software="vetted-mw/0.1.0")
    shutil.copy("quarter.zip", "machine-b.zip")
    arguments = shlex.split(command)
    assert main(arguments[1:]) == 0
    out = Path(arguments[arguments.index("--out") + 1]).read_text(encoding="utf-8") if "--out" in arguments else ""
    assert "mistral-medium-3" in (out or capsys.readouterr().out)


def test_the_page_names_commands() -> None:
    """There are commands to try."""
    assert len(COMMANDS) == 5
