"""Real processes under test: a llama.cpp server and `vetted-mw serve`, each with its own log, ended by whoever began it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import sysconfig
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Self

import httpx

from support import unused_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ["GatewayProcess", "LlamaServer", "Process", "eventually"]

_LIMIT_SECONDS = 60.0
_RAN = re.compile(r"launch_slot_: .* processing task")
_REFUSED = re.compile(r"got exception: .*'messages' is required")


def eventually(what: str, holds: Callable[[], bool]) -> None:
    """Wait until `holds`, looking again and again; give up after a generous while, saying `what` never came."""
    give_up = time.monotonic() + _LIMIT_SECONDS
    while not holds():
        if time.monotonic() > give_up:
            raise AssertionError(f"waited in vain: {what}")
        time.sleep(0.05)


class Process(ABC):
    """A server of ours on a loopback port, its output in a log file."""

    ready_path = "/health"
    folder: Path | None = None

    def __init__(self, log: Path, port: int | None = None) -> None:
        self.log = log
        self.port = unused_port() if port is None else port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def origin(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        """What goes into `base_url`, a region's or a client's."""
        return f"{self.origin}/v1"

    def __enter__(self) -> Self:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=self.environment(),
                cwd=self.folder,
            )
        try:
            eventually(f"{type(self).__name__} answers; its log: {self.log}", self._answers)
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self.resume()
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=_LIMIT_SECONDS)
            self.kill()

    def kill(self) -> None:
        """End it as `kill -9` does: no goodbye, and the port is closed when this returns."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def pause(self) -> None:
        """Stop it as it stands: its port stays open, and nobody answers."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on where it was stopped."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    @abstractmethod
    def command(self) -> list[str]:
        """The command line that starts it."""

    def environment(self) -> dict[str, str]:
        """Its environment: this one's, without the settings an operator of this machine may have."""
        return {name: value for name, value in os.environ.items() if not name.startswith("VETTED_")}

    def text(self) -> str:
        """Its log so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def _answers(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise AssertionError(f"{type(self).__name__} ended at once:\n{self.text()}")
        try:
            return httpx.get(self.origin + self.ready_path, trust_env=False, timeout=5).status_code == 200
        except httpx.TransportError:
            return False


class LlamaServer(Process):
    """llama.cpp's HTTP server over one model file. Its own log has one line for each completion it began to compute."""

    def __init__(
        self, model: Path, log: Path, port: int | None = None, *, alias: str = "tiny", verbosity: int = 3
    ) -> None:
        super().__init__(log, port)
        self.alias = alias
        self._model = model
        self._verbosity = verbosity

    def command(self) -> list[str]:
        """Run the script beside this module in a process of its own."""
        script = str(Path(__file__).with_name("serve_llamacpp.py"))
        return [sys.executable, script, str(self._model), str(self.port), self.alias, str(self._verbosity)]

    def completions(self) -> int:
        """Count the completions of its log.

        While it lives it is first sent a request it must refuse, and the refusal awaited in the log: the log is written
        in order, so that every earlier completion stands there by then. A refused request computes nothing.
        """
        if self._process is not None:
            seen = len(_REFUSED.findall(self.text()))
            refused = httpx.post(f"{self.base_url}/chat/completions", json={"max_tokens": 1}, trust_env=False)
            assert refused.status_code == 400
            eventually("the refusal in the server's own log", lambda: len(_REFUSED.findall(self.text())) > seen)
        return len(_RAN.findall(self.text()))


class GatewayProcess(Process):
    """`vetted-mw serve` over a settings file."""

    ready_path = "/healthz"

    def __init__(self, settings: Path, log: Path) -> None:
        super().__init__(log)
        self._settings = settings

    def command(self) -> list[str]:
        """Run the installed console script."""
        script = Path(sysconfig.get_path("scripts"), "vetted-mw")
        return [str(script), "serve", "--config", str(self._settings), "--port", str(self.port)]
