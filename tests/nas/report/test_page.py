"""The report's page in a real browser: displayed, clicked, used by keyboard, without a network."""

from __future__ import annotations

import http.client
import json
import re
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from evaluators.costs.tables import CostTables
from nas.cli import main
from nas.engine.search import Outcome
from nas.report.contents import ReportSource
from nas.report.page import page as whole_page
from nas.report.server import CachedContents, open_server
from nas.run import ranking
from nas.run.evaluation import Evaluation
from nas.run.folder import Run
from nas.run.study import Study
from report_page import Watched, click_point, index_of, selected, until
from search_spaces.errors import UserError


def test_the_page_opens_with_the_winner_and_every_section(opened: Page, scored: Outcome) -> None:
    assert selected(opened) == scored.run.find("best").arch.id
    assert opened.title() == f"{scored.run.folder.name}: search report"
    assert opened.locator("h1").inner_text() == scored.run.folder.name
    for heading in ("Frontier", "Architecture", "Comparison", "All architectures",
                    "Influence of choices", "Search progress", "Reliability"):  # fmt: skip
        expect(opened.get_by_role("heading", name=heading, exact=True)).to_be_visible()
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
    shown = opened.locator("#architecture-body").inner_text()
    macs = scored.run.find("best").metrics["macs"]
    assert opened.evaluate("v => size(v)", macs) in shown


def test_a_click_on_any_point_shows_its_network(opened: Page, scored: Outcome) -> None:
    others = opened.evaluate(
        "[...report.ids.keys()].filter(i => !frontier.members.includes(i) && "
        "frontier.nearest({ target: frontier.plot, ...(([x, y]) => ({ "
        "clientX: x + frontier.plot.getBoundingClientRect().left, "
        "clientY: y + frontier.plot.getBoundingClientRect().top }))(frontier.pixel(i)) }) === i)"
    )
    members = opened.evaluate("frontier.members")
    space = scored.task.space
    known = {e.arch.id: e for e in scored.run.evaluations()}
    for index in (others[0], others[-1], members[0], members[-1]):
        click_point(opened, index)
        arch = opened.evaluate("i => report.ids[i]", index)
        expect(opened.locator("#architecture-body h3").first).to_have_text(arch)
        expect(opened.locator("#announcement")).to_contain_text(arch)
        command = opened.locator("#architecture-body .command code").first.inner_text()
        assert f"--arch {arch} --out" in command
        ops = [op for _, ops in space.ops(known[arch].arch) for op in ops]
        expect(opened.locator(".graph svg g")).to_have_count(len(ops))
        expect(opened.locator("#architecture-body .icicle, #architecture-body .slice").first)\
            .to_be_visible()  # fmt: skip
        shapes = "×".join(map(str, ops[0].out_shape))
        assert shapes in opened.locator(".graph svg").inner_html()


def test_layers_add_up_to_the_networks_flops_in_the_browser_too(
    opened: Page, scored: Outcome
) -> None:
    found = opened.evaluate(
        "[...report.ids.keys()].map(i => report.blocks(i)"
        ".reduce((sum, b) => sum + b.ops.reduce((all, op) => all + op.macs, 0), 0))"
    )
    done = [e for e in scored.run.evaluations() if e.error is None]
    assert found == [e.metrics["macs"] for e in done]


def test_other_axes_have_another_frontier(opened: Page, scored: Outcome) -> None:
    from nas.run.objectives import objective

    done = [e for e in scored.run.evaluations() if e.error is None]
    for x, y in (("params", "accuracy"), ("latency_ms_V100", "accuracy"), ("macs", "greenscore"),
                 ("carbon_ug_V100", "accuracy"), ("macs", "slowness")):  # fmt: skip
        opened.select_option("#x", x)
        opened.select_option("#y", y)
        members = opened.evaluate("frontier.members.map(i => report.ids[i])")
        metric = x.replace("carbon_ug", "energy_mj")
        expected = ranking.frontier(done, (objective(y), objective(metric)))
        assert sorted(members) == sorted(e.arch.id for e in expected)
        expect(opened.locator("#list tr")).to_have_count(len(members))
        head = opened.locator("#list-head").inner_text()
        assert opened.evaluate("n => report.byName[n].label", x) in head
    opened.check("#x-log")
    assert opened.evaluate("frontier.chart.layout.xaxis.type") == "log"
    first = opened.evaluate("frontier.members[0]")
    click_point(opened, first)
    assert index_of(opened, selected(opened)) == first


