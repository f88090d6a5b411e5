"""Whether anybody records yet: asked of the OpenTelemetry API once in a moment, and not at every request."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Slumber"]

_MOMENT_SECONDS = 0.02


class Slumber:
    """Remember for a moment that no SDK has been set: each time the API is asked, it looks at the environment.

    An SDK that is set is noticed within the moment; from then on nothing is asked any more.

    Args:
        is_unset: asks the API; False is final, since a global provider is set once.
        monotonic: seconds that never go back.

    Attributes:
        monotonic: the same.
        until: the instant before which `lasts` is sure to return True: who asks at every request looks here first.
    """

    __slots__ = ("_is_unset", "monotonic", "until")

    def __init__(self, is_unset: Callable[[], bool], *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._is_unset: Callable[[], bool] | None = is_unset
        self.monotonic = monotonic
        self.until = -math.inf

    def lasts(self) -> bool:
        """Return whether nobody records yet, as of a moment ago."""
        if self._is_unset is None:
            return False
        now = self.monotonic()
        if now < self.until:
            return True
        if self._is_unset():
            self.until = now + _MOMENT_SECONDS
            return True
        self._is_unset = None
        self.until = -math.inf
        return False
