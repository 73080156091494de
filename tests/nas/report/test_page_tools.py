"""What a reader does on the report's page: link to a state, sort, brush, compare, save, print."""

from __future__ import annotations

import csv
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from nas.engine.search import Outcome, search
from nas.report.contents import ReportSource
from nas.report.page import page as whole_page
from nas.run import folder as runs
from nas.run.folder import Run
from nas.run.specification import make
from report_page import Watched, click_point, index_of, selected, until


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run with a trained winner, a race and recorded data."""
    settings = {
        "space": "mobilenet-tiny",
        "high": {"macs": 300_000},
        "trials": 6,
        "finalists": 2,
        "supernet_epochs": 0.5,
        "train_epochs": 0.5,
    }
    return search(make(settings), tmp_path_factory.mktemp("trained") / "run").run


def page_of(watched: Watched, run: Run, place: Path, *others: Run) -> Page:
    content = ReportSource.of(run, others=others).contents()
    place.write_text(whole_page(content, title="run"), encoding="utf-8")
    return watched.open(place)


def test_the_winner_comes_first_with_its_test_score_and_what_it_costs(
    watched: Watched, trained: Run, tmp_path: Path
) -> None:
    page = page_of(watched, trained, tmp_path / "report.html")
    summary, latency = trained.summary(), trained.latency
    assert summary is not None
    assert latency is not None
    assert summary.winner.score is not None
    first = page.locator("main section").first
    expect(first.get_by_role("heading", name="Winner")).to_be_visible()
    card = first.locator(".card")
    expect(card.locator(".score")).to_contain_text(f"{summary.winner.score.value:.2%}")
    expect(card.locator(".score")).to_contain_text("test accuracy on 359 images")
    expect(card).to_contain_text("95 % interval")
    expect(card).to_contain_text(f"{latency.ms:.3g} ms")
    expect(card).to_contain_text(f"measured on {latency.processor}")
    expect(card).to_contain_text("Validation accuracy in the search")
    expect(card.locator("code")).to_have_text("nas export run --arch best --out DIR")
    data = page.locator("#winner-data")
    expect(data).to_contain_text("10 classes")
    for cell in ("1,079", "359", "held out"):
        expect(data).to_contain_text(cell)
    page.locator("#winner-race").scroll_into_view_if_needed()
    drawn = page.locator("#winner-race .figure")
    expect(drawn.locator("svg.main-svg").first).to_be_attached()
    rows = page.locator("#winner-race tbody tr")
    assert rows.count() == len(summary.finalists) == 2
    for finalist in summary.finalists:
        row = page.locator("#winner-race tbody tr", has_text=finalist.id)
        assert finalist.after_race is not None
        assert f"{finalist.after_race:.2%}" in row.inner_text(timeout=0) or (
            f"{finalist.after_race:.2%}" in (row.text_content() or "")
        )


def test_the_winners_mistakes_are_shown_by_class_and_as_pictures(
    watched: Watched, trained: Run, tmp_path: Path
) -> None:
    page = page_of(watched, trained, tmp_path / "report.html")
    scores = trained.scores()
    assert scores is not None
    assert scores.mistakes  # half an epoch leaves some
    classes = page.locator("#winner-classes")
    classes.scroll_into_view_if_needed()
    expect(classes.locator("svg.main-svg").first).to_be_attached()
    drawn = page.evaluate("document.querySelector('#winner-classes .figure').data[0].customdata")
    assert drawn == scores.confusion.tolist()
    assert classes.locator("tbody tr").count() == 10
    pictures = page.locator("#winner-mistakes img")
    kept = [one for one in scores.mistakes if one.picture is not None]
    assert pictures.count() == len(kept) == min(12, len(scores.mistakes))
    sizes = page.evaluate(
        "[...document.querySelectorAll('#winner-mistakes img')].map(i => i.naturalWidth)"
    )
    assert sizes == [8] * len(kept)
    first = scores.mistakes[0]
    assert f"{first.label} taken for {first.predicted}" in (
        pictures.first.get_attribute("alt") or ""
    )


def test_accuracies_are_named_by_their_part_and_have_intervals(
    watched: Watched, trained: Run, tmp_path: Path
) -> None:
    page = page_of(watched, trained, tmp_path / "report.html")
    assert page.evaluate("report.byName.accuracy.label") == "validation accuracy"
    # Wilson's interval of 340 of 359, computed by hand.
    below, above = page.evaluate("frontier.interval(340 / 359)")
    assert 340 / 359 - below == pytest.approx(0.91885, abs=2e-4)
    assert 340 / 359 + above == pytest.approx(0.96585, abs=2e-4)
    bars = page.evaluate(
        "frontier.chart.data.find(t => t.name === 'frontier').error_y.array.length"
    )
    assert bars == page.evaluate("frontier.members.length")
    page.uncheck("#noise")
    assert page.evaluate(
        "frontier.chart.data.find(t => t.name === 'frontier').error_y === undefined"
    )


def test_a_link_leads_to_the_same_state(browser: Browser, report: Path) -> None:
    first = Watched(browser)
    page = first.open(report)
    members = page.evaluate("frontier.members")
    click_point(page, members[0])
    page.get_by_role("button", name="Pin for comparison").click()
    page.select_option("#x", "params")
    page.check("#x-log")
    page.evaluate("i => frontier.select(i)", members[-1])
    address = page.evaluate("location.href")
    chosen, pinned = selected(page), page.evaluate("report.ids[frontier.pins[0]]")
    other = Watched(browser)
    other.page.goto(address)
    other.page.wait_for_selector("#chart .point")
    assert selected(other.page) == chosen
    assert other.page.evaluate("report.ids[frontier.pins[0]]") == pinned
    assert other.page.locator("#x").input_value() == "params"
    assert other.page.locator("#x-log").is_checked()
    expect(other.page.locator("#comparison-body")).to_contain_text(pinned)
    # A link to a section, or to what is not in the run, opens the page as usual.
    plain = Watched(browser)
    plain.page.goto(f"{report.as_uri()}#trust")
    plain.page.wait_for_selector("#chart .point")
    assert plain.page.evaluate("frontier.selected >= 0 && frontier.pins.length === 0")
    plain.page.goto(f"{report.as_uri()}#arch=ffffffffffff&x=nothing&pin=zz&after=-3")
    plain.page.reload()
    plain.page.wait_for_selector("#chart .point")
    assert plain.page.evaluate("frontier.selected >= 0 && frontier.pins.length === 0")
    for each in (first, other, plain):
        assert each.problems == []
        each.context.close()


def test_the_table_has_all_rows_sorted_filtered_and_saved(
    opened: Page, scored: Outcome, tmp_path: Path
) -> None:
    done = [e for e in scored.run.evaluations() if e.error is None]
    heading = opened.locator("#trials-head button", has_text="parameters")
    heading.click()
    heading.click()
    expect(opened.locator("#trials-head th[aria-sort=descending]")).to_contain_text("parameters")
    most = max(e.metrics["params"] for e in done)
    ids = opened.locator("#trials-list tr td:first-child button")
    assert ids.first.inner_text() in [e.arch.id for e in done if e.metrics["params"] == most]
    assert ids.count() == len(done)
    name = next(c.name for c in scored.task.space.choices if c.name.endswith("depth"))
    value = done[0].arch[name]
    opened.fill("#trials-text", f"{name}={value}")
    kept = {e.arch.id for e in done if e.arch.get(name) == value}
    assert set(ids.all_inner_texts()) == kept
    with opened.expect_download() as download:
        opened.click("#save-rows")
    file = tmp_path / "rows.csv"
    download.value.save_as(file)
    rows = list(csv.DictReader(file.open(encoding="utf-8")))
    assert {row["id"] for row in rows} == kept
    assert {row[name] for row in rows} == {str(value)}
    by_id = {e.arch.id: e for e in done}
    for row in rows:
        assert float(row["macs"]) == by_id[row["id"]].metrics["macs"]
    opened.fill("#trials-text", "")
    opened.select_option("#trials-rows", "frontier")
    assert set(ids.all_inner_texts()) == {e.arch.id for e in scored.run.front()}
    ids.first.click()
    assert selected(opened) == ids.first.inner_text()


def test_a_field_of_csv_is_never_a_formula(opened: Page) -> None:
    found = opened.evaluate("['=1+1', '@x', '-2', 'a,\"b\"', NaN, '+cmd'].map(field)")
    assert found == ["'=1+1", "'@x", "-2", '"a,""b"""', "", "'+cmd"]


