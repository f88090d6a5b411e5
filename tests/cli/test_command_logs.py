"""What the commands log is readable as it stands: message and fields on one line, on standard error."""

from __future__ import annotations

import logging

from vetted_mw.cli.logs import configure_logging


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
