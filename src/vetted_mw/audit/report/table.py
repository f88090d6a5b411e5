"""The report as tables for a terminal. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vetted_mw.audit.report.content import abandoned, largest, worked
from vetted_mw.audit.report.sums import COMPLETE, Group, Quality, Sums
from vetted_mw.audit.report.words import (
    ENERGY,
    MASS,
    WATER,
    count,
    interval,
    listed,
    measured,
    percent,
    printable,
    shortened,
    some,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from vetted_mw.audit.report.content import Report
    from vetted_mw.audit.report.sums import Summed
    from vetted_mw.audit.report.words import Units

__all__ = ["report_table"]

_ROWS, _NAME, _LEDGERS, _NAMED = 30, 40, 20, 20
_HEAD = (
    "requests",
    "calls",
    "tokens in",
    "out",
    "energy",
    "(90 %)",
    "CO2e",
    "(90 %)",
    "of it servers",
    "water",
    "live grid",
)


def report_table(report: Report) -> str:
    """Return the report as text: a part for each boundary, then what it rests on."""
    totals = report.totals
    parts = [f"Receipts issued {report.period}: {count(totals.receipts)}, of {report.source}"]
    parts += [f"Issuer, as the receipts say: {some(totals.issuers, _NAMED)}"] if totals.issuers else []
    if not totals.boundaries:
        parts.append("No receipt was issued in this period, so there is nothing to add up.")
    for boundary in totals.boundaries:
        parts += [f"Boundary {boundary} (never added to another)", *_boundary(report, boundary)]
    return "\n\n".join([*parts, "\n".join(_evidence(report))])


def _boundary(report: Report, boundary: str) -> Iterator[str]:
    totals = report.totals
    whole, lost = totals.of(boundary), totals.of(boundary, abandoned)
    for group in (Group.MODEL, Group.REGION, Group.DAY):
        sums = totals.by(boundary, group, keep=worked)
        # Days are all shown: there are few, and one that is missing would be missed.
        rows = {day: one for (day,), one in sums.items()} if group is Group.DAY else largest(sums, _ROWS).rows
        yield _table(group.value, {**rows, **_lines_apart(lost), "total": whole})
    endings = {word: one for (word,), one in totals.by(boundary, Group.COMPLETION).items() if word != COMPLETE}
    complete = totals.of(boundary, lambda key: key.completion == COMPLETE)
    yield _table("ended", {COMPLETE: complete, **endings, "total": whole})
    yield "\n".join(_notes(report, boundary, whole))


def _lines_apart(lost: Sums) -> Mapping[str, Sums]:
    return {"abandoned attempts": lost} if lost.calls or lost.requests else {}


def _table(name: str, rows: Mapping[str, Sums]) -> str:
    lines = [(name, *_HEAD), *((shortened(label, _NAME), *_cells(sums)) for label, sums in rows.items())]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    lines.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    )


def _cells(sums: Sums) -> Sequence[str]:
    return (
        count(sums.requests),
        count(sums.calls),
        count(sums.prompt_tokens),
        count(sums.completion_tokens),
        *_figure(sums.energy_wh, ENERGY),
        *_figure(sums.gco2e, MASS),
        measured(sums.gco2e_embodied, MASS),
        measured(sums.ml_water.value, WATER),
        percent(sums.live_wh, sums.energy_wh.value),
    )


def _figure(summed: Summed, units: Units) -> tuple[str, str]:
    return measured(summed.value, units), interval(summed, units)


def _notes(report: Report, boundary: str, whole: Sums) -> Iterator[str]:
    yield (
        f"Expected in the long run: {measured(whole.energy_wh.expected, ENERGY)}, "
        f"{measured(whole.gco2e.expected, MASS)} CO2e, {measured(whole.ml_water.expected, WATER)} of water"
    )
    for quality in Quality:
        found = report.totals.share(boundary, quality).items()
        told = ", ".join(
            f"{word} {percent(one.calls, whole.calls)} ({percent(one.energy_wh, whole.energy_wh.value)})"
            for word, one in found
        )
        yield f"{quality.value}, of receipts (of energy): {told or '-'}"
    if not whole.compared:
        yield "Compared with the default region: no receipt has its figure"
        return
    saved = whole.default_gco2e - whole.compared_gco2e
    yield (
        f"Compared with {listed(sorted(report.totals.default_regions))} (attributional comparison, not avoided "
        f"emissions; {percent(whole.compared, whole.calls)} of calls): emitted "
        f"{measured(whole.compared_gco2e, MASS)}, there {measured(whole.default_gco2e, MASS)}, savings "
        f"{'-' if saved < 0 else ''}{measured(abs(saved), MASS)} CO2e"
    )


def _evidence(report: Report) -> Iterator[str]:
    totals = report.totals
    yield f"Signed: {count(totals.signed)}, unsigned: {count(totals.unsigned)} (vetted-mw receipts verify checks them)"
    if totals.keys:
        yield f"Keys that the signatures name, not verified here: {some(totals.keys, _NAMED)}"
    spans = sorted(totals.ledgers.items(), key=lambda pair: (-pair[1].rows, pair[0]))
    yield f"Ledgers, one for each start of a process: {count(len(spans))}"
    for ledger, span in spans[:_LEDGERS]:
        rows = f"{count(span.rows, 'rows')}, {count(span.absent)} not read"
        yield f"  {printable(ledger)}: seq {span.first} to {span.last}, {rows}"
    if len(spans) > _LEDGERS:
        yield f"  and {count(len(spans) - _LEDGERS)} more with fewer rows"
    yield f"Methodology: {listed(sorted(totals.methodologies))}; software: {listed(sorted(totals.software))}"
    yield f"Added up by: {printable(report.software)}"
    yield from _lacking(report)


def _lacking(report: Report) -> Iterator[str]:
    """Say what is in no figure, or was taken once though it came twice."""
    totals = report.totals
    if report.gaps:
        yield f"No pack is of this part of the period: {report.gaps}"
    if lost := sum(totals.not_kept.values()):
        yield (
            f"Receipts that could not be kept (fail_open), by the heads of {count(len(totals.not_kept), 'ledgers')}: "
            f"{count(lost)}; they are in no figure, and may be of another period"
        )
    if totals.repeated:
        yield f"Receipts found more than once, and counted once: {count(totals.repeated)}"
    if totals.conflicting:
        yield f"Receipts that differ from another one of the same id, and are in no figure: {count(totals.conflicting)}"
    if totals.sums_left_out:
        yield f"Receipts that are sums of several calls: {count(totals.sums_left_out)}; their calls were added instead"
    if totals.unreadable:
        yield f"Rows that hold no readable receipt, and are in no figure: {count(totals.unreadable)}"
