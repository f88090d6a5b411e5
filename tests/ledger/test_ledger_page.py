"""What `docs/ledger.md` promises in code and in its tables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ledger.keeping import entry, hold_to_its_word, opened, rows_of
from vetted_mw.receipts.ledger import faults

PAGE = (Path(__file__).parents[2] / "docs" / "ledger.md").read_text(encoding="utf-8")


@pytest.mark.anyio
async def test_the_backup_is_whole_beside_a_live_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's own lines copy a ledger that is open, with what is still in its log."""
    (lines,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    async with opened(Path("receipts.sqlite3")) as ledger:
        await ledger.keep([entry() for _ in range(20)], None)
        exec(compile(lines, "ledger.md", "exec"), {})  # noqa: S102 (the page's own lines)
    assert len(rows_of(Path("receipts-backup.sqlite3"))) == 20
    hold_to_its_word(Path("receipts-backup.sqlite3"))


def test_every_reason_a_fault_can_have_is_on_the_page() -> None:
    """An operator who reads a reason in the log finds it on the page."""
    words = {*faults._SQLITE.values(), *faults._ERRNO.values()}
    assert {word for word in words if f"`{word}`" not in PAGE} == set()
