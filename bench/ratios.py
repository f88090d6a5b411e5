"""The table: a line for each thing that was measured, the ratios to the others in it, and the target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.contest import Figure

__all__ = ["OTHERS", "Target", "head", "line", "verdict"]

OTHERS = ("nginx", "vllm-router", "LiteLLM")
"""In the order of their columns. nginx costs less than ours, the other two are to cost more."""

_WIDTHS = (38, 9, 9, 11, 9, 10, 9, 12)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a line is to reach, None: nothing is asked.

    Attributes:
        nginx: ours is at most so many times nginx's: must, goal.
        vllm_router: vllm-router's is at least so many times ours.
        litellm: LiteLLM's is at least so many times ours.
        most: ours is at most this, in the line's own unit.
    """

    nginx: tuple[float, ...] = ()
    vllm_router: tuple[float, ...] = ()
    litellm: tuple[float, ...] = ()
    most: float | None = None

    def told(self) -> str:
        """Return it in words; goals in brackets."""
        words = [] if self.most is None else [f"<= {self.most:.3g}"]
        for sign, bound in (("n<=", self.nginx), ("v>=", self.vllm_router), ("L>=", self.litellm)):
            if bound:
                words.append(f"{sign}{bound[0]:g}" + (f" ({bound[1]:g})" if len(bound) > 1 else ""))
        return " ".join(words)


def head() -> str:
    """Return the line above the table."""
    return _columns("", "ours", *OTHERS, "ours/nginx", "vllm/ours", "LiteLLM/ours") + "  target: must (goal)"


def line(name: str, figures: Mapping[str, Figure], target: Target, *, subject: str = "ours") -> str:
    """Return one line, and below it why figures are missing."""
    ours = figures[subject]
    others = [figures.get(other) for other in OTHERS]
    ratios = [_ratio(ours, others[0]), _ratio(others[1], ours), _ratio(others[2], ours)]
    told = _columns(name, *(_number(one) for one in (ours, *others)), *(_times(one) for one in ratios))
    told += f"  {target.told()}  {verdict(ours, ratios, target)}".rstrip()
    named = (subject, *OTHERS) if subject == "ours" else (subject,)
    whys = [f"{one}: {figures[one].why}" for one in named if one in figures and figures[one].why.startswith("invalid")]
    return told.rstrip() + "".join(f"\n    {why}" for why in whys)


def verdict(ours: Figure, ratios: list[float | None], target: Target) -> str:
    """Say whether the target was met: what was missed, what could not be told, or that all was met."""
    asked = [
        ("n", ratios[0], target.nginx, 1),
        ("v", ratios[1], target.vllm_router, -1),
        ("L", ratios[2], target.litellm, -1),
        ("", ours.value, () if target.most is None else (target.most,), 1),
    ]
    wanted = [(name, got, bounds, sign) for name, got, bounds, sign in asked if bounds]
    if not wanted:
        return ""
    missed = [name for name, got, bounds, sign in wanted if got is not None and got * sign > bounds[0] * sign]
    unknown = [name for name, got, _bounds, _sign in wanted if got is None]
    if missed:
        return f"MISSED {' '.join(missed)}".rstrip()
    if unknown:
        return f"met, but not told: {' '.join(unknown)}".rstrip() if len(unknown) < len(wanted) else "not told"
    all_goals = all(got is not None and got * sign <= bounds[-1] * sign for _name, got, bounds, sign in wanted)
    has_goals = any(len(bounds) > 1 for _name, _got, bounds, _sign in wanted)
    return "met, and the goals" if has_goals and all_goals else "met"


def _ratio(above: Figure | None, below: Figure | None) -> float | None:
    if above is None or below is None or above.value is None or below.value is None or below.value <= 0:
        return None
    return above.value / below.value


def _number(figure: Figure | None) -> str:
    if figure is None:
        return ""
    if figure.value is None:
        return figure.why.split(" ", 1)[0]
    return f"{figure.value:,.{_decimals(figure.value)}f}"


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:,.{_decimals(ratio)}f}"


def _decimals(number: float) -> int:
    """Return how many, for about three digits that mean something."""
    return next((places for bound, places in ((10, 2), (100, 1)) if abs(number) < bound), 0)


def _columns(name: str, *cells: str) -> str:
    return name.ljust(_WIDTHS[0]) + " ".join(cell.rjust(width) for cell, width in zip(cells, _WIDTHS[1:], strict=True))
