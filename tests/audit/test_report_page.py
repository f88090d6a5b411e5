"""The page is read in a real browser: every plot is there and legible, nothing is fetched, nothing runs."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from audit.browser import Browser, browser
from audit.counting import START, counted, quarter, report_of_rows
from vetted_mw.audit.report.page.page import page

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

HOSTILE = [
    "<script>document.title='run'</script>",
    "<img src=x onerror=\"document.title='run'\">",
    "]]></style></svg><script>document.title='run'</script>",
    "a" * 400,
    "モデル" * 60,
    "\u202egnp.exe\u0007\x1b[31m",
    "&lt;b&gt; \"quoted\" 'too'",
]
PLOTS = ["emissions", "models", "regions", "live", "grid", "comparison"]
VISIBLE = "[...document.querySelectorAll('svg.plot')].filter(one => one.getClientRects().length)"
OUTSIDE = f"""
const found = [];
for (const plot of {VISIBLE}) {{
  const frame = plot.viewBox.baseVal;
  for (const mark of plot.querySelectorAll('rect,line,path,circle,text')) {{
    const box = mark.getBBox();
    const inside = box.x >= -1 && box.y >= -1 && box.x + box.width <= frame.width + 1 && box.y + box.height <= frame.height + 1;
    if (!inside) found.push([plot.id, mark.tagName, mark.textContent, box.x, box.y, box.width, box.height]);
  }}
}}
return found;"""
OVERLAPPING = f"""
const found = [];
for (const plot of {VISIBLE}) {{
  const texts = [...plot.querySelectorAll('text')].map(one => [one.textContent, one.getBBox()]);
  texts.forEach(([told, box], place) => texts.slice(place + 1).forEach(([other, next]) => {{
    const across = Math.min(box.x + box.width, next.x + next.width) - Math.max(box.x, next.x);
    const down = Math.min(box.y + box.height, next.y + next.height) - Math.max(box.y, next.y);
    if (across > 1 && down > 3) found.push([plot.id, told, other]);
  }}));
}}
return found;"""
SIZES = f"return {VISIBLE}.map(one => [one.id, one.getBoundingClientRect().width, one.getBoundingClientRect().height, one.querySelectorAll('rect,line,path,circle').length])"
TOO_WIDE = """
const found = [...document.body.querySelectorAll('*')].filter(one => !one.closest('.wide-table *, svg *'))
  .filter(one => one.getBoundingClientRect().right > innerWidth + 1).map(one => one.outerHTML.slice(0, 80));
return [document.documentElement.scrollWidth - innerWidth, found];"""
UNREADABLE = f"""
return {VISIBLE}.flatMap(plot => [...plot.querySelectorAll('text')].map(text =>
  [parseFloat(getComputedStyle(text).fontSize) * plot.getBoundingClientRect().width / plot.viewBox.baseVal.width, text.textContent]))
  .filter(([size]) => size < 9)"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("browser")) as started:
        yield started


def _hostile() -> list[dict[str, Any]]:
    return [
        row | {"model": HOSTILE[place % len(HOSTILE)], "region": HOSTILE[place % 3] if place % 2 else "ovh-gra-1"}
        for place, row in enumerate(quarter(20))
    ]


CASES: dict[str, tuple[Sequence[dict[str, Any]], dict[str, Any]]] = {
    "quarter": (quarter(), {"since": START, "until": START + timedelta(days=92)}),
    "one day": (quarter(1), {"since": START, "until": START + timedelta(days=1)}),
    "one receipt": ([counted()], {}),
    "500 models": (quarter(92, 12, [f"organisation/model-{number}" for number in range(500)]), {}),
    "three years": (quarter(1100, 1), {}),
    "names that would run": (_hostile(), {}),
    "other words": ([counted(1, grid_temporal_match="dreamt", completion_status="vanished", boundary="wide")], {}),
    "a tiny region": ([*quarter(30), counted(10**6, region="tiny-1", energy_wh=1e-6, gco2e=1e-6)], {}),
    "no tokens": (
        [counted(1, **{name: 0.0 for name in counted() if name.startswith(("energy_wh", "gco2e", "ml_water"))})],
        {},
    ),
}


@pytest.mark.parametrize("width", [1200, 390])
@pytest.mark.parametrize("name", CASES)
def test_every_plot_is_legible(chromium: Browser, tmp_path: Path, name: str, width: int) -> None:
    """Plots have size and marks, all within their picture; no text lies on another or is too small; nothing is too wide."""
    rows, facts = CASES[name]
    _show(chromium, tmp_path, page(report_of_rows(rows, **facts)), width)
    sizes = chromium.run(SIZES)
    suffix = "" if width > 760 else "-slim"
    wanted = PLOTS if any(row["default_region_gco2e"] is not None for row in rows) else PLOTS[:-1]
    assert [one for one, *_ in sizes] == [f"b0-{plot}{suffix}" for plot in wanted]
    assert all(across > 300 and down > 50 and marks for _, across, down, marks in sizes), sizes
    assert chromium.run(OUTSIDE) == []
    assert chromium.run(OVERLAPPING) == []
    assert chromium.run(UNREADABLE) == []
    assert chromium.run(TOO_WIDE) == [0, []]


