"""Several workers under one parent: uvicorn's, but for what SIGHUP means."""

from __future__ import annotations

import contextlib
import os
import signal

from uvicorn.supervisors import Multiprocess

from vetted_mw.cli.orders import takes_reload_order

__all__ = ["Workers"]


class Workers(Multiprocess):
    """Passes SIGHUP on, so that each worker reloads and goes on; uvicorn would end them and their streams.

    The parent holds the signal back and looks for it, since a worker begins with what its parent holds back: one that
    is still starting reloads once it has started, and is not ended by it.
    """

    def handle_signals(self) -> None:
        """Do what the signals since the last look ask for."""
        if takes_reload_order():
            self._reload_all()
        super().handle_signals()

    def _reload_all(self) -> None:
        for process in self.processes:
            if process.pid is not None:
                with contextlib.suppress(ProcessLookupError):  # one that has just died is started anew by the parent
                    os.kill(process.pid, signal.SIGHUP)