def test_a_box_over_an_axis_keeps_what_passes_it(opened: Page) -> None:
    opened.locator("#parallel").scroll_into_view_if_needed()
    expect(opened.locator("#parallel .nsewdrag")).to_be_attached()
    # The last axis but one is x; the box takes its lower third.
    places = opened.evaluate(
        "(() => { const a = byId('parallel')._fullLayout; const n = panels.axes.length;"
        " const box = byId('parallel').getBoundingClientRect();"
        " const x = box.left + a.xaxis._offset + a.xaxis.d2p(n - 2);"
        " const y = (v) => box.top + a.yaxis._offset + a.yaxis.d2p(v);"
        " return [x, y(-0.03), y(0.33)]; })()"
    )
    opened.mouse.move(places[0] - 12, places[1])
    opened.mouse.down()
    opened.mouse.move(places[0] + 12, places[2], steps=5)
    opened.mouse.up()
    until(opened, "frontier.kept !== null")
    expected = opened.evaluate(
        "(() => { const xs = report.columns[frontier.x.name]; const [lo, hi] = [Math.min(...xs),"
        " Math.max(...xs)]; return [...report.ids.keys()].filter(i => (xs[i] - lo) / (hi - lo)"
        " < 0.32).length; })()"
    )
    kept = opened.evaluate("frontier.kept.reduce((a, b) => a + b, 0)")
    assert expected <= kept < opened.evaluate("report.count")
    expect(opened.locator("#brushed-words")).to_contain_text(f"{kept} of")
    expect(opened.locator("#trials-words")).to_contain_text(f"{kept} of")
    opened.click("#unbrush")
    assert opened.evaluate("frontier.kept === null")


