"""What the commands log is readable as it stands: message and fields on one line, on standard error."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import subprocess
import sys
from typing import TYPE_CHECKING, TextIO

import pytest

from streams.wall import until
from vetted_mw.cli.logs import configure_logging, write_lines_at_once

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LOG = logging.getLogger("vetted_mw")


class Written(io.StringIO):
    """Standard error that tells what was written to it at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []

    def write(self, text: str) -> int:
        """Take one piece."""
        self.pieces.append(text)
        return len(text)

    @property
    def lines(self) -> list[str]:
        """The lines, each without its time."""
        return [line.split(" ", 2)[2] for line in "".join(self.pieces).splitlines()]


class Gone(io.StringIO):
    """Standard error that nobody reads any more."""

    def write(self, text: str) -> int:
        """Refuse."""
        raise BrokenPipeError


@pytest.fixture
def configured_onto(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[TextIO], logging.Handler]]:
    """Configure logging at INFO onto a stream, whatever pytest had there; as it was at the end."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level

    def configured(stream: TextIO) -> logging.Handler:
        root.handlers.clear()
        monkeypatch.setattr(sys, "stderr", stream)
        configure_logging(logging.INFO)
        (handler,) = root.handlers
        return handler

    yield configured
    root.handlers[:] = before
    root.setLevel(level)


@pytest.fixture
def written(configured_onto: Callable[[TextIO], logging.Handler]) -> Written:
    """What is logged, at INFO."""
    stream = Written()
    configured_onto(stream)
    return stream


def test_a_records_fields_stand_behind_its_message(written: Written) -> None:
    """A constant message says what; its fields say which, and a reader without a log stack sees both."""
    LOG.warning("a region is out of service", extra={"region": "ovh-gra-1", "after": 3})
    assert written.lines == ["WARNING vetted_mw: a region is out of service region=ovh-gra-1 after=3"]


def test_a_line_begins_with_the_time_as_logging_writes_it(
    configured_onto: Callable[[TextIO], logging.Handler],
) -> None:
    """Date, time and milliseconds are those of logging's own format, second after second."""
    handler, plain = configured_onto(Written()), logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    for created in (1_800_000_000.0, 1_800_000_000.998, 1_800_000_001.001, 1_799_999_999.5):
        record = logging.makeLogRecord({"name": "vetted_mw", "levelname": "INFO", "msg": "%s is up", "args": ("it",)})
        record.created, record.msecs = created, created % 1 * 1000
        assert handler.format(record) == plain.format(record)


def test_an_exception_stands_before_the_fields(written: Written) -> None:
    """What somebody else logs with a traceback is shown whole, and its fields after it."""
    try:
        int("of another package")
    except ValueError:
        logging.getLogger("other").exception("it failed", extra={"part": 7})
    text = "".join(written.pieces)
    assert "ERROR other: it failed\nTraceback" in text
    assert text.endswith("'of another package' part=7\n")


def test_lines_of_a_busy_loop_are_written_together(written: Written) -> None:
    """Below WARNING a line waits a little, so that one write takes several; none is lost and the order stays."""

    async def busy() -> None:
        for number in range(5):
            LOG.info("a chat completion ended", extra={"number": number})
        assert written.pieces == []
        await until(lambda: bool(written.pieces))

    asyncio.run(busy())
    assert len(written.pieces) == 1
    assert written.lines == [f"INFO vetted_mw: a chat completion ended number={number}" for number in range(5)]


def test_a_loop_that_ends_early_does_not_keep_the_next_ones_lines(written: Written) -> None:
    """What waited for a loop that is over is written with the lines of the next."""

    async def begun() -> None:
        LOG.info("begun")

    async def waited() -> None:
        LOG.info("again")
        await until(lambda: bool(written.pieces))

    asyncio.run(begun())
    asyncio.run(waited())
    assert written.lines == ["INFO vetted_mw: begun", "INFO vetted_mw: again"]


def test_a_warning_waits_for_nothing(written: Written) -> None:
    """It is written at once, after the lines that had waited."""

    async def warned() -> None:
        LOG.info("before")
        LOG.warning("a region is out of service")
        assert written.lines == ["INFO vetted_mw: before", "WARNING vetted_mw: a region is out of service"]

    asyncio.run(warned())


def test_outside_a_loop_nothing_waits(written: Written) -> None:
    """Nobody would come by to write it."""
    LOG.info("settings were read")
    assert written.lines == ["INFO vetted_mw: settings were read"]


def test_nothing_waits_once_the_process_may_end_at_any_moment(written: Written) -> None:
    """`write_lines_at_once` writes what waits, and each line after it at once."""

    async def ending() -> None:
        LOG.info("before")
        write_lines_at_once()
        assert written.lines == ["INFO vetted_mw: before"]
        LOG.info("shutting down")
        assert written.lines == ["INFO vetted_mw: before", "INFO vetted_mw: shutting down"]

    asyncio.run(ending())


def test_what_is_written_together_fits_a_pipe_in_one_piece(written: Written) -> None:
    """Lines of several workers on one pipe do not run into each other, letters of several bytes included."""

    async def busy() -> None:
        for number in range(100):
            LOG.info("a chat completion ended", extra={"model": "modèle-" + "é" * 150, "number": number})
        write_lines_at_once()

    asyncio.run(busy())
    assert len(written.lines) == 100
    assert max(len(piece.encode()) for piece in written.pieces) <= 4096
    assert [piece for piece in written.pieces if not piece.endswith("\n")] == []


def test_a_line_longer_than_that_is_written_whole(written: Written) -> None:
    """A long field is not cut."""

    async def busy() -> None:
        LOG.info("short")
        LOG.info("long", extra={"reason": "x" * 10_000})
        write_lines_at_once()

    asyncio.run(busy())
    assert written.lines == ["INFO vetted_mw: short", "INFO vetted_mw: long reason=" + "x" * 10_000]


def test_standard_error_that_is_gone_ends_nothing(configured_onto: Callable[[TextIO], logging.Handler]) -> None:
    """Neither the loop nor the order to stop fails on it, and what cannot be written is not kept."""
    configured_onto(Gone())
    faults: list[object] = []

    async def busy() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: faults.append(context))
        LOG.info("a chat completion ended")
        await asyncio.sleep(0.1)
        LOG.info("a chat completion ended")
        write_lines_at_once()

    asyncio.run(busy())
    assert faults == []


def test_output_that_nobody_reads_to_its_end_is_no_traceback(tmp_path: Path) -> None:
    """`vetted-mw regions --no-probe | head -1` ends quietly."""
    command = f"{sys.executable} -m vetted_mw regions --no-probe | true"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("VETTED_")}
    done = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == ""
