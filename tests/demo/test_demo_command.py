"""`vetted-mw demo` as a process of its own."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from cli.commands import await_answer, finished, started
from support import unused_port
from vetted_mw import ConfigurationError
from vetted_mw.demo import run_demo


def test_once_goes_through_everything_and_exits_0(tmp_path: Path) -> None:
    """Every stop is printed, receipts name the demo as their issuer, and settings of the machine stay out of it."""
    ran = finished(tmp_path, "demo", "--once", environ={"VETTED_RECEIPTS__ISSUER": "somebody else"})
    assert (ran.code, ran.err) == (0, "")
    for number in range(1, 7):
        assert f"\n{number}. " in ran.out
    assert "issuer                       demo" in ran.out
    assert "somebody else" not in ran.out
    assert "pinned_region_unavailable" in ran.out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_runs_until_told_to_stop_and_clears_up(number: int, tmp_path: Path) -> None:
    """It prints what to paste, answers at the port asked for, and leaves no folder behind however it is told to stop."""
    port = unused_port()
    with started(tmp_path, "demo", "--port", port, environ={"TMPDIR": str(tmp_path)}) as demo:
        demo.line_with("Stop with Ctrl-C")
        assert demo.line_with(f"http://127.0.0.1:{port}/v1")
        folder = Path(demo.line_with("settings: ").rpartition(" ")[2]).parent
        assert folder.parent == tmp_path
        assert folder.exists()
        assert await_answer(f"http://127.0.0.1:{port}/readyz").status_code == 200
        assert demo.stopped_by(number) == 0
        assert not folder.exists()
    assert [line for line in demo.lines if "Traceback" in line] == []


def test_a_taken_port_is_told_in_one_line(tmp_path: Path) -> None:
    """The port and the way out, no traceback."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ran = finished(tmp_path, "demo", "--port", port)
    assert (ran.code, ran.out) == (2, "")
    (line,) = ran.err.splitlines()
    assert line.startswith(f"vetted-mw: port {port} of 127.0.0.1 is taken.")
    assert "--port" in line


def test_a_port_that_may_not_be_used_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is refused for another reason is not called taken."""

    def denied(_self: socket.socket, _address: object) -> None:
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr(socket.socket, "bind", denied)
    with pytest.raises(ConfigurationError, match="cannot be used"):
        run_demo(port=80, once=False)
