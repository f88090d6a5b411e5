"""The tables of the report's page. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vetted_mw.audit.report.page.marks import Element, h
from vetted_mw.audit.report.words import ENERGY, MASS, WATER, count, interval, measured, percent, printable, shortened

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vetted_mw.audit.report.page.marks import Content
    from vetted_mw.audit.report.sums import Summed, Sums
    from vetted_mw.audit.report.words import Units

__all__ = ["figures_table", "plain_table"]

_NAME = 80
"""Characters of a name that are shown."""
_HEAD = (
    "Requests",
    "Calls",
    "Tokens read",
    "Tokens written",
    "Energy",
    "Emissions (CO₂e)",
    "of it electricity",
    "of it servers",
    "Water",
    "Live grid",
)


def figures_table(
    caption: str, name: str, rows: Mapping[str, Sums], *, aside: Mapping[str, Sums], whole: Sums, identity: str
) -> Element:
    """Make a table of sums: its rows and the lines set apart add up to the last one.

    Args:
        caption: what the table is of.
        name: head of the first column.
        rows: name and sums.
        aside: lines set apart, after the rows: abandoned attempts.
        whole: what all of them add up to.
        identity: its id in the page.
    """
    body = [_row(label, sums, whole) for label, sums in rows.items()]
    body += [_row(label, sums, whole, class_="aside") for label, sums in aside.items() if sums.calls or sums.requests]
    body.append(_row("Total", whole, whole, class_="whole"))
    head = h("tr", *(h("th", text, scope="col") for text in (name, *_HEAD)))
    return _scrolled(
        h("table", h("caption", caption), h("thead", head), h("tbody", *body)), caption=caption, identity=identity
    )


def plain_table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], *, identity: str) -> Element:
    """Make a table of words."""
    body = [
        h("tr", h("th", h("bdi", shortened(first, _NAME)), scope="row"), *(h("td", printable(one)) for one in rest))
        for first, *rest in rows
    ]
    table = h(
        "table",
        h("caption", caption),
        h("thead", h("tr", *(h("th", text, scope="col") for text in head))),
        h("tbody", *body),
    )
    return _scrolled(table, caption=caption, identity=identity)


def _row(label: str, sums: Sums, whole: Sums, *, class_: str | None = None) -> Element:
    share = h("small", f"{percent(sums.gco2e.value, whole.gco2e.value)} of all")
    cells: list[Sequence[Content]] = [
        [count(sums.requests)],
        [count(sums.calls)],
        [count(sums.prompt_tokens)],
        [count(sums.completion_tokens)],
        _figure(sums.energy_wh, ENERGY),
        [*_figure(sums.gco2e, MASS), *([] if class_ == "whole" else [share])],
        [h("b", measured(sums.gco2e_operational, MASS))],
        [h("b", measured(sums.gco2e_embodied, MASS))],
        _figure(sums.ml_water, WATER),
        [percent(sums.live_wh, sums.energy_wh.value)],
    ]
    return h(
        "tr",
        h("th", h("bdi", shortened(label, _NAME)), scope="row"),
        *(h("td", *cell) for cell in cells),
        class_=class_,
    )


def _figure(summed: Summed, units: Units) -> list[Content]:
    return [h("b", measured(summed.value, units)), h("span", interval(summed, units), class_="range")]


def _scrolled(table: Element, *, caption: str, identity: str) -> Element:
    """Let a table that is wider than the screen be scrolled by itself, by keyboard too."""
    return h("div", table, class_="wide-table", id=identity, tabindex="0", role="region", aria_label=caption)
