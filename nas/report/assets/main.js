// The page: selection, pinning, announcements for screen readers, and updates of a live run.
"use strict";

const SECONDS = 3; // between requests for the state of a live run

let report = null;
let version = null;

const frontier = new Frontier({ selected, changed });
const architecture = new ArchitectureView(byId("architecture-body"), {
  select: (index) => { frontier.select(index); byId("pin")?.focus(); },
  pin,
});
const comparison = new ComparisonView(byId("comparison-body"), {
  pin,
  swap: () => {
    const [first, ...others] = frontier.pins;
    frontier.pins = [frontier.selected, ...others];
    frontier.select(first);
  },
});
const panels = new Panels(brushed);
const trials = new Trials({ select: (index) => { frontier.select(index); byId("architecture").scrollIntoView(); } });

function announce(text) {
  byId("announcement").textContent = text;
}

function selected(index) {
  architecture.show(report, index, frontier);
  comparison.show(report, frontier.pins, index);
  const metrics = [frontier.y, frontier.x].map((m) => `${m.label} ${shown(m, report.columns[m.name][index])}`);
  const at = frontier.members.indexOf(index);
  const place = at >= 0 ? `${at + 1} of ${frontier.members.length} on the frontier` : "not on the frontier";
  announce(`Selected ${report.ids[index]}: ${metrics.join(", ")}; ${place}`);
  later(() => panels.parallel(frontier));
  writeLink(report, frontier);
}

// What follows the axes and the time: the place on the frontier, the lines, the table, the link.
function changed() {
  architecture.show(report, frontier.selected, frontier);
  later(() => {
    panels.parallel(frontier);
    trials.draw();
  });
  writeLink(report, frontier);
}

function pin(index) {
  const { pins } = frontier;
  const was = pins.includes(index);
  frontier.pins = was ? pins.filter((i) => i !== index) : [...pins, index].slice(-PINS);
  frontier.render();
  architecture.show(report, frontier.selected, frontier);
  comparison.show(report, frontier.pins, frontier.selected);
  announce(was ? `${report.ids[index]} is no longer pinned` : `Pinned ${report.ids[index]}: select another to compare`);
  writeLink(report, frontier);
  byId("pin")?.focus();
}

// Boxes over the parallel coordinates keep some of the architectures.
function brushed(kept) {
  frontier.kept = kept;
  frontier.cloud();
  trials.restart();
}

function header() {
  const run = report.run;
  document.title = `${run.name}: search report`;
  byId("title").textContent = run.name;
  const on = run.data ? `on ${run.data}` : `scored by ${run.evaluator}`;
  byId("lede").textContent =
    `Space ${run.space} ${on}, ${run.budget}. Strategy ${run.strategy}, seed ${run.seed}: ` +
    `${run.evaluations.toLocaleString("en")} evaluations, ` +
    `${(run.evaluations - run.done).toLocaleString("en")} failed` +
    (run.ended ? "." : `; the search has not ended (${run.trials.toLocaleString("en")} trials requested).`);
  byId("convention").textContent = `${run.convention} Folder: ${run.folder}`;
}

// Shows contents and keeps the selection.
function take(contents) {
  const before = report && { selected: report.ids[frontier.selected], pins: frontier.pins.map((i) => report.ids[i]) };
  const first = !report || report.count === 0;
  report = new Report(contents);
  report.objectives = contents.objectives;
  frontier.selected = before ? report.ids.indexOf(before.selected) : -1;
  frontier.pins = before ? before.pins.map((id) => report.ids.indexOf(id)).filter((i) => i >= 0) : [];
  header();
  byId("winner-title").textContent = contents.winner ? contents.winner.title : "Winner";
  winnerCard(byId("winner-body"), contents.winner, {
    show: (id) => { frontier.select(report.ids.indexOf(id)); byId("architecture").scrollIntoView(); },
  });
  runsTable(byId("runs"), contents.runs);
  panels.take(report);
  frontier.take(report);
  if (first && report.count) followLink();
  architecture.show(report, frontier.selected, frontier);
  comparison.show(report, frontier.pins, frontier.selected);
  trials.take(report, frontier);
  if (report.count) panels.parallel(frontier);
}

// Selects what the page's address names; by default the winner.
function followLink() {
  const linked = readLink(report, frontier);
  frontier.draw();
  frontier.selected = [linked, report.winner, report.knee, frontier.members[0], 0].find((i) => i >= 0);
  frontier.render();
  frontier.words();
  frontier.mark();
}

async function follow(address) {
  const line = byId("live");
  line.hidden = false;
  try {
    const answer = await fetch(address, { headers: version ? { "If-None-Match": version } : {} });
    if (answer.status === 200) {
      version = answer.headers.get("ETag");
      take(await answer.json());
    }
    if (answer.status === 200 || answer.status === 304) {
      const words = report.count ? "Following the run" : "Waiting for the first evaluation";
      line.textContent = report.run.ended ? "The search has ended." : `${words}; updated at ${new Date().toLocaleTimeString()}.`;
    } else {
      line.textContent = (await answer.text()).trim();
    }
  } catch {
    line.textContent = "The server does not respond; the page shows the last state received.";
  }
  setTimeout(() => follow(address), 1000 * SECONDS);
}

take(JSON.parse(byId("contents").textContent));
window.addEventListener("hashchange", () => {
  if (!report.count || readLink(report, frontier) < 0) return;
  followLink();
  selected(frontier.selected);
});
dark.addEventListener("change", () => take(report.contents));
const address = document.querySelector("meta[name=data-address]").content;
if (address) follow(address);
