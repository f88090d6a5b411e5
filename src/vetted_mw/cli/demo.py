"""`vetted-mw demo`: the whole gateway on embedded defaults."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vetted_mw.cli.serve import interrupt_on_sigterm, require_server

if TYPE_CHECKING:
    import argparse

__all__ = ["demo"]


def demo(arguments: argparse.Namespace) -> int:
    """Run the demo until told to stop, or once through everything.

    Raises:
        ConfigurationError: the `server` extra is not installed, or the port cannot be listened on.
    """
    require_server()
    from vetted_mw.demo import run_demo  # noqa: PLC0415 (it needs the extra; every other command works without)

    interrupt_on_sigterm()
    return run_demo(port=arguments.port, once=arguments.once)
