"""What the receipts say beside the default region's figures. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vetted_mw.audit.report.content import largest
from vetted_mw.audit.report.page.bars import Pair, comparison_plot
from vetted_mw.audit.report.page.marks import Element, h
from vetted_mw.audit.report.page.part import REGIONS_DRAWN, Part, figure
from vetted_mw.audit.report.sums import Group
from vetted_mw.audit.report.words import MASS, count, listed, measured, percent

if TYPE_CHECKING:
    from vetted_mw.audit.report.sums import Sums

__all__ = ["comparison"]

_NOT_COMPARED = (
    "No receipt has a figure of the default region beside its own, so nothing is compared: their grid figures are of "
    "different kinds or methods, or no default region was known."
)


def comparison(part: Part) -> list[Element]:
    """Compare what can be compared, and say how much that is."""
    whole, totals = part.whole, part.report.totals
    title = "Compared with the default region"
    if not whole.compared:
        return [h("h3", title), h("p", _NOT_COMPARED)]
    default = listed(sorted(totals.default_regions))
    kept = largest(totals.by(part.boundary, Group.REGION), REGIONS_DRAWN).rows
    pairs = [
        Pair(name=region, emitted=sums.compared_gco2e, default=sums.default_gco2e)
        for region, sums in kept.items()
        if sums.compared
    ]
    return figure(
        part,
        "comparison",
        title,
        _compared(whole, default),
        lambda identity, width: comparison_plot(identity, pairs, default=default, width=width),
        legend=[("0", "emitted"), ("default", f"figures of {default} for the same calls")],
    )


def _compared(whole: Sums, default: str) -> str:
    saved = whole.default_gco2e - whole.compared_gco2e
    share = percent(abs(saved), whole.default_gco2e)
    told = "less" if saved >= 0 else "more: the savings are negative"
    return (
        f"Attributional comparison, not avoided emissions: the same calls, with the figures that held for {default} "
        f"at the same moment. It can be made for {count(whole.compared)} of {count(whole.calls)} calls "
        f"({percent(whole.compared, whole.calls)}), those whose figures are of one kind and method. They emitted "
        f"{measured(whole.compared_gco2e, MASS)} CO₂e; the same calls come to "
        f"{measured(whole.default_gco2e, MASS)} there: {measured(abs(saved), MASS)} ({share}) {told}."
    )
