"""Several workers under one parent: uvicorn's, but for what SIGHUP means."""

from __future__ import annotations

import contextlib
import os
import signal

from uvicorn.supervisors import Multiprocess

__all__ = ["Workers"]


class Workers(Multiprocess):
    """Passes SIGHUP on, so that each worker reloads and goes on; uvicorn would end them and their streams."""

    def handle_hup(self) -> None:
        """Let every worker read the settings again."""
        for process in self.processes:
            if process.pid is not None:
                with contextlib.suppress(ProcessLookupError):  # one that has just died is started anew by the parent
                    os.kill(process.pid, signal.SIGHUP)