def test_the_slider_shows_the_frontier_as_it_was(opened: Page, scored: Outcome) -> None:
    from nas.run import ranking

    evaluations = scored.run.evaluations()
    for count in (3, 15, len(evaluations)):
        opened.evaluate(
            "n => { const s = byId('after'); s.value = n; s.dispatchEvent(new Event('input')); }",
            count,
        )
        members = opened.evaluate("frontier.members.map(i => report.ids[i])")
        expected = ranking.frontier(evaluations[:count], scored.run.objectives)
        assert members == [e.arch.id for e in expected]
        expect(opened.locator("#after-words")).to_contain_text(f"{count} of {len(evaluations)}")


def test_the_budget_is_a_line(opened: Page) -> None:
    shapes = opened.evaluate("frontier.chart.layout.shapes")
    assert [shape["x0"] for shape in shapes] == [600_000]
    opened.select_option("#y", "slowness")
    assert 2.0 in opened.evaluate("frontier.chart.layout.shapes.map(s => s.y0)")


def test_two_points_are_compared_layer_by_layer(opened: Page, scored: Outcome) -> None:
    front = scored.run.front()
    members = opened.evaluate("frontier.members")
    click_point(opened, members[0])
    opened.get_by_role("button", name="Pin for comparison").click()
    click_point(opened, members[-1])
    body = opened.locator("#comparison-body")
    expect(body).to_contain_text(front[0].arch.id)
    expect(body).to_contain_text(front[-1].arch.id)
    gap = front[-1].metrics["macs"] - front[0].metrics["macs"]
    total = body.locator("tr.total td").nth(1).inner_text()
    assert total == opened.evaluate("v => signed(report.byName.macs, v)", gap)
    choices = body.locator(".panel", has_text="Choices that differ").locator("tbody tr")
    names = {c.name for c in scored.task.space.choices}
    differing = {n for n in names if front[0].arch.get(n) != front[-1].arch.get(n)}
    assert choices.count() == len(differing)
    opened.get_by_role("button", name="Swap").click()
    expect(body.locator("tr.total td").nth(1)).to_have_text(
        opened.evaluate("v => signed(report.byName.macs, v)", -gap)
    )
    opened.get_by_role("button", name="Unpin").click()
    expect(body).to_contain_text("Pin an architecture")


def test_the_keyboard_alone_is_enough(opened: Page) -> None:
    opened.keyboard.press("Tab")
    assert opened.evaluate("document.activeElement.className") == "skip"
    opened.keyboard.press("Enter")
    opened.locator("#x").focus()
    seen = []
    for _ in range(12):
        opened.keyboard.press("Tab")
        seen.append(opened.evaluate("document.activeElement.id || document.activeElement.tagName"))
        if seen[-1] == "plot":
            break
    assert "plot" in seen
    opened.keyboard.press("Home")
    members = opened.evaluate("frontier.members.map(i => report.ids[i])")
    assert selected(opened) == members[0]
    assert len(members) > 2
    for arch in members[1:]:
        opened.keyboard.press("ArrowRight")
        assert selected(opened) == arch
        expect(opened.locator("#announcement")).to_contain_text(f"Selected {arch}")
    while opened.evaluate("document.activeElement.closest('#list') === null"):
        opened.keyboard.press("Tab")
    opened.keyboard.press("ArrowUp")
    assert selected(opened) == members[-2]
    assert members[-2][:8] in opened.evaluate("document.activeElement.textContent")
    opened.keyboard.press("Home")
    opened.keyboard.press("Enter")
    while opened.evaluate("document.activeElement.id") != "pin":
        opened.keyboard.press("Tab")
    opened.keyboard.press("Enter")
    assert opened.evaluate("document.activeElement.id") == "pin"
    expect(opened.locator("#pin")).to_have_attribute("aria-pressed", "true")
    expect(opened.locator("#announcement")).to_contain_text("Pinned")


