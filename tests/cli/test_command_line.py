"""The command line as a whole: help, usage, exit codes."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest

from cli.commands import finished, run
from vetted_mw.cli.table import table

if TYPE_CHECKING:
    from pathlib import Path

COMMANDS = ("serve", "demo", "regions", "explain", "check", "keys", "receipts", "methodology")


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever asks for help sees what there is; each command has help of its own."""
    ran = run(capsys, "--help")
    assert ran.code == 0
    assert [command for command in COMMANDS if command not in ran.out] == []
    for command in COMMANDS:
        assert run(capsys, command, "--help").code == 0


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` prints the installed version."""
    assert run(capsys, "--version").out.split() == ["vetted-mw", version("vetted-mw")]


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("unknown",),
        ("explain",),
        ("serve", "--port", "65536"),
        ("serve", "--port", "-1"),
        ("serve", "--port", "http"),
        ("serve", "--workers", "0"),
        ("demo", "--port", "99999"),
        ("explain", "--model", "m", "--routing", "fast"),
        ("explain", "--model", "m", "--latency-budget-ms", "soon"),
    ],
)
def test_wrong_usage_is_exit_code_2_with_the_usage(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot be a command line is told on standard error, with how to write it."""
    ran = run(capsys, *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("usage: vetted-mw")


@pytest.mark.parametrize("command", [("regions",), ("explain", "--model", "m"), ("serve",)])
def test_settings_that_cannot_be_used_are_one_line_and_exit_code_2(command: tuple[str, ...], tmp_path: Path) -> None:
    """No traceback: the key, the place and the remedy on one line of standard error."""
    (tmp_path / "vetted.toml").write_text("[server]\nprot = 1\n")
    ran = finished(tmp_path, *command)
    assert (ran.code, ran.out) == (2, "")
    (line,) = ran.err.splitlines()
    assert line.startswith("vetted-mw: server.prot: unknown key (in ")
    assert "Did you mean port?" in line


def test_ctrl_c_is_exit_code_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A command that is interrupted ends the way shells expect, without a traceback."""

    def interrupted(_arguments: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("vetted_mw.cli.check.check", interrupted)
    ran = run(capsys, "check")
    assert (ran.code, ran.err) == (130, "")


def test_a_table_is_aligned_with_numbers_to_the_right() -> None:
    """Columns are as wide as their widest cell; no line ends in blanks."""
    text = table(("name", "n"), [("a", "1"), ("longer", "23456")], numbers=("n",))
    assert text.splitlines() == [
        "name        n",
        "------  -----",
        "a           1",
        "longer  23456",
    ]
    assert table(("a", "b"), [("1", "")]).splitlines() == ["a  b", "-  -", "1"]
