"""A command as the parser knows it: where it is, so that to run one is not to import them all."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

__all__ = ["Command"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A function of the parsed arguments that returns the exit code.

    Attributes:
        module: where it is.
        name: of the function in it.
        level: from which on the process logs; None: the command sees to it.
    """

    module: str
    name: str
    level: int | None = logging.WARNING

    def __call__(self, arguments: argparse.Namespace) -> int:
        """Import it and run it; whatever it raises is for the caller."""
        run: Callable[[argparse.Namespace], int] = getattr(import_module(self.module), self.name)
        return run(arguments)