def test_more_than_two_are_compared(opened: Page) -> None:
    members = opened.evaluate("frontier.members")
    for index in members[:2]:
        opened.evaluate("i => frontier.select(i)", index)
        opened.locator("#pin").click()
    opened.evaluate("i => frontier.select(i)", members[-1])
    head = opened.locator("#comparison-body .panel", has_text="Metrics").locator("thead th")
    assert head.count() == 4
    ids = [opened.evaluate("i => report.ids[i]", i) for i in (*members[:2], members[-1])]
    assert [text[:8] for text in head.all_inner_texts()[1:]] == [arch[:8] for arch in ids]
    expect(opened.locator("#comparison-body .command code")).to_contain_text(ids[-1])


def test_a_network_is_searched_and_saved_as_a_drawing(opened: Page, tmp_path: Path) -> None:
    opened.wait_for_selector("#architecture .graph svg")
    field = opened.locator("#architecture input[type=search]")
    field.fill("conv")
    found = opened.locator("#architecture .graph .found").count()
    assert 0 < found < opened.locator("#architecture .graph .node").count()
    attributes = opened.locator("#architecture .attributes")
    expect(attributes).to_contain_text("conv")
    expect(attributes).to_contain_text("parameters")
    first = attributes.inner_text()
    field.press("Enter")
    assert attributes.inner_text() != first
    opened.locator("#architecture .graph .node").first.click()
    expect(attributes).to_contain_text(
        opened.locator("#architecture .graph .node").first.get_attribute("data-op") or "?"
    )
    with opened.expect_download() as download:
        opened.get_by_role("button", name="SVG").click()
    file = tmp_path / "network.svg"
    download.value.save_as(file)
    root = ET.parse(file).getroot()
    assert root.tag.endswith("svg")
    nodes = [e for e in root.iter() if e.get("data-op") is not None]
    assert len(nodes) == opened.locator("#architecture .graph .node").count()