@pytest.mark.parametrize("name", ["quarter", "names that would run"])
def test_nothing_is_fetched_and_nothing_runs(chromium: Browser, tmp_path: Path, name: str) -> None:
    """The page asks for nothing but itself, the console is silent, and names that hold markup stay names."""
    rows, facts = CASES[name]
    shown = _show(chromium, tmp_path, page(report_of_rows(rows, **facts)), 1200)
    asked = [
        message["params"]["request"]["url"]
        for entry in chromium.told("performance")
        if (message := json.loads(entry["message"])["message"])["method"] == "Network.requestWillBeSent"
    ]
    assert asked == [shown.as_uri()]
    assert chromium.told("browser") == []
    assert chromium.run("return document.scripts.length + document.images.length") == 0
    assert chromium.run("return document.title").startswith("Energy, carbon and water")
    names = chromium.run(
        "return [...document.querySelectorAll('#b0-model-table tbody th')].map(one => one.textContent)"
    )
    assert set(names) >= ({"<script>document.title='run'</script>"} if "run" in name else {"mistral-medium-3"})


def test_its_policy_forbids_what_it_does_not_need(chromium: Browser, tmp_path: Path) -> None:
    """Should a script get into the page in spite of all, the page's own policy keeps it from running."""
    text = page(report_of_rows([counted()])).replace("</main>", "<script>document.title = 'run'</script></main>")
    _show(chromium, tmp_path, text, 1200)
    assert chromium.run("return document.title") != "run"
    assert "Content Security Policy" in chromium.told("browser")[0]["message"]


def test_it_can_be_read_at_night_and_on_paper(chromium: Browser, tmp_path: Path) -> None:
    """In the dark, ink is light on dark paper; printed, it is dark on white whatever the screen is."""
    _show(chromium, tmp_path, page(report_of_rows(quarter(3))), 1200)
    look = "return [getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    chromium.command("Emulation.setEmulatedMedia", {"features": dark})
    assert chromium.run(look) == ["rgb(232, 237, 241)", "rgb(17, 24, 31)"]
    chromium.command("Emulation.setEmulatedMedia", {"media": "print", "features": dark})
    assert chromium.run(look) == ["rgb(0, 0, 0)", "rgb(255, 255, 255)"]
    chromium.command("Emulation.setEmulatedMedia", {"media": "", "features": []})


def test_plots_say_what_they_show(chromium: Browser, tmp_path: Path) -> None:
    """Whoever cannot see a plot is told its title and figures, and finds them in tables with heads."""
    _show(chromium, tmp_path, page(report_of_rows(quarter(3))), 1200)
    told = chromium.run(
        f"return {VISIBLE}.map(one => one.getAttribute('aria-labelledby').split(' ')"
        ".map(id => document.getElementById(id).textContent))"
    )
    assert all(len(title) > 10 and len(description) > 20 for title, description in told)
    tree = chromium.command("Accessibility.getFullAXTree", {})["nodes"]
    names = [node["name"]["value"] for node in tree if node["role"]["value"] == "image" and not node["ignored"]]
    assert names == [f"{title} {description}" for title, description in told]
    assert chromium.run("return document.documentElement.lang") == "en"
    heads = (
        "return [...document.querySelectorAll('table')].every(one => one.caption && one.querySelector('th[scope=col]'))"
    )
    assert chromium.run(heads)
    assert (
        chromium.run(
            "const ids = [...document.querySelectorAll('[id]')].map(one => one.id); return ids.length - new Set(ids).size"
        )
        == 0
    )


def test_a_bar_is_as_long_as_its_figure(chromium: Browser, tmp_path: Path) -> None:
    """In one plot, twice the energy is twice the length."""
    rows = [counted(1, model="small", energy_wh=1.0), counted(2, model="large", energy_wh=2.0)]
    _show(chromium, tmp_path, page(report_of_rows(rows)), 1200)
    lengths = chromium.run(
        "return [...document.querySelectorAll('#b0-models rect.f0')].map(one => one.getBBox().width)"
    )
    assert lengths[0] == pytest.approx(2 * lengths[1], abs=0.1)


def test_each_boundary_has_its_own_part(chromium: Browser, tmp_path: Path) -> None:
    """Receipts of two boundaries stand in two parts, each with its plots, and the page says why."""
    narrow = [
        row | {"boundary": "narrow", "query_id": str(UUID(int=place + 10**6))} for place, row in enumerate(quarter(4))
    ]
    _show(chromium, tmp_path, page(report_of_rows([*quarter(5), *narrow])), 1200)
    plots = [one for one, *_ in chromium.run(SIZES)]
    assert plots == [f"b{part}-{plot}" for part in (0, 1) for plot in PLOTS]
    assert "never added to each other" in chromium.run("return document.body.innerText")


def test_an_empty_period_is_said_in_words(chromium: Browser, tmp_path: Path) -> None:
    """Where no receipt was issued the page says so, and shows no plot."""
    text = page(report_of_rows([], since=START, until=START + timedelta(days=1)))
    _show(chromium, tmp_path, text, 390)
    assert "No receipt was issued" in chromium.run("return document.querySelector('main').innerText")
    assert chromium.run(SIZES) == []
    assert chromium.run(TOO_WIDE) == [0, []]


def _show(chromium: Browser, folder: Path, text: str, width: int) -> Path:
    shown = folder / "report.html"
    shown.write_text(text, encoding="utf-8")
    chromium.show(shown, width=width)
    return shown
