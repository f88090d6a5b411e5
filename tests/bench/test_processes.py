"""What is read of processes, and what becomes of a peer that cannot be had."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from bench import aside, peers
from bench.processes import cores, cpu_seconds, resident_bytes, running, tree, unused_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SPENDS = "import sys; sum(range(10**7)); print('done', flush=True); sys.stdin.read()"
HAS_A_CHILD = (
    "import subprocess, sys; "
    f"child = subprocess.Popen([sys.executable, '-c', {SPENDS!r}], stdin=subprocess.PIPE, stdout=sys.stdout); "
    "sys.stdin.read()"
)


@pytest.fixture
def parent() -> Iterator[int]:
    """A process that does nothing, whose child has spent CPU."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", HAS_A_CHILD], stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"done"
        yield process.pid
        process.communicate()


def test_the_cpu_of_children_counts(parent: int) -> None:
    whole = tree(parent)

    assert whole[0] == parent
    assert len(whole) == 2
    assert cpu_seconds(whole) > cpu_seconds([parent]) > 0


def test_memory_is_that_of_the_whole_tree(parent: int) -> None:
    assert resident_bytes(tree(parent)) > resident_bytes([parent]) > 1_000_000


def test_a_process_that_is_gone_counts_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass

    assert cpu_seconds([ended.pid]) == 0
    assert resident_bytes([ended.pid]) == 0


def test_a_gateway_that_does_not_start_is_told_with_its_last_words(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such setting')"]

    with (
        pytest.raises(RuntimeError, match="no such setting"),
        running(command, unused_port(), on=cores()[1], log=tmp_path / "log"),
    ):
        pass


def test_a_gateway_and_what_it_started_are_gone_at_the_end(tmp_path: Path) -> None:
    port = unused_port()
    serves = f"import signal, socket; kept = socket.create_server(('127.0.0.1', {port})); signal.pause()"
    starts = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {serves!r}])"
    with running([sys.executable, "-c", starts], port, on=cores()[1], log=tmp_path / "log") as pid:
        whole = tree(pid)
        assert len(whole) == 2
    until = time.monotonic() + 20
    while cpu_seconds(whole) and time.monotonic() < until:
        time.sleep(0.02)
    assert cpu_seconds(whole) == 0


def test_what_cannot_be_installed_is_absent_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_command: object, **_more: object) -> str:
        raise subprocess.CalledProcessError(1, ["uv"], stderr=b"x\nerror: the registry cannot be reached\n")

    monkeypatch.setattr(aside, "said", refuses)
    monkeypatch.setattr(peers, "said", refuses)
    monkeypatch.setattr(shutil, "which", lambda *_names, **_more: None)

    assert peers.litellm(tmp_path) == peers.Peer(name="LiteLLM", absent="error: the registry cannot be reached")
    assert peers.vllm_router(tmp_path).command == ()
    assert "no apt-get" in peers.nginx(tmp_path).absent