def test_the_chart_is_saved_with_its_points(opened: Page, tmp_path: Path) -> None:
    with opened.expect_download() as download:
        opened.click("#save-image")
    file = tmp_path / "frontier.png"
    download.value.save_as(file)
    image = Image.open(file).convert("RGB")
    width, height = opened.evaluate(
        "[frontier.chart._fullLayout.width, frontier.chart._fullLayout.height]"
    )
    assert image.size == (int(2 * width), int(2 * height))
    # A point that is on neither the frontier nor an edge is grey in the picture.
    index = opened.evaluate(
        "[...report.ids.keys()].find(i => !frontier.members.includes(i) && report.feasible[i])"
    )
    x, y = opened.evaluate("i => frontier.pixel(i)", index)
    ground = image.getpixel((2 * round(width) - 3, 3))
    assert image.getpixel((round(2 * x), round(2 * y))) != ground


def test_paper_scales_the_points_with_the_chart(opened: Page) -> None:
    opened.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert opened.evaluate("frontier.chart.layout.images.length") == 1
    assert opened.locator("#cloud").is_hidden()
    boxes = opened.evaluate(
        "[...document.querySelectorAll('.js-plotly-plot .main-svg')]"
        ".map(s => s.hasAttribute('viewBox'))"
    )
    assert boxes
    assert all(boxes)
    opened.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert opened.evaluate("frontier.chart.layout.images.length") == 0
    assert opened.locator("#cloud").is_visible()


def test_the_ring_and_the_words_follow_the_slider(opened: Page) -> None:
    late = opened.evaluate("report.numbers.findLastIndex(() => true)")
    opened.evaluate("i => frontier.select(i)", late)
    until(opened, "frontier.chart.data.some(t => t.name === 'selected')")
    opened.evaluate(
        "() => { const s = byId('after'); s.value = 3; s.dispatchEvent(new Event('input')); }"
    )
    assert opened.evaluate("frontier.chart.data.every(t => t.name !== 'selected')")
    expect(opened.locator("#plot-words")).to_contain_text("was evaluated later")
    expect(opened.locator("#architecture-body")).to_contain_text("not on the frontier")
    assert index_of(opened, selected(opened)) == late


def test_several_runs_are_drawn_over_each_other(
    watched: Watched, trained: Run, tmp_path: Path
) -> None:
    other = tmp_path / "other <b>"
    shutil.copytree(trained.folder, other)
    page = page_of(watched, trained, tmp_path / "report.html", Run(other))
    rows = page.locator("#runs-table tbody tr")
    assert rows.count() == 2
    expect(rows.nth(1)).to_contain_text("other <b>")
    expect(rows.nth(0)).to_contain_text("test accuracy")
    trace = page.evaluate("frontier.chart.data.find(t => t.name.startsWith('other')).x")
    assert trace == page.evaluate("frontier.members.map(i => frontier.xs[i])")


def test_a_report_of_an_older_run_does_without_what_it_lacks(
    watched: Watched, trained: Run, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    shutil.copytree(trained.folder, old)
    for name in (runs.DATA, runs.LATENCY):
        (old / name).unlink()
    page = page_of(watched, Run(old), tmp_path / "report.html")
    assert page.locator("#winner-data").count() == 0
    assert "measured on" not in page.locator(".card").inner_text()
    assert page.locator("#noise-field").is_hidden()


def test_an_unfinished_run_has_no_winner_yet(
    contents: dict[str, Any], watched: Watched, tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    path.write_text(whole_page(contents | {"winner": None}, title="x"), encoding="utf-8")
    page = watched.open(path)
    expect(page.locator("#winner-body")).to_contain_text("The search has not ended")