def test_everything_that_can_be_used_has_a_name_and_charts_have_tables(opened: Page) -> None:
    nameless = opened.evaluate(
        "[...document.querySelectorAll('button, select, input, a[href]')].filter(e => "
        "!e.closest('.modebar') && !(e.textContent.trim() || e.ariaLabel || "
        "(e.labels && [...e.labels].some(l => l.textContent.trim())))).map(e => e.outerHTML)"
    )
    assert nameless == []
    for role in ("main", "banner", "navigation", "contentinfo"):
        assert opened.get_by_role(role).count() == 1  # type: ignore[arg-type]
    levels = opened.evaluate("[...document.querySelectorAll('h1,h2,h3')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert all(later - sooner <= 1 for sooner, later in pairwise(levels))
    figures = opened.locator("article.panel", has=opened.locator(".figure"))
    for at in range(figures.count()):
        key = figures.nth(at).get_attribute("id")
        assert figures.nth(at).locator("details table").count() == 1 or key == (
            "progress-hypervolume-time"
        )
    unlabelled = opened.locator("svg[role=img]:not([aria-label]), .figure:not([role])").count()
    assert unlabelled <= 1


def test_every_panel_is_drawn_when_it_is_seen(opened: Page) -> None:
    figures = opened.locator(".panels .figure")
    assert figures.count() >= 5
    for at in range(figures.count()):
        figures.nth(at).scroll_into_view_if_needed()
        expect(figures.nth(at).locator("svg.main-svg").first).to_be_attached()
    opened.locator("#parallel").scroll_into_view_if_needed()
    expect(opened.locator("#parallel svg.main-svg").first).to_be_attached()


@pytest.mark.slow
def test_a_relaxation_a_fidelity_and_a_checked_table_are_drawn(
    watched: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a run of the commands that produce them."""
    monkeypatch.chdir(tmp_path)
    quick = ("--supernet-epochs", "1", "--train-epochs", "0.5", "--finalists", "1", "--quiet")
    tiny = ("--space", "mobilenet-tiny")
    for command in (
        ("device", "measure", "--name", "here", *tiny, "--budget", "5s", "--out", "here.json"),
        ("device", "check", "here.json", *tiny, "--networks", "8"),
        ("search", *tiny, "--data", "digits", "--strategy", "darts",
         "--max-flops", "400k", "--device", "here.json", "--trials", "4", "--out", "run", *quick),
        ("fidelity", "run", "--architectures", "4", "--epochs", "0.5", "--quiet"),
        ("report", "run"),
    ):  # fmt: skip
        with pytest.raises(SystemExit) as end:
            main(list(command))
        assert not end.value.code, command
    page = watched.open(tmp_path / "run" / "report.html")
    fidelity = json.loads((tmp_path / "run" / "fidelity.json").read_text())
    # Networks whose times are too noisy are left out of the check: 3 or more of 8 remain.
    unseen = len(json.loads((tmp_path / "here.json").read_text())["checked"])
    steps = len((tmp_path / "run" / "relaxation.jsonl").read_text().splitlines())
    for panel, traces, points in (
        ("#progress-relaxation", 2, steps),
        ("#trust-fidelity", 1, len(fidelity["architectures"])),
        ("#trust-latency-0", 1, unseen),
    ):
        drawn = page.locator(f"{panel} .figure")
        drawn.scroll_into_view_if_needed()
        expect(drawn.locator("svg.main-svg").first).to_be_attached()
        data = page.evaluate("id => document.querySelector(id).data.map(d => d.x.length)",
                             f"{panel} .figure")  # fmt: skip
        assert data.count(points) >= traces, (panel, data)
    expect(page.locator("#trust-fidelity p")).to_contain_text("Kendall's τ")
    expect(page.locator("#trust-latency-0 p")).to_contain_text(f"of {unseen} unseen networks")


def test_text_of_the_run_is_text(opened: Page) -> None:
    failures = opened.locator("#progress-failures")
    expect(failures).to_contain_text("no </script><script>alert('<b>here</b>')</script> today")
    assert opened.locator("h1 b, #progress-failures b, .tip b").count() == 0


def test_published_networks_are_marked_with_their_sources(
    watched: Watched, contents: dict[str, Any], tmp_path: Path
) -> None:
    networks = [{"name": "Net<i>A</i>", "accuracy": 0.72, "macs": 300_000, "params": None,
                 "source": "A paper, table 1"}]  # fmt: skip
    path = tmp_path / "report.html"
    path.write_text(whole_page(contents | {"published": networks}, title="x"), encoding="utf-8")
    page = watched.open(path)
    expect(page.locator("#chart .textpoint")).to_have_count(1)
    expect(page.locator("#sources-table")).to_contain_text("A paper, table 1")
    page.uncheck("#published")
    expect(page.locator("#chart .textpoint")).to_have_count(0)
    page.check("#published")
    page.select_option("#x", "params")
    expect(page.locator("#chart .textpoint")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_ink_can_be_read_on_its_ground(browser: Browser, report: Path, scheme: Any) -> None:
    watched = Watched(browser, color_scheme=scheme)
    page = watched.open(report)
    contrasts = page.evaluate("""
        () => {
          const light = (name) => {
            const [r, g, b] = name.match(/../g).map((h) => parseInt(h, 16) / 255)
              .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
          };
          const ratio = (a, b) => {
            const both = [light(theme(a).slice(1)), light(theme(b).slice(1))];
            const [high, low] = [Math.max(...both), Math.min(...both)];
            return (high + 0.05) / (low + 0.05);
          };
          return ["--ink", "--soft", "--accent", "--bound", "--third", "--less", "--more"]
            .flatMap((ink) => ["--ground", "--surface"].map((ground) => ratio(ink, ground)));
        }
    """)
    assert min(contrasts) >= 4.5
    assert page.evaluate("frontier.chart.layout.font.color === theme('--ink')")
    other = "light" if scheme == "dark" else "dark"
    before = page.evaluate("theme('--ink')")
    page.emulate_media(color_scheme=other)
    until(page, f"theme('--ink') !== '{before}'")
    until(page, "frontier.chart.layout.font.color === theme('--ink')")
    watched.context.close()
    assert watched.problems == []


def test_a_narrow_screen_scrolls_one_way(browser: Browser, report: Path) -> None:
    watched = Watched(browser)
    watched.page.set_viewport_size({"width": 360, "height": 740})
    page = watched.open(report)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    members = page.evaluate("frontier.members")
    click_point(page, members[0])
    assert index_of(page, selected(page)) == members[0]
    watched.context.close()
    assert watched.problems == []


@pytest.fixture
def live(scored: Outcome, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A server of a run without evaluations."""
    folder = tmp_path / "live"
    folder.mkdir()
    content = json.loads((scored.run.folder / "specification.json").read_text(encoding="utf-8"))
    content |= {"devices": [], "high": {}}
    (folder / "specification.json").write_text(json.dumps(content), encoding="utf-8")
    Study(folder / "study.db", scored.task.space, scored.run.objectives)
    contents = CachedContents(folder, ReportSource.of(Run(folder)).contents, rest=0)
    server = open_server(contents, "live", 0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/", folder
    server.shutdown()
    server.server_close()
    thread.join()


def add(folder: Path, scored: Outcome, accuracies: list[float], seed: int) -> None:
    study = Study(folder / "study.db", scored.task.space, scored.run.objectives)
    tables = CostTables(scored.task.space)
    for arch, accuracy in zip(
        scored.task.space.decode(scored.task.space.sample(len(accuracies), seed)),
        accuracies,
        strict=True,
    ):
        study.add(Evaluation(arch, {"accuracy": accuracy, **tables.cost(arch)}, 1.0))


def test_a_live_run_is_followed_and_the_selection_stays(
    watched: Watched, live: tuple[str, Path], scored: Outcome
) -> None:
    address, folder = live
    page = watched.page
    page.goto(address)
    expect(page.locator("#live")).to_contain_text("Waiting for the first evaluation")
    add(folder, scored, [0.5, 0.6, 0.7], 1)
    until(page, "report.count === 3")
    expect(page.locator("#live")).to_contain_text("Following the run")
    page.wait_for_selector("#chart .point")
    page.evaluate("frontier.select(2)")
    chosen = selected(page)
    add(folder, scored, [0.8, 0.9], 2)
    until(page, "report.count === 5")
    assert selected(page) == chosen
    assert page.evaluate("frontier.after") == 5


def test_an_unchanged_run_is_not_sent_again(live: tuple[str, Path], scored: Outcome) -> None:
    address, folder = live
    with urllib.request.urlopen(address + "contents.json") as answer:
        version = answer.headers["ETag"]
        assert json.load(answer)["points"]["count"] == 0
    again = urllib.request.Request(address + "contents.json", headers={"If-None-Match": version})
    with pytest.raises(urllib.error.HTTPError) as unchanged:
        urllib.request.urlopen(again)
    assert unchanged.value.code == 304
    add(folder, scored, [0.5], 1)
    with urllib.request.urlopen(again) as answer:
        assert json.load(answer)["points"]["count"] == 1
    with pytest.raises(urllib.error.HTTPError) as missing:
        urllib.request.urlopen(address + "study.db")
    assert missing.value.code == 404


def test_a_port_in_use_is_one_line(
    live: tuple[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    address, folder = live
    port = int(address.rstrip("/").rpartition(":")[2])
    with pytest.raises(UserError, match=f"port {port} is in use"):
        open_server(CachedContents(folder, dict), "live", port)
    command = [sys.executable, "-m", "nas.cli", "report", str(folder), "--serve"]
    done = subprocess.run(
        [*command, "--port", str(port)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert f"port {port} is in use" in done.stderr


def test_ctrl_c_ends_the_server_cleanly(live: tuple[str, Path]) -> None:
    import signal

    _, folder = live
    command = [sys.executable, "-m", "nas.cli", "report", str(folder), "--serve", "--port", "0"]
    with subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
        # As in a terminal: what a shell starts behind itself ignores Ctrl-C, and so would this.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+/", line)
        assert address, line
        with urllib.request.urlopen(address[0]) as answer:
            assert "search report" in answer.read().decode()
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0
        assert process.stderr.read() == "stopped\n"


def test_requests_for_other_names_are_refused(tmp_path: Path) -> None:
    # A page on the web may have its own name lead to this machine.
    server = open_server(CachedContents(tmp_path, dict), "live", 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_address[1]

    def status(host: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/contents.json", headers={"Host": host})
        answer = connection.getresponse()
        assert answer.getheader("X-Content-Type-Options") == "nosniff"
        connection.close()
        return answer.status

    try:
        for own in (f"127.0.0.1:{port}", f"localhost:{port}", "LOCALHOST", f"[::1]:{port}"):
            assert status(own) == 200
        for other in (f"evil.example:{port}", "evil.example", "", "127.0.0.1.evil.example"):
            assert status(other) == 403
    finally:
        server.shutdown()
        server.server_close()


def test_a_connection_that_sends_nothing_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.report.server.STALLED_SECONDS", 0.2)
    server = open_server(CachedContents(tmp_path, dict), "live", 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with socket.create_connection(("127.0.0.1", server.server_address[1]), 10) as stalled:
            assert stalled.recv(1) == b""
    finally:
        server.shutdown()
        server.server_close()
