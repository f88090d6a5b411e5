"""The report as one self-contained page of HTML: no script, nothing from elsewhere, the same bytes each time. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vetted_mw.audit.report.page.marks import Element, h, markup
from vetted_mw.audit.report.page.sections import section
from vetted_mw.audit.report.page.style import STYLE
from vetted_mw.audit.report.page.tables import plain_table
from vetted_mw.audit.report.words import count, listed, printable, some

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vetted_mw.audit.report.content import Report

__all__ = ["page"]

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
_TITLE = "Energy, carbon and water of AI inference"
_LEDGERS = 40
_NAMED = 20
_MEANINGS = {
    "Estimates": "Figures are medians of estimates at the stated boundary, unless the table of how they came about "
    "says they were measured. Training, networks outside the site and callers' devices are in none of them.",
    "90 % interval": "Lower bounds were added to lower bounds and upper to upper. Receipts of one model and site share "
    "their errors, so a sum is as uncertain as its parts: it does not become more certain with their number.",
    "Expected": "The sum of the means. Intervals reach further up than down, so the mean lies above the median.",
    "Requests and calls": "A request is what a caller asked; a call is what an upstream was asked for it. One request "
    "may take several calls, or an attempt that was given up.",
    "Abandoned": "Attempts that were given up for another region after they were sent. Nobody got an answer from them, "
    "but energy may have been used: they have a line of their own and are in the totals.",
    "Emissions": "Location-based: electricity with the grid figure of the region's zone, and a share of making the "
    "servers by the time they were used. No certificate or contract is counted.",
    "Live and annual": "A live figure was measured close to the request's own time. An annual average stands in where "
    "none was; its interval is wider.",
    "Water": "Used on site and by power plants (WRI 2020, which charges reservoirs to hydropower). Scarcity is not "
    "weighed in.",
    "Comparison": "What the same calls come to with the default region's figures; their errors are largely shared, so "
    "no interval is given. It does not say what would have happened.",
}
"""What each figure means; `docs/report.md` says more."""


def page(report: Report) -> str:
    """Return the whole page; it ends with a line feed."""
    made_by = (
        f"Made by {printable(report.software)} from {printable(report.source)}. The same receipts give the same page."
    )
    body = h(
        "body",
        _header(report),
        h("main", *_content(report), *_evidence(report), h("h2", "What the figures mean"), _terms(_MEANINGS)),
        h("footer", h("p", made_by)),
    )
    head = h(
        "head",
        h("meta", charset="utf-8"),
        h("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        h("meta", name="viewport", content="width=device-width, initial-scale=1"),
        h("meta", name="referrer", content="no-referrer"),
        h("title", f"{_TITLE}, {report.period}"),
        h("style", STYLE),
    )
    return f"<!DOCTYPE html>\n{markup(h('html', head, body, lang='en'))}\n"


def _header(report: Report) -> Element:
    told = f"Receipts issued {report.period}: {count(report.totals.receipts)}."
    issuers = report.totals.issuers
    by = [h("p", "Issuer, as the receipts say: ", h("bdi", some(issuers, _NAMED)), class_="soft")] if issuers else []
    return h("header", h("h1", _TITLE), h("p", told, class_="soft"), *by)


def _content(report: Report) -> list[Element]:
    boundaries = report.totals.boundaries
    if not boundaries:
        return [h("p", "No receipt was issued in this period, so there is nothing to add up.", class_="nothing")]
    made = []
    if len(boundaries) > 1:
        told = (
            f"The receipts are of {len(boundaries)} boundaries ({listed(boundaries)}). They measure different things "
            "and are never added to each other: each has its own part below."
        )
        made.append(h("p", told))
    for number, boundary in enumerate(boundaries):
        made += section(report, boundary, number)
    return made


def _evidence(report: Report) -> list[Element]:
    totals = report.totals
    facts = {
        "Signed": f"{count(totals.signed, 'receipts')} with a signature, {count(totals.unsigned)} without. This "
        "report does not check them: vetted-mw receipts verify does, and recomputes every figure.",
        "Methodology": _counted(totals.methodologies),
        "Software": _counted(totals.software),
    }
    if totals.keys:
        facts["Keys"] = f"{some(totals.keys, _NAMED)}, as the signatures name them. Nobody has verified that here."
    if left_out := totals.sums_left_out:
        are = "is" if left_out == 1 else "are"
        facts["Sums"] = (
            f"{count(left_out, 'receipts')} {are} the sum of several calls; the calls were added instead, each with a "
            "receipt of its own."
        )
    if totals.unreadable:
        facts["Unreadable"] = (
            f"{count(totals.unreadable, 'rows')} hold no receipt that can be read and are in no figure. vetted-mw "
            "receipts verify names them."
        )
    return [h("h2", "Evidence"), _terms(facts | _lacking(report)), *_ledgers(report)]


def _lacking(report: Report) -> dict[str, str]:
    """Say what is in no figure, or was taken once though it came twice."""
    totals, facts = report.totals, {}
    if report.gaps:
        facts["Not covered"] = f"No pack is of this part of the period: {report.gaps}."
    if lost := sum(totals.not_kept.values()):
        facts["Not kept"] = (
            f"{count(lost, 'receipts')} could not be written to the ledger (fail_open), by the heads of "
            f"{count(len(totals.not_kept), 'ledgers')}. They are in no figure, and may be of another period: heads "
            "count from the start of their process."
        )
    if totals.repeated:
        facts["Found twice"] = f"{count(totals.repeated, 'receipts')} came again in another source, and counted once."
    if totals.conflicting:
        facts["Contradictions"] = (
            f"Left out: {count(totals.conflicting, 'receipts')} with the id of another receipt, saying something else. "
            "vetted-mw receipts verify tells more."
        )
    return facts


def _ledgers(report: Report) -> list[Element]:
    spans = sorted(report.totals.ledgers.items(), key=lambda pair: (-pair[1].rows, pair[0]))
    not_kept = report.totals.not_kept
    if not spans:
        return []
    rows = [
        (
            ledger,
            f"{count(span.first)} to {count(span.last)}",
            count(span.rows),
            count(span.absent),
            *([count(not_kept.get(ledger, 0))] if not_kept else []),
        )
        for ledger, span in spans[:_LEDGERS]
    ]
    head = ("Ledger", "Rows (seq)", "Read", "Not read", *(["Not kept"] if not_kept else []))
    made = [plain_table("Ledgers, one for each start of a process", head, rows, identity="ledgers")]
    if len(spans) > _LEDGERS:
        made.append(
            h("p", f"{count(len(spans) - _LEDGERS)} more ledgers with fewer rows are not listed.", class_="soft")
        )
    return made


def _counted(counts: Mapping[str, int]) -> str:
    told = ", ".join(f"{printable(word)} ({count(number, 'receipts')})" for word, number in sorted(counts.items()))
    return told or "none"


def _terms(terms: Mapping[str, str]) -> Element:
    return h("dl", *(one for name, told in terms.items() for one in (h("dt", name), h("dd", told))))
