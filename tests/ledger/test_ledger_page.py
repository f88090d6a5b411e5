"""What `docs/ledger.md` promises in code, in its commands and in its tables."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ledger.keeping import entry, hold_to_its_word, opened, rows_of
from receipts.keys import private_pem, signer
from receipts.ledgers import made_receipt, write_ledger
from vetted_mw.cli import main
from vetted_mw.receipts.ledger import faults
from vetted_mw.receipts.ledger.checkpoints import make_checkpoint
from vetted_mw.receipts.ledger.schema import SCHEMA_VERSION

PAGE = (Path(__file__).parents[2] / "docs" / "ledger.md").read_text(encoding="utf-8")
BACKUP, CHECK = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
PERIOD, TEXTS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)

AT = datetime(2026, 11, 30, tzinfo=UTC)


@pytest.mark.anyio
async def test_the_backup_is_whole_beside_a_live_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's own lines copy a ledger that is open, with what is still in its log."""
    monkeypatch.chdir(tmp_path)
    async with opened(Path("receipts.sqlite3")) as ledger:
        await ledger.keep([entry() for _ in range(20)], None)
        exec(compile(BACKUP, "ledger.md", "exec"), {})  # noqa: S102 (the page's own lines)
    assert len(rows_of(Path("receipts-backup.sqlite3"))) == 20
    hold_to_its_word(Path("receipts-backup.sqlite3"))


def test_every_reason_a_fault_can_have_is_on_the_page() -> None:
    """An operator who reads a reason in the log finds it on the page."""
    words = {*faults._SQLITE.values(), *faults._ERRNO.values()}
    assert {word for word in words if f"`{word}`" not in PAGE} == set()


def test_the_page_names_the_layout_of_the_file() -> None:
    """What an operator reads off a file is what this release writes."""
    assert f'"PRAGMA user_version"`: {SCHEMA_VERSION})' in PAGE


def test_a_file_that_is_done_is_fixed_packed_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The commands for an old file run as they stand, signed with the settings' key, and count each receipt once."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VETTED_CONFIG", raising=False)
    Path("signing-key.pem").touch(0o600)
    Path("signing-key.pem").write_text(private_pem())
    Path("vetted.toml").write_text(
        '[signing]\nkey = { file = "signing-key.pem" }\n[ledger]\npath = "receipts-2027-q1.sqlite3"\n'
    )
    both = made_receipt(issued_at="2026-12-31T23:00:00Z")
    write_ledger(Path("receipts.sqlite3"), [made_receipt(issued_at="2026-10-01T00:00:00Z"), both], signer())
    write_ledger(Path("receipts-2027-q1.sqlite3"), [made_receipt(issued_at="2027-01-02T00:00:00Z")], signer())
    told = []
    for command in PERIOD.splitlines():
        assert main(shlex.split(command)[1:]) == 0, command
        told.append(capsys.readouterr().out)
    assert Path("receipts-2026-q4.jws").read_text().startswith("ey")
    assert "2027-01-31, both included (UTC): 3, of quarter.zip, receipts-2027-q1.sqlite3" in told[-1]


@pytest.mark.parametrize("is_signed", [True, False])
def test_standard_tools_check_a_whole_ledger(tmp_path: Path, is_signed: bool) -> None:
    """Gaps, heads and checkpoints of several writers are recomputed by the page's lines alone."""
    by = signer() if is_signed else None
    ledger = tmp_path / "receipts.sqlite3"
    for name, rows in (("one", 5), ("two", 2)):
        write_ledger(ledger, [made_receipt(model="m\u2028n") for _ in range(rows)], by, name)
        make_checkpoint(ledger, by, AT)
    write_ledger(ledger, [made_receipt()], by, "one")
    write_texts(tmp_path)
    assert checked(tmp_path) == "no gaps: True\nheads: True\ncheckpoints: True\n"


def test_standard_tools_find_what_was_taken_out_or_changed(tmp_path: Path) -> None:
    """A row taken out is a gap and breaks the checkpoint; the newest one taken out contradicts its head."""
    write_ledger(tmp_path / "receipts.sqlite3", [made_receipt() for _ in range(6)], signer())
    make_checkpoint(tmp_path / "receipts.sqlite3", signer(), AT)
    write_texts(tmp_path)
    rows = (tmp_path / "receipts.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "receipts.jsonl").write_text("".join([*rows[:2], *rows[3:]]), encoding="utf-8")
    assert checked(tmp_path) == "no gaps: False\nheads: True\ncheckpoints: False\n"
    (tmp_path / "receipts.jsonl").write_text("".join(rows[:-1]), encoding="utf-8")
    assert checked(tmp_path) == "no gaps: True\nheads: False\ncheckpoints: False\n"


def write_texts(folder: Path) -> None:
    """Do what the page's `sqlite3` lines do; that program is not everywhere, and its statements are what counts."""
    for line in TEXTS.splitlines():
        _program, name, statement, _to, out = shlex.split(line)
        with contextlib.closing(sqlite3.connect(folder / name)) as database, io.StringIO() as text:
            text.writelines(f"{row}\n" for (row,) in database.execute(statement))
            (folder / out).write_text(text.getvalue(), encoding="utf-8", newline="\n")


def checked(folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-I", "-c", CHECK], cwd=folder, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout
