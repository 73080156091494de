// The page: selection, pinning, announcements for screen readers, and updates of a live run.
"use strict";

const SECONDS = 3; // between requests for the state of a live run

let report = null;
let version = null;

const frontier = new Frontier((index) => selected(index));
const architecture = new ArchitectureView(byId("architecture-body"), {
  select: (index) => { frontier.select(index); byId("pin")?.focus(); },
  pin,
});
const comparison = new ComparisonView(byId("comparison-body"), {
  pin,
  swap: () => {
    const [a, b] = [frontier.pinned, frontier.selected];
    frontier.pinned = b;
    frontier.select(a);
  },
});
const panels = new Panels();

function announce(text) {
  byId("announcement").textContent = text;
}

function selected(index) {
  architecture.show(report, index, frontier);
  comparison.show(report, frontier.pinned, index);
  const metrics = [frontier.y, frontier.x].map((m) => `${m.label} ${shown(m, report.columns[m.name][index])}`);
  const at = frontier.members.indexOf(index);
  const place = at >= 0 ? `${at + 1} of ${frontier.members.length} on the frontier` : "not on the frontier";
  announce(`Selected ${report.ids[index]}: ${metrics.join(", ")}; ${place}`);
  later(() => panels.parallel(frontier));
}

function pin(index) {
  frontier.pinned = frontier.pinned === index ? -1 : index;
  frontier.render();
  architecture.show(report, frontier.selected, frontier);
  comparison.show(report, frontier.pinned, frontier.selected);
  announce(frontier.pinned < 0 ? "Nothing is pinned" : `Pinned ${report.ids[index]}: select another to compare`);
  byId("pin")?.focus();
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
  const before = report && { selected: report.ids[frontier.selected], pinned: report.ids[frontier.pinned] };
  const first = !report || report.count === 0;
  report = new Report(contents);
  report.objectives = contents.objectives;
  frontier.selected = before ? report.ids.indexOf(before.selected) : -1;
  frontier.pinned = before ? report.ids.indexOf(before.pinned) : -1;
  header();
  panels.take(report);
  frontier.take(report);
  if (first && report.count) {
    const start = [report.winner, report.knee, frontier.members[0], 0].find((i) => i >= 0);
    frontier.selected = start;
    frontier.render();
    frontier.mark();
  }
  architecture.show(report, frontier.selected, frontier);
  comparison.show(report, frontier.pinned, frontier.selected);
  if (report.count) panels.parallel(frontier);
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
for (const id of ["x", "y"]) byId(id).addEventListener("change", () => panels.parallel(frontier));
dark.addEventListener("change", () => take(report.contents));
const address = document.querySelector("meta[name=data-address]").content;
if (address) follow(address);
