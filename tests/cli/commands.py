"""Run commands: inside the test, with what they printed, or as processes of their own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import httpx
import msgspec

from vetted_mw.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import pytest

LIMIT_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What became of a command.

    Attributes:
        code: its exit code.
        out: what it printed to standard output.
        err: and to standard error.
    """

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Return its output as JSON."""
        return msgspec.json.decode(self.out)

    def rows(self) -> dict[str, list[str]]:
        """Return the cells of the table in its output by each of them: columns stand two blanks or more apart."""
        lines = self.out.splitlines()
        rule = next(number for number, line in enumerate(lines) if line and set(line) <= {"-", " "})
        starts = [
            index
            for index, char in enumerate(lines[rule])
            if char == "-" and lines[rule][index - 1 : index] in {"", " "}
        ]
        rows: dict[str, list[str]] = {}
        for line in lines[rule + 1 :]:
            if not line:
                break
            cells = [line[start:end].strip() for start, end in zip(starts, [*starts[1:], None], strict=True)]
            rows |= dict.fromkeys(cells, cells)
        return rows


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> Ran:
    """Run a command inside the test; what argparse refuses is an exit code too."""
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as exit_:
        code = int(exit_.code or 0)
    printed = capsys.readouterr()
    return Ran(code=code, out=printed.out, err=printed.err)


async def run_beside(capsys: pytest.CaptureFixture[str], *arguments: object) -> Ran:
    """Run a command in a thread, so that upstreams in the test's own loop can answer it."""
    return await anyio.to_thread.run_sync(lambda: run(capsys, *arguments))


@dataclass(slots=True, kw_only=True)
class Running:
    """A command in a process of its own.

    Attributes:
        process: it.
        lines: what it has written, by line.
        said: set at each new line and at the end.
    """

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    said: threading.Condition = field(default_factory=threading.Condition)
    ended: bool = False

    def line_with(self, text: str) -> str:
        """Wait for a line that holds `text` and return it."""

        def found() -> str | None:
            return next((line for line in self.lines if text in line), None)

        with self.said:
            self.said.wait_for(lambda: found() or self.ended, timeout=LIMIT_SECONDS)
            line = found()
        assert line is not None, f"no {text!r} in {self.lines}"
        return line

    def stopped_by(self, number: int) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=LIMIT_SECONDS)

    def read(self) -> None:
        """Note what the process says until it ends."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self.said:
                self.lines.append(line.rstrip("\n"))
                self.said.notify_all()
        with self.said:
            self.ended = True
            self.said.notify_all()


@contextlib.contextmanager
def started(folder: Path, *arguments: object, environ: Mapping[str, str] | None = None) -> Iterator[Running]:
    """Start `python -m vetted_mw ...` in `folder`; whatever is still running at the end is killed, workers too."""
    command = [sys.executable, "-m", "vetted_mw", *map(str, arguments)]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=clean_environ() | dict(environ or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    running = Running(process=process)
    reader = threading.Thread(target=running.read)
    reader.start()
    try:
        yield running
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        reader.join()
        assert process.stdout is not None
        process.stdout.close()


def finished(
    folder: Path,
    *arguments: object,
    environ: Mapping[str, str] | None = None,
    python: tuple[str, ...] = ("-m", "vetted_mw"),
) -> Ran:
    """Run `python -m vetted_mw ...` in `folder` to its end."""
    done = subprocess.run(
        [sys.executable, *python, *map(str, arguments)],
        cwd=folder,
        env=clean_environ() | dict(environ or {}),
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    return Ran(code=done.returncode, out=done.stdout, err=done.stderr)


def clean_environ() -> dict[str, str]:
    """Return the environment without settings of the machine's own."""
    return {name: value for name, value in os.environ.items() if not name.upper().startswith("VETTED_")}


def await_answer(url: str) -> httpx.Response:
    """GET until somebody answers."""
    give_up = time.monotonic() + LIMIT_SECONDS
    with httpx.Client(trust_env=False, timeout=LIMIT_SECONDS) as client:
        while True:
            try:
                return client.get(url)
            except httpx.ConnectError:
                if time.monotonic() > give_up:
                    raise
                time.sleep(0.02)
