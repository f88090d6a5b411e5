"""What the report's page says of one boundary: the figures at a glance, the plots, the tables. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vetted_mw.audit.report.content import abandoned, grid_lines, largest, steps, worked
from vetted_mw.audit.report.page.bars import PLAIN, Whole, intervals_plot, shares_plot
from vetted_mw.audit.report.page.comparison import comparison
from vetted_mw.audit.report.page.days import emissions_plot, grid_plot
from vetted_mw.audit.report.page.marks import Element, h
from vetted_mw.audit.report.page.part import REGIONS_DRAWN, Part, figure
from vetted_mw.audit.report.page.tables import figures_table, plain_table
from vetted_mw.audit.report.sums import Group, Quality
from vetted_mw.audit.report.words import ENERGY, MASS, WATER, count, interval, measured, percent, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vetted_mw.audit.report.content import Report
    from vetted_mw.audit.report.sums import Sums

__all__ = ["section"]

_MODELS_DRAWN, _ROWS = 10, 50
_SCOPES = {
    "comprehensive": "accelerators, host, idle capacity, the site's overhead (PUE), and making the servers",
    "narrow": "the accelerators alone: no host, no overhead of the site, nothing for making the servers",
}
_ENDINGS = {
    "complete": "complete answers",
    "client_abort": "cut: the caller left (client_abort)",
    "upstream_error": "cut: the upstream failed (upstream_error)",
    "shutting_down": "cut: the gateway was stopped (shutting_down)",
    "abandoned": "abandoned attempts: given up for another region",
}
_MATCHES: dict[str, tuple[int | str, str]] = {
    "live_window": (4, "live, within 15 min"),
    "fresh": (6, "live, older"),
    "annual_fallback": (PLAIN, "annual average"),
}
_QUALITIES = {
    Quality.TIER: "how figures were made (tier)",
    Quality.ENERGY: "where energy is from (energy_source)",
    Quality.USAGE: "who counted tokens (usage_source)",
    Quality.GRID: "grid figure (grid_temporal_match)",
}


def section(report: Report, boundary: str, number: int) -> list[Element]:
    """Tell everything about one boundary; `number` makes its ids unique in the page."""
    part = Part(report=report, boundary=boundary, identity=f"b{number}", whole=report.totals.of(boundary))
    scope = _SCOPES.get(boundary, "as its methodology says")
    made = [
        h("h2", f"Boundary: {printable(boundary)}", id=part.identity),
        h("p", f"Inside these figures: {scope}. Location-based."),
        _cards(part),
        _expected(part),
    ]
    if part.whole.calls:
        made += [*_emissions(part), *_models(part), *_regions(part), *_grid(part), *comparison(part)]
    return [*made, *_tables(part)]


def _cards(part: Part) -> Element:
    whole = part.whole
    tokens = count(whole.prompt_tokens + whole.completion_tokens, "tokens")
    gco2e, energy, water = (
        (measured(one.value, units), f"{interval(one, units, named=True)}, 90 % interval")
        for one, units in ((whole.gco2e, MASS), (whole.energy_wh, ENERGY), (whole.ml_water, WATER))
    )
    cards = [
        ("Emissions, CO₂e", *gco2e),
        ("Energy", *energy),
        ("Water", *map(_cubic, water)),
        ("Requests", count(whole.requests), f"{count(whole.calls, 'calls')}, {tokens}"),
    ]
    return h(
        "ul",
        *(h("li", h("span", name, class_="what"), h("b", figure), h("span", more)) for name, figure, more in cards),
        class_="cards",
    )


def _cubic(text: str) -> str:
    return text.replace("m3", "m³")


def _expected(part: Part) -> Element:
    whole = part.whole
    lost = part.report.totals.of(part.boundary, abandoned)
    told = (
        f"The figures are medians, added up; the expected total is {measured(whole.gco2e.expected, MASS)} CO₂e and "
        f"{measured(whole.energy_wh.expected, ENERGY)}. Electricity is "
        f"{percent(whole.gco2e_operational, whole.gco2e.value)} of the emissions, making the servers "
        f"{percent(whole.gco2e_embodied, whole.gco2e.value)}. {percent(whole.live_wh, whole.energy_wh.value)} of the "
        "energy was computed with a live grid figure."
    )
    given_up = f"{count(lost.calls, 'calls')}, {measured(lost.gco2e.value, MASS)} CO₂e"
    return h("p", f"{told} Abandoned attempts are in these sums: {given_up}." if lost.calls else told)


def _emissions(part: Part) -> list[Element]:
    name, found = steps(part.report, part.boundary)
    parts = [("0", "electricity"), ("1", "making the servers"), ("x", "abandoned attempts")]
    return figure(
        part,
        "emissions",
        f"Emissions per {name}",
        "Stacked by what they are of; the line spans the interval of the sum. A table by day is below.",
        lambda identity, width: emissions_plot(identity, found, name=name, width=width),
        legend=[*parts, ("bar", "90 % interval")],
    )


def _models(part: Part) -> list[Element]:
    kept = largest(part.report.totals.by(part.boundary, Group.MODEL), _MODELS_DRAWN)
    bars = [(name, sums.energy_wh) for name, sums in kept.shown.items()]
    told = "Abandoned attempts included. The line spans the 90 % interval."
    if kept.others is not None:
        others = f"{measured(kept.others.energy_wh.value, ENERGY)} ({interval(kept.others.energy_wh, ENERGY)})"
        told += f" Shown are the {len(bars)} models with the most energy; {kept.left:,} others add up to {others}."
    return figure(
        part,
        "models",
        "Energy by model",
        told,
        lambda identity, width: intervals_plot(
            identity, bars, title="Energy by model, with its 90 % interval", units=ENERGY, what="", width=width
        ),
    )


def _regions(part: Part) -> list[Element]:
    kept = largest(part.report.totals.by(part.boundary, Group.REGION), REGIONS_DRAWN).rows
    colours = _colours(kept, part)
    measures: list[tuple[str, Callable[[Sums], float]]] = [
        ("of requests", lambda sums: sums.requests),
        ("of energy", lambda sums: sums.energy_wh.value),
        ("of emissions", lambda sums: sums.gco2e.value),
    ]
    wholes = [
        Whole(name=name, parts=[(region, of(sums)) for region, sums in kept.items()], colours=colours)
        for name, of in measures
    ]
    regions = figure(
        part,
        "regions",
        "Where it ran",
        "Each region's share. Abandoned attempts included.",
        lambda identity, width: shares_plot(identity, wholes, title="Shares of the regions", width=width),
        legend=[(str(colour), region) for colour, region in zip(colours, kept, strict=True)],
        half=True,
    )
    return [h("div", h("div", *regions), h("div", *_live(part)), class_="pair")]


def _colours(names: Sequence[str] | dict[str, Sums], part: Part) -> list[int | str]:
    known = {name for (name,) in part.report.totals.by(part.boundary, Group.REGION)}
    return [number if name in known else PLAIN for number, name in enumerate(names)]


def _live(part: Part) -> list[Element]:
    found = part.report.totals.share(part.boundary, Quality.GRID)
    words = [*(word for word in _MATCHES if word in found), *(word for word in found if word not in _MATCHES)]
    colours = [_MATCHES.get(word, (5, ""))[0] for word in words]
    names = [_MATCHES[word][1] if word in _MATCHES else printable(word) for word in words]
    wholes = [
        Whole(name=told, parts=list(zip(names, amounts, strict=True)), colours=colours)
        for told, amounts in (
            ("of receipts", [float(found[word].calls) for word in words]),
            ("of energy", [found[word].energy_wh for word in words]),
        )
    ]
    title = "Shares of live and annual grid figures"
    return figure(
        part,
        "live",
        "Live and annual grid figures",
        "How the grid figure behind the receipts relates to the moment of the request.",
        lambda identity, width: shares_plot(identity, wholes, title=title, width=width),
        legend=[(str(colour), name) for colour, name in zip(colours, names, strict=True)],
        half=True,
    )


def _grid(part: Part) -> list[Element]:
    totals = part.report.totals
    kept = largest(totals.by(part.boundary, Group.REGION), REGIONS_DRAWN)
    name, found = steps(part.report, part.boundary)
    cut = [step.span for step in found]
    lines = grid_lines(part.report, part.boundary, cut, list(kept.shown))
    more = f" {kept.left} smaller regions are not drawn." if kept.left else ""
    return figure(
        part,
        "grid",
        f"Grid intensity used, per {name}",
        f"The figures the receipts were computed with, weighted by energy, live and annual alike.{more}",
        lambda identity, width: grid_plot(identity, lines, cut, name=name, width=width),
        legend=[(f"l{number}", region) for number, region in enumerate(kept.shown)],
    )


def _tables(part: Part) -> list[Element]:
    totals, boundary, identity = part.report.totals, part.boundary, part.identity
    aside = {"Abandoned attempts": totals.of(boundary, abandoned)}
    made = [h("h3", "Figures")]
    for group, caption in ((Group.MODEL, "By model"), (Group.REGION, "By region")):
        kept = largest(totals.by(boundary, group, keep=worked), _ROWS)
        made.append(
            figures_table(
                caption,
                group.capitalize(),
                kept.rows,
                aside=aside,
                whole=part.whole,
                identity=f"{identity}-{group}-table",
            )
        )
    endings = {
        _ENDINGS.get(word, f"cut: {printable(word)}"): sums
        for (word,), sums in sorted(totals.by(boundary, Group.COMPLETION).items(), key=_ending_order)
    }
    made.append(
        figures_table(
            "By how it ended", "Ended", endings, aside={}, whole=part.whole, identity=f"{identity}-completion-table"
        )
    )
    made.append(_qualities(part))
    days = {day: sums for (day,), sums in totals.by(boundary, Group.DAY, keep=worked).items()}
    made.append(
        figures_table("By day (UTC)", "Day", days, aside=aside, whole=part.whole, identity=f"{identity}-day-table")
    )
    return made


def _ending_order(pair: tuple[tuple[str, ...], Sums]) -> tuple[int, str]:
    words = list(_ENDINGS)
    word = pair[0][0]
    return (words.index(word) if word in words else len(words) - 2, word)


def _qualities(part: Part) -> Element:
    rows = []
    for quality, told in _QUALITIES.items():
        for word, one in part.report.totals.share(part.boundary, quality).items():
            rows.append(
                (
                    f"{told}: {word}",
                    count(one.calls),
                    percent(one.calls, part.whole.calls),
                    percent(one.energy_wh, part.whole.energy_wh.value),
                )
            )
    head = ("What", "Receipts", "of receipts", "of energy")
    return plain_table("How the figures came about", head, rows, identity=f"{part.identity}-quality-table")
