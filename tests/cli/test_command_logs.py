"""What the commands log is readable as it stands: message and fields on one line, on standard error."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from vetted_mw.cli.logs import configure_logging

if TYPE_CHECKING:
    from pathlib import Path


def test_a_records_fields_stand_behind_its_message() -> None:
    """A constant message says what; its fields say which, and a reader without a log stack sees both."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers.clear()
    try:
        configure_logging(logging.WARNING)
        (handler,) = root.handlers
        record = logging.makeLogRecord(
            {"name": "vetted_mw", "levelname": "WARNING", "msg": "a region is out of service", "region": "ovh-gra-1"}
        )
        line = handler.format(record)
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    assert line.endswith("WARNING vetted_mw: a region is out of service region=ovh-gra-1")


def test_output_that_nobody_reads_to_its_end_is_no_traceback(tmp_path: Path) -> None:
    """`vetted-mw regions --no-probe | head -1` ends quietly."""
    command = f"{sys.executable} -m vetted_mw regions --no-probe | true"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("VETTED_")}
    done = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == ""
